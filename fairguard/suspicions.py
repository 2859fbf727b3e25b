"""What looks suspicious and is judged all the same: one file twice, ids that repeat, swapped classes, a collapsed net.

Everything here ends in a warning; what cannot be judged at all is refused in :mod:`fairguard.preflight`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

import numpy as np

from fairguard.decisions import Rule
from fairguard.dtypes import IntArray
from fairguard.inference import Comparison
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import Source
from fairguard.judge.counts import CountTable
from fairguard.judge.orders import balanced, other_order, tells_apart
from fairguard.names import shown
from fairguard.report.wording import percent


def file_warnings(dense: Predictor, pruned: Predictor) -> list[str]:
    """Return what is suspicious about the two files."""
    warnings = []
    same_file = dense.info.sha256 is not None and dense.info.sha256 == pruned.info.sha256
    if same_file and not isinstance(dense, RecordedPredictor):
        warnings.append("the two files hold the same weights: dense and pruned are one model.")
    warnings += [note for model in (dense, pruned) if (note := model.note)]
    whole = {layer.name for layer in dense.info.layers if layer.sparsity < 1}
    empty = [layer.name for layer in pruned.info.layers if layer.sparsity == 1 and layer.name in whole]
    if empty:
        warnings.append(
            f"layer collapse: {', '.join(map(shown, empty))} has no weight left; prune with a floor per layer."
        )
    return warnings


def scale_warnings(rules: Sequence[Rule], threshold: float | None) -> list[str]:
    """Return a warning if the single outputs of dense and pruned are cut at different places, or one cut may be two."""
    dense, pruned = rules[:2]
    if not (dense.single and pruned.single) or dense.probabilities == pruned.probabilities:
        return []
    if threshold is not None:
        role, other = ("dense", "pruned") if dense.probabilities else ("pruned", "dense")
        told = f"{role}'s outputs look like probabilities, {other}'s do not, and --threshold {threshold:g} cuts both"
        return [f"{told}: if they are, let {other} end in a sigmoid too."] if 0 < threshold < 1 else []
    scale = {True: "probabilities", False: "logits"}
    read = [f"{scale[each.probabilities]} and cut at {each.threshold:g}" for each in (dense, pruned)]
    return [
        f"dense's outputs are read as {read[0]}, pruned's as {read[1]}, for their numbers look so; if both are of one "
        f"scale, say the cut with --threshold (0 for logits)."
    ]


def id_warnings(source: Source) -> list[str]:
    """Return a warning if rows share an id and nothing says that they belong together."""
    ids = source.id_count
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
    warnings = label_warnings(table, by_position=_by_position(dense, table.classes))
    answers = np.unique(table.pruned)
    if len(answers) == 1 and len(np.unique(table.dense)) > 1:
        name = table.classes[int(answers[0])]
        warnings.append(f"pruned answers {name!r} for every row: it has collapsed, or wants other preprocessing.")
    if comparison.ties and comparison.ties > 0.1 * flips:
        warnings.append(
            f"{comparison.ties} of {flips} flips are exact ties of the pruned model's scores, which the first class "
            "wins: give its last layer more bits, or leave it in float (docs/verdict.md)."
        )
    return warnings


def _two_of_more_warnings(table: CountTable, *, typed: bool) -> list[str]:
    """Return a warning if two classes alone are labels and there are more: recall and fpr are then judged of none."""
    used = np.unique(table.y)
    if not table.labelled or len(used) != 2 or len(table.classes) < 3:
        return []
    a, b = (shown(table.classes[int(code)]) for code in used)
    asked = f"recall and fpr are judged only where {'--metric' if typed else 'metrics'} names them"
    if (two := table.two_numbers()) is not None and two[0] == 1 and len(table.classes) == 3:
        return [f"labels are {a} and {b}, and the models have a third output, for 0: of three classes {asked}."]
    stray = sum(int(table.counts[~np.isin(answers, used)].sum()) for answers in (table.dense, table.pruned))
    return [
        f"labels are only {a} and {b}, of {len(table.classes)} classes, and {stray:,} of both models' answers are "
        f"none of the two: {asked}."
    ]


def label_warnings(table: CountTable, *, by_position: bool, typed: bool = True) -> list[str]:
    """Return warnings if few classes are labels, or dense would be right far more often otherwise.

    That is in another order, or always saying one class. Who was taught to find a rare class is right less often than
    who never says it, and nothing is wrong.

    Args:
        table: the counts; without labels there is nothing to say.
        by_position: whether the place of an output is all that says its class.
        typed: whether classes are named by an option of the command line, not by an argument.
    """
    if not table.labelled:
        return []
    return [
        *_two_of_more_warnings(table, typed=typed),
        *_wrong_most_warnings(table, by_position=by_position, typed=typed),
    ]


def _wrong_most_warnings(table: CountTable, *, by_position: bool, typed: bool) -> list[str]:
    size = len(table.classes)
    rows = _summed(table.y, table.counts, size)
    hit = table.dense == table.y
    right = _summed(table.y[hit], table.counts[hit], size)
    accuracy, majority = right.sum() / table.n, rows.max() / table.n
    if by_position and (other := other_order(table, table.dense)):
        names = f"--classes {shlex.quote(','.join(other.names))}" if typed else f"classes={json.dumps(other.names)}"
        return [
            f"dense is right on {percent(accuracy)} of the rows, with its outputs in another order it would be right "
            f"on {percent(other.right)}. If it learned the classes so, name them so: {names}"
        ]
    if accuracy > majority:
        return []
    told = (
        f"dense is right on {percent(accuracy)} of the rows, always saying {table.classes[int(rows.argmax())]!r} "
        f"would be on {percent(majority)}"
    )
    if tells_apart(right, rows):
        return [
            f"{told}; of each class it finds {percent(balanced(right, rows))} on average, by chance it would be "
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
