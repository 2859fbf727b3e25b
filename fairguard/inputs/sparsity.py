"""How many weights are zero, and in which pattern. numpy only: knows no file format."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from fairguard.verdict import Layer

LARGEST_FOR_RANK = 1_024
"""Matrices with a longer shorter side are not decomposed: that would take longer than checking the model."""

N_OF_M = ((2, 4), (1, 2), (1, 4), (4, 8))
"""How many of how many neighbours may live in the patterns that are known, here and in repair."""
EXACT = 0.9
"""Share of the runs of neighbours in which just so many live."""
WIDEST = 8.0
"""How many standard deviations the largest weight of a tensor may be, which fixes the step of its integers."""
BY_CHANCE = 1e-4
"""A pattern that as many zeros anywhere would form with this chance is none."""


def layer_of(name: str, zeros: NDArray[np.bool_], *, dtype: str, weights: NDArray[np.floating] | None = None) -> Layer:
    """Return what is known of one weight tensor.

    Args:
        name: the tensor's name in its file.
        zeros: shape (outputs, inputs, ...), where its entries are exactly zero.
        dtype: how it is stored.
        weights: its values, where a low rank should be looked for.
    """
    sparsity = float(zeros.mean()) if zeros.size else 0.0
    pattern = pattern_of(zeros)
    if pattern == "unstructured" and sparsity < zeros_of_rounding(dtype):
        pattern = "rounded"
    if pattern == "dense" and weights is not None and is_low_rank(weights):
        pattern = "low-rank"
    return Layer(name=name, shape=zeros.shape, dtype=dtype, sparsity=sparsity, pattern=pattern)


def zeros_of_rounding(dtype: str) -> float:
    """Return the share of zeros that rounding to few bits alone may leave; 0 for eight bits and more.

    Bell-shaped weights whose largest is :data:`WIDEST` standard deviations are zero within half a step.
    """
    bits = int(next(iter(re.findall(r"\d+", dtype)), 32))
    return math.erf(WIDEST / 2**bits / math.sqrt(2)) if bits < 8 else 0.0


def pattern_of(zeros: NDArray[np.bool_]) -> str:
    """Return the pattern of a mask of zeros, shape (outputs, inputs, ...): see :class:`fairguard.verdict.Layer`.

    ``filters``: whole outputs are zero, and together they hold at least nine of ten zeros. ``2:4``: of every four
    neighbours two are not zero, now and then fewer; so ``1:2``, ``1:4`` and ``4:8``. Neighbours lie along the inputs
    or along all that one output reads, kernel included. Under one zero in twenty counts as dense,
    because rounding to eight bits alone makes a few.
    """
    if not zeros.size or zeros.mean() < 0.05:
        return "dense"
    if zeros.all():
        return "empty"
    flat = zeros.reshape(len(zeros), -1)
    dead = flat.all(axis=1)
    if dead.any() and dead.sum() * flat.shape[1] >= 0.9 * zeros.sum():
        return "filters"
    return next((f"{n}:{m}" for n, m in N_OF_M if _is_n_of_m(zeros, n, m)), "unstructured")


def _is_n_of_m(zeros: NDArray[np.bool_], n: int, m: int) -> bool:
    """Return whether at most ``n`` of every ``m`` neighbours live, nearly always just so many, and not by chance.

    In any very sparse tensor at most so many do, and in a tensor of few weights just so many may by accident.
    """
    living = 1 - zeros.mean()
    if not EXACT * n / m < living <= n / m or log_chance(n, m, zeros.size) >= math.log(BY_CHANCE):
        return False
    for last in (np.moveaxis(zeros, 1, -1), zeros.reshape(len(zeros), -1)):  # (outputs, ..., inputs), as kernels see it
        if last.shape[-1] % m == 0:
            alive = m - last.reshape(-1, m).sum(axis=1)
            if (alive <= n).all() and (alive == n).mean() > EXACT:
                return True
    return False


def log_chance(n: int, m: int, size: int) -> float:
    """Return the logarithm of the chance, about, that as many zeros anywhere would lie ``n`` of ``m``."""
    exactly = math.comb(m, n) * (n / m) ** n * (1 - n / m) ** (m - n)
    return math.log(exactly) * EXACT * size / m


def is_low_rank(weights: NDArray[np.floating]) -> bool:
    """Return whether two thinner matrices would hold the same weights in less space."""
    if not weights.size:
        return False
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    rows, columns = flat.shape
    if not 2 <= min(rows, columns) <= LARGEST_FOR_RANK or not np.isfinite(flat).all():
        return False
    gram = flat @ flat.T if rows <= columns else flat.T @ flat
    values = np.linalg.eigvalsh(gram)
    # Squared singular values: float32 weights carry 24 bits, so that anything below 2^-40 of the largest is rounding.
    rank = int((values > values[-1] * 2.0**-40).sum())
    return bool(rank * (rows + columns) < rows * columns and rank < min(rows, columns))


def overall(layers: tuple[Layer, ...]) -> float:
    """Return the share of zeros among the entries of all layers; ``nan`` without layers."""
    sizes = [float(np.prod(layer.shape)) for layer in layers]
    total = sum(sizes)
    return sum(size * layer.sparsity for size, layer in zip(sizes, layers, strict=True)) / total if total else np.nan
