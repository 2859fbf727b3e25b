"""How many rows would decide, and how small an excess the rows at hand would show. Knows nothing of tables or groups.

The formulas are those of the score test (Nam 1997; Tango 1998): the variance at the boundary of the hypothesis belongs
to the error rate, the variance at the truth to the power. Their common normal approximation, one variance for both, is
optimistic where flips are rare: it asks for no rows at all where none has flipped yet. All arrays broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri

from fairguard.dtypes import FloatArray, IntArray
from fairguard.judge.intervals import share

CHURN_PRIOR_ROWS = 30.0
"""Rows at the rest's churn that a group's own is pulled toward: ten rows without a flip do not prove stability."""
LIKELY = 20
"""Excesses, equally likely in the light of the rows at hand, over which a decision is weighed."""
HALVINGS = 30
"""Steps of the search for the smallest detectable excess; the answer is then exact to 1e-9."""


@dataclass(frozen=True, eq=False)
class LossRates:
    """What groups and their rests lose, and on how many rows; all fields are of one shape, or broadcast.

    Attributes:
        n: rows in the group's denominator.
        n_rest: rows of everybody else.
        churn: ``(harmed + helped) / n`` of the group.
        churn_rest: the same of everybody else.
        loss: ``(harmed - helped) / n`` of the group.
        loss_rest: the same of everybody else.
    """

    n: FloatArray
    n_rest: FloatArray
    churn: FloatArray
    churn_rest: FloatArray
    loss: FloatArray
    loss_rest: FloatArray

    @classmethod
    def of(
        cls, b: IntArray, c: IntArray, n: IntArray, b_rest: IntArray, c_rest: IntArray, n_rest: IntArray
    ) -> LossRates:
        """Return the rates of counts: rows harmed, helped and in all of the group, and of everybody else."""
        return cls(
            n=n.astype(np.float64),
            n_rest=n_rest.astype(np.float64),
            churn=share(b + c, n),
            churn_rest=share(b_rest + c_rest, n_rest),
            loss=share(b - c, n),
            loss_rest=share(b_rest - c_rest, n_rest),
        )

    @property
    def ratio(self) -> FloatArray:
        """Return the group's rows for one of everybody else's."""
        return share(self.n, self.n_rest)

    @property
    def excess(self) -> FloatArray:
        """Return what the group lost beyond everybody else."""
        return self.loss - self.loss_rest

    @property
    def steadied(self) -> LossRates:
        """Return the rates with the group's churn pulled toward that of the rest by :data:`CHURN_PRIOR_ROWS` rows."""
        prior = CHURN_PRIOR_ROWS
        return replace(self, churn=(self.n * self.churn + prior * self.churn_rest) / (self.n + prior))

    def with_excess(self, excess: float | FloatArray) -> LossRates:
        """Return the rates if each group in turn had this excess, by harmful flips alone, over a rest as it is."""
        loss = self.loss_rest + excess
        return replace(self, loss=loss, churn=np.maximum(self.churn + loss - self.loss, np.abs(loss)))


class Criteria(NamedTuple):
    """What a decision has to meet; arrays broadcast with the rates.

    Attributes:
        margin: tolerated excess.
        z_family: critical value of the family, for evidence of harm.
        z_alpha: critical value of a single bound, for evidence of safety.
        strict: harm must be proven to exceed the margin, not just zero.
    """

    margin: float | FloatArray
    z_family: float | FloatArray
    z_alpha: float
    strict: bool = False


@np.errstate(divide="ignore", invalid="ignore")
def rows_needed(rates: LossRates, criteria: Criteria, *, power: float = 0.8) -> FloatArray:
    """Return the rows in the group that would decide with chance ``power`` if its present loss is the true one.

    An estimate at or above the margin needs rows to prove the harm, one below it needs rows to rule the margin out.
    The rest is assumed to grow in proportion. ``nan`` where no number of rows decides (an estimate at the boundary).
    """
    margin, z_family, z_alpha, strict = criteria
    harm = rates.excess >= margin
    proof = _score_size(
        rates.steadied, np.where(harm & (not strict), 0.0, margin), np.where(harm, z_family, z_alpha), power
    )
    above = _score_size(rates.steadied, margin, 0.0, power)
    clear = _exact_size(proof, margin - rates.excess, rates.ratio, z_alpha)
    return np.where(harm, np.maximum(proof, above), clear)  # proven harm fails only where it exceeds the margin, too


@np.errstate(divide="ignore", invalid="ignore")
def rows_to_decide(rates: LossRates, criteria: Criteria, *, power: float = 0.8) -> FloatArray:
    """Return the rows in the group that would decide, either way, with chance ``power`` in the light of those at hand.

    The present estimate is not the truth. Taken for it, an estimate at the margin by accident would ask for billions of
    rows, and one beyond it by accident for too few; so the answer suffices for a share ``power`` of the excesses that
    are likely after these rows (normal, by their standard error). ``nan`` where group or rest has no rows.

    Source: "assurance", O'Hagan, Stevens and Campbell, Pharmaceutical Statistics 4 (2005) 187-201.
    """
    variance = np.maximum(rates.steadied.churn - rates.loss**2, 0.0) / rates.n
    variance = variance + np.maximum(rates.churn_rest - rates.loss_rest**2, 0.0) / rates.n_rest
    steps = ndtri((np.arange(LIKELY) + 0.5) / LIKELY).reshape(-1, *np.ones(variance.ndim, dtype=int))
    likely = replace(rates, loss=np.clip(rates.loss + steps * np.sqrt(variance), -1.0, 1.0))
    rows = rows_needed(likely, criteria, power=power)
    return np.asarray(np.sort(rows, axis=0)[int(np.ceil(power * LIKELY)) - 1])


