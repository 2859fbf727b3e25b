"""Labelled rows from the user's own code: a torch Dataset or DataLoader, or anything that gives ``(x, y, groups)``.

Rows are read as they are needed, never all at once, so groups are only known once their first row has been read.
What the code draws at random, such as crops, is drawn alike in every reading: a seed of its own goes with each.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import DataError, FairguardError
from fairguard.inputs.factories import importable
from fairguard.inputs.features import as_features, rows_of
from fairguard.inputs.groups import CLASS, GroupSpec, Levels, arrow, is_number, numbers
from fairguard.inputs.labelled import (
    Layout,
    RowOptions,
    check_complete,
    check_weights,
    id_count_of,
    missing_column,
    values,
    without_features,
)
from fairguard.inputs.labels import Labels
from fairguard.inputs.nested import count_rows
from fairguard.inputs.rows import MAX_CLASSES, Batch, DataRecord, IdCount, Source
from fairguard.inputs.samplers import Reading, read_in_order
from fairguard.names import clean, listed, named

FEW = 64
"""Rows of a Dataset that are looked at to tell whether a reading gives others."""
_END = object()
SHAPE = "it must give (x, y, groups), groups a dict with one value per row for each sensitive feature"


class LoaderRows(Source):
    """Labelled rows of an iterable of batches."""

    columns: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    n_rows: int | None = None
    labelled: bool = False
    record: DataRecord = DataRecord()
    double: bool = False
    note: str = ""
    id_count: IdCount | None = None
    """Known once all rows were read."""

    def __init__(self, reading: Reading, layout: Layout, options: RowOptions, *, name: str) -> None:
        """Look at the first batch.

        Raises:
            DataError: there is none, it is no ``(x, y, groups)``, or a sensitive feature is not in it.
        """
        self._make, self._name = reading.make, name
        self.n_rows, self.note = reading.n_rows, reading.note
        self._needs_features, self.double, self._seed = options.needs_features, options.double, options.seed
        self._asked = layout
        _, y, found = self._unpacked(next(self._given(2), None))
        self._layout = self._completed(layout, y, found)
        self._groups = tuple(group.column for group in self._layout.groups)
        """The sensitive features as the code calls them."""
        self.columns = tuple(map(clean, self._groups))
        self.labelled = y is not None
        self.classes = tuple(map(named, options.classes)) if options.classes else None
        id_named = {"id": self._layout.id} if self._layout.id is not None else {}
        self.record = DataRecord(path=name, kind="callable", options=id_named)
        self._levels = {g.column: Levels(g) for g in self._layout.groups if not self._layout.is_label(g, list(found))}
        self._highest_class = -1

    @property
    def levels(self) -> list[list[str]]:
        """Return, for each sensitive feature, the names of its groups met so far."""
        of_label = list(self.classes or map(str, range(self._highest_class + 1)))
        return [self._levels[c].names if c in self._levels else of_label for c in self._groups]

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yield all rows in order, at most ``batch_size`` at a time."""
        start, ids = 0, id_count_of(self._layout)
        for given in self._given(batch_size):
            x, y, found = self._unpacked(given)
            whole = self._batch(x, y, found, start)
            if whole is None:
                continue
            if ids is not None:
                ids.add(whole.ids)
            for low in range(0, len(whole), batch_size):
                yield _part(whole, low, min(low + batch_size, len(whole)))
            start += len(whole)
        if not start:
            raise DataError(f"{self._name} gives no rows.")
        self.n_rows, self.id_count = start, ids
        for levels in self._levels.values():
            levels.check(start)

    @cached_property
    def drawn(self) -> str:
        """Return ``""`` if all readings give the same rows, ``"by seed"`` if those of one seed do, else ``"anew"``.

        Looks at the first rows twice, and once more if they differ.
        """
        if _alike(first := self._first(self._seed), self._first(self._seed + 1)):
            return ""
        return "by seed" if _alike(first, self._first(self._seed)) else "anew"

    def _first(self, seed: int) -> Any:
        return next(self._given(FEW, seed), None)

    def _given(self, batch_size: int, seed: int | None = None) -> Iterator[Any]:
        """Yield what the user's code gives, its failures in one line and what it draws a function of the seed."""
        chance = _Chance(self._seed if seed is None else seed)
        try:
            with chance.drawn_from(), importable(self._name):
                given = iter(self._make(batch_size))
            while True:
                with (
                    chance.drawn_from(),
                    importable(self._name),
                ):  # never while the batch is in use: whoever uses it may draw too
                    batch = next(given, _END)
                if batch is _END:
                    return
                yield batch
        except FairguardError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(f"{self._name} failed while rows were read: {type(error).__name__}: {error}") from error

    def _unpacked(self, given: Any) -> tuple[Any, Any, Mapping[str, Any]]:
        """Return features, labels and groups of what the user's code gave."""
        if given is None:
            raise DataError(f"{self._name} gives no rows.")
        if isinstance(given, Mapping):
            named = {str(key): part for key, part in given.items()}
            given = _by_name(named, self._asked, self._name, needs_features=self._needs_features)
        elif self._asked.features is not None:
            raise DataError(f"{self._name} makes its own features; apply --features there.")
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            raise DataError(f"{self._name} gives {_told(given)}; {SHAPE}.")
        x, y, groups = given if len(given) == 3 else (*given, {})
        if not isinstance(groups, Mapping):
            raise DataError(f"{self._name} gives groups as {_told(groups)}; {SHAPE}.")
        if isinstance(x, tuple | list | Mapping) and not x and self._needs_features:
            x = np.empty(0)  # not a model without inputs: no rows
        return (tuple(x) if isinstance(x, list) else x), y, {str(key): column for key, column in groups.items()}

    def _completed(self, layout: Layout, y: Any, found: Mapping[str, Any]) -> Layout:
        """Return the layout with its groups, all that were given if none was named, and its label."""
        layout, label = layout.completed(found), (layout.label or "label") if y is not None else None
        known = Layout(label, layout.groups, layout.id, None, layout.weight, layout.cluster)
        wanted = known.named(list(found))
        for column, option in wanted.items():
            if option != "--label" and column not in found:
                raise DataError(missing_column(self._name, column, [*found, CLASS], option))
        if known.groups:
            return known
        rest = [column for column in found if column not in wanted]
        return Layout(label, tuple(map(GroupSpec, rest)), layout.id, None, layout.weight, layout.cluster)

    def _batch(self, x: Any, y: Any, found: Mapping[str, Any], start: int) -> Batch | None:
        """Return the rows that the user's code gave as a batch, ``None`` if they are none."""
        labels = None if y is None else self._encode_labels(y, start)
        n = len(labels) if labels is not None else _rows_in(x, found)
        features = as_features(x, start, double=self.double) if self._needs_features else None
        if features is not None and count_rows(features) != n:
            raise DataError(f"{self._name} gives {count_rows(features)} rows of features for {n} labels.")
        if not n:
            return None
        layout = self._layout
        codes = np.empty((n, len(self._groups)), dtype=np.int64)
        for i, column in enumerate(self._groups):
            if column in self._levels:
                codes[:, i] = self._levels[column].encode(self._column(found, column, n))
            elif labels is not None:
                codes[:, i] = labels
        return Batch(
            x=features,
            y=labels,
            codes=codes,
            ids=np.arange(start, start + n) if layout.id is None else self._complete(found, "id", n, start),
            start=start,
            weight=None if layout.weight is None else self._weights(found, layout.weight, n, start),
            cluster=None if layout.cluster is None else self._complete(found, "cluster", n, start),
        )

    def _complete(self, found: Mapping[str, Any], part: str, n: int, start: int) -> NDArray[Any]:
        """Return the rows' ids or clusters, of which none may be missing."""
        column = str(getattr(self._layout, part))
        given = self._column(found, column, n)
        check_complete(given, f"{self._name}: {column!r} (--{part})", start)
        return values(given)

    def _column(self, found: Mapping[str, Any], column: str, n: int) -> Any:
        if column not in found:
            raise DataError(missing_column(self._name, column, list(found), "--group"))
        made = arrow(found[column], what=f"{self._name}: {column!r}")
        if len(made) != n:
            raise DataError(f"{self._name} gives {len(made)} values of {column!r} for {n} rows; give one per row.")
        return made

    def _weights(self, found: Mapping[str, Any], column: str, n: int, start: int) -> NDArray[np.float64]:
        given = self._column(found, column, n)
        check_weights(given, f"{self._name}: {column!r}", start)
        return numbers(given)

    def _encode_labels(self, y: Any, start: int) -> IntArray:
        """Return the labels as class codes, shape (n,)."""
        column = arrow(y, what=f"{self._name}: the labels")
        if not len(column):
            return np.empty(0, dtype=np.int64)
        if self.classes is not None:
            labels = Labels(f"{self._name}: the labels from row {start} on", classes=self.classes)
            labels.observe(column)
            labels.settle()
            return labels.encode(column)
        if not is_number(column.type):
            raise DataError(f"{self._name} gives labels of type {column.type}; name their classes with --classes.")
        given = numbers(column)
        wrong = ~((given >= 0) & (given == np.floor(given)) & (given < MAX_CLASSES))
        if wrong.any():
            at = int(wrong.argmax())
            raise DataError(
                f"{self._name} gives the label {given[at]:g} in row {start + at} (from 0); labels are 0, 1, ... up to "
                f"{MAX_CLASSES - 1}. Leave rows without label out."
            )
        self._highest_class = max(self._highest_class, int(given.max(initial=-1)))
        return given.astype(np.int64)


