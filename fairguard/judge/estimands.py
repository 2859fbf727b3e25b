"""Which paired metrics are gated, and what each row of the count table means to each of them.

A metric is a denominator and, in it, rows harmed and rows helped; everything else in the judge is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairguard.errors import ConfigError, did_you_mean
from fairguard.judge.counts import CountTable
from fairguard.policy import Metric, Policy

HARMED, UNCHANGED, HELPED, OUTSIDE = 1, 0, -1, 2
"""What a row is to an estimand; ``OUTSIDE``: not in its denominator."""

RULES = {
    Metric.ACCURACY: "FG101",
    Metric.HARMFUL_FLIPS: "FG102",
    Metric.RECALL: "FG103",
    Metric.FPR: "FG104",
    Metric.SELECTION_RATE: "FG105",
    Metric.DISAGREEMENT: "FG106",
}
"""Stable identifiers of the metrics' rules."""

UNLABELLED = (Metric.SELECTION_RATE, Metric.DISAGREEMENT)
"""Metrics that need no labels."""


@dataclass(frozen=True)
class Estimand:
    """One metric, for recall and the rates of one class about that class."""

    metric: Metric
    label: int | None = None
    """Code of the class that it is about."""
    classes_only: bool = False
    """Whether it compares classes and no other groups."""

    def effects(self, table: CountTable) -> NDArray[np.int8]:
        """Return what the rows of each cell are to this estimand, shape (M,)."""
        y, dense, pruned, k = table.y, table.dense, table.pruned, self.label
        every = np.ones(len(y), dtype=bool)
        match self.metric:
            case Metric.ACCURACY:
                inside, harmed, helped = every, (dense == y) & (pruned != y), (dense != y) & (pruned == y)
            case Metric.HARMFUL_FLIPS:
                inside, harmed, helped = every, (dense == y) & (pruned != y), ~every
            case Metric.RECALL:
                inside, harmed, helped = y == k, (dense == k) & (pruned != k), (dense != k) & (pruned == k)
            case Metric.FPR:
                inside, harmed, helped = y != k, (dense != k) & (pruned == k), (dense == k) & (pruned != k)
            case Metric.SELECTION_RATE:
                inside, harmed, helped = every, (dense == k) & (pruned != k), (dense != k) & (pruned == k)
            case Metric.DISAGREEMENT:
                inside, harmed, helped = every, dense != pruned, ~every
        return np.where(inside, harmed.astype(np.int8) - helped, OUTSIDE).astype(np.int8)

    def happens(self, table: CountTable, answers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return, for each cell, whether the metric's event happens under one model's ``answers``, shape (M,)."""
        match self.metric:
            case Metric.ACCURACY:
                event = answers == table.y
            case Metric.HARMFUL_FLIPS:
                event = (table.dense == table.y) & (answers != table.y)
            case Metric.DISAGREEMENT:
                event = answers != table.dense
            case _:
                event = answers == self.label
        return np.asarray(event)


def estimands_of(table: CountTable, policy: Policy) -> tuple[Estimand, ...]:
    """Return the gated estimands: the policy's metrics or the default ones, by class where they are about a class.

    Raises:
        ConfigError: a metric needs labels or a favourable class that the data does not have.
    """
    return tuple(e for metric in policy.metrics or _default(table, policy) for e in _by_class(metric, table, policy))


def favourable(table: CountTable, policy: Policy) -> int | None:
    """Return the code of the favourable class: the policy's, else ``1`` or the second of two, else ``None``."""
    if policy.favourable is not None:
        if policy.favourable not in table.classes:
            hint = did_you_mean(policy.favourable, table.classes) or f" Classes: {', '.join(table.classes)}."
            raise ConfigError(f"no class {policy.favourable!r} to be favourable.{hint}")
        return table.classes.index(policy.favourable)
    if len(table.classes) != 2:
        return None
    return table.classes.index("1") if "1" in table.classes else 1


def _default(table: CountTable, policy: Policy) -> tuple[Metric, ...]:
    if not table.labelled:
        return (Metric.DISAGREEMENT,) if policy.favourable is None else (Metric.SELECTION_RATE,)
    return (Metric.ACCURACY, Metric.RECALL, Metric.FPR) if len(table.classes) == 2 else (Metric.ACCURACY,)


def _by_class(metric: Metric, table: CountTable, policy: Policy) -> list[Estimand]:
    if metric not in UNLABELLED and not table.labelled:
        raise ConfigError(f"metric {metric} needs labels, and the data has none. Without: {', '.join(UNLABELLED)}.")
    label = favourable(table, policy)
    if metric is Metric.SELECTION_RATE:
        if label is None:
            raise ConfigError(f"metric {metric} needs a favourable class; classes: {', '.join(table.classes)}.")
        return [Estimand(metric, label)]
    if metric not in (Metric.RECALL, Metric.FPR):
        return [Estimand(metric)]
    return [Estimand(metric, k) for k in ((label,) if len(table.classes) == 2 else range(len(table.classes)))]
