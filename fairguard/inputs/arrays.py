"""Arrays as labelled rows: an npz file, a tuple ``(X, y, groups)`` or a dict of arrays. Knows no model.

Nothing in an npz is ever unpickled, and no array is read before its size is known to be what its header claims.
"""

from __future__ import annotations

import itertools
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from fairguard.errors import DataError
from fairguard.inputs.features import Arrays, Feed, NoFeatures
from fairguard.inputs.groups import Column, GroupSpec, arrow, is_number
from fairguard.inputs.labelled import LabelledRows, Layout, RowOptions, missing_column
from fairguard.inputs.limits import DEFAULT, human
from fairguard.inputs.nested import count_rows
from fairguard.inputs.tables import MemoryTable

_ROW = "(row)"


class NpzArrays(Mapping[str, Any]):
    """The arrays of an npz file by name, each read when asked for."""

    def __init__(self, path: Path) -> None:
        """Read what the file says of its arrays.

        Raises:
            DataError: it is damaged, holds pickled objects, or claims sizes that it does not have.
        """
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
                headers = {m.filename[:-4]: _header(archive, m) for m in members}
        except Exception as error:  # readers meet hostile bytes here: whatever they raise means "broken"
            raise DataError(f"{path.name} is a damaged npz file: {error}") from None
        self._problems = {name: problem for name, (_, problem) in headers.items()}
        self.shapes = {name: shape for name, (shape, _) in headers.items()}

    def __getitem__(self, name: str) -> Any:
        """Return one array.

        Raises:
            DataError: it holds pickled objects, is damaged, or is not what its header claims.
        """
        problem = self._problems[name]
        if problem is not None:
            raise DataError(f"{self._path.name}: array {name!r} {problem}")
        try:
            with np.load(self._path, allow_pickle=False) as arrays:
                return arrays[name]
        except Exception as error:
            raise DataError(f"{self._path.name}: array {name!r} is damaged: {error}") from None

    def __iter__(self) -> Iterator[str]:
        """Return the names."""
        return iter(self._problems)

    def __len__(self) -> int:
        """Return the number of arrays."""
        return len(self._problems)


def _header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], str | None]:
    """Return the shape that an array claims, and why it must not be read, if so; only its header is looked at."""
    try:
        with archive.open(member) as stream:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(stream)
            start = stream.tell()
    except Exception as error:
        return (), f"is damaged: {error}"
    return tuple(shape), _problem(math.prod(shape) * dtype.itemsize, start, dtype, member)


def _problem(size: int, start: int, dtype: np.dtype[Any], member: zipfile.ZipInfo) -> str | None:
    if dtype.hasobject:
        return "holds Python objects, which would be unpickled; save it as numbers or as text (dtype <U)."
    if start + size != member.file_size:
        return f"claims {human(start + size)} and has {human(member.file_size)}; save the file again."
    if DEFAULT.too_much(size, member.compress_size):
        return f"takes {human(size)} out of {human(member.compress_size)}; give the rows as pkg.module:callable."
    return None


def array_rows(
    arrays: Mapping[str, Any], layout: Layout, options: RowOptions, *, name: str, path: Path | None = None
) -> LabelledRows:
    """Return the labelled rows of named arrays: features ``X``, and one array for the label and each group.

    An integer array ``race`` beside a text array ``race_names`` holds places in the latter; so does a label beside
    ``classes``.

    Raises:
        DataError: see :func:`fairguard.inputs.data.open_data`.
    """
    _check_there(arrays, layout, name)
    feed: Feed = NoFeatures()
    if options.needs_features:
        features = layout.features or (("x",) if "x" in arrays and "X" not in arrays else ("X",))
        if layout.label in features:
            raise DataError(f"--features names the label {layout.label!r}; a model must not see it.")
        feed = Arrays(_chosen(arrays, features, name), options.transform, double=options.double)
    names = None if layout.label is None else _names(arrays, layout.label, is_label=True)
    return _rows(arrays, layout, feed, name=name, path=path, classes=options.classes, names=names)


def tuple_rows(x: Any, y: Any, groups: Any = None, *, layout: Layout, options: RowOptions, name: str) -> LabelledRows:
    """Return the labelled rows of ``(X, y, groups)``, in which all groups are meant where none is named.

    The label goes by the name that the user gave it, else by ``y`` or one like it: groups go by their own names.

    Raises:
        DataError: see :func:`fairguard.inputs.data.open_data`.
    """
    columns = _groups_of(groups, name)
    layout = layout.completed(columns)
    taken = {layout.id, layout.weight, layout.cluster}
    specs = layout.groups or tuple(GroupSpec(key) for key in columns if key not in taken)
    label = None if y is None else _label_beside(columns, y, layout.label, name)
    layout = replace(layout, label=label, groups=specs)
    names = None if label is None else _names_beside(columns, layout, len(y))
    if label is not None:
        columns[label] = y
    _check_there(columns, layout, name)
    feed: Feed = NoFeatures()
    if options.needs_features:
        taken = x if layout.features is None else _part(x, layout.features, name)
        feed = Arrays(taken, options.transform, double=options.double)
    return _rows(columns, layout, feed, name=name, classes=options.classes, names=names)


