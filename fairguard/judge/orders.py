"""In which order of its classes a model's answers fit the labels best. Knows counts only."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fairguard.dtypes import IntArray
from fairguard.errors import ModelError
from fairguard.judge.counts import CountTable
from fairguard.names import first_few

MOST_REORDERED = 1_000
"""Most classes whose order is questioned."""
CLEAR = 0.1
"""Ten points: how much better than chance, or than in the order given, a network must be before that is told."""
BY_CHANCE = 1e-4
"""An order that is better only with this chance, all orders tried, is not told."""
RESTORED = 0.75
"""Pruned that wins back this share of what it lost, in another order, is not broken: its classes stand elsewhere."""


class Order(NamedTuple):
    """An order of classes: the names in it, and the share of rows that are right in it and in the order given.

    ``beaten`` says whether guessing would find more of the classes that it moves than the order given does.
    """

    names: tuple[str, ...]
    right: float
    now: float
    beaten: bool


def best_assignment(worth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column of each row, shape (K,), every column once, whose entries in ``worth`` (K, K) sum highest."""
    _, columns = linear_sum_assignment(worth, maximize=True)
    return np.asarray(columns, dtype=np.int64)


def other_order(table: CountTable, given: IntArray) -> Order | None:
    """Return the order of classes in which the answers ``given`` (M,) would be right far more often, if there is one.

    Not only more rows count, which an answer of the commonest class gives too, but more of each class: a model's
    outputs have to tell the classes apart.
    """
    size = len(table.classes)
    if size > MOST_REORDERED:
        return None
    answers = np.zeros((size, size), dtype=table.counts.dtype)  # by label and answer
    np.add.at(answers, (table.y, given), table.counts)
    rows, now = answers.sum(axis=1), answers.diagonal()
    recalls = answers / np.maximum(rows, 1)[:, None]
    if (recalls.max(axis=1) - recalls.diagonal()).sum() <= CLEAR * np.count_nonzero(rows):
        return None
    usual = best_assignment(recalls + 1e-9 * np.eye(size))  # classes without rows stay where they are, if they can
    right = answers[np.arange(size), usual]
    moved = usual != np.arange(size)
    gained, lost = float(right[moved].sum()), float(now[moved].sum())
    gain = gained - lost
    if gain <= CLEAR * table.n or balanced(right, rows) - balanced(now, rows) <= CLEAR:
        return None
    by_luck = 2 * (gained + lost) * (math.lgamma(size + 1) - math.log(BY_CHANCE))
    if gain * gain <= by_luck or not tells_apart(right, rows):
        return None
    names = tuple(table.classes[int(label)] for label in np.argsort(usual))
    beaten = balanced(now[moved], rows[moved]) < 1 / moved.sum()
    return Order(names, float(right.sum()) / table.n, float(now.sum()) / table.n, beaten)


def order_warnings(table: CountTable) -> tuple[str, ...]:
    """Return a warning where pruned lost much, and would have lost less with its classes in another order.

    Only for scores of two or more outputs, whose places say the class: who answers by name is wrong where it is wrong.

    Raises:
        ModelError: in another order it would win back most of what it lost; a broken one wins nothing back.
    """
    if not table.labelled or (other := other_order(table, table.pruned)) is None:
        return ()
    dense = float(table.counts[table.dense == table.y].sum()) / table.n
    lost = dense - other.now
    if lost <= CLEAR:
        return ()
    if other.beaten and other.right - other.now >= RESTORED * lost:
        raise ModelError(
            f"pruned is right on {100 * other.now:.1f} % of the rows and dense on {100 * dense:.1f} %, but with its "
            f"classes in another order pruned would be right on {100 * other.right:.1f} %: its {written(other.names)} "
            f"stand where dense has {written(table.classes)}. Give both one order."
        )
    return (
        f"with its classes in another order ({written(other.names)}) pruned would be right on {100 * other.right:.1f} "
        f"%: is its order dense's?",
    )


def written(names: tuple[str, ...]) -> str:
    """Return an order in a few words."""
    return first_few(names, most=10, between=",")


def balanced(right: NDArray[np.number], rows: NDArray[np.number]) -> float:
    """Return the mean recall of the classes that have rows, of ``right`` ones among the ``rows`` of each, (K,) both."""
    seen = rows > 0
    return float((right[seen] / rows[seen]).mean())


def tells_apart(right: NDArray[np.number], rows: NDArray[np.number]) -> bool:
    """Return whether answers of so many right ones of each class's rows are clearly better than any constant's."""
    seen = rows[rows > 0]
    spread = math.sqrt((0.25 / seen).sum()) / len(seen)
    return balanced(right, rows) - 1 / len(seen) > max(CLEAR, 3 * spread)
