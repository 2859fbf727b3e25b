"""Who listens to a training: hands every status on, and keeps what the user should know afterwards too."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fairguard.repair.task import Status, Trouble


class Listener:
    """Called after every epoch.

    Attributes:
        notes: sentences on a budget too small, on running out of memory and on divergence, each once.
    """

    def __init__(self, tell: Callable[[Status], None] | None) -> None:
        """Hand on to ``tell``, where there is somebody to tell."""
        self._tell = tell
        self._notes: dict[str, None] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what happened, in its order."""
        return tuple(self._notes)

    def note(self, sentences: Iterable[str]) -> None:
        """Keep what the user should know of the training before it starts."""
        self._notes |= dict.fromkeys(sentences)

    def __call__(self, status: Status) -> None:
        """Keep the status's note if it tells of trouble, and hand the status on."""
        if status.trouble is Trouble.MEMORY:
            self._notes[status.note] = None
        elif status.trouble is Trouble.DIVERGED:
            self._notes[f"{status.stage}, epoch {status.epoch}: {status.note}"] = None
        if self._tell is not None:
            self._tell(status)
