"""``fairguard check``: judge a pruned model against its dense one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fairguard.cli.options import CONFIG, DATA, MODELS, POLICY, ManyFiles, options, settings_from, typed_again
from fairguard.cli.screen import progress_bar, screen, show, warn
from fairguard.config import FORMATS, Settings
from fairguard.errors import many
from fairguard.exit_codes import OF_OUTCOME, PRESERVED
from fairguard.files import check_writable, free_name, refuse_same, typed, write_text
from fairguard.inputs.parts import refuse_read
from fairguard.names import shown
from fairguard.ranks import Ranks
from fairguard.verdict import Outcome, Verdict


@click.command("check", cls=ManyFiles)
@click.argument("dense")
@click.argument("pruned")
@options(DATA, MODELS, POLICY)
@click.option(
    "--seeds",
    multiple=True,
    metavar="FILE...",
    help="Five or more models pruned alike: a harmful flip that most make is confirmed.",
)
@click.option(
    "--discover",
    type=int,
    is_flag=False,
    flag_value=3,
    metavar="[DEPTH]",
    help="Search groups nobody named; not gated.",
)
@click.option("--discover-columns", multiple=True, metavar="COL", help="Columns to search beside the groups.")
@click.option("--dry-run", is_flag=True, help="Open no model: say what these rows could show.")
@click.option("--flips", metavar="FILE", help="Write every flipped sample to a Parquet or CSV file.")
@click.option("--format", type=click.Choice(FORMATS), help="How reports look; default: text, in files by their suffix.")
@click.option(
    "--output",
    multiple=True,
    metavar="FILE",
    help="Write a report there instead of stdout, once for each; .html, .json, .sarif and .xml (JUnit) say what.",
)
@click.option("--allow-inconclusive", is_flag=True, help="Leave with 0 where the rows cannot decide.")
@options(CONFIG)
@click.option("-v", "--verbose", is_flag=True, help="Show every finding and summary.")
@click.option("-q", "--quiet", is_flag=True, help="Show the last line; warnings go to stderr.")
def command(
    dense: str, pruned: str, dry_run: bool, verbose: bool, quiet: bool, config: Path | None, **typed: Any
) -> int:
    """Judge whether PRUNED treats every group as well as DENSE does, on the same labelled rows.

    DENSE and PRUNED are model files (.pt, .onnx, ...) or files of recorded predictions; what a file is gets decided by
    its content. Every option can stand in fairguard.toml (fairguard init writes one); what is typed wins.

    Exit codes: 0 preserved, 1 regressed, 2 not judged, 3 inconclusive, 130 interrupted.
    """
    settings = settings_from(config, **typed)
    if dry_run:
        from fairguard.cli.plan_command import plan_of_rows, show

        show(plan_of_rows(settings))
        return PRESERVED
    refuse_same([*(("--output", file) for file in settings.output), ("--flips", settings.flips)])
    for file in settings.output:
        check_writable(file)
        refuse_read(file, settings.inputs | {"dense": dense, "pruned": pruned})
    from fairguard.checking import check  # torch loads here
    from fairguard.history import with_runs

    ranks = Ranks.here()
    with progress_bar("rows", quiet=quiet or not ranks.first) as progress:
        verdict = check(dense, pruned, settings=settings, progress=progress, ranks=ranks)
    if not ranks.first:  # the first process shows what all of them have found
        return OF_OUTCOME[verdict.outcome]
    verdict = with_runs(verdict)
    _show(verdict, settings, _next_step(verdict, dense, pruned, settings), verbose=verbose, quiet=quiet)
    if verdict.outcome is Outcome.INCONCLUSIVE and settings.allow_inconclusive:
        click.echo("fairguard: inconclusive, and allowed by --allow-inconclusive: nothing was proven", err=True)
        return PRESERVED
    return OF_OUTCOME[verdict.outcome]


def _show(verdict: Verdict, settings: Settings, next_step: str, *, verbose: bool, quiet: bool) -> None:
    forms: dict[str | Path | None, str] = {file: settings.format_in(file) for file in settings.output}
    forms = forms or {None: settings.format or "text"}
    if quiet and "text" in forms.values():
        warn(verdict.warnings)
    for file, form in forms.items():
        text = _report(verdict, form, next_step, verbose=verbose, quiet=quiet, to_file=file is not None)
        if file is None:
            show(text, form)
        else:
            write_text(file, text)
    if settings.output:
        files = ", ".join(shown(file, width=400) for file in settings.output)
        written = f"{'report' if len(forms) == 1 else 'reports'}: {files}"
        click.echo(f"{verdict.outcome}: {verdict.headline}   {written}", err=True)


def _report(verdict: Verdict, form: str, next_step: str, *, verbose: bool, quiet: bool, to_file: bool) -> str:
    render = import_module(f"fairguard.report.{form}").render
    if form == "text":
        if quiet:
            return f"{verdict.outcome}: {verdict.headline}\n"
        return str(render(verdict, verbose=verbose, next_step=next_step, **screen(to_file=to_file)))
    return str(render(verdict, next_step=next_step) if form == "html" else render(verdict))  # the others: for machines


def _repair(dense: str, pruned: str) -> str:
    """Return the command that repairs PRUNED, with what was typed here."""
    again = typed_again("repair", leave_out=("output", "format", "quiet"))
    output = typed(free_name("fair", pruned))  # an input's own would be refused, and another file lost
    return f"fairguard repair {typed(dense)} {typed(pruned)} -o {output} {again}".rstrip()


def _inputs(verdict: Verdict) -> list[str]:
    """Return what to look at first where the pruned model knows nothing any more."""
    from fairguard.judge.everybody import OTHER_INPUTS

    broken = any(OTHER_INPUTS in warning for warning in verdict.warnings)
    return ["see whether both models want the same inputs (preprocessing)"] if broken else []


def _next_step(verdict: Verdict, dense: str, pruned: str, settings: Settings) -> str:
    """Return what one would do now: look, repair, find more rows, or keep it so."""
    if verdict.outcome is Outcome.REGRESSED:
        from fairguard.report.remedies import instead_of_repair
        from fairguard.report.wording import accepting

        steps = [] if settings.flips else ["see the samples: add --flips flips.csv"]
        other = instead_of_repair(*verdict.models[:2])
        first = (
            [*_inputs(verdict), other] if other else [_repair(dense, pruned), "with rows to train on: add --train ROWS"]
        )
        return "   |   ".join([*first, *steps, *filter(None, [accepting(verdict)])])
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return "   |   ".join([*_inputs(verdict), _to_decide(verdict)])
    if verdict.overall.drop > verdict.policy.margin:
        from fairguard.judge.everybody import fell

        return "   |   ".join([*_inputs(verdict), f"{fell(verdict.overall)}: compress it less, or train it again"])
    return "keep it so: @fairness_preserved(...) in a test (README, 'In CI')"


def _to_decide(verdict: Verdict) -> str:
    """Return what would decide the findings that are open."""
    from fairguard.judge.needed import needed_of, without_the_late
    from fairguard.report.wording import finding_name

    outweighed = sum(finding.dominated for finding in verdict.findings)
    if outweighed:
        found = many(outweighed, "finding")
        return f"trim the weights, or split the clusters, that outweigh {found}; then check again"
    needed, more = needed_of(verdict), "more rows"
    if (last := needed.slowest) is not None:
        those = "most open findings" if needed.near or needed.few else "the open findings"
        more += (
            f" (about {needed.rows:,} in all, here {verdict.overall.n:,}, would decide {those}, last of all "
            f"{finding_name(last)}, here {last.n:,} rows{without_the_late(needed)})"
        )
    return f"{more}, or a wider --margin (what is ruled out says which these rows carry)"
