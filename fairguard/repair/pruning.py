"""The use case: a sparse model in the first place. Mask, train, write, check. Read :func:`prune` top to bottom.

A method sees train and tune rows only, and a task whose PRUNED is dense with its smallest weights zero. The verdict is
reached once, on rows that nothing saw, from the written file; the file is written whatever the verdict is.
"""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.checking import count, decide
from fairguard.config import Settings, merged
from fairguard.errors import ConfigError, DataError
from fairguard.files import replacing, write_text
from fairguard.inputs.booleans import as_numbers, taken_as_numbers
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.rows import Source
from fairguard.inputs.tensors import to_device
from fairguard.opening import modes_kept, open_model, open_models, open_pruned, open_source
from fairguard.preflight import preflight
from fairguard.repair.dividing import Parts, divided, need_groups
from fairguard.repair.frontier import found_by
from fairguard.repair.journal import Journal
from fairguard.repair.label_weights import label_notes
from fairguard.repair.listening import Listener
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.methods.names import HEEDS_REFERENCE, ONE_SHOT
from fairguard.repair.places import Places, opened_as
from fairguard.repair.plans import PrunePlan
from fairguard.repair.preparing import (
    constraint_notes,
    float_copy,
    float_weights,
    options_for,
    purpose_of,
    repeatable,
    task_for,
)
from fairguard.repair.proof import strange_notes
from fairguard.repair.publishing import check_outputs, cpu_copy, onnx_of, report_of, resume_notes
from fairguard.repair.starting import left_dense_notes, masked, starting_masks
from fairguard.repair.task import Candidate, Score, Status, Task
from fairguard.repair.telling.prune_report import PruneReport
from fairguard.repair.writing import export_onnx, left_out_notes, write_like, written_sparsity
from fairguard.verdict import Verdict

EQUAL = (
    "groups were made alike whatever dense does (--reference equal), and the verdict is against dense all the same: "
    "what was asked for shows in the worst group and MCD of both models"
)
"""What the user should know of a verdict on a model that was to be equal, not true to dense."""
HEEDING = f"{', '.join(HEEDS_REFERENCE[:-1])} and {HEEDS_REFERENCE[-1]}"


def prune(
    dense: Any,
    output: str | Path | None = None,
    *,
    train: Any = None,
    data: Any = None,
    verify: Any = None,
    settings: Settings | None = None,
    tell: Callable[[Status], None] | None = None,
    **options: Any,
) -> PruneReport:
    """Return what pruning ``dense`` did, and the verdict on it; the sparse model is written to ``output``.

    Args:
        dense: a model with its weights (a state dict and ``model``, a module, ...).
        output: file to write, of DENSE's kind; default DENSE's name with ``.pruned`` in it.
        train: rows to train and tune on; ``data`` is then for the verdict alone.
        data: labelled rows; divided in three where nothing else is given. ``one-shot`` judges on all of them.
        verify: rows for the verdict; ``data`` is then divided in two.
        settings: the check's options, as a configuration file gives them.
        tell: called after every epoch.
        **options: options of :class:`PrunePlan` (``sparsity``, ``method``, ...) and of the check (``label``, ...).

    Raises:
        FairguardError: nothing could be pruned; its one line says why and what would make it possible.
    """
    started = time.monotonic()
    plan = PrunePlan.taken_from(options)
    settings = merged(settings or Settings(), options | ({} if data is None else {"data": data}))
    named = {"dense": dense, "train": train, "data": settings.data, "verify": verify}
    files = Places.of(output, named, like="dense", work="prune", added="pruned", read=settings.inputs)
    check_outputs(files, reports=["json"], export=plan.export)
    asked = _Asked(files, plan, settings, Listener(tell), dense=dense, train=train, verify=verify)
    with modes_kept(dense):
        return _pruned(asked, started)


@dataclass(frozen=True, eq=False)
class _Asked:
    """What was asked for.

    Attributes:
        files: what is read and written.
        plan: how to prune.
        settings: the check's, which name the rows of ``data``.
        listener: hears of every epoch.
        dense: the model before pruning.
        train: rows to train and tune on; ``None``: those of ``data``.
        verify: rows for the verdict; ``None``: those of ``data``, or a part of those to train on.
    """

    files: Places
    plan: PrunePlan
    settings: Settings
    listener: Listener
    dense: Any
    train: Any
    verify: Any


