"""The family: every group against the rest, on every gated metric, with the counts that decide each.

A group is a level of a sensitive feature, or a cell of a product of several. Atoms are the finest cells that occur;
every group is a union of atoms, which is all that the correlation of overlapping groups and a relabelling of rows need.
Knows nothing of intervals or verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from fairguard.dtypes import FloatArray, IntArray
from fairguard.errors import ConfigError, DataError, did_you_mean
from fairguard.judge.counts import CountTable, distinct, one_to_one
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, Estimand, estimands_of
from fairguard.metrics import METRICS, About
from fairguard.policy import Policy

Intersection = tuple[tuple[int, int], ...]
"""A cell of a product of columns, as pairs of column and level code."""

CLASS = "class"
"""Column that is not in the data: the label itself as the group."""

NO_ANSWER = -2
"""Stands for both answers where they are the same."""
AT_ONCE = 8_000_000
"""Numbers that a product holds at once."""
DENSE = 2_000_000
"""Entries of a membership up to which a plain array is quicker; beyond it holds next to nothing but ``False``."""


@dataclass(frozen=True)
class Group:
    """Some rows: those with the given values."""

    columns: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def name(self) -> str:
        """Return ``race=Black & sex=F``."""
        return " & ".join(f"{column}={value}" for column, value in zip(self.columns, self.values, strict=True))


@dataclass(frozen=True, eq=False)
class Grouping:
    """The groups judged, S of them, as unions of A atoms.

    Attributes:
        columns: the sensitive features judged.
        groups: the S groups, single values first.
        member: shape (S, A), whether a group holds an atom; sparse where it is large.
        place: shape (M,), the atom of each cell of the count table.
        unformed: products of columns left out because they or their rest have fewer than ``min_group`` rows.
    """

    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    member: Any
    place: IntArray
    unformed: int = 0

    def holds(self, group: int) -> NDArray[np.bool_]:
        """Return whether a group, by its place, holds each cell of the count table, shape (M,)."""
        row: Any = self.member[[group]]
        inside: NDArray[np.bool_] = (row if isinstance(row, np.ndarray) else row.toarray())[0][self.place]
        return inside

    def sums(self, amounts: NDArray[np.generic]) -> FloatArray:
        """Return each group's sums of the cells' ``amounts``, shape (M, ...), as shape (S, ...); exact below 2^53."""
        flat = np.asarray(amounts, dtype=np.float64).reshape(len(self.place), -1)
        atoms = np.stack([np.bincount(self.place, column, self.member.shape[1]) for column in flat.T], axis=1)
        total: FloatArray = (self.member.astype(np.float64) @ atoms).reshape(len(self.groups), *amounts.shape[1:])
        return total

    def sums_by(self, kind: IntArray, kinds: int, amounts: NDArray[np.generic]) -> FloatArray:
        """Return each group's sums of the cells' ``amounts``, shape (M,), by their ``kind``, as shape (S, kinds)."""
        shape = self.member.shape[1], kinds
        atoms = np.bincount(self.place * kinds + kind, amounts, shape[0] * shape[1]).reshape(shape)
        total: FloatArray = self.member.astype(np.float64) @ atoms
        return total


@dataclass(frozen=True, eq=False)
class Family:
    """Contrasts judged together, m of them, over the groups, E estimands and J kinds of row.

    Attributes:
        grouping: the S groups as unions of A atoms.
        estimands: the E estimands.
        effects: shape (J, E), int8, what a kind of row is to each estimand (``HARMED``, ``OUTSIDE`` and so on).
        atoms: shape (A, J), rows by atom and kind.
        group: shape (m,), each contrast's place in ``grouping.groups``.
        estimand: shape (m,), each contrast's place in ``estimands``.
        b, c, n: shape (m,), rows of the group harmed, helped, and in the denominator.
        b_rest, c_rest, n_rest: shape (m,), the same of everybody else.
    """

    grouping: Grouping
    estimands: tuple[Estimand, ...]
    effects: NDArray[np.int8]
    atoms: IntArray
    group: IntArray
    estimand: IntArray
    b: IntArray
    c: IntArray
    n: IntArray
    b_rest: IntArray
    c_rest: IntArray
    n_rest: IntArray

    @property
    def member(self) -> Any:
        """Return whether each group holds each atom, shape (S, A), dense or sparse."""
        return self.grouping.member

    def __len__(self) -> int:
        """Return the number of contrasts."""
        return len(self.n)

    @property
    def counts(self) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray, IntArray]:
        """Return ``b, c, n`` of the groups and of the rests, in the order that intervals take them."""
        return self.b, self.c, self.n, self.b_rest, self.c_rest, self.n_rest

    @property
    def overlapping(self) -> bool:
        """Return whether some row is in two groups."""
        return bool((self.member[np.unique(self.group)].sum(axis=0) > 1).any())

    def only(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Family:
        """Return the family of the ``chosen`` contrasts, given as a mask, shape (m,), or as places."""
        names = ("group", "estimand", "b", "c", "n", "b_rest", "c_rest", "n_rest")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def family_of(
    table: CountTable,
    policy: Policy,
    *,
    groups: Sequence[str] | None = None,
    estimands: Sequence[Estimand] | None = None,
) -> Family:
    """Return every contrast that the policy asks of the table, also those too small to be tested.

    Args:
        table: the counts.
        policy: metrics, depth of intersections and smallest group.
        groups: sensitive features to judge, ``class`` for the label itself; default: all of the table.
        estimands: what to judge on; default: the policy's metrics.

    Raises:
        DataError: a sensitive feature that the table does not have.
        ConfigError: a metric that the data cannot give.
    """
    columns = judged_columns(table, groups)
    grouping = grouping_of(table, columns, depth=policy.intersections, min_group=policy.min_group)
    if estimands is None:
        estimands = estimands_of(table, policy)
        metrics = [e.metric for e in estimands]
        others = dict.fromkeys(METRICS[metric].between_classes for metric in metrics)
        if any(tells_label(table, column) for column in columns):  # a class's recall goes by another name
            added = [Estimand(other, classes_only=True) for other in others if other and other not in metrics]
            estimands = (*estimands, *added)
    family = contrasts(table, grouping, estimands=estimands)
    if not len(family) and len(grouping.groups):
        raise ConfigError(
            f"metric {estimands[0].metric} cannot compare the classes of column {columns[0]!r} with each other: use "
            "accuracy (a class's recall) there, or name another group."
        )
    return family


def contrasts(table: CountTable, grouping: Grouping, *, estimands: Sequence[Estimand]) -> Family:
    """Return the family of all groups on all ``estimands`` that make sense there."""
    effects, kind = _kinds(table, estimands)
    shape = grouping.member.shape[1], len(effects)
    atoms = np.bincount(grouping.place * shape[1] + kind, table.counts, shape[0] * shape[1]).reshape(shape)
    group, estimand = np.nonzero(_comparable(table, grouping, estimands))
    # Sums in floats: exact below 2^53 rows, and far faster than in integers.
    rows, total = grouping.member.astype(np.float64) @ atoms, atoms.sum(axis=0)
    pairs = []
    for what in (effects == HARMED, effects == HELPED, effects != OUTSIDE):
        inside = _summed(rows, what)[group, estimand]
        outside = _summed(total[None], what)[0, estimand] - inside
        pairs.append((inside.astype(np.int64), outside.astype(np.int64)))
    (b, b_rest), (c, c_rest), (n, n_rest) = pairs
    counts = (b, c, n, b_rest, c_rest, n_rest)
    return Family(grouping, tuple(estimands), effects, atoms.astype(np.int64), group, estimand, *counts)


def _comparable(table: CountTable, grouping: Grouping, estimands: Sequence[Estimand]) -> NDArray[np.bool_]:
    """Return whether each group is to be compared with its rest on each estimand, shape (S, E)."""
    labels = {column for column in grouping.columns if is_label(table, column)}
    alike = {column for column in grouping.columns if tells_label(table, column)}
    of_classes, of_one = (
        np.array([not found.isdisjoint(group.columns) for group in grouping.groups], dtype=bool)[:, None]
        for found in (labels, alike)
    )
    about = [METRICS[e.metric].about for e in estimands]
    over_classes, of_a_class = (
        np.array([each is which for each in about], dtype=bool) for which in (About.ROWS, About.EACH_CLASS)
    )
    of_classes_alone = np.array([e.classes_only for e in estimands], dtype=bool)
    comparable = np.where(of_classes, over_classes, True) & ~(of_one & of_a_class)
    return np.asarray(comparable & np.where(of_classes_alone, of_classes | of_one, True))


def _kinds(table: CountTable, estimands: Sequence[Estimand]) -> tuple[NDArray[np.int8], IntArray]:
    """Return the J kinds of row in lexicographic order, (J, E), and the kind of each cell, (M,).

    Effects are asked for once for each label and pair of answers. Where both models answer alike nothing changed, and
    the label alone says what the row is: of a thousand classes few of the possible pairs of answers are left.
    """
    changed = table.dense != table.pruned
    answers = [np.where(changed, codes, NO_ANSWER) for codes in (table.dense, table.pruned)]
    seen, place = distinct(np.column_stack([table.y, *answers]))
    some = replace(table, cells=table.cells[seen], counts=table.counts[seen])
    by_answers = np.column_stack([estimand.effects(some) for estimand in estimands])
    first, kind = distinct(by_answers)
    return by_answers[first], kind[place]


def _summed(rows: FloatArray, what: NDArray[np.bool_]) -> FloatArray:
    """Return ``rows @ what``, a few columns at a time: as floats, all at once may not fit into memory."""
    step = max(1, AT_ONCE // max(len(what), 1))
    return np.concatenate([rows @ what[:, at : at + step] for at in range(0, what.shape[1], step)], axis=1)


def grouping_of(table: CountTable, columns: Sequence[str], *, depth: int, min_group: int) -> Grouping:
    """Return the groups: every value of every column, and the cells of products of up to ``depth`` columns.

    A product that holds the very rows of one of its own factors is that factor, and not formed again. Products with
    the label itself are not formed where it is no column of the table: recall per class says the same.

    Args:
        table: the counts.
        columns: the sensitive features, ``class`` for the label.
        depth: most columns in a product.
        min_group: fewest rows in a product and in its rest.
    """
    first, place = distinct(np.column_stack([column_codes(table, name) for name in columns]))
    sizes = np.bincount(place, table.counts, len(first))
    atoms = np.column_stack([column_codes(table, name)[first] for name in columns])
    levels = [column_levels(table, name) for name in columns]
    groups: list[Group] = []
    members: list[IntArray] = []
    rows: dict[Intersection, float] = {}
    unformed = 0
    label = next((i for i, name in enumerate(columns) if name not in table.columns), None)
    for cell, inside in _cells(atoms, depth, label):
        n = rows[cell] = float(sizes[inside].sum())
        if len(cell) > 1:
            if any(rows[part] == n for part in combinations(cell, len(cell) - 1)):
                continue
            if min(n, table.n - n) < min_group:
                unformed += 1
                continue
        groups.append(Group(tuple(columns[i] for i, _ in cell), tuple(levels[i][code] for i, code in cell)))
        members.append(inside)
    return Grouping(tuple(columns), tuple(groups), _membership(members, len(atoms)), place, unformed)


def _membership(members: Sequence[IntArray], atoms: int) -> Any:
    """Return whether each group holds each atom, shape (S, A), from the places of the atoms that it holds."""
    ends = np.concatenate([[0], np.cumsum([len(inside) for inside in members])]).astype(np.int64)
    held = np.concatenate([*members, np.zeros(0, dtype=np.int64)])
    member = csr_array((np.ones(len(held), dtype=bool), held, ends), shape=(len(members), atoms))
    return member.toarray() if len(members) * atoms <= DENSE else member


def judged_columns(table: CountTable, groups: Sequence[str] | None) -> tuple[str, ...]:
    """Return the sensitive features to judge, each once, as asked or all of the table's."""
    asked = tuple(dict.fromkeys(table.columns if groups is None else groups))
    for name in asked:
        if name in table.columns:
            continue
        if name != CLASS:
            possible = (*table.columns, CLASS)
            raise DataError(f"no group column {name!r}.{did_you_mean(name, possible)} Columns: {', '.join(possible)}.")
        if not table.labelled:
            raise ConfigError("group 'class' needs labels, and the data has none.")
    if not asked:
        raise DataError(
            "no group to judge: name a sensitive feature with --group, or 'class' for the labels themselves."
        )
    return asked


