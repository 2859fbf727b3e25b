"""Family-adjusted p values from relabelling the rows at random, drawn as counts.

The statistic is each group's excess over its own standard error (studentised), the reference the largest of the family:
an unstudentised one is wrong as soon as groups differ in churn (DiCiccio, Vasudevan, Basu, Kenthapadi and Agarwal, KDD
2020).

Which rows may change places depends on the metric's denominator. A false positive rate lives on the negatives, so only
negatives are dealt anew, and every group keeps its number of them. Accuracy lives on all rows; dealing it within labels
would keep each group's composition and so hide the harm that falls on a label of which a group has many. Metrics with
one denominator are dealt together, others independently of each other. A maximum over independent blocks errs by at
most ``alpha^2 / 2`` (Sidak against Bonferroni) whatever the true correlation, on the safe side where it is positive.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom

from fairguard.dtypes import FloatArray, IntArray
from fairguard.judge.contrasts import Family
from fairguard.judge.counts import distinct
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, effect_variance

VARIANCE_PRIOR_ROWS = 30.0
"""Rows at the whole data's variance mixed into each group's: ten rows without a flip do not prove that none can."""
WORK = 60_000
"""Counts dealt before anything is looked at: the draws of the first round are what this affords."""
FIRST = 99
"""Fewest draws of the first round."""
AFFORDED = 400_000
"""Counts dealt at most (some 50 ms). A p value is valid whatever the relabellings behind it, only coarser for fewer."""
AT_ONCE = 8_000_000
"""Counts dealt that are held at once."""
ENOUGH = 20
"""Relabellings as extreme as ``alpha`` that there are in any case, whatever they cost."""
SURE = 1e-4
"""The question is settled once a true p value of ``alpha`` would look so extreme with at most this chance."""
LARGEST = 1_000_000_000
"""Rows from which numpy deals no hypergeometric any more; a multinomial is then the same to eight digits."""


class Adjusted(NamedTuple):
    """Adjusted p values, shape (m,), and the relabellings behind them."""

    p: FloatArray
    draws: int


def adjusted_p_values(
    family: Family, *, alpha: float, permutations: int, seed: int, candidates: NDArray[np.bool_] | None = None
) -> Adjusted:
    """Return family-adjusted p values of "this group lost more than the rest", ``(1 + larger) / (1 + draws)``.

    Relabellings are drawn in rounds, each doubling their number, until every candidate's p value is surely below or
    surely above ``alpha`` or ``permutations`` are done; stopping early changes a decision with a chance below 1e-4 a
    round.

    Args:
        family: the contrasts.
        alpha: what the p values will be compared with.
        permutations: most relabellings; fewer where a large family makes each of them dear (:data:`AFFORDED`).
        seed: of the relabellings.
        candidates: shape (m,), contrasts whose p value matters; default all.
    """
    observed = studentised(*family.counts)
    larger = np.zeros(len(family), dtype=np.int64)
    done = 0
    asked = np.ones(len(family), dtype=bool) if candidates is None else candidates
    for maxima in null_maxima(family, permutations=permutations, seed=seed, alpha=alpha):
        ordered = np.sort(maxima)
        larger += len(ordered) - np.searchsorted(ordered, observed, side="left")
        done += len(ordered)
        below, above = binom.cdf(larger[asked], done, alpha), binom.sf(larger[asked] - 1, done, alpha)
        if (np.minimum(below, above) <= SURE).all():
            break
    return Adjusted((1 + larger) / (1 + done), done)


def null_maxima(family: Family, *, permutations: int, seed: int, alpha: float | None = None) -> Iterator[FloatArray]:
    """Yield rounds of the family's largest statistic under random relabelling, each shape (draws of the round,).

    Args:
        family: the contrasts.
        permutations: most relabellings in all.
        seed: of the relabellings.
        alpha: an error rate; if given, no more are drawn than it needs and :data:`AFFORDED` allows.
    """
    blocks = list(_blocks(family))
    work = sum(block.sizes.size * max(1, len(block.totals)) for block in blocks)
    if alpha is not None:
        permutations = min(permutations, max(math.ceil(ENOUGH / alpha) - 1, AFFORDED // max(work, 1)))
    rng = np.random.default_rng([seed, 2])
    done, due = 0, min(permutations, max(FIRST, WORK // max(work, 1)))
    while done < permutations:
        maxima = np.full(due, -np.inf)
        for block in blocks:
            np.maximum(maxima, block.maxima(rng, due), out=maxima)
        yield maxima
        done += due
        due = min(done, permutations - done)


def studentised(
    b: ArrayLike,
    c: ArrayLike,
    n: ArrayLike,
    b_rest: ArrayLike,
    c_rest: ArrayLike,
    n_rest: ArrayLike,
    *,
    pooled: ArrayLike | None = None,
) -> FloatArray:
    """Return the excess over its standard error; ``-inf`` where it is undefined, 0 where nothing changed.

    Args:
        b, c, n: rows harmed, helped and in all of the group; arrays of any shape broadcast.
        b_rest, c_rest, n_rest: the same of everybody else.
        pooled: variance of a row's effect over group and rest together, where it is known already.
    """
    pooled = pooled_variance(b, c, n, b_rest, c_rest, n_rest) if pooled is None else pooled
    with np.errstate(invalid="ignore", divide="ignore"):
        loss, error = _mean_and_error(b, c, n, pooled)
        loss_rest, error_rest = _mean_and_error(b_rest, c_rest, n_rest, pooled)
        excess = loss - loss_rest
        z = excess / np.sqrt(error + error_rest)
    z = np.where(excess == 0, 0.0, z)
    return np.where(np.isnan(z), -np.inf, z)


def _mean_and_error(b: ArrayLike, c: ArrayLike, n: ArrayLike, pooled: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the loss and the square of its standard error."""
    b, c, n = (np.asarray(x, dtype=np.float64) for x in (b, c, n))
    mean = (b - c) / n
    variance = (b + c) / n - mean**2
    return mean, (n * variance + VARIANCE_PRIOR_ROWS * np.asarray(pooled)) / (n + VARIANCE_PRIOR_ROWS) / n


