"""A DataLoader for judging: the rows of its data set in their own order, each once, whatever its sampler is good for.

Samplers are made for training: they shuffle, repeat rare rows and drop what fills no batch. What is judged is rows.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

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
    sampler, size = getattr(loader, place), None
    if _draws_as(sampler, BatchSampler):
        sampler, size = sampler.sampler, sampler.batch_size
    drawn = _drawn(sampler)

    def make(_: int) -> Iterable[Any]:
        chosen: Any = sampler if drawn is None else drawn.rows
        if size is not None:
            chosen = BatchSampler(chosen, size, drop_last=False)
        if drawn is None:
            chosen = _each_once(chosen, name)
        return _like(loader, drop_last=False, **{place: chosen})

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


def _each_once(chosen: Iterable[Any], name: str) -> Iterator[Any]:
    """Yield what a sampler chooses, rows or batches of rows.

    Raises:
        DataError: a row comes twice.
    """
    seen = set[Any]()
    for given in chosen:
        several = isinstance(given, list) or getattr(given, "ndim", 0) > 0
        for row in map(_plain, given if several else [given]):
            if row in seen:
                raise DataError(
                    f"the sampler of {name} gives row {row} of the data set twice, and a row counts once; give the "
                    f"data set itself, or a sampler that repeats no row."
                )
            seen.add(row)
        yield given


def _plain(row: Any) -> Any:
    """Return a row's number as Python's own, by which equal ones are found."""
    return row.item() if hasattr(row, "item") else row
