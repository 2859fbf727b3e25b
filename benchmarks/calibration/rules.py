"""The rules under test: the shipped judge, its two halves, and what others use; each says which data sets fail.

The shipped rule is the shipped code. Its cheap half, the score limits, runs over all samples at once; only samples that
it does not clear are handed to the whole rule, whose word is final.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom, norm

from benchmarks.calibration.worlds import ANSWERS, Drawer, World
from fairguard.dtypes import FloatArray, IntArray
from fairguard.judge.evidence import evidence_of
from fairguard.judge.intervals import excess_upper, mover_lower
from fairguard.judge.permutation import adjusted_p_values

ALPHA = 0.05
SLACK = 0.25
"""How far below the typical critical value a sample's own may lie; samples within it are judged in full."""


def judged(world: World, drawer: Drawer, samples: IntArray) -> dict[str, FloatArray]:
    """Return, for each sample, 1.0 where each half of the gate and the whole gate say so, shape (tables,).

    ``mover``: regressed by the score limits alone; ``both``: by the shipped rule; ``found``: the planted group
    regressed; ``other``: another one did; ``preserved``: the all-clear.
    """
    policy = world.policy
    counts = drawer.counts(samples)
    typical = evidence_of(drawer.family, policy)
    partition = not drawer.family.overlapping and len(drawer.family.estimands) == 1
    slack = 0.0 if partition else SLACK
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = (counts[0] - counts[1]) / counts[2] - (counts[3] - counts[4]) / counts[5]
        harmed = (mover_lower(*counts, typical.z_family - slack) > 0) & (excess >= policy.margin)
        clear = (excess_upper(*counts, typical.z_alpha) < policy.margin) | (
            excess < policy.margin
        ) & ~typical.certifiable
    suspects = harmed.any(axis=1)
    said = {name: np.zeros(len(samples)) for name in ("mover", "both", "found", "other")}
    said["preserved"] = (~suspects & clear.all(axis=1)).astype(float)
    group_names = [drawer.family.grouping.groups[g].name for g in drawer.family.group]
    planted = np.array([name == world.planted for name in group_names])
    for i in np.flatnonzero(suspects):
        evidence = evidence_of(world.family(samples[i]), policy)
        said["mover"][i] = ((evidence.lower > 0) & (evidence.excess >= policy.margin)).any()
        said["both"][i] = evidence.regressed.any()
        said["found"][i] = evidence.regressed[planted].any()
        said["other"][i] = evidence.regressed[~planted].any()
    return said


def permuted(world: World, samples: IntArray) -> FloatArray:
    """Return 1.0 for each sample that the permutation alone would fail, shape (tables,)."""
    alpha = world.policy.alpha
    return np.array(
        [
            (adjusted_p_values(world.family(sample), alpha=alpha, permutations=1_999, seed=0).p <= alpha).any()
            for sample in samples
        ],
        dtype=float,
    )


def naive(drawer: Drawer, samples: IntArray) -> dict[str, FloatArray]:
    """Return, for each sample, 1.0 where a rule in use elsewhere fails it, shape (tables,)."""
    rows = np.einsum("sa,tak->tsk", drawer.family.member.astype(np.float64), samples[:, drawer.order], optimize=True)
    y, dense, pruned = ANSWERS.T
    n = rows.sum(axis=2)
    before, after = (rows @ (x == y) / n for x in (dense, pruned))
    b, c = rows @ ((dense == y) & (pruned != y)), rows @ ((dense != y) & (pruned == y))
    total = samples.sum(axis=(1, 2))[:, None]
    whole = samples.sum(axis=1)
    b_all, c_all = (whole @ ((dense == y) & (pruned != y)))[:, None], (whole @ ((dense != y) & (pruned == y)))[:, None]
    gap = np.ptp(after, axis=1) - np.ptp(before, axis=1)
    eag = (b - c) / n - (b_all - c_all) / total
    said = {
        "gap grew > 2pt": gap > 0.02,
        "EAG > 2pt": eag.max(axis=1) > 0.02,
        "EAG > 5pt": eag.max(axis=1) > 0.05,
        "Welch per group": (_welch(b, c, n, b_all - b, c_all - c, total - n) > norm.isf(ALPHA)).any(axis=1),
        "McNemar Holm": (_mcnemar(b, c) <= ALPHA / n.shape[1]).any(axis=1),
    }
    return {name: fails.astype(float) for name, fails in said.items()}


def bootstrapped(drawer: Drawer, samples: IntArray, *, rng: np.random.Generator, replicates: int = 400) -> FloatArray:
    """Return 1.0 where the 5 % quantile of a group's bootstrapped excess is above 0, uncorrected, shape (tables,)."""
    b, c, n, b_rest, c_rest, n_rest = drawer.counts(samples)
    excess = _resampled(rng, b, c, n, replicates) - _resampled(rng, b_rest, c_rest, n_rest, replicates)
    return (np.quantile(excess, ALPHA, axis=0) > 0).any(axis=1).astype(float)


def _resampled(rng: np.random.Generator, b: FloatArray, c: FloatArray, n: FloatArray, replicates: int) -> FloatArray:
    shares = np.stack([b, c, n - b - c], axis=-1) / n[..., None]
    drawn = rng.multinomial(n.astype(np.int64), shares, (replicates, *n.shape))
    return np.asarray((drawn[..., 0] - drawn[..., 1]) / n)


def _welch(
    b: FloatArray, c: FloatArray, n: FloatArray, b_rest: FloatArray, c_rest: FloatArray, n_rest: FloatArray
) -> FloatArray:
    def mean_and_square(b: FloatArray, c: FloatArray, n: FloatArray) -> tuple[FloatArray, FloatArray]:
        mean = (b - c) / n
        return mean, ((b + c) / n - mean**2) / n

    (mean, square), (mean_rest, square_rest) = mean_and_square(b, c, n), mean_and_square(b_rest, c_rest, n_rest)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.nan_to_num((mean - mean_rest) / np.sqrt(square + square_rest)))


def _mcnemar(b: FloatArray, c: FloatArray) -> FloatArray:
    """Return the exact one-sided p value of "this group changed to its harm at all"."""
    return np.asarray(binom.sf(b - 1, b + c, 0.5))
