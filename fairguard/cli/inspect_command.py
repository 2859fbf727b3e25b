"""``fairguard inspect``: say what a model file is, without running it."""

from __future__ import annotations

import click

from fairguard.exit_codes import NOT_JUDGED, PRESERVED


@click.command("inspect")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--model", metavar="MODULE:FACTORY", help="Network to hold a state dict against.")
@click.option("--trust", is_flag=True, help="Open files that run code when opened.")
@click.option("--limit", metavar="SIZE", help="Most memory that a model file may claim: 64GiB.")
def command(files: tuple[str, ...], model: str | None, trust: bool, limit: str | None) -> int:
    """Say what each FILE is, what opening it needs, and what its weights look like: sparsity, pattern, type."""
    from fairguard.errors import FairguardError
    from fairguard.inputs.inspect import inspect_file
    from fairguard.inputs.limits import DEFAULT, raised_to

    limits = DEFAULT if limit is None else raised_to(limit)
    code = PRESERVED
    for number, file in enumerate(files):
        if number:
            click.echo()
        try:
            click.echo("\n".join(inspect_file(file, factory=model, trust=trust, limits=limits).lines()))
        except FairguardError as error:  # the others may be fine
            click.echo(f"fairguard: error: {error}", err=True)
            code = NOT_JUDGED
    return code
