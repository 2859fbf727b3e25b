"""The three outcomes on clear tables, what is said about small groups, and what the policy changes."""

import re
import time

import numpy as np
import pytest
from count_tables import draw, flips

from fairguard.checking import check_predictions
from fairguard.errors import ConfigError, DataError
from fairguard.in_memory import count_arrays
from fairguard.judge.clusters import judge_clustered
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.judge.scatter import CLUSTER
from fairguard.metrics import Metric
from fairguard.policy import Policy
from fairguard.report.html import render as page
from fairguard.report.text import render
from fairguard.report.wording import ruled_out_line
from fairguard.verdict import Finding, Outcome, Verdict

ACCURACY = Policy(metrics="accuracy")


def finding(verdict: Verdict, group: str, metric: Metric = Metric.ACCURACY) -> Finding:
    (found,) = [f for f in verdict.findings if (f.group, f.metric) == (group, metric)]
    return found


def test_a_harmed_group_is_a_regression() -> None:
    verdict = judge(flips(a=(2000, 240, 40), b=(2000, 100, 60), c=(2000, 100, 60)), ACCURACY)
    assert verdict.outcome is Outcome.REGRESSED
    worst = verdict.findings[0]
    assert (worst.rule, worst.group, worst.outcome) == ("FG101", "g=a", Outcome.REGRESSED)
    assert worst.estimate == pytest.approx(0.10 - 0.02)
    assert (worst.loss, worst.loss_rest) == (pytest.approx(0.10), pytest.approx(0.02))
    assert worst.interval[0] > 0
    assert worst.p_value < 0.01
    assert (worst.rate.dense, worst.rate.pruned) == (1960 / 2000, 1760 / 2000)
    assert worst.rows_needed is None
    assert worst.reason is None
    assert verdict.headline == "1 regressed, 2 preserved of 3 findings"
    assert verdict.family == 3


def test_equal_harm_to_all_is_preserved() -> None:
    """Ten points are lost, by everybody alike: no group is treated worse, and the reader hears of the loss."""
    verdict = judge(flips(a=(5000, 600, 100), b=(5000, 600, 100), c=(9000, 1080, 180)), ACCURACY)
    assert verdict.outcome is Outcome.PRESERVED
    assert verdict.headline == "all 3 findings preserved (but accuracy fell from 98.0 % to 88.0 % for everybody)"
    assert verdict.overall.drop == pytest.approx(0.1)
    assert verdict.warnings[0].startswith(
        "overall accuracy fell from 98.0 % to 88.0 %: no group lost more than the others beyond the margin, but "
        "everybody lost."
    )


@pytest.mark.parametrize(
    ("rows", "harmed"),
    [(5000, 240), (40, 3)],  # 4.8 points; 7.5 points that may be chance
)
def test_a_small_or_uncertain_fall_is_not_told(rows: int, harmed: int) -> None:
    verdict = judge(flips(a=(rows, harmed, 0), b=(rows, harmed, 0)), Policy.of(metrics="accuracy", alpha=0.005))
    assert "accuracy fell" not in " ".join((verdict.headline, *verdict.warnings))


