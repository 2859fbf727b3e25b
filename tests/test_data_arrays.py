"""npz files, tuples and dicts of arrays as labelled rows; object arrays are never unpickled."""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard.errors import DataError
from fairguard.inputs.data import group_values, open_data
from fairguard.inputs.rows import Source

N = 200


def arrays() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "X": rng.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8),
        "y": rng.integers(0, 3, N),
        "race": rng.integers(0, 3, N).astype(np.int8),
        "race_names": np.array(["White", "Black", "Asian"]),
        "sex": rng.choice(["F", "M"], N),
        "age": rng.integers(0, 100, N, dtype=np.uint8),
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(**given: Any) -> Path:
        np.savez(tmp_path / "d.npz", **given)
        return tmp_path / "d.npz"

    return write


def column(source: Source, name: str) -> list[str]:
    i = source.columns.index(name)
    return [source.levels[i][code] for batch in source.batches(30) for code in batch.codes[:, i]]


def labels(source: Source) -> list[str]:
    assert source.classes is not None
    return [source.classes[code] for batch in source.batches(30) for code in batch.y]  # type: ignore[union-attr]


def told(data: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        list(open_data(data, **options).batches(64))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["npz", "dict"])
def test_named_arrays(save: Callable[..., Path], kind: str) -> None:
    given = arrays()
    source = open_data(save(**given) if kind == "npz" else given, groups=["race", "sex", "age:20,60"])
    assert source.n_rows == N
    assert source.classes == ("0", "1", "2")
    assert column(source, "race") == [str(given["race_names"][code]) for code in given["race"]]
    assert column(source, "sex") == list(given["sex"])
    assert labels(source) == [str(value) for value in given["y"]]
    x = np.concatenate([batch.x for batch in source.batches(64)])
    np.testing.assert_array_equal(x, given["X"])
    assert x.dtype == np.uint8
    assert source.record.kind == ("npz" if kind == "npz" else "in memory")


def test_codes_of_labels_are_named_by_classes(save: Callable[..., Path]) -> None:
    given = arrays()
    classes = np.array(["zebra", "ape", "cat"])
    source = open_data(save(X=given["X"], kind=given["y"], classes=classes), label="kind", groups=["class"])
    assert source.classes == ("zebra", "ape", "cat")  # in the order of the codes, not of the alphabet
    assert labels(source) == [str(classes[code]) for code in given["y"]]
    assert column(source, "class") == labels(source)


def test_a_code_without_name_is_missing(save: Callable[..., Path]) -> None:
    given = arrays()
    given["race"][:5] = [-1, 7, -1, 0, 1]
    assert column(open_data(save(**given), groups=["race"]), "race")[:5] == ["(missing)"] * 3 + ["White", "Black"]


def test_other_names_of_features(save: Callable[..., Path]) -> None:
    path = save(tokens=np.arange(12).reshape(4, 3), mask=np.ones((4, 3), bool), y=[0, 1, 0, 1])
    (batch,) = open_data(path, features=["tokens"]).batches(10)
    assert batch.x.dtype == np.int64
    (batch,) = open_data(path, features=["tokens", "mask"]).batches(10)
    assert set(batch.x) == {"tokens", "mask"}
    assert "no array 'X'; arrays are: tokens, mask, y" in told(path)


def test_a_transform_sees_the_rows_of_a_batch(save: Callable[..., Path]) -> None:
    given = arrays()

    def prepare(x: np.ndarray) -> torch.Tensor:
        assert x.shape == (min(64, len(x)), 4, 4, 3)
        return torch.from_numpy(x).permute(0, 3, 1, 2) / 255

    for batch in open_data(save(**given), transform=prepare).batches(64):
        assert batch.x.shape == (len(batch), 3, 4, 4)
    assert "failed on rows 0 to 63: ZeroDivisionError" in told(save(**given), transform=lambda x: 1 / 0)


