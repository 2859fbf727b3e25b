"""``fairguard repair``: from a regressed model to a verified fair sparse one."""

from __future__ import annotations

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
from fairguard.cli.screen import epochs_shown, told_how_to_resume
from fairguard.files import typed as shell
from fairguard.repair.methods.names import METHODS

LEFT_OUT = ("data", "output", "format", "quiet")
"""Options that mean something else to the check that comes next."""


REPAIR = (
    click.option("-o", "--output", metavar="FAIR", help="File to write; default PRUNED with .fair in its name."),
    *TAUGHT,
    click.option("--tune", metavar="FILE|MODULE:CALLABLE", help="Rows to choose by, best some that DENSE never saw."),
    click.option("--method", metavar="NAME", help=f"How to select and train: {', '.join(METHODS)}; default ballot."),
    *TRAINING,
    click.option(
        "--sparsity",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Another share of zeros than PRUNED's: 0.9.",
    ),
    click.option("--keep-mask", is_flag=True, help="Retrain only, under PRUNED's own mask."),
    click.option(
        "--accuracy-floor",
        type=click.FloatRange(0, 1),
        help="Overall accuracy that may be lost against PRUNED (DENSE, if PRUNED gave up a class); default 0.005.",
    ),
    click.option("--compile", is_flag=True, help="Run the network through torch.compile."),
    click.option(
        "--frontier",
        is_flag=True,
        help="Try five trade-offs (a repair each), show table and plot, write each as FAIR.A, ...",
    ),
    click.option(
        "--resume", is_flag=True, help="Continue a repair that was interrupted, or failed, with the same options."
    ),
    click.option(
        "--keep-best",
        is_flag=True,
        help="Write the best candidate even if it is not repaired.",
    ),
    click.option("--export", type=click.Choice(["onnx"]), help="Write FAIR as ONNX too."),
)


@click.command("repair")
@click.argument("dense")
@click.argument("pruned")
@options(REPAIR, DATA, MODELS, POLICY, CONFIG)
@click.option("--format", type=click.Choice(["text", "json", "html"]), default="text", help="Report on stdout.")
@click.option("-q", "--quiet", is_flag=True, help="Show nothing but the last line.")
def command(dense: str, pruned: str, format: str, quiet: bool, config: Path | None, **typed: Any) -> int:
    """Repair PRUNED: choose again which weights live, retrain them, and prove the result on rows that nothing saw.

    DENSE and PRUNED need their weights: state dicts, checkpoints and safetensors (with --model), or modules,
    TorchScript and .pt2 files (with --trust). FAIR is of PRUNED's kind; FAIR.report.json and .html hold all that was
    tried.

    Exit codes: 0 preserved (or nothing to do), 1 not repaired, 2 not possible, 3 improved but unproven.
    """
    given = taken(typed, REPAIR)
    settings = settings_from(config, **typed)
    from fairguard.repair.repairing import repair  # torch loads here

    own_again = typed_again("repair", leave_out=("resume", "keep_best"))
    with told_how_to_resume():
        report = repair(
            dense,
            pruned,
            given.pop("output", None),
            settings=settings,
            tell=epochs_shown(quiet=quiet),
            typed=typed_again("check", leave_out=LEFT_OUT),
            again=f"fairguard repair {shell(dense)} {shell(pruned)} {own_again}".rstrip(),
            **given,
        )
    text = {"text": report.to_text, "json": report.to_json, "html": report.to_html}[format]().rstrip("\n")
    click.echo(text.splitlines()[-1] if quiet and format == "text" else text)
    return report.exit_code
