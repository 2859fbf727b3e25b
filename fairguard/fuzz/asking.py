"""Both models asked about the same rows, thousands in one forward pass. Knows nothing of where rows come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fairguard.config import Settings, merged
from fairguard.decisions import Rule, check_finite, classes_of, margins_of, rule_for
from fairguard.errors import ModelError
from fairguard.inputs.factories import called_within
from fairguard.inputs.features import Feed, Frames, Matrix
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.rows import Batch
from fairguard.opening import computes_in_double, open_models
from fairguard.preflight import preflight
from fairguard.schema import Schema, table_of, type_called

FORWARD_ROWS = 8_192
"""Rows in one forward pass."""
SURE = 1e-4
"""An answer counts as one only if its score is further than this from tipping: less is left to rounding."""


@dataclass(frozen=True, eq=False)
class Said:
    """What one model says about n rows.

    Attributes:
        codes: shape (n,), the classes it answers.
        scores: shape (n, K), (n, 1) or (n,), its outputs.
        margins: shape (n,), how far each answer is from tipping.
    """

    codes: NDArray[np.int64]
    scores: NDArray[Any]
    margins: NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class BothAnswers:
    """What both models say about the same rows.

    Attributes:
        dense: what the dense model says.
        pruned: what the pruned model says.
        classes: names of the classes.
    """

    dense: Said
    pruned: Said
    classes: tuple[str, ...]

    def dense_alike(self) -> NDArray[np.bool_]:
        """Return where the dense model treats row i and row i + m of 2m rows alike, shape (m,)."""
        return _alike(self.dense.codes)

    def tipped(self) -> NDArray[np.bool_]:
        """Return where dense treats rows i and i + m of 2m rows alike and pruned does not, shape (m,).

        Answers that are as good as ties count for nothing.
        """
        sure = (self.dense.margins > SURE) & (self.pruned.margins > SURE)
        half = len(sure) // 2
        found: NDArray[np.bool_] = self.dense_alike() & ~_alike(self.pruned.codes) & sure[:half] & sure[half:]
        return found

    def __str__(self) -> str:
        """Return the answers in words: ``dense answers 1 and 1, pruned 1 and 0``."""
        dense, pruned = (" and ".join(self.classes[code] for code in said.codes) for said in (self.dense, self.pruned))
        return f"dense answers {dense}, pruned {pruned}"


@dataclass(frozen=True, eq=False)
class BothModels:
    """The dense and the pruned model, ready to be asked about rows of one schema.

    Attributes:
        models: the two predictors.
        rules: how their scores become classes.
        classes: names of the classes.
        schema: the schema whose rows they take.
        forward_rows: rows in one forward pass.
        warnings: what the reader should know of the two files.
    """

    models: tuple[Predictor, Predictor]
    rules: tuple[Rule, ...]
    classes: tuple[str, ...]
    schema: Schema
    forward_rows: int = FORWARD_ROWS
    warnings: tuple[str, ...] = ()

    def ask(self, rows: pa.Table | Sequence[Mapping[str, Any]]) -> BothAnswers:
        """Return what both models say about rows, given as dicts or as a table of the schema's columns."""
        table = rows if isinstance(rows, pa.Table) else table_of(rows, self.schema.types, self.schema.categories)
        fed = (table.slice(low, self.forward_rows) for low in range(0, len(rows), self.forward_rows))
        scores = _scores(self.models, (_batch(self.schema.features(part), len(part)) for part in fed))
        dense, pruned = map(_said, self.models, self.rules, scores)
        return BothAnswers(dense, pruned, self.classes)


def open_both(
    dense: Any, pruned: Any, schema: Schema, *, settings: Settings | None = None, **options: Any
) -> BothModels:
    """Return both models ready to be asked, found comparable on the real rows first.

    Args:
        dense: a model file or a ``torch.nn.Module``, which is in eval mode from here on.
        pruned: the compressed model.
        schema: the rows that they take.
        settings: options as a configuration file gives them.
        **options: single options, stronger than ``settings``: ``model``, ``threshold``, ``device``, ...

    Raises:
        ModelError: a model cannot be opened or does not take such rows, or is a file of recorded answers.
    """
    settings = merged(settings or Settings(), options)
    models = _answering(open_models(dense, pruned, settings))
    if computes_in_double(models):
        schema = schema.in_double()
    ready = preflight(*models, schema.source(), batch_size=settings.batch_size, threshold=settings.threshold)
    rows = settings.batch_size if "batch_size" in settings.model_fields_set else FORWARD_ROWS
    return BothModels(models, ready.plan.rules, ready.plan.classes, schema, rows, ready.warnings)


def replay(
    dense: str | Path,
    pruned: str | Path,
    rows: Sequence[Mapping[str, Any]],
    *,
    types: Mapping[str, str | Sequence[str]],
    classes: Sequence[str],
    thresholds: tuple[float | None, float | None] = (None, None),
    transform: str | None = None,
    **options: Any,
) -> BothAnswers:
    """Return what both models say about rows that stand in a saved test: no data file is read.

    Args:
        dense: the dense model's file.
        pruned: the pruned model's file.
        rows: the rows as dicts of plain values.
        types: each column's Arrow type by name, or all its categories, in the order of the features.
        classes: names of the classes in the models' order.
        thresholds: the cut of each model with a single output.
        transform: makes features out of the table of rows.
        **options: how the models are opened: ``model``, ``device``, ...

    Raises:
        FairguardError: a model cannot be opened or does not take the rows.
    """
    models = _answering(open_models(str(dense), str(pruned), merged(Settings(), options)))
    categories = {name: pa.array(kind) for name, kind in types.items() if not isinstance(kind, str)}
    kinds = {name: type_called(kind) if isinstance(kind, str) else pa.null() for name, kind in types.items()}
    table = table_of(rows, kinds, categories)
    names = tuple(types)
    double = computes_in_double(models)
    if transform:
        feed: Feed = Frames(names, called_within(transform), double=double)
    else:
        feed = Matrix(table.schema, names, table="the row", double=double)
    scores = _scores(models, [_batch(feed.chunk(table, 0)(0, len(rows)), len(rows))])
    dense_said, pruned_said = (
        _said(model, rule_for(part, model.kind, name=_name(model), threshold=cut, n_classes=None), part)
        for model, part, cut in zip(models, scores, thresholds, strict=True)
    )
    return BothAnswers(dense_said, pruned_said, tuple(classes))


def _answering(models: tuple[Predictor, Predictor]) -> tuple[Predictor, Predictor]:
    for model in models:
        if model.kind is ScoreKind.LABELS or model.info.kind == "predictions":
            raise ModelError(
                f"{_name(model)} holds recorded answers, which say nothing about new rows; give the model."
            )
    return models


def _scores(models: tuple[Predictor, Predictor], batches: Iterable[Batch]) -> list[NDArray[Any]]:
    """Return the scores of each model; both see a batch before the next one is made."""
    parts: list[list[NDArray[Any]]] = [[model.scores(batch) for model in models] for batch in batches]
    return [np.concatenate(of_model) for of_model in zip(*parts, strict=True)]


def _batch(x: Any, n: int) -> Batch:
    return Batch(x, None, np.empty((n, 0), dtype=np.int64), np.arange(n))


def _said(model: Predictor, rule: Rule, scores: NDArray[Any]) -> Said:
    check_finite(scores, rule, name=_name(model))
    return Said(classes_of(scores, rule), scores, margins_of(scores, rule))


def _alike(codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    half = len(codes) // 2
    same: NDArray[np.bool_] = codes[:half] == codes[half:]
    return same


def _name(model: Predictor) -> str:
    return model.info.path or "the model"