def _groups_of(groups: Any, name: str) -> dict[str, Any]:
    """Return the groups of a tuple by their names, which may have been numbers."""
    if groups is None or (isinstance(groups, list | tuple) and not groups):
        return {}
    is_table = hasattr(groups, "columns") and hasattr(groups, "iloc")
    if not (is_table or isinstance(groups, Mapping)):
        raise DataError(
            f"{name}: groups are of type {type(groups).__name__}; give (X, y, groups), groups a dict or a table with "
            f"one value per row for each sensitive feature."
        )
    return {str(key): groups[key] for key in groups}


def _names_beside(groups: Mapping[str, Any], layout: Layout, rows: int) -> tuple[str, ...] | None:
    """Return the names of the classes that lie beside groups, where what lies there is nothing else.

    What has a value twice, or one for each row, are no names, but a group that was not asked for.
    """
    named = layout.named(list(groups))
    names = _names({key: groups[key] for key in groups if key not in named}, str(layout.label), is_label=True)
    return names if names is not None and len(set(names)) == len(names) < rows else None


def _label_beside(groups: Mapping[str, Any], y: Any, named: str | None, name: str) -> str:
    """Return what the label is called beside groups: as the user says, else ``y``, or longer where a group is."""
    if named is None:
        return next(label for n in itertools.count(1) if (label := "y" * n) not in groups)
    if named in groups and not _same(*(arrow(values, what=f"{name}: {named!r}") for values in (groups[named], y))):
        raise DataError(f"{name}: --label and a group with other values are called {named!r}; rename one of them.")
    return named


def _same(one: Column, other: Column) -> bool:
    """Return whether two columns hold equal values, of whatever types: 1 is 1.0."""
    return bool(one.to_pylist() == other.to_pylist())


def _rows(
    arrays: Mapping[str, Any],
    layout: Layout,
    feed: Feed,
    *,
    name: str,
    path: Path | None = None,
    classes: Sequence[str] | None,
    names: tuple[str, ...] | None = None,
) -> LabelledRows:
    """Return the labelled rows of arrays for all that the layout names; ``names`` are those of a coded label."""
    known = {c: names if c == layout.label else _names(arrays, c) for c in layout.named(list(arrays))}
    table = {column: _column(arrays, column, known[column], name) for column in known}
    rows = _length(table, feed, name)
    if not table:
        table[_ROW] = pa.chunked_array([np.arange(rows)])
    memory = MemoryTable(pa.table(table), name=name, path=path, kind="npz" if path else "in memory")
    return LabelledRows(
        memory, replace(layout, features=None), feed=feed, classes=names if classes is None else classes
    )


def _check_there(arrays: Mapping[str, Any], layout: Layout, name: str) -> None:
    for column, option in layout.named(list(arrays)).items():
        if column not in arrays:
            raise DataError(missing_column(name, column, list(arrays), option, what="array"))


def _chosen(arrays: Mapping[str, Any], features: Sequence[str], name: str) -> Any:
    """Return the array that is named, or several of them as a dict."""
    _check_features(features, list(arrays), name)
    parts = {feature: arrays[feature] for feature in features}
    return parts if len(parts) > 1 else parts[features[0]]


def _part(x: Any, features: Sequence[str], name: str) -> Any:
    """Return the features that are named out of the ``X`` of a tuple: columns of a table, or entries of a dict."""
    if hasattr(x, "columns") and hasattr(x, "iloc"):
        table = x.rename(columns=str)
        _check_features(features, list(table.columns), name)
        return table[list(features)]
    if not isinstance(x, Mapping):
        raise DataError(f"--features names columns, and the X of {name} has none; leave it out, or give X as a table.")
    return _chosen(x, features, name)


def _check_features(features: Sequence[str], there: Sequence[str], name: str) -> None:
    for feature in features:
        if feature not in there:
            raise DataError(missing_column(name, feature, there, "--features", what="array"))


def _names(arrays: Mapping[str, Any], column: str, *, is_label: bool = False) -> tuple[str, ...] | None:
    """Return the names that go with an array of integer codes, if any were saved beside it."""
    for key in (f"{column}_names", *(("classes",) if is_label else ())):
        if key in arrays:
            return tuple(map(str, np.asarray(arrays[key]).ravel().tolist()))
    return None


def _column(arrays: Mapping[str, Any], column: str, names: tuple[str, ...] | None, name: str) -> Column:
    made = arrow(arrays[column], what=f"{name}: array {column!r}")
    if names is None or not (is_number(made.type) and pa.types.is_integer(made.type)):
        return made
    codes = made.combine_chunks().to_numpy(zero_copy_only=False).astype(np.int64)
    outside = (codes < 0) | (codes >= len(names))
    places = pa.array(codes, mask=outside, type=pa.int64())
    return pa.chunked_array([pa.DictionaryArray.from_arrays(places, pa.array(names, type=pa.string()))])


def _length(table: Mapping[str, Column], feed: Feed, name: str) -> int:
    """Return the number of rows, which all arrays share."""
    lengths = {column: len(values) for column, values in table.items()}
    if isinstance(feed, Arrays):
        rows = count_rows(feed.x)
        if rows is None:
            raise DataError(f"{name}: the features have no rows, or parts of different length.")
        lengths = {"X": rows, **lengths}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{column} {length}" for column, length in lengths.items())
        raise DataError(f"{name}: arrays differ in length ({listed}); give one value per row.")
    if not lengths:
        raise DataError(f"{name} holds nothing to read; name a label, groups or features.")
    return next(iter(lengths.values()))
