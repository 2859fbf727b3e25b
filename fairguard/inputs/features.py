"""What a model is fed: rows of arrays, tensors, or dicts and tuples of them. Knows no model and no file format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairguard.errors import DataError
from fairguard.inputs.groups import is_number, numbers
from fairguard.inputs.limits import listed

Transform = Callable[[Any], Any]
Cut = Callable[[int, int], Any]
"""Gives the features of rows ``low`` to ``high`` of a chunk."""


class Feed(Protocol):
    """Where features come from.

    Attributes:
        columns: columns of the table that it reads.
    """

    @property
    def columns(self) -> Sequence[str]: ...  # noqa: D102

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives the features of a chunk's rows, of which the first is row ``start`` of its source."""
        ...


class NoFeatures:
    """For recorded predictions: nothing is fed to a model."""

    columns: Sequence[str] = ()

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives ``None``."""
        return lambda low, high: None


class Matrix:
    """Columns of numbers as one float32 matrix."""

    def __init__(self, schema: pa.Schema, columns: Sequence[str], *, table: str) -> None:
        """Check that every column holds numbers.

        Raises:
            DataError: some hold text, dates or categories.
        """
        wrong = [name for name in columns if not fits_matrix(schema.field(name).type)]
        if wrong:
            raise DataError(
                f"{table}: {', '.join(wrong)} {'holds' if len(wrong) == 1 else 'hold'} no numbers; encode with "
                f"--transform pkg.module:fn, choose others with --features, or give the data as pkg.module:callable."
            )
        self.columns: Sequence[str] = tuple(columns)
        self._table = table

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives float32 rows, shape (n, F)."""
        matrix = np.empty((rows.num_rows, len(self.columns)), dtype=np.float32)
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, which is the model's to answer
            for j, name in enumerate(self.columns):
                matrix[:, j] = numbers(rows.column(name))
        self._check_complete(matrix, start)
        return lambda low, high: matrix[low:high]

    def _check_complete(self, matrix: NDArray[np.float32], start: int) -> None:
        with np.errstate(invalid="ignore"):
            total = matrix.sum(dtype=np.float64)  # one cheap pass; nan survives a sum
        if not np.isnan(total):
            return
        for row, j in np.argwhere(np.isnan(matrix))[:1]:  # none, where infinities cancelled
            raise DataError(
                f"{self._table}: feature {self.columns[j]!r} has no value in row {start + row} (from 0); fill it with "
                f"--transform pkg.module:fn, or leave the column out with --features."
            )


class Frames:
    """Whatever the user's function makes of a pandas table of ``columns``, in their order."""

    def __init__(self, columns: Sequence[str], transform: Transform) -> None:
        """Keep the function."""
        self.columns = columns
        self._transform = transform

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what calls the function on some rows."""

        import pandas as pd

        chosen = len(self.columns) < rows.num_columns
        hint = f" It gets the columns of --features alone: {listed(list(self.columns))}." if chosen else ""

        def cut(low: int, high: int) -> Any:
            frame = rows.select(list(self.columns)).slice(low, high - low).to_pandas()
            if len(frame.columns) < len(self.columns) and chosen:
                frame = frame.reset_index()[list(self.columns)]  # what pandas saved as an index is a feature by name
            frame.index = pd.RangeIndex(start + low, start + low + len(frame))
            return transformed(self._transform, frame, len(frame), start + low, hint=hint)

        return cut


class Arrays:
    """Arrays or tensors in memory, or dicts and tuples of them."""

    columns: Sequence[str] = ()

    def __init__(self, x: Any, transform: Transform | None = None) -> None:
        """Keep the arrays; the function sees the rows of one batch at a time."""
        self.x = x if transform is not None and not isinstance(x, list) else as_features(x)
        self._transform = transform

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what cuts rows out of the arrays."""

        def cut(low: int, high: int) -> Any:
            part = rows_of(self.x, start + low, start + high)
            return part if self._transform is None else transformed(self._transform, part, high - low, start + low)

        return cut


def fits_matrix(kind: pa.DataType) -> bool:
    """Return whether a column of this type can stand in a matrix of numbers as it is."""
    if pa.types.is_dictionary(kind):
        return False
    return is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def rows_of(x: Any, low: int, high: int) -> Any:
    """Return rows ``low`` to ``high`` of features of any nesting."""
    if x is None:
        return None
    if isinstance(x, dict):
        return {name: rows_of(part, low, high) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(rows_of(part, low, high) for part in x)
    return x[low:high]


def count_rows(x: Any) -> int | None:
    """Return the number of rows of features of any nesting, or ``None`` where its parts disagree or have none."""
    if isinstance(x, dict | tuple):
        counts = {count_rows(part) for part in (x.values() if isinstance(x, dict) else x)}
        return counts.pop() if len(counts) == 1 else None
    shape = tuple(getattr(x, "shape", ()))
    return int(shape[0]) if shape else None


def as_features(x: Any) -> Any:
    """Return features ready for a model: lists and tables as arrays, float64 arrays as float32, the rest as it is.

    Raises:
        DataError: they hold text or categories.
    """
    if isinstance(x, dict):
        return {name: as_features(part) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(as_features(part) for part in x)
    if x is None or hasattr(x, "detach"):
        return x
    array = np.asarray(x)
    if array.dtype.kind in "OUS":
        try:
            return array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"the features are no numbers ({error}); encode text and categories first.") from None
    return array.astype(np.float32) if array.dtype in (np.float64, np.bool_) else array


def transformed(transform: Transform, rows: Any, n_rows: int, start: int, *, hint: str = "") -> Any:
    """Return what ``transform`` makes of some rows; ``hint`` is said where it looks for a column in vain.

    Raises:
        DataError: it raises, or gives another number of rows.
    """
    name = getattr(transform, "__name__", "transform")
    try:
        made = as_features(transform(rows))
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        more = f".{hint}" if hint and isinstance(error, KeyError | AttributeError) else ""
        raise DataError(
            f"--transform {name} failed on rows {start} to {start + n_rows - 1}: {type(error).__name__}: {error}{more}"
        ) from error
    if count_rows(made) != n_rows:
        raise DataError(f"--transform {name} gave {count_rows(made)} rows for {n_rows}; it must give one per row.")
    return made
