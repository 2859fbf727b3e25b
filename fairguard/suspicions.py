"""What looks suspicious and is judged all the same: one file twice, ids that repeat, swapped classes, a collapsed net.

Everything here ends in a warning; what cannot be judged at all is refused in :mod:`fairguard.preflight`.
"""

from __future__ import annotations

import math
import shlex

import numpy as np
from numpy.typing import NDArray

from fairguard.inference import Comparison
from fairguard.inputs.limits import shown
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import IdCount, Source
from fairguard.judge.counts import CountTable
from fairguard.judge.orders import best_assignment
from fairguard.report.wording import percent

MOST_REORDERED = 1_000
"""Most classes whose order is questioned."""
CLEAR = 0.1
"""Ten points: how much better than chance, or than in the order given, a network must be before that is told."""
BY_CHANCE = 1e-4
"""An order that is better only with this chance, all orders tried, is not told."""

IntArray = NDArray[np.int64]


def file_warnings(dense: Predictor, pruned: Predictor) -> list[str]:
    """Return what is suspicious about the two files."""
    warnings = []
    same_file = dense.info.sha256 is not None and dense.info.sha256 == pruned.info.sha256
    if same_file and not isinstance(dense, RecordedPredictor):
        warnings.append("the two files hold the same weights: dense and pruned are one model.")
    whole = {layer.name for layer in dense.info.layers if layer.sparsity < 1}
    empty = [layer.name for layer in pruned.info.layers if layer.sparsity == 1 and layer.name in whole]
    if empty:
        warnings.append(
            f"layer collapse: {', '.join(map(shown, empty))} has no weight left; prune with a floor per layer."
        )
    return warnings


def id_warnings(source: Source) -> list[str]:
    """Return a warning if rows share an id and nothing says that they belong together."""
    ids: IdCount | None = getattr(source, "id_count", None)
    if ids is None or ids.different == ids.rows:
        return []
    most = "at most " if ids.cut else ""
    return [
        f"{ids.rows:,} rows have {most}{ids.different:,} different ids and count as independent: if the rows of one id "
        f"are one person's, name it with --cluster {shlex.quote(ids.column)}."
    ]


def answer_warnings(dense: Predictor, comparison: Comparison) -> list[str]:
    """Return what is suspicious about the answers of a pass."""
    table = comparison.counts
    flips = int(table.counts[table.dense != table.pruned].sum())
    warnings = _label_warnings(dense, table) if table.labelled else []
    answers = np.unique(table.pruned)
    if len(answers) == 1 and len(np.unique(table.dense)) > 1:
        warnings.append(f"pruned answers {table.classes[int(answers[0])]!r} for every row: it has collapsed.")
    if comparison.ties and comparison.ties > 0.1 * flips:
        warnings.append(f"{comparison.ties} of {flips} flips are exact ties of the pruned model's scores.")
    return warnings


def _label_warnings(dense: Predictor, table: CountTable) -> list[str]:
    """Return a warning if dense would be right far more often otherwise: in another order, or always saying one class.

    Who was taught to find a rare class is right less often than who never says it, and nothing is wrong.
    """
    size = len(table.classes)
    rows = _summed(table.y, table.counts, size)
    hit = table.dense == table.y
    right = _summed(table.y[hit], table.counts[hit], size)
    accuracy, majority = right.sum() / table.n, rows.max() / table.n
    if _by_position(dense, table.classes) and (other := _other_order(table)):
        return [f"dense is right on {percent(accuracy)} of the rows, {other}"]
    if accuracy > majority:
        return []
    told = (
        f"dense is right on {percent(accuracy)} of the rows, always saying {table.classes[int(rows.argmax())]!r} "
        f"would be on {percent(majority)}"
    )
    if _tells_apart(right, rows):
        return [
            f"{told}; of each class it finds {percent(_balanced(right, rows))} on average, by chance it would be "
            f"{percent(1 / np.count_nonzero(rows))}: it looks taught to find a rarer class."
        ]
    return [f"{told}: is the preprocessing right?"]


def _summed(codes: IntArray, counts: IntArray, size: int) -> IntArray:
    found = np.zeros(size, dtype=np.int64)
    np.add.at(found, codes, counts)
    return found


def _by_position(model: Predictor, classes: tuple[str, ...]) -> bool:
    """Return whether the place of an output is all that says its class: recorded answers may say it by name."""
    if model.classes is not None:
        return False
    numbers = classes == tuple(map(str, range(len(classes))))
    return not (isinstance(model, RecordedPredictor) and model.kind is ScoreKind.LABELS and numbers)


def _balanced(right: IntArray, rows: IntArray) -> float:
    """Return the mean recall of the classes that have rows."""
    seen = rows > 0
    return float((right[seen] / rows[seen]).mean())


def _tells_apart(right: IntArray, rows: IntArray) -> bool:
    """Return whether answers of so many right ones of each class's rows are clearly better than any constant's."""
    seen = rows[rows > 0]
    spread = math.sqrt((0.25 / seen).sum()) / len(seen)
    return _balanced(right, rows) - 1 / len(seen) > max(CLEAR, 3 * spread)


def _other_order(table: CountTable) -> str | None:
    """Return the order of classes in which dense would be right far more often, and how often, if there is one.

    Not only more rows count, which an answer of the commonest class gives too, but more of each class: its outputs
    have to tell the classes apart.
    """
    size = len(table.classes)
    if size > MOST_REORDERED:
        return None
    answers = np.zeros((size, size), dtype=np.int64)  # by label and dense answer
    np.add.at(answers, (table.y, table.dense), table.counts)
    rows, now = answers.sum(axis=1), answers.diagonal()
    recalls = answers / np.maximum(rows, 1)[:, None]
    if (recalls.max(axis=1) - recalls.diagonal()).sum() <= CLEAR * np.count_nonzero(rows):
        return None
    usual = best_assignment(recalls + 1e-9 * np.eye(size))  # classes without rows stay where they are, if they can
    right = answers[np.arange(size), usual]
    moved = usual != np.arange(size)
    gained, lost = int(right[moved].sum()), int(now[moved].sum())
    gain = gained - lost
    if gain <= CLEAR * table.n or _balanced(right, rows) - _balanced(now, rows) <= CLEAR:
        return None
    by_luck = 2 * (gained + lost) * (math.lgamma(size + 1) - math.log(BY_CHANCE))
    if gain * gain <= by_luck or not _tells_apart(right, rows):
        return None
    order = ",".join(table.classes[int(label)] for label in np.argsort(usual))
    return (
        f"with its outputs in another order it would be right on {percent(right.sum() / table.n)}. "
        f"If it learned the classes so, name them so: --classes {shlex.quote(order)}"
    )
