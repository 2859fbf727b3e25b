"""CSV, Parquet and pandas tables as labelled rows: what is read, and one line for whatever cannot be."""

import gzip
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairguard.cli import run
from fairguard.errors import DataError
from fairguard.inputs.data import open_data
from fairguard.inputs.rows import Batch, Source

Save = Callable[[pd.DataFrame], Any]


def people(n: int = 1000) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "height": rng.normal(170, 10, n),
            "children": rng.integers(0, 5, n),
            "member": rng.random(n) < 0.5,
            "sex": rng.choice(["F", "M"], n),
            "age": rng.integers(17, 90, n),
            "hired": rng.integers(0, 2, n),
            "key": [f"p{i}" for i in range(n)],
        }
    )


def to_csv(folder: Path) -> Save:
    def save(frame: pd.DataFrame) -> Path:
        frame.to_csv(folder / "t.csv", index=False)
        return folder / "t.csv"

    return save


def to_gz(folder: Path) -> Save:
    def save(frame: pd.DataFrame) -> Path:
        frame.to_csv(folder / "t.bin", index=False, compression="gzip")  # a name that says nothing
        return folder / "t.bin"

    return save


def to_parquet(folder: Path) -> Save:
    def save(frame: pd.DataFrame) -> Path:
        frame.to_parquet(folder / "t.dat", row_group_size=300)
        return folder / "t.dat"

    return save


@pytest.fixture(params=[to_csv, to_gz, to_parquet, None], ids=["csv", "gz", "parquet", "pandas"])
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Save:
    return (lambda frame: frame) if request.param is None else request.param(tmp_path)


