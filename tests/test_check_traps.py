"""What would silently give a wrong verdict: answers of other rows, another order of classes or cut, code that quits."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import Verdict, check
from fairguard.cli import run
from fairguard.errors import DataError, ModelError
from fairguard.inputs.rows import IdCount
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


def test_one_cut_is_refused_for_logits_and_probabilities(
    project: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    logits = linear([[2.0, 0.0]], [-0.6])
    torch.save(logits.state_dict(), "net.pt")
    torch.save(nn.Sequential(logits, nn.Sigmoid()).state_dict(), "squashed.pt")
    usual = ["--data", "rows.csv", "--label", "label", "--group", "sex", "--features", "a,b", "--threshold", "0.3"]
    built = {"net.pt": "nets.py:one", "squashed.pt": "nets.py:squashed"}
    for dense, pruned in (("net.pt", "squashed.pt"), ("squashed.pt", "net.pt")):
        names = ["--model", built[dense], "--model-pruned", built[pruned]]
        assert run(["check", dense, pruned, *names, *usual]) == 2
        said = capsys.readouterr().err
        role, other = ("dense", "pruned") if dense == "net.pt" else ("pruned", "dense")
        assert re.fullmatch(
            rf"fairguard: error: --threshold 0\.3 would cut outputs of two scales: {role}'s are logits \(from -\d\S* "
            rf"to \d\S*\), {other}'s are probabilities \(from 0\.0\S* to 0\.9\S*\); what is 0\.3 of a probability is "
            rf"-0\.8473 of a logit\. Leave it out, which cuts logits at 0 and probabilities at 0\.5, or let {role} end "
            r"in a sigmoid too\.\n",
            said,
        ), said
        same = ["--model", built[pruned], "--model-pruned", built[pruned]]
        assert run(["check", pruned, pruned, *same, *usual]) == 0
        capsys.readouterr()


def test_one_cut_of_what_may_be_two_scales_is_told(project: pd.DataFrame) -> None:
    logits = linear([[2.0, 0.0]], [-0.6])
    collapsed = linear([[0.02, 0.0]], [0.3])  # all in [0, 1], but are they probabilities?
    told = "pruned's outputs look like probabilities"
    for cut, expected in ((0.31, True), (0.0, False)):
        warned = check(logits, collapsed, **ROWS, features=["a", "b"], threshold=cut).warnings
        assert any(told in line and "--threshold 0.31 cuts both" in line for line in warned) is expected, cut
    near = linear([[0.2, 0.0]], [0.5])  # a regression on labels of 0 and 1 leaves them a little now and then
    inside = linear([[0.05, 0.0]], [0.5])
    assert "let dense end in a sigmoid too" in " ".join(
        check(near, inside, **ROWS, features=["a", "b"], threshold=0.5).warnings
    )


def test_features_that_do_not_fit_say_which_columns_groups_took(project: pd.DataFrame) -> None:
    project.assign(old=(project["b"] > 1).astype(int)).drop(columns="id").to_csv("rows.csv", index=False)
    model = nn.Linear(3, 2)
    told = (
        r"takes 3 features, the rows have 2 .* The features are a, b: choose them with --features; groups are left "
        r"out unless it names them: sex, old\.$"
    )
    with pytest.raises(ModelError, match=told):
        check(model, model, **{**ROWS, "groups": ["sex", "old"]})
    assert check(model, model, **{**ROWS, "groups": "old"}, features=["a", "b", "old"]).overall.n == N


class Reads(nn.Module):
    """Takes token ids, as a model for text does."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.words(ids).mean(1))


