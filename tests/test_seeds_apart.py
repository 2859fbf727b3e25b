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
