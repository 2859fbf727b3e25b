"""Which flips of a harmed group are due to the excess, and which rows flip whatever the seed. Knows counts and labels.

One pair of models is evidence about a group, not about a person: most single flips do not recur with another seed. The
shares here rank the rows of a conflict; only several pruned models can confirm one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairguard.dtypes import FloatArray, IntArray
from fairguard.errors import DataError
from fairguard.judge.contrasts import column_codes
from fairguard.judge.counts import CountTable, distinct, merge_all

SEEDS = 5
"""Fewest pruned models that confirm anything."""
MODEL = "(model)"
"""Name of the hidden column that says whose answers a row was counted with: pruned's, then each seed's."""
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

    Wrong in more than half of the pruned models, each in its own way or not. With two classes these are the harmful
    among the pruning identified exemplars of Hooker et al. (2019), section 3, who ask for one most frequent answer.

    Args:
        y: shape (n,), label codes.
        dense: shape (models, n), class codes that one or more dense models predict.
        pruned: shape (models, n), those of at least five pruned models.
        classes: how many classes there are.

    Raises:
        DataError: fewer than five pruned models.
    """
    labels, answers = np.asarray(y), np.asarray(pruned)
    models = len(answers)
    if models < SEEDS:
        raise DataError(
            f"{models} pruned models given, but a flip is confirmed by at least {SEEDS}: give more --seeds."
        )
    return np.asarray((modal(dense, classes=classes) == labels) & (2 * (answers != labels).sum(axis=0) > models))


@dataclass(frozen=True, eq=False)
class Confirmed:
    """Harmful flips that most seeds make too.

    Attributes:
        flips: how many there are.
        counts: the rows that dense gets right by groups and label, once for each model (:data:`MODEL`), under the
            answer ``y`` where it is right and another where it is wrong.
    """

    flips: int
    counts: CountTable

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        levels: Sequence[Sequence[str]],
        classes: Sequence[str],
        *,
        codes: IntArray,
        y: IntArray,
        answers: Sequence[IntArray],
    ) -> tuple[Confirmed, NDArray[np.bool_]]:
        """Return what some rows say, and which of them are confirmed, shape (n,).

        Args:
            columns: names of the C sensitive features.
            levels: names of their values.
            classes: names of the K classes.
            codes: shape (n, C), level codes of the rows in the columns.
            y: shape (n,), label codes.
            answers: class codes of dense, of pruned and of each seed, shape (n,) each.

        Raises:
            DataError: fewer than five seeds.
        """
        dense, *models = answers
        found = identified_exemplars(y, dense[None], models[1:], classes=len(classes)) & (models[0] != y)
        at = np.flatnonzero(dense == y)
        number = np.repeat(np.arange(len(models)), len(at))
        labels = np.tile(y[at], len(models))
        wrong = np.concatenate([model[at] for model in models]) != labels
        counts = CountTable.of(
            (*columns, MODEL),
            (*levels, [f"{k:03d}" for k in range(len(models))]),
            classes,
            codes=np.column_stack([np.tile(codes[at], (len(models), 1)), number]),
            y=labels,
            dense=labels,
            pruned=np.where(wrong, (labels + 1) % len(classes), labels),
        )
        return cls(int(found.sum()), counts), found

    @classmethod
    def merged(cls, parts: Iterable[Confirmed | None]) -> Confirmed | None:
        """Return what all rows say; ``None`` where none do."""
        known = [part for part in parts if part is not None]
        return cls(sum(part.flips for part in known), merge_all([part.counts for part in known])) if known else None

    def by_chance(self, columns: Sequence[str]) -> float:
        """Return how many flips would be confirmed if nothing about a row but its group made models get it wrong.

        Each model gets as many rows of each group wrong as it does (of those that dense gets right; a group is the
        finest that ``columns`` form together), whichever rows. How many seeds hit one row is then a Poisson binomial,
        whose tail is linear in each seed's rate, so that rates counted in small groups leave the sum unbiased.
        """
        first, group = distinct(np.column_stack([column_codes(self.counts, name) for name in columns]))
        model = self.counts.codes(MODEL)
        shape = len(first), int(model.max(initial=0)) + 1
        rows, wrong = np.zeros(shape), np.zeros(shape)
        np.add.at(rows, (group, model), self.counts.counts)
        np.add.at(wrong, (group, model), self.counts.counts * (self.counts.pruned != self.counts.y))
        rates = (wrong / rows)[:, 1:]
        hits = np.zeros(shape)  # by group, the chance that so many seeds get a row wrong
        hits[:, 0] = 1.0
        for rate in rates.T[:, :, None]:
            hits[:, 1:] = hits[:, 1:] * (1.0 - rate) + hits[:, :-1] * rate
            hits[:, :1] *= 1.0 - rate
        return float((wrong[:, 0] * hits[:, rates.shape[1] // 2 + 1 :].sum(axis=1)).sum())
