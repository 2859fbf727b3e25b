"""What a model is fed: rows of arrays, tensors, or dicts and tuples of them. Knows no model and no file format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairguard.errors import DataError
from fairguard.inputs.groups import is_number, numbers
from fairguard.inputs.nested import count_rows, leaves, mapped
from fairguard.names import listed

Transform = Callable[[Any], Any]
Cut = Callable[[int, int], Any]
"""Gives the features of rows ``low`` to ``high`` of a chunk."""


class Feed(Protocol):
    """Where features come from.

    Attributes:
        columns: columns of the table that it reads.
        double: whether features of float64 stay so; else they are float32.
    """

    columns: Sequence[str]
    double: bool

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives the features of a chunk's rows, of which the first is row ``start`` of its source."""
        ...


class NoFeatures:
    """For recorded predictions: nothing is fed to a model."""

    columns: Sequence[str] = ()
    double = False

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives ``None``."""
        return lambda low, high: None


class Matrix:
    """Columns of numbers as one matrix, of float32 or, if ``double``, of float64."""

    def __init__(self, schema: pa.Schema, columns: Sequence[str], *, table: str, double: bool = False) -> None:
        """Check that every column holds numbers.

        Raises:
            DataError: some hold text, dates or categories.
        """
        wrong = [name for name in columns if not fits_matrix(schema.field(name).type)]
        if wrong:
            hold, them = ("holds", "it") if len(wrong) == 1 else ("hold", "them")
            raise DataError(
                f"{table}: {', '.join(wrong)} {hold} no numbers; encode with --transform pkg.module:fn, leave {them} "
                f"out with --features (what is no label, group or id is one), or give the data as pkg.module:callable."
            )
        self.columns: Sequence[str] = tuple(columns)
        self._table = table
        self.double = double

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives rows of numbers, shape (n, F)."""
        matrix: NDArray[np.floating] = np.empty(
            (rows.num_rows, len(self.columns)), dtype=np.float64 if self.double else np.float32
        )
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, which is the model's to answer
            for j, name in enumerate(self.columns):
                matrix[:, j] = numbers(rows.column(name))
        self._check_complete(matrix, start)
        return lambda low, high: matrix[low:high]

    def _check_complete(self, matrix: NDArray[np.floating], start: int) -> None:
        with np.errstate(invalid="ignore"):
            total = matrix.sum(dtype=np.float64)  # one cheap pass; nan survives a sum
        if not np.isnan(total):
            return
        for row, j in np.argwhere(np.isnan(matrix))[:1]:  # none, where infinities cancelled
            raise DataError(
                f"{self._table}: feature {self.columns[j]!r} has no value in row {start + row} (from 0); fill it with "
                f"--transform pkg.module:fn, or leave the column out with --features."
            )