@np.errstate(divide="ignore", invalid="ignore")
def detectable(rates: LossRates, criteria: Criteria, *, power: float = 0.8) -> FloatArray:
    """Return the smallest true excess that the rows at hand would show as a regression with chance ``power``.

    The group's loss is imagined to change by harmful flips alone. ``nan`` where even total loss would not be shown.
    """
    margin, z_family, _, strict = criteria

    def enough(excess: FloatArray) -> NDArray[np.bool_]:
        planted = rates.steadied.with_excess(excess)
        proof = _score_size(planted, margin * strict, z_family, power)
        above = _score_size(planted, margin, 0.0, power)
        return np.asarray((excess > margin) & (np.maximum(proof, above) <= rates.n))

    low = np.zeros(np.broadcast(rates.churn, rates.n, z_family, margin).shape)
    high = np.broadcast_to(1.0 - rates.loss_rest, low.shape)
    reachable = enough(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        shown = enough(middle)
        low, high = np.where(shown, low, middle), np.where(shown, middle, high)
    return np.where(reachable, high, np.nan)


@np.errstate(divide="ignore", invalid="ignore")
def rows_to_certify(rates: LossRates, criteria: Criteria) -> FloatArray:
    """Return the rows that a group without a single flip needs before its upper bound falls below the margin.

    :func:`fairguard.judge.intervals.without_flips`, solved for the rows: about ``3 / margin`` at 95 %, beside a large
    rest. Of the rates only the numbers of rows count: the rest, which shall have no flip either, grows in proportion.
    """
    z = criteria.z_alpha
    own = criteria.margin / np.hypot(1.0, rates.ratio)  # limits go with the rows, about, and add up by Pythagoras
    score, exact = z**2 * (1.0 - own) / own, log_ndtr(-z) / np.log1p(-own)
    return np.asarray(np.floor(np.maximum(score, exact)) + 1.0)


def _null_variance(churn: FloatArray, loss: FloatArray, theta: FloatArray) -> FloatArray:
    """Return a row's variance if the true loss were ``theta`` and all else as likely as the data allow (Tango 1998)."""
    helped = np.maximum(churn - loss, 0.0) / 2.0
    b = -churn + (2.0 - loss) * theta
    c = -helped * theta * (1.0 - theta)
    q = (np.sqrt(np.maximum(b * b - 8.0 * c, 0.0)) - b) / 4.0
    return np.asarray(np.maximum(2.0 * q + theta * (1.0 - theta), 0.0))


def _score_size(
    rates: LossRates, boundary: float | FloatArray, critical: float | FloatArray, power: float
) -> FloatArray:
    """Return n with ``(z sqrt(V at the boundary) + z_power sqrt(V at the truth))^2 / distance^2``."""
    loss, loss_rest, ratio = rates.loss, rates.loss_rest, rates.ratio
    churn, churn_rest = np.maximum(rates.churn, np.abs(loss)), np.maximum(rates.churn_rest, np.abs(loss_rest))
    distance = loss_rest + boundary - loss
    # MOVER adds the two halves by Pythagoras, so each limit has to move by its own part of the way only.
    own, others = distance / np.sqrt(1.0 + ratio), distance * np.sqrt(ratio / (1.0 + ratio))
    at_truth = churn - loss**2 + (churn_rest - loss_rest**2) * ratio
    at_boundary = (
        _null_variance(churn, loss, loss + own) + _null_variance(churn_rest, loss_rest, loss_rest - others) * ratio
    )
    rows = (critical * np.sqrt(at_boundary) + ndtri(power) * np.sqrt(at_truth)) ** 2 / distance**2
    return np.where(np.isfinite(rows), rows, np.nan)


def _exact_size(rows: FloatArray, distance: FloatArray, ratio: FloatArray, z: float) -> FloatArray:
    """Return the rows where the limit is not the score limit but, if higher, the exact one.

    The exact limit of a count lies some ``2/3 - z^2/6`` of a row above the score limit, whatever the count; each half
    moves by that over its rows. Solved for the rows as with a continuity correction (Fleiss, Statistical Methods for
    Rates and Proportions, 1981, section 3.2).
    """
    step = max(2.0 / 3.0 - z**2 / 6.0, 0.0) * (1.0 + ratio**1.5) / np.sqrt(1.0 + ratio)
    lifted: FloatArray = (np.sqrt(rows) + np.sqrt(rows + 4.0 * step / distance)) ** 2 / 4.0
    return lifted


def rounded_up(rows: float) -> int:
    """Return a number of rows rounded up to two digits that count: more would promise a precision that is not there."""
    unit = int(10 ** max(int(np.log10(max(rows, 1.0))) - 1, 0))
    return int(np.ceil(rows / unit)) * unit
