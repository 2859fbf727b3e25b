"""What the counts prove of each contrast: bounds, p values and one of three outcomes, as arrays over the family.

``regressed`` needs two witnesses at the family's error rate: a score bound above zero, and random relabelling. Each
alone has a regime in which it errs too often (rare flips among very many groups; small groups of unequal churn), and
asking for both costs less than a point of power, whether groups overlap or not. ``preserved`` needs one bound,
uncorrected: all have to hold at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, ndtr, ndtri
from scipy.stats import t

from fairguard.dtypes import BoolArray, FloatArray, IntArray
from fairguard.judge.contrasts import Family
from fairguard.judge.families import critical_value
from fairguard.judge.intervals import excess_upper, mover_lower, without_flips
from fairguard.judge.permutation import Adjusted, adjusted_p_values
from fairguard.judge.power import Criteria, LossRates, detectable, rows_needed, rows_to_certify, rows_to_decide
from fairguard.judge.spending import spent_alpha
from fairguard.policy import Policy

_Rows = IntArray | FloatArray
Counts = tuple[_Rows, _Rows, _Rows, _Rows, _Rows, _Rows]
"""Rows harmed, helped and in all of the groups, and the same three of their rests, as the bounds take them."""

CERTAIN = 0.05
"""Error rate at which groups are too small to certify. Not the policy's: who asks for more proof, or looks early, would
find more groups too small, and the all-clear the easier for it."""
ROUNDING = 1e-12
"""An estimate this close to the margin counts as at the margin: 0.02 has no exact binary fraction."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Standing:
    """What the outcome of a family is read off, by contrast or by finding; every array has shape (m,).

    Attributes:
        tested: whether data of this size could show a regression at all.
        certifiable: whether data of this size could rule out the margin at :data:`CERTAIN`.
        dominated: not tested although there are rows enough, because one cluster or weight holds nearly all of them.
        regressed: proven harm, at or above the margin.
        preserved: the margin is ruled out.
        excess: the group's loss minus the rest's; ``nan`` where either is undefined.
        margin: tolerated excess.
    """

    tested: BoolArray
    certifiable: BoolArray
    regressed: BoolArray
    preserved: BoolArray
    excess: FloatArray
    margin: FloatArray
    dominated: BoolArray | None = None

    @property
    def undecided(self) -> BoolArray:
        """Return which contrasts forbid the verdict ``preserved``.

        One too small to be certified does so only if its estimate is at the margin or above; else no verdict on data
        with a small group could ever be ``preserved``. It is listed either way. Small is who has few rows: rows that
        weigh little beside a heavy one are no excuse.
        """
        doubtful = self.certifiable | (self.excess >= self.margin - ROUNDING)
        open_: BoolArray = self.tested & ~self.preserved & ~self.regressed & doubtful
        return open_ if self.dominated is None else open_ | self.dominated


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence(Standing):
    """What is known of each of the m contrasts; every array has shape (m,).

    Attributes:
        lower: family-corrected lower bound of the excess.
        upper: single upper bound of the excess.
        p: family-adjusted p value; ``nan`` where untested.
        detectable: smallest excess that these rows would show with 80 % power.
        needed: rows in the denominator that would decide, about; ``nan`` where none can be told.
        z_family, z_alpha: critical values of ``lower`` and ``upper``.
        draws: relabellings behind ``p``.
    """

    lower: FloatArray
    upper: FloatArray
    p: FloatArray
    detectable: FloatArray
    needed: FloatArray
    z_family: float
    z_alpha: float
    draws: int


def evidence_of(family: Family, policy: Policy) -> Evidence:
    """Return what the counts prove of every contrast under the policy's error rates."""
    tested = testable(family, policy)
    some, levels = family.only(tested), levels_of(tested, policy)

    def relabelled(harmed: BoolArray) -> Adjusted:
        p = np.full(len(family), np.nan)
        if not len(some):
            return Adjusted(p, 0)
        p[tested], draws = adjusted_p_values(
            some,
            alpha=levels.family,
            candidates=harmed[tested],
            permutations=policy.permutations,
            seed=policy.seed,
        )
        return Adjusted(p, draws)

    return decided(
        family,
        policy,
        tested=tested,
        counts=family.counts,
        rates=LossRates.of(*family.counts),
        z=critical_value(some, levels.family, seed=policy.seed),
        second=relabelled,
    )


class Levels(NamedTuple):
    """One-sided error rates of one look: of all contrasts together, and of one alone."""

    family: float
    alone: float