class Columns:
    """Columns by the names of a graph's inputs, one each: numbers, or text as it is."""

    def __init__(self, schema: pa.Schema, inputs: Mapping[str, str], *, table: str, double: bool = False) -> None:
        """Keep which column is for which of the ``inputs``."""
        self.columns: Sequence[str] = tuple(dict.fromkeys(inputs.values()))
        self._inputs, self._table, self.double = dict(inputs), table, double
        self._text = {name for name in self.columns if not fits_matrix(schema.field(name).type)}

    @staticmethod
    def matched(inputs: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
        """Return the column of each input, nothing if some has none: exporters write education-num as education_num."""
        written = {re.sub(r"\W", "_", column): column for column in reversed(columns)}
        known = written | {column: column for column in columns}
        return {name: known[name] for name in inputs} if all(name in known for name in inputs) else {}

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what gives a dict of rows, shape (n, 1) each."""
        made = {name: self._values(rows.column(name), name, start) for name in self.columns}
        return lambda low, high: {name: made[column][low:high] for name, column in self._inputs.items()}

    def _values(self, column: Any, name: str, start: int) -> NDArray[Any]:
        missing = np.flatnonzero(column.is_null(nan_is_null=True))
        if len(missing):
            raise DataError(
                f"{self._table}: feature {name!r} has no value in row {start + missing[0]} (from 0); fill it with "
                f"--transform pkg.module:fn, which returns a dict of arrays (rows, 1)."
            )
        if name in self._text:
            return np.array(column.cast(pa.string()).to_pylist(), dtype=object)[:, None]
        values = numbers(column)[:, None]
        return values if self.double else values.astype(np.float32)


class Frames:
    """Whatever the user's function makes of a pandas table of ``columns``, in their order."""

    def __init__(self, columns: Sequence[str], transform: Transform, *, double: bool = False) -> None:
        """Keep the function; ``double``: float64 that it makes stays so."""
        self.columns: Sequence[str] = columns
        self._transform, self.double = transform, double

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
            return transformed(self._transform, frame, len(frame), start + low, hint=hint, double=self.double)

        return cut


class Arrays:
    """Arrays or tensors in memory, or dicts and tuples of them."""

    columns: Sequence[str] = ()

    def __init__(self, x: Any, transform: Transform | None = None, *, double: bool = False) -> None:
        """Keep the arrays; the function sees the rows of one batch at a time. ``double``: float64 stays so."""
        self.x = x if transform is not None and not isinstance(x, list) else as_features(x, double=double)
        self._transform, self.double = transform, double

    def chunk(self, rows: pa.Table, start: int) -> Cut:
        """Return what cuts rows out of the arrays."""

        def cut(low: int, high: int) -> Any:
            part = rows_of(self.x, start + low, start + high)
            if self._transform is None:
                return part
            return transformed(self._transform, part, high - low, start + low, double=self.double)

        return cut


def fits_matrix(kind: pa.DataType) -> bool:
    """Return whether a column of this type can stand in a matrix of numbers as it is."""
    if pa.types.is_dictionary(kind):
        return False
    return is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def rows_of(x: Any, low: int, high: int) -> Any:
    """Return rows ``low`` to ``high`` of features of any nesting."""
    return mapped(lambda part: part[low:high], x)


def as_features(x: Any, start: int = 0, *, double: bool = False) -> Any:
    """Return features ready for a model: lists and tables as arrays, float64 arrays as float32, the rest as it is.

    Booleans are numbers where they are all there is; beside others they may be a mask, and stay as they are.

    Args:
        x: the features.
        start: number of their first row in its source.
        double: whether float64 stays, for a model that computes in it: whole numbers such as times have more digits
            than float32.

    Raises:
        DataError: they hold text or categories.
    """

    def ready(part: Any) -> Any:
        if hasattr(part, "detach"):
            return part
        array = np.asarray(part)
        if array.dtype.kind in "OUS":
            return _numbers(array, start, np.float64 if double else np.float32)
        return array.astype(np.float32) if array.dtype == np.float64 and not double else array

    made = mapped(ready, x)
    if all(isinstance(part, np.ndarray) and part.dtype == np.bool_ for part in leaves(made)):
        return mapped(lambda part: part.astype(np.float32), made)
    return made


def _numbers(array: NDArray[Any], start: int, dtype: type[np.floating]) -> NDArray[np.floating]:
    """Return an array of text or objects as numbers, which its values may well be."""
    try:
        return array.astype(dtype)
    except (TypeError, ValueError) as error:
        why = str(error)
    for row, cells in enumerate(array if array.ndim else ()):
        try:
            np.asarray(cells).astype(np.float32)
        except (TypeError, ValueError):
            why = f"{why} in row {start + row}, from 0"
            break
    raise DataError(f"the features are no numbers ({why}); encode text and categories first.")


def transformed(
    transform: Transform, rows: Any, n_rows: int, start: int, *, hint: str = "", double: bool = False
) -> Any:
    """Return what ``transform`` makes of some rows; ``hint`` is said where it looks for a column in vain.

    Raises:
        DataError: it raises, or gives another number of rows.
    """
    name = getattr(transform, "__name__", "transform")
    try:
        made = as_features(transform(rows), start, double=double)
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
