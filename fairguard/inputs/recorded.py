"""Recorded answers in place of a model: CSV, Parquet or npz files, or arrays. Knows nothing of what gave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fairguard.errors import ModelError
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.rows import MAX_CLASSES, Batch
from fairguard.names import clean, listed, named, shown
from fairguard.verdict import ModelInfo

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class RecordedPredictor(Predictor):
    """Answers looked up by row.

    Attributes:
        values: shape (m,) class codes, or (m, K) or (m, 1) scores.
        ids: shape (m,), which row each answer is for; ``None`` where they are for rows 0 to m - 1.
        columns: names of the columns or arrays of the file that they come from.
    """

    values: NDArray[Any]
    info: ModelInfo
    kind: ScoreKind
    classes: tuple[str, ...] | None = None
    ids: NDArray[Any] | None = None
    columns: tuple[str, ...] = ()
    _asked: NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Note that no answer was asked for yet."""
        object.__setattr__(self, "_asked", np.zeros(len(self.values), dtype=bool))

    @property
    def asked(self) -> int:
        """Return how many different answers were asked for so far."""
        return int(self._asked.sum())

    @property
    def asked_bits(self) -> NDArray[np.uint8]:
        """Return which answers were asked for so far, eight to a byte."""
        return np.packbits(self._asked)

    def also_asked(self, bits: NDArray[np.uint8]) -> None:
        """Note what another process asked these answers for, as its :attr:`asked_bits` say."""
        self._asked[:] |= np.unpackbits(bits, count=len(self._asked)).astype(bool)

    @property
    def rows(self) -> int | None:
        """Return how many rows the data must have; ``None`` where ids say which answer is for which row."""
        return len(self.values) if self.ids is None else None

    def scores(self, batch: Batch) -> NDArray[np.generic]:
        """Return the answers to the batch's rows."""
        if self.ids is None:
            return self._by_number(batch)
        at = self._index.get_indexer(self._alike(batch.ids))
        if (at < 0).any():
            missing = [str(i) for i in batch.ids[at < 0]]
            raise ModelError(
                f"{self._name} has no answer for the rows with id {listed(missing)}; its own ids are like "
                f"{shown(self.ids[0])}. Is it of the same rows, and --id the data's column of such ids?"
            )
        self._asked[at] = True
        found: NDArray[np.generic] = self.values[at]
        return found

    def _by_number(self, batch: Batch) -> NDArray[np.generic]:
        rows = batch.rows
        if len(rows) and rows.max() >= len(self.values):
            raise ModelError(
                f"{self._name} has {len(self.values)} answers, the data has more rows; "
                f"give one answer a row, or an id column in both files."
            )
        found: NDArray[np.generic] = self.values[rows]
        return found

    @property
    def _name(self) -> str:
        return self.info.path or "the recorded answers"

    @cached_property
    def _index(self) -> pd.Index[Any]:
        import pandas as pd

        ids: Any = self.ids
        index: pd.Index[Any] = pd.Index(ids)
        return index

    def _alike(self, ids: NDArray[Any]) -> Any:
        """Return ids as text where the recorded ones are text and these are not."""
        text = self._index.dtype.kind not in "iuf"
        return ids.astype(str).astype(object) if text else ids


def recorded(
    values: Any,
    info: ModelInfo,
    *,
    ids: Any = None,
    scores: bool | None = None,
    classes: Sequence[str] | None = None,
) -> RecordedPredictor:
    """Return recorded answers as a predictor, validated.

    Args:
        values: shape (m,) labels (integers, text or booleans), or (m,) or (m, K) scores.
        info: where they come from.
        ids: shape (m,), the rows they are for; default: in the rows' order.
        scores: whether they are scores rather than labels; default: floating numbers are scores.
        classes: names of the classes that integers or columns stand for.

    Raises:
        ModelError: duplicate ids, other lengths, missing values, labels that are no class codes.
    """
    name = info.path or "the recorded answers"
    values = np.asarray(values)
    if values.ndim not in (1, 2) or not len(values):
        raise ModelError(f"{name} has answers of shape {values.shape}; give (rows,) labels or (rows, classes) scores.")
    if ids is not None:
        ids = _checked_ids(np.asarray(ids), len(values), name)
    if scores is None:
        scores = values.ndim == 2 or values.dtype.kind == "f"
    names = None if classes is None else tuple(named(str(c)) for c in classes)
    if scores:
        return RecordedPredictor(_checked_scores(values, name), info, ScoreKind.SCORES, names, ids)
    codes, found = _codes(values, name)
    return RecordedPredictor(codes, info, ScoreKind.LABELS, found or names, ids)


def _checked_ids(ids: NDArray[Any], rows: int, name: str) -> NDArray[Any]:
    import pandas as pd

    if ids.shape != (rows,):
        raise ModelError(f"{name} has {rows} answers and ids of shape {ids.shape}; give one id an answer.")
    if pd.isna(ids).any():
        raise ModelError(f"{name} has {int(pd.isna(ids).sum())} answers without an id.")
    repeated = pd.Index(ids).duplicated()
    if repeated.any():
        twice = [str(i) for i in ids[repeated]]
        raise ModelError(f"{name} has {int(repeated.sum())} answers for ids that it has already: {listed(twice)}.")
    return ids if ids.dtype.kind in "iuf" else ids.astype(str).astype(object)


def _checked_scores(values: NDArray[Any], name: str) -> NDArray[Any]:
    if values.dtype.kind not in "fiub":
        raise ModelError(f"{name} has scores of type {values.dtype}, not numbers.")
    if values.ndim == 1:
        values = values[:, None]
    return values.astype(np.float32) if values.dtype == np.float16 or values.dtype.kind != "f" else values


def _codes(values: NDArray[Any], name: str) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Return labels as class codes, and the classes' names where the labels are text."""
    import pandas as pd

    if pd.isna(values).any():
        raise ModelError(f"{name} has {int(pd.isna(values).sum())} rows without an answer.")
    if values.dtype.kind in "OUST":
        found, codes = _distinct(values.astype(str), name)
        return codes, tuple(clean(str(label)) for label in found)
    with np.errstate(invalid="ignore"):  # infinity and 1e300 become another number, and are refused for it
        codes = values.astype(np.int64)
    if (codes != values).any():
        raise ModelError(
            f"{name} has label {shown(values[codes != values][0])}; labels are whole numbers, or text; call scores "
            f"`score`."
        )
    if codes.min() >= 0 and codes.max() < MAX_CLASSES:
        return codes, None
    found, places = _distinct(codes, name)  # -1 and 1 are names, not numbers of classes
    return places, tuple(map(str, found.tolist()))


def _distinct(labels: NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the different labels, sorted, and each row's place among them."""
    found, places = np.unique(labels, return_inverse=True)
    if len(found) > MAX_CLASSES:
        raise ModelError(
            f"{name} has more than {MAX_CLASSES:,} different labels; give classes, or call scores `score`."
        )
    return found, places.astype(np.int64)
