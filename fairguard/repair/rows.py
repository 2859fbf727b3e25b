"""The rows that training sees, in memory or on the device, and the batches taken from them.

Knows tensors and row numbers; knows nothing of what is trained on them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fairguard.errors import DataError
from fairguard.inputs.nested import leaves, mapped
from fairguard.inputs.rows import Source

DEVICE_SHARE = 0.4
"""Rows stay on the accelerator when they take less than this share of its free memory."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled rows with their groups.

    Attributes:
        x: what the model takes: a tensor of shape (n, ...), a dict or tuple of such, or ``None`` if answers are enough.
        y: shape (n,), int64 class codes.
        codes: shape (n, C), int64 level codes of the sensitive features.
        ids: shape (n,), what says which rows belong together: identifiers, or clusters where there are some.
    """

    x: Any
    y: Tensor
    codes: Tensor
    ids: NDArray[Any]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.y)

    def take(self, index: NDArray[np.int64]) -> Rows:
        """Return the rows at ``index``, in its order."""
        where = torch.from_numpy(index)
        return Rows(mapped(lambda t: t[where], self.x), self.y[where], self.codes[where], self.ids[index])

    def take_first(self, n: int) -> Rows:
        """Return the first ``n`` rows."""
        return Rows(mapped(lambda t: t[:n], self.x), self.y[:n], self.codes[:n], self.ids[:n])

    def to(self, device: torch.device) -> Rows:
        """Return the rows with labels and codes on ``device``, and the features too where they fit."""
        x = self.x
        if device.type == "cuda" and fits(x, device):
            x = mapped(lambda t: t.to(device), x)
        return Rows(x, self.y.to(device), self.codes.to(device), self.ids)


def nbytes(x: Any) -> int:
    """Return the size of all tensors of ``x`` in bytes."""
    return sum(t.numel() * t.element_size() for t in leaves(x))


def fits(x: Any, device: torch.device, *, copies: int = 1) -> bool:
    """Return whether so many copies of ``x`` may take room on ``device``; in main memory they always may."""
    return device.type != "cuda" or copies * nbytes(x) < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]


def read_rows(source: Source, prepare: Callable[[Any], Any], *, batch_size: int = 4096) -> Rows:
    """Return all rows of ``source`` in memory.

    Args:
        source: labelled rows with sensitive features.
        prepare: turns a batch's features into the tensors that the model takes.
        batch_size: rows read at a time.

    Raises:
        DataError: the rows have no labels or no features.
    """
    if not source.labelled:
        raise DataError("repair needs labelled rows to train on: name the label column (--label).")
    parts = list(source.batches(batch_size))
    if not parts:
        raise DataError("repair was given no rows.")
    if parts[0].x is None:
        raise DataError("repair needs the features of the rows, not only recorded predictions: pass --data with them.")
    return Rows(
        joined([prepare(part.x) for part in parts]),
        torch.from_numpy(np.concatenate([np.asarray(part.y) for part in parts]).astype(np.int64)),
        torch.from_numpy(np.concatenate([part.codes for part in parts]).astype(np.int64)),
        np.concatenate([np.asarray(part.ids if part.cluster is None else part.cluster) for part in parts]),
    )


def joined(parts: Sequence[Any]) -> Any:
    """Return the parts one after the other, whatever their nesting."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    return tuple(joined([part[i] for part in parts]) for i in range(len(first)))


def shuffled(n: int, batch_size: int, *, seed: int, epoch: int, beside: bool = False) -> Tensor:
    """Return the row numbers of one epoch's full batches, shape (steps, batch_size), a function of its arguments only.

    The rows left over come first in no epoch and last in none: each epoch leaves out others.

    Args:
        n: how many rows there are.
        batch_size: rows a step.
        seed: of all epochs.
        epoch: its number.
        beside: half of every batch are the rows' neighbours, whose numbers are higher by ``n``.
    """
    size = min(batch_size, n)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    batches = order[: n // size * size].view(-1, size)
    if beside:
        batches[:, (size + 1) // 2 :] += n
    return batches


def fetched(x: Any, batches: Tensor | Sequence[Tensor], device: torch.device) -> Iterator[tuple[Tensor, Any]]:
    """Yield (row numbers, features) of each batch on ``device``.

    Features that already live there are indexed in place; others are copied one batch ahead of their use, from pinned
    memory and on a stream of their own, so that the copy hides behind the step before: give all batches at once.

    Args:
        x: features, on ``device`` or in main memory.
        batches: row numbers, shape (steps, batch_size), or a tensor for each step.
        device: where the batches are wanted.
    """
    if device.type == "cpu" or next(leaves(x)).device == device:
        for index in batches.to(device) if isinstance(batches, Tensor) else batches:
            here = index.to(device)
            yield here, picked(x, here)
        return
    stream, ahead = _copying(device), None
    for index in batches:
        rows = mapped(Tensor.pin_memory, picked(x, index))
        with torch.cuda.stream(stream):
            coming = index.to(device, non_blocking=True), mapped(lambda t: t.to(device, non_blocking=True), rows)
        if ahead is not None:
            yield ahead
        torch.cuda.current_stream(device).wait_stream(stream)
        mapped(lambda t: _used_here(t, device), coming[1])
        ahead = coming
    if ahead is not None:
        yield ahead


def picked(x: Any, index: Tensor) -> Any:
    """Return the rows of ``x`` at ``index``."""
    return mapped(lambda t: t.index_select(0, index), x)


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    """Return the stream on which rows are copied to a device: a new one each time would keep memory of its own."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _used_here(tensor: Tensor, device: torch.device) -> Tensor:
    tensor.record_stream(torch.cuda.current_stream(device))
    return tensor
