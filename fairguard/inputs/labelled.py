"""Labelled rows: which column is what, one scan for labels and groups, then batches with features.

Knows columns by their meaning; knows no file format and no model.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fairguard.errors import ConfigError, DataError, did_you_mean
from fairguard.files import sha256_of
from fairguard.inputs.features import Feed, Matrix, Transform
from fairguard.inputs.groups import CLASS, Column, GroupSpec, Levels, is_number, numbers, sorted_names
from fairguard.inputs.labels import Labels
from fairguard.inputs.rows import Batch, DataRecord, IdCount, Source, id_column
from fairguard.inputs.tables import Table, rechunk
from fairguard.names import clean, first_few, named, shown

UNNAMED_INDEX = ("", "Unnamed: 0", "__index_level_0__")
"""What pandas calls an index without a name when it saves one along: it numbers the rows and is no feature."""
CHUNK_ROWS = 16_384
"""Rows turned into arrays at a time; batches are views of these."""


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """What beside a :class:`Layout` says how rows are read.

    Attributes:
        classes: names of the classes in the models' order, where given.
        transform: makes what the models take.
        needs_features: whether anything is fed to a model at all.
        double: whether features of float64 stay so; else they are float32.
        seed: of what the user's code draws at random.
    """

    classes: tuple[str, ...] | None = None
    transform: Transform | None = None
    needs_features: bool = True
    double: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Layout:
    """Which column is what.

    Attributes:
        label: column of labels, ``None`` for rows without.
        groups: the sensitive features.
        id: column that identifies a row, else rows are numbered.
        features: columns of the feature matrix in order; ``None``: all that are nothing else.
        weight: column of row weights.
        cluster: column that says which rows belong together (several rows of a person).
        find_id: whether a column called ``id`` identifies rows unasked: recorded answers are joined by it.
        orders: what the models themselves call their classes, in their order; see :class:`Labels`.
        beside: sensitive features that are not judged here, and that are no features unasked all the same.
        inputs: what the models call their inputs, where each of them is one column.
    """

    label: str | None = None
    groups: tuple[GroupSpec, ...] = ()
    id: str | None = None
    features: tuple[str, ...] | None = None
    weight: str | None = None
    cluster: str | None = None
    find_id: bool = False
    orders: tuple[tuple[str, ...], ...] = ()
    beside: tuple[GroupSpec, ...] = ()
    inputs: tuple[str, ...] = ()

    def completed(self, columns: Iterable[str]) -> Layout:
        """Return the layout with the columns' own names, and the one that identifies rows, where it was not named."""
        columns = list(columns)
        layout = self._in_their_words(columns)
        if layout.id is not None or not layout.find_id:
            return replace(layout, find_id=False)
        return replace(layout, id=id_column(c for c in columns if c != layout.label), find_id=False)

    def _in_their_words(self, columns: Sequence[str]) -> Layout:
        """Return the layout in which columns named as reports show them go by the names that the file gives them."""
        there, shown = set(columns), dict[str, str]()

        def own(name: str) -> str:
            if name in there:
                return name
            if not shown:  # most files need none of these
                shown.update((clean(column), column) for column in columns)
            return shown.get(name, name)

        parts: dict[str, Any] = {
            part: own(name) for part in ("label", "id", "weight", "cluster") if (name := getattr(self, part))
        }
        for part in ("groups", "beside"):
            meant = (group.among(there) for group in getattr(self, part))
            parts[part] = tuple(replace(group, column=own(group.column)) for group in meant)
        features = None if self.features is None else tuple(map(own, self.features))
        return replace(self, **parts, features=features)

    def is_label(self, group: GroupSpec, columns: Sequence[str]) -> bool:
        """Return whether ``group`` means the label itself: it is called ``class`` and no column is."""
        return group.column == self.label or (group.column == CLASS and CLASS not in columns)

    def named(self, columns: Sequence[str]) -> dict[str, str]:
        """Return each column named and the option that names it, features apart.

        Raises:
            DataError: the label is asked for as a group and there is none.
            ConfigError: the label is asked for in bins.
        """
        options = {"--label": self.label, "--id": self.id, "--weight": self.weight, "--cluster": self.cluster}
        found = {name: option for option, name in options.items() if name is not None}
        for group in self.groups:
            if not self.is_label(group, columns):
                found[group.column] = "--group"
            elif self.label is None:
                raise DataError("group 'class' is the label itself; name its column with --label.")
            elif group.edges:
                raise ConfigError(f"group {group.column!r} is the label, which has no bins; leave them out.")
        return found

    def check(self, name: str, columns: Sequence[str]) -> None:
        """Raise :class:`DataError` if a column that is named does not exist."""
        wanted = {**dict.fromkeys(self.features or (), "--features"), **self.named(columns)}
        there = set(columns)
        for column, option in wanted.items():
            if column not in there:
                raise DataError(missing_column(name, column, columns, option))

    def feature_columns(self, name: str, columns: Sequence[str], *, index: Container[str] = ()) -> tuple[str, ...]:
        """Return the columns that are features: those named, or all that are nothing else and no ``index``.

        Raises:
            DataError: none is left, or the label is among them.
        """
        if self.features is None:
            taken = {*self.named(columns), *(group.among(columns).column for group in self.beside)}
            found = tuple(c for c in columns if c not in taken and c not in index and c not in UNNAMED_INDEX)
        else:
            found = self.features
        if self.label in found:
            raise DataError(f"--features names the label {self.label!r}; a model must not see it.")
        if not found:
            raise DataError(f"{name} has no feature columns left; name them with --features.")
        return found

    def transformed_columns(self, name: str, columns: Sequence[str]) -> tuple[str, ...]:
        """Return the columns that the user's function gets: the features that are named, in their order, or all.

        Raises:
            DataError: the label is named as a feature.
        """
        return tuple(columns) if self.features is None else self.feature_columns(name, columns)


