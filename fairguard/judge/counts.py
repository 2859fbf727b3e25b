"""The sufficient statistic: how many rows share group codes, label, dense and pruned prediction.

Everything that the judge says reads only this table, so its cost depends on the number of distinct cells and not on the
number of rows, and tables of shards add up exactly to the table of the whole. numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import DataError

WIDEST = 1 << 62
"""Rows with so many possible values have no code in one integer."""
NO_LABEL = -1
"""Code in the label column of a row without a label."""


@dataclass(frozen=True, eq=False)
class CountTable:
    """Counts of rows by (group codes..., label, dense, pruned), sparse: only cells that occur.

    Attributes:
        columns: names of the C sensitive features.
        levels: for each of them, the names of its values; a code is a place in this tuple.
        classes: names of the K classes; a label or prediction is a place in this tuple, ``NO_LABEL`` for no label.
        cells: shape (M, C + 3), int64, unique rows in lexicographic order.
        counts: shape (M,), int64, all positive.
    """

    columns: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    classes: tuple[str, ...]
    cells: IntArray
    counts: IntArray

    @classmethod
    def of(
        cls,
        columns: Sequence[str],
        levels: Sequence[Sequence[str]],
        classes: Sequence[str],
        *,
        codes: ArrayLike,
        y: ArrayLike | None,
        dense: ArrayLike,
        pruned: ArrayLike,
        counts: ArrayLike | None = None,
    ) -> CountTable:
        """Return the table of n rows.

        Args:
            columns: names of the C sensitive features.
            levels: names of their values.
            classes: names of the K classes.
            codes: shape (n, C), each row's place in ``levels``.
            y: shape (n,), label codes, or ``None`` for rows without labels.
            dense: shape (n,), class codes that the dense model predicts.
            pruned: shape (n,), class codes that the pruned model predicts.
            counts: shape (n,), how often each row occurs; 1 if not given.
        """
        answers = np.asarray(dense, dtype=np.int64)
        n = len(answers)
        labels = np.full(n, NO_LABEL, dtype=np.int64) if y is None else np.asarray(y, dtype=np.int64)
        groups = np.asarray(codes, dtype=np.int64).reshape(n, len(columns))
        rows = [*groups.T, labels, answers, np.asarray(pruned, dtype=np.int64)]
        weights = None if counts is None else np.asarray(counts, dtype=np.int64)
        cells, totals = tally(rows, weights)
        return cls(tuple(columns), tuple(tuple(level) for level in levels), tuple(classes), cells, totals)

    @property
    def n(self) -> int:
        """Return the number of rows counted."""
        return int(self.counts.sum())

    @property
    def y(self) -> IntArray:
        """Return the label code of each cell, shape (M,)."""
        return self.cells[:, -3]

    @property
    def dense(self) -> IntArray:
        """Return the dense prediction of each cell, shape (M,)."""
        return self.cells[:, -2]

    @property
    def pruned(self) -> IntArray:
        """Return the pruned prediction of each cell, shape (M,)."""
        return self.cells[:, -1]

    @property
    def labelled(self) -> bool:
        """Return whether every row has a label."""
        return bool((self.y != NO_LABEL).all())

    def codes(self, column: str) -> IntArray:
        """Return the level code of each cell in ``column``, shape (M,)."""
        return self.cells[:, self.columns.index(column)]

    def without(self, column: str) -> CountTable:
        """Return the table of the same rows with one sensitive feature forgotten."""
        at = self.columns.index(column)
        keep = [i for i in range(self.cells.shape[1]) if i != at]
        cells, totals = tally(self.cells[:, keep].T, self.counts)
        columns = self.columns[:at] + self.columns[at + 1 :]
        levels = self.levels[:at] + self.levels[at + 1 :]
        return CountTable(columns, levels, self.classes, cells, totals)

    def of_two(self, *, option: str = "--classes") -> CountTable:
        """Return the table with two classes, if classes are numbered and just two of more occur: labels of 1 and 2.

        Args:
            option: what the user names all classes with.

        Raises:
            DataError: an answer is neither of the two labels.
        """
        used = self.two_numbers()
        if used is None:
            return self
        names = [self.classes[code] for code in used]
        for model, answers in (("dense", self.dense), ("pruned", self.pruned)):
            if len(other := np.setdiff1d(answers, used)):
                raise DataError(
                    f"{model} answers {self.classes[other[0]]!r}, which is no label of the data; its labels are "
                    f"{', '.join(names)}. Name all classes with {option}."
                )
        cells = self.cells.copy()
        cells[:, -3:] = np.where(cells[:, -3:] == NO_LABEL, NO_LABEL, np.searchsorted(used, cells[:, -3:]))
        return replace(self, classes=tuple(names), cells=cells)

    def two_numbers(self) -> IntArray | None:
        """Return the codes of the only two labels, (2,), where classes are numbered and these are not 0 and 1.

        Where fewer labels occur the answers count too. One stray answer makes no third class of two.
        """
        if self.classes != tuple(map(str, range(len(self.classes)))):
            return None
        used = np.setdiff1d(self.y, [NO_LABEL])
        if len(used) < 2:
            used = np.setdiff1d(self.cells[:, -3:], [NO_LABEL])
        return used if len(used) == 2 and used[-1] != 1 else None

    def canonical(self) -> CountTable:
        """Return the same table with levels sorted and unused ones left out."""
        used = tuple(
            tuple(sorted({names[code] for code in np.unique(self.cells[:, i])})) for i, names in enumerate(self.levels)
        )
        cells, totals = tally(_recode(self, _places(used)).T, self.counts)
        return CountTable(self.columns, used, self.classes, cells, totals)


def merge_all(tables: Sequence[CountTable]) -> CountTable:
    """Return the table of all rows of ``tables`` (at least one), exact, whatever their order; one pass over them.

    Levels are united and sorted by name, so that merging is commutative and associative to the last bit.

    Raises:
        ValueError: they are of other columns or classes.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    for other in tables:
        if (first.columns, first.classes) != (other.columns, other.classes):
            raise ValueError(f"tables of {first.columns} and {other.columns} do not merge")
    levels = tuple(tuple(sorted({*chain(*parts)})) for parts in zip(*(table.levels for table in tables), strict=True))
    places = _places(levels)
    cells = np.concatenate([_recode(table, places) for table in tables])
    merged, totals = tally(cells.T, np.concatenate([table.counts for table in tables]))
    return CountTable(first.columns, levels, first.classes, merged, totals)


