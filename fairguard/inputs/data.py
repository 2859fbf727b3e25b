"""The door through which labelled rows come in: files, the user's own code, or values in memory. Knows no model."""

from __future__ import annotations

import gzip
import inspect
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fairguard.errors import DataError, did_you_mean
from fairguard.inputs.arrays import NpzArrays, array_rows, tuple_rows
from fairguard.inputs.features import Columns, Feed, Frames, Matrix, NoFeatures, Transform
from fairguard.inputs.groups import parse_groups
from fairguard.inputs.labelled import LabelledRows, Layout, RowOptions
from fairguard.inputs.loaders import LoaderRows, reading_of
from fairguard.inputs.rows import Source
from fairguard.inputs.samplers import Reading
from fairguard.inputs.tables import CsvTable, MemoryTable, ParquetTable, Table, index_columns
from fairguard.names import shown

_CALLABLE = re.compile(r"(.+\.py|[A-Za-z_][\w.]*):[A-Za-z_][\w.]*")
_KINDS = "CSV (also .csv.gz), Parquet or npz"


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """What each column of labelled rows is, as the user says.

    Attributes:
        label: column of labels. A tuple brings its own; an npz or dict has it in ``y`` unless told otherwise.
        groups: sensitive features, as ``race``, ``age:25,45,65`` or ``class``. None named: all that a tuple or loader
            brings with it.
        id: column that identifies a row; rows are numbered without.
        features: columns that the models take, in their order; default all that are nothing else. For npz the names of
            feature arrays, default ``X``; for a tuple columns or entries of ``X``, which must have names then. A loader
            makes its own, unless its batches have all by name.
        transform: makes what the models take out of a pandas table of some rows, of the columns in ``features`` or of
            all columns where none are named; or out of a slice of ``X``.
        classes: names of the classes in the models' order.
        weight: column of row weights.
        cluster: column that says which rows belong together.
        beside: sensitive features that are not judged here: columns of a table that are no features unasked.
    """

    label: str | None = None
    groups: str | Iterable[str] = ()
    id: str | None = None
    features: Sequence[str] | None = None
    transform: str | Transform | None = None
    classes: Sequence[str] | None = None
    weight: str | None = None
    cluster: str | None = None
    beside: Iterable[str] = ()

    def layout(self) -> Layout:
        """Return which column is what.

        Raises:
            ConfigError: a group's bins are wrong, or a column is named twice.
        """
        return Layout(
            self.label,
            parse_groups(self.groups),
            self.id,
            _names(self.features),
            self.weight,
            self.cluster,
            beside=parse_groups(self.beside),
        )

    def names(self) -> tuple[str, ...] | None:
        """Return the names of the classes, where given."""
        return _names(self.classes)

    def function(self) -> Transform | None:
        """Return what makes the features.

        Raises:
            ConfigError: it cannot be imported.
        """
        if not isinstance(self.transform, str):
            return self.transform
        from fairguard.inputs.factories import called_within

        return called_within(self.transform)


