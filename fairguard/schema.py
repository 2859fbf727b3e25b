"""What rows of a table can look like: its real rows, the values each column holds, and how a model is fed with them.

Every row made here starts from a real one and takes the values of its changed columns from other real rows, so that
types, ranges, categories and most correlations are the data's own. Knows no model and nothing of randomness.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairguard.dtypes import IntArray
from fairguard.errors import DataError, did_you_mean
from fairguard.inputs.data import DataOptions, open_table
from fairguard.inputs.factories import called_within
from fairguard.inputs.features import Feed, Frames, Matrix
from fairguard.inputs.labelled import LabelledRows, Layout
from fairguard.inputs.rows import Source
from fairguard.inputs.tables import CsvTable, MemoryTable, ParquetTable, Table, index_columns

MAX_ROWS = 100_000
"""Rows of the data that serve as patterns: the first so many."""


@dataclass(frozen=True, eq=False)
class Column:
    """The different values of one column, in ascending order, a missing value last.

    Attributes:
        name: the column's name.
        places: shape (n,), where the value of each real row stands among the different ones.
        holders: shape (d,), a real row that holds each of the different values.
        present: number of different values that are not missing: d, or d - 1.
    """

    name: str
    places: IntArray
    holders: IntArray
    present: int

    @classmethod
    def of(cls, name: str, column: pa.ChunkedArray[Any]) -> Column:
        """Return the different values of ``column``."""
        values = column.combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        found = values.dictionary_encode(null_encoding="encode")
        order = pc.array_sort_indices(found.dictionary, null_placement="at_end").to_numpy()
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        places = place[found.indices.to_numpy()]
        _, holders = np.unique(places, return_index=True)
        return cls(name, places, holders, len(holders) - found.dictionary.null_count)


@dataclass(frozen=True, eq=False)
class Schema:
    """The rows of a table as patterns for new ones.

    Attributes:
        table: the real rows: the columns that reach the model, and the label if there is one.
        layout: which column is what.
        feed: how a model is fed with rows.
        name: what to call the data in errors.
        classes: names of the classes in the models' order, where given.
    """

    table: pa.Table
    layout: Layout
    feed: Feed
    name: str
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, data: Any, options: DataOptions | None = None, **single: Any) -> Schema:
        """Return the schema of a CSV or Parquet file, a pandas table, or ``module:callable`` that gives one.

        Args:
            data: the file, the table or the callable.
            options: what each column is, as in a check.
            **single: single options, stronger than ``options``: ``label``, ``groups``, ``features``, ``transform``, ...

        Raises:
            DataError: the data cannot be read, is no table, or has no rows; a column is not there or holds no numbers.
        """
        options = replace(options or DataOptions(), **single)
        table, layout = _table_of(data), options.layout()
        columns = table.schema.names
        layout.check(table.name, columns)
        if (function := options.function()) is not None:
            feed: Feed = Frames(layout.transformed_columns(table.name, columns), function)
        else:
            found = layout.feature_columns(table.name, columns, index=index_columns(table.schema))
            feed = Matrix(table.schema, found, table=table.name)
        rows = _first_rows(table, list(dict.fromkeys([*layout.named(columns), *feed.columns])), widen=feed.columns)
        return cls(rows, layout, feed, table.name, options.names())

    def __len__(self) -> int:
        """Return the number of real rows."""
        return int(self.table.num_rows)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Return the columns that reach the model, or the transform that feeds it."""
        return tuple(self.feed.columns)

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Return the types of the columns that reach the model."""
        return {name: self.table.schema.field(name).type for name in self.inputs}

    @cached_property
    def categories(self) -> dict[str, pa.Array[Any]]:
        """Return all categories of the categorical columns, also those that no row has."""
        kinds = self.types.items()
        return {name: _categories(self.table.column(name)) for name, kind in kinds if pa.types.is_dictionary(kind)}

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Return the columns whose values can be changed: those that reach the model and are no label, id or weight."""
        kept = {self.layout.label, self.layout.id, self.layout.weight, self.layout.cluster}
        names = [name for name in self.inputs if name not in kept]
        plain = [name for name in names if not pa.types.is_nested(self.table.schema.field(name).type)]
        return {name: Column.of(name, self.table.column(name)) for name in plain}

    @cached_property
    def places(self) -> IntArray:
        """Return the places of the real rows' values, shape (n, C), in the order of :attr:`columns`."""
        return np.column_stack([column.places for column in self.columns.values()])

    def swapped(self, name: str) -> Column:
        """Return the column whose values a counterfactual pair swaps.

        Raises:
            DataError: it never reaches the model, or has fewer than two values.
        """
        if name not in self.columns:
            raise DataError(self._not_an_input(name))
        column = self.columns[name]
        if column.present < 2:
            raise DataError(f"{self.name}: column {name!r} has one value in all rows; there is nothing to swap.")
        return column

    def build(self, rows: IntArray, places: Mapping[str, IntArray]) -> pa.Table:
        """Return new rows: the real ``rows``, shape (n,), with the values at ``places``, each of shape (n,)."""
        made = self.table.select(list(self.inputs)).take(rows)
        for name, at in places.items():
            values = self.table.column(name).take(self.columns[name].holders[at])
            made = made.set_column(made.schema.get_field_index(name), self.table.schema.field(name), values)
        return made

    def features(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> Any:
        """Return what a model is fed for ``rows``: numbers of shape (n, F), or whatever the transform makes of them."""
        table = rows if isinstance(rows, pa.Table) else table_of(rows, self.types, self.categories)
        return self.feed.chunk(table, 0)(0, table.num_rows)

    def in_double(self) -> Schema:
        """Return the schema for models of which one computes in float64: its rows are fed with all their digits."""
        feed = copy(self.feed)
        feed.double = True
        return replace(self, feed=feed)

    def source(self) -> Source:
        """Return the real rows as a check reads them, without sensitive features."""
        layout = Layout(self.layout.label, features=self.layout.features)
        return LabelledRows(MemoryTable(self.table, name=self.name), layout, feed=self.feed, classes=self.classes)

    def _not_an_input(self, name: str) -> str:
        if name == self.layout.label:
            return f"{name!r} is the label; swap a column that the models are fed with."
        listed = ", ".join(list(self.columns)[:40])
        if name in {group.column for group in self.layout.groups}:
            return (
                f"{name!r} is not among the features ({listed}), so swapping it can change no answer; "
                f"add it to --features, or feed it through --transform."
            )
        hint = did_you_mean(name, self.columns) or " Name one of them, or feed it through --transform."
        return f"{name!r} is not among the features of {self.name} ({listed}).{hint}"


def table_of(
    rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType], dictionaries: Mapping[str, pa.Array[Any]]
) -> pa.Table:
    """Return rows given as dicts as a table of the columns in ``types``.

    Args:
        rows: one mapping per row; text stands for dates and other values that have no literal.
        types: each column's type; that of a column in ``dictionaries`` does not matter.
        dictionaries: all categories of each categorical column, also those that no row has.
    """
    columns = {name: _column(name, rows, types[name], dictionaries.get(name)) for name in types}
    return pa.table(columns)


