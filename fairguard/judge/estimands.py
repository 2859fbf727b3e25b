"""Which paired metrics are gated, and what each row of the count table means to each of them.

What a metric is, ``fairguard.metrics`` says; everything in the judge is the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray
from fairguard.errors import ConfigError, did_you_mean
from fairguard.judge.counts import CountTable
from fairguard.metrics import METRICS, About, Metric, default_metrics
from fairguard.names import name_meant
from fairguard.policy import Policy

HARMED, HELPED, OUTSIDE = 1, -1, 2
"""What a row is to an estimand, 0 if nothing changed for it; ``OUTSIDE``: not in its denominator."""


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
        what = METRICS[self.metric]
        harmed, helped = what.changes(table.y, table.dense, table.pruned, self.label)
        inside = what.inside(table.y, self.label)
        return np.where(inside, harmed.astype(np.int8) - helped, OUTSIDE).astype(np.int8)

    def happens(self, table: CountTable, answers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return, for each cell, whether the metric's event happens under one model's ``answers``, shape (M,)."""
        return np.asarray(METRICS[self.metric].event(answers, table.y, table.dense, self.label))


def effect_variance(b: FloatArray, c: FloatArray) -> FloatArray:
    """Return the variance of what happens to a row, where the shares ``b`` of all rows are harmed and ``c`` helped."""
    return b + c - (b - c) ** 2


def estimands_of(table: CountTable, policy: Policy) -> tuple[Estimand, ...]:
    """Return the gated estimands: the policy's metrics or the default ones, by class where they are about a class.

    Raises:
        ConfigError: a metric needs labels or a favourable class that the data does not have.
    """
    metrics = policy.metrics or default_metrics(
        len(table.classes), labelled=table.labelled, favourable=policy.favourable is not None
    )
    return tuple(estimand for metric in metrics for estimand in _by_class(metric, table, policy))


def favourable(classes: Sequence[str], policy: Policy) -> int | None:
    """Return the code of the favourable class: the policy's, else ``1`` beside 0 or -1, else the second of two."""
    if policy.favourable is not None:
        label = name_meant(policy.favourable, classes)
        if label not in classes:
            hint = did_you_mean(policy.favourable, classes) or f" Classes: {', '.join(classes)}."
            raise ConfigError(f"no class {policy.favourable!r} to be favourable.{hint}")
        return classes.index(label)
    if len(classes) != 2:
        return None
    return classes.index("1") if {*classes} in ({"0", "1"}, {"-1", "1"}) else 1


def _by_class(metric: Metric, table: CountTable, policy: Policy) -> list[Estimand]:
    what = METRICS[metric]
    if what.labelled and not table.labelled:
        without = ", ".join(name for name, other in METRICS.items() if not other.labelled)
        raise ConfigError(f"metric {metric} needs labels, and the data has none. Without: {without}.")
    label = favourable(table.classes, policy)
    if what.about is About.ROWS:
        return [Estimand(metric)]
    if what.about is About.EACH_CLASS:
        return [Estimand(metric, k) for k in ((label,) if len(table.classes) == 2 else range(len(table.classes)))]
    if label is None:
        raise ConfigError(f"metric {metric} needs a favourable class; classes: {', '.join(table.classes)}.")
    return [Estimand(metric, label)]