def open_data(
    data: Any,
    options: DataOptions | None = None,
    *,
    needs_features: bool = True,
    double: bool = False,
    find_id: bool = False,
    orders: Sequence[Sequence[str]] = (),
    inputs: Sequence[str] = (),
    seed: int = 0,
    **columns: Any,
) -> Source:
    """Return the labelled rows of ``data``, with all errors of labels and groups met already.

    Args:
        data: a file (CSV, Parquet, npz), ``pkg.module:callable`` or ``path.py:callable`` that returns rows, or in
            memory: a tuple ``(X, y, groups)``, a dict of arrays, a pandas table, a torch Dataset or DataLoader, or a
            function that returns one of these.
        options: what each column is.
        needs_features: false where both models are recorded predictions: only labels, groups and ids are read then.
        double: whether features of float64 stay so, because a model computes in it; else they are float32.
        find_id: whether a column called ``id`` identifies the rows where ``id`` names none, because answers are joined
            by it.
        inputs: what the models call their inputs, where each of them is one column: a table's columns are fed so.
        orders: what the models themselves call their classes, each in its order: the first that holds exactly the
            label's values is the order where ``classes`` names none. A loader gives numbers, or needs ``classes``.
        seed: of what a loader draws at random; the same for every reading.
        **columns: single options of :class:`DataOptions`, stronger than ``options``.

    Raises:
        DataError: the file or a column is not there or not readable, it has no rows, labels are missing, of mixed types
            or none of the classes, a group has one value or too many, a feature is no number.
        ConfigError: a group's bins are wrong, or a column is named twice.
    """
    if data is None:
        raise DataError(f"no rows to judge on; name labelled rows with --data: {_KINDS}, or pkg.module:callable.")
    options = replace(options or DataOptions(), **columns)
    known = tuple(map(tuple, orders))
    layout = replace(options.layout(), find_id=find_id, orders=known, inputs=tuple(inputs))
    how = RowOptions(
        classes=options.names(),
        transform=options.function(),
        needs_features=needs_features,
        double=double,
        seed=seed,
    )
    if _is_file(data):
        return _from_file(Path(data), layout, how)
    if isinstance(data, str):
        from fairguard.inputs.factories import called_within

        return _from_function(called_within(data), layout, how, name=data)
    if inspect.isroutine(data) or isinstance(data, partial):
        return _from_function(data, layout, how, name=getattr(data, "__qualname__", "the function"))
    return _from_memory(data, layout, how, name="the data")


def require_file(data: Any) -> None:
    """Refuse a file of rows that is none, before anybody waits for the models.

    Raises:
        DataError: ``data`` names a file that does not exist, is empty, or is a folder.
    """
    if _is_file(data):
        _first_bytes(Path(data))


def _is_file(data: Any) -> bool:
    """Return whether the rows are given as the name of a file."""
    return isinstance(data, Path) or (isinstance(data, str) and (os.path.exists(data) or not _CALLABLE.fullmatch(data)))


