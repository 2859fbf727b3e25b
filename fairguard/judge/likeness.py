"""How many rows are worth an independent one, where rows of one cluster are alike or weights differ.

Each side of a contrast, the group and everybody else, has a design effect of its own: what unequal weights cost times
``1 + (rows per cluster - 1) * likeness``, the likeness being the intraclass correlation of what happened to rows of one
cluster. Source: Kish, Survey Sampling (1965); the product, Gabler, Haeder and Lahiri, Survey Methodology 25 (1999).

A few harmed clusters say little of their likeness, so each side borrows from the other. It borrows caution only: the
size of its clusters is its own, and what it shows of likeness stays. Where hardly a cluster was harmed, although many
should be, its rows may share one fate.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray, IntArray
from fairguard.judge.estimands import HARMED, OUTSIDE

PRIOR_CLUSTERS = 10.0
"""Harmed clusters at the likeness of both sides together mixed into that of each: so many hardly say who is alike."""
PRIOR_ALIKE = 1.0
"""Harmed clusters with all rows alike mixed into the likeness of both sides together."""


@dataclass(frozen=True, eq=False)
class Units:
    """What is independent of each other.

    Attributes:
        of_cell: shape (M,), the unit of each cell of the count table.
        rows: shape (M,), weighted rows that a cell adds to its unit.
        squares: shape (M,), the same, each row's weight squared.
        copies: shape (K,), how many like units each stands for.
    """

    of_cell: IntArray
    rows: FloatArray
    squares: FloatArray
    copies: FloatArray


@dataclass(frozen=True, eq=False)
class Sides:
    """Sums over the group, and over everybody else, in one contrast, shape (2,), or in m, shape (2, m).

    Attributes:
        rows: weighted rows in the denominator.
        squares: each row's weight squared.
        unit_squares: each unit's weighted rows squared.
        within: what happened to each weighted row beyond the side's loss, squared.
        between: what happened to each unit, squared.
        harmed: clusters with harmed rows, as many of equal size as they are worth; a row alone in its cluster says
            nothing of likeness and does not count.
        joint: variance of group minus rest over what it were without clusters that have rows in both; the same twice.
    """

    rows: FloatArray
    squares: FloatArray
    unit_squares: FloatArray
    within: FloatArray
    between: FloatArray
    harmed: FloatArray
    joint: FloatArray

    @classmethod
    def stacked(cls, contrasts: list[Sides]) -> Sides:
        """Return many contrasts as one."""
        parts = (np.array([getattr(each, field.name) for each in contrasts]) for field in fields(cls))
        return cls(*(part.reshape(-1, 2).T for part in parts))

    @property
    def units(self) -> FloatArray:
        """Return how many units of equal size each side is worth. Source: Kish, Survey Sampling (1965).

        A few large clusters among many small ones decide a variance by themselves: Carter, Schnepel and Steigerwald,
        Review of Economics and Statistics 99 (2017).
        """
        return _ratio(self.rows**2, self.unit_squares)


def sides_of(
    units: Units, effect: NDArray[np.int8], inside: NDArray[np.bool_], loss: tuple[float, float]
) -> tuple[Sides, FloatArray]:
    """Return the sums of one contrast, and what each unit adds to its excess beyond its share of rows, shape (K,).

    Args:
        units: what is independent.
        effect: shape (M,), what each cell is to the metric.
        inside: shape (M,), which cells are the group's.
        loss: the group's loss and everybody else's.
    """
    place, length = 2 * units.of_cell + ~inside, 2 * len(units.copies)
    counted = effect != OUTSIDE
    beyond = np.where(counted, effect - np.where(inside, *loss), 0.0)

    def each_unit(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(place, values, length).reshape(-1, 2), dtype=np.float64)

    rows, squares = each_unit(counted * units.rows), each_unit(counted * units.squares)
    moved, within = each_unit(beyond * units.rows), each_unit(beyond**2 * units.squares)
    harmed = each_unit((effect == HARMED) * units.rows) * (1.0 - _ratio(squares, rows**2))
    total, between = units.copies @ rows, units.copies @ moved**2
    parts = _ratio(moved, total) @ np.array([1.0, -1.0])
    joint = _ratio(units.copies @ parts**2, _ratio(between, total**2).sum(), otherwise=1.0)
    return Sides(
        rows=total,
        squares=units.copies @ squares,
        unit_squares=units.copies @ rows**2,
        within=units.copies @ within,
        between=between,
        harmed=_ratio((units.copies @ harmed) ** 2, units.copies @ harmed**2),
        joint=np.broadcast_to(joint, 2),
    ), parts


def design_effects(sides: Sides, *, n: FloatArray, harmed: FloatArray, variance: FloatArray) -> FloatArray:
    """Return the design effects of both sides of every contrast, shape (2, m); never below 1.

    Args:
        sides: the sums.
        n: shape (2, m), rows.
        harmed: shape (2, m), weighted share of them that is harmed.
        variance: shape (2, m), of what happened to one row.
    """
    kish = n * _ratio(sides.squares, sides.rows**2, otherwise=1.0)
    seen = n * _ratio(sides.within, variance * sides.rows**2)
    weights = np.maximum(np.maximum(kish, seen), 1.0)  # a heavy row that did not change is no proof that none does
    company = np.maximum(_ratio(sides.unit_squares, sides.squares, otherwise=1.0) - 1.0, 0.0)
    both = sides.harmed.sum(axis=0)
    joint = (both * sides.joint + PRIOR_CLUSTERS) / (both + PRIOR_CLUSTERS)
    return np.asarray(weights * np.maximum((1.0 + company * _likeness(sides, company, harmed)) * joint, 1.0))


def _likeness(sides: Sides, company: FloatArray, harmed: FloatArray) -> FloatArray:
    """Return the intraclass correlation of each side, shape (2, m), as far as its harmed clusters tell.

    Args:
        sides: the sums.
        company: shape (2, m), other rows in a row's cluster.
        harmed: shape (2, m), share of rows that is harmed.
    """
    excess, pairs = sides.between - sides.within, sides.within * company
    told = np.where(pairs > 0, sides.harmed, 0.0)
    both = told.sum(axis=0)
    pooled = np.clip(_ratio(excess.sum(axis=0), pairs.sum(axis=0)), 0.0, 1.0)
    prior = (both * pooled + PRIOR_ALIKE) / (both + PRIOR_ALIKE)
    # None harmed where many should be: rows may share fates that happened to hit none. Less so the more are harmed.
    everywhere = np.clip(_ratio((sides.rows * harmed).sum(axis=0), sides.rows.sum(axis=0)), 0.0, 1.0)
    independent = (1.0 + company) / (1.0 + company * prior)
    expected = sides.units * (1.0 - (1.0 - everywhere) ** independent)
    missed = np.maximum(expected - told, 0.0) * np.exp(-told)
    prior = 1.0 - (1.0 - prior) / (1.0 + missed)
    own = np.where(told > 0, _ratio(excess, pairs), 0.0)
    return np.asarray(own + np.maximum(prior - own, 0.0) * PRIOR_CLUSTERS / (told + PRIOR_CLUSTERS))


def _ratio(part: FloatArray, whole: FloatArray, *, otherwise: float = 0.0) -> FloatArray:
    """Return the ratio, and ``otherwise`` where it is undefined."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, otherwise)
