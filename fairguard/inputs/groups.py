"""Sensitive features: from the values of a column to groups with names and codes. Knows Arrow arrays, no file format.

A group is asked for as ``race`` (every value is a group), ``age:25,45,65`` (numbers in bins, lower edge included) or
``class`` (the label itself). A row without a value belongs to the group ``(missing)``.
A column whose own name reads like bins, ``hh:30``, is meant by that name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import ConfigError, DataError
from fairguard.inputs.rows import MISSING
from fairguard.names import clean, shown, text_behind

Column = Any
"""A ``pyarrow.ChunkedArray``; pyarrow ships no types of its own."""

CLASS = "class"
"""The sensitive feature that is the label itself."""
MAX_NUMBERS = 50
"""A column of more different numbers than this is no set of groups: it wants bins."""
MAX_NAMES = 1_000
"""A column of more different values than this identifies rows rather than groups."""

_HUGE, _SCALE, _DIGITS = 1e300, 1e10, 1e16

_LIKE_TWO = re.compile(r" & .*=")
"""In a value, what would make ``race=A & sex=F`` the name of a value and of an intersection."""
_NARROW = {pa.float32(): np.float32, pa.float16(): np.float16}
"""Numbers that are no nearer to what was written than their type allows."""
_BINS = re.compile(r"(?P<column>.+):(?P<edges>[-+0-9.,eE ]+)")


@dataclass(frozen=True)
class GroupSpec:
    """One sensitive feature as the user asked for it.

    Attributes:
        column: the column's name, which is also the name of the sensitive feature.
        edges: where the bins of a numeric column begin, ascending; empty for a column of categories.
        given: the words themselves.
    """

    column: str
    edges: tuple[float, ...] = ()
    given: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> GroupSpec:
        """Return what ``race`` or ``age:25,45,65`` asks for.

        Raises:
            ConfigError: the edges are not ascending numbers.
        """
        found = _BINS.fullmatch(text)
        if found is None:
            return cls(text)
        try:
            edges = tuple(float(edge) for edge in found["edges"].split(","))
        except ValueError:
            edges = ()
        if not edges or not all(map(math.isfinite, edges)) or any(a >= b for a, b in pairwise(edges)):
            raise ConfigError(f"group {text!r}: bins need ascending numbers, as in 'age:25,45,65'.")
        return cls(found["column"], edges, text)

    def among(self, columns: Container[str]) -> GroupSpec:
        """Return what the same words ask for among these columns: one of that very name before bins of another."""
        return GroupSpec(self.given) if self.edges and self.given in columns else self

    @property
    def text(self) -> str:
        """Return how to ask for it."""
        return f"{self.column}:{','.join(map(_edge, self.edges))}" if self.edges else self.column

    @property
    def bins(self) -> tuple[str, ...]:
        """Return the names of the bins in order: ``<25``, ``25-45``, ``45-65``, ``>=65``."""
        names = [_edge(edge) for edge in self.edges]
        between = [f"{low}-{high}" for low, high in pairwise(names)]
        return (f"<{names[0]}", *between, f">={names[-1]}")


def parse_groups(groups: str | Iterable[str]) -> tuple[GroupSpec, ...]:
    """Return the sensitive features asked for, each column once.

    Raises:
        ConfigError: a column is named twice, or its bins are wrong.
    """
    specs = tuple(map(GroupSpec.parse, [groups] if isinstance(groups, str) else groups))
    columns = [spec.column for spec in specs]
    for column in columns:
        if columns.count(column) > 1:
            raise ConfigError(f"group {column!r} is named twice; name each column once.")
    return specs


def _edge(edge: float) -> str:
    """Return how an edge is written: 25, 0.5, and 1e+300 rather than three hundred digits."""
    return name_of(edge) if abs(edge) < _DIGITS else repr(edge)


def name_of(value: Any) -> str:
    """Return the name of one value: ``True``, ``3`` (also for 3.0), text that can be shown; no value: ``(missing)``."""
    text = text_of(value)
    return text if text == MISSING else clean(text)


def text_of(value: Any) -> str:
    """Return the text of one value as it stands; no value: ``(missing)``."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(float(value))
    if isinstance(value, Decimal):  # of a column of 30.00 and 0.50: normalize() would round what is long
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def arrow(values: Any, *, what: str) -> Column:
    """Return values of one type, shape (n,), as an Arrow array; ``what`` names them in errors.

    Raises:
        DataError: the values have several types, or more than one dimension.
    """
    if hasattr(values, "detach"):  # a tensor, possibly on a device and part of a graph
        values = values.detach().cpu().numpy()
    if isinstance(values, np.ndarray) and values.ndim != 1:
        raise DataError(f"{what} has shape {values.shape}; it must have one value per row.{_flattened(values)}")
    try:
        made = pa.array(values, from_pandas=True)
    except OverflowError:
        raise DataError(f"{what} holds whole numbers of more than 64 bits; give them as text.") from None
    except UnicodeError as error:
        raise DataError(f"{what} holds text that is no Unicode ({error}); correct it.") from None
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(f"{what} mixes types; give numbers only, or text only ({error}).") from None
    return made if isinstance(made, pa.ChunkedArray) else pa.chunked_array([made])


