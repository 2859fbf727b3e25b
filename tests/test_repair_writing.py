"""New weights in old files: whatever a checkpoint looks like, FAIR looks the same and loads as PRUNED did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import rows
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ModelError
from fairguard.inputs.models import load_model
from fairguard.inputs.torch_models import TorchPredictor
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.writing import export_onnx, write_like


class Tied(nn.Module):
    """Reads and writes words by one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.out = nn.Linear(5, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.embed(x).mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


def two() -> tuple[Weights, Weights, Masks]:
    """Return an old state dict, a new one, and the new one's masks."""
    torch.manual_seed(0)
    old, new = mlp(), mlp()
    masks = masks_at(new, 0.5)
    return old.state_dict(), masks.on(new.state_dict()), masks


def wrapped(kind: str, state: dict[str, Tensor]) -> Any:
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    halves = {n: t for n, t in state.items() if t.dim() < 2}
    for name in state.keys() - halves.keys():
        halves |= {f"{name}_orig": state[name] + 1, f"{name}_mask": (state[name] != 0).float()}
    return {
        "plain": state,
        "checkpoint": {"epoch": 3, "optimizer": {"state": {0: torch.ones(2)}}, "state_dict": state},
        "deep": {"run": {"model": {"state_dict": state}, "lr": 0.1}},
        "running mean": {"state_dict": state, "state_dict_ema": other, "args": "--lr 1"},
        "lightning": {"state_dict": {f"model.{n}": t for n, t in state.items()}, "hyper": {"lr": 0.1}},
        "compiled and parallel": {f"module._orig_mod.{n}": t for n, t in state.items()},
        "halves": halves,
        "halves under a prefix": {"model": {f"net.{n}": t for n, t in halves.items()}},
        "with a loss": {
            "state_dict": {f"net.{n}": t for n, t in state.items()} | {"loss.weight": torch.full((3,), 9.0)}
        },
        "half": {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()},
    }[kind]


def keys(held: Any) -> Any:
    """Return the names in a file, at every depth."""
    return {name: keys(part) for name, part in held.items()} if isinstance(held, dict) else None


@pytest.mark.parametrize(
    "kind",
    [
        "plain", "checkpoint", "deep", "running mean", "lightning", "compiled and parallel", "halves",
        "halves under a prefix", "with a loss", "half",
    ],
)  # fmt: skip
def test_new_weights_stand_where_the_old_ones_stood(kind: str, tmp_path: Path) -> None:
    old, new, masks = two()
    like, path = tmp_path / "pruned.pt", tmp_path / "fair.pt"
    torch.save(wrapped(kind, old), like)
    write_like(like, path, new, masks)
    opened = load_model(path, factory=mlp)
    assert isinstance(opened, TorchPredictor)
    for name, tensor in opened.module.state_dict().items():
        assert torch.allclose(tensor.float(), new[name].float(), atol=1e-3), name
    before, after = (keys(torch.load(file, weights_only=True)) for file in (like, path))
    gone = {"optimizer", "state_dict_ema"}  # of the old weights
    assert after == {name: part for name, part in before.items() if name not in gone}


def test_what_is_no_weight_of_the_network_stays_as_it_was(tmp_path: Path) -> None:
    old, new, masks = two()
    torch.save(wrapped("with a loss", old), tmp_path / "pruned.pt")
    write_like(tmp_path / "pruned.pt", tmp_path / "fair.pt", new, masks)
    held = torch.load(tmp_path / "fair.pt", weights_only=True)
    assert held["state_dict"]["loss.weight"].tolist() == [9.0, 9.0, 9.0]


def test_tied_weights_are_written_under_the_names_that_the_file_has(tmp_path: Path) -> None:
    net = Tied()
    old = {"embed.weight": net.embed.weight.detach().clone()}
    save_file(old, tmp_path / "pruned.safetensors", metadata={"format": "pt"})
    masks = Masks({"embed.weight": torch.rand(7, 5) > 0.5}, {})
    masks.enforcer(net)()
    write_like(tmp_path / "pruned.safetensors", tmp_path / "fair.safetensors", net.state_dict(), masks)
    found = load_file(tmp_path / "fair.safetensors")
    assert list(found) == ["embed.weight"]
    assert torch.equal(found["embed.weight"], net.out.weight)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    net = Tied()
    torch.save(net.state_dict(), tmp_path / "pruned.pt")
    weights = {name: tensor + 1 for name, tensor in net.state_dict().items()}
    write_like(tmp_path / "pruned.pt", tmp_path / "fair.pt", weights, Masks({}, {}))
    fair = torch.load(tmp_path / "fair.pt", weights_only=True)
    assert fair["embed.weight"].data_ptr() == fair["out.weight"].data_ptr()
    assert (tmp_path / "fair.pt").stat().st_size <= (tmp_path / "pruned.pt").stat().st_size


def test_several_sets_of_weights_are_told_apart_by_nobody(tmp_path: Path) -> None:
    old, new, masks = two()
    torch.save({"student": old, "teacher": new}, tmp_path / "pruned.pt")
    with pytest.raises(ModelError, match="student, teacher"):
        write_like(tmp_path / "pruned.pt", tmp_path / "fair.pt", new, masks)


@pytest.mark.parametrize("kind", ["module", "torchscript", "pt2", "safetensors"])
def test_programs_keep_their_kind(kind: str, tmp_path: Path) -> None:
    old, new, masks = two()
    net = mlp().eval()
    net.load_state_dict(old)
    like, path = tmp_path / "pruned", tmp_path / "fair"
    few = torch.randn(4, 6)
    if kind == "module":
        torch.save(net, like)
    elif kind == "torchscript":
        torch.jit.save(torch.jit.trace(net, few), like)
    elif kind == "pt2":
        like, path = like.with_suffix(".pt2"), path.with_suffix(".pt2")
        torch.export.save(torch.export.export(net, (few,)), like)
    else:
        save_file(old, like)
    write_like(like, path, new, masks)
    one, other = (load_model(file, factory=mlp, trust=True) for file in (like, path))
    assert isinstance(one, TorchPredictor)
    assert isinstance(other, TorchPredictor)
    assert other.info.kind == one.info.kind
    net.load_state_dict(new)
    with torch.no_grad():
        assert torch.allclose(other.module(few), net(few), atol=1e-6)
        assert not torch.allclose(one.module(few), net(few), atol=1e-2)


class TwoAnswers(nn.Module):
    """A net that names its answers, as many published ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.body(x))
        return {"hidden": hidden, "logits": self.last(hidden)}


def test_answers_keep_their_names_in_an_exported_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, x = TwoAnswers().eval(), torch.randn(5, 4)
    export_onnx(net, x[:2], tmp_path / "net.onnx")
    opened = load_model(tmp_path / "net.onnx", output_key="logits")
    assert np.allclose(opened.scores(rows(5, x=x.numpy())), net(x)["logits"].detach().numpy(), atol=1e-5)
