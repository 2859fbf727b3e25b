"""Sensitive features as the user asks for them, and the groups that their values make."""

import numpy as np
import pandas as pd
import pytest

from fairguard.errors import ConfigError, DataError
from fairguard.inputs.data import group_values, open_data
from fairguard.inputs.groups import GroupSpec, parse_groups

HUGE = 1.7e308


def table(**columns: object) -> pd.DataFrame:
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    return pd.DataFrame({"x": np.arange(n, dtype=float), "y": np.arange(n) % 2, **columns})


def groups_of(values: object, spec: str = "g") -> tuple[str, ...]:
    return group_values(table(g=values), [spec], label="y")["g"]


def names_by_row(frame: pd.DataFrame, spec: str) -> list[str]:
    source = open_data(frame, label="y", groups=[spec], features=["x"])
    codes = np.concatenate([batch.codes[:, 0] for batch in source.batches(2)])
    return [source.levels[0][code] for code in codes]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("race", GroupSpec("race")),
        ("age:25,45,65", GroupSpec("age", (25, 45, 65))),
        ("age: 25, 45", GroupSpec("age", (25, 45))),
        ("t:-1.5,0,2e3", GroupSpec("t", (-1.5, 0, 2000))),
        ("odd:name", GroupSpec("odd:name")),
    ],
)
def test_what_is_asked_for(text: str, spec: GroupSpec) -> None:
    assert GroupSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["age:45,25", "age:25,25", "age:25,,45", "age:1-2"])
def test_bins_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="ascending numbers"):
        GroupSpec.parse(text)


def test_a_column_is_named_once() -> None:
    with pytest.raises(ConfigError, match="'age' is named twice"):
        parse_groups(["age:30", "age:50"])
    assert [spec.column for spec in parse_groups("sex")] == ["sex"]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([True, False, True], ("False", "True")),
        ([10, 9, 2], ("2", "9", "10")),
        ([1.0, 2.0, np.nan], ("1", "2", "(missing)")),
        ([0.5, 2.0, 0.25], ("0.25", "0.5", "2")),
        (["b", "a", None], ("a", "b", "(missing)")),
        (["b", "(missing)", None], ('"(missing)"', "b", "(missing)")),
        (["b", "b ", "a & b"], ('"b "', "a & b", "b")),
        (["a & sex=F", "a", "b"], ('"a & sex=F"', "a", "b")),
        (["b", "", "a"], ("a", "b", "(missing)")),
        (pd.Categorical(["b", "a", "b"], categories=["unused", "b", "a"]), ("a", "b")),
        (pd.Categorical([2, 10, 2]), ("2", "10")),
        (pd.to_datetime(["2020-01-02", "2020-01-01", "2020-01-02"]).date, ("2020-01-01", "2020-01-02")),
        (pd.array([1, None, 0], dtype="Int64"), ("0", "1", "(missing)")),
        (pd.array([True, None, False], dtype="boolean"), ("False", "True", "(missing)")),
    ],
)
def test_names_of_values(values: object, names: tuple[str, ...]) -> None:
    assert groups_of(values) == names


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([1234567.12, 1234567.13], ("1234567.12", "1234567.13")),
        (np.array([0.1, 0.5, 0.25], dtype=np.float32), ("0.1", "0.25", "0.5")),
        (np.array([0.1, 0.10000001], dtype=np.float32), ("0.1", "0.10000001")),
    ],
    ids=["long", "as written", "float32"],
)
def test_two_numbers_are_two_groups(values: object, names: tuple[str, ...]) -> None:
    assert groups_of(values) == names


def test_edges_that_are_close_are_edges_of_their_own() -> None:
    names = groups_of([1234567.1, 1234567.125, 1234567.2], "g:1234567.12,1234567.13")
    assert names == ("<1234567.12", "1234567.12-1234567.13", ">=1234567.13")


@pytest.mark.parametrize("values", [["10", "nan", "1", "2"], ["nan", "2", "10", "1"], ["1", "2", "nan", "10"]])
def test_the_text_nan_is_no_number_to_sort_by(values: list[str]) -> None:
    assert groups_of(values) == ("1", "10", "2", "nan")


@pytest.mark.parametrize("values", [["1.0", "1", "01"], ["01", "1.0", "1"]])
def test_texts_of_one_number_stand_in_one_order(values: list[str]) -> None:
    assert groups_of(values) == ("01", "1", "1.0")


