"""A first configuration guessed from the columns of a data file, for ``fairguard init``. Knows names, not meanings."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fairguard.errors import DataError
from fairguard.inputs.arrays import NpzArrays
from fairguard.inputs.data import open_table
from fairguard.inputs.features import fits_matrix
from fairguard.inputs.groups import CLASS, MAX_NUMBERS, Column, GroupSpec, arrow, is_number, numbers, propose_edges
from fairguard.inputs.labelled import missing_column
from fairguard.inputs.rows import IDS
from fairguard.names import listed

LABELS = ("label", "labels", "target", "y", "class", "outcome", "income", "hired", "approved", "default", "recidivism")
"""Names under which a label usually stands, the likeliest first."""
SENSITIVE = re.compile(
    r"(^|[^a-z])(sex|gender|race|racial|ethnic\w*|age|marital\w*|religio\w*|nationalit\w*|country|origin|citizen\w*|"
    r"disab\w*|caste|veteran)($|[^a-z])",
    re.IGNORECASE,
)
_NO_LABELS = ("split", "fold", "set", "partition", "source")
_MOST_CLASSES = 100
_MOST_GROUPS = 20
_FEWEST_NAMED = 100
"""Rows from which on values that stand once each are taken for names of the rows."""


@dataclass(frozen=True)
class _Column:
    """What the first rows say of a column: its type, and how many different values they hold."""

    name: str
    kind: pa.DataType
    distinct: int
    edges: tuple[float, ...]
    names_rows: bool = False
    """Whether whole numbers or text stand in it, each once."""
    ones: tuple[bool, ...] = ()
    """Of a column of 0 and 1, in which rows 1 stands."""

    @property
    def scaled(self) -> bool:
        """Return whether its bins are none of plain numbers: some below zero, or all of them below one."""
        return bool(self.edges) and (self.edges[0] < 0 or self.edges[-1] <= 1)

    @property
    def group(self) -> str:
        """Return how to ask for this column as a sensitive feature."""
        return GroupSpec(self.name, self.edges).text


def init_text(
    data: str | Path, *, label: str | None = None, folder: Path | None = None, kept: Mapping[str, Any] | None = None
) -> str:
    """Return a commented configuration for ``data`` with guesses of label and sensitive features.

    Args:
        data: the file of rows.
        label: column of labels, where the guess would be wrong.
        folder: where the configuration will lie; it names the data as seen from there. Default: the current folder.
        kept: options of the configuration that this one replaces, as :func:`kept_of` gives them.

    Raises:
        DataError: the file cannot be read, or has no column ``label``.
    """
    path = Path(data)
    columns = _columns(path)
    names = [column.name for column in columns]
    if label is not None and label not in names:
        raise DataError(missing_column(path.name, label, names, "--label"))
    chosen = label or _label(columns)
    sensitive = [column for column in columns if column.name != chosen and SENSITIVE.search(column.name)]
    prepared = _prepared(sensitive)
    groups = _groups([column for column in sensitive if column.name not in prepared])
    is_array = isinstance(open_table(path), NpzArrays)
    row_id = _row_id([column for column in columns if column.name != chosen])
    others = [c for c in columns if c.name not in (chosen, row_id) and c.group not in groups]
    lines = _data_lines(_seen_from(folder, path), chosen, groups, row_id, prepared)
    lines += [*([] if is_array else _feature_lines(others)), *_REST]
    return "\n".join(_with(lines, kept or {}))


def kept_of(text: str) -> dict[str, Any] | None:
    """Return the options of a configuration that columns say nothing of, such as ``model``; ``None``: it is no TOML."""
    try:
        return {name: value for name, value in tomllib.loads(text).items() if name not in _GUESSED}
    except tomllib.TOMLDecodeError:
        return None


_GUESSED = ("data", "label", "groups", "id")


def _with(lines: Sequence[str], kept: Mapping[str, Any]) -> list[str]:
    """Return the lines with options that were kept: each in its place, if it has one, else at the end, tables last."""
    left = dict(kept)
    written = []
    for line in lines:
        name = line.removeprefix("# ").partition(" = ")[0]
        written.append(f"{name} = {_toml(left.pop(name))}" if name in left else line)
    tables = {name: left.pop(name) for name, value in kept.items() if isinstance(value, Mapping) and name in left}
    more = [f"{_key(name)} = {_toml(value)}" for name, value in left.items()]
    at = written.index(_TABLES)
    written[at:at] = [*more, ""] if more else []
    for name, table in tables.items():
        written += [f"[{_key(name)}]", *(f"{_key(key)} = {_toml(value)}" for key, value in table.items()), ""]
    return written


def _toml(value: Any) -> str:
    """Return a value that a TOML file gave as one would write it there, on one line."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_toml(part)}' for key, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else str(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _seen_from(folder: Path | None, path: Path) -> Path:
    if folder is None or path.is_absolute() or folder.absolute() == Path.cwd():
        return path
    return Path(os.path.relpath(path, folder))


def _data_lines(
    path: Path, label: str | None, groups: Sequence[str], row_id: str | None, prepared: list[str]
) -> list[str]:
    fallback = [CLASS] if label else []
    lines = [
        "# Options of fairguard check; the command line wins over this file. In pyproject.toml, put them under",
        "# [tool.fairguard].",
        "",
        "# Labelled rows that neither model was trained on.",
        f"data = {_quoted(str(path))}",
        f"label = {_quoted(label)}" if label else '# label = "..."  # no column looks like one: name it',
    ]
    if groups:
        lines.append("# Sensitive features, guessed from names: check them. 'age:25,45,65' bins a number.")
    else:
        lines.append("# Sensitive features: no column looks like one. 'class' is the label itself.")
    if prepared:
        lines.append(f"# Left to the models, as they look one-hot or scaled: {listed(prepared, most=8)}.")
        lines.append(
            "# Who judges by one of them names it here and all features below; best is the column before encoding."
        )
    names = f"id = {_quoted(row_id)}" if row_id else '# id = "..."'
    return [*lines, f"groups = [{', '.join(map(_quoted, groups or fallback))}]", f"{names}  # names the rows"]


