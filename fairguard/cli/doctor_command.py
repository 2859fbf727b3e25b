"""``fairguard doctor``: measure the check's own error rates on the user's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fairguard.cli.options import CONFIG, DATA, MODELS, POLICY, options, settings_from
from fairguard.cli.screen import progress_bar
from fairguard.exit_codes import NOT_JUDGED, PRESERVED


@click.command("doctor")
@click.argument("dense")
@click.argument("pruned")
@click.option("--excess", type=float, help="Harm to plant; default: twice the margin.")
@click.option("--repeats", type=int, default=200, show_default=True, help="Data sets to judge, twice.")
@options(DATA, MODELS, POLICY, CONFIG)
def command(dense: str, pruned: str, excess: float | None, repeats: int, config: Path | None, **typed: Any) -> int:
    """Deal the groups at random (how often is that a false alarm?) and plant harm in one (how often is it found?).

    All on your own rows and predictions, under your own policy. Leaves with 2 if the false alarms break their promise.
    """
    settings = settings_from(config, **typed)
    from fairguard.checking import count_files
    from fairguard.doctor import examine

    with progress_bar("rows") as progress:
        counted = count_files(dense, pruned, settings.data, settings=settings, progress=progress)
    with progress_bar("data sets") as progress:
        found = examine(counted.comparison.counts, settings.policy(), excess=excess, repeats=repeats, progress=progress)
    click.echo(found.sentence)
    for group in found.groups:
        click.echo(f"  {group.group}: {group.found} of {group.tries} planted harms found")
    return PRESERVED if found.sound else NOT_JUDGED