@pytest.mark.parametrize("to", [np.asarray, torch.tensor, pd.Series, list])
def test_a_tuple_brings_its_own_groups(to: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).random((N, 5))
    y, sex = np.arange(N) % 2, np.arange(N) // 3 % 2
    source = open_data((x, to(y), {"sex": to(sex), "old": [bool(i % 7) for i in range(N)]}))
    assert source.columns == ("sex", "old")
    assert column(source, "sex") == [str(code) for code in sex]
    assert column(source, "old") == [str(bool(i % 7)) for i in range(N)]
    assert labels(source) == [str(value) for value in y]
    (batch,) = open_data((x, to(y)), groups=["class"]).batches(N)
    np.testing.assert_array_equal(batch.x, x.astype(np.float32))
    assert batch.x.dtype == np.float32


def test_a_tuple_with_options() -> None:
    x, y = np.zeros((6, 2)), [0, 1] * 3
    groups = {"sex": list("FMFMFM"), "age": [10, 20, 30, 40, 50, 60], "who": list("abcdef"), "w": [1.0] * 6}
    source = open_data((x, y, pd.DataFrame(groups)), groups=["age:35"], id="who", weight="w", label="hired")
    (batch,) = source.batches(10)
    assert source.columns == ("age",)
    assert list(batch.ids) == list("abcdef")
    assert batch.weight is not None
    rest = open_data((x, y, groups), id="who", weight="w", cluster="age")
    assert rest.columns == ("sex",)
    assert "Did you mean 'sex'?" in told((x, y, groups), groups=["sexx"])


def test_features_of_several_inputs_and_tables() -> None:
    y = [0, 1] * 3
    (batch,) = open_data(({"a": np.zeros((6, 2)), "b": torch.ones(6)}, y)).batches(10)
    assert batch.x["a"].dtype == np.float32
    (batch,) = open_data(((np.zeros((6, 2)), np.ones(6)), y)).batches(10)
    assert isinstance(batch.x, tuple)
    (batch,) = open_data((pd.DataFrame({"a": range(6), "b": [True] * 6}), y)).batches(10)
    assert batch.x.shape == (6, 2)
    assert "features are no numbers" in told((pd.DataFrame({"a": list("abcdef")}), y))
    text = np.array([[1, 2], [3, 4], [5, "n/a"], [7, 8], [9, "?"], [0, 0]], dtype=object)
    assert "'n/a' in row 2, from 0" in told((text, y))


@pytest.mark.parametrize("group", ["y", "X", "x", "classes", "y_names"])
def test_groups_of_a_tuple_go_by_their_own_names(group: str) -> None:
    x, y, values = np.arange(8.0).reshape(4, 2), [0, 1, 1, 1], list("abab")
    for groups in ([group], [group, "class"], []):
        source = open_data((x, y, {group: values}), groups=groups)
        assert source.columns == tuple(groups or [group])
        assert column(source, group) == values
        assert source.classes == ("0", "1")
        assert labels(source) == list("0111")
        np.testing.assert_array_equal(next(source.batches(4)).x, x)


def test_a_group_called_like_the_label() -> None:
    x, y = np.zeros((4, 2)), torch.tensor([0, 1, 0, 1])
    told_of = "--label and a group with other values are called 'hired'; rename one of them"
    assert told_of in told((x, y, {"hired": list("abab"), "sex": list("FFMM")}), label="hired", groups=["sex"])
    table = pd.DataFrame({"hired": y, "sex": list("FFMM")})
    assert open_data((x, y, table), label="hired", groups=["sex"]).columns == ("sex",)
    for same in (np.array([0.0, 1, 0, 1]), [False, True, False, True], torch.tensor([0, 1, 0, 1], dtype=torch.int8)):
        source = open_data((x, y, {"hired": same, "sex": list("FFMM")}), label="hired")
        assert source.columns == ("hired", "sex")
        assert column(source, "hired") == labels(source) == list("0101")
    assert told_of in told((x, y, {"hired": [0.0, 1, 0, 0.5]}), label="hired")
    assert told_of in told((x, y, {"hired": [0, 1, 0]}), label="hired")


