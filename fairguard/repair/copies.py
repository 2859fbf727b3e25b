"""Which rows are copies of each other, and which are only alike, as people are in a table of few coarse columns.

A copy on both sides of a division lets training see what the verdict is reached on. Rows that are merely alike do not:
they are other people. Nor may they be kept apart: where most people have somebody who is like them, label included,
what would be left to train on is whoever has the rarer label (a survey of 61,000 people by age, schooling and region
loses 95 % of its training rows, and what is repaired with the others is not fair). Knows rows; knows nothing of what
they are divided for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.inputs.nested import leaves
from fairguard.repair.rows import Rows

CHANCE = 0.01
"""Equal rows may be alike by chance where chance gives a row like them so many equals or more."""
OVERLAP = 1.5
"""Two sets of rows overlap where rows of one are found in the other so many times as often as in their own."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What rows consist of, over one or more sets of rows, one after the other.

    Attributes:
        code: shape (n,), a number that is the same where features, label and groups are.
        alike: shape (n,), whether equals of the row need not be copies of it.
    """

    code: IntArray
    alike: NDArray[np.bool_]

    @property
    def copies(self) -> IntArray:
        """Return a number for each row, shape (n,), that only copies share."""
        n = len(self.code)
        return np.where(self.alike, n + np.arange(n), self.code)


def contents(*parts: Rows) -> Contents:
    """Return what the rows of all ``parts`` consist of.

    Equal rows are alike, not copies, where somebody has the same features and another label or other groups, so that
    features do not tell people apart; or where columns that had nothing to do with each other would bring such a row
    about again: ``n`` times the product of the shares of the ``n`` other rows that have its value in each column. A
    value that nobody else has tells its row apart.
    """
    features = _numbered(np.array([digest for part in parts for digest in _digests(part)]))
    others = np.concatenate([np.column_stack([part.y.cpu().numpy(), part.codes.cpu().numpy()]) for part in parts])
    code = _numbered(np.column_stack([features, others]))
    first, times = np.unique(code, return_index=True, return_counts=True)[1:]
    shared = np.bincount(features[first])[features[first]] > 1
    return Contents(code, (shared | _by_chance(parts, first, times))[code])


def others_than(both: Contents, n: int) -> NDArray[np.bool_]:
    """Return which of the first ``n`` rows are none of the rows after them, shape (n,).

    Those that equal none of them, and those that do by chance. Where one set contains the other, rows were handed on:
    each takes one that is equal with it. Where more rows are equal than two draws of the same people would have in
    common, some were handed on, and nobody knows which: no equal row stays.
    """
    mine, theirs = both.code[:n], both.code[n:]
    size = int(both.code.max()) + 1
    here, there = np.bincount(mine, minlength=size), np.bincount(theirs, minlength=size)
    by_chance = both.alike[:n]
    if (here <= there).all() or (there <= here).all():
        by_chance = by_chance & (_place_among_equals(mine) >= there[mine])
    elif (there[mine] > 0).mean() > OVERLAP * (there[theirs] > 1).mean():
        by_chance = np.zeros(n, dtype=np.bool_)
    fresh: NDArray[np.bool_] = (there[mine] == 0) | by_chance
    return fresh


def _place_among_equals(code: IntArray) -> IntArray:
    """Return how many rows before each one have its code, shape (n,)."""
    order = code.argsort(kind="stable")
    first = np.searchsorted(code[order], code[order])
    place = np.empty_like(code)
    place[order] = np.arange(len(code)) - first
    return place


def _by_chance(parts: Sequence[Rows], first: IntArray, times: IntArray) -> NDArray[np.bool_]:
    """Return which contents independent columns would bring about again, shape (D,).

    Args:
        parts: all rows.
        first: shape (D,), a row of each content.
        times: shape (D,), how many rows have it.
    """
    n = sum(len(part) for part in parts)
    left = np.flatnonzero(times > 1)
    expected = (n - times[left]).astype(float)
    for column in _columns(parts):
        value, count = np.unique(column, return_inverse=True, return_counts=True)[1:]
        expected *= (count[value[first[left]]] - times[left]) / np.maximum(n - times[left], 1)
        left, expected = left[expected >= CHANCE], expected[expected >= CHANCE]
        if not len(left):
            break  # soon, for images and texts
    chance = np.zeros(len(first), dtype=np.bool_)
    chance[left] = True
    return chance


def _columns(parts: Sequence[Rows]) -> Iterator[NDArray[Any]]:
    """Yield labels, groups and features of all parts, a column of shape (n,) at a time."""
    tables = [[t.cpu().reshape(len(part), -1) for t in (part.y, part.codes, *leaves(part.x))] for part in parts]
    for pieces in zip(*tables, strict=True):
        for column in range(min(piece.shape[1] for piece in pieces)):  # texts of two files may be padded to two lengths
            yield np.concatenate([piece[:, column].numpy() for piece in pieces])


def _digests(rows: Rows) -> list[bytes]:
    """Return a digest of each row's features."""
    tables = [np.ascontiguousarray(t.cpu().numpy()).reshape(len(rows), -1) for t in leaves(rows.x)]
    return [
        hashlib.blake2b(b"".join(table[i].tobytes() for table in tables), digest_size=16).digest()
        for i in range(len(rows))
    ]


def _numbered(keys: NDArray[Any]) -> IntArray:
    """Return a number for each key, or row of keys, the same where they are equal."""
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel().astype(np.int64)