class _Chance:
    """The global generators of Python, numpy and torch, as one reading leaves them."""

    def __init__(self, seed: int) -> None:
        self._numpy: Any = np.random.MT19937()
        self._seed, self._states = seed, cast("tuple[Any, Any] | None", None)

    @contextmanager
    def drawn_from(self) -> Iterator[None]:
        """Draw from these generators, and put everybody else's back afterwards."""
        of_numpy: Any = np.random  # its generator is exchanged: a state would take a hundred times as long
        others, another = _states(), of_numpy.get_bit_generator()
        of_numpy.set_bit_generator(self._numpy)
        if self._states is None:
            self._sow()
        else:
            _restore(self._states)
        try:
            yield
        finally:
            self._states = _states()
            of_numpy.set_bit_generator(another)
            _restore(others)

    def _sow(self) -> None:
        random.seed(self._seed)
        np.random.seed(self._seed % 2**32)
        if (torch := sys.modules.get("torch")) is not None:
            torch.default_generator.manual_seed(self._seed)


def sown(seed: int) -> AbstractContextManager[None]:
    """Return a context in which what the user's code draws is a function of the seed, and nobody else is disturbed."""
    return _Chance(seed).drawn_from()


def _states() -> tuple[Any, Any]:
    """Return the states of Python's generator and of torch's, where somebody has loaded it."""
    torch = sys.modules.get("torch")
    return random.getstate(), None if torch is None else torch.get_rng_state()


