"""What the counts prove of each contrast: bounds, p values and one of three outcomes, as arrays over the family.

``regressed`` needs two witnesses at the family's error rate: a score bound above zero, and random relabelling. Each
alone has a regime in which it errs too often (rare flips among very many groups; small groups of unequal churn), and
asking for both costs less than a point of power, whether groups overlap or not. ``preserved`` needs one bound,
uncorrected: all have to hold at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, ndtri

from fairguard.judge.contrasts import Family
from fairguard.judge.counts import IntArray
from fairguard.judge.families import critical_value
from fairguard.judge.intervals import mover_lower, mover_upper, without_flips
from fairguard.judge.permutation import adjusted_p_values
from fairguard.judge.power import detectable, rows_needed, rows_to_certify, rows_to_decide
from fairguard.judge.spending import spent_alpha
from fairguard.policy import Policy

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

CERTAIN = 0.05
"""Error rate at which groups are too small to certify. Not the policy's: who asks for more proof, or looks early, would
find more groups too small, and the all-clear the easier for it."""
ROUNDING = 1e-12
"""An estimate this close to the margin counts as at the margin: 0.02 has no exact binary fraction."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of each of the m contrasts; every array has shape (m,).

    Attributes:
        tested: whether data of this size could show a regression at all.
        certifiable: whether data of this size could rule out the margin at :data:`CERTAIN`.
        dominated: not tested although there are rows enough, because one cluster or weight holds nearly all of them.
        regressed: proven harm, at or above the margin.
        preserved: the margin is ruled out.
        excess: the group's loss minus the rest's; ``nan`` where either is undefined.
        lower: family-corrected lower bound of the excess.
        upper: single upper bound of the excess.
        p: family-adjusted p value; ``nan`` where untested.
        margin: tolerated excess.
        detectable: smallest excess that these rows would show with 80 % power.
        needed: rows in the denominator that would decide, about; ``nan`` where none can be told.
        z_family, z_alpha: critical values of ``lower`` and ``upper``.
        draws: relabellings behind ``p``.
    """

    tested: BoolArray
    certifiable: BoolArray
    regressed: BoolArray
    preserved: BoolArray
    excess: FloatArray
    lower: FloatArray
    upper: FloatArray
    p: FloatArray
    margin: FloatArray
    detectable: FloatArray
    needed: FloatArray
    z_family: float
    z_alpha: float
    draws: int
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


def evidence_of(family: Family, policy: Policy) -> Evidence:
    """Return what the counts prove of every contrast under the policy's error rates.

    Raises:
        ConfigError: a look beyond the planned ones.
    """
    margin = np.array([policy.margin_of(e.metric) for e in family.estimands])[family.estimand]
    tested = testable(family, policy)
    some = family.only(tested)
    level = spent_alpha(policy.alpha, policy.looks, policy.look, comparisons=max(len(some), 1))
    z_family = critical_value(some, level, seed=policy.seed)
    z_alpha = -float(ndtri(spent_alpha(policy.alpha, policy.looks, policy.look)))
    lower, upper = mover_lower(*family.counts, z_family), mover_upper(*family.counts, z_alpha)
    excess = _share(family.b - family.c, family.n) - _share(family.b_rest - family.c_rest, family.n_rest)
    harmed = lower > (margin if policy.strict else 0.0)
    harmed &= tested & (excess >= margin - ROUNDING)
    p, draws = np.full(len(family), np.nan), 0
    if len(some):
        p[tested], draws = adjusted_p_values(
            some, alpha=level, permutations=policy.permutations, seed=policy.seed, candidates=harmed[tested]
        )
    with np.errstate(invalid="ignore"):
        regressed = harmed & (p <= max(level, 1 / (1 + draws)))  # an early look's level may lie below any p value
    rates = _rates(family)
    return Evidence(
        tested=tested,
        certifiable=tested & certifiable(family.n, family.n_rest, margin),
        regressed=regressed,
        preserved=tested & (upper < margin),
        excess=excess,
        lower=np.where(tested, lower, np.nan),
        upper=np.where(tested, upper, np.nan),
        p=p,
        margin=margin,
        detectable=detectable(**rates, z_family=z_family, margin=margin, strict=policy.strict),
        needed=rows_that_decide(rates, policy, tested=tested, margin=margin, z_family=z_family, z_alpha=z_alpha),
        z_family=z_family,
        z_alpha=z_alpha,
        draws=draws,
    )


class Rates(TypedDict):
    """What the questions about rows take of each contrast, shape (m,); see :func:`rows_needed`."""

    churn: FloatArray
    churn_rest: FloatArray
    n: FloatArray
    n_rest: FloatArray
    loss: FloatArray
    loss_rest: FloatArray


class _Level(TypedDict):
    margin: FloatArray
    z_family: float | FloatArray
    z_alpha: float
    strict: bool


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


def rows_that_decide(
    rates: Rates,
    policy: Policy,
    *,
    tested: BoolArray,
    margin: FloatArray,
    z_family: float | FloatArray,
    z_alpha: float,
) -> FloatArray:
    """Return about how many rows in the denominator would decide each contrast, shape (m,).

    A group too small to be tested says nothing yet of its own; it is assumed to lose what the rest loses.
    """
    level: _Level = {"margin": margin, "z_family": z_family, "z_alpha": z_alpha, "strict": policy.strict}
    as_rest: Rates = {**rates, "churn": rates["churn_rest"], "loss": rates["loss_rest"]}
    rows = np.where(tested, rows_to_decide(**rates, **level), rows_needed(**as_rest, **level))
    below = ~tested | (rates["loss"] - rates["loss_rest"] < margin)
    fewest = np.where(below, rows_to_certify(margin, z_alpha=z_alpha), 0)
    needed: FloatArray = np.ceil(np.maximum(rows, np.maximum(fewest, policy.min_group)))
    return needed


def _rates(family: Family) -> Rates:
    return {
        "churn": _share(family.b + family.c, family.n),
        "churn_rest": _share(family.b_rest + family.c_rest, family.n_rest),
        "n": family.n.astype(np.float64),
        "n_rest": family.n_rest.astype(np.float64),
        "loss": _share(family.b - family.c, family.n),
        "loss_rest": _share(family.b_rest - family.c_rest, family.n_rest),
    }


def _share(part: IntArray, whole: IntArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        share: FloatArray = part / whole
    return share
