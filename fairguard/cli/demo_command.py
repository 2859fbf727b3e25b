"""``fairguard demo``: make models that show what a check says, check them, and repair one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click


@click.command("demo")
@click.argument("folder", default="fairguard-demo", type=click.Path(path_type=Path))
@click.option(
    "--synthetic", is_flag=True, help="30,000 generated applicants with protected groups, all three outcomes."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of rows and training.")
def command(folder: Path, synthetic: bool, seed: int) -> None:
    """Train, prune, check and repair small models in FOLDER, and leave everything there to play with."""
    from fairguard.demo import digits
    from fairguard.demo import synthetic as applicants
    from fairguard.demo.making import make_folder

    make_folder(folder)
    if synthetic:
        click.echo("30,000 SYNTHETIC applicants: generated, no real people. Training a network and pruning it ...")
        dense, pruned = applicants.make(folder, seed=seed)
    else:
        click.echo("scikit-learn's handwritten digits (real, small). Training a network and pruning it ...")
        click.echo(
            "Some 90 test rows a digit can certify a margin of 10 points, not the usual 2: fairguard.toml says 10."
        )
        dense, only = digits.make(folder, seed=seed)
        pruned = [only]
    with _inside(folder):
        for name in pruned:
            _run("check", dense, name)
        if not synthetic:
            _run("repair", dense, pruned[0], "-o", "fair.pt", "--train", "train.parquet")
            _run("check", dense, "fair.pt")
    click.echo(f"\neverything is in {folder}/ to play with:\n  cd {folder}\n  fairguard check {dense} {pruned[-1]} -v")


def _run(*arguments: str) -> None:
    """Show a command as one would type it, and run it."""
    from fairguard.cli import run

    click.echo(f"\n$ fairguard {' '.join(arguments)}")
    code = run(list(arguments))
    click.echo(f"(exit code {code})")


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