def _flattened(values: NDArray[Any]) -> str:
    """Return how to make one value per row of a matrix, where that is clear."""
    if values.ndim != 2 or values.dtype.kind not in "iufb" or not values.size:
        return ""
    if values.shape[1] == 1:
        return " Give it as values.ravel()."
    if ((values == 0) | (values == 1)).all():
        if (values.sum(axis=1) == 1).all():
            return " These are one-hot: give the classes, values.argmax(1)."
        return " Of several labels for each row, check one at a time: values[:, 0]."
    if values.dtype.kind == "f" and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        return " These are shares of the classes: give the likeliest, values.argmax(1)."
    return ""


def distinct(column: Column, what: str) -> Iterable[tuple[IntArray, Any]]:
    """Yield, for each chunk, the place of every row's value in an Arrow array of values, -1 for a missing value.

    Raises:
        DataError: ``what``, as errors call the column, holds lists or the like, which are no single values.
    """
    for chunk in column.chunks:
        try:
            values = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
            nested = pa.types.is_nested(values.type.value_type)
        except pa.ArrowNotImplementedError:
            nested = True
        if nested:
            raise DataError(f"{what} holds {shown(chunk.type)}; name a column of text, numbers, dates or booleans.")
        places = values.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        yield places, values.dictionary


def as_written(values: Any, place: int) -> Any:
    """Return one of an Arrow array's values: the float32 of 0.1 as 0.1, not as 0.10000000149011612."""
    value = _as_python(values[place])
    narrow = _NARROW.get(values.type)
    return value if narrow is None or value is None else float(str(narrow(value)))


def texts(column: Column, what: str) -> NDArray[np.object_]:
    """Return the text of each row's value, shape (n,), as the names of groups and classes show it; None: no value."""
    parts = [np.empty(0, dtype=object)]
    for places, values in distinct(column, what):
        known = [as_written(values, at) for at in range(len(values))]
        named = np.array(
            [None if value is None or value == "" else text_of(value) for value in known] + [None], dtype=object
        )
        parts.append(named[places])
    return np.concatenate(parts)


def _as_python(scalar: Any) -> Any:
    """Return one Arrow value; as text where Python has none that is exactly it: times to the nanosecond, a far date."""
    timed = pa.types.is_temporal(scalar.type)
    try:
        value = scalar.as_py()
        if value is None or not timed or pa.scalar(value, scalar.type).equals(scalar):
            return value
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    except (pa.ArrowException, ValueError, OverflowError, TypeError, KeyError):
        if not timed:
            raise
    if pa.types.is_time(scalar.type):
        return scalar.cast(pa.string()).as_py()
    unit = getattr(scalar.type, "unit", "ms" if pa.types.is_date64(scalar.type) else "days")
    return f"{scalar.value} {unit}{'' if pa.types.is_duration(scalar.type) else ' since 1970'}"


