"""Rows that belong together and rows that count more: verdicts that neither can fool."""

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard import check
from fairguard.acceptance import with_acceptance
from fairguard.cli import run
from fairguard.config import Accepted, Settings, merged
from fairguard.errors import ConfigError, DataError
from fairguard.judge.clusters import judge_clustered
from fairguard.judge.contrasts import family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.judge.scatter import CLUSTER, WEIGHT, scatter_of, shares_of
from fairguard.policy import Policy
from fairguard.report.text import render
from fairguard.verdict import Outcome, Verdict

POLICY = Policy.of(metrics="accuracy", permutations=999)


def people(seed: int, *, persons: int = 150, rows: int = 8, alike: float = 0.5, harm: float = 0.0) -> dict:
    """Persons with several rows each, a share ``alike`` of which shares the person's fate; group 1 loses more."""
    rng = np.random.default_rng(seed)
    group = np.arange(persons) % 3
    person = np.repeat(np.arange(persons), rows)
    chance = 0.06 + harm * (group == 1)
    shared, fate = rng.random(len(person)) < alike, rng.random(persons) < chance
    flipped = np.where(shared, fate[person], rng.random(len(person)) < chance[person])
    return {"group": group[person], "cluster": person, "dense": np.ones(len(person), int), "pruned": 1 - flipped}


def table(data: dict, *, cluster: np.ndarray | None = None, weight: np.ndarray | None = None) -> CountTable:
    columns, levels, codes = ["g"], [["a", "b", "c"]], [data["group"]]
    for name, values in ((CLUSTER, cluster), (WEIGHT, weight)):
        if values is not None:
            names, place = np.unique(values, return_inverse=True)
            columns.append(name)
            levels.append([str(value) for value in names])
            codes.append(place)
    return CountTable.of(
        columns,
        levels,
        ("0", "1"),
        codes=np.column_stack(codes),
        y=np.ones_like(data["dense"]),
        dense=data["dense"],
        pruned=data["pruned"],
    )


def bounds(verdict: Verdict) -> dict[str, tuple[float, float]]:
    return {finding.group: finding.interval for finding in verdict.findings}


def test_ignoring_persons_raises_false_alarms_and_clusters_keep_them_down() -> None:
    policy, alarms = Policy.of(metrics="accuracy", permutations=499, margin=0.005), np.zeros(2)
    for seed in range(120):
        data = people(seed)
        verdicts = judge(table(data), policy), judge_clustered(table(data, cluster=data["cluster"]), policy)
        alarms += [verdict.outcome is Outcome.REGRESSED for verdict in verdicts]
    rows, clusters = alarms / 120
    assert rows > 0.15
    assert clusters < 0.11  # three standard errors above 0.05


def test_harm_to_persons_is_still_found() -> None:
    data = people(1, persons=600, harm=0.15)
    verdict = judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    assert [finding.group for finding in verdict.regressed] == ["g=b"]


def test_rows_repeated_within_a_cluster_add_no_evidence() -> None:
    data = people(2, alike=0.0, rows=1, persons=900, harm=0.1)
    once = judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    thrice = {name: np.repeat(values, 3) for name, values in data.items()}
    again = judge_clustered(table(thrice, cluster=thrice["cluster"]), POLICY)
    for group, interval in bounds(once).items():
        assert bounds(again)[group] == pytest.approx(interval, abs=1e-9)
    assert judge(table(thrice), POLICY).findings[0].interval[0] > once.findings[0].interval[0]


def test_clusters_of_one_row_judge_much_as_rows_do() -> None:
    data = people(3, alike=0.0, rows=1, persons=3000, harm=0.05)
    plain, single = judge(table(data), POLICY), judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    assert single.outcome is plain.outcome
    for group, interval in bounds(plain).items():
        assert bounds(single)[group] == pytest.approx(interval, abs=3e-3)
    assert single.overall.model_dump_json() == plain.overall.model_dump_json()


def test_clusters_that_span_groups_are_judged() -> None:
    data = people(4, persons=600, harm=0.1)
    mixed = np.random.default_rng(0).permutation(data["cluster"])
    verdict = judge_clustered(table(data, cluster=mixed), POLICY)
    assert verdict.findings[0].group == "g=b"


def test_a_few_large_clusters_among_small_ones_count_for_what_they_are_worth() -> None:
    """Fifty persons of eight rows each are fifty; one of 400 rows beside 49 such are worth four."""
    data = people(12)
    family = family_of(even := table(data, cluster=data["cluster"]), POLICY, groups=["g"])
    assert scatter_of(even, family, shares_of(even, family)).units == pytest.approx([50, 50, 50])
    large = np.where(data["cluster"] < 3, 50, 1)
    rows = {name: np.repeat(values, large) for name, values in data.items()}
    uneven = table(rows, cluster=rows["cluster"])
    family = family_of(uneven, POLICY, groups=["g"])
    worth = (400 + 49 * 8) ** 2 / (400**2 + 49 * 8**2)
    assert scatter_of(uneven, family, shares_of(uneven, family)).units == pytest.approx([worth] * 3)


