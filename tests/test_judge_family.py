"""Which contrasts are formed, the critical value they share, and their p values."""

import numpy as np
import pytest
from count_tables import draw, flips
from scipy.stats import hypergeom, norm

from fairguard.errors import ConfigError, DataError
from fairguard.judge.contrasts import Family, family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import estimands_of
from fairguard.judge.families import ATOM_PRIOR_ROWS, atom_covariances, critical_value, gaussian_maxima
from fairguard.judge.permutation import adjusted_p_values, null_maxima, studentised
from fairguard.metrics import Metric
from fairguard.policy import Policy


def names(family: Family) -> list[str]:
    return [family.grouping.groups[g].name for g in family.group]


def contrast(family: Family, group: str, metric: Metric) -> tuple[int, ...]:
    at = [
        i
        for i, (g, e) in enumerate(zip(family.group, family.estimand, strict=True))
        if (family.grouping.groups[g].name, family.estimands[e].metric) == (group, metric)
    ]
    (i,) = at
    return tuple(int(counts[i]) for counts in family.counts)


def test_each_metric_counts_its_own_rows() -> None:
    """Two groups of rows written out: (label, dense, pruned) with how often."""
    rows = {
        "a": [(1, 1, 0, 3), (1, 0, 1, 1), (1, 1, 1, 10), (0, 0, 1, 4), (0, 1, 0, 2), (0, 0, 0, 20)],
        "b": [(1, 1, 1, 30), (1, 1, 0, 1), (0, 0, 0, 40), (0, 0, 1, 1)],
    }
    flat = np.array([(code, *row) for code, part in enumerate(rows.values()) for row in part])
    table = CountTable.of(
        ["g"],
        [["a", "b"]],
        ["0", "1"],
        codes=flat[:, 0],
        y=flat[:, 1],
        dense=flat[:, 2],
        pruned=flat[:, 3],
        counts=flat[:, 4],
    )
    family = family_of(table, Policy(metrics=tuple(Metric)))
    assert contrast(family, "g=a", Metric.ACCURACY) == (7, 3, 40, 2, 0, 72)
    assert contrast(family, "g=a", Metric.HARMFUL_FLIPS) == (7, 0, 40, 2, 0, 72)
    assert contrast(family, "g=a", Metric.RECALL) == (3, 1, 14, 1, 0, 31)
    assert contrast(family, "g=a", Metric.FPR) == (4, 2, 26, 1, 0, 41)
    assert contrast(family, "g=a", Metric.SELECTION_RATE) == (5, 5, 40, 1, 1, 72)
    assert contrast(family, "g=a", Metric.DISAGREEMENT) == (10, 0, 40, 2, 0, 72)


def test_the_default_metrics_follow_the_data() -> None:
    def metrics(table: CountTable, **options: object) -> list[Metric]:
        return [e.metric for e in estimands_of(table, Policy.of(**options))]

    assert metrics(draw(50, 2)) == [Metric.ACCURACY, Metric.RECALL, Metric.FPR]
    assert metrics(draw(50, 2, classes=3)) == [Metric.ACCURACY]
    assert metrics(draw(50, 2, labels=False)) == [Metric.DISAGREEMENT]
    assert metrics(draw(50, 2, labels=False), favourable="1") == [Metric.SELECTION_RATE]
    assert metrics(draw(50, 2, classes=4), metrics="recall") == [Metric.RECALL] * 4


