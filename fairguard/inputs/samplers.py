"""A DataLoader for judging: the rows of its data set in their own order, each once, whatever its sampler is good for.

Samplers are made for training: they shuffle, repeat rare rows and drop what fills no batch. What is judged is rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairguard.errors import DataError

Make = Callable[[int], Iterable[Any]]
"""Gives the batches, in the same order at every call, for a wanted batch size."""


@dataclass(frozen=True)
class Reading:
    """How the batches of a loader are read.

    Attributes:
        make: gives them.
        n_rows: number of rows, where it is known before.
        note: what the reader of a verdict should know of how they were chosen; mostly nothing.
    """

    make: Make
    n_rows: int | None = None
    note: str = ""


@dataclass(frozen=True)
class _Drawn:
    """What a sampler can draw.

    Attributes:
        rows: in the order of the data set, each once.
        resampled: whether one pass of the sampler repeats some, or leaves some out.
    """

    rows: Sequence[Any]
    resampled: bool = False


def read_in_order(loader: Any, *, name: str) -> Reading:
    """Return a reading of a DataLoader in which no row is dropped or repeated.

    Of torch's own samplers the rows that they can draw are read, in the order of the data set: of a
    SubsetRandomSampler its subset, of a WeightedRandomSampler the rows of weight above 0, else all. A sampler of the
    user's own is followed, and so is a stream, which nobody can reorder.

    Raises:
        DataError: while it is read, if a sampler of the user's own gives a row twice.
    """
    from torch.utils.data import BatchSampler, IterableDataset

    if isinstance(loader.dataset, IterableDataset):
        return Reading(lambda _: _like(loader, drop_last=False))
    place = "sampler" if loader.batch_sampler is None else "batch_sampler"
    given, size = getattr(loader, place), None
    sampler = given
    if _draws_as(given, BatchSampler):
        sampler, size = given.sampler, given.batch_size
    drawn = _drawn(sampler)

    def make(_: int) -> Iterable[Any]:
        chosen: Any = sampler if drawn is None else drawn.rows
        if size is not None:
            chosen = BatchSampler(chosen, size, drop_last=False)
        if drawn is None:
            chosen = _Once(chosen, loader.dataset, name, batched=place == "batch_sampler")
        instead = _Instead(chosen, given)
        return _drawing(_like(loader, drop_last=False, **{place: instead}), instead, name)

    if drawn is None:
        return Reading(make)
    n_rows = len(drawn.rows)
    note = (
        f"the {type(sampler).__name__} of {name} repeats rows or leaves rows out: it was not followed, and each of the "
        f"{n_rows:,} rows that it can draw was read once"
    )
    return Reading(make, n_rows if place == "batch_sampler" else None, note if drawn.resampled else "")


def _drawn(sampler: Any) -> _Drawn | None:
    """Return what one of torch's own samplers can draw, ``None`` for any other."""
    from torch.utils.data import (
        DistributedSampler,
        RandomSampler,
        SequentialSampler,
        SubsetRandomSampler,
        WeightedRandomSampler,
    )

    if _draws_as(sampler, SequentialSampler):
        return _Drawn(range(len(sampler.data_source)))
    if _draws_as(sampler, RandomSampler):
        rows = range(len(sampler.data_source))
        return _Drawn(rows, sampler.replacement or sampler.num_samples != len(rows))
    if _draws_as(sampler, SubsetRandomSampler):
        chosen = sorted(set(map(_plain, sampler.indices)))
        return _Drawn(chosen, len(chosen) < len(sampler.indices))
    if _draws_as(sampler, WeightedRandomSampler):
        return _Drawn((sampler.weights > 0).nonzero().ravel().tolist(), resampled=True)
    if _draws_as(sampler, DistributedSampler):
        return _Drawn(range(len(sampler.dataset)), sampler.num_replicas > 1)
    return None


def _draws_as(sampler: Any, kind: type) -> bool:
    """Return whether a sampler is of this kind, and not one that draws in another way."""
    return isinstance(sampler, kind) and type(sampler).__iter__ is kind.__iter__  # type: ignore[attr-defined]


def _like(loader: Any, **changes: Any) -> Iterable[Any]:
    """Return a loader like the one given but for some attributes, which a loader lets nobody set once it is made.

    What it draws comes from torch's own generator, which goes with every reading.
    """
    made: Iterable[Any] = copy.copy(loader)
    made.__dict__.update(changes, generator=None, _iterator=None)
    return made


def _drawing(loader: Iterable[Any], instead: _Instead, name: str) -> Iterator[Any]:
    """Yield the batches of a loader.

    Raises:
        DataError: they do not come from the sampler that it was given.
    """
    for batch in loader:
        if not instead.asked:
            raise DataError(
                f"{name} draws its rows with an iterator of its own, so that nobody knows which rows come and in what "
                f"order; give the data set itself, or a plain DataLoader of it."
            )
        yield batch


class _Instead:
    """What is drawn instead of a sampler; all else that a loader of the user's own asks of it, the sampler answers."""

    def __init__(self, chosen: Any, sampler: Any) -> None:
        self._chosen, self._sampler = chosen, sampler
        self.asked = False
        """Whether anybody drew from it."""

    def __iter__(self) -> Iterator[Any]:
        self.asked = True
        return iter(self._chosen)

    def __len__(self) -> int:
        return len(self._chosen)

    def __getattr__(self, name: str) -> Any:
        if name in ("_chosen", "_sampler"):  # a copy asks before it has any
            raise AttributeError(name)
        return getattr(self._sampler, name)


@dataclass(frozen=True)
class _Once:
    """What a sampler of the user's own chooses, rows or batches of rows.

    Attributes:
        chosen: gives it.
        dataset: has the rows.
        name: of the loader, for errors.
        batched: whether all that it gives are batches; else a tuple is the key of one row.
    """

    chosen: Any
    dataset: Any
    name: str
    batched: bool

    def __len__(self) -> int:
        return len(self.chosen)

    def __iter__(self) -> Iterator[Any]:
        """Yield what is chosen.

        Raises:
            DataError: a row comes twice. Of what cannot be hashed nobody knows, and it is followed.
        """
        seen = set[Any]()
        for drawn in self.chosen:
            given = list(drawn) if self.batched and isinstance(drawn, Iterator) else drawn  # it is read twice
            for row in filter(_hashes, self._rows(given)):
                if row in seen:
                    raise DataError(
                        f"the sampler of {self.name} gives row {row} of the data set twice, and a row counts once; "
                        f"give the data set itself, or a sampler that repeats no row."
                    )
                seen.add(row)
            yield given

    def _rows(self, given: Any) -> Iterator[Any]:
        """Yield each row that is meant."""
        if not self.batched and str(getattr(given, "dtype", "")).endswith("bool"):
            given = np.flatnonzero(given)
        kinds = Iterable if self.batched else list | range
        several = isinstance(given, kinds) or getattr(given, "ndim", 0) > 0
        for row in given if several else [given]:
            if isinstance(row, slice):
                with suppress(TypeError):  # a data set without a length, or a slice of other things than numbers
                    yield from range(*row.indices(len(self.dataset)))
            else:
                yield _plain(row)


def _hashes(row: Any) -> bool:
    """Return whether equal rows can be found in a set."""
    try:
        hash(row)
    except TypeError:
        return False
    return True


def _plain(row: Any) -> Any:
    """Return a row's number as Python's own, by which equal ones are found."""
    return row.item() if getattr(row, "ndim", None) == 0 else row
