"""How contrasts scatter where rows belong together or count differently: variances, design effects and sign flips.

Every contrast is linearised: what a cluster contributes to an excess is known, clusters are independent, and the sum of
the squared contributions is the excess's variance. Knows nothing of policies or verdicts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray
from fairguard.errors import ConfigError, DataError
from fairguard.judge.contrasts import Family
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, effect_variance
from fairguard.judge.intervals import share
from fairguard.judge.likeness import Sides, Units, design_effects, sides_of

CLUSTER, WEIGHT = "(cluster)", "(weight)"
"""Names of the columns of the count table that hold what rows belong to, and what they count."""
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


def units_of(table: CountTable) -> Units:
    """Return the clusters or, where only weights are given, the rows: those of one cell are alike.

    Raises:
        DataError: all rows are of one cluster, or a weight is impossible.
    """
    weights = weights_of(table)
    if CLUSTER not in table.columns:
        return Units(np.arange(len(weights)), weights, weights**2, table.counts.astype(np.float64))
    names, place = np.unique(table.codes(CLUSTER), return_inverse=True)
    if len(names) < 2:
        raise DataError("all rows are of one cluster: nothing independent to judge on. Name another --cluster.")
    return Units(place.ravel(), weights * table.counts, weights**2 * table.counts, np.ones(len(names)))


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
        effect: shape (2, m), design effects of group and rest: how many rows are worth an independent one, never
            below 1, nor below what unequal weights alone cost: whether a heavy row changed is a single piece of news.
        overall: shape (m,), the same of group and rest together.
        units: shape (m,), independent units with rows in the denominator, of group or rest, whichever has fewer:
            as many of equal size as they are worth.
        parts: shape (at most FINEST, m), contributions to each excess, scaled to joint length 1.
        signs: whether each part is one cluster's; parts that are many rows' get a normal factor, which is what the
            random signs of many rows add up to.
    """

    variance: FloatArray
    effect: FloatArray
    overall: FloatArray
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
    size, m, count = len(units.copies), len(family), float(units.copies.sum())
    place = np.arange(size) if size <= FINEST else np.random.default_rng(0).integers(FINEST, size=size)
    variance, merged, sums = np.zeros(m), np.zeros((min(size, FINEST), m)), []
    for j in range(m):
        inside = family.grouping.holds(family.group[j])
        losses = float(shares.loss[j]), float(shares.loss_rest[j])
        sides, parts = sides_of(units, effects[family.estimand[j]], inside, losses)
        sums.append(sides)
        variance[j] = units.copies @ parts**2 * count / (count - 1)
        merged[:, j] = np.bincount(place, parts * np.sqrt(units.copies), len(merged))
    sides = Sides.stacked(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        merged = np.nan_to_num(merged / np.sqrt((merged**2).sum(axis=0)))
    n, harmed = np.stack([family.n, family.n_rest]).astype(np.float64), np.stack([shares.b, shares.b_rest])
    each = np.nan_to_num(shares.variances)
    effect = design_effects(sides, n=n, harmed=np.nan_to_num(harmed), variance=each)
    part = n * np.where(each.sum(axis=0) > 0, each, 1.0)
    overall = (part * effect).sum(axis=0) / np.maximum(part.sum(axis=0), 1e-300)
    return Scatter(variance, effect, overall, sides.units.min(axis=0), merged, signs=CLUSTER in table.columns)