@pytest.mark.parametrize(
    ("options", "labels", "line"),
    [
        ({"metrics": "recall"}, False, "metric recall needs labels, and the data has none"),
        ({"favourable": "yes"}, True, "no class 'yes' to be favourable. Classes: 0, 1, 2."),
        ({"metrics": "selection_rate"}, True, "needs a favourable class; classes: 0, 1, 2."),
    ],
)
def test_metrics_that_the_data_cannot_give(options: dict[str, str], labels: bool, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        family_of(draw(50, 2, classes=3, labels=labels), Policy.of(**options))


def test_intersections_are_groups_of_their_own() -> None:
    table = draw(4000, 3, 2, 2)
    for depth, count in ((1, 7), (2, 7 + 6 + 6 + 4), (3, 7 + 6 + 6 + 4 + 12)):
        family = family_of(table, Policy(metrics="accuracy", intersections=depth))
        assert len(family) == count
    assert "c0=v1 & c2=v0" in names(family)


def test_small_intersections_are_counted_and_left_to_their_parents() -> None:
    family = family_of(draw(300, 5, 5), Policy(metrics="accuracy", min_group=20))
    assert family.grouping.unformed + sum("&" in name for name in names(family)) == 25
    assert family.grouping.unformed > 0


def test_an_intersection_that_is_its_own_factor_is_formed_once() -> None:
    rng = np.random.default_rng(0)
    sex = rng.integers(0, 2, 500)
    table = CountTable.of(
        ["sex", "title"],
        [["F", "M"], ["Ms", "Mr"]],
        ["0", "1"],
        codes=np.column_stack([sex, sex]),
        y=sex,
        dense=sex,
        pruned=1 - sex,
    )
    assert len(family_of(table, Policy(metrics="accuracy")).grouping.groups) == 4


@pytest.mark.parametrize("column", ["class", "digit"])
@pytest.mark.parametrize("others", [(), ("g",)])
def test_a_class_is_compared_on_accuracy_which_is_its_recall(column: str, others: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    y, dense, pruned, group = (rng.integers(0, k, 900) for k in (3, 3, 3, 2))
    codes = np.column_stack([y, group])
    table = CountTable.of(
        [column, "g"], [["x", "y", "z"], ["a", "b"]], ["0", "1", "2"], codes=codes, y=y, dense=dense, pruned=pruned
    )
    recall, both = (
        family_of(table, Policy(metrics=m), groups=[column, *others]) for m in ("recall", ("accuracy", "recall"))
    )
    for family in (recall, both):
        assert (family.n > 0).all()
        assert (family.n_rest > 0).all(), "nothing is formed that no rows could ever decide"
        for value, k in (("x", 0), ("y", 1), ("z", 2)):
            lost, gained = (dense == k) & (pruned != k), (dense != k) & (pruned == k)
            counts = [int((what & (y == k)).sum()) for what in (lost, gained, y == k)]
            assert contrast(family, f"{column}={value}", Metric.ACCURACY)[:3] == tuple(counts)
    single = [i for i, g in enumerate(recall.group) if recall.grouping.groups[g].name == "g=a"]
    assert [recall.estimands[recall.estimand[i]].metric for i in single] == [Metric.RECALL] * 3 * len(others)
    if not others:
        with pytest.raises(ConfigError, match=f"fpr cannot compare the classes of column '{column}'.*use accuracy"):
            family_of(table, Policy(metrics="fpr"), groups=[column])


def test_a_sensitive_feature_called_class_is_one_like_any_other() -> None:
    rng = np.random.default_rng(0)
    y, ticket = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    table = CountTable.of(["class"], [["1", "2", "3"]], ["0", "1"], codes=ticket, y=y, dense=y, pruned=1 - y)
    assert {e.metric for e in family_of(table, Policy()).estimands} == {Metric.ACCURACY, Metric.RECALL, Metric.FPR}
    assert len(family_of(table, Policy())) == 9


def test_unknown_and_missing_columns() -> None:
    table = draw(50, 2, labels=False)
    with pytest.raises(DataError, match=r"no group column 'clas'. Did you mean 'class'\? Columns: c0, class."):
        family_of(table, Policy(), groups=["clas"])
    with pytest.raises(ConfigError, match="group 'class' needs labels"):
        family_of(table, Policy(), groups=["class"])
    with pytest.raises(DataError, match="no group to judge"):
        family_of(table, Policy(), groups=[])


def test_one_partition_and_one_metric_share_bonferronis_value() -> None:
    family = family_of(draw(3000, 8), Policy(metrics="accuracy"))
    assert critical_value(family, 0.05, seed=0) == pytest.approx(norm.isf(0.05 / 8))


def test_overlap_lowers_the_critical_value() -> None:
    family = family_of(draw(20_000, 4, 2, 3), Policy(intersections=3))
    value = critical_value(family, 0.05, seed=0)
    assert norm.isf(0.05) < value < norm.isf(0.05 / len(family)) - 0.05
    assert critical_value(family, 0.05, seed=0) == value
    for alpha in (1e-4, 1e-9):  # beyond what draws can tell
        assert critical_value(family, alpha, seed=0) == pytest.approx(norm.isf(alpha / len(family)))


def test_two_mirrored_groups_are_one_two_sided_test() -> None:
    """One metric, two groups, and the same two again under another name: the maximum is that of |N(0, 1)|."""
    rng = np.random.default_rng(1)
    n = 4000
    sex, y, flip = rng.integers(0, 2, n), rng.integers(0, 2, n), rng.random(n) < 0.1
    table = CountTable.of(
        ["sex", "twin"],
        [["F", "M"], ["f", "m"]],
        ["0", "1"],
        codes=np.column_stack([sex, sex]),
        y=y,
        dense=y,
        pruned=np.where(flip, 1 - y, y),
    )
    family = family_of(table, Policy(metrics="accuracy"))
    maxima = gaussian_maxima(family, seed=0)
    assert len(family) == 4
    assert maxima.min() >= 0
    assert np.quantile(maxima, 0.95) == pytest.approx(norm.isf(0.025), abs=0.06)


def test_covariances_of_many_metrics_are_the_sums_over_all_rows() -> None:
    """Metric by metric over the rows that matter to each, against the definition."""
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 30, 6_000), rng.integers(0, 2, 6_000)
    dense = np.where(rng.random(6_000) < 0.8, y, rng.integers(0, 30, 6_000))
    pruned = np.where(rng.random(6_000) < 0.8, dense, rng.integers(0, 30, 6_000))
    classes = [str(k) for k in range(30)]
    table = CountTable.of(["g"], [["a", "b"]], classes, codes=group[:, None], y=y, dense=dense, pruned=pruned)
    family = family_of(table, Policy(metrics=("recall", "fpr")))
    assert family.effects.shape[0] > family.effects.shape[1] == 60
    harm, inside = np.where(family.effects == 2, 0.0, family.effects), family.effects != 2
    share = family.atoms.sum(axis=0) / 6_000
    residual = (harm - (share @ harm) / (share @ inside)) * inside
    rows = family.atoms.sum(axis=1, keepdims=True)
    steadied = (family.atoms + ATOM_PRIOR_ROWS * share) * rows / (rows + ATOM_PRIOR_ROWS)
    expected = [(residual * part[:, None]).T @ residual for part in steadied]
    np.testing.assert_allclose(atom_covariances(family), expected, rtol=1e-9, atol=1e-9)


def test_nothing_changed_nothing_simulated() -> None:
    family = family_of(draw(500, 2, 2, churn=0.0), Policy())
    assert not len(gaussian_maxima(family, seed=0))
    assert critical_value(family, 0.05, seed=0) == pytest.approx(norm.isf(0.05 / len(family)))
    assert (adjusted_p_values(family, alpha=0.05, permutations=99, seed=0).p == 1).all()


def test_with_one_kind_of_flip_p_is_the_hypergeometric_tail() -> None:
    """Two groups and harmful flips only: the larger statistic of the two is an event about one hypergeometric count."""
    table = flips(a=(60, 9, 0), b=(140, 6, 0))
    family = family_of(table, Policy(metrics="accuracy"))
    drawn = adjusted_p_values(family, alpha=0.5, permutations=200_000, seed=0)
    count = np.arange(16)
    pooled = 15 / 200 * (1 - 15 / 200)
    z = studentised(count, 0, 60, 15 - count, 0, 140, pooled=pooled)
    chance = hypergeom(200, 60, 15).pmf(count)
    exact = chance[np.maximum(z, -z) >= z[9] - 1e-12].sum()
    assert drawn.p[0] == pytest.approx(exact, abs=4 * np.sqrt(exact / drawn.draws))


def test_drawing_stops_once_the_question_is_settled() -> None:
    clear = family_of(flips(a=(1000, 200, 0), b=(1000, 50, 0)), Policy(metrics="accuracy"))
    settled = adjusted_p_values(clear, alpha=0.05, permutations=1_000_000, seed=0)
    assert settled.p[0] < 0.001
    assert settled.draws < 100_000
    fewer = adjusted_p_values(clear, alpha=0.05, permutations=150, seed=0)
    assert fewer.draws == 150
    assert fewer.p[0] == pytest.approx(1 / 151)


def test_a_large_family_draws_what_alpha_needs_and_no_more() -> None:
    """A p value close to alpha is never settled; two hundred groups would then cost seconds."""
    family = family_of(draw(20_000, 200, churn=0.1), Policy())
    for alpha, needed in ((0.05, 399), (0.01, 1999)):
        drawn = sum(len(maxima) for maxima in null_maxima(family, permutations=9_999, seed=0, alpha=alpha))
        assert drawn == needed
    small = family_of(draw(20_000, 3), Policy(metrics="accuracy"))
    assert sum(len(maxima) for maxima in null_maxima(small, permutations=9_999, seed=0, alpha=0.05)) == 9_999


def test_metrics_of_other_denominators_are_dealt_apart() -> None:
    """Recall deals positives only, so a metric on negatives cannot change what it finds."""
    table = draw(4000, 3, harm=0.05)
    alone = family_of(table, Policy(metrics="recall"))
    maxima = next(null_maxima(alone, permutations=500, seed=3))
    both = family_of(table, Policy(metrics=("recall", "fpr")))
    wider = next(null_maxima(both, permutations=500, seed=3))
    assert len(both) == 2 * len(alone)
    assert wider.mean() > maxima.mean()


@pytest.mark.parametrize(
    ("metrics", "levels"), [(("accuracy",), (5,)), (("accuracy", "recall", "fpr"), (3,)), (("accuracy",), (2, 3))]
)
def test_p_values_are_uniform_where_nothing_is_wrong(metrics: tuple[str, ...], levels: tuple[int, ...]) -> None:
    """300 data sets without any excess: the smallest adjusted p value is at most 0.2 in a fifth of them."""
    below = 0
    for seed in range(300):
        family = family_of(draw(900, *levels, seed=seed, churn=0.1), Policy(metrics=metrics))
        below += adjusted_p_values(family, alpha=0.2, permutations=200, seed=seed).p.min() <= 0.2
    assert abs(below / 300 - 0.2) < 0.07  # three standard errors
