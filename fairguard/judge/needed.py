"""How many rows would decide what a verdict leaves open, and which finding comes last. Sees only a Verdict."""

from __future__ import annotations

from dataclasses import dataclass

from fairguard.judge.power import rounded_up
from fairguard.verdict import Finding, Outcome, Verdict

REALISTIC = 100
"""Nobody collects so many times the rows at hand: a finding that needs more lies too near its margin to be decided."""

SLOW = 0.2
"""Share of the open findings, one at least, that is left out where the others need far fewer rows."""
FAR_FEWER = 0.5
"""Share of all rows below which the rows without the slowest findings are worth a word."""


@dataclass(frozen=True)
class Needed:
    """What it would take to decide the findings that a verdict leaves open.

    Attributes:
        rows: rows, in all, that would decide every finding which rows can decide; 0 where there is none.
        slowest: the finding that needs them; ``None`` where there is none.
        near: findings so near their margin that no realistic number of rows decides.
        few: findings on too few rows to say what would decide.
        sooner: far fewer rows, in all, that would decide all but ``late`` of these findings; 0 where there are none.
        late: the findings that come last, where there are such.
    """

    rows: int = 0
    slowest: Finding | None = None
    near: tuple[Finding, ...] = ()
    few: tuple[Finding, ...] = ()
    sooner: int = 0
    late: int = 0


def undecided(verdict: Verdict) -> tuple[Finding, ...]:
    """Return the findings that rows of this number could decide and do not."""
    return tuple(f for f in verdict.findings if f.tested and f.outcome is Outcome.INCONCLUSIVE)


def needed_of(verdict: Verdict) -> Needed:
    """Return what would decide the findings that are open; rows of every group grow with the others."""
    left = undecided(verdict)
    times = {f: f.rows_needed / f.n for f in left if f.rows_needed and f.n}
    near = tuple(f for f in times if times[f] > REALISTIC)
    few = tuple(f for f in left if f not in times)
    ordered = sorted((f for f in times if f not in near), key=lambda f: times[f])
    if not ordered:
        return Needed(near=near, few=few)
    rows = _rows(verdict, times[ordered[-1]])
    late = max(1, int(SLOW * len(ordered)))
    sooner = _rows(verdict, times[ordered[-1 - late]]) if late < len(ordered) else rows
    if sooner > FAR_FEWER * rows:
        return Needed(rows, ordered[-1], near, few)
    return Needed(rows, ordered[-1], near, few, sooner, late)


def without_the_late(needed: Needed) -> str:
    """Return in words the far fewer rows that decide all but the last findings; empty where there are none."""
    return f"; {needed.sooner:,} all but {needed.late}" if needed.sooner else ""


def _rows(verdict: Verdict, times: float) -> int:
    return rounded_up(verdict.overall.n * max(times, 1.0))
