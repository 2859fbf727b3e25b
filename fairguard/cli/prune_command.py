"""``fairguard prune``: from a dense model to a sparse one, and what that did to every group."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from fairguard.cli.options import (
    CONFIG,
    DATA,
    MODELS,
    POLICY,
    TAUGHT,
    TRAINING,
    options,
    settings_from,
    taken,
    typed_again,
)
from fairguard.cli.screen import epochs_shown, screen, told_how_to_resume, warn
from fairguard.repair.methods.names import METHODS, ONE_SHOT

PRUNE = (
    click.option(
        "--sparsity",
        required=True,
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the weights that become zero: 0.9 is nine of ten.",
    ),
    click.option("-o", "--output", metavar="OUT", help="File to write; default DENSE with .pruned in its name."),
    click.option("--method", metavar="NAME", help=f"One of {', '.join((ONE_SHOT, *METHODS))}; default ballot."),
    click.option(
        "--scope", type=click.Choice(["global", "layer"]), help="Whether layers compete for weights; default global."
    ),
    *TAUGHT,
    *TRAINING,
    click.option(
        "--reference",
        type=click.Choice(["dense", "equal"]),
        help="dense (default): no group loses more than the others; equal: groups (classes) end equally right.",
    ),
    click.option("--resume", is_flag=True, help="Continue a pruning that was interrupted."),
    click.option("--export", type=click.Choice(["onnx"]), help="Write that beside OUT."),
)


@click.command("prune")
@click.argument("dense")
@options(PRUNE, DATA, MODELS, POLICY, CONFIG)
@click.option("--format", type=click.Choice(["text", "json"]), default="text", help="How the report on stdout looks.")
@click.option("-v", "--verbose", is_flag=True, help="Show every finding and summary.")
@click.option("-q", "--quiet", is_flag=True, help="Show the last line; warnings go to stderr.")
def command(dense: str, format: str, verbose: bool, quiet: bool, config: Path | None, **typed: Any) -> int:
    """Make a sparse model of DENSE, and check it on rows that nothing saw.

    The method one-shot needs no rows and trains nothing (a state dict needs --model all the same); every other one
    learns from labelled rows. OUT is written whatever the verdict is. Exit codes: 0 preserved (or no rows to judge on),
    1 regressed, 2 not possible, 3 inconclusive.
    """
    given = taken(typed, PRUNE)
    settings = settings_from(config, **typed)
    from fairguard.repair.pruning import prune  # torch loads here

    with told_how_to_resume():
        report = prune(dense, given.pop("output", None), settings=settings, tell=epochs_shown(quiet=quiet), **given)
    following, apart = ("check", ("data",)) if report.verdict is None else ("repair", ("method", "sparsity", "resume"))
    again = typed_again(following, leave_out=("output", "format", "quiet", "verbose", "export", *apart))
    report = replace(report, options=again)
    if format == "json":
        click.echo(report.to_json())
    elif quiet:
        warn(() if report.verdict is None else report.verdict.warnings)
        click.echo(report.last_line())
    else:
        click.echo(report.to_text(verbose=verbose, **screen()), nl=False)
    return report.exit_code