def answers(right: float, *, n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Ten classes, a dense model that is right on 90 %, a pruned one on a share ``right`` of any group's rows."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 10, n)
    models = [np.where(rng.random(n) < share, y, (y + rng.integers(1, 10, n)) % 10) for share in (0.9, right)]
    return y, *models, rng.integers(0, 3, n)


def test_a_collapse_of_everybody_is_called_broken() -> None:
    y, dense, pruned, group = answers(0.1)
    verdict = judge(count_arrays(y, dense, pruned, {"g": group}), Policy.of(metrics="accuracy", margin=0.05))
    assert verdict.outcome is Outcome.PRESERVED
    assert "but the pruned model is broken: no better than always answering '" in verdict.warnings[0]
    assert verdict.headline.endswith(" for everybody)")
    lesser = judge(count_arrays(*answers(0.4)[:3], {"g": group}), Policy.of(metrics="accuracy", margin=0.05))
    assert "but everybody lost" in lesser.warnings[0]


def test_a_broken_model_is_told_of_beside_a_regression_too() -> None:
    y, dense, pruned, group = answers(0.1)
    pruned = np.where(group == 0, 0, pruned)
    dense = np.where(group == 0, y, dense)  # the first group had more to lose
    verdict = judge(count_arrays(y, dense, pruned, {"g": group}), ACCURACY)
    assert verdict.outcome is Outcome.REGRESSED
    assert "the pruned model is broken" in verdict.warnings[0]
    assert verdict.warnings[0].endswith("train it again, unless it wants other inputs than dense (preprocessing).")
    assert "no group lost more" not in verdict.warnings[0]


@pytest.mark.parametrize(
    ("harmed", "margin", "outcome", "told"),
    [
        ((3000, 600), 0.02, Outcome.REGRESSED, "some groups lost more than the others, and much was lost over all."),
        ((615, 600), 0.002, Outcome.INCONCLUSIVE, "whether some group lost more than the others is open, but much "),
    ],
)
def test_a_fall_is_told_whatever_the_outcome(
    harmed: tuple[int, int], margin: float, outcome: Outcome, told: str
) -> None:
    """The one who reads that all is open, or that one group suffers, hears as well that the model lost much."""
    table = flips(a=(5000, harmed[0], 0), b=(5000, harmed[1], 0))
    verdict = judge(table, Policy.of(metrics="accuracy", margin=margin))
    assert verdict.outcome is outcome
    fall = rf"overall accuracy fell from \d+\.\d % to \d+\.\d %: {told}"
    (sentence,) = [warning for warning in verdict.warnings if re.match(fall, warning)]
    assert sentence.endswith(" Compress it less, or train it again.")
    assert "everybody" not in verdict.headline


def test_clustered_rows_tell_of_a_collapse_too() -> None:
    y, dense, pruned, group = answers(0.1, n=8_000)
    people = np.arange(len(y)) // 4
    table = CountTable.of(
        ["g", CLUSTER],
        [["a", "b", "c"], [str(i) for i in range(people.max() + 1)]],
        [str(k) for k in range(10)],
        codes=np.column_stack([group, people]),
        y=y,
        dense=dense,
        pruned=pruned,
    )
    verdict = judge_clustered(table, Policy.of(metrics="accuracy", margin=0.1, permutations=99), groups=["g"])
    assert verdict.outcome is Outcome.PRESERVED
    assert "the pruned model is broken" in verdict.warnings[0]


def test_too_few_rows_are_inconclusive_and_say_how_many_would_do() -> None:
    verdict = judge(flips(a=(300, 18, 9), b=(300, 15, 9)), ACCURACY)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    undecided = finding(verdict, "g=a")
    assert undecided.outcome is Outcome.INCONCLUSIVE
    assert undecided.rows_needed is not None
    assert undecided.rows_needed > 300
    could = f"could be up to {100 * undecided.interval[1]:.1f} points; needs about "
    assert undecided.reason.startswith(could)
    told = int(undecided.reason.removeprefix(could).split()[0].replace(",", ""))
    assert undecided.rows_needed <= told < 1.1 * undecided.rows_needed


def test_the_rows_asked_for_would_do() -> None:
    """As many rows as asked for, at the same rates, decide what was open."""
    small = {"a": (150, 12, 4), "b": (150, 5, 5)}
    open_ = judge(flips(**small), Policy(metrics="accuracy", margin=0.05))
    asked = finding(open_, "g=a").rows_needed
    assert open_.outcome is Outcome.INCONCLUSIVE
    assert asked is not None
    scale = -(-asked // 150)
    large = {name: tuple(scale * count for count in counts) for name, counts in small.items()}
    assert judge(flips(**large), Policy(metrics="accuracy", margin=0.05)).outcome is Outcome.REGRESSED


def test_an_estimate_at_the_margin_by_accident_asks_for_no_absurd_number() -> None:
    at_margin = judge(flips(a=(5000, 199, 100), b=(5000, 150, 150)), ACCURACY)
    assert finding(at_margin, "g=a").estimate == pytest.approx(0.0198)
    assert 5_000 < finding(at_margin, "g=a").rows_needed < 300_000


def test_proven_but_tolerated_harm_is_no_regression() -> None:
    table = flips(a=(50_000, 2000, 500), b=(50_000, 1500, 500))  # one point more, proven
    verdict = judge(table, ACCURACY)
    assert finding(verdict, "g=a").interval[0] > 0
    assert verdict.outcome is Outcome.PRESERVED
    assert judge(table, Policy(metrics="accuracy", margin=0.005)).outcome is Outcome.REGRESSED


def test_strict_needs_proof_beyond_the_margin() -> None:
    table = flips(a=(2000, 160, 60), b=(2000, 100, 60))
    assert judge(table, ACCURACY).outcome is Outcome.REGRESSED
    strict = judge(table, Policy(metrics="accuracy", strict=True))
    assert strict.outcome is Outcome.INCONCLUSIVE
    assert finding(strict, "g=a").reason.startswith("not proven to be over the margin; needs about ")
    far = flips(a=(2000, 300, 60), b=(2000, 100, 60))
    assert judge(far, Policy(metrics="accuracy", strict=True)).outcome is Outcome.REGRESSED


def test_each_metric_has_its_own_margin() -> None:
    table = draw(20_000, 2, harm=0.06)
    lenient = Policy.of(metrics=["accuracy", "fpr"], margin=0.01, margins={"accuracy": 0.2})
    outcomes = {f.metric: f.outcome for f in judge(table, lenient).findings if f.group == "c0=v0"}
    assert outcomes == {Metric.ACCURACY: Outcome.PRESERVED, Metric.FPR: Outcome.REGRESSED}


def test_a_small_group_is_listed_as_untested() -> None:
    table = flips(a=(9000, 450, 270), b=(9000, 450, 270), tiny=(12, 9, 0))
    verdict = judge(table, ACCURACY)
    tiny = finding(verdict, "g=tiny")
    assert (tiny.tested, tiny.outcome) == (False, Outcome.INCONCLUSIVE)
    assert tiny.reason.startswith("12 rows, fewer than 20; needs about ")
    assert tiny.estimate == pytest.approx(9 / 12 - 180 / 9000)
    assert tiny.rows_needed is not None
    assert verdict.outcome is Outcome.PRESERVED
    assert verdict.headline == "all 2 findings preserved (1 group untested: g=tiny)"
    assert verdict.family == 2
    assert [f.group for f in verdict.untested] == ["g=tiny"]
    failing = judge(table, Policy(metrics="accuracy", untested="fail"))
    assert failing.outcome is Outcome.INCONCLUSIVE


def test_a_group_too_small_to_certify_is_listed_and_does_not_pass_silently() -> None:
    table = flips(a=(9000, 450, 270), b=(9000, 450, 270), small=(60, 1, 1))
    verdict = judge(table, ACCURACY)
    small = finding(verdict, "g=small")
    assert small.tested
    assert small.outcome is Outcome.INCONCLUSIVE
    assert small.reason is not None
    assert small.reason.startswith("too few rows to rule out 2 points; needs about ")
    assert verdict.outcome is Outcome.PRESERVED
    assert verdict.headline == "2 of 3 findings preserved (1 group too small to certify: g=small)"
    assert judge(table, Policy(metrics="accuracy", untested="fail")).outcome is Outcome.INCONCLUSIVE


def test_a_small_group_that_looks_harmed_forbids_preserved() -> None:
    verdict = judge(flips(a=(9000, 450, 270), b=(9000, 450, 270), small=(60, 5, 1)), ACCURACY)
    small = finding(verdict, "g=small")
    assert small.reason.startswith("could be chance; needs about ")
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_no_positives_in_a_group() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b"], 2000)
    y = np.where(group == "a", rng.integers(0, 2, 4000), 0)
    verdict = judge(count_arrays(y, y, y, {"g": group}), Policy())
    recall = finding(verdict, "g=b", Metric.RECALL)
    assert (recall.n, recall.tested) == (0, False)
    assert recall.reason.startswith("no rows; needs about ")
    assert np.isnan(recall.estimate)
    other = finding(verdict, "g=a", Metric.RECALL)
    assert other.reason == "no rows outside the group"
    assert (recall.few_outside, other.few_outside) == (False, True)
    undefined = [f for f in verdict.to_dict()["findings"] if f["metric"] == "recall"]
    assert [f["estimate"] for f in undefined] == [None, None]


def test_nothing_large_enough() -> None:
    verdict = judge(flips(a=(3, 1, 0), b=(4, 0, 0)), ACCURACY)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.headline == "nothing could be tested (2 groups untested: g=a, g=b)"
    assert verdict.family == 0


def test_rows_so_few_that_even_total_harm_is_chance() -> None:
    verdict = judge(flips(a=(2, 2, 0), b=(2, 0, 0)), Policy(metrics="accuracy", min_group=1))
    few = "too few rows to show anything among so many findings"
    assert {f.reason.partition(";")[0] for f in verdict.findings} == {few}


def test_no_rows_are_an_error() -> None:
    empty = CountTable.of(["g"], [["a"]], ["0", "1"], codes=[], y=[], dense=[], pruned=[])
    with pytest.raises(DataError, match="no rows"):
        judge(empty, ACCURACY)


def test_classes_as_groups_find_the_class_that_pays() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 5, 20_000)
    pruned = np.where((rng.random(20_000) < 0.03) | ((y == 3) & (rng.random(20_000) < 0.08)), (y + 1) % 5, y)
    table = count_arrays(y, y, pruned, {"g": rng.integers(0, 2, 20_000)})
    verdict = judge(table, Policy(), groups=["class"])
    assert [(f.group, f.metric) for f in verdict.regressed] == [("class=3", Metric.ACCURACY)]
    assert verdict.columns == ("class",)
    assert {s.column for s in verdict.summaries} == {"class"}
    by_recall = judge(table, Policy(metrics="recall"), groups=["g"])
    assert {f.label for f in by_recall.findings} == set("01234")
    (row,) = [row for row in judge(table, Policy(), groups=["g"]).groups if row.group == "g=0"]
    assert row.worst_class == "3"
    assert row.worst_class_drop == pytest.approx(0.11, abs=0.03)


def test_a_thousand_classes_are_judged_on_recall_and_false_positives_in_seconds() -> None:
    """Two thousand metrics of as many denominators; a change of one class's recall in one group is still found."""
    rng = np.random.default_rng(0)
    n, k = 100_000, 1_000
    y, sex = rng.integers(0, k, n), rng.integers(0, 2, n)
    y[:4_000] = 7
    dense = np.where(rng.random(n) < 0.8, y, rng.integers(0, k, n))
    pruned = np.where(rng.random(n) < 0.97, dense, rng.integers(0, k, n))
    pruned[(y == 7) & (sex == 1) & (rng.random(n) < 0.4)] = 8
    classes = [str(code) for code in range(k)]
    table = CountTable.of(["sex"], [["F", "M"]], classes, codes=sex[:, None], y=y, dense=dense, pruned=pruned)
    started = time.process_time()
    verdict = judge(table, Policy(metrics=("recall", "fpr")))
    assert time.process_time() - started < 60, "some six seconds; it was minutes"
    assert len(verdict.findings) == 4 * k
    assert [(f.group, f.metric, f.label) for f in verdict.regressed] == [("sex=M", "recall", "7")]
    for found in (verdict.findings[0], *verdict.findings[::997]):
        group, label = sex == ["sex=F", "sex=M"].index(found.group), int(found.label or -1)
        inside = group & ((y == label) if found.metric == "recall" else (y != label))
        rates = [(answers[inside] == label).mean() for answers in (dense, pruned)]
        assert found.n == inside.sum()
        assert (found.rate.dense, found.rate.pruned) == pytest.approx(rates)


def test_a_feature_called_class_is_a_feature() -> None:
    """First, second, third class of a ship: judged on every metric, and in intersections."""
    rng = np.random.default_rng(0)
    y, cabin, sex = rng.integers(0, 2, 3000), rng.choice(["1st", "2nd", "3rd"], 3000), rng.choice(["F", "M"], 3000)
    pruned = np.where((cabin == "3rd") & (y == 1) & (rng.random(3000) < 0.3), 0, y)
    verdict = judge(count_arrays(y, y, pruned, {"class": cabin, "sex": sex}), Policy())
    assert finding(verdict, "class=3rd", Metric.RECALL).outcome is Outcome.REGRESSED
    assert finding(verdict, "class=3rd & sex=F", Metric.FPR).tested
    assert {s.column for s in verdict.summaries if s.name == "equalized_odds_difference"} == {"class", "sex"}


def test_a_metric_named_twice_is_one_metric() -> None:
    assert Policy.of(metrics=["fpr", "accuracy", "fpr"]).metrics == (Metric.FPR, Metric.ACCURACY)
    with pytest.raises(ConfigError, match="metrics"):
        Policy.of(metrics=[["accuracy"]])


def test_the_favourable_class_may_be_a_number() -> None:
    table = draw(2000, 2)
    by_number, by_name = (judge(table, Policy.of(favourable=value)) for value in (np.int64(0), "0"))
    assert [f.model_dump_json() for f in by_number.findings] == [f.model_dump_json() for f in by_name.findings]
    with pytest.raises(ConfigError, match="favourable"):
        Policy.of(favourable=0.5)


def test_a_change_of_decisions_that_accuracy_cannot_see() -> None:
    """One group is called positive far more often, right and wrong in equal measure: accuracy stands still."""
    rng = np.random.default_rng(0)
    group, y = np.repeat(["a", "b"], 4000), rng.integers(0, 2, 8000)
    dense = np.where(rng.random(8000) < 0.7, y, 1 - y)
    raised = (group == "a") & (dense == 0) & (rng.random(8000) < np.where(y == 1, 0.47, 0.2))
    pruned = np.where(raised, 1, dense)
    verdict = judge(count_arrays(y, dense, pruned, {"g": group}), Policy())
    assert finding(verdict, "g=a").outcome is not Outcome.REGRESSED
    assert finding(verdict, "g=a", Metric.FPR).outcome is Outcome.REGRESSED


def test_without_labels_only_the_difference_is_judged() -> None:
    table = draw(20_000, 3, labels=False)
    verdict = judge(table, Policy())
    assert not verdict.labelled
    assert verdict.outcome is Outcome.PRESERVED
    assert {f.rule for f in verdict.findings} == {"FG106"}
    assert verdict.overall.other_flips == verdict.overall.n - int(table.counts[table.dense == table.pruned].sum())
    assert {s.name for s in verdict.summaries} <= {"demographic_parity_difference", "demographic_parity_ratio"}


def test_composition_explains_a_group_that_has_more_of_what_is_hurt() -> None:
    """Pruning hurts positives only, alike in both groups; one group has more positives."""
    n = 10_000
    group = np.repeat(["few", "many"], n)
    y = np.concatenate([np.arange(n) % 10 < 2, np.arange(n) % 10 < 6]).astype(int)
    pruned = np.where((y == 1) & (np.arange(2 * n) // 10 % 5 == 0), 0, y)
    found = finding(judge(count_arrays(y, y, pruned, {"g": group}), Policy()), "g=many")
    assert found.composition == pytest.approx(found.estimate) == pytest.approx(0.08)
    assert found.specific == pytest.approx(0.0)
    assert found.outcome is Outcome.REGRESSED


def test_early_looks_need_more_proof() -> None:
    table = flips(a=(2000, 160, 60), b=(2000, 100, 60))
    assert judge(table, ACCURACY).outcome is Outcome.REGRESSED
    early = judge(table, Policy(metrics="accuracy", looks=10, look=1))
    assert early.outcome is Outcome.INCONCLUSIVE
    assert finding(early, "g=a").interval[0] < finding(judge(table, ACCURACY), "g=a").interval[0]
    overwhelming = flips(a=(2000, 900, 60), b=(2000, 100, 60))
    assert judge(overwhelming, Policy(metrics="accuracy", looks=10, look=1)).outcome is Outcome.REGRESSED
    last = judge(table, Policy(metrics="accuracy", looks=10, look=10))
    assert last.outcome is Outcome.REGRESSED
    with pytest.raises(ConfigError, match=r"'look': 3 is not valid: looks planned: 2"):
        judge(table, Policy.of(metrics="accuracy", looks=2, look=3))


def test_bounds_hold_for_the_summaries_that_the_losses_imply() -> None:
    """A population with a known change of each summary; the bound is below it in at most a few of 40 samples."""
    rng = np.random.default_rng(0)
    too_low = dict.fromkeys(["mcd", "worst_group_accuracy", "demographic_parity_difference"], 0)
    for _ in range(40):
        group, y = rng.integers(0, 3, 1500), rng.integers(0, 2, 1500)
        pruned = np.where((group == 0) & (y == 1) & (rng.random(1500) < 0.3), 0, y)
        verdict = judge(count_arrays(y, y, pruned, {"g": group}), Policy(metrics="accuracy", permutations=99))
        for summary in verdict.summaries:
            if summary.name in too_low:  # half of the group's rows are positive, so each changes by 0.15
                too_low[summary.name] += summary.bound < 0.15
    assert max(too_low.values()) <= 6  # 5 % of 40, and three standard errors


def test_an_intersection_is_found_though_its_parents_hide_it() -> None:
    rng = np.random.default_rng(0)
    race, sex, y = rng.choice(["A", "B"], 40_000), rng.choice(["F", "M"], 40_000), rng.integers(0, 2, 40_000)
    rate = np.where((race == "A") == (sex == "F"), 0.06, 0.02)
    pruned = np.where(rng.random(40_000) < rate, 1 - y, y)
    table = count_arrays(y, y, pruned, {"race": race, "sex": sex})
    assert {f.group for f in judge(table, ACCURACY).regressed} == {"race=A & sex=F", "race=B & sex=M"}
    assert judge(table, Policy(metrics="accuracy", intersections=1)).outcome is Outcome.PRESERVED


def test_small_intersections_are_mentioned() -> None:
    verdict = judge(draw(300, 5, 5), Policy(metrics="accuracy"))
    assert verdict.warnings[-1].endswith("are judged only as part of the wider groups.")


def test_findings_stand_worst_first() -> None:
    verdict = judge(flips(a=(20_000, 900, 600), b=(2000, 300, 60), c=(2000, 700, 60), tiny=(5, 5, 0)), ACCURACY)
    assert [f.group for f in verdict.findings] == ["g=c", "g=b", "g=tiny", "g=a"]


def test_what_is_ruled_out_holds_for_the_worst_group_at_the_error_rate() -> None:
    """The highest upper bound lies below the largest true excess at most as often as alpha says (simulation)."""
    rng = np.random.default_rng(0)
    harm, sizes, missed, trials = (0.10, 0.02, 0.02, 0.06), (60, 300, 900, 200), 0, 300
    group = np.repeat(np.arange(4), sizes)
    rows = np.array(sizes, dtype=float)
    excess = [h - np.dot(np.delete(harm, g), np.delete(rows, g)) / np.delete(rows, g).sum() for g, h in enumerate(harm)]
    for _ in range(trials):
        y = np.ones(len(group), dtype=int)
        pruned = np.where(rng.random(len(group)) < np.array(harm)[group], 0, y)
        verdict = check_predictions(y, y, pruned, {"g": group}, metrics=("accuracy",), permutations=99)
        missed += max(f.interval[1] for f in verdict.findings) < max(excess)
    assert missed / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_an_undecided_verdict_tells_what_it_rules_out() -> None:
    rng = np.random.default_rng(2)
    group = np.repeat(["large", "middle", "few"], [3000, 900, 90])
    y = rng.integers(0, 2, len(group))
    pruned = np.where(rng.random(len(group)) < 0.05, 1 - y, y)
    verdict = check_predictions(y, y, pruned, {"g": group}, metrics=("accuracy",), margin=0.005)
    assert verdict.outcome is Outcome.INCONCLUSIVE
    highest = {f.group: 100 * f.interval[1] for f in verdict.findings}
    line = ruled_out_line(verdict)
    assert line.startswith("ruled out, at 95 % confidence: that any group tested lost over ")
    assert f"over {highest['g=few']:.1f} points more than the others (g=few: accuracy, 90 rows)" in line
    assert f"; over {max(highest['g=large'], highest['g=middle']):.1f} where there are 500 rows or more" in line
    assert line in render(verdict)
    decided = check_predictions(y, y, y, {"g": np.where(group == "few", "large", group)}, metrics=("accuracy",))
    assert decided.outcome is Outcome.PRESERVED
    assert ruled_out_line(decided) == ""


def test_a_pass_that_leaves_small_groups_open_says_so_in_text_and_page() -> None:
    """Groups too small to certify do not forbid ``preserved``; then nobody may read that no group lost more."""
    rng = np.random.default_rng(5)
    group = np.repeat(["a", "b", "few"], [4000, 4000, 40])
    y = rng.integers(0, 2, len(group))
    pruned = np.where(rng.random(len(group)) < 0.01, 1 - y, y)
    verdict = check_predictions(y, y, pruned, {"g": group}, metrics=("accuracy",))
    assert verdict.outcome is Outcome.PRESERVED
    assert finding(verdict, "g=few").outcome is Outcome.INCONCLUSIVE
    assert "g=few" in verdict.headline
    assert "(g=few: accuracy, 40 rows)" in ruled_out_line(verdict)
    assert "1 group has too few rows to tell" in page(verdict)
    large = check_predictions(y[:8000], y[:8000], pruned[:8000], {"g": group[:8000]}, metrics=("accuracy",))
    assert "and the rows are enough to say so" in page(large)


@pytest.mark.parametrize("metrics", [(), ("disagreement",)])
def test_rows_without_labels_say_that_only_disagreement_was_judged(metrics: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    dense, group = rng.integers(0, 2, 4000), np.arange(4000) % 2
    verdict = check_predictions(None, dense, dense, {"g": group}, metrics=metrics)
    assert verdict.headline == "all 2 findings preserved (only disagreement was judged, for no label is named)"
    selected = check_predictions(None, dense, dense, {"g": group}, metrics="selection_rate")
    assert selected.headline == "all 2 findings preserved"
