"""Features reach a model as they are: with all digits that it computes in, and masks as masks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import check
from fairguard.errors import FeaturesError
from fairguard.fuzz import open_both, replay
from fairguard.inputs.data import open_data
from fairguard.inputs.nested import leaves
from fairguard.repair.pruning import prune
from fairguard.repair.repairing import repair
from fairguard.schema import Schema

N = 3_000
RNG = np.random.default_rng(0)
NOW = 1_600_000_000
"""Seconds since 1970, of which float32 tells only every 128th apart."""
TIME = NOW + RNG.integers(0, 400, N).astype(np.float64)
Y = (TIME > NOW + 200).astype(int)
SEX = RNG.choice(["F", "M"], N)
TABLE = pd.DataFrame({"time": TIME, "y": Y, "sex": SEX})
NAMED: dict[str, Any] = {"label": "y", "groups": ["sex"]}


class Since(nn.Module):
    def __init__(self, moment: float) -> None:
        super().__init__()
        self.moment = nn.Parameter(torch.tensor([moment], dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.moment


def exported(path: str, kind: int, moment: float) -> str:
    of = onnx.helper
    nodes = [of.make_node("Cast", ["time"], ["x"], to=onnx.TensorProto.DOUBLE), of.make_node("Sub", ["x", "m"], ["y"])]
    held = [onnx.numpy_helper.from_array(np.array([moment]), "m")]
    given = [of.make_tensor_value_info("time", kind, [None, 1])]
    graph = of.make_graph(
        nodes, "since", given, [of.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, [None, 1])], held
    )
    onnx.save(of.make_model(graph, opset_imports=[of.make_opsetid("", 17)], ir_version=8), path)
    return path


DATA: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "arrays": (lambda: (TIME[:, None], Y, {"sex": SEX}), {}),
    "text": (lambda: (TIME[:, None].astype(int).astype(str), Y, {"sex": SEX}), {}),
    "table": (lambda: TABLE, NAMED),
    "csv": (lambda: "rows.csv", NAMED),
    "whole numbers": (lambda: "rows.parquet", NAMED),
    "transformed": (lambda: TABLE, NAMED | {"features": ["time"], "transform": lambda part: part.to_numpy()}),
    "loader": (lambda: [(TIME[:, None], Y, {"sex": SEX})], {}),
}


@pytest.mark.parametrize("door", DATA)
def test_a_model_in_float64_gets_all_digits(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("rows.csv", index=False)
    TABLE.astype({"time": np.int64}).to_parquet("rows.parquet")
    data, how = DATA[door]
    right = ((TIME > NOW + 180) == Y).mean()
    double, whole = onnx.TensorProto.DOUBLE, onnx.TensorProto.INT64
    for make in (Since, lambda m: exported(f"{m}.onnx", double, m), lambda m: exported(f"{m}.onnx", whole, m)):
        accuracy = check(make(NOW + 200.5), make(NOW + 180.5), data(), **how).overall.accuracy
        assert (accuracy.dense, accuracy.pruned) == (1, right)


@pytest.mark.parametrize("door", DATA)
def test_others_get_float32_as_ever(door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TABLE.to_csv("rows.csv", index=False)
    TABLE.astype({"time": np.int64}).to_parquet("rows.parquet")
    data, how = DATA[door]
    seen = set()

    def noted(x: Any) -> Any:
        seen.add(x.dtype)
        return (x - NOW > 100).astype(float)

    check(noted, nn.Linear(1, 1), data(), **how)
    assert seen == {np.dtype(np.float32)}


def test_a_seed_in_float64_gets_all_digits_beside_models_in_float32(tmp_path: Path) -> None:
    right, double = tmp_path / "right.csv", onnx.TensorProto.DOUBLE
    seeds = [exported(str(tmp_path / f"{i}.onnx"), double, NOW + 180.5 + i) for i in range(5)]
    pd.DataFrame({"prediction": Y}).to_csv(right, index=False)
    verdict = check(right, lambda x: x[:, 0] * 0 + 1, TABLE, **NAMED, seeds=seeds)
    assert verdict.confirmed_flips == ((TIME > NOW + 182) & (Y == 0)).sum(), "three of five"


@pytest.mark.parametrize("transform", [None, lambda part: part.to_numpy()])
def test_a_hunt_feeds_what_a_check_feeds(transform: Any) -> None:
    class Timed(Since):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            late = x[:, 0] - self.moment
            return torch.where(x[:, 1] > 0, late, -late) if self.unfair else late

    rows = TABLE.assign(sex=(SEX == "M").astype(float))
    how: dict[str, Any] = {"label": "y", "features": ["time", "sex"], "transform": transform}
    dense, pruned = Timed(NOW + 200.5), Timed(NOW + 200.5)
    dense.unfair, pruned.unfair = False, True
    schema = Schema.of(rows, **how)
    answers = open_both(dense, pruned, schema).ask(schema.table.select(["time", "sex"]))
    assert (answers.dense.codes == Y).all()
    assert ((answers.pruned.codes == Y) == (SEX == "M")).all()


def test_a_replay_feeds_what_a_check_feeds(tmp_path: Path) -> None:
    files = [
        exported(str(tmp_path / f"{moment}.onnx"), onnx.TensorProto.DOUBLE, moment) for moment in (NOW + 0.5, NOW + 2.5)
    ]
    rows = [{"time": float(NOW + second)} for second in range(4)]
    answers = replay(*files, rows, types={"time": "double"}, classes=["0", "1"], thresholds=(0.0, 0.0))
    assert answers.dense.codes.tolist() == [0, 1, 1, 1]
    assert answers.pruned.codes.tolist() == [0, 0, 0, 1]


class Attending(nn.Module):
    """Attends to the tokens of a mask: true is to be attended to; numbers would be added to the scores instead."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(50, 8), nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        h = self.embed(ids)
        mask = mask[:, None, :].expand(-1, ids.shape[1], -1)
        return self.head(nn.functional.scaled_dot_product_attention(h, h, h, attn_mask=mask).mean(1))


