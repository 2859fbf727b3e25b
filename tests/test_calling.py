"""How rows by name reach a network: as keywords, or as the one dict that its forward takes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fairguard.errors import FeaturesError
from fairguard.inputs.calling import arguments
from fairguard.inputs.models import load_model
from fairguard.inputs.rows import Batch

X = {"a": torch.ones(4, 2), "b": torch.zeros(4, 1)}
ROWS = Batch({k: v.numpy() for k, v in X.items()}, None, np.zeros((4, 0), np.int64), np.arange(4))


class OfDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.head(torch.cat([batch["a"], batch["b"]], 1))


class Untold(OfDict):
    def forward(self, batch, scale=1.0):  # type: ignore[no-untyped-def]
        return super().forward(batch) * scale


class OfKeywords(OfDict):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return super().forward({"a": a, "b": b})


class OfAny(OfDict):
    def forward(self, **named: torch.Tensor) -> torch.Tensor:
        return super().forward(named)


class OfMissing(OfDict):
    def forward(self, batch):  # type: ignore[no-untyped-def]
        return self.head(batch["pixels"])


@pytest.mark.parametrize("net", [OfDict, Untold, lambda: torch.jit.script(OfDict()), lambda: nn.DataParallel(OfDict())])
def test_a_forward_that_takes_one_dict_gets_it(net: Any) -> None:
    net = net()
    assert arguments(net, X) == ((X,), {})
    np.testing.assert_array_equal(load_model(net).scores(ROWS), net(X).detach().numpy())


def test_so_does_a_scripted_one_that_comes_from_a_file(tmp_path: Path) -> None:
    net = torch.jit.script(OfDict())
    net.save(str(tmp_path / "net.pt"))
    model = load_model(str(tmp_path / "net.pt"), trust=True)
    np.testing.assert_array_equal(model.scores(ROWS), net(X).detach().numpy())


@pytest.mark.parametrize("net", [OfKeywords, OfAny, lambda: nn.DataParallel(OfKeywords())])
def test_names_that_fit_are_keywords(net: Any) -> None:
    assert arguments(net(), X) == ((), X)
    load_model(net()).scores(ROWS)


def test_one_tensor_and_several_stay_what_they_are() -> None:
    assert arguments(OfDict(), X["a"]) == ((X["a"],), {})
    assert arguments(OfDict(), (X["a"], X["b"])) == ((X["a"], X["b"]), {})


def test_a_dict_that_does_not_fit_is_told_by_its_names() -> None:
    with pytest.raises(FeaturesError, match=r"takes one argument, and they are a dict of a, b; 'pixels'\."):
        load_model(OfMissing()).scores(ROWS)