def test_a_column_with_a_colon_is_meant_by_its_own_name() -> None:
    frame = table(**{"hh:30": ["a", "b", "a", "b"], "hh": [10, 20, 30, 40]})
    assert group_values(frame, ["hh:30"], label="y") == {"hh:30": ("a", "b")}
    assert group_values(frame.drop(columns="hh:30"), ["hh:30"], label="y") == {"hh": ("<30", ">=30")}
    x, y, named = frame[["x"]].to_numpy(), frame["y"].to_numpy(), {"hh:30": frame["hh:30"].to_numpy()}
    assert group_values((x, y, named), ["hh:30"]) == {"hh:30": ("a", "b")}
    assert group_values([(x, y, named)], ["hh:30"]) == {"hh:30": ("a", "b")}
    assert group_values({"X": x, "y": y, **named}, ["hh:30"]) == {"hh:30": ("a", "b")}


def test_bins_hold_their_lower_edge() -> None:
    frame = table(g=[24.9, 25.0, 44.0, 45.0, 64.0, 65.0, np.nan, 1000.0])
    assert names_by_row(frame, "g:25,45,65") == [
        "<25", "25-45", "25-45", "45-65", "45-65", ">=65", "(missing)", ">=65",
    ]  # fmt: skip


def test_bins_without_rows_are_no_groups() -> None:
    assert groups_of([10, 70, 80], "g:25,45,65") == ("<25", ">=65")


def test_every_row_gets_its_own_group_across_chunks() -> None:
    rng = np.random.default_rng(0)
    values = rng.choice(["a", "b", "c", None], size=100_000)
    frame = table(g=values)
    expected = ["(missing)" if v is None else v for v in values]
    assert names_by_row(frame, "g") == expected


def test_one_value_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="group 'g' has one value, 'a', in all 3 rows"):
        groups_of(["a", "a", "a"])
    with pytest.raises(DataError, match="one value, '>=5', in all 3 rows"):
        groups_of([6, 7, 8], "g:5")
    assert groups_of(["a", None, "a"]) == ("a", "(missing)")


def test_a_number_of_many_values_wants_bins() -> None:
    ages = np.random.default_rng(0).integers(17, 91, 5000)
    with pytest.raises(DataError, match="more than 50 different numbers; bin it: 'g:35,55,75'"):
        groups_of(ages)
    skewed = np.where(np.arange(5000) < 4900, 0.0, np.arange(5000))
    with pytest.raises(DataError, match=r"bin it: 'g:\d+'") as told:
        groups_of(skewed)
    proposal = str(told.value).split("'")[3]
    assert len(groups_of(skewed, proposal)) >= 2


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (1234567.0, 1234568.0), (-0.3, 0.3), (-HUGE, HUGE), (1e300, HUGE)]
)
def test_bins_proposed_are_short_and_work(low: float, high: float) -> None:
    values = np.linspace(low / 4, high / 4, 1000) * 4  # of the largest numbers there are no differences
    with pytest.raises(DataError, match="bin it: 'g:") as refused:
        groups_of(values)
    spec = str(refused.value).split("'")[-2]
    assert len(spec) < 50
    assert len(groups_of(values, spec)) > 2


def test_an_identifier_is_no_group() -> None:
    with pytest.raises(DataError, match="more than 1000 different values"):
        groups_of([f"person {i}" for i in range(1001)])


def test_bins_need_numbers() -> None:
    with pytest.raises(DataError, match="and bins need numbers"):
        groups_of(["a", "b", "c"], "g:1,2")


def test_class_is_the_label_itself() -> None:
    frame = pd.DataFrame({"x": np.arange(6.0), "animal": ["cat", "dog", "eel"] * 2})
    source = open_data(frame, label="animal", groups=["class"])
    assert source.columns == ("class",)
    assert list(source.levels[0]) == ["cat", "dog", "eel"]
    for batch in source.batches(4):
        assert (batch.codes[:, 0] == batch.y).all()
    assert group_values(frame, "animal", label="animal") == {"animal": ("cat", "dog", "eel")}


def test_a_column_called_class_is_a_column() -> None:
    frame = table(**{"class": ["first", "second", "first"]})
    assert group_values(frame, ["class"], label="y") == {"class": ("first", "second")}


def test_class_needs_a_label() -> None:
    with pytest.raises(DataError, match="group 'class' is the label itself; name its column with --label"):
        open_data(pd.DataFrame({"x": [1.0, 2.0]}), groups=["class"])


def test_classes_that_are_fractions_are_named_as_they_were_written() -> None:
    given = np.array([0.1, 0.3, 0.2], dtype=np.float32)
    rows = pd.DataFrame({"rating": given, "g": ["a", "b", "a"], "x": [0.0, 1.0, 2.0]})
    source = open_data(rows, label="rating", groups="g", classes=["0.1", "0.2", "0.3"])
    assert [batch.y.tolist() for batch in source.batches(8)] == [[0, 2, 1]]
    with pytest.raises(DataError, match=r"holds 0\.1 in row 0"):
        open_data(rows, label="rating", groups="g")
