"""Laws of the verdict that hold for any table, sought to be broken by hypothesis."""

from dataclasses import fields, replace
from datetime import date
from typing import Any

import numpy as np
import pytest
from count_tables import flips, relabelled, tables
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from fairguard.acceptance import with_acceptance
from fairguard.config import Accepted
from fairguard.errors import ConfigError
from fairguard.judge.composition import split_of
from fairguard.judge.contrasts import family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.evidence import evidence_of
from fairguard.judge.intervals import mover, tango
from fairguard.judge.judge import judge, outcome_of
from fairguard.judge.rates import group_rows, rates_of
from fairguard.metrics import Metric
from fairguard.policy import Policy
from fairguard.verdict import Finding, Outcome, Verdict

QUICK = Policy(permutations=199, min_group=5)
"""Few relabellings, and groups small enough for hypothesis to reach every branch."""

LABELLED = [[], *[[metric] for metric in Metric], ["accuracy", "harmful_flips", "selection_rate"]]

verdicts = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])


def policies() -> st.SearchStrategy[Policy]:
    return st.builds(
        lambda metrics, margin, **rest: Policy.of(
            metrics=metrics, margin=margin, permutations=99, favourable="1", **rest
        ),
        st.sampled_from(LABELLED),
        st.sampled_from([0.001, 0.02, 0.3]),
        min_group=st.sampled_from([1, 5, 20]),
        intersections=st.integers(1, 3),
        strict=st.booleans(),
        untested=st.sampled_from(["warn", "fail"]),
        alpha=st.sampled_from([0.001, 0.05, 0.4]),
    )


def judged(table: CountTable, policy: Policy, **options: Any) -> Verdict:
    """The verdict; a table whose only column happens to be its label is none for a rate of one class, and says so."""
    try:
        return judge(table, policy, **options)
    except ConfigError as error:
        assume("cannot compare the classes of column" not in str(error))
        raise


@verdicts
@given(tables(), policies())
def test_no_table_is_too_odd(table: CountTable, policy: Policy) -> None:
    verdict = judged(table, policy)
    assert len(verdict.findings) >= verdict.family
    assert verdict.headline
    for finding in verdict.findings:
        if finding.outcome is Outcome.INCONCLUSIVE:
            assert finding.reason
        if not finding.tested:
            assert finding.outcome is Outcome.INCONCLUSIVE
            assert np.isnan(finding.interval).all()
    verdict.to_dict()


@verdicts
@given(tables(labels=False))
def test_no_unlabelled_table_is_too_odd(table: CountTable) -> None:
    verdict = judge(table, QUICK)
    assert not verdict.labelled
    assert {finding.metric for finding in verdict.findings} == {Metric.DISAGREEMENT}
    assert np.isnan(verdict.overall.accuracy.dense)


@verdicts
@given(tables(), policies())
def test_classes_as_groups_are_judged_too(table: CountTable, policy: Policy) -> None:
    verdict = judged(table, policy, groups=["class", "a"])
    classes = {finding.metric for finding in verdict.findings if finding.group.startswith("class=")}
    assert classes <= {Metric.ACCURACY, Metric.HARMFUL_FLIPS, Metric.DISAGREEMENT}
    assert not any("class=" in row.group and "&" in row.group for row in verdict.groups)


@verdicts
@given(tables(), policies())
def test_identical_predictions_never_regress(table: CountTable, policy: Policy) -> None:
    same = CountTable.of(
        table.columns,
        table.levels,
        table.classes,
        codes=table.cells[:, :-3],
        y=table.y,
        dense=table.dense,
        pruned=table.dense,
        counts=table.counts,
    )
    assert judged(same, policy).outcome is not Outcome.REGRESSED


@verdicts
@given(tables(), st.permutations(["x", "y", "z"]))
def test_renaming_groups_renames_findings(table: CountTable, names: list[str]) -> None:
    """Names carry no information: outcomes follow the rows. (Relabelling draws differ, and p values with them.)"""
    policy = QUICK.model_copy(update={"permutations": 9_999})
    renamed = relabelled(table, 0, dict(zip("xyz", names, strict=True)))
    before, after = judge(table, policy), judge(renamed, policy)
    close = any(abs(f.p_value - policy.alpha) < 0.02 for f in before.findings)
    if not close and before.family and len(table.columns) == 1:
        assert {(f.group, f.outcome) for f in renamed_findings(before, names)} == {
            (f.group, f.outcome) for f in after.findings
        }
    counts = {(f.metric, f.label, f.n, f.harmed, f.helped, f.n_rest) for f in before.findings}
    assert counts == {(f.metric, f.label, f.n, f.harmed, f.helped, f.n_rest) for f in after.findings}


def renamed_findings(verdict: Verdict, names: list[str]) -> list[Finding]:
    to = {f"a={old}": f"a={new}" for old, new in zip("xyz", names, strict=True)}
    return [finding.model_copy(update={"group": to[finding.group]}) for finding in verdict.findings]


@verdicts
@given(tables(), st.randoms())
def test_the_order_of_rows_changes_nothing(table: CountTable, random) -> None:
    rows = list(range(len(table.counts)))
    random.shuffle(rows)
    again = CountTable.of(
        table.columns,
        table.levels,
        table.classes,
        codes=table.cells[rows, :-3],
        y=table.y[rows],
        dense=table.dense[rows],
        pruned=table.pruned[rows],
        counts=table.counts[rows],
    )
    assert judge(table, QUICK).model_dump_json() == judge(again, QUICK).model_dump_json()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(tables(most=600), policies(), st.data())
