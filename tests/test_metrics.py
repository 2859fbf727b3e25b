"""A metric is one entry of one table; whoever reads the table knows every metric, or says loudly which it does not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fairguard.checking import check_predictions
from fairguard.errors import ConfigError
from fairguard.in_memory import count_arrays
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, Estimand
from fairguard.metrics import METRICS, About, Metric
from fairguard.policy import Policy
from fairguard.repair import cells
from fairguard.repair.cells import Cells, cells_of
from fairguard.report.wording import RULES
from fairguard.verdict import Outcome

ROOT = Path(__file__).parent.parent
EVERY = pytest.mark.parametrize("metric", Metric)

# Every row that two classes allow: label, dense's answer, pruned's answer.
ROWS = np.array([(y, dense, pruned) for y in (0, 1) for dense in (0, 1) for pruned in (0, 1)])


def meaning(metric: Metric) -> np.ndarray:
    """What each of ROWS is to the metric, about class 1 where it is about one."""
    table = count_arrays(*ROWS.T, {"g": np.arange(len(ROWS))})
    found = Estimand(metric, None if METRICS[metric].about is About.ROWS else 1).effects(table)
    of_row = {tuple(cell[-3:]): int(effect) for cell, effect in zip(table.cells, found, strict=True)}
    return np.array([of_row[tuple(row)] for row in ROWS])


def test_the_table_holds_every_metric_under_its_own_rule() -> None:
    assert list(METRICS) == list(Metric)
    rules = [what.rule for what in METRICS.values()]
    assert len(set(rules)) == len(rules)
    assert all(rule.startswith("FG1") for rule in rules)


@EVERY
def test_reports_and_pages_know_every_metric(metric: Metric) -> None:
    what = METRICS[metric]
    assert RULES[what.rule] == what.sentence
    assert f"| `{metric}` | {what.rule} |" in (ROOT / "docs" / "verdict.md").read_text()


@EVERY
def test_a_metric_is_what_its_rates_say(metric: Metric) -> None:
    """The rate of the event rises or falls by exactly the rows helped and harmed."""
    what, effects = METRICS[metric], meaning(metric)
    y, dense, pruned = ROWS.T
    counted = effects != OUTSIDE
    assert (what.inside(y, 1) == counted).all()
    before, after = (what.event(answers, y, dense, 1)[counted].sum() for answers in (dense, pruned))
    lost = (effects == HARMED).sum() - (effects == HELPED).sum()
    assert lost == (before - after if what.good else after - before)
    assert (effects == HARMED).any(), "no change of an answer would be harm: the metric could never regress"


@EVERY
def test_what_harms_one_group_alone_is_regressed(metric: Metric) -> None:
    """The world's rows are all alike in both groups, but for one kind of change that harms the one and helps none."""
    effects, same = meaning(metric), ROWS[:, 1] == ROWS[:, 2]
    rest = np.repeat(ROWS[same & (effects != OUTSIDE)], 400, axis=0)
    harm = np.repeat(ROWS[effects == HARMED][:1], len(rest) // 4, axis=0)
    still = harm.copy()
    still[:, 2] = still[:, 1]
    rows = np.concatenate([rest, harm, rest, still])
    group = np.repeat(["a", "b"], len(rows) // 2)
    verdict = check_predictions(*rows.T, {"g": group}, metrics=[metric], permutations=999)
    outcomes = {finding.group: finding.outcome for finding in verdict.findings}
    assert outcomes == {"g=a": Outcome.REGRESSED, "g=b": Outcome.PRESERVED}
    assert {finding.rule for finding in verdict.findings} == {METRICS[metric].rule}


@EVERY
@pytest.mark.parametrize("dropped", [True, False])
def test_labels_are_needed_where_the_table_says_so(metric: Metric, dropped: bool) -> None:
    rows = np.repeat(ROWS, 50, axis=0)
    groups = {"g": np.tile(["a", "b"], len(rows) // 2)}
    if not (dropped and METRICS[metric].labelled):
        assert check_predictions(None if dropped else rows[:, 0], *rows.T[1:], groups, metrics=[metric]).findings
        return
    with pytest.raises(ConfigError, match=f"metric {metric} needs labels"):
        check_predictions(None, *rows.T[1:], groups, metrics=[metric])


@pytest.mark.parametrize(
    ("metrics", "n_classes"),
    [
        *(((metric,), 2) for metric in Metric),
        *(((metric,), 3) for metric in Metric if metric is not Metric.DISAGREEMENT),  # see Cells.changes
        ((Metric.FPR, Metric.HARMFUL_FLIPS, Metric.SELECTION_RATE, Metric.RECALL, Metric.ACCURACY), 4),
    ],
)
def test_training_constrains_what_the_judge_measures(metrics: tuple[Metric, ...], n_classes: int) -> None:
    rng = np.random.default_rng(0)
    y, dense, pruned = rng.integers(0, n_classes, size=(3, 600))
    g = rng.integers(0, 2, size=600)
    codes, labels = torch.from_numpy(g[:, None]), torch.from_numpy(y)
    found = cells_of(("g",), (("a", "b"),), codes, labels, n_classes=n_classes, policy=Policy(metrics=metrics))
    over = Cells.over(found, codes, labels)
    before, after = (over.hits(torch.from_numpy(answers), labels) for answers in (dense, pruned))
    named = [(cell.group, cell.metric, cell.label) for cell in found]
    excess = dict(zip(named, over.measure(after, before).excess.tolist(), strict=True))
    groups = {"g": np.array(["a", "b"])[g]}
    verdict = check_predictions(y, dense, pruned, groups, metrics=list(metrics), favourable="1", permutations=99)
    about = {f: int(f.label) if METRICS[f.metric].about is About.EACH_CLASS else None for f in verdict.findings}
    judged = {(f.group, f.metric, label): f.estimate for f, label in about.items()}
    assert excess == pytest.approx(judged, abs=1e-5)


@EVERY
def test_training_refuses_a_metric_that_it_does_not_know(metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(cells.KINDS, metric)
    y = torch.arange(100) % 2
    with pytest.raises(ConfigError, match=f"training cannot constrain {metric}: it knows"):
        cells_of(("g",), (("a", "b"),), y[:, None], y, n_classes=2, policy=Policy(metrics=(metric,)))


@pytest.mark.parametrize("metric", [m for m, what in METRICS.items() if what.between_classes])
def test_a_class_as_a_group_is_judged_by_the_metric_that_the_table_names(metric: Metric) -> None:
    y = np.arange(900) % 3
    verdict = check_predictions(y, y, y, {"class": y}, metrics=[metric], permutations=99)
    assert {finding.metric for finding in verdict.findings} == {METRICS[metric].between_classes}