def test_columns_of_tokens_need_a_transform(project: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    tokens = {f"t{i}": rng.integers(0, 9, N) for i in range(4)}
    project[["sex", "label"]].assign(**tokens).to_csv("rows.csv", index=False)
    torch.manual_seed(0)
    model = Reads()
    with pytest.raises(ModelError) as told:
        check(model, model, **ROWS)
    assert "words looks up whole numbers (token ids)" in str(told.value)
    assert str(told.value).endswith("(ids, and a mask of them) with --transform.")
    assert check(model, model, **ROWS, transform=lambda rows: rows[list(tokens)].to_numpy("int64")).overall.n == N


def test_ties_name_a_remedy(project: pd.DataFrame) -> None:
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])

    class Coarse(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (2 * model(x)).round() / 2

    (told,) = [line for line in check(model, Coarse(), **ROWS, features=["a", "b"]).warnings if "ties" in line]
    assert re.fullmatch(
        r"(\d+) of \1 flips are exact ties of the pruned model's scores, which the first class wins: give its last "
        r"layer more bits, or leave it in float \(docs/verdict\.md\)\.",
        told,
    ), told
    assert "* **Ties.**" in (Path(__file__).parent.parent / "docs" / "verdict.md").read_text()


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
    order = re.search(r"in another order it would be right on 100\.0 %\. If .* name them so: --classes (\S+)", warned)
    assert order is not None, warned
    verdict = check(model, model, **ROWS, features=["a", "b"], classes=order[1].split(","))
    assert verdict.overall.accuracy.dense == 1
    project.assign(label=1).to_csv("rows.csv", index=False)
    one = " ".join(check(model, model, **ROWS, features=["a", "b"]).warnings)
    assert "is the preprocessing right?" in one, "no other order would do better"


AGES = ("child", "young", "middle", "old")


def by_age(order: tuple[str, ...], blur: float) -> tuple[nn.Module, tuple]:
    """Return a network that finds the age band in a number, and rows whose numbers are blurred."""
    rng = np.random.default_rng(0)
    band = rng.integers(0, 4, N)
    x = np.column_stack([band + blur * rng.normal(size=N), np.zeros(N)]).astype(np.float32)
    centres = [float(AGES.index(name)) for name in order]  # the score of a band is -(x - centre)^2, less x^2
    model = linear([[2 * centre, 0.0] for centre in centres], [-(centre**2) for centre in centres])
    return model, (x, np.array(AGES)[band], {"sex": rng.choice(["F", "M"], N)})


def test_another_order_is_told_though_the_given_one_beats_the_commonest_class(project: pd.DataFrame) -> None:
    learned = ("child", "old", "middle", "young")
    model, data = by_age(learned, blur=0.4)
    verdict = check(model, model, data)  # names in sorted order: two of four are where they belong
    assert verdict.overall.accuracy.dense > 0.35, "better than any one answer"
    (warning,) = [line for line in verdict.warnings if "another order" in line]
    assert warning.endswith("--classes child,old,middle,young")
    right = check(model, model, data, classes=learned)
    assert right.overall.accuracy.dense > 0.7
    assert not [line for line in right.warnings if "order" in line]
    wrong = " ".join(check(model, model, data, classes=("young", "child", "old", "middle")).warnings)
    assert "--classes child,old,middle,young" in wrong, "told of an order that was typed, too"


@pytest.mark.parametrize("seed", range(5))
def test_no_order_is_told_of_a_network_that_knows_nothing(project: pd.DataFrame, seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    data = (rng.normal(size=(600, 2)).astype(np.float32), rng.integers(0, 6, 600), {"sex": rng.choice(["F", "M"], 600)})
    model = nn.Linear(2, 6)
    assert "order" not in " ".join(check(model, model, data).warnings)


def test_answers_that_come_by_name_have_no_order(project: pd.DataFrame) -> None:
    words = np.array(["bad", "good"])
    project.assign(label=words[project["label"]]).to_csv("rows.csv", index=False)
    answers = pd.read_csv("dense.csv")
    answers.assign(prediction=words[1 - answers["prediction"]]).to_csv("swapped.csv", index=False)
    warned = " ".join(check("swapped.csv", "swapped.csv", **ROWS).warnings)
    assert "--classes" not in warned
    assert "is the preprocessing right?" in warned


def squashed(bias: float, steep: float = 2.0) -> nn.Module:
    return nn.Sequential(linear([[steep, 0.0]], [bias]), nn.Sigmoid())


def test_a_dense_model_that_always_answers_alike_cannot_be_judged(
    project: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, bias in (("net.pt", -0.6), ("sparse.pt", -0.5)):
        torch.save(squashed(bias).state_dict(), name)
    usual = ["--model", "nets.py:squashed", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    usual += ["--features", "a,b"]
    assert run(["check", "net.pt", "sparse.pt", *usual, "--threshold", "0"]) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"fairguard: error: dense answers '1' for every row \(3,000 rows\), so nothing can be judged: its scores lie "
        r"between 0\.0\S* and 0\.9\S*, all above --threshold 0\. Name a cut that parts them with --threshold between "
        r"0 and 1, or correct the preprocessing\.\n",
        said,
    ), said
    assert run(["check", "net.pt", "sparse.pt", *usual, "--threshold", "0.5"]) != 2


def test_a_network_that_always_answers_alike_names_its_cut_or_the_preprocessing(project: pd.DataFrame) -> None:
    low, high = squashed(-5.0, steep=0.1), squashed(-0.6)
    with pytest.raises(ModelError, match=r"between 0\.0\S+ and 0\.0\S+, none above the cut at 0\.5\. Name a cut"):
        check(low, high, **ROWS, features=["a", "b"])
    two = linear([[0.0, 0.0], [0.0, 0.0]], [0.0, 1.0])
    with pytest.raises(ModelError, match=r"'1' for every row.*the preprocessing the right ones, and rows of every"):
        check(two, two, **ROWS, features=["a", "b"])
    assert "has collapsed, or wants other preprocessing" in " ".join(
        check(high, low, **ROWS, features=["a", "b"]).warnings
    )


def test_an_export_that_prepares_its_rows_itself_is_suspected(project: pd.DataFrame) -> None:
    rows = project.assign(label=np.arange(N) % 4)  # four classes, of which each stands where a is largest
    rows = rows.assign(**{name: (rows["label"] == code).astype(float) for code, name in enumerate("cdef")})
    rows.to_csv("rows.csv", index=False)
    dense = nn.Linear(4, 4)
    dense.load_state_dict({"weight": torch.eye(4), "bias": torch.zeros(4)})
    inside = nn.Linear(4, 4)  # the same network behind a shift and a scale that these rows have had already
    inside.load_state_dict({"weight": torch.eye(4) / 255, "bias": torch.tensor([0.1, 0.0, 0.0, 0.0])})
    warned = " ".join(check(dense, inside, **ROWS, features=list("cdef")).warnings)
    assert "the pruned model is broken: no better than always answering '0'" in warned
    assert "unless it wants other inputs than dense (preprocessing)" in warned


class Detector(nn.Module):
    """Finds boxes in each row, as torchvision's detectors do; or in all of them at once."""

    def __init__(self, *, together: bool = False) -> None:
        super().__init__()
        self.together = together

    def forward(self, x: torch.Tensor) -> list[dict[str, torch.Tensor]] | dict[str, torch.Tensor]:
        found = {"boxes": torch.zeros(len(x), 4), "labels": torch.ones(len(x)), "scores": torch.ones(len(x))}
        return found if self.together else [found for _ in x]


@pytest.mark.parametrize(("together", "what"), [(False, "a dict for each row"), (True, "a dict")])
def test_a_detector_is_told_from_a_classifier(project: pd.DataFrame, together: bool, what: str) -> None:
    model = Detector(together=together)
    with pytest.raises(ModelError) as told:
        check(model, model, **ROWS, features=["a", "b"])
    said = str(told.value)
    assert f"gives {what} (boxes, labels, scores) and looks like a detector; this judges classifiers" in said
    assert len(said) < 300


def test_of_many_outputs_a_few_are_named(project: pd.DataFrame) -> None:
    class Many(nn.Module):
        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            return [x] * 300

    with pytest.raises(ModelError, match=r"choose one with --output-key: 0, 1, 2, 3, 4, 5, 6, 7 and 292 more\.$"):
        check(Many(), Many(), **ROWS, features=["a", "b"])


def test_rows_that_are_sorted_by_class_are_judged(project: pd.DataFrame) -> None:
    project.sort_values("a").to_csv("rows.csv", index=False)
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    assert check(model, model, **ROWS, features=["a", "b"]).overall.accuracy.dense == 1


def test_a_cut_that_only_pruneds_scores_never_reach_is_told(project: pd.DataFrame) -> None:
    logits = linear([[2.0, 0.0]], [-0.6])
    warned = check(logits, squashed(-0.6), **ROWS, features=["a", "b"], threshold=0.0).warnings
    assert any(
        "pruned's scores look like probabilities" in line and "--threshold 0 lies outside" in line for line in warned
    )


def test_a_network_taught_to_find_a_rare_class_is_not_said_to_lack_preprocessing(project: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(N) < 0.1).astype(int)
    rows = pd.DataFrame(
        {"a": 2 * label + rng.normal(size=N), "b": 0.0, "sex": rng.choice(["F", "M"], N), "label": label}
    )
    rows.to_csv("rows.csv", index=False)
    keen = linear([[1.0, 0.0]], [-1.0])  # right on 84 % of either class, and 90 % are of one
    warned = " ".join(check(keen, keen, **ROWS, features=["a", "b"]).warnings)
    assert "is the preprocessing right?" not in warned
    assert re.search(
        r"finds 8\d\.\d % on average, by chance it would be 50\.0 %: it looks taught to find a rarer", warned
    )
    blind = linear([[0.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    rows.assign(b=rng.normal(size=N)).to_csv("rows.csv", index=False)
    assert "is the preprocessing right?" in " ".join(check(blind, blind, **ROWS, features=["a", "b"]).warnings)


def batch_of(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, dict]:
    named = {name: rows[name].to_numpy() for name in ("sex", "person")}
    return rows[["a", "b"]].to_numpy(np.float32), rows["label"].to_numpy(), named


@pytest.mark.parametrize("kind", ["csv", "text", "arrays", "loader"])
def test_ids_that_repeat_are_told(project: pd.DataFrame, kind: str) -> None:
    model = linear([[-1.0, 0.0], [1.0, 0.0]], [0.3, -0.3])
    twice = project.rename(columns={"id": "person"}).iloc[np.arange(2 * N) % N]
    if kind == "text":
        twice = twice.assign(person="p" + twice["person"].astype(str))
    twice.to_csv("rows.csv", index=False)
    given: dict = {**ROWS, "features": ["a", "b"]}
    if kind == "arrays":
        given = {"data": batch_of(twice), "groups": "sex"}
    if kind == "loader":
        given = {
            "data": lambda: map(batch_of, (twice[i : i + 900] for i in range(0, len(twice), 900))),
            "groups": "sex",
        }
    told = (
        "6,000 rows have 3,000 different ids and count as independent: if the rows of one id are one person's, name it"
    )
    (warning,) = [line for line in check(model, model, **given, id="person").warnings if "different ids" in line]
    assert warning == f"{told} with --cluster person."
    assert "different ids" not in " ".join(check(model, model, **given, id="person", cluster="person").warnings)
    if "data" not in given or given["data"] == "rows.csv":
        twice.head(N).to_csv("rows.csv", index=False)
        assert "different ids" not in " ".join(check(model, model, **given, id="person").warnings)


@pytest.mark.parametrize("text", [False, True])
def test_a_count_of_ids_beyond_memory_is_an_upper_bound(text: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairguard.inputs.rows.MOST_IDS", 1_000)
    monkeypatch.setattr("fairguard.inputs.rows._WAITING", 256)
    count = IdCount("id")
    ids = np.arange(-50, 5_000)
    for part in np.array_split(np.concatenate([ids, ids]), 40):
        count.add(part.astype(str).astype(object) if text else part)
    assert count.cut
    assert len(count._known) == 1_000
    assert len(ids) < count.different <= count.rows - 1_000, "what is remembered is counted once"


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


def test_a_margin_of_a_metric_that_is_not_gated_is_told(project: pd.DataFrame) -> None:
    given: dict = {**ROWS, "id": "id", "metrics": "accuracy"}
    told = " ".join(check("dense.csv", "pruned.parquet", **given, margins={"fpr": 0.0001}).warnings)
    assert "margin for fpr is given, and fpr is not gated: add --metric fpr" in told
    gated = check("dense.csv", "pruned.parquet", **ROWS, margins={"fpr": 0.0001})
    assert "not gated" not in " ".join(gated.warnings)


def test_rows_of_one_class_are_judged(project: pd.DataFrame) -> None:
    project[project["label"] == 1].to_csv("rows.csv", index=False)
    verdict = check("dense.csv", "pruned.parquet", **ROWS, metrics="accuracy")
    assert verdict.overall.accuracy.dense == 1.0
    assert verdict.overall.harmful_flips > 0


@pytest.mark.parametrize("lacking", ["dense.csv", "pruned.parquet"])
def test_answers_without_ids_beside_others_with_are_refused(project: pd.DataFrame, lacking: str) -> None:
    """They would be joined by row number, and the other file by id: a silent shuffle."""
    read, write = (
        (pd.read_csv, pd.DataFrame.to_csv) if lacking == "dense.csv" else (pd.read_parquet, pd.DataFrame.to_parquet)
    )
    write(read(lacking).drop(columns="id"), lacking, index=False)
    other = {"dense.csv": "pruned.parquet", "pruned.parquet": "dense.csv"}[lacking]
    told = rf"{lacking} has no column of ids .* and {other} has one; it has prediction"
    with pytest.raises(ModelError, match=told):
        check("dense.csv", "pruned.parquet", **ROWS)


def test_an_id_that_is_named_is_joined_by(project: pd.DataFrame) -> None:
    for name in ("dense.csv", "pruned.csv"):
        table = pd.read_csv("dense.csv") if name == "dense.csv" else pd.read_parquet("pruned.parquet")
        table.rename(columns={"id": "applicant"}).to_csv(name, index=False)
    with pytest.raises(ModelError, match=r"dense.csv has no column of ids .*--id id asks for one; it has .*applicant"):
        check("dense.csv", "pruned.csv", **ROWS, id="id")


def seeds_of(project: pd.DataFrame, count: int) -> list[str]:
    pruned = pd.read_parquet("pruned.parquet").sort_values("id")
    for seed in range(count):
        rows = np.random.default_rng(seed).choice(len(pruned), 50, replace=False)
        answers = pruned["prediction"].to_numpy().copy()
        answers[rows] = 1 - answers[rows]
        pruned.assign(prediction=answers).to_csv(f"seed{seed}.csv", index=False)
    return [f"seed{seed}.csv" for seed in range(count)]


def test_copies_are_no_seeds(project: pd.DataFrame) -> None:
    seeds = seeds_of(project, 5)
    assert check("dense.csv", "pruned.parquet", **ROWS, seeds=seeds).confirmed_flips is not None
    shutil.copy("seed0.csv", "copy.csv")
    pd.read_parquet("pruned.parquet").sort_values("prediction").to_csv("again.csv", index=False)
    for copy, of in (
        ("copy.csv", "seed 1 (seed0.csv)"),
        ("again.csv", "pruned (pruned.parquet)"),
        ("dense.csv", "dense"),
    ):
        with pytest.raises(ModelError, match=re.escape(f"seed 6 ({copy}) is {of}") + ".*a copy confirms nothing"):
            check("dense.csv", "pruned.parquet", **ROWS, seeds=[*seeds, copy])


def test_the_same_weights_in_another_file_are_no_seed(project: pd.DataFrame) -> None:
    for k in range(7):
        torch.save(linear([[1.0, 0.01 * k]], [-0.3]).state_dict(), f"net{k}.pt")
    torch.save({"state_dict": linear([[1.0, 0.01]], [-0.3]).state_dict(), "epoch": 3}, "again.pt")
    how = {**ROWS, "features": ["a", "b"], "model": "nets.py:one"}
    seeds = [f"net{k}.pt" for k in range(2, 7)]
    assert check("net0.pt", "net1.pt", **how, seeds=seeds).confirmed_flips is not None
    with pytest.raises(ModelError, match=re.escape("seed 6 (again.pt) is pruned (net1.pt) once more")):
        check("net0.pt", "net1.pt", **how, seeds=[*seeds, "again.pt"])


def test_rows_that_hold_nan_are_told_as_the_cause(project: pd.DataFrame) -> None:
    net, other = linear([[1.0, 0.0]], [-0.3]), linear([[0.9, 0.0]], [-0.3])
    for empty, told in (
        ([7, 9, 700], r"row 7; that row holds nan itself, as 3 of [\d,]+"),
        ([2_900], "row 2900; .* 1 of "),
    ):
        x = project[["a", "b"]].to_numpy(np.float32).copy()
        x[empty, 0] = np.nan
        with pytest.raises(ModelError, match=f"nan or infinity for {told}"):
            check(net, other, (x, project["label"].to_numpy(), {"sex": project["sex"].to_numpy()}))


class Dice(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + 3 * torch.randn(len(x), 1)


def test_who_asks_row_by_row_is_not_told_to(project: pd.DataFrame) -> None:
    pd.read_csv("rows.csv").head(300).to_csv("rows.csv", index=False)
    how = {**ROWS, "features": ["a", "b"]}
    net = linear([[1.0, 0.0]], [-0.3])
    with pytest.raises(ModelError, match=r"with --per-row\.$"):
        check(net, Dice(2, 1), **how)
    with pytest.raises(ModelError, match="Each row was asked for alone already: is something in its forward drawn"):
        check(net, Dice(2, 1), **how, per_row=True)
    pd.read_csv("dense.csv").merge(pd.read_csv("rows.csv")["id"]).to_csv("answers.csv", index=False)
    with pytest.raises(ModelError, match=r"the pruned model .* Each row was asked for alone already"):
        check("answers.csv", Dice(2, 1), **how, id="id", per_row=True)
