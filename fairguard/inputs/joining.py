"""Which answer is for which row, and whether several models are several: what files of answers owe each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.errors import ModelError
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import IDS, Source
from fairguard.names import listed

FEW = 5
"""So many different fractions may be common to the scores of two models."""


def require_ids(models: Sequence[Predictor], source: Source) -> None:
    """Refuse answers that would be joined by row number where ids were asked for, or where other answers have some.

    Raises:
        ModelError: a file of answers has no column of ids, and --id names one of the data or another file has one.
    """
    files = [model for model in models if isinstance(model, RecordedPredictor) and model.info.path is not None]
    lacking = next((model for model in files if model.ids is None), None)
    if lacking is None:
        return
    with_ids = next((model for model in files if model.ids is not None), None)
    named = source.record.options.get("id")
    if with_ids is None and named is None:
        return
    why = f"{with_ids.info.path} has one" if with_ids is not None else f"--id {named} asks for one"
    has = f"; it has {listed(list(lacking.columns), most=8)}" if lacking.columns else ""
    either = "take it from the other file too" if with_ids is not None else "leave out --id where rows are in order"
    known = IDS if named is None or named in IDS else (named, *IDS)
    raise ModelError(
        f"{lacking.info.path} has no column of ids ({', '.join(known)}) to join by, and {why}{has}. Add a column `id`, "
        f"or {either}."
    )


def orders_of(models: Sequence[Predictor]) -> tuple[tuple[str, ...], ...]:
    """Return what the models themselves call their outputs, in their order, of those that say."""
    return tuple(order for model in models if (order := model.order))


def inputs_of(models: Sequence[Predictor]) -> tuple[str, ...]:
    """Return what the models call their inputs, where each input is one column; nothing if some model takes others."""
    asked = [model for model in models if not isinstance(model, RecordedPredictor)]
    named = [model.columns for model in asked]
    return tuple(dict.fromkeys(name for names in named for name in names)) if all(named) else ()


def require_one_order(roles: Sequence[str], models: Sequence[Predictor]) -> None:
    """Refuse models that name the same classes in different orders: one output would be two classes.

    Args:
        roles: what each model is called.
        models: the models.

    Raises:
        ModelError: two orders differ.
    """
    known: dict[frozenset[str], tuple[str, tuple[str, ...]]] = {}
    for role, model in zip(roles, models, strict=True):
        order, name = model.order, f"{role}{_in_brackets(model)}"
        if not order:
            continue
        other, theirs = known.setdefault(frozenset(order), (name, order))
        if order != theirs:
            raise ModelError(
                f"{name} names its outputs {listed(list(order), most=6)} (id2label), and {other} names them "
                f"{listed(list(theirs), most=6)}: correct one, or name the order that both were trained in with "
                f"--classes."
            )


def join_warnings(model: RecordedPredictor, rows: int) -> list[str]:
    """Return a warning if answers were left over.

    Raises:
        ModelError: answers and rows do not go together one to one.
    """
    name = model.info.path or "a model"
    if model.rows is not None and model.rows != rows:
        raise ModelError(
            f"{name} has {model.rows} answers and the data {rows} rows; give one answer a row, or an id column in "
            f"both files."
        )
    if model.rows is not None:
        return []
    if model.asked < rows:
        raise ModelError(
            f"the data has {rows} rows with {model.asked} different ids, so {name} answers some rows with the answer "
            f"to another; give every row an id of its own."
        )
    left = len(model.values) - model.asked
    return [f"{left} answers of {name} are for ids that the data does not have."] if left else []


def require_different(
    roles: Sequence[str], models: Sequence[Predictor], scores: Sequence[Sequence[NDArray[Any]]]
) -> None:
    """Refuse a seed that is dense, pruned or another seed once more: a copy confirms nothing.

    Args:
        roles: what each model is called, dense and pruned first.
        models: the models.
        scores: what each gave for the same first rows.

    Raises:
        ModelError: two are one model, by their files, their scores or all their recorded answers.
    """
    for i in range(2, len(models)):
        for j in range(i):
            if _same(models[i], models[j]) or _same_scores(models[i], models[j], scores[i], scores[j]):
                names = [f"{roles[k]}{_in_brackets(models[k])}" for k in (i, j)]
                raise ModelError(
                    f"{names[0]} is {names[1]} once more, and a copy confirms nothing: give --seeds other models, "
                    f"pruned alike from other seeds."
                )


def _same(one: Predictor, other: Predictor) -> bool:
    if one.info.sha256 is not None and one.info.sha256 == other.info.sha256:
        return _name_in_file(one) == _name_in_file(other)
    if not (isinstance(one, RecordedPredictor) and isinstance(other, RecordedPredictor)):
        return False
    return one.classes == other.classes and all(map(_alike, _by_id(one), _by_id(other)))


def _name_in_file(model: Predictor) -> str:
    """Return which of several models of one file it is."""
    return (model.info.path or "").partition("::")[2]


def _by_id(model: RecordedPredictor) -> tuple[Any, Any]:
    """Return answers and ids in the order of the ids."""
    order = slice(None) if model.ids is None else np.argsort(model.ids, kind="stable")
    return model.values[order], None if model.ids is None else model.ids[order]


def _alike(one: Any, other: Any) -> bool:
    return (one is None) == (other is None) and (one is None or np.array_equal(one, other))


def _same_scores(
    one: Predictor, other: Predictor, ours: Sequence[NDArray[Any]], theirs: Sequence[NDArray[Any]]
) -> bool:
    """Return whether two models give the very same scores, to the last digit.

    Answers without fractions, as of nets that end in argmax, may well agree on a few rows: their weights decide.
    """
    if ScoreKind.LABELS in (one.kind, other.kind):
        return False
    if len(ours) != len(theirs) or not all(map(np.array_equal, ours, theirs)):
        return False
    return _telling(np.concatenate(ours)) or _same_weights(one, other)


def _telling(scores: NDArray[Any]) -> bool:
    """Return whether scores are numbers that no two models share by chance: fractions, and more than a few."""
    distinct = np.unique(scores) if scores.dtype.kind == "f" else scores[:0]
    return int((distinct != np.round(distinct)).sum()) > FEW


def _same_weights(one: Predictor, other: Predictor) -> bool:
    """Return whether two modules are one, or hold the same tensors under the same names."""
    ours, theirs = one.net, other.net
    if not hasattr(ours, "state_dict") or type(ours) is not type(theirs):
        return False
    if ours is theirs:
        return True
    mine, others = ours.state_dict(), theirs.state_dict()
    return bool(mine) and mine.keys() == others.keys() and all(_equal(mine[name], others[name]) for name in mine)


def _equal(one: Any, other: Any) -> bool:
    """Return whether two tensors are equal; what is none, such as packed integers, is not known to be."""
    if not (hasattr(one, "equal") and hasattr(other, "equal")) or one.dtype != other.dtype:
        return False
    return bool(one.equal(other))


def _in_brackets(model: Predictor) -> str:
    return f" ({model.info.path})" if model.info.path else ""
