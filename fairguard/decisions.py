"""From a model's scores to its answers: predicted class, margin and confidence. numpy only, no files, no models."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import IntArray
from fairguard.errors import ModelError
from fairguard.inputs.predictor import ScoreKind
from fairguard.inputs.rows import MAX_CLASSES, Batch, rows_with_nan

BEYOND = 0.5
"""A single output that reaches farther than this beyond 0 and 1 is a logit: no rounding of a probability does."""


@dataclass(frozen=True, eq=False)
class Rule:
    """How scores become classes, fixed before any row is judged.

    Attributes:
        n_classes: number of classes K.
        kind: what the numbers are.
        threshold: a single output above it means class 1; ``nan`` for K outputs.
        probabilities: whether the numbers are probabilities rather than logits.
        recode: shape (k,), the class of each of the model's own codes, where a file of answers names its classes.
    """

    n_classes: int
    kind: ScoreKind
    threshold: float = float("nan")
    probabilities: bool = False
    recode: IntArray | None = None

    @property
    def single(self) -> bool:
        """Return whether one output decides between two classes."""
        return not np.isnan(self.threshold)


def rule_for(
    scores: NDArray[Any],
    kind: ScoreKind,
    *,
    name: str,
    threshold: float | None,
    n_classes: int | None,
    batches: Sequence[Batch] = (),
) -> Rule:
    """Return the decision rule that fits a sample of scores.

    Args:
        scores: shape (n, K), (n, 1) or (n,), a model's scores on the first rows.
        kind: scores or class codes.
        name: the model's name, for messages.
        threshold: cut for a single output; default 0.5 for probabilities, 0 for logits.
        n_classes: number of classes of the data, for models that give class codes only.
        batches: the rows, where it is to be said that they hold nan themselves.
    """
    if kind is ScoreKind.LABELS or (threshold is None and _are_classes(scores)):
        highest = int(scores.max(initial=0)) + 1
        if highest > MAX_CLASSES:
            raise ModelError(f"{name} answers class {highest - 1}; its answers must be classes below {MAX_CLASSES:,}.")
        return Rule(max(n_classes or 0, highest, 2), ScoreKind.LABELS)
    _check_shape(scores, name)
    values = scores.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
        why = _why_not_finite(row, batches) or "check its weights and the rows' preprocessing."
        number = np.concatenate([batch.rows for batch in batches])[row] if batches else row
        raise ModelError(f"{name} gives nan or infinity for row {number}; {why}")
    within = bool(((values >= 0) & (values <= 1)).all())
    if scores.ndim == 1 or scores.shape[1] == 1:
        cut = (0.5 if within else 0.0) if threshold is None else threshold
        return Rule(2, kind, cut, within)
    if threshold is not None and scores.shape[1] != 2:
        raise ModelError(f"{name} gives {scores.shape[1]} outputs; --threshold needs a model with one.")
    return Rule(scores.shape[1], kind, probabilities=within and bool(np.allclose(values.sum(axis=1), 1, atol=1e-3)))


def check_one_scale(scores: Mapping[str, NDArray[Any]], threshold: float) -> None:
    """Raise :class:`ModelError` if one cut would be applied to probabilities and to logits, where both surely are that.

    Scores that fill [0, 1] and never leave it are probabilities; the logits of a collapsed network may lie in it too,
    but close together.

    Args:
        scores: by the name of a model with a single output, its scores on the first rows.
        threshold: the cut that was typed for all of them.
    """
    if not 0 < threshold < 1:
        return
    reach = {
        name: (float(found.min()), float(found.max())) for name, found in scores.items() if found.dtype.kind == "f"
    }
    logits = [name for name, (low, high) in reach.items() if low < -BEYOND or high > 1 + BEYOND]
    chances = [name for name, (low, high) in reach.items() if 0 <= low < 0.25 and 0.75 < high <= 1]
    if not logits or not chances:
        return
    told = [
        f"{name}'s are {what} (from {reach[name][0]:.3g} to {reach[name][1]:.3g})"
        for name, what in ((logits[0], "logits"), (chances[0], "probabilities"))
    ]
    raise ModelError(
        f"--threshold {threshold:g} would cut outputs of two scales: {told[0]}, {told[1]}; what is {threshold:g} of a "
        f"probability is {math.log(threshold / (1 - threshold)):.4g} of a logit. Leave it out, which cuts logits at 0 "
        f"and probabilities at 0.5, or let {logits[0]} end in a sigmoid too."
    )


def _why_not_finite(at: int, batches: Sequence[Batch]) -> str:
    """Return that the ``at``-th of these rows holds nan itself, and how many do; nothing where it does not."""
    if not batches:
        return ""
    bad = np.concatenate([rows_with_nan(batch) for batch in batches])
    if not bad[at]:
        return ""
    many = f"{int(bad.sum()):,} of {len(bad):,} rows looked at hold nan"
    return f"that row holds nan itself, as {many}: fill in what is missing as in training, or leave those rows out."


def _are_classes(scores: NDArray[Any]) -> bool:
    """Return whether a model gives its answers themselves, as one that ends in an argmax does, and no scores."""
    one_each = scores.ndim == 1 or (scores.ndim == 2 and scores.shape[1] == 1)
    return one_each and scores.dtype.kind in "iub" and not (scores < 0).any()


def classes_of(scores: NDArray[Any], rule: Rule) -> IntArray:
    """Return the predicted class codes, shape (n,); the lower class wins an exact tie, as argmax does."""
    codes = _own_codes(scores, rule)
    return codes if rule.recode is None else rule.recode[codes]


def _own_codes(scores: NDArray[Any], rule: Rule) -> IntArray:
    if rule.kind is ScoreKind.LABELS:
        return np.asarray(scores, dtype=np.int64).ravel()
    if rule.single:
        return np.asarray(scores.reshape(len(scores)) > rule.threshold, dtype=np.int64)
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1] > scores[:, 0], dtype=np.int64)
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def margins_of(scores: NDArray[Any], rule: Rule) -> NDArray[np.floating]:
    """Return how far each answer is from tipping, shape (n,): best minus second best, 0 for an exact tie."""
    if rule.kind is ScoreKind.LABELS:
        return np.full(len(scores), np.nan)
    if rule.single:
        return np.asarray(np.abs(scores.reshape(len(scores)).astype(np.float64) - rule.threshold))
    if scores.shape[1] == 2:
        return np.asarray(np.abs(np.subtract(scores[:, 1], scores[:, 0], dtype=np.float64)))
    top = np.partition(scores, -2, axis=1)[:, -2:]
    return np.asarray(np.subtract(top[:, 1], top[:, 0], dtype=np.float64))


def confidences_of(scores: NDArray[Any], rule: Rule) -> NDArray[np.floating]:
    """Return the probability of the predicted class, shape (n,): softmax or sigmoid of logits, ``nan`` for labels."""
    if rule.kind is ScoreKind.LABELS:
        return np.full(len(scores), np.nan)
    values = scores.astype(np.float64)
    if rule.single:
        flat = values.reshape(len(values))
        positive = flat if rule.probabilities else 1 / (1 + np.exp(-np.clip(flat, -500, 500)))
        return np.where(flat > rule.threshold, positive, 1 - positive)
    if rule.probabilities:
        return np.asarray(values.max(axis=1))
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(1 / shifted.sum(axis=1))


def check_finite(
    scores: NDArray[Any],
    rule: Rule,
    *,
    name: str,
    row: Callable[[int], int] = int,
    batches: Sequence[Batch] = (),
) -> None:
    """Raise :class:`ModelError` for nan or infinity, or for numbers that are no probabilities after all.

    Args:
        scores: shape (n,) or (n, K).
        rule: how they become classes.
        name: whose they are.
        row: gives the number in the data of the i-th of these rows.
        batches: the rows, where it is to be said that they hold nan themselves.
    """
    if rule.kind is ScoreKind.LABELS:
        if scores.dtype.kind == "i" and scores.min(initial=0) < 0:
            at = row(int(np.argmax(scores.ravel() < 0)))
            raise ModelError(f"{name} gave class numbers at first and {scores.min()} for row {at}; give its scores.")
        return
    with np.errstate(over="ignore", invalid="ignore"):
        total = scores.sum(dtype=np.float64)  # one cheap pass; nan and infinity survive a sum
    if not np.isfinite(total):
        finite = np.isfinite(scores.reshape(len(scores), -1).astype(np.float64)).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            why = _why_not_finite(first, batches) or "check its weights and the row's values."
            raise ModelError(f"{name} gives nan or infinity for row {row(first)}; {why}")
    if rule.single and rule.probabilities and (scores.min() < 0 or scores.max() > 1):
        raise ModelError(
            f"{name} gave probabilities at first and numbers outside [0, 1] near row {row(0)}; "
            f"say what decides with --threshold (0 for logits)."
        )


def _check_shape(scores: NDArray[Any], name: str) -> None:
    if scores.ndim not in (1, 2) or (scores.ndim == 2 and scores.shape[1] < 1):
        raise ModelError(
            f"{name} gives an output of shape {tuple(scores.shape)}; a classifier gives (rows, classes) or (rows,). "
            f"If the model returns several things, name one with --output-key."
        )
