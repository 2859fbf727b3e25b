"""Both models over the same rows in one pass: predictions become counts. Knows no file format and no statistics."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fairguard.decisions import Rule, check_finite, classes_of, confidences_of, margins_of
from fairguard.dtypes import IntArray
from fairguard.errors import DataError, ModelError
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import Batch, Source
from fairguard.judge.counts import CountTable, merge_all
from fairguard.judge.responsibility import Confirmed
from fairguard.judge.scatter import CLUSTER, WEIGHT
from fairguard.names import seed_roles
from fairguard.progress import Progress
from fairguard.ranks import ALONE, Ranks

MARGIN = "(dense margin)"
"""Name of the hidden column that holds the bin of the dense model's margin."""

CHUNK = 16_384
"""Rows whose scores are decided and counted together: numpy's cost per call is then nothing beside the models'."""
MOST = 64
"""Tables of chunks that wait to be merged, or more where the merged one is larger than all of them."""


@dataclass(frozen=True)
class Flips:
    """The rows of one chunk on which the two models differ; every array has shape (f, ...)."""

    ids: NDArray[Any]
    codes: IntArray
    y: IntArray | None
    dense: IntArray
    pruned: IntArray
    dense_confidence: NDArray[np.floating]
    pruned_confidence: NDArray[np.floating]
    margin_bin: IntArray
    confirmed: NDArray[np.bool_] | None = None
    """Whether the flip is harmful and most of the seeds get the row wrong too; ``None`` without seeds or labels."""
    rows: IntArray | None = None
    """Their numbers in the source."""


class FlipSink(Protocol):
    """Takes flipped rows as they are found."""

    def add(self, flips: Flips) -> None:
        """Take the flips of one chunk."""


@dataclass(frozen=True)
class DecisionPlan:
    """How scores become decisions, as it is fixed before the pass.

    Attributes:
        rules: how the scores of dense, of pruned and of each seed become classes.
        classes: names of the K classes.
        relabel: shape (L,), the class code of each label code of the source.
        edges: shape (B - 1,), inner edges of the bins of the dense margin; empty without margins.
    """

    rules: tuple[Rule, ...]
    classes: tuple[str, ...]
    relabel: IntArray | None
    edges: NDArray[np.floating]

    @property
    def open(self) -> bool:
        """Return whether nothing says how many classes there are: all models answer with class numbers."""
        return all(rule.kind is ScoreKind.LABELS for rule in self.rules)


@dataclass(frozen=True)
class Comparison:
    """What one pass leaves behind.

    Attributes:
        margins: counts with the column :data:`MARGIN`, for questions about how close a row was to tipping.
        ties: flips whose pruned scores tie exactly, so that the order of the classes decided.
        confirmed: harmful flips that several seeds confirm; ``None`` without seeds or labels.
        flipped: a digest of the flipped rows and their answers, whatever their order; 0 where there is none.
        open: whether nothing says how many classes there are but the labels; see :meth:`CountTable.of_two`.
    """

    margins: CountTable
    ties: int
    confirmed: Confirmed | None = None
    flipped: int = 0
    open: bool = False

    @cached_property
    def counts(self) -> CountTable:
        """Return the table that the judge reads: without margins, and of the classes that it judges."""
        table = self.margins.without(MARGIN)
        return table.of_two() if self.open else table


