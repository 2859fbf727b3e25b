"""What a class number or the place of an output means: labels of 1 and 2, and a pruned model with another order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import Outcome, Verdict, check, check_predictions
from fairguard.cli import run
from fairguard.errors import DataError, ModelError
from fairguard.testing.checks import Checks

N = 6_000
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 2, N)
SEX = RNG.choice(["F", "M"], N)
DENSE = np.where(RNG.random(N) < 0.9, Y, 1 - Y)
PRUNED = np.where((SEX == "F") & (Y == 1) & (RNG.random(N) < 0.2), 0, DENSE)
"""Harm of the second class alone, for women alone: fewer of them are found."""
NUMBERS = [np.array(pair) for pair in ((0, 1), (1, 2), (0, 255), (3, 9))]


class Answers(nn.Module):
    """A network that answers with class numbers, as an argmax and a look-up give them."""

    def __init__(self, names: Sequence[int], column: int) -> None:
        super().__init__()
        self.register_buffer("names", torch.tensor(names))
        self.column = column

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.names[x[:, self.column].long()]


def told(verdict: Verdict) -> list[str]:
    return [found.model_dump_json() for found in verdict.findings]


def in_memory(names: np.ndarray, **options: Any) -> Verdict:
    return check_predictions(names[Y], names[DENSE], names[PRUNED], {"sex": SEX}, **options)


def from_files(names: np.ndarray, **options: Any) -> Verdict:
    pd.DataFrame({"id": range(N), "credit": names[Y], "sex": SEX}).to_csv("rows.csv", index=False)
    for name, answers in (("dense", DENSE), ("pruned", PRUNED)):
        pd.DataFrame({"id": range(N), "prediction": names[answers]}).to_csv(f"{name}.csv", index=False)
    return check("dense.csv", "pruned.csv", "rows.csv", label="credit", groups="sex", **options)


def from_networks(names: np.ndarray, **options: Any) -> Verdict:
    x = np.column_stack([DENSE, PRUNED]).astype(np.float32)
    return check(Answers(names, 0), Answers(names, 1), (x, names[Y], {"sex": SEX}), **options)


def from_a_loader(names: np.ndarray, **options: Any) -> Verdict:
    x = torch.tensor(np.column_stack([DENSE, PRUNED])).float()
    return check(Answers(names, 0), Answers(names, 1), [(x, names[Y], {"sex": SEX})], **options)


def from_the_plugin(names: np.ndarray, **options: Any) -> Verdict:
    from_files(names, **options)
    asked = {"dense": "dense.csv", "pruned": "pruned.csv", "data": "rows.csv", "label": "credit", "groups": ["sex"]}
    for _ in range(2):  # the second reads what the first has counted
        judged = Checks(root=Path.cwd(), cache=Path("cache")).judged("test_fair", asked | options)
    return judged.verdict


def exported(path: str, column: int) -> str:
    """Write a graph that gives 1 or 2, the label, in whole numbers, as classifiers of scikit-learn do."""
    of = onnx.helper
    nodes = [
        of.make_node("Gather", ["x", "column"], ["chosen"], axis=1),
        of.make_node("Cast", ["chosen"], ["place"], to=onnx.TensorProto.INT64),
        of.make_node("Add", ["place", "one"], ["label"]),
    ]
    held = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in (("column", column), ("one", 1))]
    given = [of.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None, 2])]
    made = [of.make_tensor_value_info("label", onnx.TensorProto.INT64, [None])]
    graph = of.make_graph(nodes, "labels", given, made, held)
    onnx.save(of.make_model(graph, opset_imports=[of.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("door", [in_memory, from_files, from_networks, from_a_loader, from_the_plugin])
def test_two_classes_are_judged_alike_whatever_numbers_they_have(door: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    usual = door(NUMBERS[0])
    assert usual.outcome is Outcome.REGRESSED
    for names in NUMBERS[1:]:
        verdict, classes = door(names), tuple(map(str, names))
        assert verdict.classes == classes
        assert [(f.group, f.metric, f.p_value) for f in verdict.findings] == [
            (f.group, f.metric, f.p_value) for f in usual.findings
        ]
        named = door(names, classes=classes) if door is not from_a_loader or names[1] == 2 else verdict
        assert told(named) == told(verdict)
        assert {f.label for f in door(names, favourable=classes[0], metrics="recall").findings} == {classes[0]}


@pytest.mark.parametrize("door", [in_memory, from_files, from_networks])
def test_one_stray_answer_makes_no_third_class(door: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """Recall and fpr would no longer be judged, and the harm to women not be found."""
    monkeypatch.chdir(tmp_path)
    stray = np.where(np.arange(N) == 0, 2, PRUNED)
    monkeypatch.setitem(globals(), "PRUNED", stray)
    with pytest.raises(DataError, match=r"pruned answers '0', which is no label of the data; its labels are 1, 2\."):
        door(np.array([1, 2, 0]))
    assert door(np.array([1, 2, 0]), classes=("0", "1", "2")).classes == ("0", "1", "2"), "as they were named"


def test_labels_that_a_graph_gives_are_counted_from_one(tmp_path: Path) -> None:
    paths = [exported(str(tmp_path / f"{column}.onnx"), column) for column in (0, 1)]
    data = (np.column_stack([DENSE, PRUNED]).astype(np.float32), Y + 1, {"sex": SEX})
    verdict = check(*paths, data)
    assert verdict.outcome is Outcome.REGRESSED
    assert verdict.classes == ("1", "2")
    assert told(check(*paths, data, classes=("1", "2"))) == told(verdict)
    assert check(*paths, data, classes=("0", "1", "2")).classes == ("0", "1", "2"), "as they were named"


def test_three_classes_stay_three() -> None:
    three = np.where(SEX == "F", 3, Y + 1)
    assert check_predictions(three, three, three, {"sex": SEX}).classes == ("0", "1", "2", "3")
    net = nn.Linear(2, 3)
    nn.init.zeros_(net.weight)
    net.weight.data[2, 0], net.bias.data[:] = 10, torch.tensor([-9.0, 0.0, -5.0])
    x = np.column_stack([DENSE, PRUNED]).astype(np.float32)
    verdict = check(net, net, (x, Y + 1, {"sex": SEX}))
    assert verdict.classes == ("0", "1", "2")
    assert "a third output, for 0: of three classes recall and fpr are judged only where" in " ".join(verdict.warnings)


def test_an_answer_that_is_no_label_is_told_of(capsys: Any, tmp_path: Path, monkeypatch: Any) -> None:
    stray = np.where(np.arange(N) == 0, 2, PRUNED)
    told = "labels are only 0 and 1, of 3 classes, and 1 of both models' answers are none of the two: recall and fpr"
    assert told in " ".join(check_predictions(Y, DENSE, stray, {"sex": SEX}).warnings)
    assert not check_predictions(Y, DENSE, PRUNED, {"sex": SEX}).warnings
    monkeypatch.chdir(tmp_path)
    for name, answers in {"dense": DENSE, "pruned": stray}.items():
        np.savez(f"{name}.npz", labels=answers)
    np.savez("rows.npz", X=np.zeros((N, 1), np.float32), y=Y, sex=SEX)
    run(["check", "dense.npz", "pruned.npz", "--data", "rows.npz", "--group", "sex"])
    assert told in capsys.readouterr().out.replace("\n", " ")


def test_a_plan_knows_two_classes_by_any_numbers(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    told = []
    for names in NUMBERS:
        from_files(names)
        for models in ([], ["dense.csv", "pruned.csv"]):
            assert run(["plan", *models, "--data", "rows.csv", "--label", "credit", "--group", "sex"]) == 0
            told.append(capsys.readouterr().out)
    assert "recall" in told[0]
    assert set(told) == {told[0], told[1]}


def test_outputs_for_labels_far_apart_say_how_to_name_them() -> None:
    x = np.column_stack([DENSE, PRUNED]).astype(np.float32)
    with pytest.raises(DataError, match=r"If these are all labels there are, name them so: --classes 0,255\."):
        check(nn.Linear(2, 2), nn.Linear(2, 2), (x, np.array([0, 255])[Y], {"sex": SEX}))


THREE = RNG.integers(0, 3, N)
GOOD = np.where(RNG.random(N) < 0.95, THREE, (THREE + 1) % 3)
ELSEWHERE = [1, 2, 0]


@pytest.mark.parametrize("names", [np.arange(3), np.arange(1, 4), np.array(["cat", "dog", "owl"])])
def test_a_pruned_model_with_another_order_is_refused(names: np.ndarray, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    scores = np.eye(3)[GOOD]
    order = ",".join(map(str, names[ELSEWHERE]))
    with pytest.raises(ModelError, match=rf"pruned is right on [45]\.. % .* on 9[45]\.. %: its {order} stand where"):
        check_predictions(names[THREE], scores, scores[:, ELSEWHERE], {"sex": SEX})
    np.savez("rows.npz", y=names[THREE], sex=SEX)
    np.savez("dense.npz", scores=scores)
    np.savez("pruned.npz", scores=scores[:, ELSEWHERE])
    named = ["--classes", ",".join(map(str, names))]
    assert run(["check", "dense.npz", "pruned.npz", "--data", "rows.npz", "--group", "sex", *named]) == 2


def test_a_broken_pruned_model_has_no_other_order() -> None:
    """It answers at random, alike to every row, or mixes up half of its rows: it is broken, in whatever order."""
    guesses = [RNG.integers(0, 3, N), np.zeros(N, dtype=int), np.where(RNG.random(N) < 0.95, 2, GOOD)]
    for pruned in guesses:
        warned = " ".join(check_predictions(THREE, GOOD, pruned, {"sex": SEX}).warnings)
        assert "Compress it less" in warned
        assert "order" not in warned
    mixed = np.where(RNG.random(N) < 0.6, (GOOD + 1) % 3, GOOD)
    warned = " ".join(check_predictions(THREE, np.eye(3)[GOOD], np.eye(3)[mixed], {"sex": SEX}).warnings)
    assert "with its classes in another order (2,0,1) pruned would be right on" in warned


class Sign(nn.Module):
    """A network with one output, positive for the second class."""

    def __init__(self, sign: float) -> None:
        super().__init__()
        self.sign = sign

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sign * (x[:, :1] - 0.5)


@pytest.mark.parametrize("names", [np.array([0, 1]), np.array([1, 2]), np.array(["denied", "granted"])])
def test_who_answers_by_name_has_no_order(names: np.ndarray, tmp_path: Path, monkeypatch: Any) -> None:
    """Nearly all women, most of the rows, get the other answer: a regression, whatever the answers are called."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(globals(), "SEX", np.random.default_rng(3).choice(["F", "M"], N, p=[0.85, 0.15]))
    monkeypatch.setitem(globals(), "PRUNED", np.where(SEX == "F", 1 - DENSE, DENSE))
    for door in (in_memory, from_files):
        verdict = door(names)
        assert verdict.outcome is Outcome.REGRESSED
        warned = " ".join(verdict.warnings)
        assert "the pruned model is broken" in warned
        assert "order" not in warned


