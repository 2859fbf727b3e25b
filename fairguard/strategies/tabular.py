"""Rows like the data's own, and pairs of rows that differ in nothing but a group. Knows no model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from fairguard.errors import ConfigError
from fairguard.schema import Column, Schema

Row = dict[str, Any]
Drawn = tuple[int, dict[str, int]]
"""A real row, and the places of the values that replace some of its own."""


def rows(data: Any, *, max_changed: int = 3, **options: Any) -> SearchStrategy[Row]:
    """Return a strategy of rows, as dicts of the columns that reach the model (or its transform).

    A row starts from a real one and takes values of at most ``max_changed`` columns from other real rows. It shrinks
    toward a real row: first to fewer changed columns, then to values nearer to its own.

    Args:
        data: a :class:`Schema`, or what one is made of: a CSV or Parquet file, a pandas table.
        max_changed: how many columns may differ from the real row.
        **options: of :meth:`Schema.of`, where ``data`` is none yet: ``label``, ``features``, ``transform``, ...
    """
    return _rows(_reader(data, options), max_changed)


def counterfactual_pairs(
    data: Any, *, swap: str, max_changed: int = 3, **options: Any
) -> SearchStrategy[tuple[Row, Row]]:
    """Return a strategy of two rows that differ in column ``swap`` and in nothing else.

    The first is a row as :func:`rows` makes it, the second the same with another group. The property to hold it
    against: where the dense model treats both alike, so does the pruned one.

    Args:
        data: as for :func:`rows`.
        swap: the column that differs. It must reach the model, as a feature or through the transform.
        max_changed: how many other columns may differ from the real row.
        **options: as for :func:`rows`.
    """
    return _pairs(_reader(data, options), swap, max_changed)


def _reader(data: Any, options: dict[str, Any]) -> Callable[[], Schema]:
    """Return what gives the schema, read once and not before an example is drawn."""
    if not isinstance(data, Schema):
        return cache(lambda: Schema.of(data, **options))
    if options:
        raise ConfigError(f"a Schema has its options already; give {', '.join(options)} to Schema.of.")
    return lambda: data


@st.composite
def _rows(draw: DrawFn, read: Callable[[], Schema], max_changed: int) -> Row:
    schema = read()
    row, changes = draw(_drawn(schema, tuple(schema.columns), max_changed))
    return _made(schema, row, changes)


@st.composite
def _pairs(draw: DrawFn, read: Callable[[], Schema], swap: str, max_changed: int) -> tuple[Row, Row]:
    schema = read()
    column = schema.swapped(swap)
    row, changes = draw(_drawn(schema, tuple(name for name in schema.columns if name != swap), max_changed))
    others = [place for place in range(column.present) if place != column.places[row]]
    other = draw(st.sampled_from(others))
    return _made(schema, row, changes), _made(schema, row, {**changes, swap: other})


@st.composite
def _drawn(draw: DrawFn, schema: Schema, changeable: tuple[str, ...], max_changed: int) -> Drawn:
    """Return a strategy of changed rows that the shrinker can take apart column by column.

    A column and its value are drawn one after the other, so that both go at once. A real row is lowered to the first
    of all long before its changes go, and that one may need a change more than another would: so one of the changes
    may instead be replaced by a real row that holds its value.
    """
    row = draw(st.integers(0, len(schema) - 1))
    column = st.sampled_from((*(None,) * len(changeable), *changeable)) if changeable else st.none()
    changes: dict[str, int] = {}
    for _ in range(max_changed):
        if (name := draw(column)) is not None:
            changes[name] = draw(_places(schema.columns[name], row))
    changes = {name: place for name, place in changes.items() if place != schema.columns[name].places[row]}
    instead = draw(st.integers(0, 4 * max_changed))  # at four of five values at least, no change is replaced
    if len(changes) > 1 and instead < len(changes):
        name = list(changes)[instead]
        row = int(schema.columns[name].holders[changes.pop(name)])
    return row, changes


def _places(column: Column, row: int) -> SearchStrategy[int]:
    """Return a strategy of places that shrinks toward the real row's own."""
    own = int(column.places[row])
    return st.integers(-own, len(column.holders) - 1 - own).map(lambda away: own + away)


def _made(schema: Schema, row: int, changes: dict[str, int]) -> Row:
    places = {name: np.array([place]) for name, place in changes.items()}
    made: Row = schema.build(np.array([row]), places).to_pylist()[0]
    return made