def test_many_clusters_are_merged_for_the_sign_flips_alone() -> None:
    data = people(5, persons=9000, rows=2, harm=0.05)
    verdict = judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    assert [finding.group for finding in verdict.regressed] == ["g=b"]


def test_equal_weights_change_no_estimate() -> None:
    data = people(6, alike=0.0, rows=1, persons=1500, harm=0.05)
    plain = judge(table(data), POLICY)
    for weight in (1.0, 2.5):
        verdict = judge_clustered(table(data, weight=np.full(1500, weight)), POLICY)
        assert verdict.overall.model_dump_json() == plain.overall.model_dump_json()
        assert bounds(verdict)["g=b"] == pytest.approx(bounds(plain)["g=b"], abs=3e-3)


def test_a_weight_of_two_is_a_row_twice_in_the_estimate_and_not_in_the_evidence() -> None:
    data = people(7, alike=0.0, rows=1, persons=1500, harm=0.1)
    weight = np.random.default_rng(0).integers(1, 4, 1500)
    verdict = judge_clustered(table(data, weight=weight), POLICY)
    repeated = judge(table({name: np.repeat(values, weight) for name, values in data.items()}), POLICY)
    mine, theirs = verdict.findings[0], repeated.findings[0]
    assert (mine.group, mine.estimate) == (theirs.group, pytest.approx(theirs.estimate))
    assert (mine.loss, mine.loss_rest) == pytest.approx((theirs.loss, theirs.loss_rest), abs=1e-6)
    assert mine.interval[0] < theirs.interval[0]
    assert mine.n == 500
    assert verdict.overall.accuracy.pruned == pytest.approx(repeated.overall.accuracy.pruned, abs=1e-6)


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "heavy"])
def test_impossible_weights_are_named(weight: str) -> None:
    data = people(8, persons=30)
    values = np.full(240, "1.0", dtype="U8")
    values[0] = weight
    with pytest.raises(DataError, match=f"weight '{weight}' is not possible"):
        judge_clustered(table(data, weight=values), POLICY)


def test_weights_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="all weights are 0"):
        judge_clustered(table(people(8, persons=30), weight=np.zeros(240)), POLICY)


def test_a_look_beyond_the_planned_ones_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'look': 3 is not valid: looks planned: 2\. Plan more"):
        Policy.of(looks=2, look=3)
    with pytest.raises(ConfigError, match=r"'look': 3 is not valid: looks planned: 2\. Plan more"):
        merged(Settings(), {"looks": 2, "look": 3})  # before any model is asked


