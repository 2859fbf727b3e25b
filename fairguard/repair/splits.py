"""Rows to train on, to tune on and to verify on: disjoint, and alike in groups and labels. Knows no model.

Copies stay on one side, and so do rows with equal ids (or of one cluster).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import DataError
from fairguard.inputs.rows import Batch, DataRecord, Source, take
from fairguard.repair.copies import contents, others_than
from fairguard.repair.rows import Rows

SHARES = {"train": 0.5, "tune": 0.2, "verify": 0.3}
"""How one set of rows is divided, when no other rows to train or to verify on are given."""


@dataclass(frozen=True, eq=False)
class Splits:
    """Row numbers of each split, ascending, in the rows that were split."""

    train: IntArray
    tune: IntArray
    verify: IntArray

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of rows of each split."""
        return {"train": len(self.train), "tune": len(self.tune), "verify": len(self.verify)}


def split(rows: Rows, *, seed: int, verify: bool = True) -> Splits:
    """Return a division of ``rows``, stratified by groups and label.

    Args:
        rows: what is divided.
        seed: of the division.
        verify: whether to hold rows back for the verdict, because no others were given.

    Raises:
        DataError: too few rows.
    """
    units, first = _units(rows)
    shares = np.array([share for name, share in SHARES.items() if verify or name != "verify"])
    side = _sides(_strata(rows)[first], shares / shares.sum(), np.random.default_rng(seed))[units]
    parts = [np.flatnonzero(side == i).astype(np.int64) for i in range(3)]
    if min(len(part) for part in parts[: len(shares)]) == 0:
        raise DataError(
            f"{len(rows)} rows ({len(first)} of them different) are too few to divide into "
            f"{', '.join(list(SHARES)[: len(shares)])}; repair needs some hundred rows to learn from."
        )
    return Splits(parts[0], parts[1], parts[2])


class Apart(NamedTuple):
    """Which rows are none of some others.

    Attributes:
        fresh: their numbers, ascending.
        by_chance: how many of them equal one of the others all the same, as people do by chance.
        named: how many rows are left out for their id or cluster alone: no content says that they are the same.
    """

    fresh: IntArray
    by_chance: int
    named: int


def apart(rows: Rows, from_rows: Rows, *, by_id: bool) -> Apart:
    """Return which ``rows`` are not ``from_rows`` too.

    Args:
        rows: to choose from.
        from_rows: to keep apart from; their labels and groups are coded alike.
        by_id: whether equal ids make two rows the same.
    """
    both = contents(rows, from_rows)
    other = others_than(both, len(rows))
    fresh = other & ~np.isin(rows.ids.astype(str), from_rows.ids.astype(str)) if by_id else other
    equal = np.isin(both.code[: len(rows)], both.code[len(rows) :])
    return Apart(np.flatnonzero(fresh).astype(np.int64), int((equal & fresh).sum()), int((other & ~fresh).sum()))


class Picked(Source):
    """Some rows of a source, as a source.

    Of what a source may know beside, it says what holds of some rows as of all. How often ids repeat holds of all rows
    alone; how they were drawn and opened is told where all of them are.
    """

    def __init__(self, source: Source, index: IntArray) -> None:
        """Keep the row numbers ``index``, ascending."""
        self._source, self._index = source, index

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the sensitive features."""
        return self._source.columns

    @property
    def levels(self) -> Sequence[Sequence[str]]:
        """Return the names of their values."""
        return self._source.levels

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the names of the classes."""
        return self._source.classes

    @property
    def n_rows(self) -> int:
        """Return how many rows were picked."""
        return len(self._index)

    @property
    def labelled(self) -> bool:
        """Return whether rows have labels."""
        return self._source.labelled

    @property
    def record(self) -> DataRecord:
        """Return where the rows come from."""
        record = self._source.record
        chosen = hashlib.sha256(self._index.tobytes()).hexdigest()
        return DataRecord(record.path, record.sha256, record.kind, {**record.options, "rows_chosen": chosen})

    @property
    def features(self) -> tuple[str, ...]:
        """Return the columns that make up a matrix of features."""
        return self._source.features

    @property
    def reordered(self) -> bool:
        """Return whether the classes are in the order of a model."""
        return self._source.reordered

    @property
    def double(self) -> bool:
        """Return whether features of float64 stay so."""
        return self._source.double

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield the picked rows in order, at most ``batch_size`` at a time."""
        start = 0
        for batch in self._source.batches(batch_size):
            low, high = np.searchsorted(self._index, [start, start + len(batch)])
            if high > low:
                yield take(batch, self._index[low:high] - start)
            start += len(batch)


def _units(rows: Rows) -> tuple[IntArray, IntArray]:
    """Return each row's unit, shape (n,), and each unit's first row: copies and rows with equal ids are one unit."""
    _, by_content = np.unique(contents(rows).copies, return_inverse=True)
    _, by_id = np.unique(rows.ids.astype(str), return_inverse=True)
    unit = np.arange(len(rows))
    while True:
        before = unit
        for link in (by_content, by_id):
            lowest = np.full(int(link.max()) + 1, len(rows))
            np.minimum.at(lowest, link, unit)
            unit = lowest[link]
        if np.array_equal(unit, before):
            first, units = np.unique(unit, return_inverse=True)
            return units.astype(np.int64), first.astype(np.int64)


def _strata(rows: Rows) -> IntArray:
    keys = np.column_stack([rows.codes.cpu().numpy(), rows.y.cpu().numpy()])
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _sides(strata: IntArray, shares: NDArray[Any], rng: np.random.Generator) -> IntArray:
    """Return the side of each unit, shape (u,): every stratum divided by ``shares`` as its size allows."""
    side = np.empty(len(strata), dtype=np.int64)
    edges = np.cumsum(shares)[:-1]
    sizes = np.unique(strata, return_counts=True)[1]
    for of_stratum in np.split(np.argsort(strata, kind="stable"), np.cumsum(sizes)[:-1]):
        at = rng.permutation(of_stratum)
        # A random offset decides where the remainder of a small stratum goes; equal spacing does the rest.
        place = (np.arange(len(at)) + rng.random()) / len(at)
        side[at] = np.searchsorted(edges, place, side="right")
    return side
