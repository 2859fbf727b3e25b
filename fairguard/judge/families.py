"""The critical value that a whole family of contrasts shares, so that its chance of any false alarm is ``alpha``.

Groups that overlap and metrics that share rows are correlated; Bonferroni's value would then ask for too much. The
largest of the contrasts is simulated as a Gaussian with their correlations, which the count table holds exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from fairguard.dtypes import FloatArray
from fairguard.judge.contrasts import Family
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE

ATOM_PRIOR_ROWS = 30.0
"""Rows of the whole data's kind mixed into every atom, so that a small atom without a flip has some variance."""
FEWEST, MOST, WORK = 4_000, 20_000, 4_000_000
"""Draws of the maximum: as many as fit in the work (numbers drawn), within these bounds."""
LARGEST = 2_000_000
"""Entries of the atoms' covariances, or of their membership, beyond which Bonferroni's value is used."""
ENOUGH = 40
"""Draws beyond the quantile, fewer of which would not fix it; for so small an ``alpha`` Bonferroni's value is used."""
WIDE = 32
"""Metrics from which their covariances are summed one by one."""
MANY = 300
"""Contrasts of groups without overlap beyond which it is used too: it is then high by less than 0.03."""


def critical_value(family: Family, alpha: float, *, seed: int) -> float:
    """Return the one-sided critical value z of a family whose chance of any false alarm shall be ``alpha``.

    For one metric on groups that do not overlap it is Bonferroni's, which is Holm's first step and there all but exact;
    else the ``1 - alpha`` quantile of the largest contrast as a Gaussian, never above Bonferroni's.

    Source: Hothorn, Bretz and Westfall, Biometrical Journal 50 (2008), section 3 (Gaussian max-T).
    """
    m = len(family)
    maxima = np.empty(0) if not m or _independent_enough(family) else gaussian_maxima(family, seed=seed)
    return value_above(maxima, alpha, comparisons=m)


def value_above(maxima: FloatArray, alpha: float, *, comparisons: int) -> float:
    """Return the ``1 - alpha`` quantile of draws of a family's largest contrast, never above Bonferroni's value.

    Where fewer than :data:`ENOUGH` of the draws lie beyond it, it is Bonferroni's: the largest of ten thousand draws
    is no bar for an early look, which spends a millionth.
    """
    bonferroni = float(-ndtri(alpha / max(comparisons, 1)))
    if alpha * len(maxima) < ENOUGH:
        return bonferroni
    return min(bonferroni, float(np.quantile(maxima, 1.0 - alpha)))


def _independent_enough(family: Family) -> bool:
    a, e = len(family.atoms), len(family.estimands)
    if a * max(e * e, len(family.grouping.groups)) > LARGEST:
        return True
    return not family.overlapping and (len(np.unique(family.estimand)) == 1 or len(family) > MANY)


def gaussian_maxima(family: Family, *, seed: int) -> FloatArray:
    """Return draws of the family's largest standardised contrast if no group lost more than the rest, shape (L,).

    Empty where no row of the data changed at all.
    """
    covariance = atom_covariances(family)
    scale = _scales(family, covariance)
    able = np.isfinite(scale)
    if not able.any():
        return np.empty(0)
    weights = _weights(family.only(able), _square_roots(covariance), scale[able])
    size = sum(weights.shape)
    draws = int(np.clip(WORK // size, FEWEST, MOST))
    rng = np.random.default_rng([seed, 1])
    maxima = np.empty(draws)
    step = max(1, WORK // size)
    for done in range(0, draws, step):
        noise = rng.standard_normal((min(step, draws - done), len(weights)), dtype=np.float32)
        maxima[done : done + step] = (noise @ weights).max(axis=1)
    return maxima


def atom_covariances(family: Family) -> FloatArray:
    """Return each atom's covariance of the sums of its rows' effects under the pooled losses, shape (A, E, E)."""
    harm = (family.effects == HARMED).astype(np.float64) - (family.effects == HELPED)
    inside = family.effects != OUTSIDE
    share = family.atoms.sum(axis=0) / max(family.atoms.sum(), 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        loss = np.nan_to_num((share @ harm) / (share @ inside))
    residual = (harm - loss) * inside
    rows = family.atoms.sum(axis=1, keepdims=True)
    steadied = (family.atoms + ATOM_PRIOR_ROWS * share) * rows / (rows + ATOM_PRIOR_ROWS)
    (a, j), e = steadied.shape, residual.shape[1]
    if e < WIDE or j <= max(a, e):
        return np.asarray(np.einsum("aj,je,jf->aef", steadied, residual, residual, optimize=True))
    return _sums_of_products(steadied, residual)


def _sums_of_products(steadied: FloatArray, residual: FloatArray) -> FloatArray:
    """Return what the einsum above does, to the last bit, where it has no room to take two factors at a time.

    Metric by metric, over the kinds of row that are something to it: of the recalls of a hundred classes each concerns
    the rows of one, and by itself einsum would go through all of them for every pair.
    """
    wide = residual.shape[1]
    covariance = np.empty((len(steadied), wide, wide))
    for e, own in enumerate(residual.T):
        some, start = np.flatnonzero(own), min(e, wide - 2)  # a single column would be summed in another order
        covariance[:, e, start:] = np.einsum("aj,jf->af", steadied[:, some], own[some, None] * residual[some, start:])
        covariance[:, start:, e] = covariance[:, e, start:]
    return covariance


def _scales(family: Family, covariance: FloatArray) -> FloatArray:
    """Return one over the standard deviation of each contrast, ``nan`` where nothing varies, shape (m,)."""
    variance = np.diagonal(covariance, axis1=1, axis2=2)
    inside = (family.member.astype(np.float64) @ variance)[family.group, family.estimand]
    outside = variance.sum(axis=0)[family.estimand] - inside
    with np.errstate(invalid="ignore", divide="ignore"):
        total = inside / family.n**2.0 + outside / family.n_rest**2.0
        scale: FloatArray = np.where(total > 0, 1 / np.sqrt(total), np.nan)
    return scale


def _square_roots(covariance: FloatArray) -> FloatArray:
    """Return roots R with R R' the covariances, shape (A, E, rank); metrics that add up to others add no rank."""
    values, vectors = np.linalg.eigh(covariance)
    needed = values.max(axis=0) > 1e-9 * values.max()
    roots: FloatArray = vectors[:, :, needed] * np.sqrt(np.maximum(values[:, None, needed], 0.0))
    return roots


def _weights(family: Family, roots: FloatArray, scale: FloatArray) -> NDArray[np.float32]:
    """Return what each independent normal adds to each standardised contrast, shape (A * rank, m)."""
    share = np.where(family.member[family.group], 1 / family.n[:, None], -1 / family.n_rest[:, None])
    weights = (share * scale[:, None])[:, :, None] * roots.transpose(1, 0, 2)[family.estimand]
    flat: NDArray[np.float32] = weights.reshape(len(family), -1).T.astype(np.float32)
    return flat