@pytest.mark.parametrize("looks", [3, 5, 8])
def test_an_early_look_can_say_regressed(looks: int) -> None:
    """Its level may lie below any p value that sign flips can give; a group that lost half its rows is harmed still."""
    rng = np.random.default_rng(0)
    group, y = rng.integers(0, 2, 4000), rng.integers(0, 2, 4000)
    pruned = np.where((group == 1) & (rng.random(4000) < 0.5), 1 - y, y)
    rows = np.column_stack([y, pruned])
    groups = {"g": np.array(["a", "b"])[group], "person": np.arange(4000) % 1000}

    def answers(column: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.eye(2)[np.asarray(x)[:, column].astype(int)]

    how = {"groups": "g", "metrics": "accuracy", "looks": looks, "look": 1}
    said = [check(answers(0), answers(1), (rows, y, groups), **how, **more) for more in ({}, {"cluster": "person"})]
    assert [verdict.outcome for verdict in said] == [Outcome.REGRESSED] * 2
    assert said[0].level == said[1].level < 1e-3


@pytest.mark.parametrize("looks", [2, 5, 8])
def test_an_early_look_has_the_bar_of_its_level(looks: int) -> None:
    """The largest of the sign flips drawn is none: they reach a ten-thousandth, the look spends a millionth."""
    data = people(3, alike=0.0, rows=1, persons=3000, harm=0.05)
    policy = Policy.of(metrics="accuracy", looks=looks, look=1)
    plain, single = judge(table(data), policy), judge_clustered(table(data, cluster=data["cluster"]), policy)
    for group, (lower, upper) in bounds(plain).items():
        assert bounds(single)[group] == pytest.approx((lower, upper), abs=3e-3)


def test_groups_too_small_for_an_intersection_are_told_with_clusters_too() -> None:
    data = people(3)
    sex = (np.arange(1200) < 1180).astype(int)
    tables = [
        CountTable.of(
            ["g", "sex", *([CLUSTER] if codes else [])],
            [["a", "b", "c"], ["F", "M"], *([[str(k) for k in range(150)]] if codes else [])],
            ("0", "1"),
            codes=np.column_stack([data["group"], sex, *codes]),
            y=data["dense"],
            dense=data["dense"],
            pruned=data["pruned"],
        )
        for codes in ([], [data["cluster"]])
    ]
    plain, clustered = judge(tables[0], POLICY), judge_clustered(tables[1], POLICY)
    (small,) = [warning for warning in plain.warnings if "judged only as part of the wider groups" in warning]
    assert small in clustered.warnings


def test_rows_needed_count_the_design_effect() -> None:
    """Eight alike rows of a person tell less than eight persons: more rows are asked for than of rows alone."""
    data = people(11, persons=120, alike=1.0)
    alone, clustered = judge(table(data), POLICY), judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    needed = {f.group: f.rows_needed for f in clustered.findings}
    open_ = [f for f in alone.findings if f.rows_needed]
    assert open_
    assert all(needed[f.group] > f.rows_needed for f in open_)


def test_one_cluster_is_refused() -> None:
    data = people(9, persons=30)
    with pytest.raises(DataError, match="one cluster"):
        judge_clustered(table(data, cluster=np.zeros(240, int)), POLICY)


def test_identical_predictions_are_never_a_regression() -> None:
    data = people(10, persons=300)
    data["pruned"] = data["dense"]
    verdict = judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    assert verdict.outcome is not Outcome.REGRESSED
    assert all(finding.p_value == 1.0 for finding in verdict.findings)


def test_a_group_that_weighs_nothing_is_told_as_that() -> None:
    data = people(3)
    verdict = judge_clustered(table(data, weight=(data["group"] != 1).astype(float)), POLICY)
    (finding,) = [f for f in verdict.findings if f.group == "g=b"]
    assert not finding.tested
    assert finding.rows_needed is None
    assert finding.reason == "the rows of the group, or all others, weigh nothing"


def test_a_group_of_one_cluster_is_told_as_that() -> None:
    data = people(3)
    cluster = np.where(data["group"] == 1, -1, data["cluster"])
    verdict = judge_clustered(table(data, cluster=cluster), POLICY)
    (finding,) = [f for f in verdict.findings if f.group == "g=b"]
    assert (finding.tested, finding.rows_needed) == (False, None)
    assert finding.reason == ("one cluster has nearly all rows of the group, or all others: more clusters are needed")
    assert all(f.tested for f in verdict.findings if f.group == "g=a")


def test_shares_that_are_weighted_are_told_apart_from_counts() -> None:
    data = people(3, harm=0.3)
    weighted = judge_clustered(table(data, weight=1.0 + 9.0 * (data["group"] == 1)), POLICY)
    alike = judge_clustered(table(data, cluster=data["cluster"]), POLICY)
    assert (weighted.weighted, alike.weighted) == (True, False)
    said = render(weighted)
    assert re.search(r"accuracy 100.0 % -> \d\d.\d % \(weighted\) · flips \d\d.\d % of rows, not weighted", said)
    assert "harmed" not in said.split("\n\n")[1], "a share of rows says nothing beside weighted ones"
    assert "harmed" in render(alike).split("\n\n")[1]


def one_sided(heavy: float, *, side: int = 0, harm: float = 0.3) -> dict:
    """Six thousand rows of which group 1 clearly lost, and one row of ``side`` that weighs as much as ``heavy``."""
    rng = np.random.default_rng(1)
    group = (rng.random(6000) < 0.2).astype(int)
    pruned = 1 - ((group == 1) & (rng.random(6000) < harm)).astype(int)
    weight = np.ones(6000)
    weight[np.flatnonzero(group == side)[0]] = heavy
    return {"group": group, "dense": np.ones(6000, int), "pruned": pruned, "weight": weight}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("heavy", [5e3, 2e4, 1e6])
def test_one_heavy_row_hides_no_harm(heavy: float, side: int) -> None:
    """It used to pass: a group that one row outweighs was as good as one without rows."""
    data = one_sided(heavy, side=side)
    plain = judge_clustered(table(data, weight=np.ones(6000)), POLICY)
    verdict = judge_clustered(table(data, weight=data["weight"]), POLICY)
    assert plain.outcome is Outcome.REGRESSED
    assert verdict.outcome is not Outcome.PRESERVED
    assert "too few rows" not in verdict.headline


def test_what_a_heavy_row_outweighs_is_told_as_that() -> None:
    data = one_sided(1e6)
    verdict = judge_clustered(table(data, weight=data["weight"]), POLICY)
    assert verdict.headline == "2 inconclusive of 2 findings (2 findings outweighed by one row or cluster)"
    assert all(f.dominated and not f.tested for f in verdict.findings)
    assert {f.reason for f in verdict.findings} == {
        "one row has nearly all the weight of the group, or of all others: trim the weights"
    }
    assert "untested" not in render(verdict)


def test_the_command_says_what_to_do_about_a_heavy_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = one_sided(1e6)
    rows = pd.DataFrame({"id": range(6000), "y": 1, "group": data["group"], "w": data["weight"]})
    rows.loc[::2, "y"] = 0
    rows.to_csv("rows.csv", index=False)
    for name, right in (("dense", data["dense"]), ("pruned", data["pruned"])):
        rows.assign(prediction=np.where(right == 1, rows["y"], 1 - rows["y"]))[["id", "prediction"]].to_csv(
            f"{name}.csv", index=False
        )
    words = "check dense.csv pruned.csv --data rows.csv --label y --group group --id id --weight w --metric accuracy"
    assert run(words.split()) == 3
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == "next: trim the weights, or split the clusters, that outweigh 2 findings; then check again"


def test_a_large_group_of_one_cluster_forbids_an_all_clear_and_a_small_one_does_not() -> None:
    for size, expected in ((400, Outcome.INCONCLUSIVE), (40, Outcome.PRESERVED)):
        group = np.repeat([0, 2, 1], [6_000, 6_000, size])
        ones = np.ones(len(group), int)
        data = {"group": group, "dense": ones, "pruned": ones}
        verdict = judge_clustered(table(data, cluster=np.where(group == 1, -1, np.arange(len(group)))), POLICY)
        (finding, *_) = [f for f in verdict.findings if f.group == "g=b"]
        assert (verdict.outcome, finding.tested, finding.dominated) == (expected, False, size == 400)


def test_a_heavy_row_that_happened_not_to_change_rules_nothing_out() -> None:
    """At the margin itself, `preserved` is false: one row of a fifth of the group's weight must not make it often."""
    policy, wrong = Policy.of(metrics="accuracy", permutations=199, margin=0.05), 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        group = np.arange(2000) % 2
        weight = np.where(np.arange(2000) == 0, 250.0, 1.0)
        pruned = 1 - (rng.random(2000) < 0.03 + 0.05 * (group == 0)).astype(int)
        data = {"group": group, "dense": np.ones(2000, int), "pruned": pruned}
        verdict = judge_clustered(table(data, weight=weight), policy)
        wrong += verdict.outcome is Outcome.PRESERVED
    assert wrong <= 11  # three standard errors above 5


def worth(verdict: Verdict) -> str:
    return verdict.warnings[-1]


def test_what_rows_are_worth_is_what_they_weigh() -> None:
    even = judge_clustered(table(people(6), weight=np.full(1200, 3.0)), POLICY)
    assert worth(even).startswith("weights: 1,200 rows are worth about 1,200 independent ones of one weight; summaries")
    data = one_sided(1e6)
    told = worth(judge_clustered(table(data, weight=data["weight"]), POLICY))
    assert told.startswith(
        "weights: 6,000 rows are worth about 1 independent ones of one weight; one row of weight 1,000,000 has 99.4 % "
        "of all weight;"
    )


def test_what_rows_are_worth_is_whom_they_belong_to() -> None:
    data = people(6)
    told = worth(judge_clustered(table(data, cluster=data["cluster"]), POLICY))
    assert "1,200 rows are worth about 150 clusters of one size (of 150; median" in told
    half = np.where(np.arange(1200) % 2, data["cluster"], 999)
    told = worth(judge_clustered(table(data, cluster=half), POLICY))
    assert "1,200 rows are worth about 3 clusters of one size (of 151; median" in told
    assert "; cluster 999 has 50 % of all rows; " in told


def test_accepting_a_regression_clears_nothing_that_one_cluster_outweighs() -> None:
    data = people(1, persons=600, harm=0.3)  # half of everybody else's rows are one cluster's
    group, cluster = data["group"], data["cluster"]
    verdict = judge_clustered(table(data, cluster=np.where(group == 2, -1, cluster)), POLICY)
    assert [f.group for f in verdict.regressed] == ["g=b"]
    settled = verdict.model_copy(update={"findings": tuple(f for f in verdict.findings if f.group != "g=a")})
    known = Accepted(group="g=b", why="known", until=date(2030, 1, 1))
    assert with_acceptance(settled, [known], today=date(2026, 1, 1)).outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("heavy", [1e3, 3e3, 5e3])
def test_bounds_are_possible_ones(heavy: float) -> None:
    data = one_sided(heavy)
    verdict = judge_clustered(table(data, weight=data["weight"]), POLICY)
    assert all(-1.0 <= bound <= 1.0 for finding in verdict.findings for bound in finding.interval)
