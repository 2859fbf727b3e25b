"""Files of predictions: which column or array holds answers, scores and ids. Nothing is ever unpickled."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairguard.errors import DataError, FairguardError, ModelError, did_you_mean
from fairguard.inputs.arrays import NpzArrays
from fairguard.inputs.detect import Found, Kind
from fairguard.inputs.groups import texts
from fairguard.inputs.labelled import values
from fairguard.inputs.labels import WHOLE
from fairguard.inputs.limits import Limits, human
from fairguard.inputs.recorded import RecordedPredictor, recorded
from fairguard.inputs.rows import by_lower, id_column
from fairguard.inputs.tables import CsvTable, ParquetTable, Table
from fairguard.names import listed, shown
from fairguard.verdict import ModelInfo

LABELS = ("prediction", "predictions", "predicted", "pred", "preds", "y_pred", "answer", "label", "labels", "class")
SCORES = ("scores", "score", "logits", "logit", "probabilities", "probability", "probs", "prob", "proba")
SCORE_OF_CLASS = re.compile(r"(?:scores?|logits?|prob|proba|probability|p)_(.+)")

EXPECTED = "a column `prediction`, one `score`, or `score_<class>` for each class; and `id` to join by"


def open_recorded(
    found: Found, info: ModelInfo, *, name: str | None, limits: Limits, id: str | None = None
) -> RecordedPredictor:
    """Return the answers in a CSV, Parquet or npz file.

    Args:
        found: the file.
        info: what is known of it.
        name: which of several models, or which array, of an npz file: what stands after ``::``.
        limits: bounds on what may be read.
        id: the data's column of ids, by which answers are joined where the file has it too; else :data:`IDS` are.

    Raises:
        ModelError: no answers under a known name, duplicate ids, missing answers, object arrays.
    """
    opener = OPENERS[found.kind]
    try:
        return opener(found, info, name, id, limits)
    except DataError as error:
        raise ModelError(shown(error, width=400)) from None
    except FairguardError:
        raise
    except Exception as error:  # readers meet hostile bytes here: whatever they raise means "broken"
        raise ModelError(f"{found.path} cannot be read as {found.kind} ({shown(error)}).") from None


def _npz(found: Found, info: ModelInfo, name: str | None, id: str | None, limits: Limits) -> RecordedPredictor:
    return _from_arrays(NpzArrays(found.path), info, name=name, id=id)


def _csv(found: Found, info: ModelInfo, name: str | None, id: str | None, limits: Limits) -> RecordedPredictor:
    _refuse_name(found, name)
    with found.path.open("rb") as stream:
        header = stream.readline(1 << 20)
    _check_columns(found, 1 + max(header.count(sign) for sign in b",;\t|"), limits)
    return _from_table(CsvTable(found.path, compressed=False), info, id)


def _parquet(found: Found, info: ModelInfo, name: str | None, id: str | None, limits: Limits) -> RecordedPredictor:
    _refuse_name(found, name)
    with pq.ParquetFile(found.path) as file:
        columns = file.metadata.num_columns
        claimed = file.metadata.num_rows * 8 * columns
    _check_columns(found, columns, limits)
    if claimed < 0 or limits.too_much(claimed, found.size):
        raise ModelError(f"{found.path} has {human(found.size)} and claims {human(claimed)} of rows. Save it again.")
    return _from_table(ParquetTable(found.path), info, id)


OPENERS: dict[Kind, Callable[[Found, ModelInfo, str | None, str | None, Limits], RecordedPredictor]] = {
    Kind.NPZ: _npz,
    Kind.CSV: _csv,
    Kind.PARQUET: _parquet,
}


def _refuse_name(found: Found, name: str | None) -> None:
    if name is not None:
        raise ModelError(f"{found.path}::{shown(name)}: only npz files hold several models.")


def _check_columns(found: Found, columns: int, limits: Limits) -> None:
    if columns > limits.columns:
        raise ModelError(f"{found.path} has {columns} columns, more than the {limits.columns} allowed.")


def _from_table(table: Table, info: ModelInfo, id: str | None) -> RecordedPredictor:
    names = table.schema.names
    ids = id_column(names, id)
    lower = by_lower(name for name in names if name != ids)
    single = next((lower[name] for name in SCORES if name in lower), None)
    of_class = {name: match[1] for name in names if name != ids and (match := SCORE_OF_CLASS.fullmatch(name))}
    numbered = all(map(WHOLE.fullmatch, of_class.values()))
    if numbered:  # their own order, whatever that of the columns
        of_class = dict(sorted(of_class.items(), key=lambda entry: int(entry[1])))
    label = next((lower[name] for name in LABELS if name in lower), None)
    columns = list(of_class) or [name for name in (single or label,) if name]
    if not columns:
        raise ModelError(f"{table.name} has no answers; its columns are {listed(names, most=8)}. Give {EXPECTED}.")
    parts = [part for part in table.scan([*columns, *([ids] if ids else [])]) if part.num_rows]
    if not parts:
        raise ModelError(f"{table.name} has no rows.")
    read = pa.concat_tables(parts)
    scores = bool(of_class or single)
    found = [_numbers(read, column, table.name) if scores else _labels(read, column, table.name) for column in columns]
    answers = recorded(
        np.column_stack(found) if of_class else found[0],
        info,
        ids=values(read.column(ids)) if ids else None,
        scores=scores,
        classes=None if numbered else list(of_class.values()),
    )
    return replace(answers, columns=tuple(names))


def _labels(read: pa.Table, column: str, name: str) -> NDArray[Any]:
    """Return labels as numbers, or as the texts that the same values have as labels of the data."""
    found = read.column(column)
    kind = found.type.value_type if pa.types.is_dictionary(found.type) else found.type
    plain = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    if plain or pa.types.is_null(kind):
        return values(found)
    return texts(found, f"{name}: column {shown(column)!r}")


def _numbers(read: pa.Table, column: str, name: str) -> NDArray[Any]:
    kind = read.schema.field(column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise ModelError(f"{name}: column {shown(column)!r} holds {kind}, not scores.")
    return values(read.column(column))


def _from_arrays(arrays: Mapping[str, Any], info: ModelInfo, *, name: str | None, id: str | None) -> RecordedPredictor:
    key = _key(arrays, info, name)
    values = arrays[key]
    if name is not None and name != key:
        values = _of_model(arrays, values, name, info)
    elif "models" in arrays and values.ndim and len(values) == len(arrays["models"]) and key != name:
        known = [str(model) for model in arrays["models"]]
        raise ModelError(f"{info.path} holds several models; add one as {info.path}::NAME: {listed(known, most=20)}.")
    ids = id_column(arrays, id)
    classes = _class_names(arrays.get("classes"), values)
    scores = True if key in SCORES or values.ndim == 2 else False if key in LABELS else None
    answers = recorded(values, info, ids=None if ids is None else arrays[ids], scores=scores, classes=classes)
    return replace(answers, columns=tuple(arrays))


def _key(arrays: Mapping[str, Any], info: ModelInfo, name: str | None) -> str:
    """Return the name of the array that holds the answers."""
    if name is not None and name in arrays:
        return name
    found = next((n for n in (*SCORES, *LABELS) if n in arrays), None)
    if found is None:
        names = list(arrays)
        raise ModelError(
            f"{info.path} has no answers; its arrays are {listed(names, most=8)}. "
            f"Call them `labels` (rows,) or `scores` (rows, classes), or add ::NAME to the path."
        )
    return found


def _of_model(arrays: Mapping[str, Any], values: NDArray[Any], name: str, info: ModelInfo) -> NDArray[np.generic]:
    models = [str(model) for model in arrays["models"]] if "models" in arrays else []
    if name not in models or values.ndim < 2 or len(values) != len(models):
        options = [*models, *(n for n in arrays if n != "models")]
        raise ModelError(
            f"{info.path} has no model or array {shown(name)!r}.{did_you_mean(name, options)} "
            f"It has: {listed(options, most=20)}."
        )
    found: NDArray[np.generic] = values[models.index(name)]
    return found


def _class_names(names: Any, values: NDArray[Any]) -> Sequence[str] | None:
    """Return the file's class names, where they are text and fit the answers."""
    if names is None or np.ndim(names) != 1 or np.asarray(names).dtype.kind != "U":
        return None
    if values.ndim == 2 and values.shape[1] != len(names):
        return None
    return [str(name) for name in names]
