"""Candidates: many pairs of rows at once that differ in one column only, drawn and made simpler. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.schema import Schema

MAX_CHANGED = 3
"""Columns of a real row that a candidate may change, besides the swapped one."""
STEPS = 64
"""Values tried at most on the way from a changed value to the real row's own."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """m pairs of rows: a real row, possibly with a few columns changed, and the same with another group.

    Attributes:
        schema: the rows that they follow.
        swap: the column in which the two rows of a pair differ.
        rows: shape (m,), the real rows that they start from.
        places: shape (m, C), the place of each changeable column's value among the column's different values.
        others: shape (m,), the place of the second row's value in column ``swap``.
    """

    schema: Schema
    swap: str
    rows: IntArray
    places: IntArray
    others: IntArray

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.rows)

    def at(self, which: NDArray[np.integer] | Sequence[int] | slice) -> Pairs:
        """Return some of the pairs, in the order of ``which``."""
        return replace(self, rows=self.rows[which], places=self.places[which], others=self.others[which])

    def changed(self) -> NDArray[np.bool_]:
        """Return which columns differ from the real row, shape (m, C); the swapped one never does in the first row."""
        differ: NDArray[np.bool_] = self.places != self.schema.places[self.rows]
        return differ

    def table(self) -> pa.Table:
        """Return 2m rows: the first row of each pair, then the second of each."""
        changed = set(np.nonzero(self.changed())[1])
        twice = np.concatenate([self.places, self.places])
        made = {name: twice[:, j] for j, name in enumerate(self.schema.columns) if j in changed}
        own = self.schema.columns[self.swap].places[self.rows]
        return self.schema.build(np.tile(self.rows, 2), {**made, self.swap: np.concatenate([own, self.others])})


def real_pairs(schema: Schema, swap: str, *, at_most: int, rng: np.random.Generator) -> Pairs:
    """Return real rows, each with every other group it could have, or a random choice of ``at_most`` of those."""
    column = schema.columns[swap]
    rows = np.repeat(np.arange(len(schema)), column.present)
    others = np.tile(np.arange(column.present), len(schema))
    differing = np.flatnonzero(others != column.places[rows])
    if len(differing) > at_most:
        differing = rng.choice(differing, size=at_most, replace=False)
    rows, others = rows[differing], others[differing]
    return Pairs(schema, swap, rows, schema.places[rows], others)


def changed_pairs(pairs: Pairs, *, rng: np.random.Generator) -> Pairs:
    """Return the pairs, each with one to three columns set to values that other real rows have there."""
    names = list(pairs.schema.columns)
    free = [j for j, name in enumerate(names) if name != pairs.swap]
    if not free:
        return pairs.at([])
    m = len(pairs)
    order = rng.random((m, len(free))).argsort(axis=1)  # a random order of the columns for each pair
    how_many = rng.integers(1, MAX_CHANGED + 1, size=(m, 1))
    sizes = [len(pairs.schema.columns[names[j]].holders) for j in free]
    drawn = rng.integers(0, sizes, size=(m, len(free)))
    places = pairs.places.copy()
    places[:, free] = np.where(order < how_many, drawn, places[:, free])
    return replace(pairs, places=places)


def fewer_changes(pairs: Pairs) -> Pairs:
    """Return every pair with every choice of its changed columns: none of them, some, and all."""
    own = pairs.schema.places
    which: list[int] = []
    places: list[IntArray] = []
    for i, changed in enumerate(pairs.changed()):
        columns = np.flatnonzero(changed)
        for size in range(len(columns) + 1):
            for kept in map(list, combinations(columns, size)):
                row = own[pairs.rows[i]].copy()
                row[kept] = pairs.places[i, kept]
                which.append(i)
                places.append(row)
    return replace(pairs.at(which), places=np.array(places, dtype=np.int64).reshape(len(which), own.shape[1]))


def nearer(pair: Pairs, column: int) -> Pairs:
    """Return one pair with values of ``column`` between the real row's own and the present one, nearest first."""
    own, now = int(pair.schema.places[pair.rows[0], column]), int(pair.places[0, column])
    between = abs(now - own) - 1
    steps: IntArray = np.unique(np.linspace(1, between, min(STEPS, between)).round().astype(np.int64))
    places = np.repeat(pair.places, len(steps), axis=0)
    places[:, column] = own + np.sign(now - own) * steps
    return replace(pair.at(np.zeros(len(steps), dtype=np.int64)), places=places)
