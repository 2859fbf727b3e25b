"""Rows to train, to tune and to verify on: disjoint, alike, repeatable, whatever the files look like."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard.config import Settings
from fairguard.errors import DataError
from fairguard.opening import open_source
from fairguard.repair.copies import contents
from fairguard.repair.dividing import divided
from fairguard.repair.rows import Rows
from fairguard.repair.splits import apart, split


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
    assert len(set(contents(rows).copies)) == 600


def test_training_rows_that_are_also_verified_are_left_out() -> None:
    first, second = rows_of(100, 0), rows_of(100, 1)
    for one, other in ((first.x, second.x), (first.y, second.y), (first.codes, second.codes)):
        one[:30] = other[50:80]
    assert np.array_equal(apart(first, second, by_id=False).fresh, np.arange(30, 100))
    assert len(apart(first, second, by_id=True).fresh) == 0


def coarse_rows(n: int, seed: int, *, columns: int = 3) -> Rows:
    """Return a survey: a few columns of a few values, and labels that follow them no more than people do."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, size=(n, columns)).astype(np.float32)
    y = (x.sum(1) / columns + rng.normal(0, 2.0, n) > 4.5).astype(np.int64)  # a rare label
    codes = rng.integers(0, 3, size=(n, 1))
    return Rows(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(codes), np.arange(n))


def test_people_who_are_alike_in_a_coarse_table_are_no_copies() -> None:
    taught, proving = coarse_rows(4000, 0), coarse_rows(3000, 1)
    codes, others = np.split(contents(taught, proving).code, [4000])
    assert np.isin(codes, others).mean() > 0.9, "nearly everybody has an equal among the rows to verify on"
    kept, alike, _ = apart(taught, proving, by_id=False)
    assert len(kept) > 3980
    assert alike > 0.9 * 4000


def test_the_report_counts_who_is_alike_and_names_what_leaves_no_doubt(tmp_path: Path) -> None:
    for name, seed in (("train", 0), ("verify", 1)):
        rows = coarse_rows(2000, seed, columns=2)
        table = pd.DataFrame(rows.x.numpy(), columns=["a", "b"]).assign(y=rows.y.numpy(), race=rows.codes[:, 0].numpy())
        table.assign(who=np.arange(2000) + 2000 * seed).to_csv(tmp_path / f"{name}.csv", index=False)
    for who in (None, "who"):
        settings = Settings(label="y", groups=("race",), features=("a", "b"), id=who)
        source = open_source(str(tmp_path / "verify.csv"), settings)
        train = str(tmp_path / "train.csv")
        parts = divided(source, settings, train=train, verify=None, classes=("0", "1"))
        kept = parts.how["train"] + parts.how["tune"]
        assert kept > 1980
        assert " that equal one of those only by chance stay" in parts.how["how"]
        assert len(parts.notes) == (who is None)
        assert all("equal a row to verify on, as people do" in n and "(--id)" in n for n in parts.notes)


def test_both_labels_of_the_same_features_are_on_every_side() -> None:
    rows = coarse_rows(6000, 0, columns=2)
    parts = split(rows, seed=0)
    seen = 0
    for x in rows.x.unique(dim=0):
        same = (rows.x == x).all(1)
        if min(int((same & (rows.y == label)).sum()) for label in (0, 1)) >= 30:
            seen += 1
            for part in (parts.train, parts.tune, parts.verify):
                assert len(rows.y[part][same[part]].unique()) == 2
    assert seen > 10


def test_copies_are_found_among_people_who_are_alike() -> None:
    taught, proving = coarse_rows(4000, 0), coarse_rows(3000, 1)
    for rows, seed in ((taught, 0), (proving, 1)):
        rows.x[:, 2] = torch.from_numpy(np.random.default_rng(seed).normal(size=len(rows)).astype(np.float32))
    for one, other in ((taught.x, proving.x), (taught.y, proving.y), (taught.codes, proving.codes)):
        one[:40] = other[:40]
    assert np.array_equal(apart(taught, proving, by_id=False).fresh, np.arange(40, 4000)), "one fine column tells them"


def test_texts_of_two_files_may_differ_in_length() -> None:
    long, short = (replace(coarse_rows(50, 0, columns=1), x=torch.ones(50, width)) for width in (7, 5))
    assert len(apart(long, short, by_id=False).fresh) == 50


def test_rows_made_more_by_copying_stay_on_one_side() -> None:
    rows = rows_of(600)
    rare = np.flatnonzero(rows.y.numpy() == 1)
    again = np.concatenate([np.arange(600), rare, rare, rare])
    parts = split(replace(rows.take(again), ids=np.arange(len(again))), seed=0)
    sides = [set(again[part].tolist()) for part in (parts.train, parts.tune, parts.verify)]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]


def test_a_file_that_contains_the_other_keeps_the_people_who_are_only_in_it() -> None:
    every = coarse_rows(3500, 1)
    kept, alike, _ = apart(every, every.take_first(3000), by_id=False)
    assert len(kept) == pytest.approx(500, abs=10)
    assert alike > 0.9 * len(kept)
    rare, others = (float(rows.y.float().mean()) for rows in (every.take(kept), every))
    assert rare == pytest.approx(others, abs=0.06), "not those with the rarer label"
    same = every.take(np.random.default_rng(0).permutation(3500))
    assert len(apart(same, every, by_id=False).fresh) == 0
    assert len(apart(every.take_first(900), every, by_id=False).fresh) == 0


