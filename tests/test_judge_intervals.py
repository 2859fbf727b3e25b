"""Tango's score limits and their combination for an excess, against the literature and against first principles."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, norm

from fairguard.judge.intervals import excess_upper, loss_upper, mover, mover_lower, tango, without_flips

Z95 = norm.isf(0.025)


def test_published_example() -> None:
    # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009): the example of Fagerland,
    # Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875, for intervals of paired proportions.
    lower, upper = tango(1, 7, 21, Z95)
    assert lower == pytest.approx(-0.517, abs=5e-4)
    assert upper == pytest.approx(-0.026, abs=5e-4)


def test_another_implementation() -> None:
    # R, PropCIs 0.3-0: scoreci.mp(25, 28, 618, conf.level = 0.9); its difference is (c - b)/n.
    lower, upper = tango(28, 25, 618, norm.isf(0.05))
    assert (round(float(lower), 4), round(float(upper), 4)) == (-0.0148, 0.0247)


@pytest.mark.parametrize(("b", "c", "n"), [(5, 2, 40), (0, 3, 17), (12, 0, 200), (1, 1, 9), (30, 45, 90)])
def test_limits_solve_the_score_equation(b: int, c: int, n: int) -> None:
    """The score statistic with the likelihood maximised numerically under the difference equals the critical value."""

    def statistic(theta: float) -> float:
        def minus_log_likelihood(q: float) -> float:  # q: share helped; q + theta: share harmed
            cells = np.array([q + theta, q, 1 - 2 * q - theta])
            return -float((np.array([b, c, n - b - c]) * np.log(np.maximum(cells, 1e-300))).sum())

        low, high = max(0.0, -theta), (1 - theta) / 2
        q = minimize_scalar(minus_log_likelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        return float((b - c - n * theta) / np.sqrt(n * (2 * q + theta - theta**2)))

    lower, upper = tango(b, c, n, Z95)
    assert statistic(float(lower)) == pytest.approx(Z95, abs=1e-4)
    assert statistic(float(upper)) == pytest.approx(-Z95, abs=1e-4)


def test_without_a_flip_the_limits_are_those_of_a_proportion() -> None:
    n = np.array([1, 10, 50, 10_000])
    lower, upper = tango(0, 0, n, Z95)
    assert upper == pytest.approx(Z95**2 / (n + Z95**2))
    assert lower == pytest.approx(-upper)


def test_all_rows_harmed_or_helped() -> None:
    lower, upper = tango([8, 0], [0, 8], 8, Z95)
    expected = (8 - Z95**2) / (8 + Z95**2)
    assert (lower[0], upper[0]) == (pytest.approx(expected), pytest.approx(1.0))
    assert (lower[1], upper[1]) == (pytest.approx(-1.0), pytest.approx(-expected))


def test_no_rows_no_limits() -> None:
    assert np.isnan(tango(0, 0, 0, Z95)).all()
    assert np.isnan(mover(0, 0, 0, 1, 1, 20, Z95)).all()
    assert np.isnan(mover(1, 1, 20, 0, 0, 0, Z95)).all()


def test_the_smaller_root_is_found_everywhere() -> None:
    """Every small table: limits exist, hold the estimate, mirror each other, and widen with z."""
    b, c, n = np.array([(i, j, k) for k in range(1, 22) for i in range(k + 1) for j in range(k + 1 - i)]).T
    before = np.zeros(len(b))
    for z in (0.5, 1.0, 2.0, 4.0, 8.0):
        lower, upper = tango(b, c, n, z)
        mirrored, _ = tango(c, b, n, z)
        assert (lower <= (b - c) / n).all()
        assert (upper >= (b - c) / n).all()
        assert (lower >= -1).all()
        assert upper == pytest.approx(-mirrored)
        assert (upper - lower > before - 1e-9).all()
        before = upper - lower


def test_excess_of_two_losses() -> None:
    counts = (30, 10, 400, 60, 50, 3000)
    lower, upper = mover(*counts, z=Z95)
    (l1, u1), (l2, u2) = tango(30, 10, 400, Z95), tango(60, 50, 3000, Z95)
    excess = 20 / 400 - 10 / 3000
    assert lower == pytest.approx(excess - np.hypot(0.05 - l1, u2 - 10 / 3000))
    assert upper == pytest.approx(excess + np.hypot(u1 - 0.05, 10 / 3000 - l2))
    assert mover_lower(*counts, z=Z95) == lower


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2])
def test_what_is_ruled_out_where_nobody_was_helped_is_exact_or_more(alpha: float) -> None:
    z, n = float(norm.isf(alpha)), 134
    for harmed in (0, 1, 2, 7, 60, 133, 134):
        exact = binomtest(harmed, n, alternative="less").proportion_ci(1 - alpha, method="exact").high
        assert loss_upper(harmed, 0, n, z) == pytest.approx(max(exact, tango(harmed, 0, n, z)[1]), abs=1e-9)


def test_what_is_ruled_out_is_never_less_than_the_score_limits_say_and_hardly_more_where_many_rows_changed() -> None:
    rng = np.random.default_rng(3)
    n, n_rest = rng.integers(20, 3000, (2, 500))
    counts = (rng.binomial(n // 2, 0.1), rng.binomial(n // 2, 0.05), n)
    rest = (rng.binomial(n_rest // 2, 0.03), rng.binomial(n_rest // 2, 0.2), n_rest)
    assert (excess_upper(*counts, *rest, 1.6449) >= mover(*counts, *rest, 1.6449)[1]).all()
    ordinary = (300, 280, 15_000, 1500, 1400, 60_000)
    assert excess_upper(*ordinary, 1.6449) == pytest.approx(mover(*ordinary, 1.6449)[1], abs=5e-5)


def test_what_is_ruled_out_of_fractions_of_rows_lies_between_that_of_whole_ones() -> None:
    harmed = np.linspace(0, 30, 121)
    for helped in (0.0, 0.4, 2.5):
        limit = loss_upper(harmed, helped, 200.3, 1.6449)
        assert (np.diff(limit) > 0).all()
        assert (np.diff(loss_upper(3.3, harmed, 200.3, 1.6449)) < 0).all()
    assert loss_upper(0.0, 0.0, 0.5, 1.6449) < loss_upper(0.5, 0.0, 0.5, 1.6449) == 1.0


def test_the_limit_without_flips_in_closed_form() -> None:
    n, n_rest = np.array([1, 20, 500, 0, 30]), np.array([7, 2000, 90, 40, 0])
    for z in (0.5, 1.6449, 2.5, 6.0):
        limit = without_flips(n, n_rest, z)
        assert limit[:3] == pytest.approx(excess_upper(0, 0, n[:3], 0, 0, n_rest[:3], z), abs=1e-9)
        assert np.isnan(limit[3:]).all()


def test_any_leading_axes() -> None:
    rng = np.random.default_rng(0)
    b, c = rng.integers(0, 20, (2, 3, 4, 5))
    lower, upper = mover(b, c, 50, c, b, 70, z=np.array([1.0, 2.0, 3.0, 1.5, 2.5]))
    one_lower, one_upper = mover(b[2, 1, 3], c[2, 1, 3], 50, c[2, 1, 3], b[2, 1, 3], 70, z=1.5)
    assert lower.shape == upper.shape == (3, 4, 5)
    assert (lower[2, 1, 3], upper[2, 1, 3]) == (pytest.approx(one_lower), pytest.approx(one_upper))


@pytest.mark.parametrize(("rate_b", "rate_c", "n"), [(0.05, 0.03, 200), (0.015, 0.005, 500), (0.05, 0.03, 50)])
def test_coverage_is_nominal(rate_b: float, rate_c: float, n: int) -> None:
    """20,000 tables with a known loss: the interval at 95 % covers it in 94 to 97 % of them."""
    counts = np.random.default_rng(1).multinomial(n, [rate_b, rate_c, 1 - rate_b - rate_c], size=20_000)
    lower, upper = tango(counts[:, 0], counts[:, 1], n, Z95)
    truth = rate_b - rate_c
    assert 0.94 < ((lower <= truth) & (truth <= upper)).mean() < 0.97
