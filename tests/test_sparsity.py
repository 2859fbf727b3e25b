"""Zeros and their patterns."""

from collections.abc import Callable

import numpy as np
import pytest

from fairguard.inputs.sparsity import is_low_rank, layer_of, overall, pattern_of

RNG = np.random.default_rng(0)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 3, 3)])
def test_a_tensor_without_entries_has_no_pattern(shape: tuple[int, ...]) -> None:
    layer = layer_of("w", np.zeros(shape, dtype=bool), dtype="float32", weights=np.zeros(shape))
    assert (layer.sparsity, layer.pattern) == (0.0, "dense")


def two_of_four(w: np.ndarray) -> None:
    moved = np.moveaxis(w, 1, -1)
    moved[..., 0::4] = moved[..., 2::4] = 0


def half_the_filters(w: np.ndarray) -> None:
    w[::2] = 0


def random_half(w: np.ndarray) -> None:
    w[RNG.random(w.shape) < 0.5] = 0


def random_most(w: np.ndarray) -> None:
    w[RNG.random(w.shape) < 0.95] = 0


def inputs(w: np.ndarray) -> None:
    w[:, ::3] = 0


@pytest.mark.parametrize("shape", [(16, 32), (16, 32, 3, 3)])
@pytest.mark.parametrize(
    ("prune", "pattern"),
    [
        (lambda w: None, "dense"),
        (lambda w: w.fill(0), "empty"),
        (two_of_four, "2:4"),
        (half_the_filters, "filters"),
        (random_half, "unstructured"),
        (random_most, "unstructured"),
        (inputs, "unstructured"),
    ],
)
def test_patterns(shape: tuple[int, ...], prune: Callable[[np.ndarray], None], pattern: str) -> None:
    w = weights(*shape)
    prune(w)
    layer = layer_of("w", w == 0, dtype="float32", weights=w)
    assert layer.pattern == pattern
    assert layer.sparsity == (w == 0).mean()
    assert layer.shape == shape


def n_of_m(w: np.ndarray, n: int, m: int, *, flat: bool) -> np.ndarray:
    """Return the weights with only the largest ``n`` of every ``m`` neighbours, along inputs or flattened rows."""
    last = w.reshape(len(w), -1) if flat else np.moveaxis(w, 1, -1)
    runs = last.reshape(-1, m)
    kept = np.where(np.argsort(np.argsort(-np.abs(runs), axis=1), axis=1) < n, runs, 0).reshape(last.shape)
    return kept.reshape(w.shape) if flat else np.moveaxis(kept, -1, 1)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (4, 8)])
def test_neighbours_of_every_length(n: int, m: int, flat: bool) -> None:
    w = n_of_m(weights(32, 16, 3, 3), n, m, flat=flat)
    assert layer_of("w", w == 0, dtype="float32", weights=w).pattern == f"{n}:{m}"


def test_neighbours_along_the_flattened_row_need_no_fitting_inputs() -> None:
    w = n_of_m(weights(16, 3, 4, 4), 2, 4, flat=True)  # three inputs do not divide by four
    assert pattern_of(w == 0) == "2:4"
    assert pattern_of(n_of_m(weights(30, 10), 1, 2, flat=True) == 0) == "1:2"


def test_few_weights_that_fit_by_chance_have_no_pattern() -> None:
    few = n_of_m(weights(2, 8), 2, 4, flat=True)
    assert pattern_of(few == 0) == "unstructured"
    assert pattern_of(n_of_m(weights(16, 8), 2, 4, flat=True) == 0) == "2:4"


def test_a_few_zeros_of_rounding_are_dense() -> None:
    w = np.ones((10, 100))
    w[0, :30] = 0
    assert pattern_of(w == 0) == "dense"


@pytest.mark.parametrize("shape", [(64, 48), (48, 64), (32, 16, 3, 3)])
def test_low_rank(shape: tuple[int, ...]) -> None:
    rows, columns = shape[0], int(np.prod(shape[1:]))
    product = (weights(rows, 4) @ weights(4, columns)).astype(np.float32).reshape(shape)
    assert is_low_rank(product)
    assert not is_low_rank(weights(*shape))
    assert layer_of("w", product == 0, dtype="float32", weights=product).pattern == "low-rank"


@pytest.mark.parametrize("odd", [np.zeros((3, 0)), np.full((3, 4), np.nan), np.ones((1, 5))])
def test_odd_matrices_are_not_low_rank(odd: np.ndarray) -> None:
    assert not is_low_rank(odd)
    assert layer_of("w", odd == 0, dtype="float32", weights=odd).pattern == "dense"


def test_overall_weighs_layers_by_their_size() -> None:
    small, large = np.ones((1, 10), dtype=bool), np.zeros((9, 10), dtype=bool)
    layers = tuple(layer_of(str(i), zeros, dtype="float32") for i, zeros in enumerate([small, large]))
    assert overall(layers) == pytest.approx(0.1)
    assert np.isnan(overall(()))


@pytest.mark.parametrize(("bits", "zeros"), [(4, 0.3), (3, 0.6), (2, 0.9)])
def test_zeros_of_rounding_are_no_pruning(bits: int, zeros: float) -> None:
    w = weights(64, 64)
    zero = np.abs(w) < np.quantile(np.abs(w), zeros)
    assert layer_of("w", zero, dtype=f"int{bits}").pattern == "rounded"
    assert layer_of("w", zero, dtype="int8").pattern == layer_of("w", zero, dtype="float16").pattern == "unstructured"
    more = np.abs(w) < np.quantile(np.abs(w), 0.97)
    assert layer_of("w", more, dtype=f"int{bits}").pattern == "unstructured", "rounding alone leaves fewer"
