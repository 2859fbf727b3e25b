"""Features of any nesting: one array or tensor, or dicts and tuples of them, row by row. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def mapped(do: Callable[[Any], Any], x: Any) -> Any:
    """Return ``x`` with ``do`` done to each of its arrays; of no features none."""
    if isinstance(x, Mapping):
        return {name: mapped(do, part) for name, part in x.items()}
    if isinstance(x, tuple):
        return tuple(mapped(do, part) for part in x)
    return None if x is None else do(x)


def leaves(x: Any) -> Iterator[Any]:
    """Yield the arrays of ``x``."""
    if isinstance(x, Mapping | tuple):
        for part in x.values() if isinstance(x, Mapping) else x:
            yield from leaves(part)
    elif x is not None:
        yield x


def count_rows(x: Any) -> int | None:
    """Return the number of rows, or ``None`` where the arrays of ``x`` disagree or have none."""
    shapes = [tuple(getattr(part, "shape", ())) for part in leaves(x)]
    counts = {shape[0] if shape else None for shape in shapes}
    return counts.pop() if len(counts) == 1 else None