def _feature_lines(columns: Sequence[_Column]) -> list[str]:
    lines = ["", "# What the models are fed; default: all columns that are nothing else, in their order."]
    wrong = [column.name for column in columns if not fits_matrix(column.kind)]
    fine = [column.name for column in columns if fits_matrix(column.kind)]
    if wrong:
        lines.append(f"# These hold no numbers: {listed(wrong)}. Name features, or a function that encodes")
        lines.append("# a pandas table of some rows as the models saw them in training.")
        lines.append('# transform = "models.py:encode"')
    return [*lines, f"# features = [{', '.join(map(_quoted, fine))}]"]


_TABLES = "# What only fairguard repair takes; fairguard prune has a table of its own."
_REST = (
    "",
    "# Builds the network that a state dict belongs to; ONNX files and recorded predictions need none.",
    '# model = "models.py:make_net"',
    "",
    "# Tolerated excess drop of a group over the rest: 0.02 is two percentage points.",
    "margin = 0.02",
    "# Chance of a false alarm over all groups together: 0.01 for every pull request, 0.05 for a release.",
    "alpha = 0.05",
    "",
    _TABLES,
    "# [repair]",
    '# train = "train.parquet"',
    "",
)


def _columns(path: Path) -> list[_Column]:
    opened = open_table(path)
    if isinstance(opened, NpzArrays):
        flat = {name: shape[0] for name, shape in opened.shapes.items() if len(shape) == 1}
        rows = max((shape[0] for shape in opened.shapes.values() if shape), default=0)  # names are fewer than rows
        return [_column(name, arrow(opened[name], what=name)) for name, length in flat.items() if length == rows]
    first = next(iter(opened.scan(opened.schema.names)), None)
    if first is None or not first.num_rows:
        raise DataError(f"{path.name} has no rows; give rows that the model was not trained on.")
    return [_column(name, first.column(name)) for name in first.column_names]


def _column(name: str, values: Column) -> _Column:
    nested = pa.types.is_nested(values.type)
    distinct = 0 if nested else len(values.unique().drop_null())
    edges = propose_edges(numbers(values)) if is_number(values.type) and distinct > MAX_NUMBERS else ()
    whole = any(is_kind(values.type) for is_kind in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string))
    named = whole and distinct == len(values) >= _FEWEST_NAMED
    return _Column(name, values.type, distinct, edges, named, _ones(values) if distinct == 2 else ())


def _ones(values: Column) -> tuple[bool, ...]:
    """Return in which rows of a column of two values 1 stands; nothing where these are not 0 and 1."""
    if not (is_number(values.type) or pa.types.is_boolean(values.type)):
        return ()
    found = values.to_pylist()
    return tuple(bool(value) for value in found) if set(found) == {0, 1} else ()


def _prepared(columns: Sequence[_Column]) -> list[str]:
    """Return which of the columns look like what an encoder or a scaler made: the models are fed them.

    Columns of 0 and 1 whose names begin alike (``race_Black``, ``race_White``) are one-hot where no row has two.
    """
    families: dict[str, list[_Column]] = {}
    for column in columns:
        families.setdefault(_family(column.name), []).append(column)
    found = {column.name for column in columns if column.scaled}
    for family in families.values():
        dummies = [column for column in family if column.ones]
        if len(dummies) > 1 and all(sum(row) <= 1 for row in zip(*(column.ones for column in dummies), strict=True)):
            found |= {column.name for column in dummies}
    return [column.name for column in columns if column.name in found]


def _family(name: str) -> str:
    """Return a column's name up to its sensitive word: ``marital`` of ``marital_status_Divorced``."""
    found = SENSITIVE.search(name)
    word = re.match(r"[A-Za-z]+", found.group(2)) if found else None
    return name[: found.start(2)] + word.group() if found and word else name


def _label(columns: Sequence[_Column]) -> str | None:
    """Return the column that is named like a label, else the last one if it has few values and no sensitive name."""
    able = [column.name for column in columns if 2 <= column.distinct <= _MOST_CLASSES]
    for name in LABELS:
        for column in able:
            if column.lower() == name:
                return column
    last = columns[-1].name if columns else ""
    return last if last in able and not SENSITIVE.search(last) and last.lower() not in _NO_LABELS else None


def _row_id(columns: Sequence[_Column]) -> str | None:
    """Return the column that is called an id, else the only one whose values stand once each."""
    called = [column.name for column in columns if column.name.lower() in IDS]
    unique = [column.name for column in columns if column.names_rows and not SENSITIVE.search(column.name)]
    return called[0] if called else unique[0] if len(unique) == 1 else None


def _groups(columns: Sequence[_Column]) -> list[str]:
    """Return the columns with sensitive names that make groups; age in bins only where no categories of age exist."""
    found = [c for c in columns if SENSITIVE.search(c.name) and (c.edges or 2 <= c.distinct <= _MOST_GROUPS)]
    categories = {_sense(c.name) for c in found if not c.edges}
    return [c.group for c in found if not c.edges or _sense(c.name) not in categories]


def _sense(name: str) -> str | None:
    """Return the sensitive word in a column's name."""
    found = SENSITIVE.search(name)
    return found.group(2).lower() if found else None


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # which JSON allows as it is, TOML not