def _pruned(asked: _Asked, started: float) -> PruneReport:
    files, plan, settings = asked.files, asked.plan, asked.settings
    work = _prepared(asked)
    parts = work.parts
    with ExitStack() as stack:
        task = None
        if parts is not None:
            need_groups(plan.only, parts)
            stack.enter_context(repeatable(settings.seed))
            task = replace(_task(work, parts, settings, plan), tell=asked.listener)
        purpose = purpose_of(files, task, asdict(replace(plan, resume=False)), settings)
        folder = None if task is None else files.journal
        idle = [] if task is None else resume_notes(files, resume=plan.resume)
        journal = stack.enter_context(Journal(folder, purpose=purpose, resume=plan.resume))
        found = _one_shot(work)
        if task is not None:
            note = asked.listener.note
            note([*constraint_notes(task, settings), *label_notes(task.label_weights, work.classes)])
            found = found_by(replace(task, journal=journal), plan, note).best
        sparsity = _write(found, work, asked)
        verdict = None if work.rows is None else _verdict(work, asked)
        notes = (
            *idle,
            *left_dense_notes(work.net),
            *left_out_notes(files.like),
            *_notes(plan),
            *journal.notes,
            *(parts.notes if parts else ()),
            *asked.listener.notes,
        )
        if task is not None and verdict is not None and settings.weight is None:
            notes += tuple(strange_notes(task, (verdict.overall.accuracy.dense, verdict.overall.n)))
        report = _reported(asked, work, found, sparsity=sparsity, verdict=verdict)
        report = replace(report, notes=notes, settings=purpose, seconds=time.monotonic() - started)
        write_text(report_of(files.output, "json"), report.to_json())
        journal.close()
    return report


def _notes(plan: PrunePlan) -> tuple[str, ...]:
    """Return what the user should know of what was asked for."""
    if plan.reference == "dense":
        return ()
    if plan.method not in HEEDS_REFERENCE:
        return (f"--reference equal changes nothing in how --method {plan.method} trains: {HEEDING} know it",)
    return (EQUAL,)


def _reported(asked: _Asked, work: _Work, found: Candidate, *, sparsity: float, verdict: Verdict | None) -> PruneReport:
    dense, files, plan = asked.dense, asked.files, asked.plan
    return PruneReport(
        dense=str(dense) if isinstance(dense, str | Path) else "DENSE",
        output=str(files.output),
        exported=None if plan.export is None else str(onnx_of(files.output)),
        method=plan.method,
        scope=plan.scope,
        asked=plan.sparsity,
        sparsity=sparsity,
        weights=work.masks.total,
        tensors=len(work.masks.keep),
        verdict=verdict,
        splits={} if work.parts is None else work.parts.how,
        epochs=found.epochs,
        trials=found.trials,
    )


@dataclass(frozen=True, eq=False)
class _Work:
    """What is to be pruned, and on what.

    Attributes:
        net: a float copy of dense's network, with dense's weights.
        masks: where to start from: its largest weights at the sparsity asked for.
        start: its state dict under these masks.
        parts: rows to train, tune and verify on; ``None`` where the method needs none.
        rows: rows for the verdict; ``None`` where there are none.
        classes: names of the model's classes, where there are rows.
    """

    net: nn.Module
    masks: Masks
    start: Weights
    parts: Parts | None
    rows: Source | None
    classes: tuple[str, ...]


def _prepared(asked: _Asked) -> _Work:
    """Return all that a method is given; whatever cannot work is refused here, before any time is spent.

    Raises:
        FairguardError: the model, the rows or the kind of file make it impossible.
    """
    files, plan, settings = asked.files, asked.plan, asked.settings
    model = open_model(asked.dense, merged(settings, {"per_row": False}), settings.model)
    net = float_copy(model, "dense")
    masks = starting_masks(net, plan.sparsity, plan.scope)
    start = masked(net, masks)
    with tempfile.TemporaryDirectory() as folder:  # a kind of file that cannot be written is found out now
        write_like(files.like, Path(folder) / f"rehearsal{files.output.suffix}", start, masks)
    parts, rows, classes = _rows(model, asked)
    if plan.export is not None and rows is None:
        raise ConfigError("--export onnx traces the network on a few rows: name some with --data.")
    work = _Work(net, masks, start, parts, rows, classes)
    if plan.export is not None:  # what cannot be exported is found out now too
        with tempfile.TemporaryDirectory() as folder:
            _export(work, start, Path(folder) / "rehearsal.onnx")
    return work


