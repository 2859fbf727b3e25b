"""Plain counts and rates of a group, of both models, without inference. Undefined is ``nan``, never 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray
from fairguard.judge.contrasts import Grouping
from fairguard.judge.counts import CountTable
from fairguard.judge.intervals import share
from fairguard.verdict import GroupRow, Pair


@dataclass(frozen=True, eq=False)
class GroupRates:
    """Rates of S groups; pairs have shape (S, 2), dense then pruned.

    Attributes:
        names: the groups' names.
        n: rows.
        positives, negatives: rows of the favourable class, and of all others.
        accuracy, recall, fpr, selection_rate: as in :class:`GroupRow`.
        harmful, beneficial, other: flips.
        class_loss: shape (S, K), recall lost by class.
    """

    names: tuple[str, ...]
    n: FloatArray
    positives: FloatArray
    negatives: FloatArray
    accuracy: FloatArray
    recall: FloatArray
    fpr: FloatArray
    selection_rate: FloatArray
    harmful: FloatArray
    beneficial: FloatArray
    other: FloatArray
    class_loss: FloatArray


def rates_of(table: CountTable, grouping: Grouping, label: int | None) -> GroupRates:
    """Return the rates of the groups, and of all rows as the last entry.

    Args:
        table: the counts.
        grouping: the groups.
        label: code of the favourable class, or ``None`` for no rates about one.
    """
    answers = np.column_stack([table.dense, table.pruned])
    y, counts, known = table.y[:, None], table.counts[:, None], table.labelled
    right = (answers == y) & known
    chosen = answers == label if label is not None else np.zeros_like(right)
    positive = (y == label) & known & (label is not None)
    negative = (y != label) & known & (label is not None)
    harmful, beneficial = right[:, :1] & ~right[:, 1:], ~right[:, :1] & right[:, 1:]
    flipped = answers[:, :1] != answers[:, 1:]
    parts = [counts, positive, negative, right, chosen & positive, chosen & negative, chosen]
    parts += [harmful, beneficial, flipped & ~harmful & ~beneficial]
    sums = _with_all(grouping, np.column_stack([part * counts if part is not counts else part for part in parts]))
    n, positives, negatives = sums[:, 0], sums[:, 1], sums[:, 2]
    return GroupRates(
        names=(*(group.name for group in grouping.groups), "overall"),
        n=n,
        positives=positives,
        negatives=negatives,
        accuracy=share(sums[:, 3:5], n) if known else np.full((len(n), 2), np.nan),
        recall=share(sums[:, 5:7], positives),
        fpr=share(sums[:, 7:9], negatives),
        selection_rate=share(sums[:, 9:11], n) if label is not None else np.full((len(n), 2), np.nan),
        harmful=sums[:, 11],
        beneficial=sums[:, 12],
        other=sums[:, 13],
        class_loss=_class_loss(table, grouping),
    )


def group_rows(rates: GroupRates, classes: tuple[str, ...]) -> tuple[GroupRow, tuple[GroupRow, ...]]:
    """Return the row of everybody, and the groups' rows."""
    lost = rates.harmful - rates.beneficial
    known = np.isfinite(rates.accuracy[:, 0])
    drop = np.where(known, share(lost, rates.n), np.nan)
    excess = np.where(known, drop - share(lost[-1] - lost, rates.n[-1] - rates.n), np.nan)
    rows = [_row(rates, i, float(drop[i]), float(excess[i]), classes) for i in range(len(rates.names))]
    return rows[-1], tuple(rows[:-1])


def _row(rates: GroupRates, i: int, drop: float, excess: float, classes: tuple[str, ...]) -> GroupRow:
    worst: dict[str, Any] = {}
    if len(classes) > 2 and np.isfinite(rates.class_loss[i]).any():
        k = int(np.nanargmax(rates.class_loss[i]))
        worst = {"worst_class": classes[k], "worst_class_drop": float(rates.class_loss[i, k])}
    return GroupRow(
        group=rates.names[i],
        n=int(rates.n[i]),
        accuracy=pair(rates.accuracy[i]),
        harmful_flips=int(rates.harmful[i]),
        beneficial_flips=int(rates.beneficial[i]),
        other_flips=int(rates.other[i]),
        drop=drop,
        excess_drop=excess,
        recall=pair(rates.recall[i]),
        fpr=pair(rates.fpr[i]),
        selection_rate=pair(rates.selection_rate[i]),
        **worst,
    )


def pair(values: FloatArray) -> Pair:
    """Return two rates, dense and pruned, as a value of the verdict."""
    return Pair(dense=float(values[0]), pruned=float(values[1]))


def _with_all(grouping: Grouping, amounts: NDArray[np.generic]) -> FloatArray:
    return np.concatenate([grouping.sums(amounts), amounts.sum(axis=0, dtype=np.float64)[None]])


def _class_loss(table: CountTable, grouping: Grouping) -> FloatArray:
    """Return the recall that each class lost in each group, shape (S + 1, K); needed beyond two classes only."""
    k = len(table.classes)
    if k <= 2 or not table.labelled:
        return np.full((len(grouping.groups) + 1, k), np.nan)
    change = table.counts * ((table.dense == table.y).astype(np.int64) - (table.pruned == table.y))
    lost, n = (
        np.concatenate([grouping.sums_by(table.y, k, amounts), np.bincount(table.y, amounts, k)[None]])
        for amounts in (change, table.counts)
    )
    return share(lost, n)
