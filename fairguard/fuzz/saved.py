"""A tipped pair as a pytest file that stands alone: the values are in it, the models are named by their paths."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairguard.config import Settings
from fairguard.errors import OutputError
from fairguard.fuzz.asking import BothModels
from fairguard.fuzz.hunt import TippedPair
from fairguard.schema import type_called

KEPT = ("model", "model_pruned", "device", "provider", "output_key", "per_row", "limit", "trust")
"""Options that say how models are opened: a test repeats those that were given."""

TEMPLATE = '''\
"""Two rows that differ only in {column}: {answers}.

Written by `fairguard fuzz`; {origin}.
It needs neither the data nor hypothesis, only the models.
"""

from pathlib import Path

import pytest

from fairguard.fuzz import replay

HERE = Path(__file__).parent
DENSE = {dense}
PRUNED = {pruned}
OPTIONS = {options}

# Each column's type, or all its categories, in the order in which the models are fed with them.
TYPES = {types}

SWAP = {swap}
FIRST = {first}
SECOND = {{**FIRST, SWAP: {other}}}


def test_pruned_treats_both_alike():
    answers = replay(DENSE, PRUNED, [FIRST, SECOND], types=TYPES, **OPTIONS)
    if answers.dense.codes[0] != answers.dense.codes[1]:
        pytest.skip(f"the dense model tells the two apart itself: {{answers}}")
    if answers.pruned.codes[0] != answers.pruned.codes[1]:
        pytest.fail(f"{{SWAP}} alone decides: {{answers}}", pytrace=False)
'''


def saved_test(
    path: str | Path, pair: TippedPair, models: BothModels, *, dense: str, pruned: str, settings: Settings
) -> str:
    """Return the text of a pytest file that fails while ``pruned`` treats the pair differently.

    Args:
        path: where the file will lie; models and code are named as seen from there.
        pair: the pair to replay.
        models: the models that it was found with.
        dense: the dense model's file.
        pruned: the pruned model's file.
        settings: how the models were opened.

    Raises:
        OutputError: a column's type cannot be written down.
    """
    folder = Path(path).absolute().parent
    where = f"it starts from row {pair.row} of {models.schema.name}" + (", " if pair.changed else ", as it is")
    changes = ", ".join(f"{name} was {_literal(value)}" for name, value in pair.changed.items())
    return TEMPLATE.format(
        column=_in_docstring(pair.swap),
        answers=_in_docstring(str(pair.answers)),
        origin=_in_docstring(where + changes),
        swap=_text(pair.swap),
        dense=_path(dense, folder),
        pruned=_path(pruned, folder),
        options=_dict(_options(models, settings, folder)),
        types=_dict({name: _type(name, models) for name in pair.first}),
        first=_dict({name: _literal(value) for name, value in pair.first.items()}),
        other=_literal(pair.second[pair.swap]),
    )


def _options(models: BothModels, settings: Settings, folder: Path) -> dict[str, str]:
    """Return the options that opened the models, as source text."""
    given = {name: getattr(settings, name) for name in KEPT if name in settings.model_fields_set}
    options = {name: _code(value, folder) for name, value in given.items() if value is not None}
    if settings.transform is not None:
        options["transform"] = _code(settings.transform, folder)
    options["classes"] = f"[{', '.join(map(_text, models.classes))}]"
    if any(rule.single for rule in models.rules):
        options["thresholds"] = repr(tuple(rule.threshold if rule.single else None for rule in models.rules))
    return options


def _code(value: Any, folder: Path) -> str:
    """Return an option as source text; ``path.py:name`` as seen from the test's folder."""
    found = re.fullmatch(r"(.+\.py):(\w[\w.]*)", value) if isinstance(value, str) else None
    if found is not None:
        return f"str({_path(found[1], folder)}) + {_text(':' + found[2])}"
    if callable(value):
        raise OutputError(f"{value!r} is no name that a test could import; give it as pkg.module:name or path.py:name.")
    return _literal(value)


def _path(file: str, folder: Path) -> str:
    return f"HERE / {_text(Path(os.path.relpath(Path(file).absolute(), folder)).as_posix())}"


def _type(name: str, models: BothModels) -> str:
    """Return a column's type, or its categories, as source text."""
    if name in models.schema.categories:
        return f"[{', '.join(map(_literal, models.schema.categories[name].to_pylist()))}]"
    alias = str(models.schema.types[name])
    try:
        type_called(alias)
    except ValueError:
        raise OutputError(
            f"column {name!r} holds {alias}, which a saved test cannot; give it as text or numbers."
        ) from None
    return _text(alias)


def _literal(value: Any) -> str:
    """Return a value as source text; dates and the like as text that Arrow reads back."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "None"
    if isinstance(value, float) and math.isinf(value):
        return f"float({_text(str(value))})"
    return repr(value) if isinstance(value, int | float | bytes) else _text(str(value))


def _text(text: str) -> str:
    """Return text as source in double quotes, as formatters write it."""
    return json.dumps(text) if text.isprintable() and text.isascii() else repr(text)


def _in_docstring(text: str) -> str:
    """Return text of the data's own, fit to stand in a docstring: nothing in it can end that."""
    return repr(text)[1:-1].replace('"', "'")


def _dict(entries: Mapping[str, str]) -> str:
    lines = "".join(f"    {_text(name)}: {text},\n" for name, text in entries.items())
    return f"{{\n{lines}}}"
