"""How many rows would decide, and how small an excess the rows at hand would show. Knows nothing of tables or groups.

The formulas are those of the score test (Nam 1997; Tango 1998): the variance at the boundary of the hypothesis belongs
to the error rate, the variance at the truth to the power. Their common normal approximation, one variance for both, is
optimistic where flips are rare: it asks for no rows at all where none has flipped yet. All arrays broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

FloatArray = NDArray[np.float64]

CHURN_PRIOR_ROWS = 30.0
"""Rows at the rest's churn that a group's own is pulled toward: ten rows without a flip do not prove stability."""
LIKELY = 20
"""Excesses, equally likely in the light of the rows at hand, over which a decision is weighed."""
HALVINGS = 30
"""Steps of the search for the smallest detectable excess; the answer is then exact to 1e-9."""


@np.errstate(divide="ignore", invalid="ignore")
def rows_needed(
    *,
    churn: ArrayLike,
    churn_rest: ArrayLike,
    n: ArrayLike,
    n_rest: ArrayLike,
    loss: ArrayLike,
    loss_rest: ArrayLike,
    margin: ArrayLike,
    z_family: ArrayLike,
    z_alpha: float,
    strict: bool = False,
    power: float = 0.8,
) -> FloatArray:
    """Return the rows in the group that would decide with chance ``power`` if its present loss is the true one.

    An estimate at or above the margin needs rows to prove the harm, one below it needs rows to rule the margin out.
    The rest is assumed to grow in proportion. ``nan`` where no number of rows decides (an estimate at the boundary).

    Args:
        churn: ``(harmed + helped) / n`` of the group.
        churn_rest: the same of everybody else.
        n: rows in the group's denominator.
        n_rest: rows of everybody else.
        loss: ``(harmed - helped) / n`` of the group.
        loss_rest: the same of everybody else.
        margin: tolerated excess.
        z_family: critical value of the family, for evidence of harm.
        z_alpha: critical value of a single bound, for evidence of safety.
        strict: harm must be proven to exceed the margin, not just zero.
        power: chance to decide.
    """
    loss, loss_rest, margin = map(_array, (loss, loss_rest, margin))
    churn = steadied_churn(churn, churn_rest, n=n)
    excess = loss - loss_rest
    harm = excess >= margin
    boundary = np.where(harm & (not strict), 0.0, margin)
    critical = np.where(harm, z_family, z_alpha)
    ratio = _array(n) / _array(n_rest)
    proof = _score_size(churn, loss, _array(churn_rest), loss_rest, boundary, critical, ratio, power)
    above = _score_size(churn, loss, _array(churn_rest), loss_rest, margin, _array(0.0), ratio, power)
    return np.where(harm, np.maximum(proof, above), proof)  # proven harm fails only where it exceeds the margin, too


@np.errstate(divide="ignore", invalid="ignore")
def rows_to_decide(
    *,
    churn: ArrayLike,
    churn_rest: ArrayLike,
    n: ArrayLike,
    n_rest: ArrayLike,
    loss: ArrayLike,
    loss_rest: ArrayLike,
    margin: ArrayLike,
    z_family: ArrayLike,
    z_alpha: float,
    strict: bool = False,
    power: float = 0.8,
) -> FloatArray:
    """Return the rows in the group that would decide, either way, with chance ``power`` in the light of those at hand.

    The present estimate is not the truth. Taken for it, an estimate at the margin by accident would ask for billions of
    rows, and one beyond it by accident for too few; so the answer suffices for a share ``power`` of the excesses that
    are likely after these rows (normal, by their standard error). ``nan`` where group or rest has no rows.

    Arguments as for :func:`rows_needed`. Source: "assurance", O'Hagan, Stevens and Campbell, Pharmaceutical Statistics
    4 (2005) 187-201.
    """
    steadied, churn_rest = steadied_churn(churn, churn_rest, n=n), _array(churn_rest)
    loss, loss_rest = _array(loss), _array(loss_rest)
    variance = np.maximum(steadied - loss**2, 0.0) / _array(n)
    variance = variance + np.maximum(churn_rest - loss_rest**2, 0.0) / _array(n_rest)
    steps = ndtri((np.arange(LIKELY) + 0.5) / LIKELY).reshape(-1, *np.ones(variance.ndim, dtype=int))
    rows = rows_needed(
        churn=churn,
        churn_rest=churn_rest,
        n=n,
        n_rest=n_rest,
        loss=np.clip(loss + steps * np.sqrt(variance), -1.0, 1.0),
        loss_rest=loss_rest,
        margin=margin,
        z_family=z_family,
        z_alpha=z_alpha,
        strict=strict,
        power=power,
    )
    return np.asarray(np.sort(rows, axis=0)[int(np.ceil(power * LIKELY)) - 1])


@np.errstate(divide="ignore", invalid="ignore")
def detectable(
    *,
    churn: ArrayLike,
    churn_rest: ArrayLike,
    n: ArrayLike,
    n_rest: ArrayLike,
    loss: ArrayLike,
    loss_rest: ArrayLike,
    z_family: ArrayLike,
    margin: ArrayLike = 0.0,
    strict: bool = False,
    power: float = 0.8,
) -> FloatArray:
    """Return the smallest true excess that the rows at hand would show as a regression with chance ``power``.

    The group's loss is imagined to change by harmful flips alone. ``nan`` where even total loss would not be shown.
    Arguments as for :func:`rows_needed`.
    """
    loss, loss_rest, n, n_rest, margin = map(_array, (loss, loss_rest, n, n_rest, margin))
    churn, boundary = steadied_churn(churn, churn_rest, n=n), margin * strict

    def enough(excess: FloatArray) -> NDArray[np.bool_]:
        planted = loss_rest + excess
        rates = (churn + planted - loss, planted, _array(churn_rest), loss_rest)
        proof = _score_size(*rates, boundary, _array(z_family), n / n_rest, power)
        above = _score_size(*rates, margin, _array(0.0), n / n_rest, power)
        return np.asarray((excess > margin) & (np.maximum(proof, above) <= n))

    low = np.zeros(np.broadcast(churn, n, z_family, margin).shape)
    high = np.broadcast_to(1.0 - loss_rest, low.shape)
    reachable = enough(high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        shown = enough(middle)
        low, high = np.where(shown, low, middle), np.where(shown, middle, high)
    return np.where(reachable, high, np.nan)


def rows_to_certify(margin: ArrayLike, *, z_alpha: float, loss_rest: ArrayLike = 0.0) -> FloatArray:
    """Return the rows that a group without a single flip needs before its upper bound falls below the margin.

    Tango's upper limit at no flips is ``z^2 / (n + z^2)``.
    """
    edge = _array(margin) + np.maximum(_array(loss_rest), 0.0)
    return np.ceil(z_alpha**2 * (1.0 - edge) / edge)


def steadied_churn(churn: ArrayLike, churn_rest: ArrayLike, *, n: ArrayLike) -> FloatArray:
    """Return the group's churn, pulled toward that of the rest by :data:`CHURN_PRIOR_ROWS` rows."""
    own, prior = _array(n), CHURN_PRIOR_ROWS
    return (own * _array(churn) + prior * _array(churn_rest)) / (own + prior)


