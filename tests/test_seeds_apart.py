"""Seeds whose answers have no fractions: what agrees on the first rows may be another model all the same."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fairguard import check
from fairguard.errors import ModelError

NETS = """
import torch
from torch import nn

class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.cut = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return (x[:, 0] > self.cut).long()

class Hard(Cut):
    def forward(self, x):
        return nn.functional.one_hot(super().forward(x), 2).float()
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Seven nets that answer 1 above a cut of their own."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(NETS)
    for k in range(7):
        torch.save({"cut": torch.tensor([k / 10])}, f"net{k}.pt")
    return [f"net{k}.pt" for k in range(7)]


def judged(kind: str, dense: str, pruned: str, *seeds: str) -> Any:
    """Return the verdict on rows of which the first 1,100 lie far from every cut."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)).astype("float32")
    x[:1100, 0] = np.sign(x[:1100, 0]) * 3
    rows = x, (x[:, 0] > 0).astype(int), {"a": rng.choice(["u", "v"], 3000)}
    return check(dense, pruned, rows, seeds=seeds, model=f"nets.py:{kind}")


@pytest.mark.parametrize("kind", ["Cut", "Hard"])
def test_seeds_that_agree_on_the_first_rows_are_several(kind: str, nets: list[str]) -> None:
    assert judged(kind, *nets).confirmed_flips is not None


@pytest.mark.parametrize("kind", ["Cut", "Hard"])
def test_the_same_weights_once_more_are_no_seed(kind: str, nets: list[str]) -> None:
    torch.save({"state_dict": {"cut": torch.tensor([0.3])}, "epoch": 3}, "again.pt")
    with pytest.raises(ModelError, match=re.escape("seed 6 (again.pt) is seed 2 (net3.pt) once more")):
        judged(kind, *nets, "again.pt")


def test_dense_is_opened_once_however_many_seeds_there_are(nets: list[str]) -> None:
    built = []
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 3)).astype("float32")
    rows = x, (x[:, 0] > 0).astype(int), {"a": rng.choice(["u", "v"], 3000)}

    class Cut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[:, 0] > self.cut).long()

    def build(pruned: bool) -> torch.nn.Module:
        built.append(pruned)
        return Cut()

    how = {"model": lambda: build(False), "model_pruned": lambda: build(True)}
    assert check(*nets[:2], rows, seeds=nets[2:], **how).confirmed_flips is not None
    assert built == [False] + 6 * [True]


def test_a_seed_of_another_task_is_named(nets: list[str]) -> None:
    x = np.random.default_rng(0).normal(size=(3000, 3)).astype("float32")
    rows = x, (x[:, 0] > 0).astype(int), {"a": ["u", "v"] * 1500}
    np.savez("wide.npz", scores=np.eye(3)[np.arange(3000) % 3])
    with pytest.raises(ModelError, match="dense gives 2 classes and seed 5 3; compare models of one task"):
        check(*nets[:2], rows, seeds=[*nets[2:6], "wide.npz"], model="nets.py:Hard")
