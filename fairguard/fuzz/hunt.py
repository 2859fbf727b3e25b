"""The hunt: real rows with the group swapped, then changed ones; what tips is made as simple as it can be.

Knows how to look, not how models are opened or what the result looks like on a screen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fairguard.errors import ConfigError, DataError, ModelError
from fairguard.fuzz.asking import BothAnswers, BothModels
from fairguard.fuzz.pairs import Pairs, changed_pairs, fewer_changes, nearer, real_pairs
from fairguard.progress import Progress

TO_SIMPLIFY = 64
"""Tipping pairs that are made simpler; the simplest of them all is shown."""
TO_CONFIRM = 8
"""Simplest pairs that are asked again by themselves, until one tips there too."""


@dataclass(frozen=True, eq=False)
class TippedPair:
    """Two rows that differ in one column, treated alike by dense and differently by pruned.

    Attributes:
        swap: the column that differs.
        row: the real row that the first one starts from, counted from 0.
        first: the first row, as a dict of the columns that reach the model.
        second: the same with another value of ``swap``.
        changed: for each column in which the first differs from the real row, the real row's own value.
        answers: what both models say about the two.
    """

    swap: str
    row: int
    first: dict[str, Any]
    second: dict[str, Any]
    changed: dict[str, Any]
    answers: BothAnswers


@dataclass(frozen=True, eq=False)
class Hunt:
    """What came of a hunt.

    Attributes:
        swap: the column whose value was swapped.
        candidates: pairs of rows that both models were asked about.
        tipped: how many of them dense treated alike and pruned did not.
        pair: the simplest, ``None`` if there was none. That proves nothing beyond these candidates.
        warnings: what the reader should know of the two models.
    """

    swap: str
    candidates: int
    tipped: int
    pair: TippedPair | None
    warnings: tuple[str, ...] = ()


def hunt(
    models: BothModels, swap: str, *, max_examples: int = 2000, seed: int = 0, progress: Progress | None = None
) -> Hunt:
    """Return what came of asking both models about pairs of rows that differ in column ``swap`` only.

    Half of the candidates are real rows. If none of those tips, the other half are rows with one to three columns
    changed, every second of them near a real pair that almost tipped.

    Args:
        models: the two models and the rows that they take.
        swap: the column whose value is swapped.
        max_examples: pairs to ask about.
        seed: seed of the choice of rows and changes.
        progress: called with the pairs asked about so far, and in all.

    Raises:
        ConfigError: ``max_examples`` is less than 2.
        DataError: the column never reaches the models, or has one value only.
        ModelError: the answers depend on the batch they were asked in.
    """
    if max_examples < 2:
        raise ConfigError(f"max_examples is {max_examples}; ask about at least 2 pairs.")
    models.schema.swapped(swap)
    rng = np.random.default_rng(seed)
    pairs = real_pairs(models.schema, swap, at_most=max_examples // 2, rng=rng)
    _check_reaches_models(models, pairs)
    answers = models.ask(pairs.table())
    asked = len(pairs)
    _tell(progress, asked, max_examples)
    tipped = pairs.at(np.flatnonzero(answers.tipped()))
    if not len(tipped):
        pairs = changed_pairs(_patterns(pairs, answers, max_examples - asked, rng), rng=rng)
        asked += len(pairs)
        tipped = _tipping(models, pairs)
        _tell(progress, asked, max_examples)
    pair = _confirmed(models, _simplified(models, tipped)) if len(tipped) else None
    return Hunt(swap, asked, len(tipped), pair, models.warnings)


def _patterns(pairs: Pairs, answers: BothAnswers, n: int, rng: np.random.Generator) -> Pairs:
    """Return ``n`` real pairs to change: every second one is of the quarter that came nearest to tipping."""
    half = len(pairs)
    margins = answers.pruned.margins
    least, apart = np.minimum(margins[:half], margins[half:]), np.abs(margins[:half] - margins[half:])
    nearness = np.where(answers.dense_alike(), apart / (least + 1e-12), -1.0)  # how much of the way the swap went
    near = np.argsort(-nearness, kind="stable")[: max(1, half // 4)]
    return pairs.at(np.where(rng.random(n) < 0.5, rng.choice(near, size=n), rng.integers(0, half, size=n)))


def _tipping(models: BothModels, pairs: Pairs) -> Pairs:
    """Return the pairs that tip, simplest first: fewest changed columns, then the clearest answers."""
    if not len(pairs):
        return pairs
    answers = models.ask(pairs.table())
    which = np.flatnonzero(answers.tipped())
    sure = answers.pruned.margins.reshape(2, -1).min(axis=0)
    order = np.lexsort((-sure[which], pairs.changed()[which].sum(axis=1)))
    return pairs.at(which[order])


def _simplified(models: BothModels, tipped: Pairs) -> Pairs:
    """Return the simplest pairs that tip: as few changed columns as possible, then values near the real ones."""
    fewest = _tipping(models, fewer_changes(_tipping(models, tipped).at(slice(TO_SIMPLIFY))))
    best = fewest.at(slice(TO_CONFIRM))
    return _joined([_nearest(models, best.at([i])) for i in range(len(best))]) if best.changed().any() else best


def _nearest(models: BothModels, pair: Pairs) -> Pairs:
    """Return the pair with each changed value as near to the real row's own as it still tips."""
    moved = True
    while moved:
        moved = False
        for column in np.flatnonzero(pair.changed()[0]):
            steps = nearer(pair, int(column))
            if len(steps) and (tips := models.ask(steps.table()).tipped()).any():
                pair, moved = steps.at([int(tips.argmax())]), True
    return pair


def _joined(parts: list[Pairs]) -> Pairs:
    first = parts[0]
    return Pairs(
        first.schema,
        first.swap,
        np.concatenate([part.rows for part in parts]),
        np.concatenate([part.places for part in parts]),
        np.concatenate([part.others for part in parts]),
    )


def _confirmed(models: BothModels, simplest: Pairs) -> TippedPair:
    """Return the first pair that tips also when nobody else is in the batch."""
    for i in range(min(TO_CONFIRM, len(simplest))):
        pair = simplest.at([i])
        table = pair.table()
        answers = models.ask(table)
        if answers.tipped()[0]:
            first, second = table.to_pylist()
            return TippedPair(pair.swap, int(pair.rows[0]), first, second, _own_values(pair), answers)
    raise ModelError(
        "pairs tip only in the company of other rows: a model's answer depends on its batch. Use static or per-row "
        "quantisation, or ask one row at a time with --per-row."
    )


def _own_values(pair: Pairs) -> dict[str, Any]:
    names = np.array(list(pair.schema.columns))[pair.changed()[0]]
    real = pair.schema.build(pair.rows, {}).to_pylist()[0]
    return {str(name): real[name] for name in names}


def _check_reaches_models(models: BothModels, pairs: Pairs) -> None:
    """Raise :class:`DataError` if swapping changes nothing of what the models are fed."""
    some = pairs.at(slice(100))
    if not _differs(models.schema.features(some.table()), len(some)):
        raise DataError(
            f"swapping {pairs.swap!r} changes nothing that the models are fed with: --transform leaves it out. "
            f"Swap a column that reaches them."
        )


def _differs(x: Any, half: int) -> bool:
    if isinstance(x, dict | tuple):
        return any(_differs(part, half) for part in (x.values() if isinstance(x, dict) else x))
    return bool((x[:half] != x[half:]).any())  # an array, or a tensor on any device


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