def test_one_output_has_no_order() -> None:
    x = DENSE[:, None].astype(np.float32)
    warned = " ".join(check(Sign(1.0), Sign(-1.0), (x, Y, {"sex": SEX})).warnings)
    assert "the pruned model is broken" in warned
    assert "order" not in warned


def test_grades_one_too_high_are_a_verdict() -> None:
    grade = RNG.integers(1, 6, N)
    dense = np.where(RNG.random(N) < 0.9, grade, RNG.integers(1, 6, N))
    for kind in (int, str):
        answers = (grade.astype(kind), dense.astype(kind), np.minimum(dense + 1, 5).astype(kind))
        warned = " ".join(check_predictions(*answers, {"sex": SEX}).warnings)
        assert "the pruned model is broken" in warned
        assert "order" not in warned


def test_dense_is_questioned_in_arrays_too() -> None:
    scores = np.eye(3)[GOOD][:, ELSEWHERE]
    verdict = check_predictions(THREE, scores, scores, {"sex": SEX})
    assert "with its outputs in another order it would be right on 9" in " ".join(verdict.warnings)
    assert 'name them so: classes=["1", "2", "0"]' in " ".join(verdict.warnings)
    right = check_predictions(THREE, scores, scores, {"sex": SEX}, classes=["1", "2", "0"])
    assert right.overall.accuracy.dense > 0.9
    assert not right.warnings
    with pytest.raises(DataError, match=r"Name all of them with classes=\[\.\.\.\]\."):
        check_predictions(THREE, GOOD, GOOD, {"sex": SEX}, classes=["1", "2"])
