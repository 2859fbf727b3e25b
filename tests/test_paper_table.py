"""The table of all methods: no row to report on is trained or tuned on, sparsity holds, gains are what they say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.paper_table import cells, report
from benchmarks.paper_table.ablations import ABLATIONS
from benchmarks.paper_table.cells import Cell, divided, run
from fairguard.repair.methods import method_named


def test_rows_to_report_on_are_the_same_for_all_seeds_and_never_trained_or_tuned_on() -> None:
    parts = [divided(1_000, seed) for seed in (0, 1, 2)]
    for train, tune, verify in parts:
        assert np.array_equal(np.sort(np.concatenate([train, tune, verify])), np.arange(1_000))
        assert np.array_equal(verify, parts[0][2])
    assert not np.array_equal(parts[0][0], parts[1][0])


@pytest.fixture
def real(data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.problems.DATA", data_dir)
    monkeypatch.setattr(cells, "WORK", tmp_path)
    cells.problem_named.cache_clear()


@pytest.mark.usefixtures("real")
def test_a_cell_with_classes_as_groups() -> None:
    found = run(Cell("mnist/mlp", 0.9, "magnitude", 0), method_named("magnitude"), lr=6e-3)
    assert found["sparsity"] >= 0.9
    assert found["epochs"] <= found["budget"]
    assert found["accuracy"] > 0.8
    assert found["shifted"]["cwv"] < found["cwv"]
    assert found["worst"] <= found["accuracy"]


@pytest.mark.usefixtures("real")
def test_an_ablation_on_protected_attributes() -> None:
    found = run(Cell("compas/mlp", 0.95, "votes", 1), ABLATIONS["votes"])
    assert found["sparsity"] >= 0.95
    assert 0.0 < found["dp"] <= 1.0
    assert "shifted" not in found


def test_gains_are_means_of_relative_reductions() -> None:
    def cell(cwv: float, mcd: float) -> dict[str, Any]:
        return {"cwv": cwv, "mcd": mcd, "accuracy": 0.9}

    pairs = [(cell(0.1, 0.3), cell(0.4, 0.4)), (cell(0.1, 0.2), cell(0.1, 0.4))]
    # (75 % + 25 %) / 2 and (0 % + 50 %) / 2
    assert report.gain(pairs).startswith("37.5% [25.0%, 50.0%]")
    assert report.gain([]) == "-"
    assert report.points(pairs) == "+0.0"
