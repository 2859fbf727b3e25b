"""Max-min style summaries of both models, by sensitive feature: reported, never gated.

Their bootstrap intervals are wrong by up to 70 points of coverage, because the largest of noisy equals is biased
upward. What can be certified is what the groups' own losses imply: a range cannot have grown by more than the losses
differ. Point values equal fairlearn's to the last bit, except that a group without positives (or negatives) has no such
rate here and is left out of the range, where fairlearn takes the rate to be 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fairguard.dtypes import FloatArray
from fairguard.judge.contrasts import Family, Grouping, contrasts, is_label
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import Estimand
from fairguard.judge.evidence import Counts
from fairguard.judge.intervals import excess_upper, loss_upper
from fairguard.judge.rates import GroupRates, pair
from fairguard.metrics import METRICS, About, Metric
from fairguard.verdict import NAN, Pair, Summary


def summaries_of(
    table: CountTable, grouping: Grouping, rates: GroupRates, *, label: int | None, alpha: float
) -> tuple[Summary, ...]:
    """Return the summaries of every sensitive feature judged.

    Args:
        table: the counts.
        grouping: the groups; only single values of a column count.
        rates: the groups' rates.
        label: code of the favourable class, or ``None``.
        alpha: chance that a bound is too low.
    """
    limits = _Limits(table, grouping, label, alpha)
    found: list[Summary] = []
    for column in grouping.columns:
        at = np.array([i for i, group in enumerate(grouping.groups) if group.columns == (column,)])
        if table.labelled:
            found += _about_accuracy(column, at, rates, limits)
        if label is not None and not is_label(table, column):
            found += _about_selection(column, at, rates, limits)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class _Limits:
    """Simultaneous limits of how differently groups may have lost."""

    table: CountTable
    grouping: Grouping
    label: int | None
    alpha: float
    families: dict[Metric, Family] = field(default_factory=dict)
    """Contrasts by metric, formed when first asked for: every sensitive feature asks again."""

    def widest(self, at: NDArray[np.intp], *metrics: Metric) -> float:
        """Return an upper bound of the largest difference between two groups' losses, over the worst of ``metrics``.

        The largest difference is one of two fixed groups, so each of their limits may err ``alpha / 2``, however many
        groups there are.
        """
        ranges = []
        for metric in metrics:
            b, c, n, *_ = self._counts(metric, at)
            most, least = (loss_upper(*flips, n, -ndtri(self.alpha / 2)) for flips in ((b, c), (c, b)))
            ranges.append(np.nanmax(most) + np.nanmax(least) if n.any() else NAN)
        return float(np.max(ranges))

    def worst(self, at: NDArray[np.intp]) -> float:
        """Return an upper bound of the largest accuracy drop of a group."""
        b, c, n, *_ = self._counts(Metric.ACCURACY, at)
        return float(loss_upper(b, c, n, -ndtri(self.alpha)).max())

    def worst_excess(self, at: NDArray[np.intp]) -> float:
        """Return an upper bound of the largest excess drop of a group over its rest."""
        upper = excess_upper(*self._counts(Metric.ACCURACY, at), z=-ndtri(self.alpha))
        return float(np.nanmax(upper)) if np.isfinite(upper).any() else NAN

    def ends(self, at: NDArray[np.intp], values: FloatArray) -> tuple[str, ...]:
        """Return the groups with the smallest and the largest of ``values``, shape (groups,), of those with any."""
        known = np.flatnonzero(np.isfinite(values))
        if not len(known):
            return ()
        return tuple(self.grouping.groups[at[known[i]]].name for i in (values[known].argmin(), values[known].argmax()))

    def both_ends(self, at: NDArray[np.intp], values: FloatArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return :meth:`ends` under both models, of groups with a value in both, shape (groups, 2)."""
        known = np.where(np.isfinite(values).all(axis=1, keepdims=True), values, np.nan)
        return self.ends(at, known[:, 0]), self.ends(at, known[:, 1])

    def _counts(self, metric: Metric, at: NDArray[np.intp]) -> Counts:
        family = self._family(metric)
        place = np.full(len(self.grouping.groups), -1)
        place[family.group] = np.arange(len(family))
        if not len(family):
            return (np.zeros(len(at), dtype=np.int64),) * 6
        known = (place[at] >= 0).astype(np.int64)  # a group that cannot be compared with its rest counts no row
        b, c, n, b_rest, c_rest, n_rest = (known * counts for counts in family.only(place[at]).counts)
        return b, c, n, b_rest, c_rest, n_rest

    def _family(self, metric: Metric) -> Family:
        if metric not in self.families:
            about = None if METRICS[metric].about is About.ROWS else self.label
            self.families[metric] = contrasts(self.table, self.grouping, estimands=[Estimand(metric, about)])
        return self.families[metric]


