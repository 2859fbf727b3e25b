"""What the terminal can show: colour and width on stdout, progress on stderr, both only on a real one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fairguard.repair.task import Status

LOG_WIDTH = 160
"""Width of a report that no terminal bounds."""


def screen(*, to_file: bool = False) -> dict[str, Any]:
    """Return ``colour`` and ``width`` of the report (NO_COLOR and FORCE_COLOR are heeded)."""
    terminal = sys.stdout.isatty() and not to_file
    colour = not os.environ.get("NO_COLOR") and (terminal or bool(os.environ.get("FORCE_COLOR")))
    return {"colour": colour, "width": shutil.get_terminal_size().columns if terminal else LOG_WIDTH}


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None] | None]:
    """Yield a function that takes the work done so far and the work in all; ``None`` where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield show


def epochs_shown(*, quiet: bool = False) -> Callable[[Status], None] | None:
    """Return what shows each epoch on the terminal, with the time left; ``None`` where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        return None
    from time import monotonic

    began: dict[str, tuple[int, float]] = {}

    def tell(status: Status) -> None:
        first, since = began.setdefault(status.stage, (status.epoch, monotonic()))
        done = status.epoch - first
        left = f"{(monotonic() - since) / done * (status.epochs - status.epoch):.0f} s left" if done else ""
        worst = f"{status.worst} {status.excess:+.1%}" if status.worst else "no groups"
        click.echo(
            f"\r{status.stage} {status.epoch}/{status.epochs}  loss {status.loss:.3f}  accuracy {status.accuracy:.1%}  "
            f"worst {worst}  multiplier {status.multiplier:.2f}  {left}  {status.note}\033[K",
            err=True,
            nl=bool(status.note) or status.epoch == status.epochs,
        )

    return tell