@pytest.mark.parametrize("beside", ["classes", "y_names"])
def test_names_of_classes_may_lie_beside_the_groups_of_a_tuple(beside: str) -> None:
    x, y, groups = np.zeros((4, 2)), [0, 1, 1, 0], {"sex": list("FFMM"), beside: ["no", "yes"]}
    source = open_data((x, y, groups), groups=["sex", "class"])
    assert source.columns == ("sex", "class")
    assert source.classes == ("no", "yes")
    assert labels(source) == column(source, "class") == ["no", "yes", "yes", "no"]
    group = {**groups, beside: list("abab")}
    for options in ({"groups": ["sex"]}, {"groups": ["sex"], "cluster": beside}, {"groups": [beside]}):
        assert open_data((x, y, group), **options).classes == ("0", "1")  # type: ignore[arg-type]


def test_groups_of_a_tuple_need_names() -> None:
    x, y = np.zeros((4, 2)), [0, 1, 0, 1]
    for groups in (["sex"], "sex", np.array(list("FFMM")), pd.Series(list("FFMM"), name="sex"), 3):
        line = told((x, y, groups))
        assert f"groups are of type {type(groups).__name__}; give (X, y, groups), groups a dict" in line


def test_features_of_a_tuple_are_chosen_by_name_where_they_have_names() -> None:
    y = [0, 1]
    table = pd.DataFrame({"a": [1.0, 2], "b": list("uv"), 3: [5.0, 6]})
    (batch,) = open_data((table, y), features=["3", "a"]).batches(10)
    assert batch.x.tolist() == [[5, 1], [6, 2]]
    several = {"a": np.zeros((2, 2)), "b": np.array(["u", "v"]), "c": np.ones(2)}
    (batch,) = open_data((several, y), features=np.array(["a", "c"])).batches(10)
    assert set(batch.x) == {"a", "c"}
    (batch,) = open_data((several, y), features=["c"]).batches(10)
    assert batch.x.tolist() == [1, 1]
    for given in (table, several):
        assert "has no array 'aa'" in told((given, y), features=["aa"])
    assert "--features names columns, and the X of the data has none" in told((np.zeros((2, 2)), y), features=["a"])


def test_names_in_arrays_are_names() -> None:
    given = {"X": np.zeros((4, 1)), "y": [0, 1, 0, 1]}
    assert open_data(given, classes=np.array(["no", "yes"]), features=np.array(["X"])).classes == ("no", "yes")


def test_arrays_without_labels() -> None:
    source = open_data((np.zeros((6, 2)), None, {"sex": list("FMFMFM")}))
    assert not source.labelled
    (batch,) = source.batches(10)
    assert batch.y is None


def test_arrays_without_anything_but_features() -> None:
    (batch,) = open_data({"X": np.zeros((6, 2))}).batches(10)
    assert batch.codes.shape == (6, 0)


def test_arrays_without_features(save: Callable[..., Path]) -> None:
    given = arrays()
    source = open_data(save(y=given["y"], sex=given["sex"]), groups=["sex"], needs_features=False)
    assert all(batch.x is None for batch in source.batches(50))
    assert group_values(save(**given), ["race", "age:50"]) == {
        "race": ("Asian", "Black", "White"),
        "age": ("<50", ">=50"),
    }


def test_lengths_must_agree() -> None:
    x, y = np.zeros((6, 2)), [0, 1] * 3
    assert "arrays differ in length (X 6, y 6, sex 5); give one value per row" in told((x, y, {"sex": list("FMFMF")}))
    assert "arrays differ in length (X 6, y 5)" in told((x, y[:5]))
    assert "has no rows" in told((x[:0], [], {"sex": []}))
    assert "has shape (6, 2); it must have one value per row" in told((x, x))


def test_mixed_types_and_holes() -> None:
    x = np.zeros((4, 2))
    assert "array 'sex' mixes types" in told((x, [0, 1, 0, 1], {"sex": ["F", 1, "F", 2]}))
    assert "no value in 2 of 4 rows, the first is row 1 (from 0)" in told((x, [0, np.nan, 1, np.nan]))
    assert "holds 0.5 in row 2 (from 0), which is no class" in told((x, [0, 1, 0.5, 1]))


