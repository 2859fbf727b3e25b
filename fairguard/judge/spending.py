"""How much of the error rate each look at growing data may spend. Knows nothing of counts, groups or files.

Looking five times at a fixed level triples the chance of a false alarm. O'Brien and Fleming's plan, in the spending
form of Lan and DeMets (1983, Biometrika 70), spends next to nothing early and nearly everything at the last look.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial.legendre import leggauss
from scipy.optimize import brentq
from scipy.stats import norm

from fairguard.dtypes import FloatArray
from fairguard.policy import Policy

GRID = 160
"""Gauss-Legendre nodes by look; the total is then right to 1e-8."""
DEEP = 12.0
"""Standard deviations below zero at which the paths are cut off."""


def spent_alpha(alpha: float, looks: int, look: int, *, comparisons: int = 1) -> float:
    """Return the level to use at ``look`` of ``looks`` equally spaced looks, so that all looks together err ``alpha``.

    Args:
        alpha: one-sided error rate over all looks and the whole family.
        looks: how many looks are planned.
        look: which of them this is, from 1 to ``looks``.
        comparisons: size of the family; each member then spends its own ``alpha / comparisons``, and the returned level
            is that of the whole family again. With 1, the family counts as a single statistic.
    """
    if looks == 1:
        return alpha
    return comparisons * float(norm.sf(_boundaries(alpha / comparisons, looks)[look - 1]))


def level_of(policy: Policy) -> float:
    """Return the level of a single finding's upper bound: ``alpha``, or what this look spends of it."""
    return spent_alpha(policy.alpha, policy.looks, policy.look)


def cumulative_spending(alpha: float, share: float) -> float:
    """Return what is spent of one-sided ``alpha`` at ``share`` t of the data: ``2 - 2 Phi(z_{alpha/2}/sqrt t)``."""
    return float(2.0 * norm.sf(norm.isf(alpha / 2.0) / np.sqrt(share)))


@cache
def _boundaries(alpha: float, looks: int) -> tuple[float, ...]:
    """Return the critical z of every look, by the recursion of Armitage, McPherson and Rowe (1969)."""
    shares = np.arange(1, looks + 1) / looks
    spent = [cumulative_spending(alpha, share) for share in shares]
    nodes, weights = leggauss(GRID)
    step = 1.0 / np.sqrt(looks)  # standard deviation of the score's increment between looks
    first = float(norm.isf(spent[0]))
    found = [first]
    bound = first * np.sqrt(shares[0])
    density = _Paths.start(nodes, weights, bound, step)
    for k in range(1, looks):
        bound = brentq(lambda x, d=density, k=k: d.crossing(x, step) - (spent[k] - spent[k - 1]), 0.0, 8.0, xtol=1e-10)
        density = density.advance(nodes, weights, bound, step)
        found.append(float(bound / np.sqrt(shares[k])))
    return tuple(found)


class _Paths:
    """Sub-density of the score of the paths that crossed no boundary yet, at quadrature points below the last one."""

    def __init__(self, points: FloatArray, mass: FloatArray) -> None:
        self.points = points
        self.mass = mass
        """Density times quadrature weight."""

    @classmethod
    def start(cls, nodes: FloatArray, weights: FloatArray, bound: float, step: float) -> _Paths:
        return cls(np.zeros(1), np.ones(1)).advance(nodes, weights, bound, step)

    def crossing(self, bound: float, step: float) -> float:
        """Return the chance that the next look is the first above ``bound``."""
        return float(self.mass @ norm.sf((bound - self.points) / step))

    def advance(self, nodes: FloatArray, weights: FloatArray, bound: float, step: float) -> _Paths:
        """Return the paths that stay below ``bound`` at the next look."""
        low = min(self.points.min() - DEEP * step, bound - DEEP * step)
        half = (bound - low) / 2.0
        points = low + half * (nodes + 1.0)
        density = norm.pdf((points[:, None] - self.points) / step) @ self.mass / step
        return _Paths(points, density * weights * half)