def pooled_variance(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, b_rest: ArrayLike, c_rest: ArrayLike, n_rest: ArrayLike
) -> FloatArray:
    """Return the variance of a row's effect over group and rest together."""
    rows = np.maximum(np.add(n, n_rest), 1)
    return effect_variance(np.add(b, b_rest) / rows, np.add(c, c_rest) / rows)


@dataclass(frozen=True, eq=False)
class _Block:
    """Contrasts whose metrics share a denominator, and so a relabelling.

    Attributes:
        family: these contrasts.
        sizes: shape (A,), rows of each atom in the denominator.
        totals: shape (F,), rows of each kind that changes something.
        effects: shape (F, E'), what the kinds are to the metrics.
        metric: shape (m',), each contrast's column in ``effects``.
    """

    family: Family
    sizes: IntArray
    totals: IntArray
    effects: NDArray[np.int8]
    metric: IntArray

    def maxima(self, rng: np.random.Generator, draws: int) -> FloatArray:
        """Return the largest statistic of each of so many relabellings, shape (draws,)."""
        if not len(self.totals):
            return np.zeros(draws)
        step = max(1, AT_ONCE // (len(self.totals) * len(self.sizes)))
        return np.concatenate([self._maxima(rng, min(step, draws - at)) for at in range(0, draws, step)])

    def _maxima(self, rng: np.random.Generator, draws: int) -> FloatArray:
        dealt = deal(rng, self.sizes, self.totals, draws)  # (F, A, L)
        largest = np.full(draws, -np.inf)
        for e in np.unique(self.metric):
            at = self.metric == e
            inside = self.family.member[self.family.group[at]].astype(np.float64)
            b, c = (
                inside @ dealt[self.effects[:, e] == what].sum(axis=0, dtype=np.float64) for what in (HARMED, HELPED)
            )
            some = self.family.only(at)
            n, n_rest, pooled = (x[:, None] for x in (some.n, some.n_rest, pooled_variance(*some.counts)))
            b_all, c_all = (some.b + some.b_rest)[:, None], (some.c + some.c_rest)[:, None]
            z = studentised(b, c, n, b_all - b, c_all - c, n_rest, pooled=pooled)
            np.maximum(largest, z.max(axis=0), out=largest)
        return largest


def _blocks(family: Family) -> Iterator[_Block]:
    """Yield the family's contrasts by the denominator of their metrics."""
    if not len(family):
        return
    # A block looks at few metrics, and a thousand classes have as many blocks: each metric's effects lie together.
    by_estimand = np.ascontiguousarray(family.effects.T)
    inside = by_estimand != OUTSIDE
    _, denominator = distinct(inside.astype(np.int8))
    everywhere = family.atoms.sum(axis=0)
    order = np.argsort(denominator[family.estimand], kind="stable")
    for chosen in np.split(order, np.flatnonzero(np.diff(denominator[family.estimand[order]])) + 1):
        some = family.only(chosen)
        used, metric = np.unique(some.estimand, return_inverse=True)
        rows = np.flatnonzero(inside[used[0]])
        effects = by_estimand[used][:, rows].T
        first, kind = distinct(effects)
        totals = np.bincount(kind, everywhere[rows], len(first)).astype(np.int64)
        changes = (effects[first] != 0).any(axis=1) & (totals > 0)
        sizes = family.atoms @ inside[used[0]]
        yield _Block(some, sizes, totals[changes], effects[first][changes], metric)


def deal(rng: np.random.Generator, sizes: IntArray, totals: IntArray, draws: int) -> IntArray:
    """Return how many rows of each kind fall into each atom when all rows are dealt at random, shape (F, A, draws).

    Multivariate hypergeometric: atoms keep their sizes (A,), kinds their totals (F,); rows of no kind fill the rest.
    """
    left = np.repeat(sizes[:, None], draws, axis=1)
    dealt = np.empty((len(totals), len(sizes), draws), dtype=np.int64)
    for kind, total in enumerate(totals):
        dealt[kind] = _split(rng, left, total)
        left -= dealt[kind]
    return dealt


def _split(rng: np.random.Generator, rooms: IntArray, total: int) -> IntArray:
    """Return how many of ``total`` rows fall into each room, shape (A, draws), halving the rooms from all to single."""
    halves = [rooms]
    while len(halves[-1]) > 1:
        wide = halves[-1]
        even = np.concatenate([wide, np.zeros_like(wide[:1])]) if len(wide) % 2 else wide
        halves[-1] = even
        halves.append(even[0::2] + even[1::2])
    due = np.full_like(halves.pop(), total)
    for pairs in reversed(halves):
        left, right = pairs[0::2], pairs[1::2]
        got = _hypergeometric(rng, left, right, due[: len(left)])
        due = np.stack([got, due[: len(left)] - got], axis=1).reshape(pairs.shape)
    return due[: len(rooms)]


def _hypergeometric(rng: np.random.Generator, good: IntArray, bad: IntArray, sample: IntArray) -> IntArray:
    if good.max(initial=0) + bad.max(initial=0) < LARGEST:
        return rng.hypergeometric(good, bad, sample)
    return rng.binomial(sample, good / np.maximum(good + bad, 1))
