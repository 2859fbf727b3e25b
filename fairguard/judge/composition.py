"""Where a group's excess comes from: which rows it has, or how its rows were treated.

Pruning hurts some kinds of row more than others. A group that has more of those loses more without being treated any
differently; it is still harmed, but the remedy differs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fairguard.dtypes import FloatArray
from fairguard.judge.contrasts import Grouping
from fairguard.judge.counts import CountTable, distinct


class Split(NamedTuple):
    """Two parts of each group's excess accuracy drop, shape (S,); they add up to it, and are ``nan`` where it is."""

    composition: FloatArray
    specific: FloatArray


def split_of(table: CountTable, grouping: Grouping) -> Split:
    """Return the split of ``drop of the group - drop of the rest`` by kind of row s = (label, was dense right).

    composition = sum_s (share of s in the group - share of s in the rest) (drop of s in all),
    specific    = sum_s (share of s in the group) (drop of s in the group - drop of s in all) n / n_rest.

    Source: Kitagawa, Journal of the American Statistical Association 50 (1955) 1168-1194, for the drop beyond that of
    all rows, which is the excess times ``n_rest / n``.
    """
    right = table.dense == table.y
    first, stratum = distinct(np.column_stack([table.y, right.astype(np.int64)]))
    change = table.counts * (right.astype(np.int64) - (table.pruned == table.y))
    n, lost = (grouping.sums_by(stratum, len(first), amounts) for amounts in (table.counts, change))
    n_all, lost_all = (np.bincount(stratum, amounts, len(first)) for amounts in (table.counts, change))
    size = n.sum(axis=1, keepdims=True)
    drop_all = np.divide(lost_all, n_all, out=np.zeros(len(first)), where=n_all > 0)  # a kind may weigh nothing at all
    with np.errstate(invalid="ignore", divide="ignore"):  # a group whose rows weigh nothing has neither
        composition = ((n / size - n_all / n_all.sum()) * drop_all).sum(axis=1)
        specific = (lost / size - n / size * drop_all).sum(axis=1)
        beyond = 1.0 / (1.0 - size[:, 0] / n_all.sum())
        return Split(*(np.where(np.isfinite(beyond), part * beyond, np.nan) for part in (composition, specific)))