def _rows(model: Predictor, asked: _Asked) -> tuple[Parts | None, Source | None, tuple[str, ...]]:
    """Return the rows divided, those for the verdict, and the classes' names."""
    plan, settings = asked.plan, asked.settings
    train, data, verify = asked.train, settings.data, asked.verify
    if plan.method == ONE_SHOT:
        proof = data if verify is None else verify
        rows = None if proof is None else _with_groups(open_source(proof, settings, models=[model]))
        return None, rows, () if rows is None else _classes(model, rows, settings)
    taught = data if train is None else train
    if taught is None:
        raise DataError(
            f"method {plan.method} learns from labelled rows: name them with --data, or --train and --data. "
            f"--method {ONE_SHOT} needs none."
        )
    proof = data if verify is None and train is not None else verify
    source = _with_groups(open_source(taught, settings, models=[model]))
    classes = _classes(model, source, settings)
    parts = divided(source, settings, train=None, verify=proof, classes=classes)
    return parts, parts.verify, classes


def _with_groups(source: Source) -> Source:
    if not source.columns:
        raise DataError(
            "no group to judge: name a sensitive feature with --group, or 'class' for the labels themselves."
        )
    return source


def _classes(model: Predictor, rows: Source, settings: Settings) -> tuple[str, ...]:
    """Return the names of the model's classes, the model and the rows found to fit each other."""
    found = preflight(model, model, rows, batch_size=settings.batch_size, threshold=settings.threshold)
    return found.plan.classes


def _one_shot(work: _Work) -> Candidate:
    return Candidate(work.start, work.masks, 0.0, Score(nan, nan, nan, "", nan))


def _task(work: _Work, parts: Parts, settings: Settings, plan: PrunePlan) -> Task:
    """Return the task for a method: the one-shot pruned model is its PRUNED."""
    options = options_for(settings, plan, reference=plan.reference)
    return task_for(
        work.net,
        work.start,
        parts,
        settings,
        classes=work.classes,
        options=options,
        masks=work.masks,
        only=plan.only,
    )


def _write(found: Candidate, work: _Work, asked: _Asked) -> float:
    """Write the pruned model, and return the zeros among the stored entries of its pruned tensors, a fraction."""
    files, settings, plan = asked.files, asked.settings, asked.plan
    with replacing(files.output) as temporary:
        write_like(files.like, temporary, found.weights, found.masks)
        file = open_pruned(opened_as(files.like, temporary), _as_written(work, files, settings))
        sparsity = written_sparsity(float_weights(file, "pruned"), work.masks, asked=work.masks)
    if plan.export is not None and work.rows is not None:
        with replacing(onnx_of(files.output)) as temporary:
            _export(work, found.weights, temporary)
    return sparsity


def _export(work: _Work, weights: Weights, path: Path) -> None:
    assert work.rows is not None  # noqa: S101 - refused before
    few = next(iter(work.rows.batches(2))).x
    few = to_device(few, device=torch.device("cpu"), dtype=torch.float32)
    net = cpu_copy(work.net, weights)
    export_onnx(net, as_numbers(few, taken_as_numbers(net, few, torch.float32), torch.float32), path)


def _as_written(work: _Work, files: Places, settings: Settings) -> Settings:
    """Return the settings with which the written file opens: a model in memory is its own factory."""
    factory = settings.model if files.like is not None else lambda: copy.deepcopy(work.net)
    return merged(settings, {"per_row": False, "model_pruned": factory})


def _verdict(work: _Work, asked: _Asked) -> Verdict:
    """Return the verdict on the written file, opened as anyone would open it."""
    assert work.rows is not None  # noqa: S101 - the caller asked
    files, settings = asked.files, asked.settings
    how = merged(settings, {"model_pruned": _as_written(work, files, settings).model_pruned})
    models = open_models(asked.dense, opened_as(files.like, files.output), how)
    return decide(count(*models, work.rows, settings=settings), settings)
