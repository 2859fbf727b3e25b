"""Boolean features beside others: a mask, which stays one, or a number, for a net that takes it as nothing else.

Which of the two is found by asking the net. Knows no file format and no task.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterator
from itertools import chain, combinations, islice
from typing import Any

import torch

from fairguard.inputs.calling import call

Place = tuple[Any, ...]
"""Where a tensor stands in dicts and tuples: the names and numbers that lead to it."""
MOST = 32
"""Choices of booleans that are tried; after them, all."""
_OF_BOOLEANS = re.compile(r"bool", re.IGNORECASE)
_FULL = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)


def as_numbers(x: Any, places: Container[Place], dtype: torch.dtype, *, at: Place = ()) -> Any:
    """Return ``x``, a tensor or dicts and tuples of such, with the booleans at ``places`` as zeros and ones."""
    if isinstance(x, dict):
        return {name: as_numbers(part, places, dtype, at=(*at, name)) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(as_numbers(part, places, dtype, at=(*at, i)) for i, part in enumerate(x))
    return x.to(dtype) if at in places and x.dtype == torch.bool else x


def taken_as_numbers(net: Callable[..., Any], x: Any, dtype: torch.dtype) -> frozenset[Place]:
    """Return which booleans of the rows ``x`` the net takes only as numbers; none where that does not help it.

    Args:
        net: a module in eval mode; it is run a few times where it fails on ``x``, and nothing it gives is kept.
        x: tensors, as :func:`fairguard.inputs.calling.call` takes them.
        dtype: the floating dtype that the net takes.
    """
    places = list(_booleans(x))
    error = _failure(net, x) if places else None
    if error is None or not _OF_BOOLEANS.search(str(error)) or _FULL.search(str(error)):
        return frozenset()
    # As few as will do: to some nets a mask of numbers is another one, and nothing that fails.
    some = chain.from_iterable(combinations(places, n) for n in range(1, len(places)))
    choices = map(frozenset, chain(islice(some, MOST), [places]))
    return next((found for found in choices if _failure(net, as_numbers(x, found, dtype)) is None), frozenset())


def _booleans(x: Any, at: Place = ()) -> Iterator[Place]:
    if isinstance(x, dict | tuple):
        for name, part in x.items() if isinstance(x, dict) else enumerate(x):
            yield from _booleans(part, (*at, name))
    elif isinstance(x, torch.Tensor) and x.dtype == torch.bool:
        yield at


def _failure(net: Callable[..., Any], x: Any) -> Exception | None:
    try:
        with torch.no_grad():
            call(net, x)
    except Exception as error:  # whatever the user's net raises
        return error
    return None