def test_missing_arrays_get_a_suggestion(save: Callable[..., Path]) -> None:
    path = save(**arrays())
    assert "has no array 'rase'; arrays are: X, y, race, race_names, sex, age. Did you mean 'race'?" in told(
        path, groups=["rase"]
    )
    assert "Use --label." in told(path, label="zzz")
    named = {"X": np.zeros((4, 2)), "y": np.array([0, 1, 0, 1]), "column_b": np.array(list("abab"))}
    assert "no array 'column_c'; arrays are: X, y, column_b. Did you mean 'column_b'?" in told(
        save(**named), groups=["column_c"]
    )


class Payload:
    """Pickles to a command that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_object_arrays_are_never_unpickled(tmp_path: Path, save: Callable[..., Path]) -> None:
    canary = tmp_path / "canary"
    evil = np.array([Payload(canary)] * N, dtype=object)
    given = arrays()
    assert "would be unpickled" in told(save(X=given["X"], y=evil))
    assert "would be unpickled" in told(save(X=evil, y=given["y"]))
    assert "would be unpickled" in told(save(**{**given, "sex": evil}), groups=["sex"])
    assert open_data(save(**{**given, "notes": evil}), groups=["sex"]).n_rows == N  # unread, so harmless
    assert not canary.exists()
    pickle.loads(pickle.dumps(Payload(canary)))  # the payload is a real one
    assert canary.exists()


def _npz_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_claims_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    y = _npy(np.arange(10) % 2)
    huge = _npy(np.zeros((10, 2))).replace(b"(10, 2)", b"(10, 99999999999)")
    assert "claims 8.0 TB and has" in told(_npz_of(tmp_path / "huge.npz", X=huge, y=y))
    bomb = _npy(np.zeros((10, 1_000_000), dtype=np.uint64))
    assert "takes 80.0 MB out of" in told(_npz_of(tmp_path / "bomb.npz", X=bomb, y=y))


@pytest.mark.parametrize("share", [1, 5, 25, 50, 75, 90, 99])
def test_truncated_npz(save: Callable[..., Path], share: int) -> None:
    path = save(**arrays())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * share // 100])
    assert "damaged npz" in told(path)


def test_damaged_members(tmp_path: Path) -> None:
    y = _npy(np.arange(10) % 2)
    assert "array 'X' is damaged" in told(_npz_of(tmp_path / "a.npz", X=b"not an array", y=y))
    assert "array 'X' is damaged" in told(_npz_of(tmp_path / "b.npz", X=b"", y=y))
    assert "zip archive without arrays" in told(_zip(tmp_path / "c.npz", "readme.txt"))
    assert "is a torch file, not data" in told(_zip(tmp_path / "d.npz", "model/data.pkl"))


def _zip(path: Path, member: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, "x")
    return path


@pytest.mark.parametrize("seed", range(40))
def test_flipped_bits_never_escape_as_foreign_errors(save: Callable[..., Path], seed: int) -> None:
    path = save(**arrays())
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(content), 20):
        content[at] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(content))
    with suppress(DataError):
        list(open_data(path, groups=["race", "sex"]).batches(64))


def test_what_lies_beside_groups_with_a_value_for_each_row_is_no_name_of_a_class() -> None:
    beside = {"sex": np.array(["F", "M"] * 30), "classes": np.arange(60)}
    assert open_data((np.zeros((60, 2)), np.arange(60) % 2, beside), groups=["sex"]).classes == ("0", "1")
    assert open_data((np.zeros((60, 2)), np.arange(60) % 2, []), groups=["class"]).levels == [["0", "1"]]


def test_answers_on_record_need_no_features_of_a_loader() -> None:
    source = open_data([({}, None, {"sex": ["F", "M", "F"]})] * 2, groups=["sex"], needs_features=False)
    assert [batch.codes[:, 0].tolist() for batch in source.batches(8)] == [[0, 1, 0], [0, 1, 0]]
