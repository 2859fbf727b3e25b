"""What the terminal can show: colour and width on stdout, progress on stderr, both only on a real one."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from fairguard.errors import OutputError
from fairguard.progress import Progress

if TYPE_CHECKING:
    from fairguard.repair.task import Status

LOG_WIDTH = 160
"""Width of a report that no terminal bounds."""
EVERY, FIRST = 60.0, 10.0
"""Seconds between two lines of progress where there is no terminal, and before the first one."""
MEASURED = 3
"""Epochs from which on the time that is left is told."""


def screen(*, to_file: bool = False) -> dict[str, Any]:
    """Return ``colour`` and ``width`` of the report (NO_COLOR and FORCE_COLOR are heeded)."""
    terminal = sys.stdout.isatty() and not to_file
    colour = not os.environ.get("NO_COLOR") and (terminal or bool(os.environ.get("FORCE_COLOR")))
    return {"colour": colour, "width": shutil.get_terminal_size().columns if terminal else LOG_WIDTH}


def show(text: str, form: str = "text") -> None:
    """Write a report to stdout; those for machines in UTF-8, as they say of themselves, whatever a terminal takes.

    Raises:
        OutputError: the system takes no more bytes.
    """
    if form != "text" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write the report to stdout: {error.strerror}. Name a file with --output.") from None


def warn(sentences: Iterable[str]) -> None:
    """Say warnings on stderr, for those who see no report that has them.

    Every one of them says why the result may not mean what it seems to, so what is quiet leaves none out.
    """
    for sentence in sentences:
        click.echo(f"fairguard: warning: {sentence}", err=True)


@contextmanager
def told_how_to_resume() -> Iterator[None]:
    """Say how to go on with work that is kept, where the user stops it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("\nfairguard: stopped; the same command with --resume goes on from here", err=True)
        raise


@contextmanager
def progress_bar(title: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """Yield a function that takes the work done so far and the work in all; ``None`` where nobody would see it."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total)

        yield show


def epochs_shown(*, quiet: bool = False, every: float = EVERY) -> Callable[[Status], None] | None:
    """Return what shows each epoch on the terminal, with the time left; ``None`` where it is to be quiet.

    Args:
        quiet: show nothing.
        every: seconds between two lines where stderr is no terminal: a log, which shows that the work goes on.
    """
    if quiet:
        return None
    from time import monotonic

    from fairguard.report.wording import percent, points  # --help does without

    terminal = sys.stderr.isatty()
    last, wait = monotonic(), min(FIRST, every)
    ahead = Ahead()

    def tell(status: Status) -> None:
        nonlocal last, wait
        now = monotonic()
        left = ahead.left(status, now)
        if not terminal and now - last < wait:
            return
        last, wait = now, every
        worst = f"{status.worst} {points(status.excess)} points" if status.worst else "no groups"
        parts = (
            f"{status.stage} {status.epoch}/{status.epochs}",
            f"loss {status.loss:.3f}",
            f"accuracy {percent(status.accuracy)}",
            f"worst {worst}",
            f"multiplier {status.multiplier:.2f}",
            f"{duration(left)} left" if left else "",
            status.note,
        )
        line = "  ".join(part for part in parts if part)
        if terminal:
            ends = bool(status.note) or status.epoch == status.epochs
            click.echo(f"\r{line}\033[K", err=True, nl=ends)
        else:
            click.echo(f"fairguard: {line}", err=True)

    return tell


class Ahead:
    """Estimates how long a training goes on, by the epochs that it has told of.

    The first epoch of a stage counts for nothing: what came before it, such as the check, the division of the rows and
    dense's answers, is told of with it.
    """

    def __init__(self) -> None:
        """Start before the first epoch."""
        self._before: tuple[str, int, float] = ("", 0, 0.0)
        self._spent, self._epochs = 0.0, 0

    def left(self, status: Status, now: float) -> float | None:
        """Return the seconds that are left at the time ``now``; ``None`` while too little of it is known."""
        stage, epoch, then = self._before
        if status.stage == stage and status.epoch > epoch:
            self._spent, self._epochs = self._spent + now - then, self._epochs + status.epoch - epoch
        if not status.midway:
            self._before = (status.stage, status.epoch, now)
        if self._epochs < MEASURED:
            return None
        return self._spent / self._epochs * (status.epochs - status.epoch + status.later)


def duration(seconds: float) -> str:
    """Return a time as people say it: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
