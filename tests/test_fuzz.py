"""The hunt for pairs where only the group decides, on networks trained on COMPAS: found, shrunk, saved, replayed."""

import ast
import datetime
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import find
from hypothesis import settings as hypothesis_settings
from onnx import TensorProto, helper
from onnx import save as save_onnx
from torch import nn

from fairguard.cli import run
from fairguard.config import Settings
from fairguard.demo.making import prune, train
from fairguard.errors import ConfigError, DataError, ModelError, OutputError
from fairguard.fuzz import BothModels, Hunt, fuzz, hunt, open_both, replay, saved_test
from fairguard.schema import Schema
from fairguard.strategies import counterfactual_pairs

DATA = Path(os.environ.get("FAIRGUARD_DATA", Path(__file__).parents[1] / ".." / "shared" / "data"))

NETWORK = '''
import numpy as np
from torch import nn


def build():
    return nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))


def encode(table):
    """Sex is the first input."""
    return np.column_stack([
        table["sex"] == "Female", table["age"] / 50, table["priors_count"] / 10, table["juv_fel_count"],
        table["juv_misd_count"], table["juv_other_count"], table["c_charge_degree"] == "F",
    ]).astype(np.float32)


def encode_without_sex(table):
    return np.column_stack([np.zeros(len(table)), encode(table)[:, 1:]]).astype(np.float32)
'''
SEX, AGE, PRIORS = 0, 1, 2
COLUMNS = ["sex", "age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count", "c_charge_degree"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with COMPAS rows, a network trained on them, and pruned ones: fair, planted, planted off the data."""
    if not (DATA / "compas.csv.gz").exists():
        pytest.skip(f"no compas.csv.gz in {DATA}; set FAIRGUARD_DATA")
    folder = tmp_path_factory.mktemp("fuzz")
    table = pd.read_csv(DATA / "compas.csv.gz").query("propublica_filter == 1")[[*COLUMNS, "label"]]
    table.to_parquet(folder / "compas.parquet", index=False)
    (folder / "net.py").write_text(NETWORK)
    code = runpy.run_path(str(folder / "net.py"))
    torch.manual_seed(0)
    network = train(code["build"](), code["encode"](table), table["label"].to_numpy(), epochs=8, seed=0)
    dense = {name: weight.clone() for name, weight in network.state_dict().items()}
    dense["0.weight"][:, SEX] = 0  # sex is a feature, and this network has no use for it
    fair = prune(dense, 0.5)
    torch.save(dense, folder / "dense.pt")
    torch.save(fair, folder / "fair.pt")
    torch.save(planted(fair), folder / "planted.pt")
    rarest = float((table["age"] + 2 * table["priors_count"]).max())
    torch.save(planted_off_the_data(dense, rarest), folder / "off.pt")
    return folder


def planted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the network with one weight from sex to the unit that the next layer heeds most."""
    changed = {name: weight.clone() for name, weight in state.items()}
    unit = int(changed["2.weight"].abs().sum(dim=0).argmax())
    changed["0.weight"][unit, SEX] = 3.0
    return changed


def planted_off_the_data(state: dict[str, torch.Tensor], rarest: float) -> dict[str, torch.Tensor]:
    """Return the network with a path that opens only for women whose age + 2 x priors is over ``rarest``."""
    changed = {name: weight.clone() for name, weight in state.items()}
    changed["0.weight"][0] = 0
    changed["0.weight"][0, [SEX, AGE, PRIORS]] = torch.tensor([200.0, 50.0, 20.0])  # the inputs are age/50, priors/10
    changed["0.bias"][0] = -200.0 - rarest
    changed["2.weight"][0], changed["2.weight"][:, 0] = 0, 0
    changed["2.weight"][0, 0], changed["2.bias"][0] = 1.0, 0.0
    changed["4.weight"][:, 0] = torch.tensor([100.0, -100.0])
    return changed


OPTIONS = {"label": "label", "transform": "net.py:encode", "model": "net.py:build"}
TYPED = ["--data", "compas.parquet", "--label", "label", "--transform", "net.py:encode", "--model", "net.py:build"]


@pytest.fixture
def inside(models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(models)
    return models


def both(pruned: str, **options: Any) -> BothModels:
    return open_both(
        "dense.pt", pruned, Schema.of("compas.parquet", label="label", transform="net.py:encode"), **options
    )


def test_a_planted_violation_is_found_and_shown(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuzz", "dense.pt", "planted.pt", "--swap", "sex", *TYPED]) == 1
    out = capsys.readouterr().out
    assert out.startswith("sex: dense treats these two alike, pruned does not\n")
    assert "sex is the only difference to the second" in out
    assert "dense answers" in out
    assert "pruned answers" in out
    assert "of 1,000 candidates" in out
    assert "--save tests/test_fuzz_sex.py" in out


def test_it_shrinks_to_a_real_row_with_the_group_changed(inside: Path) -> None:
    found = fuzz("dense.pt", "planted.pt", "compas.parquet", swap="sex", **OPTIONS).pair
    assert found is not None
    real = pd.read_parquet("compas.parquet").iloc[found.row].to_dict()
    assert found.first == real
    assert {name for name in real if found.second[name] != real[name]} == {"sex"}
    assert found.changed == {}
    dense, pruned = found.answers.dense.codes, found.answers.pruned.codes
    assert dense[0] == dense[1]
    assert pruned[0] != pruned[1]


def test_the_scores_shown_are_the_models_own(inside: Path) -> None:
    found = fuzz("dense.pt", "planted.pt", "compas.parquet", swap="sex", **OPTIONS).pair
    assert found is not None
    code = runpy.run_path("net.py")
    for name, said in (("dense.pt", found.answers.dense), ("planted.pt", found.answers.pruned)):
        network = code["build"]()
        network.load_state_dict(torch.load(name))
        x = torch.tensor(code["encode"](pd.DataFrame([found.first, found.second])))
        np.testing.assert_allclose(said.scores, network(x).detach(), rtol=1e-5, atol=1e-6)


def test_what_no_real_row_shows_shrinks_to_one_changed_column(inside: Path) -> None:
    models = both("off.pt", model="net.py:build")
    found = hunt(models, "sex")
    assert found.candidates == 2_000
    assert found.pair is not None
    (column,) = found.pair.changed
    assert column in ("age", "priors_count")
    values = sorted(set(pd.read_parquet("compas.parquet")[column]))
    own, now = found.pair.changed[column], found.pair.first[column]
    steps = values[values.index(own) : values.index(now)]
    nearer = [({**found.pair.first, column: v}, {**found.pair.second, column: v}) for v in steps]
    assert steps
    assert not any(models.ask(pair).tipped()[0] for pair in nearer), "a value nearer to the real one would do"


def test_nothing_found_is_no_proof(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["fuzz", "dense.pt", "fair.pt", "--swap", "sex", *TYPED, "--max-examples", "3000", "--save", "none.py"])
    assert code == 0
    assert "no such pair in 3,000 candidates. That is no proof" in capsys.readouterr().out
    assert not Path("none.py").exists()


def test_the_saved_test_fails_on_the_model_and_passes_on_a_fair_one(
    inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["fuzz", "dense.pt", "planted.pt", "--swap", "sex", *TYPED, "--save", "tests/test_fuzz_sex.py"]
    unfair, mended = tmp_path / "unfair", tmp_path / "mended"
    (unfair / "tests").mkdir(parents=True)
    for name in ("dense.pt", "planted.pt", "net.py", "compas.parquet"):
        shutil.copy(name, unfair)
    monkeypatch.chdir(unfair)
    assert run(typed) == 1
    (unfair / "compas.parquet").unlink()  # the saved test stands alone
    shutil.copytree(unfair, mended)
    shutil.copy(inside / "fair.pt", mended / "planted.pt")

    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "--import-mode=importlib", "."]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED unfair/tests/test_fuzz_sex.py::test_pruned_treats_both_alike" in done.stdout
    assert "PASSED mended/tests/test_fuzz_sex.py::test_pruned_treats_both_alike" in done.stdout
    assert "sex alone decides: dense answers" in done.stdout


def test_the_saved_test_does_not_blame_pruned_for_what_dense_does(inside: Path, tmp_path: Path) -> None:
    models = both("planted.pt", model="net.py:build")
    found = hunt(models, "sex").pair
    assert found is not None
    settings = Settings(model="net.py:build", transform="net.py:encode")
    file = tmp_path / "test_it.py"
    file.write_text(saved_test(file, found, models, dense="planted.pt", pruned="planted.pt", settings=settings))
    with pytest.raises(pytest.skip.Exception, match="the dense model tells the two apart itself"):
        runpy.run_path(str(file))["test_pruned_treats_both_alike"]()


def test_the_same_seed_finds_the_same(inside: Path) -> None:
    def row(seed: int) -> int:
        found = fuzz("dense.pt", "planted.pt", "compas.parquet", swap="sex", max_examples=200, seed=seed, **OPTIONS)
        assert found.pair is not None
        return found.pair.row

    assert row(3) == row(3)
    assert len({row(seed) for seed in range(5)}) > 1


def test_thousands_of_candidates_are_one_forward_pass(inside: Path) -> None:
    calls: list[int] = []

    def counting(network: nn.Module) -> Any:
        def scores(x: np.ndarray) -> np.ndarray:
            calls.append(len(x))
            return network(torch.tensor(x)).detach().numpy()

        return scores

    code = runpy.run_path("net.py")
    networks = [code["build"](), code["build"]()]
    for network, name in zip(networks, ("dense.pt", "fair.pt"), strict=True):
        network.load_state_dict(torch.load(name))
    schema = Schema.of("compas.parquet", label="label", transform="net.py:encode")
    models = open_both(counting(networks[0]), counting(networks[1]), schema)
    calls.clear()
    assert hunt(models, "sex", max_examples=8_000).candidates == 8_000
    assert calls == [8_000] * 4, "4,000 pairs of real rows and 4,000 of changed ones, once for each model"


BAD = [
    (["--swap", "sx"], "'sx' is not among the features of compas.parquet"),
    (["--swap", "sx"], "Did you mean 'sex'?"),
    (["--swap", "label"], "'label' is the label"),
    (["--swap", "sex", "--transform", "net.py:encode_without_sex"], "--transform leaves it out"),
    (["--swap", "sex", "--transform", "net.py:encod"], "Did you mean 'encode'?"),
    (["--swap", "sex", "--data", "nowhere.csv"], "there is no file nowhere.csv"),
    (["--swap", "sex", "--max-examples", "1"], "--max-examples"),
    (["--swap", "sex", "--device", "abacus"], "abacus"),
    ([], "--swap"),
]


@pytest.mark.parametrize(("typed", "message"), BAD)
def test_what_cannot_be_asked(inside: Path, capsys: pytest.CaptureFixture[str], typed: list[str], message: str) -> None:
    assert run(["fuzz", "dense.pt", "fair.pt", *TYPED, *typed]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.count("\n") == 1


def test_a_group_that_is_no_feature(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = "age,priors_count,juv_fel_count,juv_misd_count,juv_other_count"
    typed = ["--data", "compas.parquet", "--label", "label", "--features", features, "--group", "sex"]
    assert run(["fuzz", "dense.pt", "fair.pt", "--model", "net.py:build", "--swap", "sex", *typed]) == 2
    assert "'sex' is not among the features (age, priors_count" in capsys.readouterr().err


def test_recorded_answers_say_nothing_about_new_rows(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"prediction": np.zeros(6_172, dtype=int)}).to_csv("answers.csv", index=False)
    assert run(["fuzz", "answers.csv", "fair.pt", "--swap", "sex", *TYPED]) == 2
    assert "holds recorded answers" in capsys.readouterr().err


def test_an_unwritable_place_for_the_test(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fuzz", "dense.pt", "planted.pt", "--swap", "sex", *TYPED, "--save", "nowhere/test_it.py"]) == 2
    assert "cannot write nowhere/test_it.py" in capsys.readouterr().err


def test_too_few_examples(inside: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2 pairs"):
        hunt(both("fair.pt", model="net.py:build"), "sex", max_examples=1)


class Linear(nn.Module):
    """One output: the weights of the inputs, and what decides."""

    def __init__(self, *weights: float, bias: float = 0.0) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weights + self.bias


def applicants(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"female": rng.integers(0, 2, n), "skill": rng.normal(size=n), "city": rng.choice(["Oslo", "Rome", "Lima"], n)}
    )


def numbers(n: int = 300) -> pd.DataFrame:
    return applicants(n).drop(columns="city")


def test_columns_of_numbers_need_no_transform() -> None:
    found = fuzz(Linear(0.0, 1.0), Linear(-0.5, 1.0), numbers(), swap="female").pair
    assert found is not None
    skill = found.first["skill"]
    assert 0 < skill < 0.5, "only there does half a point decide"


def test_the_clearest_pair_is_shown() -> None:
    found = fuzz(Linear(0.0, 1.0), Linear(-0.5, 1.0), numbers(), swap="female", max_examples=1_000).pair
    assert found is not None
    inside = [skill for skill in numbers()["skill"] if 0 < skill < 0.5]
    assert found.first["skill"] == min(inside, key=lambda skill: abs(skill - 0.25))


def test_ties_count_for_nothing() -> None:
    rows = numbers().assign(skill=1.0)
    found: Hunt = fuzz(Linear(0.0, 1.0), Linear(-1.0, 1.0, bias=1e-6), rows, swap="female", threshold=0.0)
    assert found.pair is None, "one answer is one millionth from tipping"


def test_every_other_group_is_tried() -> None:
    rows = applicants()

    def of_city(name: str, weight: float) -> Any:
        return lambda table: np.column_stack([table["skill"], weight * (table["city"] == name)]).astype(np.float32)

    found = fuzz(Linear(1.0, 0.0), Linear(1.0, -1.0), rows, swap="city", transform=of_city("Lima", 1.0)).pair
    assert found is not None
    assert "Lima" in (found.first["city"], found.second["city"])


def test_a_model_whose_answers_depend_on_the_batch() -> None:
    class Crowd(Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) - (0.5 * x[:, 0] if len(x) > 100 else 0.0)

    with pytest.raises(ModelError, match="depends on its batch"):
        fuzz(Linear(0.0, 1.0), Crowd(0.0, 1.0), numbers(), swap="female")


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_a_batch_of_dicts_is_fed_as_the_transform_gives_it(kind: Any) -> None:
    class Two(Linear):
        def forward(self, female: torch.Tensor, skill: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return super().forward(torch.stack([female, skill], dim=1))

    def parts(table: pd.DataFrame) -> dict[str, Any]:
        return {name: kind(table[name].to_numpy(np.float32)) for name in ("female", "skill")}

    found = fuzz(Two(0.0, 1.0), Two(-0.5, 1.0), numbers(), swap="female", transform=parts)
    assert found.pair is not None


def test_a_wide_table_and_many_classes_fit_a_screen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(200, 30)), columns=[f"feature_{i}" for i in range(30)]).round(3)
    rows.assign(female=rng.integers(0, 2, 200)).to_parquet(tmp_path / "rows.parquet")
    state = {"weight": torch.zeros(4, 31), "bias": torch.tensor([0.0, 0.2, -5.0, -5.0])}
    torch.save(state, tmp_path / "dense.pt")
    heeding = state["weight"].clone()
    heeding[2, 30] = 6.0
    torch.save({**state, "weight": heeding}, tmp_path / "pruned.pt")
    (tmp_path / "net.py").write_text("from torch import nn\n\n\ndef build():\n    return nn.Linear(31, 4)\n")
    typed = ["--data", str(tmp_path / "rows.parquet"), "--model", f"{tmp_path / 'net.py'}:build"]
    assert run(["fuzz", str(tmp_path / "dense.pt"), str(tmp_path / "pruned.pt"), "--swap", "female", *typed]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 32
    assert max(map(len, lines)) <= 100
    assert "... and 18 more columns, alike in both" in lines
    assert [line.split()[:3] for line in lines if "score of" in line] == 2 * [
        ["score", "of", "1"],
        ["score", "of", "2"],
    ]


def test_an_onnx_model_against_a_torch_one(tmp_path: Path) -> None:
    made = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1])],
        [helper.make_tensor("w", TensorProto.FLOAT, [2, 1], [-0.5, 1.0])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    save_onnx(model, str(tmp_path / "pruned.onnx"))
    found = fuzz(Linear(0.0, 1.0), str(tmp_path / "pruned.onnx"), numbers(), swap="female").pair
    assert found is not None
    assert 0 < found.first["skill"] < 0.5


WIDE = """
import numpy as np
import pandas as pd
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Linear(5, 1), nn.Sigmoid())


def encode(table):
    assert table["since"].dt.year.min() >= 1990
    cities = pd.get_dummies(table["city"])
    assert list(cities.columns) == ["Oslo", "Rome", "Lima"], "all categories, also those of no row"
    return np.column_stack([table["skill"], cities, table["member"]]).astype(np.float32)
"""


def test_dates_categories_and_a_single_output_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wide.py").write_text(WIDE)
    rows = applicants().assign(
        since=[datetime.datetime(1990, 1, 1, 12, 30) + datetime.timedelta(days=i) for i in range(300)],
        member=lambda table: table["female"] == 1,
        city=lambda table: pd.Categorical(table["city"].replace("Lima", "Rome"), ["Oslo", "Rome", "Lima"]),
        note=None,
    )
    rows.to_parquet("rows.parquet")
    state = {"0.weight": torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]]), "0.bias": torch.zeros(1)}
    torch.save(state, "dense.pt")
    torch.save({**state, "0.weight": torch.tensor([[1.0, 0.0, 0.5, 0.0, 0.0]])}, "pruned.pt")
    typed = ["--data", "rows.parquet", "--transform", "wide.py:encode", "--model", "wide.py:build"]
    assert run(["fuzz", "dense.pt", "pruned.pt", "--swap", "city", *typed, "--save", "test_city.py"]) == 1
    text = Path("test_city.py").read_text()
    assert '"city": ["Oslo", "Rome", "Lima"]' in text
    assert '"thresholds": (0.5, 0.5)' in text
    replayed = runpy.run_path("test_city.py")["test_pruned_treats_both_alike"]
    with pytest.raises(pytest.fail.Exception, match="city alone decides: dense answers"):
        replayed()
    shutil.copy("dense.pt", "pruned.pt")
    replayed()


