"""Rows to train, to tune and to verify on: disjoint, alike, repeatable, whatever the files look like."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard.check import open_source
from fairguard.config import Settings
from fairguard.errors import DataError
from fairguard.repair.dividing import divided
from fairguard.repair.rows import Rows
from fairguard.repair.splits import apart, hashes, split


def rows_of(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(rng.integers(0, 3, size=(n, 1)))
    y = torch.from_numpy(rng.integers(0, 2, size=n))
    return Rows(torch.from_numpy(rng.normal(size=(n, 4)).astype(np.float32)), y, codes, np.arange(n))


def test_splits_are_disjoint_alike_and_repeatable() -> None:
    rows = rows_of(2000)
    parts = split(rows, seed=3)
    every = np.concatenate([parts.train, parts.tune, parts.verify])
    assert sorted(every) == list(range(2000))
    for part, share in ((parts.train, 0.5), (parts.tune, 0.2), (parts.verify, 0.3)):
        assert len(part) / 2000 == pytest.approx(share, abs=0.005)
        for group in range(3):
            for label in range(2):
                of = (rows.codes[:, 0] == group) & (rows.y == label)
                assert int(of[part].sum()) == pytest.approx(share * int(of.sum()), abs=1)
    assert np.array_equal(split(rows, seed=3).train, parts.train)
    assert not np.array_equal(split(rows, seed=4).train, parts.train)


def test_duplicates_and_equal_ids_stay_on_one_side() -> None:
    rows = rows_of(900)
    for part in (rows.x, rows.y, rows.codes):
        part[300:600] = part[:300]
    ids = np.arange(900)
    ids[600:900] = ids[300:600]  # chains: 0 has the features of 300, which has the id of 600
    rows = Rows(rows.x, rows.y, rows.codes, ids)
    parts = split(rows, seed=0)
    side = np.empty(900, dtype=int)
    for number, part in enumerate((parts.train, parts.tune, parts.verify)):
        side[part] = number
    assert (side[:300] == side[300:600]).all()
    assert (side[300:600] == side[600:]).all()
    assert len(set(hashes(rows))) == 600


def test_training_rows_that_are_also_verified_are_left_out() -> None:
    first, second = rows_of(100, 0), rows_of(100, 1)
    for one, other in ((first.x, second.x), (first.y, second.y), (first.codes, second.codes)):
        one[:30] = other[50:80]
    assert np.array_equal(apart(first, second, by_id=False), np.arange(30, 100))
    assert len(apart(first, second, by_id=True)) == 0


def test_rows_that_share_features_alone_are_no_duplicates() -> None:
    rows = rows_of(600)
    rows.x[:] = rows.x[:1]  # a table of coarse columns: everybody has the same features
    assert len(set(hashes(rows))) == 6, "two labels in three groups"
    other = rows_of(600, 1)
    other.x[:] = rows.x[:1]
    other.codes[:] = 7
    assert len(apart(rows, other, by_id=False)) == 600


def test_verify_rows_are_never_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.integers(0, 3, size=(600, 4)).astype("float32"), columns=list("abcd"))
    table.assign(y=rng.choice(["no", "yes"], 600), sex=rng.choice(["F", "M"], 600)).to_csv(tmp_path / "x.csv")
    settings = Settings(label="y", groups=("sex",), features=tuple("abcd"))
    source = open_source(str(tmp_path / "x.csv"), settings)
    parts = divided(source, settings, train=None, verify=None, classes=("no", "yes"), seed=0)
    proving = np.concatenate([np.column_stack([b.x, b.y, b.codes]) for b in parts.verify.batches(64)])
    taught = np.concatenate([np.column_stack([r.x, r.y, r.codes]) for r in (parts.train, parts.tune)])
    assert {tuple(row) for row in taught}.isdisjoint(tuple(row) for row in proving)
    assert len(proving) + len(taught) == source.n_rows


def test_groups_of_two_files_meet_by_name(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(60.0), "y": [0, 1] * 30, "race": ["B", "A", "C"] * 20})
    verify = pd.concat([table.iloc[:6].iloc[::-1], pd.DataFrame({"x": [99.0], "y": [1], "race": ["Z"]})])
    table.to_csv(tmp_path / "train.csv", index=False)
    verify.to_csv(tmp_path / "verify.csv", index=False)
    settings = Settings(label="y", groups=("race",))
    source = open_source(str(tmp_path / "verify.csv"), settings)
    train = str(tmp_path / "train.csv")
    parts = divided(source, settings, train=train, verify=None, classes=("0", "1"), seed=0)
    assert parts.how["left_out"] == 6
    assert parts.notes == ("no training row has race=Z: nothing was learned for them",)


def test_rows_to_tune_on_are_apart_from_those_to_train_and_to_verify_on(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(90.0), "y": [0, 1] * 45, "race": ["B", "A", "C"] * 30})
    for name, part in (("train", table[:50]), ("tune", table[40:70][::-1]), ("verify", table[60:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    settings = Settings(label="y", groups=("race",))
    source = open_source(str(tmp_path / "verify.csv"), settings)
    how: dict[str, Any] = {"verify": None, "classes": ("0", "1"), "seed": 0}
    parts = divided(source, settings, train=str(tmp_path / "train.csv"), tune=str(tmp_path / "tune.csv"), **how)
    assert sorted(parts.train.x[:, 0].tolist()) == list(range(40))
    assert sorted(parts.tune.x[:, 0].tolist()) == list(range(40, 60))
    races = [parts.levels[0][code] for code in parts.tune.codes[:, 0].tolist()]
    assert races == ["BAC"[int(x) % 3] for x in parts.tune.x[:, 0].tolist()], "coded as the training rows are"
    assert parts.how == {
        "train": 40,
        "tune": 20,
        "verify": 30,
        "left_out": 0,
        "how": "train and tune from the rows named for each",
    }
    assert parts.notes == (
        "10 rows to tune on are also among the rows to verify on and were left out",
        "10 training rows are also among the rows to tune on and were left out",
    )
    table[50:60].query("race != 'C'").to_csv(tmp_path / "few.csv", index=False)
    parts = divided(source, settings, train=str(tmp_path / "train.csv"), tune=str(tmp_path / "few.csv"), **how)
    assert parts.notes == ("no row to tune on has race=C: nothing was chosen for them",)
    with pytest.raises(DataError, match="all rows to tune on"):
        divided(source, settings, train=str(tmp_path / "train.csv"), tune=str(tmp_path / "verify.csv"), **how)
    with pytest.raises(DataError, match="all training rows are also among the rows to tune on"):
        divided(source, settings, train=str(tmp_path / "train.csv"), tune=str(tmp_path / "train.csv"), **how)
    table.rename(columns={"race": "sex"})[:50].to_csv(tmp_path / "other.csv", index=False)
    with pytest.raises(DataError, match="race"):
        divided(source, settings, train=str(tmp_path / "train.csv"), tune=str(tmp_path / "other.csv"), **how)
