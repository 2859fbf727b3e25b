"""A verdict together with the place that asked for it, which reports for machines point at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from fairguard.verdict import Verdict


@dataclass(frozen=True)
class Declared:
    """One check: its verdict, its name, and the file and line that declare it (never those of a model file)."""

    verdict: Verdict
    name: str = "fairguard check"
    file: str = "fairguard.toml"
    """Relative to the repository's root, with forward slashes."""
    line: int = 1
    second: str = "pruned"
    """What the second model is called: ``pruned``, or what a repair made of it."""


@dataclass(frozen=True)
class Unjudged:
    """One check that could not be made: its name, why in one line, and the file and line that declare it."""

    error: str
    name: str
    file: str
    """Relative to the repository's root, with forward slashes."""
    line: int


def model_name(verdict: Verdict) -> str:
    """Return the file name of the pruned model, or ``model`` for one held in memory."""
    path = verdict.models[1].path if len(verdict.models) == 2 else None
    return PurePath(path).name if path else "model"