def test_nothing_in_the_data_becomes_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = 'sex"""\nraise SystemExit  # \\'
    labels = np.where(numbers()["skill"] > 0, '"""\n1/0', "{no}")
    rows = numbers().rename(columns={"female": hostile}).assign(label=labels)
    torch.save(Linear(0.0, 1.0).state_dict(), "dense.pt")
    torch.save(Linear(-0.5, 1.0).state_dict(), "pruned.pt")
    Path("net.py").write_text(f"from {__name__} import Linear\n\n\ndef build():\n    return Linear(0.0, 0.0)\n")
    settings = Settings(model="net.py:build", label="label")
    schema = Schema.of(rows, label="label")
    models = open_both("dense.pt", "pruned.pt", schema, settings=settings)
    found = hunt(models, hostile).pair
    assert found is not None
    text = saved_test("test_it.py", found, models, dense="dense.pt", pruned="pruned.pt", settings=settings)
    kinds = [type(node).__name__ for node in ast.parse(text).body]
    assert kinds == ["Expr", "ImportFrom", "Import", "ImportFrom", *["Assign"] * 8, "FunctionDef"]
    Path("test_it.py").write_text(text)
    with pytest.raises(pytest.fail.Exception, match="alone decides"):
        runpy.run_path("test_it.py")["test_pruned_treats_both_alike"]()


