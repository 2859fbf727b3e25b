"""Rows from the user's own code: Datasets, DataLoaders, iterables, and callables by name."""

from collections import UserDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
)

from fairguard.checking import check
from fairguard.errors import ConfigError, DataError
from fairguard.inputs.data import group_values, open_data
from fairguard.inputs.rows import Source

N = 50


class People(Dataset[Any]):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> Any:
        groups = {"sex": "FM"[i % 2], "age": torch.tensor(20 + int(i)), "key": f"p{i}", "w": i / 10}
        return torch.full((3,), float(i)), i % 3, groups


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return (People()[i] for i in range(N))


def rows(source: Source, batch_size: int = 16) -> tuple[Any, list[int], list[tuple[str, ...]]]:
    batches = list(source.batches(batch_size))
    assert all(len(batch) <= batch_size for batch in batches)
    assert [batch.start for batch in batches] == list(np.cumsum([0, *map(len, batches)])[:-1])
    named = [tuple(source.levels[i][c] for i, c in enumerate(row)) for b in batches for row in b.codes]
    return torch.cat([torch.as_tensor(b.x) for b in batches]), [int(v) for b in batches for v in b.y], named  # type: ignore[union-attr]


SEXES = [("FM"[i % 2],) for i in range(N)]


@pytest.mark.parametrize(
    "data",
    [
        People(),
        Stream(),
        DataLoader(People(), batch_size=7),
        DataLoader(People(), batch_size=40),
        DataLoader(People(), batch_size=7, shuffle=True),
        DataLoader(People(), batch_size=7, drop_last=True),
        DataLoader(Stream(), batch_size=7),
        DataLoader(Stream(), batch_size=7, drop_last=True),
        DataLoader(People(), batch_sampler=BatchSampler(SequentialSampler(People()), 7, True)),
        DataLoader(People(), batch_sampler=BatchSampler(RandomSampler(People()), 7, False)),
        DataLoader(People(), batch_size=7, sampler=[*range(N)], drop_last=True),
        DataLoader(People(), batch_sampler=[[*range(40)], [*range(40, N)]]),
        DataLoader(People(), batch_size=7, shuffle=True, num_workers=1, persistent_workers=True),
        [(torch.full((1, 3), float(i)), [i % 3], {"sex": ["FM"[i % 2]]}) for i in range(N)],
    ],
    ids=[
        *("dataset", "stream", "loader", "large", "shuffled", "dropping", "stream loader", "dropping stream"),
        *("dropping batches", "shuffled batches", "own sampler", "own batches", "workers", "list"),
    ],
)
def test_everything_gives_all_rows_in_order(data: Any) -> None:
    source = open_data(data, groups=["sex"])
    for _ in range(2):
        x, y, groups = rows(source)
        np.testing.assert_array_equal(x[:, 0], np.arange(N))
        assert y == [i % 3 for i in range(N)]
        assert groups == SEXES
    assert source.n_rows == N
    assert source.classes is None
    assert source.labelled


class Encoding(UserDict[str, Any]):
    """What a tokenizer gives: a mapping that is no dict."""


def encoded(numbers: Any) -> Encoding:
    tokens = torch.tensor(np.array(numbers))[:, None]
    return Encoding({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})


Y = np.arange(N) % 3
SEX = {"sex": ["FM"[i % 2] for i in range(N)]}
TABLE = pd.DataFrame({"text": range(N), "y": Y, **SEX})


