"""Labels: from the values of a column to classes with names and codes. Knows Arrow arrays and no file format."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from fairguard.dtypes import IntArray
from fairguard.errors import DataError, did_you_mean
from fairguard.inputs.groups import Column, as_written, distinct, name_of, sorted_names, text_of
from fairguard.inputs.rows import MAX_CLASSES, MISSING
from fairguard.names import clean, first_few, first_twice, named

WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
"""A whole number as fairguard writes it: 01 and the digits of other scripts are text."""
_PADDED = re.compile(r"-?0[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


class Labels:
    """The classes of a label column: first :meth:`observe` every row, then :meth:`settle`, then :meth:`encode`."""

    def __init__(
        self,
        what: str,
        *,
        classes: Sequence[str] | None = None,
        orders: Sequence[Sequence[str]] = (),
        option: str = "--classes",
    ) -> None:
        """Start without any class.

        Args:
            what: names the column in errors.
            classes: fixes names and order.
            option: what the user names all classes with.
            orders: where no classes are given, the first of these that holds exactly the values found is their order.

        Raises:
            DataError: a class is named twice.
        """
        self.what, self._option = what, option
        self.reordered = False
        """Whether one of ``orders`` made the order another than that of the values themselves."""
        self.classes: tuple[str, ...] = tuple(map(named, classes or ()))
        self._as_given = tuple(classes or ())
        self._texts: dict[str, str] = {}
        self.seen: dict[str, int] = {}
        if len(set(self.classes)) < len(self.classes):
            raise DataError(f"{option} names {first_twice(self.classes)!r} twice; name each class once.")
        self._given = classes is not None
        self._orders = orders
        self._rows = 0
        self._missing = 0
        self._codes: dict[str, int] = {}

    def observe(self, column: Column) -> None:
        """Note the values of the next rows.

        Raises:
            DataError: more different values than classes can have, or numbers that are not whole.
        """
        for places, values in distinct(column, self.what):
            used, first = np.unique(places, return_index=True)
            self._bound(len(used))
            for at, row in zip(used.tolist(), first.tolist(), strict=True):
                value = None if at < 0 else as_written(values, at)
                name = name_of(value)
                self._texts.setdefault(name, text_of(value))
                self.seen[name] = min(self.seen.get(name, self._rows + row), self._rows + row)
                if name == MISSING:
                    self._missing += int((places == at).sum())
            self._rows += len(places)
            self._bound(len(self.seen))

    def settle(self) -> None:
        """Fix the classes.

        Raises:
            DataError: no rows, rows without label, numbers mixed with text, or labels outside the given classes.
        """
        if not self._rows:
            raise DataError(f"{self.what} has no rows; give rows that the model was not trained on.")
        if self._missing:
            raise DataError(
                f"{self.what} has no value in {self._missing} of {self._rows} rows, the first is row "
                f"{self.seen[MISSING]} (from 0); leave those rows out."
            )
        if self._given:
            self.classes = tuple(clean(c) if clean(c) in self.seen else named(c) for c in self._as_given)
            self._codes = self._given_codes()
            return
        ordered = next((names for names in self._orders if set(map(clean, names)) == set(self.seen)), None)
        self.classes = self._found_classes() if ordered is None else tuple(map(clean, ordered))
        self.reordered = ordered is not None and list(self.classes) != sorted_names(list(self.seen), self._texts)
        self._codes = {name: code for code, name in enumerate(self.classes)}

    def encode(self, column: Column) -> IntArray:
        """Return each row's place in ``classes``, shape (n,)."""
        parts = [np.empty(0, dtype=np.int64)]
        for places, values in distinct(column, self.what):
            names = [name_of(as_written(values, at)) for at in range(len(values))]
            codes = np.array([self._codes.get(name, -1) for name in names] + [-1], dtype=np.int64)
            parts.append(codes[places])
        y = np.concatenate(parts)
        if len(y) and y.min() < 0:
            raise DataError(f"{self.what} changed while it was read; run again when the file is complete.")
        return y

    def _bound(self, found: int) -> None:
        if found > MAX_CLASSES:
            raise DataError(f"{self.what} holds more than {MAX_CLASSES} different values; name a column of classes.")

    def _found_classes(self) -> tuple[str, ...]:
        """Return 0, 1, ... up to the highest whole number, or the values found, sorted."""
        names = list(self.seen)
        if any(map(_PADDED.fullmatch, names)):  # codes of two digits, 09 and 10, are text
            return tuple(sorted_names(names, self._texts))
        odd = [name for name in names if not WHOLE.fullmatch(name)]
        numeric = [name for name in names if _NUMBER.fullmatch(name)]
        if odd and len(numeric) == len(names):
            raise DataError(
                f"{self.what} holds {odd[0]} in row {self.seen[odd[0]]} (from 0), which is no class; "
                f"name a column of classes, whole numbers or text."
            )
        if odd and numeric:
            raise DataError(
                f"{self.what} mixes types: {numeric[0]!r} in row {self.seen[numeric[0]]} and {odd[0]!r} in row "
                f"{self.seen[odd[0]]} (from 0); correct it, or name all classes with --classes."
            )
        whole = [] if odd else [int(name) for name in names]
        if whole and min(whole) >= 0 and max(whole) < MAX_CLASSES:
            return tuple(str(k) for k in range(max(whole) + 1))
        return tuple(sorted_names(names, self._texts))

    def _given_codes(self) -> dict[str, int]:
        """Return the codes of the given classes, which either are the labels or name the labels 0, 1, ..."""
        codes = {name: code for code, name in enumerate(self.classes)}
        strange = [name for name in self.seen if name not in codes]
        if not strange:
            return codes
        numbered = {str(code): code for code in range(len(self.classes))}
        if all(name in numbered for name in self.seen) and not any(map(WHOLE.fullmatch, self.classes)):
            return numbered
        known = first_few(self.classes, most=10)
        raise DataError(
            f"{self.what} holds {strange[0]!r} in row {self.seen[strange[0]]} (from 0), which is none of the classes "
            f"{known}.{did_you_mean(strange[0], self.classes)} Name all of them with {self._option}."
        )