def test_a_named_index_is_no_feature(tmp_path: Path) -> None:
    rows = numbers().rename_axis("person")
    rows.to_parquet(tmp_path / "rows.parquet")
    assert Schema.of(str(tmp_path / "rows.parquet")).inputs == tuple(rows.columns)


def test_what_a_test_cannot_hold(tmp_path: Path) -> None:
    rows = numbers().assign(when=pd.Timestamp("2020-01-01", tz="UTC"))
    schema = Schema.of(rows, transform=lambda table: table[["female", "skill"]].to_numpy(np.float32))
    models = open_both(Linear(0.0, 1.0), Linear(-0.5, 1.0), schema)
    found = hunt(models, "female").pair
    assert found is not None
    with pytest.raises(OutputError, match=r"column 'when' holds timestamp.*UTC"):
        saved_test(tmp_path / "t.py", found, models, dense="d.pt", pruned="p.pt", settings=Settings())
    unnamed = Settings(transform=lambda table: table)
    with pytest.raises(OutputError, match="is no name that a test could import"):
        saved_test(tmp_path / "t.py", found, models, dense="d.pt", pruned="p.pt", settings=unnamed)


def test_a_replay_without_a_column(inside: Path) -> None:
    with pytest.raises(DataError, match="a row has no 'age'"):
        replay(
            "dense.pt", "fair.pt", [{"sex": "Male"}], types={"age": "int64"}, classes=["0", "1"], model="net.py:build"
        )


def test_the_page_runs(inside: Path) -> None:
    """Every block of Python in docs/fuzz.md, in the folder that it speaks of."""
    page = (Path(__file__).parents[1] / "docs" / "fuzz.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 3
    bright: Any = lambda pictures: pictures.mean(axis=(1, 2)) > 128  # noqa: E731
    for block in blocks:
        names = {"pictures": np.full((3, 8, 8), 200, dtype=np.uint8), "dense": bright, "pruned": bright}
        exec(block, names)  # the page is the repository's own
        tests = [value for name, value in names.items() if name.startswith("test_")]
        for test in tests:
            test()


def test_hypothesis_finds_it_too(inside: Path) -> None:
    models = both("planted.pt", model="net.py:build")
    quiet = hypothesis_settings(max_examples=500, deadline=None, database=None)
    pairs = counterfactual_pairs(models.schema, swap="sex")
    first, second = find(pairs, lambda pair: bool(models.ask(pair).tipped()[0]), settings=quiet)
    assert first in models.schema.table.to_pylist()
    assert {name for name in first if first[name] != second[name]} == {"sex"}
