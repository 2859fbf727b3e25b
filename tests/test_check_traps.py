"""What would silently give a wrong verdict: answers of other rows, another order of classes or cut, code that quits."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import Verdict, check
from fairguard.cli import run
from fairguard.errors import DataError, ModelError
from fairguard.report.text import render

N = 3_000
NETS = """
import sys
from torch import nn

def one(): return nn.Linear(2, 1)
def two(): return nn.Linear(2, 2)
def squashed(): return nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
def quits(*rows): sys.exit(0)
def halfway():
    yield [[0.0, 1.0]] * 4, [0, 1, 0, 1], {"sex": ["F", "M", "F", "M"]}
    quits()
class Broken(nn.Linear):
    def forward(self, x): raise PermissionError("the tokens are not mine to read")
def broken(): return Broken(2, 1)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """A folder with rows whose ids are shuffled, both models' answers to them by id, and networks."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"a": rng.normal(size=N), "b": rng.normal(size=N), "sex": rng.choice(["F", "M"], N)})
    rows = rows.assign(id=rng.permutation(N), label=(rows["a"] > 0.3).astype(int))
    rows.to_csv("rows.csv", index=False)
    flipped = rng.random(N) < 0.03
    answers = pd.DataFrame({"id": rows["id"], "prediction": np.where(flipped, 1 - rows["label"], rows["label"])})
    answers.assign(prediction=rows["label"]).to_csv("dense.csv", index=False)
    answers.sample(frac=1, random_state=1).to_parquet("pruned.parquet", index=False)
    Path("nets.py").write_text(NETS)
    return rows


ROWS = {"data": "rows.csv", "label": "label", "groups": "sex"}


def linear(weights: list[list[float]], bias: list[float]) -> nn.Module:
    layer = nn.Linear(2, len(bias))
    layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.tensor(bias)})
    return layer


def test_answers_by_id_are_joined_without_being_told(project: pd.DataFrame) -> None:
    def found(verdict: Verdict) -> list[str]:
        return [row.model_dump_json() for row in verdict.groups]

    told = check("dense.csv", "pruned.parquet", **ROWS, id="id")
    assert told.overall.accuracy.dense == 1
    assert told.overall.accuracy.pruned == pytest.approx(0.97, abs=0.01)
    assert found(check("dense.csv", "pruned.parquet", **ROWS)) == found(told)
    mixed = check(linear([[1.0, 0.0]], [-0.3]), "pruned.parquet", **ROWS)
    assert mixed.overall.accuracy.pruned == told.overall.accuracy.pruned, "the id is no feature either"
    arrays = (project[["a", "b"]].to_numpy(), project["label"], {"sex": project["sex"], "id": project["id"]})
    assert found(check("dense.csv", "pruned.parquet", arrays, groups="sex")) == found(told)
    loader = [(torch.tensor(arrays[0]), torch.tensor(project["label"].to_numpy()), arrays[2])]
    assert found(check("dense.csv", "pruned.parquet", loader, groups="sex")) == found(told)


def test_two_rows_of_one_id_cannot_share_an_answer(project: pd.DataFrame) -> None:
    project.assign(id=project["id"] // 2).to_csv("rows.csv", index=False)
    with pytest.raises(ModelError, match=r"3000 rows with 1500 different ids.*an id of its own"):
        check("dense.csv", "pruned.parquet", **ROWS)


def test_answers_left_over_are_named(project: pd.DataFrame) -> None:
    project.head(2_000).to_csv("rows.csv", index=False)
    verdict = check("dense.csv", "pruned.parquet", **ROWS)
    assert verdict.overall.accuracy.dense == 1
    assert "1000 answers of dense.csv are for ids that the data does not have." in verdict.warnings


def test_ids_of_another_kind_show_what_they_are_like(project: pd.DataFrame) -> None:
    project.assign(id="r" + project["id"].astype(str)).to_csv("rows.csv", index=False)
    with pytest.raises(ModelError, match=r"no answer for the rows with id r.*its own ids are like \d+.*--id"):
        check("dense.csv", "pruned.parquet", **ROWS)


def test_a_collapsed_network_is_cut_where_its_dense_one_is(project: pd.DataFrame) -> None:
    collapsed = linear([[0.0, 0.0]], [0.3])  # a logit of 0.3 says 1, a probability of 0.3 would say 0
    verdict = check(linear([[1.0, 0.0]], [-0.3]), collapsed, **ROWS, features=["a", "b"])
    assert verdict.overall.selection_rate.pruned == 1
    squashed = nn.Sequential(linear([[5.0, 0.0]], [-1.5]), nn.Sigmoid())
    verdict = check(linear([[1.0, 0.0]], [-0.3]), squashed, **ROWS, features=["a", "b"])
    assert verdict.overall.accuracy.pruned == 1, "probabilities beside logits have a cut of their own"


def test_a_threshold_that_decides_nothing_is_refused(project: pd.DataFrame) -> None:
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    with pytest.raises(ModelError, match="--threshold decides nothing"):
        check(model, model, **ROWS, features=["a", "b"], threshold=0.9)


def test_models_cut_at_different_places_are_told_of(project: pd.DataFrame) -> None:
    logits = linear([[2.0, 0.0]], [-0.6])
    squashed = nn.Sequential(logits, nn.Sigmoid())
    verdict = check(logits, squashed, **ROWS, features=["a", "b"])
    assert verdict.overall.harmful_flips == 0
    assert any(
        "dense's outputs are read as logits and cut at 0, pruned's as probabilities and cut at 0.5" in warning
        and "--threshold" in warning
        for warning in verdict.warnings
    )
    same = check(squashed, squashed, **ROWS, features=["a", "b"])
    assert "--threshold" not in " ".join(same.warnings)


class Several(nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"one": x, "other": x}


def test_features_are_blamed_only_where_they_do_not_fit(project: pd.DataFrame) -> None:
    with pytest.raises(ModelError, match="choose one with --output-key: one, other") as told:
        check(Several(), Several(), **ROWS)
    assert "--features" not in str(told.value)


def test_classes_in_another_order_are_recognised(project: pd.DataFrame) -> None:
    project.assign(label=np.where(project["label"] == 1, "bad", "good")).to_csv("rows.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    warned = " ".join(check(model, model, **ROWS, features=["a", "b"]).warnings)
    order = re.search(r"in the order (\S+) it would be right on 100\.0 %\. Name the classes with --classes", warned)
    assert order is not None, warned
    verdict = check(model, model, **ROWS, features=["a", "b"], classes=order[1].split(","))
    assert verdict.overall.accuracy.dense == 1
    project.assign(label=1).to_csv("rows.csv", index=False)
    one = " ".join(check(model, model, **ROWS, features=["a", "b"]).warnings)
    assert "is the preprocessing right?" in one, "no other order would do better"


def test_labels_that_count_from_one(project: pd.DataFrame) -> None:
    project.assign(label=project["label"] + 1).to_csv("rows.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    with pytest.raises(DataError, match=r"3 classes \(0, 1, 2\) and the models give 2.*--classes 1,2"):
        check(model, model, **ROWS, features=["a", "b"])
    assert check(model, model, **ROWS, features=["a", "b"], classes=["1", "2"]).overall.accuracy.dense == 1


def test_what_was_fed_is_named_where_it_does_not_fit(project: pd.DataFrame) -> None:
    project.drop(columns="id").to_csv("rows.csv", index=False)
    model = linear([[1.0, 0.0]], [0.0])
    with pytest.raises(ModelError, match=r"The features are a, b, label: choose them with --features, and name the"):
        check(model, model, "rows.csv", groups="sex")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "nets.py:quits"],
        ["--data", "nets.py:halfway"],
        ["--data", "rows.csv", "--transform", "nets.py:quits"],
        ["--data", "rows.csv", "--model", "nets.py:quits"],
    ],
)
def test_code_that_quits_is_no_verdict(
    arguments: list[str], project: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(linear([[1.0, 0.0]], [0.0]).state_dict(), "net.pt")
    usual = ["--model", "nets.py:one", "--label", "label", "--group", "sex"]
    assert run(["check", "net.pt", "net.pt", *usual, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("fairguard: error: ")
    assert said.count("\n") == 1
    assert "internal error" not in said


def test_a_model_that_fails_by_itself_is_not_said_to_lack_features(
    project: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(linear([[1.0, 0.0]], [0.0]).state_dict(), "net.pt")
    usual = ["--data", "rows.csv", "--label", "label", "--group", "sex"]
    assert run(["check", "net.pt", "net.pt", "--model", "nets.py:broken", *usual]) == 2
    assert capsys.readouterr().err == (
        "fairguard: error: net.pt failed in its own code: PermissionError: the tokens are not mine to read, raised in "
        "forward (nets.py, line 13). Correct it there, or turn the rows into what the model takes with --transform.\n"
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", [None, "person"])
def test_an_index_saved_along_is_no_feature(project: pd.DataFrame, name: str | None, suffix: str) -> None:
    kept = project.drop(columns="id")[project["a"] < 1].rename_axis(name)
    kept.to_csv("kept.csv") if suffix == ".csv" else kept.to_parquet("kept.parquet")
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    named = {"id": name} if name and suffix == ".csv" else {}  # a CSV does not say that this column is an index
    verdict = check(model, model, f"kept{suffix}", label="label", groups="sex", **named)
    assert verdict.overall.accuracy.dense == 1


@pytest.mark.parametrize("labels", [(-1, 1), (1, 2), (5, 7)])
def test_recorded_labels_are_the_labels_of_the_data(project: pd.DataFrame, labels: tuple[int, int]) -> None:
    names = np.array(labels)
    classes = [str(label) for label in labels]
    project.assign(label=names[project["label"]]).to_csv("rows.csv", index=False)
    answers = pd.read_csv("dense.csv")
    answers.assign(prediction=names[answers["prediction"]]).to_csv("named.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    for dense in (model, "named.csv"):
        verdict = check(dense, "named.csv", **ROWS, features=["a", "b"], classes=classes)
        assert (verdict.overall.accuracy.dense, verdict.overall.accuracy.pruned) == (1, 1)
        assert verdict.classes == tuple(classes)
    answers.assign(prediction=9).to_csv("other.csv", index=False)
    with pytest.raises(ModelError, match="answers '9', which is no label of the data"):
        check(model, "other.csv", **ROWS, features=["a", "b"], classes=classes)


def test_a_quoted_header_may_hold_any_sign(project: pd.DataFrame) -> None:
    project.rename(columns={"a": "a; then | b; or"}).to_csv("rows.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    text = Path("rows.csv").read_text()
    Path("rows.csv").write_text(text.replace("a; then | b; or", '"a; then | b; or"', 1))
    assert check(model, model, **ROWS, id="id").overall.accuracy.dense == 1


def test_answers_without_labels_are_compared_by_name(project: pd.DataFrame) -> None:
    words = np.array(["no", "perhaps", "yes"])
    dense = words[np.arange(N) % 3]
    pd.DataFrame({"prediction": dense}).to_csv("three.csv", index=False)
    pd.DataFrame({"prediction": np.where(dense == "perhaps", "yes", dense)}).to_csv("two.csv", index=False)
    verdict = check("three.csv", "two.csv", "rows.csv", groups="sex")
    assert verdict.overall.other_flips == N / 3


def test_an_answer_beyond_the_classes_is_refused(project: pd.DataFrame) -> None:
    pd.DataFrame({"prediction": np.where(np.arange(N) == 2_500, 9, 1)}).to_csv("nine.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    with pytest.raises(ModelError, match=r"nine\.csv answers class 9 for row 2500; the classes are 2"):
        check(model, "nine.csv", **ROWS, features=["a", "b"])


def test_a_value_that_reads_like_an_intersection_is_a_group_of_its_own(project: pd.DataFrame) -> None:
    race = np.where(project["a"] > 1, "A & sex=F", np.where(project["b"] > 0, "A", "B"))
    project.assign(race=race).to_csv("rows.csv", index=False)
    verdict = check("dense.csv", "pruned.parquet", **ROWS | {"groups": ("race", "sex")})
    rows = {row.group: row.n for row in verdict.groups}
    assert len(rows) == len(verdict.groups) == 3 + 2 + 6
    assert rows['race="A & sex=F"'] == (race == "A & sex=F").sum()
    assert rows["race=A & sex=F"] == ((race == "A") & (project["sex"] == "F")).sum()
    assert "groups race (3) sex (2) intersections (6)" in render(verdict)


def test_values_that_look_alike_are_told(project: pd.DataFrame) -> None:
    odd = project["a"] > 0
    project.assign(sex=project["sex"].where(odd, project["sex"] + " ")).to_csv("rows.csv", index=False)
    verdict = check("dense.csv", "pruned.parquet", **ROWS)
    assert 'sex="F " and sex=F look alike and are two groups here: if they are one, make them one in the data' in (
        verdict.warnings
    )
    assert {row.group for row in verdict.groups} == {"sex=F", "sex=M", 'sex="F "', 'sex="M "'}
