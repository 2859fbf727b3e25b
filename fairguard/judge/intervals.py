"""Limits for a paired loss and for the excess of one group's loss over the rest's.

Score limits (Tango's) are what harm is proven with, beside a second witness. They promise too much where few flips are
expected: without one, 95 % certainty takes 3.0 / n, not their 2.7 / n. What is ruled out has no second witness, so its
limit is never below the exact one. ``benchmarks/calibration.md`` enumerates how often either errs.

Closed over arrays of any shape, so that a verdict and a simulation of thousands of data sets run the same lines. Knows
counts and critical values only: nothing of groups, metrics or policies.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainccinv, betaincinv, log_ndtr, ndtr

from fairguard.dtypes import FloatArray

_TOLERANCE = 1e-12
_STEPS = 64
"""Bisection alone would need 41 steps for the tolerance; Newton's steps bring most entries there in six."""


def tango(b: ArrayLike, c: ArrayLike, n: ArrayLike, z: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper score limits of a paired loss ``(b - c) / n``, each one-sided at critical value ``z``.

    Where no row changed the limits are ``-+z^2 / (n + z^2)``, not a point. ``nan`` where ``n`` is 0.

    Args:
        b: rows harmed, any shape; all four arguments broadcast.
        c: rows helped.
        n: rows in the denominator.
        z: critical value, positive.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908, section 3.
    """
    return tango_lower(b, c, n, z), -tango_lower(c, b, n, z)


def mover(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, b_rest: ArrayLike, c_rest: ArrayLike, n_rest: ArrayLike, z: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return lower and upper limits of the excess ``(b - c)/n - (b_rest - c_rest)/n_rest``, each one-sided at ``z``.

    Tango's limits of the two independent losses, combined by the method of variance estimates recovery. ``nan`` where
    either denominator is 0.

    Source: Zou and Donner, Statistics in Medicine 27 (2008) 1693-1702; Newcombe, Statistics in Medicine 17 (1998) 873.
    """
    return mover_lower(b, c, n, b_rest, c_rest, n_rest, z), -mover_lower(c, b, n, c_rest, b_rest, n_rest, z)


def mover_lower(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, b_rest: ArrayLike, c_rest: ArrayLike, n_rest: ArrayLike, z: ArrayLike
) -> FloatArray:
    """Return the lower limit of :func:`mover` alone, at half the cost."""
    counts = (np.asarray(x, dtype=np.float64) for x in (b, c, n, b_rest, c_rest, n_rest))
    b, c, n, b_rest, c_rest, n_rest = np.broadcast_arrays(*counts)
    loss, loss_rest = share(b - c, n), share(b_rest - c_rest, n_rest)
    # Both limits in one search: its cost is the steps, hardly the entries.
    own, mirrored = tango_lower(np.stack([b, c_rest]), np.stack([c, b_rest]), np.stack([n, n_rest]), z)
    limit: FloatArray = loss - loss_rest - np.hypot(loss - own, -mirrored - loss_rest)
    return limit


def excess_upper(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, b_rest: ArrayLike, c_rest: ArrayLike, n_rest: ArrayLike, z: ArrayLike
) -> FloatArray:
    """Return an upper limit of the excess that errs no more often than ``z`` says, however few rows changed.

    :func:`loss_upper` of the group and of the mirrored rest, combined as in :func:`mover`, and never below that. Counts
    may be fractions. ``nan`` where either denominator is 0.
    """
    counts = (np.asarray(x, dtype=np.float64) for x in (b, c, n, b_rest, c_rest, n_rest))
    b, c, n, b_rest, c_rest, n_rest = np.broadcast_arrays(*counts)
    loss, loss_rest = share(b - c, n), share(b_rest - c_rest, n_rest)
    own, mirrored = loss_upper(np.stack([b, c_rest]), np.stack([c, b_rest]), np.stack([n, n_rest]), z)
    limit: FloatArray = loss - loss_rest + np.hypot(own - loss, mirrored + loss_rest)
    return limit


def loss_upper(b: ArrayLike, c: ArrayLike, n: ArrayLike, z: ArrayLike) -> FloatArray:
    """Return an upper limit of a paired loss: Tango's, or that of exact limits of both shares where it is higher.

    Arguments as for :func:`tango`. The exact limits (Clopper and Pearson's) of the shares harmed and helped are
    combined by the method of variance estimates recovery; where nobody was helped the limit is itself exact.
    """
    b, c, n, z = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (b, c, n, z)))
    tail = ndtr(-z)
    with np.errstate(invalid="ignore", divide="ignore"):
        most = np.where(b < n, betainccinv(b + 1, n - b, tail), 1.0)
        least = np.where(c > 0, betaincinv(c, n - c + 1, tail), 0.0)
        exact = (b - c) / n + np.hypot(most - b / n, c / n - least)
    return np.asarray(np.maximum(exact, -tango_lower(c, b, n, z)))


