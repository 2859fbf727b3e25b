"""``fairguard init``: write a commented configuration from a data file's columns."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from fairguard.errors import OutputError
from fairguard.files import refuse_inputs, write_text


@click.command("init")
@click.argument("data")
@click.option("--label", metavar="COL", help="Column of the true label, where the guess would be wrong.")
@click.option("--output", metavar="FILE", default="fairguard.toml", show_default=True, help="Configuration to write.")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
def command(data: str, label: str | None, output: str, force: bool) -> None:
    """Write a commented fairguard.toml that guesses label and sensitive features from the columns of DATA."""
    refuse_inputs(output, {"data": data})
    if Path(output).exists() and not force:
        raise OutputError(f"{output} is there already; replace it with --force or name another with --output.")
    from fairguard.inputs.starter import init_text

    text = init_text(data, label=label, folder=Path(output).parent)
    write_text(output, text)
    todo = "set `model`"
    if "label" not in tomllib.loads(text):  # without, a check could only say that answers differ
        todo = "name the true label with `label` (no column looks like one), set `model`"
    click.echo(f"wrote {output}: read it, {todo}, then run: fairguard check dense.pt pruned.pt")
