"""What every data source gives and every model takes: batches of rows. Knows no file format and no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.inputs.nested import leaves, mapped

IDS = ("id", "ids", "row_id", "sample_id")
"""Names under which rows and recorded answers say which row they are."""
MISSING = "(missing)"
"""Name of the group of rows whose sensitive feature has no value."""
MAX_CLASSES = 10_000
"""More different values are no class labels, and whole numbers from here on are names: they count no classes."""


def by_lower(columns: Iterable[str]) -> dict[str, str]:
    """Return columns by their names in lower case; of several alike the one written so: id, not ID."""
    return {column.lower(): column for column in sorted(columns, key=str.islower)}


def id_column(columns: Iterable[str], named: str | None = None) -> str | None:
    """Return the column that says which row a row or an answer is: the one named, if it is there, else a usual one."""
    columns = list(columns)
    if named is not None and named in columns:
        return named
    lower = by_lower(columns)
    return next((lower[name] for name in IDS if name in lower), None)


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows, in the order of their source.

    Attributes:
        x: what a model takes: array or tensor of shape (n, ...), or a dict or tuple of such; ``None`` where the source
            has no features (both models are recorded predictions).
        y: shape (n,), int64 label codes (places in the source's classes); ``None`` without labels.
        codes: shape (n, C), int64 level codes of the C sensitive features.
        ids: shape (n,), the rows' identifiers: the id column's values, else row numbers from 0.
        start: number of the first row in its source.
        weight: shape (n,), float64 weights of the rows, where a column of them was named.
        cluster: shape (n,), values that rows belonging together share (rows of one person), where a column was named.
        picked: shape (n,), the rows' numbers in their source, where they do not follow one another.
    """

    x: Any
    y: NDArray[np.int64] | None
    codes: NDArray[np.int64]
    ids: NDArray[Any]
    start: int = 0
    weight: NDArray[np.float64] | None = None
    cluster: NDArray[Any] | None = None
    picked: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    @property
    def rows(self) -> NDArray[np.int64]:
        """Return the rows' numbers in their source, shape (n,)."""
        return np.arange(self.start, self.start + len(self)) if self.picked is None else self.picked

    def row(self, at: int) -> int:
        """Return the number in the source of the row at place ``at``."""
        return self.start + at if self.picked is None else int(self.picked[at])


def take(batch: Batch, at: NDArray[np.int64]) -> Batch:
    """Return the rows of ``batch`` at positions ``at``, shape (m,), in that order."""
    rows = batch.rows[at]
    return Batch(
        mapped(lambda part: part[at], batch.x),
        None if batch.y is None else batch.y[at],
        batch.codes[at],
        batch.ids[at],
        int(rows[0]) if len(rows) else batch.start,
        None if batch.weight is None else batch.weight[at],
        None if batch.cluster is None else batch.cluster[at],
        picked=rows,
    )


def rows_with_nan(batch: Batch) -> NDArray[np.bool_]:
    """Return which rows of a batch hold nan among what the model takes, shape (n,)."""
    found = np.zeros(len(batch), dtype=bool)
    for part in leaves(batch.x):
        values = part.detach().float().cpu().numpy() if hasattr(part, "detach") else np.asarray(part)
        if values.dtype.kind == "f" and values.shape[:1] == found.shape:
            found |= np.isnan(values.reshape(len(found), -1)).any(axis=1)
    return found


@dataclass(frozen=True)
class DataRecord:
    """What the reproducibility record says of the rows."""

    path: str | None = None
    sha256: str | None = None
    kind: str = "in memory"
    options: dict[str, Any] = field(default_factory=dict)


MOST_IDS = 1_000_000
"""Most different ids that are remembered, eight bytes each."""
_WAITING = 1 << 18
"""Hashes that are sorted together."""


class IdCount:
    """How many different ids rows have: exactly up to :data:`MOST_IDS`, beyond it at most so many.

    Of an id 64 bits of a hash are kept, so that memory is bounded and no id is.
    """

    def __init__(self, column: str) -> None:
        """Start without rows; ``column`` is where the ids stand."""
        self.column = column
        self.rows = 0
        self._new = 0
        self._known = np.empty(0, dtype=np.int64)  # sorted
        self._waiting: list[NDArray[np.int64]] = []

    def add(self, ids: NDArray[Any]) -> None:
        """Count the next rows' ids, shape (n,)."""
        if ids.dtype.kind in "iubmM":
            hashes = ids.astype(np.int64)
        elif ids.dtype.kind == "f":
            hashes = ids.astype(np.float64).view(np.int64)
        else:
            hashes = np.fromiter(map(hash, map(str, ids.tolist())), dtype=np.int64, count=len(ids))
        self.rows += len(ids)
        self._waiting.append(hashes)
        if sum(map(len, self._waiting)) >= _WAITING:
            self._settle()

    @property
    def different(self) -> int:
        """Return the number of different ids; where it is ``cut``, the highest that it can be."""
        self._settle()
        return self._new

    @property
    def cut(self) -> bool:
        """Return whether not all ids could be remembered."""
        return self.different > MOST_IDS

    def _settle(self) -> None:
        if not any(map(len, self._waiting)):
            return
        found = np.sort(np.concatenate(self._waiting))
        found = found[np.append(True, found[1:] != found[:-1])]  # np.unique takes five times as long
        self._waiting = []
        at = np.searchsorted(self._known, found)
        old = at < len(self._known)
        old[old] = self._known[at[old]] == found[old]
        self._new += int(len(found) - old.sum())
        kept = found[~old][: MOST_IDS - len(self._known)]
        if len(kept):
            self._known = np.sort(np.concatenate([self._known, kept]), kind="stable")  # merges two sorted runs


class Source(ABC):
    """Labelled rows with sensitive features, readable any number of times, always in the same order.

    What is abstract has every source; the rest is what some know of their rows, and what it is where nobody knows.
    """

    @property
    @abstractmethod
    def columns(self) -> tuple[str, ...]:
        """Return the names of the C sensitive features."""

    @property
    @abstractmethod
    def levels(self) -> Sequence[Sequence[str]]:
        """Return, for each sensitive feature, the names of its values; append-only while batches are read."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...] | None:
        """Return the names of the classes, or ``None`` where only the models know how many there are."""

    @property
    @abstractmethod
    def n_rows(self) -> int | None:
        """Return the number of rows, or ``None`` if unknown before reading."""

    @property
    @abstractmethod
    def labelled(self) -> bool:
        """Return whether rows have labels."""

    @property
    @abstractmethod
    def record(self) -> DataRecord:
        """Return where the rows come from."""

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, at most ``batch_size`` at a time."""

    @property
    def features(self) -> tuple[str, ...]:
        """Return the columns that make up a matrix of features; nothing for other kinds of features."""
        return ()

    @property
    def found(self) -> tuple[str, ...]:
        """Return the labels that rows have, sorted, where they are known before reading: classes may have none."""
        return ()

    @property
    def reordered(self) -> bool:
        """Return whether the classes are in the order of a model, and not in that of the values themselves."""
        return False

    @property
    def double(self) -> bool:
        """Return whether features of float64 stay so."""
        return False

    @property
    def id_count(self) -> IdCount | None:
        """Return how many different ids there are, where rows of one id could belong together unsaid."""
        return None

    @property
    def drawn(self) -> str:
        """Return ``""`` if all readings give the same rows, ``"by seed"`` if those of one seed do, else ``"anew"``."""
        return ""

    @property
    def note(self) -> str:
        """Return what the reader of a verdict should know of how the rows were opened; mostly nothing."""
        return ""
