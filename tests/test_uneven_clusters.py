"""Groups whose clusters are larger, or more alike, than everybody else's: no rows of theirs count twice."""

import numpy as np
import pytest

from fairguard.judge.clusters import judge_clustered
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.judge.scatter import CLUSTER
from fairguard.policy import Policy
from fairguard.verdict import Outcome, Verdict

Side = tuple[int, int, float, float]
"""Persons, rows of each, the share of rows that are harmed, and the share of a person's rows with one fate."""


def tables(seed: int, *sides: Side) -> tuple[CountTable, CountTable]:
    """Return the rows of each side, a group, without and with whose they are."""
    rng = np.random.default_rng(seed)
    group, person, pruned = [], [], []
    for k, (persons, rows, harm, alike) in enumerate(sides):
        whose, fates = np.repeat(np.arange(persons), rows), rng.random(persons)
        fate = np.where(rng.random(len(whose)) < alike, fates[whose], rng.random(len(whose)))
        group.append(np.full(len(whose), k))
        person.append(whose + sum(each[0] for each in sides[:k]))
        pruned.append((fate >= harm).astype(int))
    codes = np.column_stack([np.concatenate(group), np.concatenate(person)])
    names = [f"{k}" for k in range(codes[:, 1].max() + 1)]
    ones = np.ones(len(codes), int)
    answers = {"y": ones, "dense": ones, "pruned": np.concatenate(pruned)}
    plain = CountTable.of(["g"], [["a", "b"]], ("0", "1"), codes=codes[:, :1], **answers)
    return plain, CountTable.of(["g", CLUSTER], [["a", "b"], names], ("0", "1"), codes=codes, **answers)


def verdicts(sides: tuple[Side, Side], *, margin: float, count: int = 60) -> list[Verdict]:
    policy = Policy.of(metrics="accuracy", permutations=199, margin=margin)
    return [judge_clustered(tables(seed, *sides)[1], policy) for seed in range(count)]


@pytest.mark.parametrize(
    ("others", "group"),
    [
        ((1000, 1, 0.05, 0.0), (30, 100, 0.05, 1.0)),
        ((1000, 1, 0.10, 0.0), (15, 40, 0.10, 1.0)),
        ((1000, 2, 0.05, 0.0), (30, 20, 0.05, 1.0)),
        ((500, 4, 0.05, 0.3), (30, 20, 0.05, 1.0)),
    ],
)
def test_few_persons_of_many_alike_rows_are_few(others: Side, group: Side) -> None:
    """None of thirty persons is hit with a chance of 21 %: their 3,000 rows prove nothing against all others then."""
    said = verdicts((others, group), margin=0.001)
    assert sum(verdict.outcome is Outcome.REGRESSED for verdict in said) <= 8  # three standard errors above 3


@pytest.mark.parametrize(("harm", "rows"), [(0.0, 20), (0.0, 100), (0.02, 20)])
def test_few_persons_who_happened_to_be_spared_rule_nothing_out(harm: float, rows: int) -> None:
    said = verdicts(((2000, 1, harm, 0.0), (30, rows, harm + 0.05, 1.0)), margin=0.05)
    assert sum(verdict.outcome is Outcome.PRESERVED for verdict in said) <= 8


def test_rows_of_which_none_changed_are_worth_their_clusters() -> None:
    """Nothing changed, so nobody knows whose rows change together: 200 persons of ten rows are 200, not 2,000."""
    policy = Policy.of(metrics="accuracy", margin=0.05)
    whole = judge_clustered(tables(0, (200, 10, 0.0, 0.0), (200, 10, 0.0, 0.0))[1], policy)
    persons = judge(tables(0, (200, 1, 0.0, 0.0), (200, 1, 0.0, 0.0))[0], policy)
    assert whole.outcome is persons.outcome is Outcome.PRESERVED
    for mine, theirs in zip(whole.findings, persons.findings, strict=True):
        assert mine.interval[1] == pytest.approx(theirs.interval[1], abs=1e-3)


def test_rows_of_many_clusters_that_are_not_alike_count_each() -> None:
    plain, whole = tables(1, (300, 10, 0.05, 0.0), (300, 10, 0.08, 0.0))
    policy = Policy.of(metrics="accuracy")
    for mine, theirs in zip(judge_clustered(whole, policy).findings, judge(plain, policy).findings, strict=True):
        assert mine.interval == pytest.approx(theirs.interval, abs=3e-3)


def test_each_side_is_worth_what_its_own_clusters_are() -> None:
    """Single rows lose nothing to others' clusters: doubling those rows leaves the bounds, where all are alike."""
    policy = Policy.of(metrics="accuracy", permutations=999)
    few, many = (
        judge_clustered(tables(5, (2000, 1, 0.05, 0.0), (100, rows, 0.10, 1.0))[1], policy) for rows in (10, 20)
    )
    for mine, theirs in zip(few.findings, many.findings, strict=True):
        assert mine.interval == pytest.approx(theirs.interval, abs=1e-6)