def compare(
    dense: Predictor,
    pruned: Predictor,
    source: Source,
    *,
    plan: DecisionPlan,
    batch_size: int,
    seeds: Sequence[Predictor] = (),
    flips: FlipSink | None = None,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Comparison:
    """Return the counts of one pass of both models over all rows of ``source``, in its order.

    With ``seeds``, five or more models pruned like ``pruned`` from other seeds, harmful flips are confirmed by them.
    Where ``ranks`` are several, each process answers its share of the batches, and all return the counts of all; the
    first one alone hands on the flips.
    """
    kept = _Kept() if ranks.size > 1 and flips is not None else flips
    models = (dense, pruned, *seeds)

    def answered() -> _Share:
        read, done = _Read(), 0
        roles = ("dense", "pruned", *seed_roles(len(seeds)))
        tally = _Tally(plan, source, tuple(map(_name, models, roles)), kept)
        for batch, mine in ranks.shared(source.batches(batch_size)):
            if ranks.size > 1:
                read.note(batch)
            if mine:
                tally.add(batch, [model.scores(batch) for model in models])
            done += len(batch)
            if progress is not None:
                progress(done, source.n_rows)
        return _Share(tally.comparison(), read, [_asked_bits(model) for model in models])

    shares = ranks.gathered(answered)
    _require_same_rows([share.read for share in shares])
    for model, bits in zip(models * len(shares), (bits for share in shares for bits in share.asked), strict=True):
        if isinstance(model, RecordedPredictor):
            model.also_asked(bits)
    if flips is not None and isinstance(kept, _Kept):
        for found in _in_order([part for theirs in ranks.at_first(kept.flips) for part in theirs]):
            flips.add(found)
    return _merged([share.comparison for share in shares if share.comparison is not None])


@dataclass
class _Read:
    """All rows that a process has read, whether it answered them or not: how many, and a digest of them."""

    rows: int = 0
    digest: int = 0

    def note(self, batch: Batch) -> None:
        if not self.rows:
            self.digest = zlib.crc32("\n".join(map(str, batch.ids.tolist())).encode())
        for part in (batch.y, batch.codes):
            if part is not None:
                self.digest = zlib.crc32(np.ascontiguousarray(part).data, self.digest)
        self.rows += len(batch)


@dataclass(frozen=True)
class _Share:
    """What one process found, what it read for it, and which recorded answers it asked for."""

    comparison: Comparison | None
    read: _Read
    asked: list[NDArray[np.uint8]]


def _asked_bits(model: Predictor) -> NDArray[np.uint8]:
    return model.asked_bits if isinstance(model, RecordedPredictor) else np.empty(0, dtype=np.uint8)


def _require_same_rows(read: Sequence[_Read]) -> None:
    """Raise :class:`DataError` if processes that are to share the rows were given different ones."""
    other = next((number for number, each in enumerate(read) if each != read[0]), None)
    if other is not None:
        raise DataError(
            f"the processes do not read the same rows: process 0 reads {read[0].rows:,}, process {other} reads "
            f"{read[other].rows:,}{'' if read[other].rows != read[0].rows else ' others'}. fairguard shares them out "
            f"itself: let your code give every process all rows, in one order, whatever RANK says."
        )


def _in_order(parts: Sequence[Flips]) -> Iterator[Flips]:
    """Yield the flips of several processes in the order of their rows, a chunk at a time."""
    if not parts:
        return
    whole = {each.name: [getattr(part, each.name) for part in parts] for each in fields(Flips)}
    joined: dict[str, Any] = {name: np.concatenate(found) for name, found in whole.items() if found[0] is not None}
    order = np.argsort(joined["rows"], kind="stable")
    for start in range(0, len(order), CHUNK):
        at = order[start : start + CHUNK]
        chosen: dict[str, Any] = {name: joined[name][at] if name in joined else None for name in whole}
        yield Flips(**chosen)


def _merged(parts: Sequence[Comparison]) -> Comparison:
    """Return the comparison of all rows of some comparisons."""
    if not parts:
        raise DataError("the data has no rows; give rows that the model was not trained on.")
    if len(parts) == 1:
        return parts[0]
    margins = merge_all([part.margins for part in parts])
    ties, flipped = (sum(getattr(part, name) for part in parts) for name in ("ties", "flipped"))
    return Comparison(margins, ties, Confirmed.merged(part.confirmed for part in parts), flipped % 2**64)


@dataclass
class _Kept:
    """Keeps flipped rows until they are handed to the process that writes them."""

    flips: list[Flips] = field(default_factory=list)

    def add(self, flips: Flips) -> None:
        self.flips.append(flips)


def count_rows(source: Source, batch_size: int) -> CountTable:
    """Return the counts of rows by group and label alone, as if both models were always right."""
    tables = []
    for batch in source.batches(batch_size):
        if batch.y is None:
            raise DataError("rows without labels cannot be planned with; name their column with --label.")
        names = source.classes or tuple(str(k) for k in range(int(batch.y.max(initial=1)) + 1))
        table = CountTable.of(
            source.columns, source.levels, names, codes=batch.codes, y=batch.y, dense=batch.y, pruned=batch.y
        )
        tables.append(table)
    widest = max(tables, key=lambda table: len(table.classes))
    return merge_all([replace(table, classes=widest.classes) for table in tables])


def _encoded(values: NDArray[Any]) -> tuple[tuple[str, ...], IntArray]:
    """Return the distinct values as text, and each value's place among them, shape (n,)."""
    distinct, place = np.unique(values, return_inverse=True)
    codes: dict[str, int] = {}
    known = [codes.setdefault(str(value), len(codes)) for value in distinct.tolist()]
    return tuple(codes), np.array(known, dtype=np.int64)[place.ravel()]


@dataclass
class _Tally:
    """Counts so far: scores wait until a chunk is full, then become cells. Memory is bounded by one chunk."""

    plan: DecisionPlan
    source: Source
    names: tuple[str, ...]
    flips: FlipSink | None
    tables: list[CountTable] = field(default_factory=list)
    waiting: list[tuple[Batch, list[NDArray[Any]]]] = field(default_factory=list)
    rows: int = 0
    """Rows that wait."""
    ties: int = 0
    confirmed: Confirmed | None = None
    flipped: int = 0

    def add(self, batch: Batch, scores: list[NDArray[Any]]) -> None:
        self.waiting.append((batch, scores))
        self.rows += len(batch)
        if self.rows >= CHUNK:
            self._count()

    def comparison(self) -> Comparison | None:
        """Return what was counted; ``None`` without rows."""
        if self.waiting:
            self._count()
        if not self.tables:
            return None
        return Comparison(merge_all(self.tables), self.ties, self.confirmed, self.flipped)

    def _count(self) -> None:
        batches = [batch for batch, _ in self.waiting]
        scores = [np.concatenate(parts) for parts in zip(*(scores for _, scores in self.waiting), strict=True)]
        for part, rule, name in zip(scores, self.plan.rules, self.names, strict=True):
            check_finite(part, rule, name=name, row=self._row, batches=batches)
        answers = [classes_of(part, rule) for part, rule in zip(scores, self.plan.rules, strict=True)]
        self._check_answers(answers)
        codes = np.concatenate([batch.codes for batch in batches])
        y = self._labels(batches)
        bins = self._bins(scores[0])
        self.tables.append(self._table(codes, self._beside(batches), bins, y=y, dense=answers[0], pruned=answers[1]))
        if len(self.tables) >= MOST and sum(len(t.counts) for t in self.tables[1:]) >= len(self.tables[0].counts):
            self.tables = [merge_all(self.tables)]  # only when it has doubled: every cell is merged a few times at most
        self._hand_on(batches, codes, y, answers, scores, bins)
        self.waiting, self.rows = [], 0

    def _row(self, at: int) -> int:
        """Return the number in the source of the ``at``-th row that waits."""
        for batch, _ in self.waiting:
            if at < len(batch):
                return batch.row(at)
            at -= len(batch)
        raise IndexError(at)

    def _check_answers(self, answers: list[IntArray]) -> None:
        """Raise :class:`ModelError` for an answer that is none of the classes: a sample may not hold the highest."""
        known = len(self.plan.classes)
        for codes, name in zip(answers, self.names, strict=True):
            if codes.max(initial=0) >= known:
                row = self._row(int(np.argmax(codes >= known)))
                raise ModelError(
                    f"{name} answers class {codes.max()} for row {row}; the classes are {known}, numbered from 0. "
                    f"Name all of them with --classes."
                )

    def _labels(self, batches: list[Batch]) -> IntArray | None:
        parts = [batch.y for batch in batches if batch.y is not None]
        if not parts:
            return None
        y = np.concatenate(parts)
        known = len(self.plan.classes) if self.plan.relabel is None else len(self.plan.relabel)
        if y.max(initial=0) >= known:
            row = self._row(int(np.argmax(y >= known)))
            raise DataError(f"label {y.max()} of row {row} is none of the models' {known} classes, 0 to {known - 1}.")
        return y if self.plan.relabel is None else self.plan.relabel[y]

    def _bins(self, scores: NDArray[Any]) -> IntArray:
        if not len(self.plan.edges):
            return np.zeros(len(scores), dtype=np.int64)
        return np.searchsorted(self.plan.edges, margins_of(scores, self.plan.rules[0]), side="right")

    def _beside(self, batches: list[Batch]) -> dict[str, tuple[tuple[str, ...], IntArray]]:
        """Return what rows carry beside their groups, encoded: whom they belong to, and how much they count."""
        given = {
            CLUSTER: [batch.cluster for batch in batches if batch.cluster is not None],
            WEIGHT: [batch.weight for batch in batches if batch.weight is not None],
        }
        return {name: _encoded(np.concatenate(parts)) for name, parts in given.items() if parts}

    def _table(
        self,
        codes: IntArray,
        beside: dict[str, tuple[tuple[str, ...], IntArray]],
        bins: IntArray,
        *,
        y: IntArray | None,
        dense: IntArray,
        pruned: IntArray,
    ) -> CountTable:
        names = [f"{i:02d}" for i in range(len(self.plan.edges) + 1)]
        return CountTable.of(
            (*self.source.columns, *beside, MARGIN),
            (*self.source.levels, *(values for values, _ in beside.values()), names),
            self.plan.classes,
            codes=np.column_stack([codes, *(place for _, place in beside.values()), bins]),
            y=y,
            dense=dense,
            pruned=pruned,
        )

    def _hand_on(
        self,
        batches: list[Batch],
        codes: IntArray,
        y: IntArray | None,
        answers: list[IntArray],
        scores: list[NDArray[Any]],
        bins: IntArray,
    ) -> None:
        """Count exact ties and what the seeds confirm, and hand the flipped rows to the sink."""
        at = np.flatnonzero(answers[0] != answers[1])
        self.ties += int((margins_of(scores[1][at], self.plan.rules[1]) == 0).sum())
        confirmed = None
        if y is not None and len(answers) > 2:
            names = (self.source.columns, self.source.levels, self.plan.classes)
            found, which = Confirmed.of(*names, codes=codes, y=y, answers=answers)
            self.confirmed, confirmed = Confirmed.merged([self.confirmed, found]), which[at]
        rows = np.concatenate([batch.rows for batch in batches])[at]
        self.flipped = (self.flipped + _digest(rows, answers[0][at], answers[1][at])) % 2**64
        if self.flips is None or not len(at):
            return
        ids = np.concatenate([batch.ids for batch in batches])[at]
        labels = None if y is None else y[at]
        sure = [confidences_of(scores[i][at], self.plan.rules[i]) for i in (0, 1)]
        self.flips.add(
            Flips(ids, codes[at], labels, answers[0][at], answers[1][at], sure[0], sure[1], bins[at], confirmed, rows)
        )


def _digest(*columns: IntArray) -> int:
    """Return a digest of rows that their order does not change; columns have shape (f,)."""
    found = (blake2b(row.tobytes(), digest_size=8).digest() for row in np.column_stack(columns))
    return sum(int.from_bytes(each, "big") for each in found)


def _name(model: Predictor, role: str) -> str:
    return model.info.path or f"the {role} model"