def group_values(data: Any, groups: str | Iterable[str], *, label: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the groups of each sensitive feature, reading nothing but their columns (and the label) of a file.

    Raises:
        DataError: as :func:`open_data`.
    """
    source = open_data(data, DataOptions(label=label, groups=groups), needs_features=False)
    if source.n_rows is None or not all(source.levels):
        for _ in source.batches(1024):  # the user's own code tells its groups only row by row
            pass
    return {column: tuple(levels) for column, levels in zip(source.columns, source.levels, strict=True)}


def open_table(path: Path) -> Table | NpzArrays:
    """Return a file of columns or arrays; what it is is decided by its first bytes, not by its name.

    Raises:
        DataError: it does not exist, is empty, or is something else.
    """
    start = _first_bytes(path)
    if start.startswith(b"PAR1"):
        return ParquetTable(path)
    if start.startswith(b"PK"):
        return _opened_zip(path)
    compressed = start.startswith(b"\x1f\x8b")
    text = _unpacked_start(path) if compressed else start
    if b"\x00" in text:
        raise DataError(f"{path.name} is not {_KINDS}; convert it, or give the data as pkg.module:callable.")
    return CsvTable(path, compressed=compressed)


def _from_file(path: Path, layout: Layout, options: RowOptions) -> Source:
    opened = open_table(path)
    if isinstance(opened, NpzArrays):
        return _from_arrays(opened, layout, options, name=path.name, path=path)
    return _from_table(opened, layout, options)


def _from_function(function: Callable[[], Any], layout: Layout, options: RowOptions, *, name: str) -> Source:
    """Return the rows of whatever the user's function gives; it is called anew for every pass over an iterator."""
    given = _result(function, name)
    if isinstance(given, str | Path):
        return _from_file(Path(given), layout, options)
    if isinstance(given, Iterator):
        return _from_loader(Reading(lambda _: _result(function, name)), layout, options, name=name)
    return _from_memory(given, layout, options, name=name)


def _from_memory(given: Any, layout: Layout, options: RowOptions, *, name: str) -> Source:
    if hasattr(given, "columns") and hasattr(given, "iloc"):
        return _from_table(MemoryTable.of_frame(given), layout, options)
    if isinstance(given, Mapping):
        return _from_arrays(given, layout, options, name=name)
    if isinstance(given, tuple) and len(given) in (2, 3):
        return tuple_rows(*given, layout=layout, options=options, name=name)
    return _from_loader(reading_of(given, name=name), layout, options, name=name)


def _from_table(table: Table, layout: Layout, options: RowOptions) -> Source:
    columns = table.schema.names
    layout = layout.completed(columns)
    layout.check(table.name, columns)
    feed: Feed = NoFeatures()
    if options.needs_features and options.transform is not None:
        feed = Frames(layout.transformed_columns(table.name, columns), options.transform, double=options.double)
    elif options.needs_features:
        found = layout.feature_columns(table.name, columns, index=index_columns(table.schema))
        by_name = Columns.matched(layout.inputs, found)
        if by_name:
            feed = Columns(table.schema, by_name, table=table.name, double=options.double)
        else:
            feed = Matrix(table.schema, found, table=table.name, double=options.double)
    return LabelledRows(table, layout, feed=feed, classes=options.classes)


def _from_arrays(
    arrays: Mapping[str, Any], layout: Layout, options: RowOptions, *, name: str, path: Path | None = None
) -> Source:
    if layout.label is None and "y" in arrays:
        layout = replace(layout, label="y")
    layout = layout.completed(arrays)
    return array_rows(arrays, layout, options, name=name, path=path)


def _from_loader(reading: Reading, layout: Layout, options: RowOptions, *, name: str) -> Source:
    if options.transform is not None:
        raise DataError(f"{name} makes its own features; apply --transform there.")
    return LoaderRows(reading, layout, options, name=name)


def _names(given: Iterable[Any] | None) -> tuple[str, ...] | None:
    """Return names in a list or an array of any kind; none at all are as good as none given."""
    return None if given is None else tuple(map(str, given)) or None


def _result(function: Callable[[], Any], spec: str) -> Any:
    try:
        return function()
    except DataError:
        raise
    except (Exception, SystemExit) as error:
        raise DataError(f"--data {spec} failed: {type(error).__name__}: {error}") from error


def _first_bytes(path: Path) -> bytes:
    if any("\ud800" <= sign <= "\udfff" for sign in str(path)):
        raise DataError(f"the name of {shown(path)} is no UTF-8 text. Rename the file.")
    try:
        there = path.exists()
        near = [] if there or not path.parent.is_dir() else [other.name for other in path.parent.iterdir()]
    except OSError as error:  # a name too long, a folder that is not ours
        raise DataError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    if not there:
        raise DataError(f"there is no file {path}.{did_you_mean(path.name, near)} Give a file, or pkg.module:callable.")
    if not path.is_file():
        images = " Of files in a folder name them in a column, and read them with --transform." if path.is_dir() else ""
        raise DataError(f"{path} is no file; data is {_KINDS}, or pkg.module:callable.{images}")
    try:
        with path.open("rb") as stream:
            start = stream.read(4096)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None
    if not start:
        raise DataError(f"{path.name} is empty; data is {_KINDS}.")
    return start


def _unpacked_start(path: Path) -> bytes:
    try:
        with gzip.open(path) as stream:
            return stream.read(4096)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name} is a damaged gzip file: {error}.") from None


def _opened_zip(path: Path) -> NpzArrays:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # hostile bytes: whatever is raised means "broken"
        raise DataError(f"{path.name} is a damaged npz file: {error}.") from None
    if any(name.endswith("data.pkl") for name in names):
        raise DataError(f"{path.name} is a torch file, not data; models go before --data. Data is {_KINDS}.")
    if not any(name.endswith(".npy") for name in names):
        raise DataError(f"{path.name} is a zip archive without arrays; data is {_KINDS}.")
    return NpzArrays(path)
