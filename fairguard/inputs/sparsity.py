"""How many weights are zero, and in which pattern. numpy only: knows no file format."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fairguard.verdict import Layer

LARGEST_FOR_RANK = 1_024
"""Matrices with a longer shorter side are not decomposed: that would take longer than checking the model."""


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
    if pattern == "dense" and weights is not None and is_low_rank(weights):
        pattern = "low-rank"
    return Layer(name=name, shape=zeros.shape, dtype=dtype, sparsity=sparsity, pattern=pattern)


def pattern_of(zeros: NDArray[np.bool_]) -> str:
    """Return the pattern of a mask of zeros, shape (outputs, inputs, ...): see :class:`fairguard.verdict.Layer`.

    ``filters``: whole outputs are zero, and together they hold at least nine of ten zeros. ``2:4``: two zeros in
    every four neighbours along the inputs, now and then more. Under one zero in twenty counts as dense,
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
    return "2:4" if _two_of_four(zeros) else "unstructured"


def _two_of_four(zeros: NDArray[np.bool_]) -> bool:
    """Return whether of every four neighbours along the inputs at least two are zero, and nearly always just two.

    In any very sparse tensor at least two are.
    """
    if zeros.shape[1] % 4:
        return False
    inputs_last = np.moveaxis(zeros, 1, -1)  # (outputs, kernel..., inputs), as sparse kernels see it
    of_four = inputs_last.reshape(-1, 4).sum(axis=1)
    return bool((of_four >= 2).all() and (of_four == 2).mean() > 0.9)


def is_low_rank(weights: NDArray[np.floating]) -> bool:
    """Return whether two thinner matrices would hold the same weights in less space."""
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
