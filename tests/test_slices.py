"""Slices nobody named: found where planted, told once, and not where nothing is."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard import check
from fairguard.demo.making import train
from fairguard.errors import ConfigError, DataError
from fairguard.fuzz import fuzz
from fairguard.inputs.factories import load_callable as factory
from fairguard.judge.counts import CountTable, merge_all
from fairguard.judge.scatter import CLUSTER
from fairguard.judge.slices import discover, slices_of
from fairguard.names import clean
from fairguard.policy import Policy
from fairguard.repair.repairing import repair

POLICY = Policy.of(metrics="accuracy", permutations=499)
LEVELS = (("F", "M"), ("a", "b", "c", "d"), ("old", "young"), ("x", "y", "z"))
COLUMNS = ("sex", "race", "age", "region")


def population(
    seed: int,
    *,
    n: int = 12_000,
    planted: dict[str, str] | None = None,
    excess: float = 0.15,
    ones: float = 1.0,
) -> CountTable:
    """Rows whose pruned model errs 5 % more and 3 % less often, and ``excess`` more often where ``planted``."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.choice(len(names), n, p=_shares(len(names))) for names in LEVELS])
    inside = np.ones(n, dtype=bool)
    for column, value in (planted or {}).items():
        at = COLUMNS.index(column)
        inside &= codes[:, at] == LEVELS[at].index(value)
    chance, u = 0.05 + excess * inside * bool(planted), rng.random(n)
    harmed, helped = u < chance, (u >= chance) & (u < chance + 0.03)
    right = ~helped & (harmed | (rng.random(n) < 0.85))
    y, after = (rng.random(n) < ones).astype(int), np.where(harmed, False, np.where(helped, True, right))
    dense, pruned = np.where(right, y, 1 - y), np.where(after, y, 1 - y)
    return CountTable.of(COLUMNS, LEVELS, ("0", "1"), codes=codes, y=y, dense=dense, pruned=pruned)


def _shares(k: int) -> np.ndarray:
    weights = 0.8 ** np.arange(k)
    return weights / weights.sum()


@pytest.mark.parametrize(
    "planted",
    [{"race": "c"}, {"sex": "M", "race": "b"}, {"sex": "F", "age": "young", "region": "z"}],
    ids=lambda planted: "&".join(planted.values()),
)
def test_the_planted_slice_is_told_and_told_alone(planted: dict[str, str]) -> None:
    found = discover(population(1, planted=planted), POLICY, depth=3).found
    assert [finding.group for finding in found] == [" & ".join(f"{k}={v}" for k, v in planted.items())]
    (finding,) = found
    assert finding.discovered
    assert finding.p_value <= POLICY.alpha
    assert finding.interval[0] > 0
    assert finding.estimate == pytest.approx(0.15, abs=0.06)


def test_slices_with_a_handful_of_a_rare_class_do_not_drown_the_others() -> None:
    table = population(7, planted={"sex": "M", "race": "b"}, excess=0.10, ones=0.03)
    found = discover(table, Policy.of(metrics=("accuracy", "recall"), permutations=499), depth=3).found
    assert [(finding.group, finding.metric) for finding in found] == [("sex=M & race=b", "accuracy")]


def test_two_separate_slices_are_both_told() -> None:
    one, two = population(2, planted={"sex": "F", "race": "a"}), population(3, planted={"age": "young", "region": "z"})
    levels = (*LEVELS, ("p", "q"))
    tables = [
        CountTable.of(
            (*COLUMNS, "site"),
            levels,
            ("0", "1"),
            codes=np.column_stack([part.cells[:, :4], np.full(len(part.counts), site)]),
            y=part.y,
            dense=part.dense,
            pruned=part.pruned,
            counts=part.counts,
        )
        for site, part in enumerate((one, two))
    ]
    names = {finding.group for finding in discover(merge_all(tables), POLICY, depth=3).found}
    assert names == {"sex=F & race=a & site=p", "age=young & region=z & site=q"}


def test_nothing_is_found_where_nothing_is() -> None:
    alarms = sum(bool(discover(population(seed, n=4000), POLICY, depth=2).found) for seed in range(60))
    assert alarms <= 8  # of 60 at 5 %: above 8 has a chance below 1 %


@pytest.mark.parametrize("how", [{"alpha": 5e-4}, {"looks": 5, "look": 1}])
def test_less_than_the_relabellings_can_show_is_searched_at(how: dict) -> None:
    """By a bar beyond all of them: clear harm is found, and what is chance once in a hundred is not."""
    policy = Policy.of(metrics="accuracy", permutations=499, **how)
    planted = population(1, planted={"sex": "M", "race": "b"})
    assert [finding.group for finding in discover(planted, policy, depth=2).found] == ["sex=M & race=b"]
    faint = population(2, planted={"race": "c"}, excess=0.03)
    assert [finding.group for finding in discover(faint, POLICY, depth=2).found] == ["race=c"]
    assert discover(faint, policy, depth=2).found == ()


def test_named_groups_explain_and_are_not_told_again() -> None:
    table = population(1, planted={"race": "c"})
    found = discover(table, POLICY, depth=2, named=("race=c",))
    assert found.found == ()
    assert found.searched == discover(table, POLICY, depth=2).searched - 1 > 30


