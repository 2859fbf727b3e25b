"""How many flips a group would have if its rows flipped like everybody's of the same margin. Knows counts only.

A row near the dense model's decision boundary flips under any perturbation, fair or not. A group with many such rows
flips more than others without being treated differently. Where no margin is known (recorded labels, say) all rows lie
in one bin, and what is expected is everybody's rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fairguard.judge.contrasts import grouping_of
from fairguard.judge.counts import CountTable
from fairguard.policy import Policy


def expected_flips(table: CountTable, margin: str, policy: Policy, *, groups: Sequence[str]) -> dict[str, float]:
    """Return, by group, the flips that its rows would have at the pooled flip rate of their margin bin.

    Direct standardisation on the dense model's margin. For a perturbation that is small beside the bins it tends to
    n_g f_g(0) E|change of margin|, with f_g(0) the group's density of margins at the boundary; unlike that formula it
    also holds for large ones, such as pruning.

    Args:
        table: counts with a column of bins of the dense margin.
        margin: the name of that column.
        policy: depth of intersections and smallest group, as judged.
        groups: sensitive features judged.
    """
    bins = table.codes(margin)
    flipped = table.dense != table.pruned
    rows = np.bincount(bins, table.counts)
    rate = np.bincount(bins, table.counts * flipped, len(rows)) / np.maximum(rows, 1)
    grouping = grouping_of(table, groups, depth=policy.intersections, min_group=policy.min_group)
    sums = grouping.sums(table.counts * rate[bins])
    return {group.name: float(flips) for group, flips in zip(grouping.groups, sums, strict=True)}


def by_margin(table: CountTable, margin: str) -> bool:
    """Return whether rows differ in their bin of the margin, so that :func:`expected_flips` can tell them apart."""
    return len(np.unique(table.codes(margin))) > 1
