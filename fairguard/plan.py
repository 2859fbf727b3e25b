"""How many rows a check needs, before it is run: from a pilot's counts, or from an assumed churn.

Churn, the share of rows whose answer changes, drives the number; sparsity does not. Knows counts and policies only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from fairguard.dtypes import FloatArray
from fairguard.errors import ConfigError
from fairguard.judge.contrasts import family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.families import critical_value
from fairguard.judge.power import Criteria, LossRates, detectable, rows_needed, rows_to_certify
from fairguard.judge.scatter import require_single_rows
from fairguard.judge.spending import spent_alpha
from fairguard.metrics import Metric
from fairguard.policy import Policy


@dataclass(frozen=True)
class Need:
    """What one group needs on one metric; rows are those in the metric's denominator.

    Attributes:
        group: ``race=Black``.
        metric: what is lost.
        rows: rows at hand.
        share: of all rows of the data, those at hand.
        churn: share of the group's rows whose answer changes.
        detectable: smallest excess that the rows at hand would show as a regression, ``nan`` if none.
        to_prove: rows that would show the planned effect; ``None`` if none would.
        to_clear: rows that would rule the margin out if there is no excess.
    """

    group: str
    metric: Metric
    rows: int
    share: float
    churn: float
    detectable: float
    to_prove: int | None
    to_clear: int | None

    @property
    def enough(self) -> bool:
        """Return whether the rows at hand suffice for both."""
        return (
            self.to_prove is not None and self.to_clear is not None and self.rows >= max(self.to_prove, self.to_clear)
        )


@dataclass(frozen=True)
class RowPlan:
    """How many rows to collect.

    Attributes:
        policy: the margins and error rates planned for.
        effect: excess to be shown.
        power: chance to show it, and to clear a group without excess.
        family: findings that share the error rate.
        needs: by group and metric, the one that needs most rows in all first.
        rows: rows at hand.
    """

    policy: Policy
    effect: float
    power: float
    family: int
    needs: tuple[Need, ...]
    rows: int

    @property
    def total(self) -> int | None:
        """Return the rows in all that every group present needs at its share; ``None`` if no number would do."""
        most = [_total(need) for need in self.needs if need.rows]
        return None if not most or None in most else max(n for n in most if n is not None)

    @property
    def sentence(self) -> str:
        """Return what to do, in one sentence."""
        points, margin = f"{100 * self.effect:g} points", f"{100 * self.policy.margin:g} points"
        if self.total is None:
            return f"No number of rows shows an excess of {points} with a margin of {margin}: plan a larger effect."
        short = sum(not need.enough for need in self.needs)
        if not short:
            return (
                f"The {self.rows:,} rows at hand are enough to show {points} and to rule out {margin} in every group, "
                f"{self._chance}."
            )
        return (
            f"{self.total:,} rows in all (at hand: {self.rows:,}) would show an excess of {points}, and rule out "
            f"{margin} where there is none, {self._chance}; {self._hungriest}."
        )

    @property
    def _chance(self) -> str:
        every = " (a check that must decide all of them does so less often: plan with a higher --power)"
        return f"with {100 * self.power:g} % chance for any one finding{every if self.family > 1 else ''}"

    @property
    def _hungriest(self) -> str:
        """Return which group the total is for: a rare one makes it large, and may be better sampled by itself."""
        most = next(need for need in self.needs if _total(need) is not None)
        own = max(n for n in (most.to_prove, most.to_clear) if n is not None)
        enough = sum(need.enough for need in self.needs)
        return (
            f"{most.group} needs most ({own:,} of its own for {most.metric.replace('_', ' ')}, now {most.rows:,}), "
            f"and {enough} of {len(self.needs)} have enough"
        )


def plan_from_pilot(
    table: CountTable,
    policy: Policy,
    *,
    effect: float | None = None,
    power: float = 0.8,
    assumed: tuple[float, float] | None = None,
) -> RowPlan:
    """Return the rows needed if each group's churn is that of a pilot, or one that is assumed for all of them.

    Args:
        table: the pilot's counts.
        policy: metrics, margins and error rates.
        effect: excess to be shown, as a fraction; default: twice the margin.
        power: chance to show it.
        assumed: shares of rows harmed and helped in every group, whatever the table's own answers.

    Raises:
        ConfigError: an effect within the margin, a power that is no share, an impossible churn, or clustered or
            weighted rows.
    """
    require_single_rows(table, "a plan")
    family = family_of(table, policy)
    z = critical_value(family, _level(policy, len(family)), seed=policy.seed)
    rates = LossRates.of(*family.counts)
    if assumed is not None:
        rates = _assumed(rates.n, rates.n_rest, *assumed)
    names = [family.grouping.groups[g].name for g in family.group]
    metrics = [family.estimands[e].metric for e in family.estimand]
    return _plan(rates, names, metrics, policy, z=z, effect=effect, power=power, rows=table.n)


def plan_from_sizes(
    sizes: Mapping[str, int],
    policy: Policy,
    *,
    harmed: float,
    helped: float,
    effect: float | None = None,
    power: float = 0.8,
) -> RowPlan:
    """Return the rows needed by groups of given sizes (or shares) under an assumed churn, on accuracy.

    Args:
        sizes: rows of each group; the groups of one column, which do not overlap.
        policy: margins and error rates.
        harmed: share of rows right before and wrong after compression.
        helped: share of rows wrong before and right after.
        effect: excess to be shown; default: twice the margin.
        power: chance to show it.

    Raises:
        ConfigError: fewer than two groups, impossible shares, or an effect within the margin.
    """
    if len(sizes) < 2 or min(sizes.values()) <= 0:
        raise ConfigError(
            f"{len(sizes)} group sizes given: a plan compares two groups or more, of one row or more each."
        )
    n = np.array(list(sizes.values()), dtype=float)
    rates = _assumed(n, n.sum() - n, harmed, helped)
    z = float(norm.isf(_level(policy, len(n)) / len(n)))
    metrics = [Metric.ACCURACY] * len(n)
    return _plan(rates, list(sizes), metrics, policy, z=z, effect=effect, power=power, rows=int(n.sum()))


def _assumed(n: FloatArray, n_rest: FloatArray, harmed: float, helped: float) -> LossRates:
    if min(harmed, helped) < 0 or not 0 < harmed + helped < 1:
        raise ConfigError(
            f"a churn of {harmed:g} harmed and {helped:g} helped is not possible: both are shares of rows."
        )
    churn, loss = np.full(len(n), harmed + helped), np.full(len(n), harmed - helped)
    return LossRates(n=n, n_rest=n_rest, churn=churn, churn_rest=churn, loss=loss, loss_rest=loss)


def _plan(
    rates: LossRates,
    names: Sequence[str],
    metrics: Sequence[Metric],
    policy: Policy,
    *,
    z: float,
    effect: float | None,
    power: float,
    rows: int,
) -> RowPlan:
    margin = np.array([policy.margin_of(metric) for metric in metrics])
    effect = 2 * float(margin.max()) if effect is None else effect
    if not margin.max() < effect < 1:
        raise ConfigError(
            f"an effect of {effect:g} cannot be planned for: it is a fraction above the margin of {margin.max():g} and "
            f"below 1, as 0.05 for five points."
        )
    if not 0.5 <= power < 1:
        raise ConfigError(f"a power of {power:g} is not possible: it is a chance from 0.5 to below 1.")
    z_alpha = float(norm.isf(_level(policy, 1)))
    criteria, unharmed = Criteria(margin, z, z_alpha, policy.strict), rates.with_excess(0.0)
    prove = rows_needed(rates.with_excess(effect), criteria, power=power)
    clear = rows_needed(unharmed, criteria, power=power)
    prove = np.maximum(prove, policy.min_group)
    fewest = rows_to_certify(rates, criteria)
    clear = np.maximum(clear, np.maximum(fewest, policy.min_group))
    shown = detectable(unharmed, criteria, power=power)
    needs = [
        Need(names[i], metrics[i], int(rates.n[i]), rates.n[i] / rows, float(rates.churn[i]), float(shown[i]), a, b)
        for i, (a, b) in enumerate(zip(_whole(prove), _whole(clear), strict=True))
    ]
    return RowPlan(policy, effect, power, len(needs), tuple(sorted(needs, key=_hunger)), rows)


def _level(policy: Policy, comparisons: int) -> float:
    return spent_alpha(policy.alpha, policy.looks, policy.look, comparisons=max(comparisons, 1))


def _whole(rows: ArrayLike) -> list[int | None]:
    return [int(np.ceil(n)) if np.isfinite(n) else None for n in np.asarray(rows)]


def _total(need: Need) -> int | None:
    """Return the rows of the whole data that give the group enough of its own."""
    if need.to_prove is None or need.to_clear is None or not need.share:
        return None
    return int(np.ceil(max(need.to_prove, need.to_clear) / need.share))


def _hunger(need: Need) -> tuple[float, str, str]:
    total = _total(need)
    return (-np.inf if total is None else -total), need.group, need.metric
