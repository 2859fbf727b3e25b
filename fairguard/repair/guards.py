"""What a repair must not cost: overall accuracy, or any group's accuracy under PRUNED and dense. Knows counts only."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from fairguard.judge.counts import CountTable
from fairguard.judge.intervals import beyond
from fairguard.judge.scatter import weights_of
from fairguard.repair.telling.record import Broken, Guard
from fairguard.report.wording import percent, points
from fairguard.verdict import GroupRow, Verdict

LEVEL = 0.05
"""Chance, over all groups, that a repair which costs no group anything is said to."""


def gave_up_classes(rows: Sequence[float], dense: Sequence[float], pruned: Sequence[float], *, floor: float) -> bool:
    """Return whether PRUNED is more accurate than dense because it answers common classes where rarer ones are right.

    A net that was taught to find a rare class (weighted labels, another threshold) is less accurate than one that
    names the common one more often: where pruning did that, no repair that undoes it is as accurate as PRUNED. It tells
    classes apart no better, so the mean of their recalls (balanced accuracy) did not rise; it does in a better net.

    Args:
        rows: shape (K,), rows of each class.
        dense: shape (K,), how many of them dense gets right.
        pruned: shape (K,), how many PRUNED gets right.
        floor: accuracy that is not worth telling of, a fraction.
    """
    gained = (sum(pruned) - sum(dense)) / max(sum(rows), 1)
    recalls = [(d / n, p / n) for n, d, p in zip(rows, dense, pruned, strict=True) if n]
    lost = sum(before - after for before, after in recalls) / max(len(recalls), 1)
    return gained > floor and lost >= 0


def right_by_class(table: CountTable) -> tuple[list[float], list[float], list[float]]:
    """Return the rows of each class and how many of them dense and PRUNED get right, shape (K,) each, as they weigh."""
    weight = table.counts * weights_of(table)
    rows, dense, pruned = (
        np.bincount(table.y, weight * hit, minlength=len(table.classes)).tolist()
        for hit in (1, table.dense == table.y, table.pruned == table.y)
    )
    return rows, dense, pruned


def broken_guards(
    against_pruned: Verdict,
    against_dense: Verdict,
    *,
    floor: float,
    bought: bool = False,
    before: Verdict | None = None,
) -> tuple[Broken, ...]:
    """Return the guards that the repaired model breaks, each with the figures that decide.

    A group levelled down is one that has lost against PRUNED *and* against dense. Against PRUNED alone says nothing
    where PRUNED favoured it: a collapsed net that always answers "deer" is right about every deer. Where PRUNED bought
    its accuracy it bought that of groups too, which are then held to dense's and the same floor.

    A sparse net is often less right than dense about everybody. A group that PRUNED favoured above dense, beyond noise,
    may share in that: it is held to dense less what everybody lost, or no repair could end its advantage. Only where
    the repaired model is more accurate than PRUNED, beyond noise: otherwise others merely gained what this group lost.

    Args:
        against_pruned: PRUNED (as the dense side) and the repaired model over the verify rows.
        against_dense: dense and the repaired model over the same rows.
        floor: overall accuracy that may be lost, a fraction.
        bought: whether PRUNED bought its accuracy (:func:`gave_up_classes`): dense's is then to be kept.
        before: dense and PRUNED over the same rows, which tells whom PRUNED favoured; ``None``: nobody.
    """
    role, against = ("dense", against_dense) if bought else ("pruned", against_pruned)
    found = []
    if against.overall.drop > floor:
        lost, allowed = _points(against.overall.drop), _points(floor)
        fell = f"overall accuracy fell by {lost} points against {role} ({_rates(against.overall)})"
        found.append(Broken(Guard.OVERALL, f"{fell}, more than the {allowed} allowed"))
    groups = [row for row in against.groups if row.n > 0]
    limit = NormalDist().inv_cdf(1 - LEVEL / max(len(groups), 1))
    favoured = _favoured(against_pruned, before, limit)
    everybody = max(0.0, against_dense.overall.drop)
    to_dense = {row.group: row for row in against_dense.groups}
    for row in groups:
        other = to_dense[row.group]
        share = everybody if row.group in favoured else 0.0
        below_dense = _beyond_noise(other, limit, allowed=share)
        if below_dense and _beyond_noise(row, limit) and (not bought or row.drop > floor):
            sentence = _levelled(row, role, None if bought else other, against_dense.overall.drop)
            found.append(Broken(Guard.GROUP, sentence))
    return tuple(found)


def _favoured(against_pruned: Verdict, before: Verdict | None, limit: float) -> set[str]:
    """Return the groups that PRUNED is right about more often than dense is, if the repair gained overall."""
    everybody = against_pruned.overall
    gained = beyond(everybody.beneficial_flips, everybody.harmful_flips, limit)
    if before is None or not gained:
        return set()
    return {row.group for row in before.groups if beyond(row.beneficial_flips, row.harmful_flips, limit)}


def _levelled(row: GroupRow, role: str, to_dense: GroupRow | None, everybody: float) -> str:
    """Return the sentence on a group that was levelled down, with the figures that decide."""
    sentence = f"{row.group} lost {_points(row.drop)} points of accuracy against {role} ({_rates(row)})"
    if to_dense is None:
        return sentence
    whose = f"everybody {'lost' if everybody >= 0 else 'gained'} {_points(abs(everybody))}"
    return f"{sentence} and {_points(to_dense.drop)} against dense ({percent(to_dense.accuracy.dense)}), where {whose}"


def _beyond_noise(row: GroupRow, limit: float, *, allowed: float = 0.0) -> bool:
    """Return whether the group lost more than the share ``allowed`` of its rows beyond noise."""
    return beyond(row.harmful_flips, row.beneficial_flips, limit, allowed=allowed * row.n)


def _rates(row: GroupRow) -> str:
    return f"{percent(row.accuracy.dense)} -> {percent(row.accuracy.pruned)}"


def _points(share: float) -> str:
    return points(share, signed=False, digits=1)
