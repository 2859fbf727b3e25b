"""Our rates and summaries against fairlearn's, to the last bit."""

import numpy as np
import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equalized_odds_difference,
    false_positive_rate,
    selection_rate,
    true_positive_rate,
)
from scipy.stats import hypergeom
from sklearn.metrics import accuracy_score

from fairguard.in_memory import count_arrays
from fairguard.judge.judge import judge
from fairguard.judge.permutation import deal
from fairguard.policy import Policy
from fairguard.verdict import Pair, Verdict


class Data:
    """Binary labels and answers in ``k`` groups of very different size; the last group has a single row."""

    def __init__(self, seed: int, n: int, k: int, *, positives: float = 0.4) -> None:
        rng = np.random.default_rng(seed)
        self.group = np.minimum(rng.geometric(0.5, n) - 1, max(k - 2, 1))
        self.group[-1] = k - 1
        self.y = (rng.random(n) < positives).astype(int)
        self.dense = np.where(rng.random(n) < 0.8, self.y, 1 - self.y)
        self.pruned = np.where(rng.random(n) < 0.1, 1 - self.dense, self.dense)

    def verdict(self) -> Verdict:
        groups = {"g": [f"g{code}" for code in self.group]}
        return judge(count_arrays(self.y, self.dense, self.pruned, groups), Policy(permutations=99))

    def frames(self) -> dict[str, MetricFrame]:
        metrics = {
            "accuracy": accuracy_score,
            "selection_rate": selection_rate,
            "recall": true_positive_rate,
            "fpr": false_positive_rate,
        }
        return {
            name: MetricFrame(metrics=metrics, y_true=self.y, y_pred=answers, sensitive_features=self.group)
            for name, answers in (("dense", self.dense), ("pruned", self.pruned))
        }


def summary(verdict: Verdict, name: str) -> Pair:
    (found,) = [s for s in verdict.summaries if s.name == name]
    return found.value


@pytest.mark.parametrize(("seed", "n", "k"), [(0, 400, 2), (1, 1000, 5), (2, 137, 4), (3, 20, 3)])
def test_rates_by_group_are_fairlearns(seed: int, n: int, k: int) -> None:
    data = Data(seed, n, k)
    frames, verdict = data.frames(), data.verdict()
    for row in verdict.groups:
        code = int(row.group.removeprefix("g=g"))
        positives = int(data.y[data.group == code].sum())
        for model, frame in frames.items():
            for name in ("accuracy", "selection_rate", "recall", "fpr"):
                ours, theirs = getattr(getattr(row, name), model), frame.by_group.loc[code, name]
                rows = {"recall": positives, "fpr": row.n - positives}.get(name, row.n)
                if rows:
                    assert ours == theirs, (row.group, model, name)
                else:  # undefined: fairlearn says 0
                    assert np.isnan(ours)
                    assert theirs == 0
    for model, frame in frames.items():
        assert getattr(verdict.overall.accuracy, model) == frame.overall["accuracy"]
        assert getattr(verdict.overall.selection_rate, model) == frame.overall["selection_rate"]


@pytest.mark.parametrize(("seed", "n", "k"), [(0, 400, 2), (1, 1000, 5), (2, 137, 4)])
def test_summaries_are_fairlearns(seed: int, n: int, k: int) -> None:
    data = Data(seed, n, k)
    data.group[-1] = 0  # the group of one row has no recall or no false positive rate: see below
    verdict = data.verdict()
    for model, answers in (("dense", data.dense), ("pruned", data.pruned)):
        for theirs in (demographic_parity_difference, demographic_parity_ratio, equalized_odds_difference):
            expected = theirs(data.y, answers, sensitive_features=data.group)
            assert getattr(summary(verdict, theirs.__name__), model) == expected
        worst = MetricFrame(
            metrics=accuracy_score, y_true=data.y, y_pred=answers, sensitive_features=data.group
        ).group_min()
        assert getattr(summary(verdict, "worst_group_accuracy"), model) == worst


def test_a_group_without_positives_is_no_maximal_unfairness() -> None:
    """Where fairlearn takes its recall to be 0 and finds a difference of 1, the perfect model has none here."""
    y = np.array([1, 1, 0, 0, 0, 0])
    group = np.array(list("aaaabb"))
    verdict = judge(count_arrays(y, y, y, {"g": group}), Policy(permutations=99))
    assert summary(verdict, "equalized_odds_difference") == Pair(dense=0.0, pruned=0.0)
    assert equalized_odds_difference(y, y, sensitive_features=group) == 1.0


def test_nobody_selected_has_no_ratio() -> None:
    y, group = np.array([0, 1] * 20), np.array(list("ab") * 20)
    verdict = judge(count_arrays(y, y, np.zeros(40, dtype=int), {"g": group}), Policy(permutations=99))
    assert np.isnan(summary(verdict, "demographic_parity_ratio").pruned)
    assert np.isnan(demographic_parity_ratio(y, np.zeros(40), sensitive_features=group))


def test_class_wise_variance_is_ballots_and_its_noise_can_be_taken_off() -> None:
    """Centred on the overall accuracy. All groups are equal here, so that all of the plain value is noise."""
    rng = np.random.default_rng(0)
    group = np.repeat(["a", "b", "c"], [20, 50, 130])
    debiased = []
    for _ in range(60):
        right = (rng.random(200) < 0.8).astype(int)
        verdict = judge(
            count_arrays(np.ones(200, dtype=int), right, right, {"g": group}),
            Policy(metrics="accuracy", permutations=99),
        )
        by_group = np.array([right[group == name].mean() for name in "abc"])
        assert summary(verdict, "cwv").dense == pytest.approx(((by_group - right.mean()) ** 2).mean())
        debiased.append(summary(verdict, "cwv_debiased").dense)
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(len(debiased))


def test_dealt_rows_are_multivariate_hypergeometric() -> None:
    sizes, totals = np.array([5, 1, 30, 65]), np.array([20, 7])
    dealt = deal(np.random.default_rng(0), sizes, totals, 20_000)
    assert (dealt.sum(axis=1) == totals[:, None]).all()
    assert (dealt.sum(axis=0) <= sizes[:, None]).all()
    for kind, total in enumerate(totals):
        for atom, size in enumerate(sizes):
            expected = hypergeom(sizes.sum(), size, total)
            drawn = dealt[kind, atom]
            assert drawn.mean() == pytest.approx(expected.mean(), abs=5 * np.sqrt(expected.var() / len(drawn)) + 1e-9)
            assert drawn.var() == pytest.approx(expected.var(), rel=0.08, abs=1e-9)
