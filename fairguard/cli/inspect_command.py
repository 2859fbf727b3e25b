"""``fairguard inspect``: say what a model file is, without running it."""

from __future__ import annotations

import click


@click.command("inspect")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", metavar="MODULE:FACTORY", help="Network to hold a state dict against.")
@click.option("--trust", is_flag=True, help="Open files that run code when opened.")
def command(files: tuple[str, ...], model: str | None, trust: bool) -> None:
    """Say what each FILE is, what opening it needs, and what its weights look like: sparsity, pattern, type."""
    from fairguard.inputs.inspect import inspect_file

    for number, file in enumerate(files):
        if number:
            click.echo()
        click.echo("\n".join(inspect_file(file, factory=model, trust=trust).lines()))
