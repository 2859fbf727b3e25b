"""From arrays in memory to counts: labels, answers and groups of any type, named as the door for files names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import DataError, did_you_mean
from fairguard.inputs.groups import Levels, arrow, numbers, parse_groups, sorted_names
from fairguard.inputs.labels import Labels
from fairguard.judge.counts import CountTable

if TYPE_CHECKING:
    import pyarrow as pa


def count_arrays(
    y: Any, dense: Any, pruned: Any, groups: Mapping[str, Any], *, classes: Sequence[str] | None = None
) -> CountTable:
    """Return the counts of n rows held in arrays: numpy, pandas, torch, or lists.

    Args:
        y: shape (n,), true labels, numbers or text; ``None`` where there are none.
        dense: shape (n,), predicted labels of the dense model, or (n, K) scores of K classes.
        pruned: the same of the pruned model.
        groups: sensitive features by name, each of shape (n,); ``age:25,45`` names a feature and bins it. A pandas
            table, or a column of one, is named already.
        classes: names of the classes in the order of the scores' columns. Not given: the numbers ``0 .. K-1``, where
            the labels are among those, else the K labels, sorted.

    Raises:
        DataError: lengths differ, values are missing, a prediction is none of the labels, or scores are of more or
            fewer classes than the labels.
    """
    given = {"dense": _decided(dense, "dense"), "pruned": _decided(pruned, "pruned")}
    given = given if y is None else {"y": y, **given}
    widths = {name: width for name, values in (("dense", dense), ("pruned", pruned)) if (width := scores_in(values))}
    answers = {name: _column(_numbered(values), name) for name, values in given.items()}
    named = _named(groups)
    features = {name: _column(values, f"group {name!r}") for name, values in named.items()}
    n = _length(answers | {f"group {name!r}": column for name, column in features.items()})
    by_name = {name: column for name, column in answers.items() if name not in widths}
    names = _named_classes(by_name, widths, classes)
    codes = {
        name: numbers(column).astype(np.int64) if name in widths else _encoded(column, name, names, classes is not None)
        for name, column in answers.items()
    }
    levels = [Levels(spec) for spec in parse_groups(list(named))]
    table = CountTable.of(
        [level.spec.column for level in levels],
        [_settled(level, column, n) for level, column in zip(levels, features.values(), strict=True)],
        names,
        codes=np.column_stack([level.encode(column) for level, column in zip(levels, features.values(), strict=True)]),
        y=codes.get("y"),
        dense=codes["dense"],
        pruned=codes["pruned"],
    )
    return table if widths or classes is not None else table.of_two(option="classes=[...]")


def scores_in(values: Any) -> int:
    """Return how many classes the scores of a model are of; 0 where it gives its answers themselves."""
    shape: Sequence[int] = getattr(values, "shape", ())
    return int(shape[1]) if len(shape) == 2 else 0


def _named(groups: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sensitive features by name."""
    name, series = getattr(groups, "name", None), hasattr(groups, "to_frame")
    if series and name is not None:
        return {str(name): groups}
    if not hasattr(groups, "keys") or series:
        raise DataError(f"groups is a {type(groups).__name__}; name each sensitive feature: groups={{'sex': values}}.")
    if not len(groups.keys()):
        raise DataError("groups is empty; name a sensitive feature: groups={'sex': values}.")
    return {str(name): groups[name] for name in groups.keys()}  # noqa: SIM118 (a DataFrame's keys are its columns)


def _plain(values: Any) -> Any:
    """Return a tensor's values as an array, anything else as it is."""
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    return (values.double() if values.is_floating_point() else values).numpy()


def _numbered(values: Any) -> Any:
    """Return booleans as 0 and 1, so that they meet numbers; anything else as it is."""
    return np.asarray(values).astype(np.int64) if str(getattr(values, "dtype", "")).endswith("bool") else values


def _column(values: Any, what: str) -> pa.ChunkedArray[Any]:
    values = _plain(values)
    if np.isscalar(values) or not hasattr(values, "__len__"):
        raise DataError(f"{what} is {values!r}; give one value per row.")
    return arrow(values, what=what)


