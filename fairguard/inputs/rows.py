"""What every data source gives and every model takes: batches of rows. Knows no file format and no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

IDS = ("id", "ids", "row_id", "sample_id")
"""Names under which rows and recorded answers say which row they are."""
MISSING = "(missing)"
"""Name of the group of rows whose sensitive feature has no value."""


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
    """

    x: Any
    y: NDArray[np.int64] | None
    codes: NDArray[np.int64]
    ids: NDArray[Any]
    start: int = 0
    weight: NDArray[np.float64] | None = None
    cluster: NDArray[Any] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)


def take(batch: Batch, at: NDArray[np.int64]) -> Batch:
    """Return the rows of ``batch`` at positions ``at``, shape (m,), in that order."""
    return Batch(
        _rows(batch.x, at),
        None if batch.y is None else batch.y[at],
        batch.codes[at],
        batch.ids[at],
        batch.start,
        None if batch.weight is None else batch.weight[at],
        None if batch.cluster is None else batch.cluster[at],
    )


def _rows(x: Any, at: NDArray[np.int64]) -> Any:
    if x is None:
        return None
    if isinstance(x, dict):
        return {name: _rows(part, at) for name, part in x.items()}
    if isinstance(x, tuple | list):
        return type(x)(_rows(part, at) for part in x)
    return x[at]


@dataclass(frozen=True)
class DataRecord:
    """What the reproducibility record says of the rows."""

    path: str | None = None
    sha256: str | None = None
    kind: str = "in memory"
    options: dict[str, Any] = field(default_factory=dict)


@runtime_checkable
class Source(Protocol):
    """Labelled rows with sensitive features, readable any number of times, always in the same order.

    Attributes:
        columns: names of the C sensitive features.
        levels: for each, the names of its values; append-only while batches are read.
        classes: names of the classes, or ``None`` where only the models know how many there are.
        n_rows: number of rows, or ``None`` if unknown before reading.
        labelled: whether rows have labels.
        record: where the rows come from.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def levels(self) -> Sequence[Sequence[str]]: ...  # noqa: D102

    @property
    def classes(self) -> tuple[str, ...] | None: ...  # noqa: D102

    @property
    def n_rows(self) -> int | None: ...  # noqa: D102

    @property
    def labelled(self) -> bool: ...  # noqa: D102

    @property
    def record(self) -> DataRecord: ...  # noqa: D102

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, at most ``batch_size`` at a time."""
        ...
