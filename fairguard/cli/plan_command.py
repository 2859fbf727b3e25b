"""``fairguard plan``: say how many rows a check needs, and what the rows at hand could show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fairguard.cli.options import CONFIG, DATA, MODELS, POLICY, options, settings_from
from fairguard.cli.screen import progress_bar, screen
from fairguard.config import Settings
from fairguard.errors import ConfigError
from fairguard.names import clean

if TYPE_CHECKING:
    from fairguard.plan import RowPlan

HARMED, HELPED = 0.05, 0.03
"""Assumed shares of rows whose answer changes, where there is no pilot: a network pruned by about two thirds."""


@click.command("plan")
@click.argument("models", nargs=-1, metavar="[DENSE PRUNED]")
@click.option("--effect", type=float, help="Excess to be shown; default: twice the margin.")
@click.option("--power", type=float, default=0.8, show_default=True, help="Chance to show it.")
@click.option("--harmed", type=float, help=f"Assumed share of rows harmed, without a pilot; default {HARMED}.")
@click.option("--helped", type=float, help=f"Assumed share of rows helped, without a pilot; default {HELPED}.")
@click.option("--size", "sizes", multiple=True, metavar="NAME=N", help="Rows of a group, without any data.")
@options(DATA, MODELS, POLICY, CONFIG)
def command(
    models: tuple[str, ...],
    effect: float | None,
    power: float,
    harmed: float | None,
    helped: float | None,
    sizes: tuple[str, ...],
    config: Path | None,
    **typed: Any,
) -> None:
    """Say how many rows every group needs, and the smallest excess that the rows at hand would show.

    With DENSE and PRUNED their flips are the pilot; without, a churn is assumed (--harmed, --helped), on the rows of
    --data or on groups of given sizes (--size).
    """
    settings = settings_from(config, **typed)
    assumed = (HARMED if harmed is None else harmed, HELPED if helped is None else helped)
    if sizes:
        from fairguard.plan import plan_from_sizes

        plan = plan_from_sizes(
            _sizes(sizes), settings.policy(), harmed=assumed[0], helped=assumed[1], effect=effect, power=power
        )
    elif models:
        plan = _from_pilot(models, settings, effect=effect, power=power)
    else:
        plan = plan_of_rows(settings, assumed=assumed, effect=effect, power=power)
    show(plan)


def plan_of_rows(
    settings: Settings,
    *,
    assumed: tuple[float, float] = (HARMED, HELPED),
    effect: float | None = None,
    power: float = 0.8,
) -> RowPlan:
    """Return the plan for the rows of the settings' data; no model is opened."""
    from fairguard.inference import count_rows
    from fairguard.opening import open_rows
    from fairguard.plan import plan_from_pilot

    table = count_rows(open_rows(settings), settings.batch_size)
    if settings.classes is None:
        table = table.of_two()
    return plan_from_pilot(table, settings.policy(), effect=effect, power=power, assumed=assumed)


def show(plan: RowPlan) -> None:
    """Print the plan: a row for each group and metric, and what to do."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("rows now", "shows from", f"to show {100 * plan.effect:g}", "to rule out the margin"):
        table.add_column(name, justify="right", no_wrap=True)
    for need in plan.needs:
        shown = "nothing" if need.detectable != need.detectable else f"{100 * need.detectable:.1f} points"
        rows = ("never" if n is None else f"{n:,}" for n in (need.to_prove, need.to_clear))
        table.add_row(need.group, need.metric.replace("_", " "), f"{need.rows:,}", shown, *rows)
    how = screen()
    Console(width=how["width"], no_color=not how["colour"], highlight=False).print(table)
    click.echo(f"\n{plan.sentence}")


def _from_pilot(models: tuple[str, ...], settings: Settings, *, effect: float | None, power: float) -> RowPlan:
    if len(models) != 2:
        raise ConfigError(f"{len(models)} model given; name DENSE and PRUNED, or none to assume a churn.")
    from fairguard.checking import count_files
    from fairguard.plan import plan_from_pilot

    with progress_bar("rows") as progress:
        counted = count_files(*models, settings.data, settings=settings, progress=progress)
    return plan_from_pilot(counted.comparison.counts, settings.policy(), effect=effect, power=power)


def _sizes(texts: tuple[str, ...]) -> dict[str, int]:
    sizes = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if not name or not re.fullmatch("[0-9]{1,15}", number):
            raise ConfigError(f"--size {text!r}: write a group and its rows, as in --size race=Black=400.")
        sizes[clean(name)] = int(number)
    return sizes
