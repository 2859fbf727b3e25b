"""Options from a configuration file and from the command line, and the file that `fairguard init` writes."""

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard.cli.options import settings_from
from fairguard.config import Accepted, Settings, load_settings, merged
from fairguard.errors import ConfigError, DataError
from fairguard.inputs.data import open_data
from fairguard.inputs.starter import init_text
from fairguard.metrics import Metric
from fairguard.policy import Policy


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str, name: str = "fairguard.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_without_a_file_the_defaults_stand(project: Path) -> None:
    assert load_settings() == Settings()
    assert Settings().policy() == Policy()


def test_every_kind_of_option(project: Path) -> None:
    write(
        project,
        """
        data = "val.parquet"
        label = "hired"
        groups = ["sex", "age:25,45"]
        classes = [0, 1]
        favourable = 1
        metrics = "recall"
        margin = 0.05
        min-group = 30
        device = "cuda:1"
        margins = {recall = 0.1}
        accept = [{group = "age=>=65", until = 2027-01-01, why = "few rows"}]
        """,
    )
    settings = load_settings()
    assert settings.groups == ("sex", "age:25,45")
    assert settings.classes == ("0", "1")
    assert settings.accept == (Accepted(group="age=>=65", until=date(2027, 1, 1), why="few rows"),)
    assert settings.policy() == Policy(
        metrics=(Metric.RECALL,), margin=0.05, margins={Metric.RECALL: 0.1}, min_group=30, favourable="1"
    )


def test_the_nearest_file_upward_counts(project: Path) -> None:
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    write(project, "[tool.fairguard]\nmargin = 0.1\n", "pyproject.toml")
    write(project / "a", "[tool.other]\nmargin = 0.2\n", "pyproject.toml")  # nothing of ours
    assert load_settings(start=inner).margin == 0.1
    write(inner, "margin = 0.3\n")
    assert load_settings(start=inner).margin == 0.3
    assert load_settings(project / "pyproject.toml", start=inner).margin == 0.1


