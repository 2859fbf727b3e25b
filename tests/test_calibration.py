"""A small calibration on every run: rates within Monte-Carlo error of the promise, and the shortcuts are the judge."""

import numpy as np
import pytest
from scipy.stats import binom

from benchmarks.calibration.cells import LOW, UNEVEN
from benchmarks.calibration.dependent import Persons, _first_alarms
from benchmarks.calibration.exact import cleared, rare_flips
from benchmarks.calibration.rules import judged, naive
from benchmarks.calibration.worlds import World, crossed, partition
from fairguard import check_predictions
from fairguard.judge.intervals import excess_upper
from fairguard.judge.judge import judge
from fairguard.policy import Policy
from fairguard.verdict import Outcome

TABLES = 300
NULL = [
    partition(2, 200),
    partition(5, 500),
    partition(20, 200, churn=LOW, name="low churn"),
    partition(20, 200, majority=20.0, name="unequal churn", **UNEVEN),
    partition(5, 500, metrics=("accuracy", "recall", "fpr"), name="3 metrics"),
    crossed(2000, name="intersections"),
]


def drawn(world: World, seed: int = 0, tables: int = TABLES) -> tuple:
    drawer = world.template()
    return drawer, world.samples(np.random.default_rng(seed), tables)


def above(rate: float, tables: int) -> float:
    """Three Monte-Carlo errors above a promised rate."""
    return rate + 3 * np.sqrt(rate * (1 - rate) / tables)


@pytest.mark.parametrize("world", NULL, ids=lambda world: f"{world.name}-{len(world.sizes)}x{world.sizes[-1]}")
def test_false_alarms_keep_the_promise(world: World) -> None:
    drawer, samples = drawn(world)
    assert judged(world, drawer, samples)["both"].mean() <= above(0.05, TABLES)


def test_rules_in_use_elsewhere_do_not() -> None:
    drawer, samples = drawn(partition(20, 200))
    rates = {name: fails.mean() for name, fails in naive(drawer, samples).items()}
    assert rates["EAG > 2pt"] > 0.5
    assert rates["Welch per group"] > 0.3
    assert rates["McNemar Holm"] > 0.2


def test_two_looks_at_persons_keep_the_promise() -> None:
    rng = np.random.default_rng(0)
    options = {"metrics": "accuracy", "intersections": 1, "margin": 1e-9, "permutations": 499, "looks": 2}
    plan = [Policy.of(**options, look=look) for look in (1, 2)]
    alarms = np.zeros(2)
    for _ in range(120):
        persons = Persons.drawn(rng, groups=2, persons=80, rows=4, alike=1.0, spread=0.0, harm=0.0)
        looked = _first_alarms([persons.part(share).tables() for share in (0.5, 1.0)], plan)
        alarms += np.array(looked) < 2
    rows, whole = alarms / 120
    assert rows > 0.15
    assert whole <= above(0.05, 120)


@pytest.mark.parametrize("groups", [2, 5])
def test_the_all_clear_is_rarely_false_at_the_boundary(groups: int) -> None:
    world = partition(groups, 2000, planted=0.02, margin=0.02)
    drawer, samples = drawn(world)
    assert judged(world, drawer, samples)["preserved"].mean() <= above(0.05, TABLES)
    counts = drawer.counts(samples)
    missed = (excess_upper(*counts, 1.6449)[:, -1] < 0.02).mean()
    assert abs(missed - 0.05) <= 3 * np.sqrt(0.05 * 0.95 / TABLES)


def test_the_all_clear_keeps_the_promise_where_few_flips_are_expected() -> None:
    rows = list(rare_flips(0.2, 0))
    for row in rows:
        assert row["shipped"] <= row["alpha"]
    assert max(row["score limit"] / row["alpha"] for row in rows) > 1.3, "score limits alone would break it"


def test_a_plan_s_rows_are_cleared_as_often_as_planned() -> None:
    assert all(0.78 < row["shipped"] < 0.91 for row in cleared(1.0, 0))


@pytest.mark.parametrize(("alpha", "rows"), [(0.05, 134), (0.05, 227), (0.1, 167), (0.2, 201)])
def test_a_check_calls_rare_harm_at_the_margin_preserved_no_oftener_than_alpha(alpha: float, rows: int) -> None:
    """Of all numbers of flips that still pass, the chance at a true excess of the margin, beside a rest without any."""
    group, y = np.repeat(["A", "B"], [20_000, rows]), np.ones(20_000 + rows, dtype=int)
    for flips in range(20):
        pruned = y.copy()
        pruned[len(y) - flips :] = 0
        verdict = check_predictions(y, y, pruned, {"g": group}, alpha=alpha, margin=0.02, metrics="accuracy")
        (about,) = [finding for finding in verdict.findings if finding.group == "g=B"]
        if about.outcome is not Outcome.PRESERVED:
            break
    assert binom.cdf(flips - 1, rows, 0.02) <= alpha


def test_harm_is_found_as_often_as_designed() -> None:
    world = partition(5, 500, planted=0.05)
    drawer, samples = drawn(world, tables=200)
    said = judged(world, drawer, samples)
    assert said["found"].mean() == pytest.approx(0.73, abs=3 * np.sqrt(0.73 * 0.27 / 200))
    assert said["other"].mean() <= above(0.05, 200)


@pytest.mark.parametrize(
    "world",
    [
        partition(5, 500, planted=0.08, margin=0.02),
        partition(3, 3000, margin=0.03),
        partition(5, 500, metrics=("accuracy", "recall", "fpr"), planted=0.08, margin=0.02),
        crossed(4000, planted=((0, 0), (1, 1)), excess=0.08, margin=0.02, intersections=2),
    ],
    ids=["harm", "none", "3 metrics", "intersections"],
)
def test_the_shortcut_over_many_samples_says_what_the_judge_says(world: World) -> None:
    drawer, samples = drawn(world, seed=1, tables=25)
    said = judged(world, drawer, samples)
    for i, sample in enumerate(samples):
        outcome = judge(world.table(sample), world.policy).outcome
        assert (outcome is Outcome.REGRESSED) == bool(said["both"][i])
        assert (outcome is Outcome.PRESERVED) == bool(said["preserved"][i])


def test_a_world_has_the_losses_it_claims() -> None:
    world = partition(3, 1000, planted=0.05)
    b, c, n, b_rest, c_rest, n_rest = (x.mean(axis=0) for x in drawn(world, tables=2000)[0].counts(drawn(world)[1]))
    excess = (b - c) / n - (b_rest - c_rest) / n_rest
    assert excess == pytest.approx([-0.025, -0.025, 0.05], abs=0.005)