@example(flips(A=(9000, 90, 0), B=(9000, 900, 0), C=(25, 0, 0)), Policy.of(metrics="accuracy"), None)
@example(flips(A=(25, 0, 0), B=(25, 20, 0)), Policy.of(metrics="accuracy"), None)
def test_an_accepted_regression_counts_as_if_it_were_none(
    table: CountTable, policy: Policy, data: st.DataObject | None
) -> None:
    verdict = judged(table, policy)
    assume(verdict.outcome is Outcome.REGRESSED)
    groups = sorted({finding.group for finding in verdict.regressed})
    known = groups if data is None else data.draw(st.lists(st.sampled_from(groups), unique=True))
    accept = [Accepted(group=group, why="known", until=date(2030, 1, 1)) for group in known]
    accepted = with_acceptance(verdict, accept, today=date(2026, 1, 1))
    family = family_of(table.canonical(), policy)
    evidence = evidence_of(family, policy)
    names = np.array([family.grouping.groups[group].name for group in family.group])
    others = ~(evidence.regressed & np.isin(names, known))
    arrays = {field.name: getattr(evidence, field.name) for field in fields(evidence)}
    left = {name: value[others] for name, value in arrays.items() if isinstance(value, np.ndarray)}
    assert accepted.outcome is outcome_of(replace(evidence, **left), policy)
    assert with_acceptance(accepted, accept, today=date(2026, 1, 1)) == accepted


BETTER = [Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.PRESERVED]


@verdicts
@given(st.integers(20, 3000), st.integers(20, 3000), st.data())
def test_more_harm_never_moves_a_group_toward_preserved(n: int, n_rest: int, data: st.DataObject) -> None:
    b = data.draw(st.integers(0, n // 2), "harmed")
    c = data.draw(st.integers(0, n // 2 - 1), "helped")
    b_rest, c_rest = data.draw(st.integers(0, n_rest // 2)), data.draw(st.integers(0, n_rest // 2))
    more = data.draw(st.integers(1, n - b - c))
    outcomes = []
    for harmed in (b, b + more):
        verdict = judge(flips(g=(n, harmed, c), rest=(n_rest, b_rest, c_rest)), Policy(metrics="accuracy"))
        (finding,) = [f for f in verdict.findings if f.group == "g=g"]
        outcomes.append(finding)
    before, after = outcomes
    if before.outcome is Outcome.INCONCLUSIVE or before.outcome is Outcome.REGRESSED:
        assert after.outcome is not Outcome.PRESERVED
    assert after.interval[1] >= before.interval[1] - 1e-9
    assert after.estimate > before.estimate


counted = st.integers(1, 400).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)


@verdicts
@given(st.integers(20, 400), st.integers(500, 9000), st.integers(1, 8), st.integers(0, 20), st.floats(0.005, 0.1))
@example(260, 9740, 5, 10, 0.02)
def test_asking_for_more_proof_never_gives_the_all_clear(
    n: int, n_rest: int, harmed: int, harmed_rest: int, margin: float
) -> None:
    """A stricter error rate, or an earlier look, leaves more open; what was open does not end preserved by it."""
    table = flips(g=(n, harmed, 0), rest=(n_rest, harmed_rest, 0))
    asked = Policy(permutations=199, metrics="accuracy", margin=margin, alpha=0.2)
    outcome = judge(table, asked).outcome
    for more in ({"alpha": 0.05}, {"alpha": 0.01}, {"alpha": 1e-6}, {"looks": 5}, {"looks": 5, "look": 3}):
        stricter = judge(table, asked.model_copy(update=more)).outcome
        assert stricter is not Outcome.PRESERVED or outcome is Outcome.PRESERVED


@settings(deadline=None)
@given(counted, counted, st.floats(0.1, 6))
def test_intervals_hold_the_estimate_and_shrink_with_n(
    group: tuple[int, int, int], rest: tuple[int, int, int], z: float
) -> None:
    (b, c, n), (b_rest, c_rest, n_rest) = group, rest
    for scale, wider in ((4, 1), (16, 4)):
        lower, upper = tango(b * scale, c * scale, n * scale, z)
        wide_lower, wide_upper = tango(b * wider, c * wider, n * wider, z)
        assert -1 <= lower <= (b - c) / n <= upper <= 1
        assert upper - lower <= wide_upper - wide_lower + 1e-9
        big = mover(b * scale, c * scale, n * scale, b_rest * scale, c_rest * scale, n_rest * scale, z)
        small = mover(b * wider, c * wider, n * wider, b_rest * wider, c_rest * wider, n_rest * wider, z)
        excess = (b - c) / n - (b_rest - c_rest) / n_rest
        assert big[0] - 1e-9 <= excess <= big[1] + 1e-9
        assert big[1] - big[0] <= small[1] - small[0] + 1e-9


@settings(deadline=None)
@given(tables())
def test_composition_and_treatment_add_up_to_the_excess(table: CountTable) -> None:
    family = family_of(table, QUICK)
    _, rows = group_rows(rates_of(table, family.grouping, None), table.classes)
    split = split_of(table, family.grouping)
    for i, row in enumerate(rows):
        assert split.composition[i] + split.specific[i] == pytest.approx(row.excess_drop, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(tables())
def test_a_group_and_its_rest_are_everybody(table: CountTable) -> None:
    family = family_of(table, QUICK)
    for b, c, n, b_rest, c_rest, n_rest in zip(*family.counts, strict=True):
        assert 0 <= b + c <= n
        assert 0 <= b_rest + c_rest <= n_rest
    accuracy = family.estimand == 0
    assert (family.n + family.n_rest)[accuracy].tolist() == [table.n] * int(accuracy.sum())


@verdicts
@given(tables(), policies())
def test_a_seed_decides_everything_random(table: CountTable, policy: Policy) -> None:
    assert judged(table, policy).model_dump_json() == judged(table, policy).model_dump_json()
