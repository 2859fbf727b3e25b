"""Expected flips: what any change of this size would have done to a group."""

import numpy as np
import pytest

from fairguard.judge.counts import CountTable
from fairguard.judge.sensitivity import expected_flips
from fairguard.policy import Policy


def perturbed(noise: np.ndarray, margins: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Expected flips of rows with the given signed dense margins after adding ``noise``."""
    dense, pruned = (margins > 0).astype(int), (margins + noise > 0).astype(int)
    bins = np.searchsorted(np.quantile(np.abs(margins), np.arange(1, 20) / 20), np.abs(margins))
    table = CountTable.of(
        ["g", "bin"],
        [["near", "far"], [f"{i:02d}" for i in range(20)]],
        ["0", "1"],
        codes=np.column_stack([groups, bins]),
        y=dense,
        dense=dense,
        pruned=pruned,
    )
    found = expected_flips(table, "bin", Policy(), groups=["g"])
    flips = [((dense != pruned) & (groups == g)).sum() for g in (0, 1)]
    return {"near": found["g=near"], "far": found["g=far"], "near observed": flips[0], "far observed": flips[1]}


@pytest.mark.parametrize("size", [0.05, 1.0])
def test_a_perturbation_blind_to_groups_gives_the_expected_flips(size: float) -> None:
    rng = np.random.default_rng(0)
    groups = (rng.random(40_000) < 0.7).astype(int)
    margins = rng.normal(scale=np.where(groups == 0, 0.3, 2.0))
    found = perturbed(rng.normal(scale=size, size=len(groups)), margins, groups)
    assert found["near observed"] > 1.5 * found["far observed"] * (groups == 0).sum() / (groups == 1).sum()
    for name in ("near", "far"):
        assert found[name] == pytest.approx(found[f"{name} observed"], abs=4 * found[f"{name} observed"] ** 0.5)


def test_harm_aimed_at_a_group_exceeds_the_expectation() -> None:
    rng = np.random.default_rng(1)
    groups = (rng.random(20_000) < 0.7).astype(int)
    margins = rng.normal(size=len(groups))
    found = perturbed(rng.normal(scale=np.where(groups == 0, 1.0, 0.1)), margins, groups)
    assert found["near observed"] > 1.5 * found["near"]


def test_expected_flips_add_up_to_the_observed_ones() -> None:
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 2, 5_000)
    found = perturbed(rng.normal(size=5_000), rng.normal(size=5_000), groups)
    assert found["near"] + found["far"] == pytest.approx(found["near observed"] + found["far observed"])
