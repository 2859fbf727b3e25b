"""Hunting for two rows that differ only in a group, that dense treats alike and the pruned model does not.

Candidates are asked about thousands at a time, so that a hunt costs about as much as predicting its rows.
"""

from __future__ import annotations

from typing import Any

from fairguard.config import Settings, merged
from fairguard.fuzz.asking import BothAnswers, BothModels, open_both, replay
from fairguard.fuzz.hunt import Hunt, TippedPair, hunt
from fairguard.fuzz.saved import saved_test
from fairguard.opening import data_options, modes_kept
from fairguard.progress import Progress
from fairguard.schema import Schema

__all__ = ["BothAnswers", "BothModels", "Hunt", "TippedPair", "fuzz", "hunt", "open_both", "replay", "saved_test"]


def fuzz(
    dense: Any,
    pruned: Any,
    data: Any = None,
    *,
    swap: str,
    max_examples: int = 2000,
    settings: Settings | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Hunt:
    """Return what came of hunting for a pair of rows on which ``pruned`` tells groups apart and ``dense`` does not.

    Args:
        dense: a model file or a ``torch.nn.Module``.
        pruned: the compressed model.
        data: a CSV or Parquet file, a pandas table, or ``module:callable`` that gives one; default: the
            data of the settings.
        swap: the column whose value is swapped; it must reach the models.
        max_examples: pairs to ask about.
        settings: options as a configuration file gives them.
        progress: called with the pairs asked about so far, and in all.
        **options: single options, stronger than ``settings``: ``label``, ``features``, ``transform``, ``model``, ...

    Raises:
        FairguardError: nothing could be asked; its one line says why and what to do.
    """
    settings = merged(settings or Settings(), options)
    schema = schema_of(settings.data if data is None else data, settings)
    schema.swapped(swap)  # before any model is opened
    with modes_kept(dense, pruned):
        models = open_both(dense, pruned, schema, settings=settings)
        return hunt(models, swap, max_examples=max_examples, seed=settings.seed, progress=progress)


def schema_of(data: Any, settings: Settings) -> Schema:
    """Return the schema of the data, read as the settings say."""
    return Schema.of(data, data_options(settings))
