"""How contrasts scatter where rows belong together or count differently: variances, design effects and sign flips.

Every contrast is linearised: what a cluster contributes to an excess is known, clusters are independent, and the sum of
the squared contributions is the excess's variance. Knows nothing of policies or verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairguard.errors import ConfigError, DataError
from fairguard.judge.contrasts import Family
from fairguard.judge.counts import CountTable, IntArray
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, effect_variance
from fairguard.judge.intervals import share

FloatArray = NDArray[np.float64]

CLUSTER, WEIGHT = "(cluster)", "(weight)"
"""Names of the columns of the count table that hold what rows belong to, and what they count."""
PRIOR_CLUSTERS = 30.0
"""Clusters at the whole data's design effect mixed into each group's: ten flips are too few to see who shares them."""
FINEST = 4_096
"""Clusters beyond so many are merged at random for the sign flips; variances are taken before merging."""
DOMINANT, TIMES = 0.1, 5.0
"""A cluster or row is named that holds this share of all weight, and so many times what it would if all were alike."""
WORK = 20_000_000
"""Numbers drawn at once."""


def require_single_rows(table: CountTable, who: str) -> None:
    """Refuse rows that belong together or count differently, for questions whose answer takes each row alone.

    Raises:
        ConfigError: the table has clusters or weights.
    """
    if {CLUSTER, WEIGHT} & set(table.columns):
        raise ConfigError(f"{who} takes each row alone: leave out --cluster and --weight.")


@dataclass(frozen=True, eq=False)
class Units:
    """What is independent of each other.

    Attributes:
        of_cell: shape (M,), the unit of each cell of the count table.
        rows: shape (M,), weighted rows that a cell adds to its unit.
        copies: shape (K,), how many like units each stands for.
    """

    of_cell: IntArray
    rows: FloatArray
    copies: FloatArray


def units_of(table: CountTable) -> Units:
    """Return the clusters or, where only weights are given, the rows: those of one cell are alike.

    Raises:
        DataError: all rows are of one cluster, or a weight is impossible.
    """
    weights = weights_of(table)
    if CLUSTER not in table.columns:
        return Units(np.arange(len(weights)), weights, table.counts.astype(np.float64))
    names, place = np.unique(table.codes(CLUSTER), return_inverse=True)
    if len(names) < 2:
        raise DataError("all rows are of one cluster: nothing independent to judge on. Name another --cluster.")
    return Units(place.ravel(), weights * table.counts, np.ones(len(names)))


def weights_of(table: CountTable) -> FloatArray:
    """Return each cell's weight, shape (M,), 1 on average over rows; all 1 without the column ``(weight)``.

    Raises:
        DataError: a weight is not a finite number of 0 or more, or all are 0.
    """
    if WEIGHT not in table.columns:
        return np.ones(len(table.counts))
    names = table.levels[table.columns.index(WEIGHT)]
    weights = _numbers(names)[table.codes(WEIGHT)]
    total = float(weights @ table.counts)
    if total <= 0:
        raise DataError("all weights are 0: no row counts.")
    return np.asarray(weights * (table.n / total))


def _numbers(names: tuple[str, ...]) -> FloatArray:
    try:
        numbers = np.array(names, dtype=np.float64)  # all at once: there may be as many as rows
    except ValueError:
        numbers = np.array([_number(name) for name in names])
    possible = (numbers >= 0.0) & (numbers < np.inf)
    if not possible.all():
        name = names[int(np.argmin(possible))]
        raise DataError(f"weight {name!r} is not possible: weights are finite numbers, 0 or more.")
    return numbers


def _number(name: str) -> float:
    try:
        return float(name)
    except ValueError:
        return np.nan


@dataclass(frozen=True)
class Worth:
    """What all rows are worth together by their weights and clusters alone, whatever was answered.

    Attributes:
        units: how many clusters (or rows, where only weights are given) there are.
        worth: how many of equal weight they are worth. Source: Kish, Survey Sampling (1965).
        share: the heaviest one's share of all weight.
        heaviest: its name; of a row, its weight.
    """

    units: int
    worth: float
    share: float
    heaviest: str

    @property
    def dominated(self) -> bool:
        """Return whether the heaviest one outweighs what others weigh by far, and a good part of the verdict is its."""
        return self.share >= DOMINANT and self.share * self.units >= TIMES


def worth_of(table: CountTable) -> Worth:
    """Return what the rows are worth together.

    Raises:
        DataError: all rows are of one cluster, or a weight is impossible.
    """
    units = units_of(table)
    rows = np.bincount(units.of_cell, units.rows, len(units.copies))
    total = float(units.copies @ rows)
    at = int(rows.argmax())
    column = CLUSTER if CLUSTER in table.columns else WEIGHT
    cell = int((units.of_cell == at).argmax())
    name = table.levels[table.columns.index(column)][table.codes(column)[cell]]
    return Worth(int(units.copies.sum()), total**2 / float(units.copies @ rows**2), float(rows[at]) / total, name)


@dataclass(frozen=True, eq=False)
class Shares:
    """Weighted rows in each contrast's group and rest, and the shares harmed and helped; each of shape (m,)."""

    total: FloatArray
    total_rest: FloatArray
    b: FloatArray
    c: FloatArray
    b_rest: FloatArray
    c_rest: FloatArray

    @property
    def loss(self) -> FloatArray:
        """Return the group's loss."""
        return self.b - self.c

    @property
    def loss_rest(self) -> FloatArray:
        """Return everybody else's loss."""
        return self.b_rest - self.c_rest

    @property
    def variances(self) -> FloatArray:
        """Return the variance of what happens to a row of the group and of the rest, shape (2, m)."""
        return np.stack([effect_variance(self.b, self.c), effect_variance(self.b_rest, self.c_rest)])


