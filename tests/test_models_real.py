"""Real pairs: recorded answers of public models and their weights give the verdicts that their numbers say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.problems import ResNet20
from fairguard import Outcome, check
from fairguard.inputs.models import load_model

MARGIN = 0.02


class Digits(nn.Module):
    """The perceptron of the MNIST pair."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 128), nn.Linear(128, 64), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def excess(right: np.ndarray, wrong: np.ndarray, inside: np.ndarray) -> float:
    """How much more accuracy the group lost than everybody else, by hand."""
    lost = right.astype(float) - wrong.astype(float)
    return lost[inside].mean() - lost[~inside].mean()


def save(path: Path, arrays: Any, prefix: str = "") -> str:
    state = {n.removeprefix(prefix): torch.from_numpy(arrays[n]) for n in arrays.files if n.startswith(prefix)}
    torch.save(state, path)
    return str(path)


def test_sixteen_compressed_versions_of_a_resnet_56(data_dir: Path) -> None:
    path = data_dir / "cifar100_resnet56_predictions.npz"
    recorded = np.load(path)
    y, superclass = recorded["label"], recorded["coarse_names"][recorded["coarse"]]
    dense = recorded["pred"][0] == y
    outcomes = {}
    for name, answers in zip(recorded["models"][1:], recorded["pred"][1:], strict=True):
        verdict = check(f"{path}::dense", f"{path}::{name}", (None, y, {"superclass": superclass}), margin=MARGIN)
        outcomes[str(name)] = verdict.outcome
        by_hand = {f"superclass={g}": excess(dense, answers == y, superclass == g) for g in set(superclass)}
        accuracy = [finding for finding in verdict.findings if finding.metric == "accuracy"]
        assert len(accuracy) == 20
        for finding in accuracy:
            assert finding.estimate == pytest.approx(by_hand[finding.group])
        assert all(finding.estimate > MARGIN for finding in verdict.regressed)
    assert outcomes.pop("quant_model_1") is not Outcome.REGRESSED
    regressed = {name for name, outcome in outcomes.items() if outcome is Outcome.REGRESSED}
    assert {"early_simdoc_10_0.8", "early_sniplevel_30_0.8", "early_taylorfochannel_30_0.5"} <= regressed
    assert "sniplevel_03_best" not in regressed
    assert Outcome.PRESERVED not in outcomes.values()  # 500 rows a superclass cannot prove two points


def test_weights_of_a_resnet_20_against_recorded_answers_of_its_pruned_versions(data_dir: Path, tmp_path: Path) -> None:
    images, recorded = np.load(data_dir / "cifar10.npz"), np.load(data_dir / "cifar10_resnet20_predictions.npz")
    at = np.flatnonzero(images["split"] == 2)[:1500]
    ids = images["test_index"][at]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = ((images["X"][at] / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    y = images["label"][at]
    np.savez(tmp_path / "rows.npz", X=x, y=y, row=ids)
    weights = save(tmp_path / "resnet20.pt", np.load(data_dir / "cifar10_resnet20_weights.npz"))
    options: dict[str, Any] = {"model": ResNet20, "groups": ["class"], "id": "row", "margin": MARGIN}
    for name in ("dense", "mag_60"):
        number = list(recorded["models"]).index(name)
        order = np.random.default_rng(0).permutation(len(recorded["label"]))  # joined by id, so that order is free
        np.savez(tmp_path / f"{name}.npz", scores=recorded["logits"][number][order], ids=order)
    same = check(weights, tmp_path / "dense.npz", tmp_path / "rows.npz", **options)
    flips = same.overall.harmful_flips + same.overall.beneficial_flips + same.overall.other_flips
    assert flips <= 3  # the recorded scores are rounded to sixteen bits
    pruned = check(weights, tmp_path / "mag_60.npz", tmp_path / "rows.npz", **options)
    assert pruned.outcome is Outcome.REGRESSED
    answers = recorded["pred"][list(recorded["models"]).index("mag_60")][ids]
    assert pruned.overall.accuracy.pruned == pytest.approx((answers == y).mean(), abs=0.002)
    assert any(finding.group == "class=5" for finding in pruned.regressed)  # dogs


def test_a_real_pair_without_regression(data_dir: Path, tmp_path: Path) -> None:
    pair = np.load(data_dir / "mnist_bingo_pair.npz")
    dense = save(tmp_path / "dense.pt", pair, "dense.")
    pruned = save(tmp_path / "pruned.pt", pair, "pruned.")
    x = ((pair["x"].reshape(-1, 784) / 255 - 0.5) / 0.5).astype(np.float32)
    verdict = check(dense, pruned, (x, pair["label"], {}), model=Digits, groups=["class"], margin=MARGIN)
    assert verdict.outcome is not Outcome.REGRESSED
    assert verdict.overall.accuracy.dense == pytest.approx(0.9727, abs=1e-4)
    assert verdict.overall.accuracy.pruned == pytest.approx(0.9777, abs=1e-4)
    assert verdict.models[1].sparsity > verdict.models[0].sparsity
    path = data_dir / "mnist_bingo_pair.npz"
    recorded = check(f"{path}::dense_logits", f"{path}::pruned_logits", (None, pair["label"], {}), groups=["class"])
    assert recorded.overall.accuracy.pruned == pytest.approx(verdict.overall.accuracy.pruned, abs=5e-4)


def test_recorded_files_hold_what_their_models_answer(data_dir: Path) -> None:
    path = data_dir / "cifar10_resnet20_predictions.npz"
    model = load_model(f"{path}::mag_50")
    assert model.classes is not None
    assert model.classes[5] == "dog"
    assert model.rows == 10_000
