"""Every error that a user can meet. Knows nothing of models, data or commands.

An error's text is one line that says what was given, what is possible and what to do. The command prints it after
``fairguard: error:`` and exits with 2; the Python API raises it; the pytest plugin reports it as E.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FairguardError(Exception):
    """Could not be judged: usage, file, data or model. Its text is one line for the user."""

    def __init__(self, message: str) -> None:
        """Keep ``message`` as one line that no terminal acts on, whatever a file or a foreign exception put into it."""
        line = " ".join(str(message).split())
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line))


class ConfigError(FairguardError):
    """An option or a configuration file is wrong."""


class DataError(FairguardError):
    """The labelled rows cannot be read, or cannot be judged on."""


class ModelError(FairguardError):
    """A model file cannot be opened or run."""


class FeaturesError(ModelError):
    """A model does not take the features that it is fed: other ones, or of another shape.

    Attributes:
        columns: whether other columns of a table may be what it takes.
    """

    def __init__(self, message: str, *, columns: bool = True) -> None:
        """Take the line, and whether choosing columns may help."""
        super().__init__(message)
        self.columns = columns


class OutputError(FairguardError):
    """A result cannot be written; whatever stood there before still stands."""


class FairguardWarning(UserWarning):
    """Something that the reader of a verdict should know."""


class FairnessInconclusive(FairguardWarning):
    """The rows at hand can neither prove nor rule out a regression."""


def many(count: int, noun: str) -> str:
    """Return a count with its noun: ``1 finding``, ``1,200 findings``."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of ``options``, or an empty string when none is close."""
    close = difflib.get_close_matches(word, [str(option) for option in options], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