def is_label(table: CountTable, column: str) -> bool:
    """Return whether a column is the label itself; a sensitive feature may happen to be called ``class``."""
    return column == CLASS and (column not in table.columns or tells_label(table, column))


def tells_label(table: CountTable, column: str) -> bool:
    """Return whether the values of a column and the classes are one to one, whatever it is called."""
    if column not in table.columns:
        return column == CLASS
    return table.labelled and one_to_one(table.codes(column), table.y)


def column_codes(table: CountTable, name: str) -> IntArray:
    """Return the level code of each cell in a column or, for ``class``, its label, shape (M,)."""
    return table.codes(name) if name in table.columns else table.y


def column_levels(table: CountTable, name: str) -> tuple[str, ...]:
    """Return the names of a column's values or, for ``class``, of the classes."""
    return table.levels[table.columns.index(name)] if name in table.columns else table.classes


def _cells(atoms: IntArray, depth: int, label: int | None) -> Iterator[tuple[Intersection, IntArray]]:
    """Yield every cell of every product of columns, those with the label left out, and the atoms it holds, by place."""
    columns = atoms.shape[1]
    for width in range(1, depth + 1):
        for subset in combinations(range(columns), width):
            if width > 1 and label in subset:
                continue
            first, place = distinct(atoms[:, subset])
            order = np.argsort(place, kind="stable")
            inside = np.split(order, np.cumsum(np.bincount(place))[:-1])
            for codes, held in zip(atoms[first][:, subset].tolist(), inside, strict=True):
                yield tuple(zip(subset, codes, strict=True)), held
