"""Rows that would decide, excesses that would show, and error spent over looks: each held against simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from fairguard.judge.intervals import excess_upper, mover_lower
from fairguard.judge.power import Criteria, LossRates, detectable, rows_needed, rows_to_certify, rows_to_decide
from fairguard.judge.spending import spent_alpha

TABLES = 8_000
Z_ALPHA = float(norm.isf(0.05))
CHURNS = [(0.05, 0.03), (0.015, 0.005), (0.004, 0.001)]


def rates(harmed: float, helped: float, *, excess: float = 0.0, groups: int, rows: float = 1e9) -> LossRates:
    """The rates of one group among equals, harmed by ``excess``."""
    churn, loss = np.array(harmed + helped), np.array(harmed - helped)
    return LossRates(np.array(rows), np.array(rows * (groups - 1)), churn + excess, churn, loss + excess, loss)


def criteria(margin: float, *, groups: int, strict: bool = False) -> Criteria:
    return Criteria(margin, float(norm.isf(0.05 / groups)), Z_ALPHA, strict)


def simulated(bound, harmed: float, helped: float, *, excess: float, groups: int, rows: int, z: float) -> np.ndarray:
    rng = np.random.default_rng(7)
    rest = rows * (groups - 1)
    b, c, _ = rng.multinomial(rows, [harmed + excess, helped, 1 - harmed - helped - excess], TABLES).T
    b_rest, c_rest, _ = rng.multinomial(rest, [harmed, helped, 1 - harmed - helped], TABLES).T
    return bound(b, c, rows, b_rest, c_rest, rest, z)


@pytest.mark.parametrize("churn", CHURNS)
@pytest.mark.parametrize("excess", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("groups", [2, 5, 20])
def test_the_rows_asked_for_prove_the_harm(churn: tuple[float, float], excess: float, groups: int) -> None:
    asked = criteria(0.01, groups=groups)
    rows = int(np.ceil(rows_needed(rates(*churn, excess=excess, groups=groups), asked)))
    lower = simulated(mover_lower, *churn, excess=excess, groups=groups, rows=rows, z=asked.z_family)
    assert 0.78 < np.mean(lower > 0) < 0.94


@pytest.mark.parametrize("strict", [False, True])
def test_close_above_the_margin_the_estimate_has_to_exceed_it_too(strict: bool) -> None:
    asked = criteria(0.04, groups=5, strict=strict)
    rows = int(np.ceil(rows_needed(rates(0.05, 0.03, excess=0.05, groups=5), asked)))
    rng = np.random.default_rng(5)
    b, c, _ = rng.multinomial(rows, [0.1, 0.03, 0.87], TABLES).T
    b_rest, c_rest, _ = rng.multinomial(4 * rows, [0.05, 0.03, 0.92], TABLES).T
    lower = mover_lower(b, c, rows, b_rest, c_rest, 4 * rows, asked.z_family)
    estimate = (b - c) / rows - (b_rest - c_rest) / (4 * rows)
    regressed = lower > 0.04 if strict else (lower > 0) & (estimate >= 0.04)
    assert np.mean(regressed) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("churn", CHURNS)
@pytest.mark.parametrize("margin", [0.02, 0.05])
@pytest.mark.parametrize("groups", [2, 5, 20])
def test_the_rows_asked_for_rule_the_margin_out(churn: tuple[float, float], margin: float, groups: int) -> None:
    rows = int(np.ceil(rows_needed(rates(*churn, groups=groups), criteria(margin, groups=groups))))
    upper = simulated(excess_upper, *churn, excess=0.0, groups=groups, rows=rows, z=Z_ALPHA)
    assert 0.74 < np.mean(upper < margin) < 0.92  # counts are lumpy where two flips are expected


def test_rare_flips_ask_for_rows_all_the_same() -> None:
    asked = rates(0.0, 0.0, groups=20), criteria(0.02, groups=20)
    assert float(rows_needed(*asked)) == pytest.approx(rows_to_certify(*asked), rel=0.05)


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("ratio", [1e-6, 0.25, 1.0, 20.0, 1700.0])
def test_the_rows_to_certify_are_the_fewest_that_do_without_a_flip(alpha: float, ratio: float) -> None:
    z = float(norm.isf(alpha))
    present = replace(rates(0.05, 0.03, groups=2), n=np.array(1000 * ratio), n_rest=np.array(1000.0))
    rows = float(rows_to_certify(present, Criteria(0.02, z, z)))
    assert excess_upper(0, 0, rows, 0, 0, rows / ratio, z) < 0.02
    fewer = 0.97 * rows - 1
    assert excess_upper(0, 0, fewer, 0, 0, fewer / ratio, z) >= 0.02


def test_strict_asks_for_more_rows() -> None:
    known = rates(0.05, 0.03, excess=0.05, groups=5)
    loose, strict = (rows_needed(known, criteria(0.02, groups=5, strict=flag)) for flag in (False, True))
    assert strict > 2 * loose


def test_no_number_of_rows_decides_at_the_boundary() -> None:
    at_margin = replace(rates(0.05, 0.03, excess=0.02, groups=5), loss=np.array(0.04), loss_rest=np.array(0.02))
    assert np.isnan(rows_needed(at_margin, criteria(0.02, groups=5, strict=True)))


@pytest.mark.parametrize("excess", [0.02, 0.05, 0.1])
def test_detectable_is_the_excess_that_those_rows_were_asked_for(excess: float) -> None:
    asked = criteria(0.01, groups=5)
    rows = float(rows_needed(rates(0.05, 0.03, excess=excess, groups=5), asked))
    assert detectable(rates(0.05, 0.03, groups=5, rows=rows), asked) == pytest.approx(excess, rel=1e-3)


def test_nothing_within_the_margin_is_shown_as_a_regression() -> None:
    known = rates(0.05, 0.03, groups=5, rows=1e6)
    loose, strict = (detectable(known, criteria(0.02, groups=5, strict=flag)) for flag in (False, True))
    assert 0.02 < loose < strict < 0.025


def test_a_handful_of_rows_can_show_nothing() -> None:
    assert np.isnan(detectable(rates(0.05, 0.03, groups=200, rows=1.0), criteria(0.0, groups=200)))


@pytest.mark.parametrize(("groups", "rows", "margin"), [(2, 300, 0.02), (5, 500, 0.02), (5, 200, 0.05)])
def test_the_rows_said_to_decide_do_so_where_a_first_sample_did_not(groups: int, rows: int, margin: float) -> None:
    """True excesses are spread around the margin; what a first sample leaves open is decided by as many as it asks."""
    rng, z = np.random.default_rng(1), float(norm.isf(0.05 / groups))
    excess = np.clip(rng.normal(margin, 0.03, TABLES), -0.04, None)

    def draw(n: np.ndarray, more: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        b = rng.binomial(n, 0.05 + more)
        return b, rng.binomial(n - b, 0.03 / (0.95 - more))

    def decided(b, c, n, b_rest, c_rest) -> np.ndarray:
        counts = (b, c, n, b_rest, c_rest, n * (groups - 1))
        estimate = (b - c) / n - (b_rest - c_rest) / counts[-1]
        return (excess_upper(*counts, Z_ALPHA) < margin) | ((mover_lower(*counts, z) > 0) & (estimate >= margin))

    n, even = np.full(TABLES, rows), np.zeros(TABLES)
    (b, c), (b_rest, c_rest) = draw(n, excess), draw(n * (groups - 1), even)
    known = LossRates.of(b, c, n, b_rest, c_rest, n * (groups - 1))
    asked = rows_to_decide(known, criteria(margin, groups=groups))
    open_ = ~decided(b, c, n, b_rest, c_rest)
    assert open_.mean() > 0.3
    assert (asked[open_] > rows).all()
    assert asked[open_].max() < 60 * rows, "an estimate at the margin by accident asks for no billions"
    more = np.where(open_, np.ceil(asked) - rows, 0).astype(int)
    (b2, c2), (b2_rest, c2_rest) = draw(more, excess), draw(more * (groups - 1), even)
    after = decided(b + b2, c + c2, n + more, b_rest + b2_rest, c_rest + c2_rest)
    assert after[open_].mean() > 0.78


def test_rows_that_decide_are_unknown_without_rows() -> None:
    known = replace(rates(0.05, 0.03, groups=5), n=np.array(0.0), churn=np.array(np.nan), loss=np.array(np.nan))
    assert np.isnan(rows_to_decide(known, criteria(0.02, groups=5)))


def test_arrays_are_answered_entry_by_entry() -> None:
    known = replace(rates(0.05, 0.03, groups=5), n=np.array([100.0, 1000.0]), n_rest=np.array([4000.0, 4000.0]))
    few, many = detectable(known, criteria(0.0, groups=5))
    assert few > many > 0


def test_spending_equals_the_published_boundaries() -> None:
    """Five looks, one-sided 0.025: Jennison and Turnbull (2000), Lan-DeMets O'Brien-Fleming type."""
    found = [norm.isf(spent_alpha(0.025, 5, look)) for look in range(1, 6)]
    assert found == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=6e-4)


def test_one_look_spends_everything() -> None:
    assert spent_alpha(0.05, 1, 1) == 0.05


@pytest.mark.parametrize("comparisons", [1, 5])
def test_all_looks_together_err_alpha(comparisons: int) -> None:
    looks, paths = 10, 200_000 // comparisons
    steps = np.random.default_rng(3).normal(size=(paths, comparisons, looks))
    scores = steps.cumsum(axis=2) / np.sqrt(np.arange(1, looks + 1))
    levels = [spent_alpha(0.05, looks, k, comparisons=comparisons) for k in range(1, looks + 1)]
    crossed = (scores > norm.isf(np.array(levels) / comparisons)).any(axis=(1, 2)).mean()
    assert crossed == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / paths))