def _about_accuracy(column: str, at: NDArray[np.intp], rates: GroupRates, limits: _Limits) -> Iterator[Summary]:
    accuracy, n, everybody = rates.accuracy[at], rates.n[at, None], rates.accuracy[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        drop = (rates.harmful[at] - rates.beneficial[at]) / rates.n[at]
        lost = rates.harmful - rates.beneficial
        excess = drop - (lost[-1] - lost[at]) / (rates.n[-1] - rates.n[at])
        noise = accuracy * (1 - accuracy) / (n - 1)
    share = n / rates.n[-1]
    centred = noise * (1 - 2 * share) + (share**2 * noise).sum(axis=0)
    cwv = ((accuracy - everybody) ** 2).mean(axis=0)
    widest = limits.widest(at, Metric.ACCURACY)
    ends = limits.both_ends(at, accuracy)
    worst = ends[0][:1], ends[1][:1]
    yield Summary(
        name="worst_group_accuracy",
        column=column,
        value=pair(accuracy.min(axis=0)),
        deciding=worst,
        bound=limits.worst(at),
    )
    yield Summary(name="cwv", column=column, value=pair(cwv))
    yield Summary(name="cwv_debiased", column=column, value=pair(cwv - centred.mean(axis=0)))
    yield Summary(name="mcd", column=column, value=pair(_range(accuracy)), deciding=ends, bound=widest)
    largest = float(np.nanmax(excess)) if np.isfinite(excess).any() else NAN
    yield Summary(
        name="max_excess",
        column=column,
        value=Pair(dense=0.0, pruned=largest),
        deciding=((), limits.ends(at, excess)[1:]),
        bound=limits.worst_excess(at),
    )
    yield Summary(
        name="psi_pw",
        column=column,
        value=Pair(dense=0.0, pruned=float(_range(drop))),
        deciding=((), limits.ends(at, drop)),
        bound=widest,
    )


def _about_selection(column: str, at: NDArray[np.intp], rates: GroupRates, limits: _Limits) -> Iterator[Summary]:
    selected = rates.selection_rate[at]
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = selected.min(axis=0) / selected.max(axis=0)
    widest = limits.widest(at, Metric.SELECTION_RATE)
    ends, difference = limits.both_ends(at, selected), pair(_range(selected))
    yield Summary(name="demographic_parity_difference", column=column, value=difference, deciding=ends, bound=widest)
    yield Summary(name="demographic_parity_ratio", column=column, value=pair(ratio), deciding=ends)
    if limits.table.labelled:
        recall, fpr = rates.recall[at], rates.fpr[at]
        ranges = np.stack([_range(recall), _range(fpr)])
        odds = ranges.max(axis=0)
        of_recall, of_fpr = limits.both_ends(at, recall), limits.both_ends(at, fpr)
        dense, pruned = (of_recall[j] if ranges[0, j] >= ranges[1, j] else of_fpr[j] for j in (0, 1))
        bound = limits.widest(at, Metric.RECALL, Metric.FPR)
        yield Summary(
            name="equalized_odds_difference",
            column=column,
            value=pair(odds),
            deciding=(dense, pruned),
            bound=bound,
        )


def _range(values: FloatArray) -> FloatArray:
    """Return largest minus smallest over the first axis, over what is defined."""
    known = values[np.isfinite(values.reshape(len(values), -1)).all(axis=1)]
    if not len(known):
        return np.full(values.shape[1:], np.nan)
    spread: FloatArray = known.max(axis=0) - known.min(axis=0)
    return spread