@pytest.mark.parametrize(
    ("data", "how"),
    [
        ((encoded(np.arange(N)), Y, SEX), {}),
        ({"X": encoded(np.arange(N)), "y": Y, **SEX}, {}),
        ((TABLE[["text"]], Y, SEX), {"transform": lambda t: encoded(t["text"])}),
        (TABLE, {"label": "y", "transform": lambda t: encoded(t["text"])}),
        (
            DataLoader(
                TABLE.to_dict("records"),  # type: ignore[arg-type]
                batch_size=7,
                collate_fn=lambda rows: (
                    encoded([row["text"] for row in rows]),
                    torch.tensor([row["y"] for row in rows]),
                    {"sex": [row["sex"] for row in rows]},
                ),
            ),
            {},
        ),
    ],
    ids=["tuple", "arrays", "tuple and transform", "transform", "loader"],
)
def test_a_tokenizers_output_is_a_dict_of_inputs(data: Any, how: dict[str, Any]) -> None:
    class Net(torch.nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(input_ids[:, 0] % 3, 3) * attention_mask

    for batch in open_data(data, groups=["sex"], **how).batches(16):
        assert type(batch.x) is dict
    assert check(Net(), Net(), data, groups=["sex"], **how).overall.accuracy.dense == 1.0


def test_data_sets_without_a_length() -> None:
    class Endless(Dataset[Any]):
        def __getitem__(self, i: int) -> Any:
            return People()[i % N]

    for data in (Endless(), DataLoader(Endless())):
        assert "has no len()" in told(data)


def test_no_id_and_no_cluster_may_be_missing() -> None:
    """Rows without a value would all be one person."""
    for values in (["a", None, "b", None], [0.5, float("nan"), 2.5, float("nan")], torch.tensor([1.0, np.nan] * 2)):
        for option in ("id", "cluster"):
            given = [batch(groups={"sex": list("FMFM"), "who": [1.0] * 4}) for _ in range(2)]
            given[1][2]["who"] = values
            if isinstance(values, list) and isinstance(values[0], str):
                given[0][2]["who"] = list("pqrs")
            line = f"'who' (--{option}) has no value in 2 of rows 4 to 7, the first is row 5 (from 0)"
            assert line in told(given, **{option: "who"}, groups=["sex"])


@pytest.mark.parametrize("classes", [None, ["no", "yes"]])
def test_batches_without_rows_are_passed_over(classes: list[str] | None) -> None:
    empty = batch(x=np.zeros((0, 2)), y=[], groups={"sex": [], "age": []})
    full = batch(groups={"sex": list("FMFM"), "age": [1, 2, 3, 4]})
    listed: list[Any] = [batch(x=x, y=[], groups={"sex": [], "age": []}) for x in ([], (), {})]
    for given in ([full, empty, full], [empty, full, full], [full, *listed, full], [*listed, full, full]):
        assert rows(open_data(given, groups=["sex", "age:3"], classes=classes))[1] == [0, 1] * 4
    assert "gives no rows" in told([empty, empty], classes=classes)


def test_all_groups_where_none_is_named() -> None:
    source = open_data(People(), id="key", weight="w", cluster="key")
    assert source.columns == ("sex", "age")
    first = next(iter(source.batches(5)))
    assert list(first.ids) == ["p0", "p1", "p2", "p3", "p4"]
    assert first.weight is not None
    np.testing.assert_allclose(first.weight, [0, 0.1, 0.2, 0.3, 0.4])


def test_groups_may_be_numbered() -> None:
    source = open_data([batch(groups={0: list("FMFM"), 1: list("aabb")})])
    assert source.columns == ("0", "1")
    assert rows(open_data([batch(groups={0: list("FMFM")})], groups=["0"]))[2] == SEXES[:4]


def test_bins_and_the_class() -> None:
    _, y, groups = rows(open_data(People(), groups=["age:30,60", "class"]))
    expected = ["<30" if i < 10 else "30-60" if i < 40 else ">=60" for i in range(N)]
    assert groups == [(age, str(label)) for age, label in zip(expected, y, strict=True)]


def test_pairs_without_groups() -> None:
    data = TensorDataset(torch.arange(6.0)[:, None], torch.arange(6) % 2)
    assert rows(open_data(data, groups=["class"]))[2] == [("0",), ("1",)] * 3
    assert open_data(data).columns == ()


def test_named_classes() -> None:
    batches = [(np.zeros((3, 2)), ["cat", "dog", "cat"], {"g": [0, 1, 0]})]
    source = open_data(batches, classes=["dog", "cat"], groups=["class", "g"])
    assert rows(source)[1:] == ([1, 0, 1], [("cat", "0"), ("dog", "1"), ("cat", "0")])
    assert "which is none of the classes dog, eel" in told(batches, classes=["dog", "eel"])
    assert "name their classes with --classes" in told(batches)


def test_group_values_reads_what_it_must() -> None:
    assert group_values(People(), ["sex", "age:30"]) == {"sex": ("F", "M"), "age": ("<30", ">=30")}


def told(data: Any, **options: Any) -> str:
    with pytest.raises(DataError) as error:
        list(open_data(data, **options).batches(10))
    assert "\n" not in str(error.value)
    return str(error.value)


def batch(**changes: Any) -> tuple[Any, Any, Any]:
    given = {"x": np.zeros((4, 2)), "y": [0, 1, 0, 1], "groups": {"sex": list("FMFM")}, **changes}
    return given["x"], given["y"], given["groups"]


def test_what_cannot_be_judged() -> None:
    assert "it must give (x, y, groups)" in told([1, 2, 3])
    assert "gives a tuple of 4" in told([(1, 2, 3, 4)])
    assert "gives groups as a list of 4" in told([batch(groups=["F", "M", "F", "M"])])
    assert "gives no rows" in told([])
    assert "is something of type int; it must give" in told(3)
    assert "can be read only once" in told(iter([batch()]))
    assert "Did you mean 'sex'?" in told([batch()], groups=["sexx"])
    assert "no column 'zzz'; columns are: sex, class" in told([batch()], groups=["zzz"])
    assert "2 values of 'sex' for 4 rows" in told([batch(groups={"sex": ["F", "M"]})])
    assert "5 rows of features for 4 labels" in told([batch(x=np.zeros((5, 2)))])
    assert "gives the label -1 in row 5 (from 0)" in told([batch(), batch(y=[0, -1, 0, 1])])
    assert "gives the label nan in row 0" in told([batch(y=[np.nan, 1, 0, 1])])
    assert "'sex' mixes types" in told([batch(groups={"sex": ["F", 1, "F", 1]})])
    assert "group 'sex' has one value, 'F', in all 4 rows" in told([batch(groups={"sex": list("FFFF")})])
    assert "has no column 'sex'" in told([batch(), batch(groups={"other": list("FMFM")})])
    assert "makes its own features; apply --transform there" in told([batch()], transform=len)
    assert "makes its own features; apply --features there" in told([batch()], features=["x"])
    text = np.array([["1", "2"], ["3", "x"]])
    given = [batch(), batch(x=text, y=[0, 1], groups={"sex": ["F", "M"]})]
    assert "'x') in row 5, from 0); encode text" in told(given)


def test_callables_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows_here.py").write_text(
        "import numpy as np, pandas as pd\n"
        "def batches():\n"
        "    for i in range(3):\n"
        "        yield np.full((2, 1), i), [0, 1], {'sex': ['F', 'M']}\n"
        "def table():\n"
        "    return pd.DataFrame({'x': [1.0, 2.0], 'y': [0, 1], 'sex': ['F', 'M']})\n"
        "def arrays():\n"
        "    return np.zeros((2, 1)), [0, 1], {'sex': ['F', 'M']}\n"
        "def file():\n"
        "    table().to_parquet('t.parquet')\n"
        "    return 't.parquet'\n"
        "def broken():\n"
        "    raise KeyError('no such key')\n"
    )
    monkeypatch.chdir(tmp_path)
    source = open_data("rows_here:batches", groups=["sex"])
    for _ in range(2):  # a generator is made anew for every pass
        assert rows(source)[1] == [0, 1] * 3
    assert open_data("rows_here.py:table", label="y", groups=["sex"]).n_rows == 2
    assert open_data(f"{tmp_path}/rows_here.py:arrays").columns == ("sex",)
    assert open_data("rows_here:file", label="y", groups=["sex"]).record.kind == "Parquet"
    assert "--data rows_here:broken failed: KeyError: 'no such key'" in told("rows_here:broken")
    with pytest.raises(ConfigError, match=r"no module 'row_here'.*Did you mean 'rows_here'"):
        open_data("row_here:batches")
