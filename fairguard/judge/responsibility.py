"""Which flips of a harmed group are due to the excess, and which rows flip whatever the seed. Knows counts and labels.

One pair of models is evidence about a group, not about a person: most single flips do not recur with another seed. The
shares here rank the rows of a conflict; only several pruned models can confirm one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairguard.errors import DataError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SEEDS = 5
"""Fewest pruned models whose most frequent answer means anything."""
NO_MODE = -1
"""Stands where two classes are equally frequent."""


def attributable(harmed: ArrayLike, at_risk: ArrayLike, harmed_rest: ArrayLike, at_risk_rest: ArrayLike) -> FloatArray:
    """Return the share of a stratum's harmful flips that would not have happened at everybody else's rate, shape (S,).

    ``max(0, 1 - rate_rest / rate_group)`` with rates ``(flips + 1/2) / (rows + 1)``: the attributable fraction of
    epidemiology. Summed over the group's flips it estimates how many there are too many.

    Args:
        harmed: harmful flips of the group by stratum, shape (S,).
        at_risk: rows of the group that could have flipped so (for accuracy: those that dense gets right), shape (S,).
        harmed_rest: harmful flips of everybody else.
        at_risk_rest: rows of everybody else that could have flipped so.
    """
    own = (np.asarray(harmed, dtype=np.float64) + 0.5) / (np.asarray(at_risk) + 1.0)
    rest = (np.asarray(harmed_rest, dtype=np.float64) + 0.5) / (np.asarray(at_risk_rest) + 1.0)
    return np.asarray(np.maximum(0.0, 1.0 - rest / own))


def responsibility(
    strata: ArrayLike, *, member: ArrayLike, harmed: ArrayLike, at_risk: ArrayLike, counts: ArrayLike | None = None
) -> FloatArray:
    """Return the responsibility of each entry, shape (m,): its stratum's attributable share, 0 if not a member's flip.

    Entries are rows, or cells of a count table. Match on what makes a flip likely without any unfairness: the label and
    the bin of the dense model's margin.

    Args:
        strata: shape (m,), non-negative codes of the matched strata.
        member: shape (m,), whether the entry is in the group.
        harmed: shape (m,), whether it flipped to its harm.
        at_risk: shape (m,), whether it could have.
        counts: shape (m,), rows that the entry stands for; 1 if not given.
    """
    strata = np.asarray(strata, dtype=np.int64)
    member, at_risk = np.asarray(member, dtype=bool), np.asarray(at_risk, dtype=bool)
    harmed = np.asarray(harmed, dtype=bool) & at_risk
    rows = np.ones(len(strata)) if counts is None else np.asarray(counts, dtype=np.float64)
    sizes = [
        np.bincount(strata, weights=rows * chosen)
        for chosen in (harmed & member, at_risk & member, harmed & ~member, at_risk & ~member)
    ]
    return np.where(harmed & member, attributable(*sizes)[strata], 0.0)


def modal(predictions: ArrayLike, *, classes: int) -> IntArray:
    """Return each row's most frequent class over models, shape (n,); :data:`NO_MODE` where two are equally frequent.

    Args:
        predictions: shape (models, n), class codes.
        classes: how many classes there are.
    """
    votes = np.asarray(predictions, dtype=np.int64)
    n = votes.shape[1]
    flat = np.bincount((votes + classes * np.arange(n)).ravel(), minlength=n * classes).reshape(n, classes)
    tied = (flat == flat.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return np.where(tied, NO_MODE, flat.argmax(axis=1))


def identified_exemplars(y: ArrayLike, dense: ArrayLike, pruned: ArrayLike, *, classes: int) -> NDArray[np.bool_]:
    """Return which rows pruning harms whatever the seed, shape (n,): dense mostly right, pruned mostly wrong.

    These are the harmful among the pruning identified exemplars of Hooker et al. (2019), section 3.

    Args:
        y: shape (n,), label codes.
        dense: shape (models, n), class codes that one or more dense models predict.
        pruned: shape (models, n), those of at least five pruned models.
        classes: how many classes there are.

    Raises:
        DataError: fewer than five pruned models.
    """
    models = len(np.asarray(pruned))
    if models < SEEDS:
        raise DataError(
            f"{models} pruned models given, but a flip is confirmed by at least {SEEDS}: give more --seeds."
        )
    before, after = modal(dense, classes=classes), modal(pruned, classes=classes)
    labels = np.asarray(y)
    return np.asarray((before == labels) & (after != labels) & (after != NO_MODE))