def whole(source: Source, batch_size: int = 64) -> Batch:
    parts = list(source.batches(batch_size))
    assert all(len(part) == batch_size for part in parts[:-1])
    assert [part.start for part in parts] == list(range(0, sum(map(len, parts)), batch_size))

    def joined(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    return Batch(*(joined(name) for name in ("x", "y", "codes", "ids")), 0, joined("weight"), joined("cluster"))


def message(*data: Any, **options: Any) -> str:
    with pytest.raises(DataError) as told:
        whole(open_data(*data, **options))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_every_kind_of_table_gives_the_same_rows(save: Save) -> None:
    frame = people()
    source = open_data(save(frame), label="hired", groups=["sex", "age:30,60"], id="key")
    rows = whole(source)
    assert source.n_rows == 1000
    assert source.labelled
    assert source.classes == ("0", "1")
    assert source.columns == ("sex", "age")
    assert [list(level) for level in source.levels] == [["F", "M"], ["<30", "30-60", ">=60"]]
    expected = frame[["height", "children", "member"]].to_numpy(dtype=np.float32)
    np.testing.assert_array_equal(rows.x, expected)
    assert rows.x.dtype == np.float32
    np.testing.assert_array_equal(rows.y, frame.hired)
    np.testing.assert_array_equal(rows.codes[:, 0], frame.sex == "M")
    np.testing.assert_array_equal(rows.codes[:, 1], np.digitize(frame.age, [30, 60]))
    assert list(rows.ids) == list(frame.key)


def test_reading_again_gives_the_same_rows(save: Save) -> None:
    source = open_data(save(people()), label="hired", groups=["sex"], id="key", features=["height"])
    first, second = whole(source, 64), whole(source, 999)
    for name in ("x", "y", "codes", "ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_named_features_come_in_the_order_named_and_may_be_groups(save: Save) -> None:
    frame = people()
    rows = whole(open_data(save(frame), label="hired", groups=["age:40"], features=["age", "height"]))
    np.testing.assert_array_equal(rows.x, frame[["age", "height"]].to_numpy(dtype=np.float32))


def test_rows_are_numbered_without_an_id(save: Save) -> None:
    rows = whole(open_data(save(people()), label="hired", groups=["sex"], features=["height"]))
    np.testing.assert_array_equal(rows.ids, np.arange(1000))


def test_weights_and_clusters_come_along(save: Save) -> None:
    frame = people().assign(w=np.linspace(0, 2, 1000), person=np.arange(1000) // 3)
    source = open_data(save(frame), label="hired", groups=["sex"], id="key", weight="w", cluster="person")
    rows = whole(source)
    assert rows.weight is not None
    assert rows.cluster is not None
    np.testing.assert_allclose(rows.weight, frame.w)
    np.testing.assert_array_equal(rows.cluster, frame.person)
    assert rows.x.shape == (1000, 4)  # neither label, group, id, weight nor cluster: height, children, member, age
    assert "weights are 0 or more" in message(save(frame.assign(w=-1.0)), weight="w", features=["height"])


def test_a_transform_sees_a_table_of_all_columns(save: Save) -> None:
    frame = people()
    seen: list[int] = []

    def encode(rows: pd.DataFrame) -> np.ndarray:
        assert list(rows.columns) == list(frame.columns)
        seen.append(rows.index[0])
        return np.column_stack([rows["sex"] == "F", rows["age"] / 100, rows["hired"] == 1])

    rows = whole(open_data(save(frame), label="hired", groups=["sex"], transform=encode), 100)
    assert seen == list(range(0, 1000, 100))
    np.testing.assert_allclose(rows.x, np.column_stack([frame.sex == "F", frame.age / 100, frame.hired]), rtol=1e-6)
    assert rows.x.dtype == np.float32


def test_a_transform_sees_the_features_alone_where_they_are_named(save: Save) -> None:
    """The label and the groups are read for the verdict, and not shown."""
    frame = people()
    seen: list[list[str]] = []

    def encode(rows: pd.DataFrame) -> np.ndarray:
        seen.append(list(rows.columns))
        return rows.to_numpy()

    given: dict[str, Any] = {"label": "hired", "groups": ["sex"], "features": ["height", "age"]}
    rows = whole(open_data(save(frame), transform=encode, **given), 100)
    assert seen == [["height", "age"]] * 10
    np.testing.assert_allclose(rows.x, frame[["height", "age"]].to_numpy(), rtol=1e-6)
    told = message(save(frame), transform=lambda t: t[["sex"]].to_numpy(), **given)
    assert "KeyError: " in told
    assert told.endswith("It gets the columns of --features alone: height, age.")
    label = given | {"features": ["age", "hired"]}
    assert "--features names the label 'hired'" in message(save(frame), transform=encode, **label)


def test_a_transform_sees_an_index_that_is_named_as_a_feature(tmp_path: Path) -> None:
    frame = people().set_index("age")
    frame.to_parquet(tmp_path / "people.parquet")
    named = {"label": "hired", "groups": ["sex"], "features": ["age", "height"]}
    rows = whole(open_data(tmp_path / "people.parquet", transform=lambda t: t[["age", "height"]].to_numpy(), **named))
    np.testing.assert_allclose(rows.x[:, 0], frame.index)


def test_a_transform_may_give_several_inputs(save: Save) -> None:
    source = open_data(
        save(people()), label="hired", transform=lambda t: {"a": t[["age"]].to_numpy(), "b": t.height.to_numpy()}
    )
    batch = next(iter(source.batches(10)))
    assert batch.x["a"].shape == (10, 1)
    assert batch.x["b"].shape == (10,)


def test_a_transform_by_name(save: Save, tmp_path: Path) -> None:
    (tmp_path / "prep.py").write_text("def encode(t):\n    return t[['age']].to_numpy()\n")
    rows = whole(open_data(save(people()), label="hired", transform=f"{tmp_path}/prep.py:encode"))
    assert rows.x.shape == (1000, 1)


def test_a_transform_that_fails_is_told(save: Save) -> None:
    data = save(people())

    def wrong(rows: pd.DataFrame) -> np.ndarray:
        return rows[["nope"]].to_numpy()

    assert "--transform wrong failed on rows 0 to 63: KeyError" in message(data, label="hired", transform=wrong)
    fewer = message(data, label="hired", transform=lambda t: t[["age"]].to_numpy()[:5])
    assert "gave 5 rows for 64; it must give one per row" in fewer
    assert "no numbers" in message(data, label="hired", transform=lambda t: t[["sex"]])


def test_without_features_nothing_else_is_read(save: Save) -> None:
    frame = people().assign(text="not a number")
    rows = whole(open_data(save(frame), label="hired", groups=["sex"], needs_features=False))
    assert rows.x is None
    assert len(rows) == 1000


def test_without_a_label(save: Save) -> None:
    source = open_data(save(people()), groups=["sex"], features=["age"])
    assert not source.labelled
    assert source.classes is None
    assert whole(source).y is None


def test_neither_label_nor_groups(save: Save) -> None:
    rows = whole(open_data(save(people()), needs_features=False))
    assert rows.codes.shape == (1000, 0)


@pytest.mark.parametrize(
    ("values", "classes", "codes", "options"),
    [
        ([0, 1, 2, 0], ("0", "1", "2"), [0, 1, 2, 0], {}),
        ([2, 0, 0, 5], ("0", "1", "2", "3", "4", "5"), [2, 0, 0, 5], {}),
        ([-1, 1, 1, -1], ("-1", "1"), [0, 1, 1, 0], {}),
        ([0.0, 1.0, 1.0, 0.0], ("0", "1"), [0, 1, 1, 0], {}),
        ([True, False, True, True], ("False", "True"), [1, 0, 1, 1], {}),
        (["no", "yes", "no", "no"], ("no", "yes"), [0, 1, 0, 0], {}),
        (["no", "yes", "no", "no"], ("yes", "no"), [1, 0, 1, 1], {"classes": ["yes", "no"]}),
        ([1, 2, 1, 1], ("1", "2"), [0, 1, 0, 0], {"classes": ["1", "2"]}),
        ([1, 0, 1, 1], ("bad", "good"), [1, 0, 1, 1], {"classes": ["bad", "good"]}),
        ([1, 0, 1, 1], ("0", "1", "2"), [1, 0, 1, 1], {"classes": [0, 1, 2]}),
    ],
)
def test_labels_become_classes(
    save: Save, values: list[Any], classes: tuple[str, ...], codes: list[int], options: dict[str, Any]
) -> None:
    source = open_data(save(pd.DataFrame({"x": np.arange(4.0), "y": values})), label="y", **options)
    assert source.classes == classes
    assert list(whole(source).y) == codes  # type: ignore[arg-type]


def test_a_missing_column_gets_a_suggestion(save: Save) -> None:
    data = save(people())
    told = message(data, label="hird", features=["age"])
    assert "has no column 'hird'; columns are: height, children, member, sex, age, hired, key. Did you mean 'h" in told
    assert "Did you mean 'sex'?" in message(data, label="hired", groups=["sexx"])
    assert "has no column 'zzz'" in message(data, label="hired", groups=["zzz"])
    assert "Use --group." in message(data, label="hired", groups=["zzz"])
    assert "Use --features." in message(data, label="hired", features=["age", "zzz"])
    assert "Use --id." in message(data, label="hired", id="zzz")


def test_labels_that_are_missing_are_counted(save: Save) -> None:
    frame = people().assign(hired=lambda t: t.hired.where(t.index % 10 != 7))
    told = message(save(frame), label="hired", features=["age"])
    assert "label column 'hired' has no value in 100 of 1000 rows, the first is row 7 (from 0)" in told


def test_labels_of_mixed_types(save: Save) -> None:
    frame = people(10).assign(hired=["0", "1", "0", "oops", "1", "0", "1", "0", "1", "0"])
    told = message(save(frame), label="hired", features=["age"])
    assert "mixes types: '0' in row 0 and 'oops' in row 3 (from 0)" in told


def test_a_pandas_column_of_mixed_types() -> None:
    told = message(people(4).assign(hired=[0, "1", 0, 1]), label="hired", features=["age"])
    assert "a column of the table mixes types" in told


def test_labels_that_are_no_classes(save: Save) -> None:
    frame = people(100)
    assert "which is no class" in message(save(frame), label="height", features=["age"])
    assert "more than 10000 different values" in message(save(people(10_001)), label="key", features=["age"])


def test_labels_outside_the_given_classes(save: Save) -> None:
    frame = people(10).assign(hired=["no", "yes"] * 4 + ["nope", "no"])
    told = message(save(frame), label="hired", features=["age"], classes=["no", "yes"])
    assert "holds 'nope' in row 8 (from 0), which is none of the classes no, yes. Did you mean 'no'?" in told


def test_no_rows(save: Save) -> None:
    assert "has no rows" in message(save(people().iloc[:0]), label="hired", features=["age"])


def test_a_class_of_one_value_cannot_be_compared(save: Save) -> None:
    told = message(save(people().assign(hired=1)), label="hired", groups=["class"], features=["age"])
    assert "group 'class' has one value, '1', in all 1000 rows" in told


def test_categories_need_encoding(save: Save) -> None:
    frame = people().assign(city="Rome", day=pd.Timestamp("2020-01-01"))
    told = message(save(frame), label="hired", groups=["sex"], id="key")
    assert "city, day hold no numbers; encode with --transform pkg.module:fn" in told
    assert "leave them out with --features (what is no label, group or id is one)" in told
    assert "pkg.module:callable" in told


def test_pandas_categories_are_no_numbers_either() -> None:
    frame = people().assign(children=pd.Categorical(people().children))
    assert "children holds no numbers" in message(frame, label="hired", groups=["sex"], id="key")


def test_features_with_holes_are_told(save: Save) -> None:
    frame = people().assign(height=lambda t: t.height.where(t.index != 321))
    told = message(save(frame), label="hired", features=["age", "height"])
    assert "feature 'height' has no value in row 321 (from 0); fill it with --transform" in told


def test_infinite_features_are_left_to_the_model(save: Save) -> None:
    frame = people(4).assign(height=[np.inf, -np.inf, 1.0, 2.0])
    rows = whole(open_data(save(frame), label="hired", features=["height"]))
    np.testing.assert_array_equal(rows.x[:, 0], np.float32(frame.height))


def test_the_label_is_no_feature(save: Save) -> None:
    told = message(save(people()), label="hired", features=["age", "hired"])
    assert "--features names the label 'hired'; a model must not see it" in told


def test_an_id_without_value(save: Save) -> None:
    frame = people(10).assign(key=[None, *people(9).key])
    assert "column 'key' (--id) has no value in 1 of rows 0 to " in message(
        save(frame), label="hired", groups=["sex"], id="key"
    )


@pytest.mark.parametrize("names", [("id", "ID"), ("ID", "id"), ("Id", "ids")])
def test_of_several_columns_of_ids_the_exact_name_is_meant(names: tuple[str, str]) -> None:
    frame = people(4).assign(**{names[0]: list("abcd"), names[1]: list("pqrs")})
    source = open_data(frame, label="hired", groups=["sex"], features=["age"], find_id=True)
    assert list(whole(source).ids) == list("pqrs" if names[1] == "id" else "abcd")


@pytest.mark.parametrize("option", ["id", "cluster"])
def test_a_number_that_is_none_is_a_missing_one(tmp_path: Path, option: str) -> None:
    """Parquet tells nan from null, and both would make one person of many."""
    table = pa.table({"x": [1.0, 2, 3, 4], "y": [0, 1, 0, 1], "who": pa.array([1.0, float("nan"), None, 2.0])})
    pq.write_table(table, tmp_path / "t.parquet")
    line = f"column 'who' (--{option}) has no value in 2 of rows 0 to 3, the first is row 1 (from 0)"
    assert line in message(tmp_path / "t.parquet", label="y", **{option: "who"})


def test_the_record_says_where_rows_come_from(tmp_path: Path) -> None:
    record = open_data(to_parquet(tmp_path)(people()), label="hired", groups=["sex"], id="key").record
    assert record.kind == "Parquet"
    assert record.path == str(tmp_path / "t.dat")
    assert record.sha256 is not None
    assert len(record.sha256) == 64
    assert open_data(people(), label="hired", groups=["sex"], id="key").record.path is None


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators(tmp_path: Path, mark: str) -> None:
    file = tmp_path / "t.csv"
    people(50).to_csv(file, index=False, sep=mark)
    assert open_data(file, label="hired", groups=["sex"], features=["age"]).n_rows == 50


def test_text_with_line_breaks_and_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    frame = people(50).assign(key="two\nlines")
    frame.to_csv(file, index=False, encoding="utf-8-sig")
    rows = whole(open_data(file, label="hired", groups=["sex"], features=["height"]))
    np.testing.assert_allclose(rows.x[:, 0], frame.height, rtol=1e-6)


def test_whole_numbers_that_become_fractions_late_in_a_csv(tmp_path: Path) -> None:
    n = 600_000  # more than the first block, on which types are decided
    frame = pd.DataFrame({"f": np.arange(n), "pad": "x" * 10, "g": np.where(np.arange(n) % 2, "a", "b"), "y": 0})
    file = tmp_path / "t.csv"
    frame.to_csv(file, index=False)
    with file.open("a") as stream:
        stream.write("0.5,x,a,1\n")
    rows = whole(open_data(file, label="y", groups=["g"], features=["f"]), 10_000)
    assert rows.x[-1, 0] == 0.5
    with file.open("a") as stream:
        stream.write("1,x,a,oops\n")
    told = message(file, label="y", groups=["g"], features=["f"])
    assert "a column of t.csv mixes types" in told
    assert "oops" in told


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "t.bin is empty"),
    "ragged": (b"a,b,y\n1,2,0\n1,2\n", "t.bin is no proper CSV"),
    "twice": (b"a,a,y\n1,2,0\n", "two columns 'a'"),
    "latin": ("a,y\n1,x\n2,m\u00e4dchen\n".encode("latin-1"), "not UTF-8 text in line 3;"),
    "late latin": (b"a,y\n" + b"1,x\n" * 600_000 + b"2,m\xe4dchen\n", "not UTF-8 text in line 600002;"),
    "latin gzip": (gzip.compress(b"a,y\n1,x\n2,m\xe4dchen\n"), "not UTF-8 text in line 3;"),
    "latin header": ("a,m\u00e4dchen,y\n1,1,0\n2,2,1\n".encode("latin-1"), "not UTF-8"),
    "binary": (b"\x00\x01\x02" * 100, "is not CSV (also .csv.gz), Parquet or npz"),
    "gzip": (gzip.compress(b"a,y\n1,0\n" * 5000)[:60], "t.bin cannot be read: "),
    "parquet": (b"PAR1 and then nothing of the kind", "t.bin cannot be read"),
    "zip": (b"PK\x03\x04 and then nothing", "damaged npz"),
    "header": (b"a,y\n", "has no rows"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files(tmp_path: Path, name: str) -> None:
    content, told = BROKEN[name]
    (tmp_path / "t.bin").write_bytes(content)
    assert told in message(tmp_path / "t.bin", label="y", features=["a"])


@pytest.mark.parametrize("share", range(0, 100, 7))
def test_a_truncated_parquet_file(tmp_path: Path, share: int) -> None:
    file = to_parquet(tmp_path)(people())
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * share // 100])
    message(file, label="hired", groups=["sex"], features=["age"])


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("kind", [to_parquet, to_gz, to_csv])
def test_flipped_bits_never_escape_as_foreign_errors(tmp_path: Path, kind: Callable[[Path], Save], seed: int) -> None:
    file = kind(tmp_path)(people(300))
    content = bytearray(file.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(content), 20):
        content[at] ^= 1 << rng.integers(8)
    file.write_bytes(bytes(content))
    with suppress(DataError):
        whole(open_data(file, label="hired", groups=["sex"], features=["height", "age"]))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    to_csv(tmp_path)(people(5))
    assert "there is no file" in message(tmp_path / "x.csv")
    assert "Did you mean 't.csv'?" in message(str(tmp_path / "tt.csv"))
    assert "is no file" in message(tmp_path)
    assert "no rows to judge on; name labelled rows with --data" in message(None)


def test_dictionaries_that_differ_by_row_group(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    parts = [["a", "b", "a"], ["c", "a", "c"]]
    schema = pa.schema([("g", pa.dictionary(pa.int8(), pa.string())), ("y", pa.int64())])
    with pq.ParquetWriter(file, schema) as writer:
        for part in parts:
            column = pa.array(part).dictionary_encode().cast(schema.field("g").type)
            writer.write_table(pa.table([column, pa.array([0, 1, 0])], schema=schema))
    source = open_data(file, label="y", groups=["g"], needs_features=False)
    rows = whole(source, 2)
    assert [source.levels[0][code] for code in rows.codes[:, 0]] == [*parts[0], *parts[1]]


def test_what_float32_cannot_hold_is_infinite_without_a_word(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["a,b,y,g", *(f"1.5,{2 + i}e{40 * i},{i % 2},{'uv'[i % 2]}" for i in range(4))]) + "\n")
    (batch,) = open_data(path, label="y", groups=["g"]).batches(4)
    assert np.isinf(batch.x[:, 1]).tolist() == [False, True, True, True]
    assert not recwarn.list


@pytest.mark.parametrize("name", ["d" * 300, f"{'d' * 300}/rows.csv", "d\udcff.parquet", "d\0.csv"])
def test_names_that_no_file_can_have_are_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["init", name], ["check", "dense.csv", "pruned.csv", "--data", name, "--label", "y"]):
        pd.DataFrame({"prediction": [0, 1]}).to_csv("dense.csv")
        pd.DataFrame({"prediction": [0, 1]}).to_csv("pruned.csv")
        assert run(arguments) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert re.search("cannot be read: File name too long|Rename the file|there is no file", told), told