@pytest.mark.parametrize("kind", ["dict", "tuple", "npz", "loader"])
def test_a_mask_of_booleans_stays_one(kind: str, tmp_path: Path) -> None:
    ids = RNG.integers(1, 50, (N, 6)) * (np.arange(6) < RNG.integers(2, 7, (N, 1)))
    model, mask = Attending().eval(), ids != 0
    with torch.no_grad():
        answers = [model(torch.tensor(ids), torch.tensor(part)).argmax(1) for part in (mask, mask.astype("float32"))]
    y = answers[0].numpy()
    assert (answers[1].numpy() != y).mean() > 0.02, "a mask of numbers is another one"
    x: Any = (ids, mask) if kind == "tuple" else {"ids": ids, "mask": mask}
    data: Any = [(x, y, {"sex": SEX})] if kind == "loader" else (x, y, {"sex": SEX})
    how = {}
    if kind == "npz":
        np.savez(tmp_path / "rows.npz", ids=ids, mask=mask, y=y, sex=SEX)
        data, how = tmp_path / "rows.npz", {"groups": ["sex"], "features": ["ids", "mask"]}
    assert check(model, model, data, **how).overall.accuracy.dense == 1


def test_booleans_alone_are_numbers() -> None:
    for x in (np.eye(4, dtype=bool), {"x": np.eye(4, dtype=bool)}, (np.eye(4, dtype=bool), np.eye(4, dtype=bool))):
        (batch,) = open_data((x, [0, 1, 0, 1])).batches(4)
        assert {part.dtype for part in leaves(batch.x)} == {np.dtype(np.float32)}


class Flagged(nn.Module):
    """Takes ``flags`` as numbers and ``mask`` as a mask."""

    def __init__(self, attending: type[nn.Module] = Attending) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attending, self.first, self.second = attending(), nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, flags: torch.Tensor) -> torch.Tensor:
        return self.attending(ids, mask) + self.second(self.first(flags).relu())


FLAGS = {
    "ids": RNG.integers(1, 50, (N, 6)),
    "mask": RNG.random((N, 6)) < 0.6,
    "flags": RNG.random((N, 3)) < 0.5,
}
FLAGS["mask"][:, 0] = True


def right_for_flags(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        rows = {name: torch.tensor(part) for name, part in FLAGS.items()}
        return model(**rows | {"flags": rows["flags"].float()}).argmax(1).numpy()


@pytest.mark.parametrize("kind", ["dict", "tuple", "transform", "script", "float64", "npz", "rows"])
def test_booleans_beside_a_mask_are_numbers_where_a_net_takes_nothing_else(kind: str, tmp_path: Path) -> None:
    model = Flagged().eval()
    y, x, how = right_for_flags(model), FLAGS, {}
    net: Any = torch.jit.script(model) if kind == "script" else model.double() if kind == "float64" else model
    data: Any = (tuple(x.values()) if kind == "tuple" else x, y, {"sex": SEX})
    if kind == "transform":
        data, how = (np.arange(N), y, {"sex": SEX}), {"transform": lambda at: {name: x[name][at] for name in x}}
    if kind == "npz":
        np.savez(tmp_path / "rows.npz", **x, y=y, sex=SEX)
        data, how = tmp_path / "rows.npz", {"groups": ["sex"], "features": list(x)}
    if kind == "rows":
        how = {"per_row": True}
    assert check(net, net, data, **how).overall.accuracy.dense == 1


class Filling(Attending):
    """Leaves out the tokens of a mask, which can be exported."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(ids).masked_fill(~mask[..., None], 0.0).mean(1))


def test_flags_are_numbers_to_those_who_train_and_export_too(tmp_path: Path) -> None:
    dense = Flagged(Filling).eval()
    data = (FLAGS, right_for_flags(dense), {"sex": SEX})
    how: dict[str, Any] = {"device": "cpu", "export": "onnx", "data": data}
    for method in ("one-shot", "magnitude"):
        options = {} if method == "one-shot" else {"budget": "2epochs"}
        told = prune(dense, tmp_path / f"{method}.pt", method=method, sparsity=0.9, **options, **how)
        assert told.verdict is not None
        assert told.verdict.overall.accuracy.dense == 1
    cut = Flagged(Filling)
    cut.load_state_dict(torch.load(tmp_path / "one-shot.pt"))
    assert repair(dense, cut, tmp_path / "fair.pt", budget="2epochs", keep_best=True, **how).output is not None
    for name in ("one-shot", "magnitude", "fair"):
        check(dense, tmp_path / f"{name}.onnx", data)


def test_a_net_that_takes_no_booleans_at_all_is_told_so_without_a_guess_at_images() -> None:
    with pytest.raises(FeaturesError) as told:
        check(nn.Linear(5, 2), nn.Linear(5, 2), (torch.rand(N, 4) > 0.5, Y, {"sex": SEX}))
    assert "the rows are bool" in str(told.value)
    assert "images" not in str(told.value)