def test_columns_to_search_are_no_groups_to_judge() -> None:
    y = np.arange(600) % 2
    rows = (y[:, None], y, {name: np.where(np.arange(600) % k, "u", "v") for name, k in (("g", 2), ("h", 3))})

    def model(x: np.ndarray) -> np.ndarray:
        return np.eye(2)[np.asarray(x)[:, 0].astype(int)]

    with pytest.raises(ConfigError, match="searched beside the groups that are judged, and none is named: name one"):
        check(model, model, rows, discover=2, discover_columns=["h"])
    verdict = check(model, model, rows, groups=["g"], discover=2, discover_columns=["h"])
    assert {finding.group for finding in verdict.findings} == {"g=u", "g=v"}
    assert verdict.searched == 6


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows of three features, a group and a column to search, all numbers; a net, and one that forgot a feature."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, (g, h) = rng.normal(size=(2000, 3)).astype(np.float32), rng.integers(0, 2, (2, 2000))
    y = (np.where(g == 1, x[:, 2], x[:, 0]) > 0).astype(int)
    pd.DataFrame({**dict(zip("abc", x.T, strict=True)), "g": g, "h": h, "y": y}).to_parquet("rows.parquet")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))\n"
    )
    torch.manual_seed(0)
    net = train(factory(f"{tmp_path / 'net.py'}:build")(), x, y, epochs=5, seed=0)
    torch.save(net.state_dict(), "dense.pt")
    with torch.no_grad():
        net[0].weight[:, 2] = 0
    torch.save(net.state_dict(), "pruned.pt")
    return tmp_path


SEARCHED = {"label": "y", "groups": ["g"], "model": "net.py:build", "discover_columns": ["h"]}


def test_columns_to_search_are_features_in_no_command(folder: Path) -> None:
    """Searched or not: a model takes the same whatever it is asked, and here three columns are left for it."""
    usual, searched = (check("dense.pt", "pruned.pt", "rows.parquet", **SEARCHED, discover=d) for d in (0, 1))
    assert usual.to_dict()["findings"] == searched.to_dict()["findings"]
    assert not usual.searched
    assert searched.searched
    assert fuzz("dense.pt", "pruned.pt", "rows.parquet", swap="a", max_examples=20, **SEARCHED).candidates
    table = pd.read_parquet("rows.parquet").rename(columns={"h": "h\n"})
    assert check("dense.pt", "pruned.pt", table, **{**SEARCHED, "discover_columns": [clean("h\n")]}).columns == ("g",)


def test_columns_to_search_are_constrained_by_no_repair(folder: Path) -> None:
    """Nor do they divide the rows: a repair is the same to the last bit with them and without."""
    how = {"data": "rows.parquet", "budget": "2epochs", "method": "magnitude", "device": "cpu"}
    plain = {**SEARCHED, "features": list("abc"), "discover_columns": ()}
    alone, beside = (
        repair("dense.pt", "pruned.pt", f"fair{place}.pt", **how, **options)
        for place, options in enumerate((plain, SEARCHED | {"discover": 1}))
    )
    assert alone.after is not None
    assert beside.after is not None
    assert beside.check.to_dict()["findings"] == alone.check.to_dict()["findings"]
    assert beside.after.to_dict()["findings"] == alone.after.to_dict()["findings"]
    assert beside.trials == alone.trials


def test_every_slice_of_the_right_size_is_enumerated_once() -> None:
    table = population(4, n=3000).canonical()
    grouping = slices_of(table, COLUMNS, depth=2, smallest=30)
    wide = [names for names in grouping.groups if len(names.columns) == 2]
    sizes = {group.name: n for group, n in zip(grouping.groups, grouping.sums(table.counts), strict=True)}
    expected = {}
    for i, j in ((i, j) for i, j in product(range(4), repeat=2) if i < j):
        for a, b in product(range(len(LEVELS[i])), range(len(LEVELS[j]))):
            n = int(table.counts[(table.cells[:, i] == a) & (table.cells[:, j] == b)].sum())
            expected[f"{COLUMNS[i]}={LEVELS[i][a]} & {COLUMNS[j]}={LEVELS[j][b]}"] = n
    assert {name: n for name, n in expected.items() if n >= 30} == {group.name: sizes[group.name] for group in wide}


def test_a_slice_with_the_rows_of_a_simpler_one_is_not_formed() -> None:
    codes = np.repeat([[0, 0], [1, 1]], 100, axis=0)
    y = np.ones(200, int)
    table = CountTable.of(("a", "b"), (("0", "1"),) * 2, ("0", "1"), codes=codes, y=y, dense=y, pruned=y)
    assert all(len(group.columns) == 1 for group in slices_of(table, ("a", "b"), depth=2, smallest=30).groups)


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(DataError, match=r"no group column 'rase'\. Did you mean 'race'"):
        discover(population(5, n=500), POLICY, columns=("rase",))


def test_too_few_rows_find_nothing() -> None:
    assert discover(population(6, n=25), POLICY) == ((), 0)


def test_clusters_are_refused() -> None:
    table = population(8, n=300)
    clustered = CountTable((*COLUMNS[:-1], CLUSTER), table.levels, table.classes, table.cells, table.counts)
    with pytest.raises(ConfigError, match="leave out --cluster"):
        discover(clustered, POLICY)