def test_files_that_share_rows_give_up_all_that_is_equal() -> None:
    def people(n: int, seed: int) -> Rows:
        return coarse_rows(n, seed, columns=6)

    proving, more = people(3000, 1), people(3000, 2)
    half = np.arange(1500)
    taught = Rows(*(torch.cat([a[half], b]) for a, b in _pairs(proving, more)), ids=np.arange(4500))
    kept, alike, _ = apart(taught, proving, by_id=False)
    assert alike == 0
    codes, others = np.split(contents(taught, proving).code, [len(taught)])
    assert not np.isin(codes[kept], others).any()


def _pairs(one: Rows, other: Rows) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(one.x, other.x), (one.y, other.y), (one.codes, other.codes)]


def test_rows_that_share_features_alone_are_no_duplicates() -> None:
    rows = rows_of(600)
    rows.x[:] = rows.x[:1]  # a table of coarse columns: everybody has the same features
    assert len(set(contents(rows).code)) == 6, "two labels in three groups"
    other = rows_of(600, 1)
    other.x[:] = rows.x[:1]
    other.codes[:] = 7
    assert len(apart(rows, other, by_id=False).fresh) == 600


def test_verify_rows_are_never_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 4)).astype("float32"), columns=list("abcd"))
    table = table.assign(y=rng.choice(["no", "yes"], 300), sex=rng.choice(["F", "M"], 300))
    pd.concat([table, table]).sample(frac=1.0, random_state=0).to_csv(tmp_path / "x.csv")  # everybody twice
    settings = Settings(label="y", groups=("sex",), features=tuple("abcd"))
    source = open_source(str(tmp_path / "x.csv"), settings)
    parts = divided(source, settings, train=None, verify=None, classes=("no", "yes"))
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
    parts = divided(source, settings, train=train, verify=None, classes=("0", "1"))
    assert parts.how["left_out"] == 6
    assert parts.notes == ("no training row has race=Z: nothing was learned for them",)


def test_rows_to_tune_on_are_apart_from_those_to_train_and_to_verify_on(tmp_path: Path) -> None:
    table = pd.DataFrame({"x": np.arange(90.0), "y": [0, 1] * 45, "race": ["B", "A", "C"] * 30})
    for name, part in (("train", table[:50]), ("tune", table[40:70][::-1]), ("verify", table[60:])):
        part.to_csv(tmp_path / f"{name}.csv", index=False)
    settings = Settings(label="y", groups=("race",))
    source = open_source(str(tmp_path / "verify.csv"), settings)
    how: dict[str, Any] = {"verify": None, "classes": ("0", "1")}
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


def test_rows_left_out_for_whose_they_are_are_told_as_that(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(900, 3)), columns=["a", "b", "c"])
    frame = frame.assign(y=np.arange(900) % 2, sex=np.arange(900) % 3, person=np.arange(900) % 600)
    paths = [str(tmp_path / name) for name in ("train.csv", "verify.csv")]
    for path, part in zip(paths, (frame[:450], frame[450:]), strict=True):
        part.assign(row=np.arange(450)).to_csv(path, index=False)
    for who in ({"cluster": "person"}, {"id": "row"}):
        settings = Settings(label="y", groups=("sex",), features=("a", "b", "c"), **who)
        source = open_source(paths[1], settings)
        if "id" in who:
            with pytest.raises(
                DataError, match=r"each of the 450 training rows shares its row \(--id\) .* counts anew"
            ):
                divided(source, settings, train=paths[0], verify=None, classes=("0", "1"))
            continue
        parts = divided(source, settings, train=paths[0], verify=None, classes=("0", "1"))
        assert parts.how["left_out"] == 300
        assert parts.notes[0].startswith("300 of 450 training rows (67 %) share their person (--cluster) with a row to")
        assert "without 300 whose person (--cluster) is also among the rows to verify on" in parts.how["how"]


def test_columns_in_another_order_are_found_by_name(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 3)), columns=["a", "b", "c"])
    frame = frame.assign(y=np.arange(600) % 2, sex=np.arange(600) % 3)
    frame[400:].to_csv(tmp_path / "verify.csv", index=False)
    settings = Settings(label="y", groups=("sex",))
    source = open_source(str(tmp_path / "verify.csv"), settings)
    found = []
    for columns in (["a", "b", "c", "y", "sex"], ["sex", "c", "y", "b", "a"], ["z", "c", "y", "b", "a", "sex"]):
        path = tmp_path / f"{''.join(columns)}.csv"
        frame[:400].assign(z=0.0)[columns].to_csv(path, index=False)
        found.append(divided(source, settings, train=str(path), verify=None, classes=("0", "1")))
    for parts in found[1:]:
        assert torch.equal(parts.train.x, found[0].train.x)
        assert torch.equal(parts.tune.x, found[0].tune.x)
    frame[:400].drop(columns="b").to_csv(tmp_path / "without.csv", index=False)
    with pytest.raises(DataError, match="'b'"):
        divided(source, settings, train=str(tmp_path / "without.csv"), verify=None, classes=("0", "1"))
