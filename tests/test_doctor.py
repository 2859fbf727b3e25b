"""The doctor measures false alarms and power on the rows it is given, and its measurements are right."""

import numpy as np
import pytest

from fairguard.doctor import examine, planted_in
from fairguard.errors import ConfigError, DataError
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import Estimand
from fairguard.judge.scatter import CLUSTER
from fairguard.metrics import Metric
from fairguard.policy import Policy

POLICY = Policy.of(metrics="accuracy", margin=0.02, permutations=499)


def rows(*, n: int = 3000, harmed: float = 0.05, seed: int = 0) -> CountTable:
    """Three groups of which the last is small and badly harmed: the doctor must not be fooled by that."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(3, n, p=[0.6, 0.37, 0.03])
    y, u = rng.integers(0, 2, n), rng.random(n)
    worse, better = u < harmed + 0.4 * (codes == 2), u > 0.97
    right = ~better & (worse | (rng.random(n) < 0.85))
    dense, pruned = np.where(right, y, 1 - y), np.where(worse, 1 - y, np.where(better, y, np.where(right, y, 1 - y)))
    return CountTable.of(["g"], [["a", "b", "c"]], ("0", "1"), codes=codes[:, None], y=y, dense=dense, pruned=pruned)


def test_a_sound_policy_keeps_its_promise_and_finds_large_harm() -> None:
    diagnosis = examine(rows(), POLICY, excess=0.15, repeats=60)
    assert diagnosis.sound
    assert diagnosis.false_alarm_rate < 0.15
    found = {group.group: group.power for group in diagnosis.groups}
    assert found["g=b"] > 0.9
    assert found["g=c"] < found["g=b"]
    assert diagnosis.groups[0].group == "g=c"


def test_small_harm_is_found_less_often_than_large_harm() -> None:
    small, large = (examine(rows(), POLICY, excess=excess, repeats=40).power for excess in (0.025, 0.2))
    assert small < large


def test_a_reckless_policy_is_told_so() -> None:
    reckless = Policy.of(metrics="accuracy", margin=1e-6, alpha=0.5, permutations=199)
    diagnosis = examine(rows(), reckless, repeats=40)
    assert diagnosis.false_alarm_rate > 0.2
    assert "promised: 50 %" in diagnosis.sentence


def test_the_seed_fixes_everything() -> None:
    assert examine(rows(), POLICY, repeats=20) == examine(rows(), POLICY, repeats=20)


def test_progress_counts_every_data_set() -> None:
    seen: list[tuple[int, int]] = []
    examine(rows(n=500), POLICY, repeats=20, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 40) for k in range(1, 41)]


def test_the_sentence_says_both_rates() -> None:
    sentence = examine(rows(), POLICY, repeats=20).sentence
    assert sentence.startswith("With groups dealt at random, ")
    assert "a planted excess of 4 points was found in" in sentence


@pytest.mark.parametrize(
    ("estimand", "excess"),
    [
        (Estimand(Metric.ACCURACY), 0.1),
        (Estimand(Metric.RECALL, 1), 0.2),
        (Estimand(Metric.FPR, 1), 0.2),
        (Estimand(Metric.SELECTION_RATE, 1), 0.1),
        (Estimand(Metric.DISAGREEMENT), 0.1),
    ],
    ids=lambda value: value.metric if isinstance(value, Estimand) else "",
)
def test_planted_harm_has_the_size_asked_for(estimand: Estimand, excess: float) -> None:
    table = rows(n=60_000)
    planted = planted_in(table, "g", "b", estimand, excess=excess, rng=np.random.default_rng(0))
    assert _loss(planted, estimand, 1) - _loss(table, estimand, 1) == pytest.approx(excess, abs=0.01)
    assert _loss(planted, estimand, 0) == _loss(table, estimand, 0)
    assert planted.n == table.n


def _loss(table: CountTable, estimand: Estimand, group: int) -> float:
    effects = estimand.effects(table)
    at = (table.codes("g") == group) & (effects != 2)
    return float((table.counts * effects)[at].sum() / table.counts[at].sum())


def test_harm_beyond_what_a_group_can_lose_is_not_planted() -> None:
    estimand = Estimand(Metric.ACCURACY)
    assert planted_in(rows(), "g", "b", estimand, excess=0.99, rng=np.random.default_rng(0)) is None


def test_groups_too_small_are_named() -> None:
    diagnosis = examine(rows(n=300), POLICY, repeats=20)
    assert diagnosis.hopeless == ("g=c",)
    assert "nothing can be found in g=c" in diagnosis.sentence


@pytest.mark.parametrize(
    ("options", "line"), [({"repeats": 5}, "5 repeats tell nothing"), ({"excess": 0.01}, "above the margin of 0.02")]
)
def test_questions_without_an_answer_are_refused(options: dict, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        examine(rows(), POLICY, **options)


def test_no_rows_are_refused() -> None:
    empty = np.zeros((0, 1), dtype=int)
    table = CountTable.of(["g"], [["a"]], ("0", "1"), codes=empty, y=empty[:, 0], dense=empty[:, 0], pruned=empty[:, 0])
    with pytest.raises(DataError, match="no rows"):
        examine(table, POLICY)


def test_clusters_are_refused() -> None:
    table = rows()
    renamed = CountTable((CLUSTER,), table.levels, table.classes, table.cells, table.counts)
    with pytest.raises(ConfigError, match="leave out --cluster"):
        examine(renamed, POLICY)
