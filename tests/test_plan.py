"""The rows that a plan asks for are the rows with which the judge decides."""

import numpy as np
import pytest

from fairguard.errors import ConfigError
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.plan import plan_from_pilot, plan_from_sizes
from fairguard.policy import Policy
from fairguard.verdict import Outcome

POLICY = Policy.of(metrics="accuracy", margin=0.03, permutations=499)
CHURN = {"harmed": 0.05, "helped": 0.03}


def sample(rng: np.random.Generator, sizes: dict[str, int], *, excess: float = 0.0) -> CountTable:
    """Binary answers of label 1; the last group loses ``excess`` more."""
    rows = []
    for k, n in enumerate(sizes.values()):
        more = excess * (k == len(sizes) - 1)
        chances = [0.05 + more, 0.03, 0.80 - more, 0.12]
        counts = rng.multinomial(n, chances)
        rows += [
            (k, 1, dense, pruned, m)
            for (dense, pruned), m in zip(((1, 0), (0, 1), (1, 1), (0, 0)), counts, strict=True)
        ]
    group, y, dense, pruned, counts = np.array([row for row in rows if row[-1]]).T
    return CountTable.of(
        ["g"], [list(sizes)], ("0", "1"), codes=group[:, None], y=y, dense=dense, pruned=pruned, counts=counts
    )


@pytest.fixture(scope="module")
def planned() -> dict[str, int]:
    """Sizes, in the proportion 5:3:2, that the plan finds enough for an effect of six points."""
    plan = plan_from_sizes({"a": 500, "b": 300, "c": 200}, POLICY, effect=0.06, **CHURN)
    return {"a": plan.total // 2, "b": plan.total * 3 // 10, "c": plan.total // 5 + 1}


def test_planned_rows_show_the_planned_effect(planned: dict[str, int]) -> None:
    rng = np.random.default_rng(0)
    shown = np.mean([bool(judge(sample(rng, planned, excess=0.06), POLICY).regressed) for _ in range(150)])
    assert shown > 0.72  # planned: at least 0.8


def test_planned_rows_clear_every_group_without_excess(planned: dict[str, int]) -> None:
    rng = np.random.default_rng(1)
    cleared = {"a": 0, "b": 0, "c": 0}
    for _ in range(150):
        for finding in judge(sample(rng, planned), POLICY).findings:
            cleared[finding.group.removeprefix("g=")] += finding.outcome is Outcome.PRESERVED
    assert min(cleared.values()) / 150 > 0.72


def test_a_pilot_asks_for_what_its_churn_asks_for() -> None:
    sizes = {"a": 5000, "b": 3000, "c": 2000}
    pilot = plan_from_pilot(sample(np.random.default_rng(2), sizes), POLICY, effect=0.06)
    assumed = plan_from_sizes(sizes, POLICY, effect=0.06, **CHURN)
    assert pilot.total == pytest.approx(assumed.total, rel=0.2)
    assert {need.group for need in pilot.needs} == {"g=a", "g=b", "g=c"}


def test_more_churn_more_groups_more_power_and_less_effect_need_more_rows() -> None:
    sizes = {"a": 500, "b": 500}
    base = plan_from_sizes(sizes, POLICY, effect=0.08, **CHURN).total
    assert plan_from_sizes(sizes, POLICY, effect=0.08, harmed=0.1, helped=0.08).total > base
    assert plan_from_sizes(sizes | {"c": 500, "d": 500}, POLICY, effect=0.08, **CHURN).total > base
    assert plan_from_sizes(sizes, POLICY, effect=0.08, power=0.95, **CHURN).total > base
    assert plan_from_sizes(sizes, POLICY, effect=0.04, **CHURN).total > base


def test_detectable_shrinks_with_the_rows_at_hand() -> None:
    few, many = (plan_from_sizes({"a": n, "b": n}, POLICY, **CHURN).needs[0].detectable for n in (300, 3000))
    assert few > many > POLICY.margin


def test_enough_rows_say_so() -> None:
    plan = plan_from_sizes({"a": 50_000, "b": 50_000}, POLICY, effect=0.06, **CHURN)
    assert all(need.enough for need in plan.needs)
    assert plan.sentence.startswith("The 100,000 rows at hand are enough to show 6 points and to rule out 3 points")


def test_too_few_rows_say_how_many_and_for_whom() -> None:
    plan = plan_from_sizes({"a": 900, "b": 100}, POLICY, effect=0.06, **CHURN)
    assert f"{plan.total:,} rows in all (at hand: 1,000)" in plan.sentence
    own = max(plan.needs[0].to_prove, plan.needs[0].to_clear)
    assert plan.sentence.endswith(f"b needs most ({own:,} of its own for accuracy, now 100), and 0 of 2 have enough.")


def test_a_class_without_rows_in_a_group_is_listed_with_no_number() -> None:
    table = sample(np.random.default_rng(3), {"a": 500, "b": 500})
    needs = plan_from_pilot(table, Policy.of(metrics="fpr", margin=0.03)).needs
    assert all(need.to_prove is None and need.rows == 0 for need in needs)
    some = plan_from_pilot(table, Policy.of(metrics=("accuracy", "fpr"), margin=0.03)).sentence
    assert "of its own for accuracy" in some, "the total is for the groups that have rows"


def test_rare_flips_still_need_rows() -> None:
    plan = plan_from_sizes({"a": 10, "b": 1000}, POLICY, harmed=1e-4, helped=1e-4)
    assert min(need.to_clear for need in plan.needs) > 50


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"effect": 0.03}, "a fraction above the margin of 0.03"),
        ({"effect": 5}, "below 1, as 0.05 for five points"),
        ({"power": 1.0}, "a power of 1 is not possible"),
        ({"harmed": 0.7, "helped": 0.4}, "a churn of 0.7 harmed and 0.4 helped"),
        ({"sizes": {"a": 10}}, "1 group sizes given"),
    ],
)
def test_impossible_plans_are_refused(change: dict, line: str) -> None:
    asked = {"sizes": {"a": 100, "b": 100}} | CHURN | change
    with pytest.raises(ConfigError, match=line):
        plan_from_sizes(asked.pop("sizes"), asked.pop("policy", POLICY), **asked)