def levels_of(tested: BoolArray, policy: Policy) -> Levels:
    """Return what this look may spend on the contrasts that are ``tested``."""
    plan = policy.alpha, policy.looks, policy.look
    return Levels(spent_alpha(*plan, comparisons=max(int(tested.sum()), 1)), spent_alpha(*plan))


def decided(
    family: Family,
    policy: Policy,
    *,
    tested: BoolArray,
    counts: Counts,
    rates: LossRates,
    z: float,
    second: Callable[[BoolArray], Adjusted],
    freedom: FloatArray | None = None,
) -> Evidence:
    """Return the evidence: the one place that says when a contrast is regressed and when preserved.

    Args:
        family: the contrasts.
        policy: margins and error rates.
        tested: which of them could show anything.
        counts: what the bounds run on: rows harmed, helped and in all of the group, and of everybody else, or the
            independent rows that they are worth.
        rates: the same as shares, for the estimate and for the questions about rows.
        z: the family's critical value at this look.
        second: gives the second witness's p values of all contrasts and the draws behind them, told which of them
            the bound finds harmed.
        freedom: degrees of freedom where few independent units are behind ``counts``.
    """
    levels = levels_of(tested, policy)
    margin = np.array([policy.margin_of(e.metric) for e in family.estimands])[family.estimand]
    z_alpha = -float(ndtri(levels.alone))
    bar, bar_alone = (z, z_alpha) if freedom is None else (t.isf(rate, freedom) for rate in (ndtr(-z), levels.alone))
    lower, upper = mover_lower(*counts, bar), excess_upper(*counts, bar_alone)
    harmed = tested & (lower > (margin if policy.strict else 0.0)) & (rates.excess >= margin - ROUNDING)
    criteria = Criteria(margin, bar, z_alpha, policy.strict)
    p, draws = second(harmed)
    with np.errstate(invalid="ignore"):
        regressed = harmed & (p <= max(levels.family, 1 / (1 + draws)))  # an early look's level may lie below any p
    return Evidence(
        tested=tested,
        certifiable=tested & certifiable(family.n, family.n_rest, margin),
        regressed=regressed,
        preserved=tested & (upper < margin),
        excess=rates.excess,
        lower=np.where(tested, lower, np.nan),
        upper=np.where(tested, upper, np.nan),
        p=np.where(tested, p, np.nan),
        margin=margin,
        detectable=detectable(rates, criteria),
        needed=rows_that_decide(rates, criteria, tested=tested, min_group=policy.min_group),
        z_family=z,
        z_alpha=z_alpha,
        draws=draws,
    )


def testable(family: Family, policy: Policy) -> BoolArray:
    """Return which contrasts data of this size could show at all, whatever the answers were, shape (m,).

    Group and rest need ``min_group`` rows in the denominator. Where even the most extreme outcome, all rows of the
    group harmed and none of the rest, has a one-sided hypergeometric p value above the family's share of ``alpha``, no
    outcome could be evidence.
    """
    large = np.minimum(family.n, family.n_rest) >= policy.min_group
    extreme = gammaln(family.n + 1) + gammaln(family.n_rest + 1) - gammaln(family.n + family.n_rest + 1)
    share: BoolArray = large & (extreme <= np.log(policy.alpha / max(int(large.sum()), 1)))
    return share


def certifiable(n: ArrayLike, n_rest: ArrayLike, margin: FloatArray) -> BoolArray:
    """Return where rows of this number could rule out ``margin``, if not a single one flipped, shape (m,)."""
    could: BoolArray = without_flips(n, n_rest, float(ndtri(1.0 - CERTAIN))) < margin
    return could


def rows_that_decide(rates: LossRates, criteria: Criteria, *, tested: BoolArray, min_group: int) -> FloatArray:
    """Return about how many rows in the denominator would decide each contrast, shape (m,).

    A group too small to be tested says nothing yet of its own; it is assumed to lose what the rest loses.
    """
    as_rest = replace(rates, churn=rates.churn_rest, loss=rates.loss_rest)
    rows = np.where(tested, rows_to_decide(rates, criteria), rows_needed(as_rest, criteria))
    below = ~tested | (rates.excess < criteria.margin)
    fewest = np.where(below, rows_to_certify(rates, criteria), 0)
    needed: FloatArray = np.ceil(np.maximum(rows, np.maximum(fewest, min_group)))
    return needed