def _array(values: ArrayLike) -> FloatArray:
    return np.asarray(values, dtype=np.float64)


def null_variance(churn: ArrayLike, loss: ArrayLike, theta: ArrayLike) -> FloatArray:
    """Return a row's variance if the true loss were ``theta`` and all else as likely as the data allow (Tango 1998)."""
    churn, loss, theta = map(_array, (churn, loss, theta))
    helped = np.maximum(churn - loss, 0.0) / 2.0
    b = -churn + (2.0 - loss) * theta
    c = -helped * theta * (1.0 - theta)
    q = (np.sqrt(np.maximum(b * b - 8.0 * c, 0.0)) - b) / 4.0
    return np.asarray(np.maximum(2.0 * q + theta * (1.0 - theta), 0.0))


def _score_size(
    churn: FloatArray,
    loss: FloatArray,
    churn_rest: FloatArray,
    loss_rest: FloatArray,
    boundary: FloatArray,
    critical: FloatArray,
    ratio: FloatArray,
    power: float,
) -> FloatArray:
    """Return n with ``(z sqrt(V at the boundary) + z_power sqrt(V at the truth))^2 / distance^2``."""
    churn, churn_rest = np.maximum(churn, np.abs(loss)), np.maximum(churn_rest, np.abs(loss_rest))
    distance = loss_rest + boundary - loss
    # MOVER adds the two halves by Pythagoras, so each limit has to move by its own part of the way only.
    own, others = distance / np.sqrt(1.0 + ratio), distance * np.sqrt(ratio / (1.0 + ratio))
    at_truth = churn - loss**2 + (churn_rest - loss_rest**2) * ratio
    at_boundary = (
        null_variance(churn, loss, loss + own) + null_variance(churn_rest, loss_rest, loss_rest - others) * ratio
    )
    rows = (critical * np.sqrt(at_boundary) + ndtri(power) * np.sqrt(at_truth)) ** 2 / distance**2
    return np.where(np.isfinite(rows), rows, np.nan)


def rounded_up(rows: float) -> int:
    """Return a number of rows rounded up to two digits that count: more would promise a precision that is not there."""
    unit = int(10 ** max(int(np.log10(max(rows, 1.0))) - 1, 0))
    return int(np.ceil(rows / unit)) * unit
