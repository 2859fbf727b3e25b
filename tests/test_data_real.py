"""Real data with protected attributes, read as a user would; skipped where the files are not at hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard.config import load_settings
from fairguard.errors import DataError
from fairguard.inputs.data import group_values, open_data
from fairguard.inputs.rows import Source
from fairguard.inputs.starter import init_text

Real = Callable[[str], Path]


@pytest.fixture
def real(data_dir: Path) -> Real:
    def found(name: str) -> Path:
        if not (data_dir / name).is_file():
            pytest.skip(f"{name} is not in {data_dir} (set FAIRGUARD_DATA)")
        return data_dir / name

    return found


def sizes(source: Source, column: str) -> dict[str, int]:
    i = source.columns.index(column)
    counts = sum(np.bincount(batch.codes[:, i], minlength=len(source.levels[i])) for batch in source.batches(4096))
    return dict(zip(source.levels[i], np.asarray(counts).tolist(), strict=True))


def test_compas(real: Real) -> None:
    path = real("compas.csv.gz")
    source = open_data(path, label="label", groups=["race", "age:25,45"], features=["age", "priors_count"])
    frame = pd.read_csv(path)
    assert source.n_rows == len(frame) == 7214
    assert sizes(source, "race") == frame.race.value_counts().to_dict()
    assert sizes(source, "age")[">=45"] == (frame.age >= 45).sum()
    x = np.concatenate([batch.x for batch in source.batches(1000)])
    np.testing.assert_array_equal(x, frame[["age", "priors_count"]].to_numpy(dtype=np.float32))
    with pytest.raises(DataError, match="c_charge_degree, c_charge_desc, score_text hold no numbers"):
        open_data(path, label="label", groups=["sex", "race", "age_cat"])


def test_adult_has_blanks_and_categories(real: Real) -> None:
    path = real("adult.csv.gz")
    frame = pd.read_csv(path)

    def encode(rows: pd.DataFrame) -> np.ndarray:
        assert rows.shape[1] == frame.shape[1]
        return np.column_stack([rows["age"] / 100, rows["education"] == "Bachelors"])

    source = open_data(path, label="label", groups=["sex", "workclass"], transform=encode)
    assert source.classes == ("0", "1")
    assert sizes(source, "workclass")["(missing)"] == frame.workclass.isna().sum() > 0
    x = np.concatenate([batch.x for batch in source.batches(5000)])
    np.testing.assert_array_equal(x, encode(frame).astype(np.float32))
    with pytest.raises(DataError, match=r"'age' holds more than 50 different numbers; bin it: 'age:30,35,50'"):
        group_values(path, ["age"])
    with pytest.raises(DataError, match="fnlwgt"):
        group_values(path, ["fnlwgt"])


def test_utkface(real: Real) -> None:
    path = real("utkface.npz")
    source = open_data(path, label="gender", groups=["race", "age:20,40,60", "class"])
    assert source.classes == ("male", "female")
    with np.load(path) as arrays:
        race = np.bincount(arrays["race"])
        assert sizes(source, "race") == dict(sorted(zip(arrays["race_names"].tolist(), race.tolist(), strict=True)))
        assert sizes(source, "class") == dict(
            zip(("male", "female"), np.bincount(arrays["gender"]).tolist(), strict=True)
        )
        first = next(iter(source.batches(64)))
        np.testing.assert_array_equal(first.x, arrays["X"][:64])


def test_cifar10_by_class(real: Real) -> None:
    source = open_data(real("cifar10.npz"), label="label", groups=["class"], needs_features=False)
    assert source.n_rows == 25_000
    assert sizes(source, "class")["dog"] > 2000
    assert list(source.levels[0]) == list(source.classes or ())


@pytest.mark.parametrize(
    ("name", "label", "groups"),
    [
        ("compas.csv.gz", "label", ("sex", "age_cat", "race")),
        ("law_school.csv.gz", "label", ("race", "sex")),
        ("utkface.npz", None, ("age:10,20,50", "gender", "race")),
        ("cifar10.npz", "label", ("class",)),
    ],
)
def test_a_first_configuration(
    real: Real, tmp_path: Path, name: str, label: str | None, groups: tuple[str, ...]
) -> None:
    (tmp_path / "fairguard.toml").write_text(init_text(real(name)))
    settings = load_settings(tmp_path / "fairguard.toml")
    assert settings.label == label
    assert set(settings.groups) == set(groups)
