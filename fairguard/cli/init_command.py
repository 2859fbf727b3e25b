"""``fairguard init``: write a commented configuration from a data file's columns."""

from __future__ import annotations

import tomllib
from pathlib import Path

import click

from fairguard.errors import OutputError
from fairguard.files import check_writable, refuse_inputs, write_text


@click.command("init")
@click.argument("data")
@click.option("--label", metavar="COL", help="Column of the true label, where the guess would be wrong.")
@click.option("--output", metavar="FILE", default="fairguard.toml", show_default=True, help="Configuration to write.")
@click.option("--force", is_flag=True, help="Replace a configuration that is there; it keeps what DATA cannot tell.")
def command(data: str, label: str | None, output: str, force: bool) -> None:
    """Write a commented fairguard.toml that guesses label and sensitive features from the columns of DATA."""
    check_writable(output)
    refuse_inputs(output, {"data": data})
    there = Path(output)
    if there.name == "pyproject.toml":
        raise OutputError(f"{output} holds more than this: name another file with --output.")
    if there.exists() and not force:
        raise OutputError(f"{output} is there already; replace it with --force or name another with --output.")
    from fairguard.inputs.starter import init_text, kept_of

    kept = kept_of(there.read_text(encoding="utf-8", errors="replace")) if there.is_file() else {}
    text = init_text(data, label=label, folder=there.parent, kept=kept or {})
    options = tomllib.loads(text)
    write_text(output, text)
    todo = [] if "model" in options else ["set `model`"]
    if "label" not in options:  # without, a check could only say that answers differ
        todo.insert(0, "name the true label with `label` (no column looks like one)")
    told = f" (kept {', '.join(kept)}; data, label, groups and id are new)" if kept else ""
    told = " (nothing of the file before could be kept: it was no TOML)" if kept is None else told
    steps = ", ".join(["read it", *todo])
    click.echo(f"wrote {output}{told}: {steps}, then run: fairguard check dense.pt pruned.pt")