def _decided(values: Any, what: str) -> Any:
    """Return predicted labels, of scores the highest of each row."""
    values = _plain(values)
    scores = values.to_numpy() if hasattr(values, "columns") else values
    if getattr(scores, "ndim", 1) != 2:
        if hasattr(scores, "dtype"):
            _refuse_fractions(np.asarray(scores), what)
        return values
    if scores.shape[1] < 2:
        raise DataError(
            f"{what} has shape {scores.shape}; give predicted labels, as values.ravel(), or the scores of two or more "
            f"classes."
        )
    if not np.issubdtype(scores.dtype, np.number):
        raise DataError(f"{what} has shape {scores.shape} of {scores.dtype}; scores are numbers.")
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        raise DataError(f"{what} has a score that is not finite in row {int(bad.argmax())} (from 0).")
    return scores.argmax(axis=1)


def _refuse_fractions(values: NDArray[Any], what: str) -> None:
    """Refuse one score a row, in place of an answer: nothing says where it is cut."""
    if values.dtype.kind != "f" or values.ndim != 1:
        return
    fractions = np.flatnonzero(np.isfinite(values) & (values != np.round(values)))
    if len(fractions):
        raise DataError(
            f"{what} holds {values[fractions[0]]:g} in row {fractions[0]} (from 0), a score and no class: give the "
            f"answers, such as scores > 0.5, or the scores of all classes, (n, K)."
        )


def _length(columns: Mapping[str, pa.ChunkedArray[Any]]) -> int:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"lengths differ: {listed}; give one value per row in each.")
    n = next(iter(lengths.values()))
    if not n:
        raise DataError("there are no rows; give rows that the model was not trained on.")
    return n


def _classes(answers: Mapping[str, pa.ChunkedArray[Any]]) -> tuple[str, ...]:
    """Return the classes: 0, 1, ... up to the highest number seen anywhere, else the labels, else all answers."""
    found: dict[str, tuple[str, ...]] = {}
    for name, column in answers.items():
        labels = Labels(name)
        labels.observe(column)
        labels.settle()
        found[name] = labels.classes
    if all(classes == tuple(map(str, range(len(classes)))) for classes in found.values()):
        return max(found.values(), key=len)
    return found.get("y") or tuple(sorted_names({name for classes in found.values() for name in classes}))


def _named_classes(
    answers: Mapping[str, pa.ChunkedArray[Any]], widths: Mapping[str, int], given: Sequence[str] | None
) -> tuple[str, ...]:
    """Return the classes: those given, or those of labels and answers that come by name; scores must be of as many."""
    if len(set(widths.values())) > 1:
        raise DataError(f"dense has scores of {widths['dense']} classes and pruned of {widths['pruned']}.")
    name, width = next(iter(widths.items()), ("", 0))
    classes = tuple(map(str, given)) if given is not None else _classes(answers) if answers else ()
    if not width or len(classes) == width:
        return classes
    numbered = classes == tuple(map(str, range(len(classes))))
    if given is None and numbered and len(classes) < width:
        return tuple(map(str, range(width)))
    found = classes
    if given is None and numbered:  # 1 .. K, say: of 0 .. K the first has no row
        found = tuple(sorted_names(set().union(*map(_seen, answers.values()))))
        if len(found) == width:
            return found
    few = ", ".join(found[:6]) + (" ..." if len(found) > 6 else "")
    raise DataError(
        f"{name} has scores of {width} classes, and there are {len(found)}: {few}. Name the class of each column with "
        f"classes=[...]."
    )


def _seen(column: pa.ChunkedArray[Any]) -> list[str]:
    labels = Labels("the labels")
    labels.observe(column)
    return list(labels.seen)


def _encoded(column: pa.ChunkedArray[Any], what: str, classes: tuple[str, ...], named: bool) -> IntArray:
    """Return each row's place in ``classes``, shape (n,); ``named``: by the user, for labels that may be numbers."""
    labels = Labels(what)
    labels.observe(column)
    for name, row in labels.seen.items():
        if name not in classes and not named:
            known = ", ".join(classes[:6]) + (" ..." if len(classes) > 6 else "")
            hint = did_you_mean(name, classes)
            raise DataError(f"{what} holds {name!r} in row {row} (from 0), which is no label; labels: {known}.{hint}")
    given = Labels(what, classes=classes, option="classes=[...]")
    given.observe(column)
    given.settle()
    return given.encode(column)


def _settled(level: Levels, column: pa.ChunkedArray[Any], n: int) -> list[str]:
    """Return the names of a sensitive feature's groups, sorted."""
    level.encode(column)
    level.settle()
    level.check(n)
    return level.names
