"""What a repair must not cost: overall accuracy, or any group's accuracy under PRUNED and dense. Knows counts only."""

from __future__ import annotations

import math
from statistics import NormalDist

from fairguard.report.wording import points
from fairguard.verdict import GroupRow, Verdict

LEVEL = 0.05
"""Chance, over all groups, that a repair which costs no group anything is said to."""


def broken_guards(against_pruned: Verdict, against_dense: Verdict, *, floor: float) -> tuple[str, ...]:
    """Return one sentence for each guard that the repaired model breaks.

    A group levelled down is one that has lost against PRUNED *and* against dense. Against PRUNED alone says nothing
    where PRUNED favoured it: a collapsed net that always answers "deer" is right about every deer.

    Args:
        against_pruned: PRUNED (as the dense side) and the repaired model over the verify rows.
        against_dense: dense and the repaired model over the same rows.
        floor: overall accuracy that may be lost, a fraction.
    """
    overall = against_pruned.overall
    found = []
    if overall.drop > floor:
        lost, allowed = _points(overall.drop), _points(floor)
        found.append(f"overall accuracy fell by {lost} points against pruned, more than the {allowed} allowed")
    groups = [row for row in against_pruned.groups if row.n > 0]
    limit = NormalDist().inv_cdf(1 - LEVEL / max(len(groups), 1))
    below_dense = {row.group for row in against_dense.groups if row.n > 0 and _beyond_noise(row, limit)}
    found += [
        f"{row.group} lost {_points(row.drop)} points of accuracy against pruned"
        for row in groups
        if row.group in below_dense and _beyond_noise(row, limit)
    ]
    return tuple(found)


def _beyond_noise(row: GroupRow, limit: float) -> bool:
    """Return whether the group lost more rows than it gained, by McNemar's test with continuity correction."""
    lost, gained = row.harmful_flips, row.beneficial_flips
    return lost > gained and (lost - gained - 1) / math.sqrt(lost + gained) > limit


def _points(share: float) -> str:
    return points(share, signed=False, digits=1)