class Levels:
    """The groups of one sensitive feature: their names, and codes for rows. Names are only ever added."""

    def __init__(self, spec: GroupSpec) -> None:
        """Start without any group."""
        self.spec = spec
        self.names: list[str] = []
        self._texts: dict[str, str] = {}
        self._codes: dict[str, int] = {}

    def encode(self, column: Column) -> IntArray:
        """Return the code of each row's group, shape (n,); values not seen before become new groups.

        Raises:
            DataError: more different values than groups can have, or bins over a column of text.
        """
        parts = [self._encode(*part, column) for part in self._parts(column)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def settle(self) -> None:
        """Sort the names found so far: bins and numbers by size, text by alphabet, ``(missing)`` last."""
        order = self.spec.bins if self.spec.edges else sorted_names(self.names, self._texts)
        found = [name for name in (*order, MISSING) if name in self._codes]
        self.names = list(dict.fromkeys(found))
        self._codes = {name: code for code, name in enumerate(self.names)}

    def check(self, n_rows: int) -> None:
        """Raise :class:`DataError` if all rows are of one group."""
        if len(self.names) == 1:
            raise DataError(
                f"group {self.spec.column!r} has one value, {self.names[0]!r}, in all {n_rows} rows; "
                f"name a column with at least two."
            )

    def _parts(self, column: Column) -> Iterable[tuple[IntArray, Callable[[int], tuple[str, str]], int]]:
        """Yield places, name and text at a place and the number of places (of which the last may be -1: missing)."""
        if self.spec.edges:
            yield from self._binned(column)
            return
        for places, values in distinct(column, f"group {self.spec.column!r}"):
            yield places, partial(_name_at, values), len(values)

    def _binned(self, column: Column) -> Iterable[tuple[IntArray, Callable[[int], tuple[str, str]], int]]:
        if not is_number(column.type):
            raise DataError(
                f"group {self.spec.column!r} holds {column.type}, and bins need numbers; leave the bins out."
            )
        bins = self.spec.bins
        values = numbers(column)
        places = np.searchsorted(np.array(self.spec.edges), values, side="right").astype(np.int64)
        places[np.isnan(values)] = -1
        yield places, lambda place: (bins[place], bins[place]), len(bins)

    def _encode(self, places: IntArray, named: Callable[[int], tuple[str, str]], size: int, column: Column) -> IntArray:
        used = np.flatnonzero(np.bincount(places + 1, minlength=size + 1)) - 1
        self._bound(len(used), column)
        codes = np.full(size + 1, -1, dtype=np.int64)
        for at in used:
            found, text = (MISSING, MISSING) if at < 0 else named(int(at))
            if found not in self._codes:
                self._codes[found] = len(self.names)
                self.names.append(found)
                self._texts[found] = text
            codes[at + 1] = self._codes[found]
        self._bound(len(self.names), column)
        return codes[places + 1]

    def _bound(self, found: int, column: Column) -> None:
        name = self.spec.column
        if found > MAX_NUMBERS + 1 and is_number(column.type) and not self.spec.edges:
            edges = ",".join(map(_edge, propose_edges(numbers(column))))
            raise DataError(
                f"group {name!r} holds more than {MAX_NUMBERS} different numbers; bin it: '{name}:{edges}'."
            )
        if found > MAX_NAMES:
            raise DataError(f"group {name!r} holds more than {MAX_NAMES} different values; name a column of groups.")


def _name_at(values: Any, place: int) -> tuple[str, str]:
    """Return the name of a value, in quotes where it would be taken for something else, and what it is sorted by."""
    value = as_written(values, place)
    name = name_of(value)
    quoted = len(name) > 1 and name[0] == name[-1] == '"'
    unclear = name == value == MISSING or name != name.strip() or _LIKE_TWO.search(name) or quoted
    if unclear and (name == value or not quoted):
        return f'"{name}"', f'"{name}"'
    return name, text_of(value)


def look_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two names that differ in upper and lower case, blanks or quotes alone."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(" ".join(name.strip('"').split()).casefold(), name)
        if other != name:
            return other, name
    return None


def sorted_names(names: Iterable[str], texts: Mapping[str, str] | None = None) -> list[str]:
    """Return names by size where all are numbers, else by alphabet; ``(missing)`` is left out.

    Args:
        names: what to sort.
        texts: what stands in the data for them, where it is known. That is what they are sorted by: a control
            character that is shown in quotes makes no name the first one.
    """
    behind = {name: (texts or {}).get(name) or text_behind(name) for name in names if name != MISSING}
    try:
        sizes = {name: float(text) for name, text in behind.items()}
    except ValueError:
        sizes = {}
    if not sizes or any(map(math.isnan, sizes.values())):  # the text "nan" is a number to float, and has no place
        return sorted(behind, key=lambda name: (behind[name], name))
    return sorted(behind, key=lambda name: (sizes[name], name))


def is_number(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds numbers (not booleans)."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def numbers(column: Column) -> NDArray[np.float64]:
    """Return a numeric or boolean column as float64, shape (n,), ``nan`` where there is no value."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def propose_edges(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Return round numbers near the quartiles, each with values on both sides."""
    present = values[np.isfinite(values)]
    if not len(present):
        return (0.0,)
    low, high = float(present.min()), float(present.max())
    if max(-low, high) > _HUGE:  # their differences would overflow
        return tuple(float(f"{edge * _SCALE:.12g}") for edge in propose_edges(present / _SCALE))
    rough = max((high - low) / 20, 1e-9)
    digits = -math.floor(math.log10(rough))
    unit = 10.0**-digits
    step = next(unit * size for size in (1, 2, 5, 10) if unit * size >= rough)
    quartiles = [*np.quantile(present, [0.25, 0.5, 0.75]), (low + high) / 2]
    rounded = (round(round(float(q / step)) * step, digits) for q in quartiles)  # 0.3, not 0.30000000000000004
    edges = [edge for edge in rounded if low < edge <= high]
    return tuple(sorted(set(edges[:-1] or edges)))
