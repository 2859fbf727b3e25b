"""``fairguard fuzz``: hunt for two rows that differ only in a group and that only pruned treats differently."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from fairguard.cli.options import CONFIG, DATA, MODELS, options, settings_from
from fairguard.cli.screen import progress_bar, warn
from fairguard.exit_codes import PRESERVED, REGRESSED
from fairguard.files import check_writable, write_text
from fairguard.inputs.parts import refuse_read


@click.command("fuzz")
@click.argument("dense")
@click.argument("pruned")
@click.option("--swap", required=True, metavar="COL", help="Column whose value is swapped; it must reach the models.")
@click.option(
    "--max-examples", type=click.IntRange(2), default=2000, show_default=True, help="Pairs of rows to ask about."
)
@click.option(
    "--save", type=click.Path(path_type=Path), metavar="FILE", help="Write a pytest file that replays the pair."
)
@options(DATA, MODELS)
@click.option("--seed", type=int, help="Seed of the choice of rows and changes.")
@options(CONFIG)
def command(
    dense: str, pruned: str, swap: str, max_examples: int, save: Path | None, config: Path | None, **typed: Any
) -> int:
    """Hunt for two rows that differ only in a group, that DENSE treats alike and PRUNED does not.

    Real rows with the group swapped come first, then rows with a few columns changed; what is found is made as simple
    as possible. Exit codes: 0 none found (which proves nothing), 1 found, 2 not judged.
    """
    settings = settings_from(config, **typed)
    if save is not None:
        check_writable(save)
        refuse_read(save, settings.inputs | {"dense": dense, "pruned": pruned})
    from fairguard.fuzz import hunt, open_both, saved_test, schema_of  # torch loads here
    from fairguard.fuzz.text import render

    schema = schema_of(settings.data, settings)
    schema.swapped(swap)  # before any model is opened
    models = open_both(dense, pruned, schema, settings=settings)
    with progress_bar("pairs") as progress:
        found = hunt(models, swap, max_examples=max_examples, seed=settings.seed, progress=progress)
    warn(found.warnings)
    name = re.sub(r"\W+", "_", swap)
    hint = f"pytest {save}" if save else f"keep it as a test: add --save tests/test_fuzz_{name}.py"
    click.echo(render(found, data=schema.name, hint=hint), nl=False)
    if found.pair is None:
        return PRESERVED
    if save is not None:
        write_text(save, saved_test(save, found.pair, models, dense=dense, pruned=pruned, settings=settings))
        click.echo(f"wrote {save}", err=True)
    return REGRESSED