def shares_of(table: CountTable, family: Family) -> Shares:
    """Return the weighted shares of every contrast."""
    rows = (table.counts * weights_of(table))[:, None]
    effects = np.column_stack([estimand.effects(table) for estimand in family.estimands])
    parts = []
    for what in (effects != OUTSIDE, effects == HARMED, effects == HELPED):
        inside = family.grouping.sums(what * rows)[family.group, family.estimand]
        parts.append((inside, (what * rows).sum(axis=0)[family.estimand] - inside))
    (n, n_rest), (b, b_rest), (c, c_rest) = parts
    return Shares(n, n_rest, share(b, n), share(c, n), share(b_rest, n_rest), share(c_rest, n_rest))


@dataclass(frozen=True, eq=False)
class Scatter:
    """How the contrasts scatter, m of them.

    Attributes:
        variance: shape (m,), of each excess.
        effect: shape (m,), design effects: the variance over that of as many independent rows, never below 1, nor
            below what unequal weights alone cost: whether a heavy row changed is a single piece of news.
        units: shape (m,), independent units with rows in the denominator, of group or rest, whichever has fewer:
            as many of equal size as they are worth.
        parts: shape (at most FINEST, m), contributions to each excess, scaled to joint length 1.
        signs: whether each part is one cluster's; parts that are many rows' get a normal factor, which is what the
            random signs of many rows add up to.
    """

    variance: FloatArray
    effect: FloatArray
    units: FloatArray
    parts: FloatArray
    signs: bool

    def sign_flips(self, chosen: NDArray[np.bool_], *, draws: int, seed: int) -> FloatArray:
        """Return the largest standardised contrast of those ``chosen`` under random signs of the clusters, (draws,).

        Source: the wild cluster bootstrap, Cameron, Gelbach and Miller, Review of Economics and Statistics 90 (2008).
        """
        parts = self.parts[:, chosen].astype(np.float32)
        rng = np.random.default_rng([seed, 3])
        chunk = max(1, WORK // (parts.size + len(parts)))
        maxima = [np.zeros(0)]
        for done in range(0, draws, chunk):
            factors = rng.standard_normal((min(chunk, draws - done), len(parts)), dtype=np.float32)
            factors = np.copysign(np.float32(1.0), factors) if self.signs else factors
            maxima.append((factors @ parts).max(axis=1, initial=-np.inf))
        return np.concatenate(maxima)


def scatter_of(table: CountTable, family: Family, shares: Shares) -> Scatter:
    """Return how every contrast scatters over the clusters, or over weighted rows."""
    units = units_of(table)
    effects = [estimand.effects(table) for estimand in family.estimands]
    size, m = len(units.copies), len(family)
    place = np.arange(size) if size <= FINEST else np.random.default_rng(0).integers(FINEST, size=size)
    variance, fewest, merged = np.zeros(m), np.zeros(m), np.zeros((min(size, FINEST), m))
    for j in range(m):
        effect = effects[family.estimand[j]]
        inside = family.member[family.group[j]][family.grouping.place]
        parts = _contributions(units, effect, inside, shares, j)
        variance[j] = units.copies @ parts**2
        merged[:, j] = np.bincount(place, parts * np.sqrt(units.copies), len(merged))
        fewest[j] = min(_effective(units, (effect != OUTSIDE) & where) for where in (inside, ~inside))
    pooled = np.array([_pooled_effect(units, effect) for effect in effects])[family.estimand]
    with np.errstate(invalid="ignore", divide="ignore"):
        merged = np.nan_to_num(merged / np.sqrt((merged**2).sum(axis=0)))
    effect = np.maximum(_design_effects(variance, pooled, fewest, shares, family), _unequal(table, family, shares))
    return Scatter(variance, effect, fewest, merged, signs=CLUSTER in table.columns)


def _contributions(
    units: Units, effect: NDArray[np.int8], inside: NDArray[np.bool_], shares: Shares, j: int
) -> FloatArray:
    """Return what each unit adds to the j-th excess beyond its share of rows, shape (K,)."""
    own = (effect - shares.loss[j]) / shares.total[j]
    rest = (shares.loss_rest[j] - effect) / shares.total_rest[j]
    residual = np.where(effect == OUTSIDE, 0.0, np.where(inside, own, rest)) * units.rows
    count = units.copies.sum()
    parts: FloatArray = np.bincount(units.of_cell, residual, len(units.copies)) * np.sqrt(count / (count - 1))
    return parts


def _effective(units: Units, chosen: NDArray[np.bool_]) -> float:
    """Return how many units of equal size are worth as much as those with rows in ``chosen`` cells.

    A few large clusters among many small ones decide a variance by themselves. Source: Kish, Survey Sampling (1965);
    for clusters, Carter, Schnepel and Steigerwald, Review of Economics and Statistics 99 (2017).
    """
    rows = np.bincount(units.of_cell[chosen], units.rows[chosen], len(units.copies))
    squares = float(units.copies @ rows**2)
    return float(units.copies @ rows) ** 2 / squares if squares else 0.0


def _pooled_effect(units: Units, effect: NDArray[np.int8]) -> float:
    """Return the design effect of a metric's loss over all rows; 1 where nothing changed."""
    counted = effect != OUTSIDE
    rows = np.where(counted, units.rows * units.copies[units.of_cell], 0.0)
    total, changed = rows.sum(), np.where(counted, effect, 0)
    loss, churn = rows @ changed / max(total, 1e-300), rows @ np.abs(changed) / max(total, 1e-300)
    if churn <= loss**2:
        return 1.0
    parts = np.bincount(units.of_cell, np.where(counted, effect - loss, 0.0) * units.rows, len(units.copies))
    return float((units.copies @ parts**2) / total / (churn - loss**2))


def _design_effects(
    variance: FloatArray, pooled: FloatArray, units: FloatArray, shares: Shares, family: Family
) -> FloatArray:
    own, rest = shares.variances
    independent = own / family.n + rest / family.n_rest
    with np.errstate(invalid="ignore", divide="ignore"):
        seen = np.where(independent > 0, variance / independent, pooled)
    return np.asarray(np.maximum((units * seen + PRIOR_CLUSTERS * pooled) / (units + PRIOR_CLUSTERS), 1.0))


def _unequal(table: CountTable, family: Family, shares: Shares) -> FloatArray:
    """Return the design effects that unequal weights have by themselves, shape (m,); 1 without weights.

    What was seen to scatter says too little where one row weighs as much as hundreds and happened not to change.
    """
    if WEIGHT not in table.columns:
        return np.ones(len(family))
    weights = weights_of(table)
    parts = [table.counts * weights**2, table.counts * weights, table.counts]
    counted = np.column_stack([estimand.effects(table) != OUTSIDE for estimand in family.estimands])
    sides = []
    for part in parts:
        inside = family.grouping.sums(counted * part[:, None])[family.group, family.estimand]
        sides.append(np.stack([inside, (counted * part[:, None]).sum(axis=0)[family.estimand] - inside]))
    squares, sums, rows = sides
    with np.errstate(invalid="ignore", divide="ignore"):
        each = squares / sums**2
        seen = (shares.variances * each).sum(axis=0) / (shares.variances / rows).sum(axis=0)
        most = (each * rows).max(axis=0)
    effect: FloatArray = np.nan_to_num(np.where(shares.variances.sum(axis=0) > 0, seen, most), nan=1.0, posinf=1.0)
    return effect