def _places(levels: tuple[tuple[str, ...], ...]) -> list[dict[str, int]]:
    """Return the codes of each column's names."""
    return [{name: code for code, name in enumerate(names)} for names in levels]


def _recode(table: CountTable, places: list[dict[str, int]]) -> IntArray:
    """Return the table's cells with the codes that ``places`` gives its names."""
    cells = table.cells.copy()
    for i, (old, place) in enumerate(zip(table.levels, places, strict=True)):
        if old:
            translate = np.fromiter((place.get(name, -1) for name in old), dtype=np.int64, count=len(old))
            cells[:, i] = translate[cells[:, i]]
    return cells


def tally(columns: Sequence[IntArray] | IntArray, counts: IntArray | None = None) -> tuple[IntArray, IntArray]:
    """Return the distinct rows in lexicographic order, shape (M, C), and how many rows are each, shape (M,).

    Args:
        columns: C arrays of n codes.
        counts: shape (n,), how often each row occurs; 1 if not given.
    """
    n = len(columns[0])
    codes, spans = _radix(columns) if n else (None, ())
    if codes is None:
        rows = np.column_stack(list(columns))
        first, inverse = distinct(rows)
        return rows[first], _sums(inverse, counts, len(first))
    size = int(np.prod(spans))
    if size <= max(4 * n, 1 << 16):  # few possible cells: count them all, without sorting
        totals = _sums(codes, counts, size)
        found = np.flatnonzero(totals)
        totals = totals[found]
    else:
        found, inverse = np.unique(codes, return_inverse=True)
        totals = _sums(inverse, counts, len(found))
    digits = np.unravel_index(found, spans)
    return np.column_stack([d + c.min() for d, c in zip(digits, columns, strict=True)]), totals


def distinct(rows: NDArray[np.signedinteger]) -> tuple[IntArray, IntArray]:
    """Return where each distinct row first stands, (M,), in lexicographic order, and each row's place there, (n,)."""
    if not rows.size:
        _, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return first, place.ravel()
    columns = np.ascontiguousarray(rows.T)
    codes, spans = _radix(columns)
    if codes is None:
        codes, size = _ranked(columns, spans), len(rows)
    else:
        size = math.prod(spans)
    if size <= 4 * len(rows):  # few possible codes: counted, not sorted
        first = np.full(size, -1)
        first[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
        seen = first >= 0
        return first[seen], (np.cumsum(seen) - 1)[codes]
    _, first, place = np.unique(codes, return_index=True, return_inverse=True)
    return first, place


def one_to_one(codes: IntArray, y: IntArray) -> bool:
    """Return whether a column's values and the classes of the same rows, shape (n,) each, say the same: two or more."""
    values, classes = len(np.unique(codes)), len(np.unique(y))
    return values == classes > 1 and len(distinct(np.column_stack([codes, y]))[0]) == values


def _ranked(columns: NDArray[np.signedinteger], spans: Sequence[int]) -> IntArray:
    """Return the place among the distinct rows, in lexicographic order, of each row too wide for one code, shape (n,).

    As many columns at a time as one integer holds: comparing whole rows of a thousand classes takes minutes.
    """
    n = columns.shape[1]
    place, known = np.zeros(n, dtype=np.int64), 1
    start = 0
    while start < len(columns) and known < n:
        stop, size = start + 1, spans[start]
        while stop < len(columns) and size * spans[stop] < WIDEST:
            size *= spans[stop]
            stop += 1
        code = _radix(columns[start:stop])[0]
        ranks, rank = np.unique(columns[start] if code is None else code, return_inverse=True)
        found, place = np.unique(place * len(ranks) + rank, return_inverse=True)
        known, start = len(found), stop
    return place


def _radix(columns: Sequence[IntArray] | NDArray[np.signedinteger]) -> tuple[IntArray | None, tuple[int, ...]]:
    """Return each row as one integer that sorts as the row does (``None`` if too wide), and the spans of its digits."""
    lows = [int(column.min()) for column in columns]
    spans = tuple(int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True))
    if math.prod(spans) >= WIDEST:
        return None, spans
    code = np.subtract(columns[0], lows[0], dtype=np.int64)
    for column, low, span in zip(columns[1:], lows[1:], spans[1:], strict=True):
        code *= span
        code += column
        code -= low
    return code, spans


def _sums(places: IntArray, counts: IntArray | None, size: int) -> IntArray:
    """Return how many rows fall on each place; floats hold the sums exactly up to 2^53 rows."""
    if counts is None:
        return np.bincount(places, minlength=size)
    return np.bincount(places, weights=counts, minlength=size).astype(np.int64)
