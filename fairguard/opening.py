"""Models and rows opened as the settings say. Knows no answer and no count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fairguard.config import Settings
from fairguard.errors import ConfigError, DataError
from fairguard.inputs.data import DataOptions, open_data
from fairguard.inputs.joining import inputs_of, orders_of
from fairguard.inputs.limits import raised_to
from fairguard.inputs.loaders import sown
from fairguard.inputs.models import Factory, load_model
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import Source


def open_models(dense: Any, pruned: Any, settings: Settings) -> tuple[Predictor, Predictor]:
    """Return both models, opened as the settings say."""
    return open_model(dense, settings, settings.model), open_pruned(pruned, settings)


def open_seeds(settings: Settings) -> list[Predictor]:
    """Return the models pruned like the one that is judged, from other seeds."""
    return [open_pruned(seed, settings) for seed in settings.seeds]


def open_pruned(pruned: Any, settings: Settings) -> Predictor:
    """Return a model that pruning made, opened as the settings say."""
    return open_model(pruned, settings, settings.model_pruned or settings.model)


def open_model(model: Any, settings: Settings, factory: Factory | None) -> Predictor:
    """Return one model, opened as the settings say; ``factory`` builds the architecture of bare weights."""
    return load_model(
        model,
        factory=factory,
        trust=settings.trust,
        device=settings.device,
        provider=settings.provider,
        output_key=settings.output_key,
        per_row=settings.per_row,
        limits=raised_to(settings.limit),
        id=settings.id,
    )


def open_rows(settings: Settings) -> Source:
    """Return the labelled rows of the settings' data without features, for questions that need no model."""
    return _open(settings.data, settings, needs_features=False)


def open_source(
    data: Any,
    settings: Settings,
    *,
    models: Sequence[Predictor] = (),
    needs_features: bool = False,
    search: bool = False,
    double: bool = False,
) -> Source:
    """Return the labelled rows, opened as the settings say; recorded answers need none of their features.

    With ``search`` the columns that ``discover`` searches stand behind the groups. Features of float64 stay so where
    one of the models computes in it, or if ``double``; else they are float32.
    """
    recorded = [model for model in models if isinstance(model, RecordedPredictor)]
    return _open(
        data,
        settings,
        search=search,
        needs_features=needs_features or not models or len(recorded) < len(models),
        double=double or computes_in_double(models),
        find_id=any(model.ids is not None for model in recorded),
        orders=orders_of(models),
        inputs=inputs_of(models),
    )


def data_options(settings: Settings) -> DataOptions:
    """Return what each column of the rows is, as the settings say.

    The columns that ``discover`` searches are no features, searched or not: a model takes the same in every command.
    """
    return DataOptions(
        label=settings.label,
        groups=settings.groups,
        id=settings.id,
        features=settings.features,
        transform=settings.transform,
        classes=settings.classes,
        weight=settings.weight,
        cluster=settings.cluster,
        beside=settings.discover_columns,
    )


def computes_in_double(models: Sequence[Predictor]) -> bool:
    """Return whether one of the models takes numbers with more digits than float32 has."""
    return any(model.double for model in models)


def _open(
    data: Any,
    settings: Settings,
    *,
    needs_features: bool,
    search: bool = False,
    double: bool = False,
    find_id: bool = False,
    orders: Sequence[Sequence[str]] = (),
    inputs: Sequence[str] = (),
) -> Source:
    if data is None:
        raise DataError(
            "no rows to judge on: name a file with --data, or set `data` in fairguard.toml (fairguard init)."
        )
    if settings.discover_columns and not settings.groups:
        raise ConfigError(
            "--discover-columns are searched beside the groups that are judged, and none is named: name one with "
            "--group, or leave --discover-columns out."
        )
    options = data_options(settings)
    if search and settings.discover:
        options = replace(options, groups=(*settings.groups, *settings.discover_columns))
    with sown(settings.seed):  # the user's function may choose rows at random
        return open_data(
            data,
            options,
            needs_features=needs_features,
            double=double,
            find_id=find_id,
            orders=orders,
            inputs=inputs,
            seed=settings.seed,
        )


@contextmanager
def modes_kept(*models: Any) -> Iterator[None]:
    """Leave modules in memory in the training or eval mode that they came in, part by part."""
    modes = [(part, part.training) for model in models if hasattr(model, "modules") for part in model.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