def without_flips(n: ArrayLike, n_rest: ArrayLike, z: ArrayLike) -> FloatArray:
    """Return :func:`excess_upper` where not a single row changed, in closed form."""
    n, n_rest, z = (np.asarray(x, dtype=np.float64) for x in (n, n_rest, z))

    def upper(rows: FloatArray) -> FloatArray:
        return np.asarray(np.maximum(z**2 / (rows + z**2), -np.expm1(log_ndtr(-z) / rows)))

    with np.errstate(invalid="ignore", divide="ignore"):
        limit: FloatArray = np.where((n > 0) & (n_rest > 0), np.hypot(upper(n), upper(n_rest)), np.nan)
    return limit


def tango_lower(b: ArrayLike, c: ArrayLike, n: ArrayLike, z: ArrayLike) -> FloatArray:
    """Return the lower limit of :func:`tango` alone, at half the cost."""
    b, c, n, z = np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (b, c, n, z)))
    limit = np.full(b.shape, np.nan)
    asked = n > 0
    limit[asked] = _newton(b[asked], c[asked], n[asked], z[asked])
    return limit


def beyond(more: int, fewer: int, limit: float, *, allowed: float = 0.0) -> bool:
    """Return whether ``more`` flips one way exceed ``fewer`` the other way, by McNemar's test, continuity corrected."""
    excess = more - fewer - allowed
    return excess > 0 and (excess - 1) / math.sqrt(more + fewer) > limit


def share(part: ArrayLike, whole: ArrayLike) -> FloatArray:
    """Return ``part / whole``, ``nan`` where both are 0; last axes that ``part`` has alone share one ``whole``."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: FloatArray = part / whole.reshape(whole.shape + (1,) * (part.ndim - whole.ndim))
    return shares


def _newton(b: FloatArray, c: FloatArray, n: FloatArray, z: FloatArray) -> FloatArray:
    """Return the root of :func:`_score` in [-1, (b - c)/n), by Newton's steps kept inside a shrinking bracket."""
    low, high = np.full_like(b, -1.0), (b - c) / n
    root = np.clip(_wilson(b, c, n, z), low, high)
    answer = np.empty_like(b)
    places: NDArray[np.intp] = np.arange(len(b))
    for _ in range(_STEPS):
        if not len(places):
            break
        score, slope = _score(root, b, c, n, z)
        low, high = np.where(score > 0, root, low), np.where(score > 0, high, root)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = root - score / slope
        # The upper end is a second root where all or no rows changed, so it is never stepped on.
        step = np.where((step > low) & (step < high), step, (low + high) / 2)
        moving = np.abs(step - root) >= _TOLERANCE
        answer[places] = root = step
        if moving.mean() < 0.7:
            places = places[moving]
            b, c, n, z, root, low, high = (x[moving] for x in (b, c, n, z, root, low, high))
    return answer


def _wilson(b: FloatArray, c: FloatArray, n: FloatArray, z: FloatArray) -> FloatArray:
    """Return a first guess: the score limit for a mean whose variance is the one observed."""
    mean = (b - c) / n
    variance = np.maximum((b + c) / n - mean**2, 0.0)
    guess: FloatArray = (n * mean - z * z / 2 - z * np.sqrt(n * variance + z * z / 4)) / (n + z * z)
    return guess


def _score(
    theta: FloatArray, b: FloatArray, c: FloatArray, n: FloatArray, z: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return ``b - c - n theta - z sd(theta)`` and its slope in ``theta``.

    ``sd`` is the standard deviation of ``b - c`` under the restricted estimate ``q`` of the share helped, the root of
    ``2n q^2 + B q - c theta (1 - theta) = 0``, written so that no two nearly equal numbers are subtracted.
    """
    spread, product = 2 * n - b + c, theta * (1 - theta)
    big_b = spread * theta - b - c
    root = np.sqrt(np.maximum(big_b**2 + 8 * n * c * product, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.where(big_b > 0, 2 * c * product / (big_b + root), (root - big_b) / (4 * n))
        sd = np.sqrt(np.maximum(n * (2 * q + product), 0.0))
        q_slope = (c * (1 - 2 * theta) - spread * q) / root
        slope = -n - z * n * (2 * q_slope + 1 - 2 * theta) / (2 * sd)
    return b - c - n * theta - z * sd, slope