def _restore(states: tuple[Any, Any]) -> None:
    random.setstate(states[0])
    if states[1] is not None:
        sys.modules["torch"].set_rng_state(states[1])


def _alike(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same; what cannot be compared is taken to."""
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_alike, one, other))
    try:
        a, b = np.asarray(one), np.asarray(other)
        return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124 - nan
    except Exception:  # whatever the user's code gives
        return True


def reading_of(given: Any, *, name: str) -> Reading:
    """Return how the batches of a Dataset, DataLoader or iterable are read.

    A DataLoader is read in the order of its data set and without dropping rows, whatever its sampler does: row numbers
    mean something, and every row is judged once; see :func:`fairguard.inputs.samplers.read_in_order`.

    Raises:
        DataError: it can be read only once, its size is not known, or it is nothing that gives rows.
    """
    from torch.utils.data import DataLoader, Dataset, IterableDataset

    try:
        if isinstance(given, DataLoader):
            return read_in_order(given, name=name)
        if isinstance(given, Dataset):
            n_rows = None if isinstance(given, IterableDataset) else len(given)  # type: ignore[arg-type]
            return Reading(lambda batch_size: DataLoader(given, batch_size=batch_size), n_rows)
    except Exception as error:  # a data set without a length, or whatever its own code raises
        raise DataError(f"{name} cannot be read: {type(error).__name__}: {error}") from error
    if isinstance(given, Iterator):
        raise DataError(f"{name} can be read only once; give the function that makes it, as pkg.module:callable.")
    if isinstance(given, Iterable):
        return Reading(lambda _: given)
    raise DataError(f"{name} is {_told(given)}; {SHAPE}, as a Dataset, a DataLoader or a list of batches.")


def _by_name(
    given: Mapping[str, Any], asked: Layout, name: str, *, needs_features: bool
) -> tuple[Any, Any, Mapping[str, Any]]:
    """Return features, labels and groups of a batch that has all of them by name, as collators of transformers give."""
    if asked.label is None:
        raise DataError(
            f"{name} gives a dict of {listed(list(given), most=10)}; name its label with --label and its groups with "
            f"--group, what is left are the features. Or {SHAPE}."
        )
    layout = asked.completed(given)
    layout.check(name, list(given))
    wanted = layout.named(list(given))
    x = {column: given[column] for column in layout.feature_columns(name, list(given))} if needs_features else {}
    _need_numbers(x, name)
    beside = {column: part for column, part in given.items() if column in wanted or column not in x}
    beside.pop(str(layout.label))
    return next(iter(x.values())) if len(x) == 1 else x, given[str(layout.label)], beside


def _need_numbers(x: Mapping[str, Any], name: str) -> None:
    """Raise :class:`DataError` if a column of text was left to be a feature: it is most likely a group."""
    for column, part in x.items():
        if isinstance(part, list | tuple) and part and isinstance(part[0], str):
            raise DataError(
                f"{name}: {clean(column)!r} holds text and is no feature; name it with --group if it is a sensitive "
                f"feature, or name the features with --features."
            )


def _part(batch: Batch, low: int, high: int) -> Batch:
    if low == 0 and high == len(batch):
        return batch
    return replace(without_features(batch, low, high), x=rows_of(batch.x, low, high))


def _rows_in(x: Any, found: Mapping[str, Any]) -> int:
    """Return how many rows a batch without labels has."""
    rows = count_rows(as_features(x)) if x is not None else None
    return rows if rows is not None else len(next(iter(found.values()), ()))


def _told(given: Any) -> str:
    """Return a few words on what the user's code gave."""
    if isinstance(given, tuple | list):
        return f"a {type(given).__name__} of {len(given)}"
    return f"something of type {type(given).__name__}"