def type_called(name: str) -> pa.DataType:
    """Return the Arrow type of a name such as ``int64`` or ``timestamp[ns]``.

    Raises:
        ValueError: no type goes by that name alone (decimals, times with a zone).
    """
    by_name: Any = pa.type_for_alias
    found: pa.DataType = by_name(name)
    return found


def _column(
    name: str, rows: Sequence[Mapping[str, Any]], kind: pa.DataType, dictionary: pa.Array[Any] | None
) -> pa.Array[Any]:
    try:
        given = [row[name] for row in rows]
        if dictionary is not None:
            return pa.DictionaryArray.from_arrays(
                pc.index_in(pa.array(given, dictionary.type), dictionary, skip_nulls=True), dictionary
            )
        if any(isinstance(value, str) for value in given):
            return pa.array(given, pa.string()).cast(kind)
        return pa.array(given, kind)
    except KeyError:
        raise DataError(f"a row has no {name!r}; give every column that the model is fed with.") from None
    except (pa.ArrowException, TypeError) as error:
        raise DataError(f"a row's {name!r} is no {kind}: {error}") from None


def _categories(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    chunk: Any = column.unify_dictionaries().chunk(0)
    categories: pa.Array[Any] = chunk.dictionary
    return categories


def _table_of(data: Any) -> Table:
    if data is None:
        raise DataError("no rows to start from; name a file of them with --data.")
    if isinstance(data, str) and ":" in data and not os.path.exists(data):
        data = _given_by(data)
    if isinstance(data, str | Path):
        opened = open_table(Path(data))
        if isinstance(opened, CsvTable | ParquetTable):
            return opened
    elif hasattr(data, "columns") and hasattr(data, "iloc"):
        return MemoryTable.of_frame(data)
    what = data if isinstance(data, str | Path) else f"a {type(data).__name__}"
    raise DataError(f"{what} has no named columns; rows are made after CSV, Parquet or a pandas table.")


def _given_by(spec: str) -> Any:
    function = called_within(spec)
    try:
        return function()
    except Exception as error:
        raise DataError(f"--data {spec} failed: {type(error).__name__}: {error}") from error


def _first_rows(table: Table, columns: list[str], *, widen: Sequence[str]) -> pa.Table:
    parts: list[pa.Table] = []
    have = 0
    for part in table.scan(columns, widen=widen):
        parts.append(part.slice(0, MAX_ROWS - have))
        have += parts[-1].num_rows
        if have >= MAX_ROWS:
            break
    if not have:
        raise DataError(f"{table.name} has no rows; rows are made by the pattern of real ones.")
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()