def test_files_lie_beside_the_configuration(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    data = "val.csv"
    model = "models.py:make_net"
    model_pruned = "package.nets:small"
    transform = "sub/prep.py:encode"
    flips = "out/flips.csv"
    seeds = ["a.pt", "more/b.pt"]
    """
    write(project, text)
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    settings = load_settings()
    assert settings.data == str(project / "val.csv")
    assert settings.model == f"{project}/models.py:make_net"
    assert settings.model_pruned == "package.nets:small"
    assert settings.transform == f"{project}/sub/prep.py:encode"
    assert settings.flips == str(project / "out" / "flips.csv")
    assert settings.seeds == (str(project / "a.pt"), str(project / "more" / "b.pt"))
    monkeypatch.chdir(project)
    assert load_settings().data == "val.csv"
    assert load_settings().model == "models.py:make_net"
    assert load_settings().seeds == ("a.pt", "more/b.pt")


def test_one_seed_alone_lies_beside_the_configuration_too(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, 'seeds = "a.pt"')
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    assert load_settings().seeds == (str(project / "a.pt"),)


def test_a_margin_that_decides_nothing_is_told() -> None:
    policy = Policy.of(margins={"fpr": 0.01, "accuracy": 0.02})
    (told,) = policy.idle_margin_warnings({Metric.ACCURACY})
    assert told.startswith("margin for fpr is given, and fpr is not gated: add --metric accuracy --metric fpr")
    assert policy.idle_margin_warnings({"accuracy", "recall", "fpr"}) == ()
    (told,) = Policy.of(metrics="recall", margins={"fpr": 0.01, "recall": 0.1}).idle_margin_warnings({"recall"})
    assert "add --metric fpr," in told


def test_data_from_code_is_no_path(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, 'data = "package.data:rows"')
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    assert load_settings().data == "package.data:rows"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("margn = 0.1", r"fairguard.toml: unknown option 'margn'. Did you mean 'margin'\?"),
        ("group = ['a']", r"unknown option 'group'. Did you mean 'groups'\?"),
        ("zzzzzz = 1", r"unknown option 'zzzzzz'. Options: metrics, margin, "),
        ("margin = 7", r"fairguard.toml: option 'margin': 7 is not valid: .* less than 1"),
        ("margin = 'x'", r"option 'margin': 'x' is not valid"),
        ("device = 'gpu'", r"option 'device': 'gpu' is not valid"),
        ("format = 'pdf'", r"option 'format': 'pdf' is not valid: input should be 'text', 'json', 'html', .*"),
        ("metrics = ['acuracy']", r"option 'metrics': 'acuracy' is not valid: .*\. Did you mean 'accuracy'\?"),
        ("[margins]\nrecal = 0.1", r"option 'margins': 'recal' is not valid: .*\. Did you mean 'recall'\?"),
        ("[margins]\nrecall = 7", r"option 'margins.recall': 7 is not valid: "),
        ("model = 7", r"option 'model': 7 is not valid: input should be a valid string\.$"),
        ("output = 7", r"option 'output': 7 is not valid: "),
        ("accept = [{group = 'a=b', until = 2027-01-01}]", r"option 'accept.why': .* field required"),
        ("seed = 9999999999999999999999", r"option 'seed': 9999999999999999999999 is not valid: "),
        ("looks = 1000000000", r"option 'looks': 1000000000 is not valid: .* less than or equal to 100"),
        ("classes = ['a', 'b', 'a']", r"option 'classes': .* is not valid: name each class once, and 'a' stands there"),
        ("seed = " + "9" * 5_000, r"fairguard.toml is no proper TOML: "),
        ("groups = " + "[" * 900 + "]" * 900, r"fairguard.toml is no proper TOML: "),
        ("accept = [{group = 'a=b', until = 2027-01-01, why = ' '}]", r"option 'accept.why': ' ' is not valid: "),
        ("margin 0.1", r"fairguard.toml is no proper TOML"),
        ("trust = true", r"'trust' is for the command line alone: a file that comes with a project must not allow"),
        ("trust = false", r"'trust' is for the command line alone"),
        ("[tool.other]\nmargin = 1", r"has no \[tool.fairguard\]"),
        ("tool = 1", r"options stand in a table, \[tool.fairguard\]"),
        ("[tool]\nfairguard = 3", r"options stand in a table, \[tool.fairguard\]"),
    ],
)
def test_mistakes_are_one_line(project: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as error:
        load_settings(write(project, text))
    assert "\n" not in str(error.value)


def test_a_mark_of_the_byte_order_is_no_mistake(project: Path) -> None:
    assert load_settings(_bytes(project / "fairguard.toml", b"\xef\xbb\xbfmargin = 0.05\n")).margin == 0.05


def test_a_margin_of_no_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="option 'margins': '' is not valid: input should be 'accuracy'"):
        settings_from(None, margin=("=0.1",))


def test_files_that_cannot_be_read(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read absent\.toml: No such file"):
        load_settings(Path("absent.toml"))
    with pytest.raises(ConfigError, match="is no proper TOML"):
        load_settings(write(project, "") and _bytes(project / "fairguard.toml", b"\xff\xfe"))


def _bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_the_command_line_wins(project: Path) -> None:
    write(project, "margin = 0.1\nalpha = 0.01\ngroups = ['sex']\nmargins = {recall = 0.2, fpr = 0.3}")
    settings = merged(
        load_settings(), {"margin": 0.05, "groups": ("race",), "margins": {"recall": 0.25}, "trust": True}
    )
    assert (settings.margin, settings.alpha, settings.groups, settings.trust) == (0.05, 0.01, ("race",), True)
    assert settings.margins == {Metric.RECALL: 0.25, Metric.FPR: 0.3}
    assert load_settings().margin == 0.1


def test_wrong_overrides() -> None:
    with pytest.raises(ConfigError, match=r"^unknown option 'max_dorp'\. Options: "):
        merged(Settings(), {"max_dorp": 1})
    with pytest.raises(ConfigError, match=r"unknown option 'margn'. Did you mean 'margin'\?"):
        merged(Settings(), {"margn": 1})
    with pytest.raises(ConfigError, match="option 'alpha': 0 is not valid"):
        merged(Settings(), {"alpha": 0})


def test_callables_and_tables_may_be_given_from_python() -> None:
    frame = pd.DataFrame({"a": [1]})
    settings = merged(Settings(), {"model": len, "data": frame})
    assert settings.model is len
    assert settings.data is frame


def test_reading_a_configuration_loads_nothing_heavy(project: Path) -> None:
    write(project, "margin = 0.1")
    code = (
        "import sys; from fairguard.config import load_settings; load_settings().policy();"
        "print({m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'pyarrow', 'pandas', 'fairlearn'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def applicants(n: int = 2000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "gpa": rng.normal(3, 0.5, n),
            "AGE": rng.integers(18, 80, n),
            "Gender": rng.choice(["f", "m"], n),
            "page": rng.integers(0, 3, n),
            "ethnic_group": rng.choice(list("abc"), n),
            "town": rng.choice(["x", "y"], n),
            "hired": rng.integers(0, 2, n),
        }
    )


def test_init_writes_what_check_reads(project: Path) -> None:
    applicants().to_parquet("val.parquet")
    text = init_text("val.parquet")
    settings = load_settings(write(project, text))
    assert settings.data == "val.parquet"
    assert settings.label == "hired"
    assert settings.groups == ("AGE:30,50,65", "Gender", "ethnic_group")
    assert "# These hold no numbers: town." in text
    assert '# features = ["gpa", "page"]' in text
    source = open_data(settings.data, label=settings.label, groups=settings.groups, features=["gpa"])
    assert source.n_rows == 2000


def test_init_names_the_rows_where_a_column_does(project: Path) -> None:
    frame = applicants()
    frame.assign(ID=range(len(frame))).to_csv("v.csv", index=False)
    text = init_text("v.csv")
    assert load_settings(write(project, text)).id == "ID"
    frame.assign(person=[f"p{i}" for i in range(len(frame))]).to_parquet("v.parquet")
    assert load_settings(write(project, init_text("v.parquet"))).id == "person", "each value stands once"
    assert '# features = ["gpa", "page"]' in text


def test_init_does_not_guess_where_it_cannot(project: Path) -> None:
    pd.DataFrame({"a": np.arange(300) / 7, "b": np.arange(300)}).to_csv("v.csv", index=False)
    settings = load_settings(write(project, init_text("v.csv")))
    assert settings.label is None
    assert settings.groups == ()
    np.savez("v.npz", X=np.zeros((20, 2)), y=np.arange(20) % 2, split=np.arange(20) % 3, sex=np.arange(20) % 2)
    settings = load_settings(write(project, init_text("v.npz")))
    assert (settings.label, settings.groups) == ("y", ("sex",))
    np.savez("w.npz", X=np.zeros((20, 2)), kind=np.arange(20) % 2)
    settings = load_settings(write(project, init_text("w.npz", label="kind")))
    assert (settings.label, settings.groups) == ("kind", ("class",))


def test_init_prefers_categories_of_age_to_bins(project: Path) -> None:
    frame = applicants().rename(columns={"AGE": "age"}).assign(age_cat=lambda t: np.where(t.age < 40, "young", "old"))
    frame.to_csv("v.csv", index=False)
    assert load_settings(write(project, init_text("v.csv", label="hired"))).groups == (
        "Gender", "ethnic_group", "age_cat",
    )  # fmt: skip


def test_init_leaves_what_an_encoder_made_to_the_models(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = applicants().drop(columns=["ethnic_group", "town", "page"])
    status = np.arange(len(frame)) % 4
    encoded = {f"marital_status_{name}": (status == k).astype(float) for k, name in enumerate(("Divorced", "Widowed"))}
    encoded |= {"n_age": (frame["AGE"] - frame["AGE"].mean()) / frame["AGE"].std(), "veteran": status % 2}
    frame = frame.drop(columns="AGE").assign(**encoded)
    frame.to_parquet("v.parquet")
    text = init_text("v.parquet")
    assert load_settings(write(project, text)).groups == ("Gender", "veteran"), "one column of 0 and 1 is a group"
    left = "marital_status_Divorced, marital_status_Widowed, n_age"
    assert f"# Left to the models, as they look one-hot or scaled: {left}." in text
    assert '# features = ["gpa", "marital_status_Divorced", "marital_status_Widowed", "n_age"]' in text
    overlapping = {"age_over_40": (status > 1).astype(int), "age_over_60": (status > 2).astype(int)}
    frame.assign(**overlapping).to_parquet("v.parquet")
    groups = load_settings(write(project, init_text("v.parquet"))).groups
    assert groups == ("Gender", "veteran", "age_over_40", "age_over_60"), "these hold for one person together"


def test_init_quotes_strange_names(project: Path) -> None:
    pd.DataFrame({'se"x\\ sex': ["a", "b"] * 5, "ü": [0.5, 1] * 5, "label": [0, 1] * 5}).to_csv("v.csv", index=False)
    assert load_settings(write(project, init_text("v.csv"))).groups == ('se"x\\ sex',)


def test_init_on_files_that_are_no_data(project: Path) -> None:
    (project / "empty.csv").write_text("")
    with pytest.raises(DataError, match=r"empty\.csv is empty"):
        init_text("empty.csv")
    applicants().to_csv("v.csv", index=False)
    with pytest.raises(DataError, match=r"has no column 'hird'.*Did you mean 'hired'"):
        init_text("v.csv", label="hird")


def test_a_margin_by_metric_under_the_wrong_name_is_told_the_right_one(project: Path) -> None:
    (project / "fairguard.toml").write_text("margin = {accuracy = 0.01}\n")
    with pytest.raises(ConfigError, match="by metric are an option of their own, `margins`"):
        load_settings()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("margins", 0.05, "0.05 is not valid: .*One margin for all metrics is an option of its own, `margin`"),
        ("margins", None, "None is not valid: input should be a valid dictionary"),
        ("favourable", 0.5, "0.5 is not valid: input should be a valid string"),
        ("favourable", np.array([0, 1]), "input should be a valid string"),
    ],
)
def test_a_value_of_another_kind_from_python_is_told_in_one_line(option: str, value: object, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^option '{option}': .*{told}") as error:
        merged(Settings(), {option: value})
    assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match=f"^option '{option}': .*{told}"):
        Policy.of(**{option: value})


@pytest.mark.parametrize("value", [1, np.int64(1), np.uint8(1), "1"])
def test_what_is_named_may_be_a_number_of_python_or_of_numpy(value: object) -> None:
    assert Policy.of(favourable=value).favourable == "1"
    given = {"favourable": value, "output_key": value, "classes": ["0", value], "groups": value}
    settings = merged(Settings(), given)
    assert (settings.favourable, settings.output_key) == ("1", "1")
    assert (settings.classes, settings.groups) == (("0", "1"), ("1",))


def test_names_may_stand_in_an_array_and_booleans_are_names() -> None:
    settings = merged(Settings(), {"classes": np.array([0, 1]), "groups": np.array(["a", "b"])})
    assert (settings.classes, settings.groups) == (("0", "1"), ("a", "b"))
    for value in (True, np.True_):
        assert merged(Settings(), {"favourable": value}).favourable == Policy.of(favourable=value).favourable == "True"
