"""How many rows would decide what a verdict leaves open, and which finding comes last. Sees only a Verdict."""

from __future__ import annotations

from dataclasses import dataclass

from fairguard.judge.power import rounded_up
from fairguard.verdict import Finding, Outcome, Verdict

REALISTIC = 100
"""Nobody collects so many times the rows at hand: a finding that needs more lies too near its margin to be decided."""


@dataclass(frozen=True)
class Needed:
    """What it would take to decide the findings that a verdict leaves open.

    Attributes:
        rows: rows, in all, that would decide every finding which rows can decide; 0 where there is none.
        slowest: the finding that needs them; ``None`` where there is none.
        near: findings so near their margin that no realistic number of rows decides.
        few: findings on too few rows to say what would decide.
    """

    rows: int = 0
    slowest: Finding | None = None
    near: tuple[Finding, ...] = ()
    few: tuple[Finding, ...] = ()


def undecided(verdict: Verdict) -> tuple[Finding, ...]:
    """Return the findings that rows of this number could decide and do not."""
    return tuple(f for f in verdict.findings if f.tested and f.outcome is Outcome.INCONCLUSIVE)


def needed_of(verdict: Verdict) -> Needed:
    """Return what would decide the findings that are open; rows of every group grow with the others."""
    left = undecided(verdict)
    times = {f: f.rows_needed / f.n for f in left if f.rows_needed and f.n}
    near = tuple(f for f in times if times[f] > REALISTIC)
    few = tuple(f for f in left if f not in times)
    slowest = max((f for f in times if f not in near), key=lambda f: times[f], default=None)
    if slowest is None:
        return Needed(near=near, few=few)
    return Needed(rounded_up(verdict.overall.n * max(times[slowest], 1.0)), slowest, near, few)