def id_count_of(layout: Layout) -> IdCount | None:
    """Return what counts the different ids of rows, where nothing says already which rows belong together."""
    return None if layout.id is None or layout.cluster is not None else IdCount(layout.id)


class LabelledRows(Source):
    """Labelled rows of a table and their features."""

    n_rows: int = 0
    id_count: IdCount | None = None

    def __init__(self, table: Table, layout: Layout, *, feed: Feed, classes: Sequence[str] | None = None) -> None:
        """Scan labels and groups once, so that bad data is met before any model runs.

        Raises:
            DataError: see :func:`fairguard.inputs.data.open_data`.
        """
        layout.check(table.name, table.schema.names)
        self._table, self._layout, self._feed = table, layout, feed
        self._levels = {g.column: Levels(g) for g in layout.groups if not layout.is_label(g, table.schema.names)}
        self._labels: Labels | None = None
        if layout.label is not None:
            self._labels = Labels(f"{table.name}: label column {layout.label!r}", classes=classes, orders=layout.orders)
        self._given_classes = tuple(map(named, classes)) if classes else None
        wanted = {*layout.named(table.schema.names), *feed.columns}
        self._read = [name for name in table.schema.names if name in wanted]
        self.id_count = id_count_of(layout)
        self.n_rows = self._scan()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the sensitive features."""
        return tuple(map(clean, self._groups))

    @property
    def _groups(self) -> tuple[str, ...]:
        """Return the sensitive features' columns by the names that the file gives them."""
        return tuple(group.column for group in self._layout.groups)

    @property
    def levels(self) -> list[list[str]]:
        """Return, for each sensitive feature, the names of its groups."""
        return [self._levels[c].names if c in self._levels else list(self.classes or ()) for c in self._groups]

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the names of the classes; without labels, those given."""
        return self._given_classes if self._labels is None else self._labels.classes

    @property
    def found(self) -> tuple[str, ...]:
        """Return the labels that rows have, sorted: numbered classes may have none."""
        return () if self._labels is None else tuple(sorted_names(self._labels.seen))

    @property
    def features(self) -> tuple[str, ...]:
        """Return the columns that make up a matrix of features; nothing for other kinds of features."""
        return tuple(self._feed.columns) if isinstance(self._feed, Matrix) else ()

    @property
    def double(self) -> bool:
        """Return whether features of float64 stay so."""
        return self._feed.double

    @property
    def labelled(self) -> bool:
        """Return whether rows have labels."""
        return self._labels is not None

    @property
    def reordered(self) -> bool:
        """Return whether the classes are in the order of a model, and not in that of the values themselves."""
        return self._labels is not None and self._labels.reordered

    @property
    def note(self) -> str:
        """Return what the reader of a verdict should know of how the rows were opened; mostly nothing."""
        order = f"the classes are in the order of the model's own id2label: {', '.join(self.classes or ())}"
        return f"{order}; --classes names another" if self.reordered else ""

    @cached_property
    def record(self) -> DataRecord:
        """Return where the rows come from."""
        path = self._table.path
        layout = self._layout
        texts = {name: tuple(group.text for group in getattr(layout, name)) for name in ("groups", "beside")}
        named = {**asdict(layout), **texts, "orders": (), "inputs": ()}
        return DataRecord(
            path=None if path is None else str(path),
            sha256=None if path is None else sha256_of(path),
            kind=self._table.kind,
            options={name: value for name, value in named.items() if value},
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, at most ``batch_size`` at a time."""
        start = 0
        tables = self._table.scan(self._read or self._any_column(), widen=self._feed.columns)
        for rows in rechunk(tables, batch_size * max(1, CHUNK_ROWS // batch_size)):
            whole, cut = self._batch(rows, start), self._feed.chunk(rows, start)
            for low in range(0, len(whole), batch_size):
                high = min(low + batch_size, len(whole))
                yield replace(without_features(whole, low, high), x=cut(low, high))
            start += rows.num_rows

    def _batch(self, rows: pa.Table, start: int) -> Batch:
        """Return a chunk without its features."""
        layout, n = self._layout, rows.num_rows
        y = None if self._labels is None else self._labels.encode(rows.column(str(self._layout.label)))
        codes = np.empty((n, len(layout.groups)), dtype=np.int64)
        for i, name in enumerate(self._groups):
            if name in self._levels:
                codes[:, i] = self._levels[name].encode(rows.column(name))
            elif y is not None:
                codes[:, i] = y
        return Batch(
            x=None,
            y=y,
            codes=codes,
            ids=np.arange(start, start + n) if layout.id is None else values(rows.column(layout.id)),
            start=start,
            weight=None if layout.weight is None else numbers(rows.column(layout.weight)),
            cluster=None if layout.cluster is None else values(rows.column(layout.cluster)),
        )

    def _any_column(self) -> list[str]:
        return list(self._table.schema.names[:1])

    def _scan(self) -> int:
        """Read everything but features once and return the number of rows."""
        rows = 0
        wanted = list(self._layout.named(self._table.schema.names)) or self._any_column()
        for chunk in self._table.scan(wanted):
            if self._labels is not None:
                self._labels.observe(chunk.column(str(self._layout.label)))
            for name, levels in self._levels.items():
                levels.encode(chunk.column(name))
            self._check_values(chunk, rows)
            if self.id_count is not None:
                self.id_count.add(values(chunk.column(self.id_count.column)))
            rows += chunk.num_rows
        if not rows:
            raise DataError(f"{self._table.name} has no rows; give rows that the model was not trained on.")
        self._settle(rows)
        return rows

    def _settle(self, rows: int) -> None:
        if self._labels is not None:
            self._labels.settle()
            if len(self._labels.seen) == 1 and set(self._groups) - set(self._levels):
                raise DataError(f"group 'class' has one value, {next(iter(self._labels.seen))!r}, in all {rows} rows.")
        for levels in self._levels.values():
            levels.settle()
            levels.check(rows)

    def _check_values(self, chunk: pa.Table, start: int) -> None:
        layout = self._layout
        for option, name in (("--id", layout.id), ("--cluster", layout.cluster)):
            if name is not None:
                check_complete(chunk.column(name), f"{self._table.name}: column {name!r} ({option})", start)
        if layout.weight is not None:
            check_weights(chunk.column(layout.weight), f"{self._table.name}: column {layout.weight!r}", start)


def missing_column(name: str, wanted: str, columns: Sequence[str], option: str, *, what: str = "column") -> str:
    """Return the one line for a column, or for ``what`` it is, that is not there."""
    hint = did_you_mean(wanted, columns) or f" Use {option}."
    return f"{name} has no {what} {wanted!r}; {what}s are: {first_few(columns, most=40)}.{hint}"


def check_complete(column: Column, what: str, start: int) -> None:
    """Raise :class:`DataError` if a row has no value (all rows without would be one), or for lists and broken text."""
    if pa.types.is_nested(column.type):
        raise DataError(f"{what} holds {shown(column.type)}; name a column of numbers or text.")
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raise DataError(f"{what} holds text that is no UTF-8; save it as UTF-8, or as binary.") from None
    missing = np.flatnonzero(pc.is_null(column, nan_is_null=True))
    if len(missing):
        raise DataError(
            f"{what} has no value in {len(missing)} of rows {start} to {start + len(column) - 1}, the first is row "
            f"{start + missing[0]} (from 0); give each row one, or leave those rows out."
        )


def check_weights(column: Column, what: str, start: int) -> None:
    """Raise :class:`DataError` unless all weights are finite and not negative."""
    if not is_number(column.type):
        raise DataError(f"{what} (--weight) holds {column.type}; weights are numbers.")
    weights = numbers(column)
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    if wrong.any():
        at = int(wrong.argmax())
        raise DataError(f"{what} (--weight) holds {weights[at]:g} in row {start + at} (from 0); weights are 0 or more.")


def values(column: Column) -> NDArray[Any]:
    """Return a column as an array of its own values, shape (n,); times as text: Python would cut their nanoseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_time(column.type):
        column = column.cast(pa.string())
    return np.asarray(column.to_numpy())


def without_features(batch: Batch, low: int, high: int) -> Batch:
    """Return rows ``low`` to ``high`` of a batch without features."""
    rows = slice(low, high)
    return Batch(
        x=None,
        y=None if batch.y is None else batch.y[rows],
        codes=batch.codes[rows],
        ids=batch.ids[rows],
        start=batch.start + low,
        weight=None if batch.weight is None else batch.weight[rows],
        cluster=None if batch.cluster is None else batch.cluster[rows],
        picked=None if batch.picked is None else batch.picked[rows],
    )
