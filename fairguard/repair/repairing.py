"""The use case: check, split, select, retrain, verify, write. Read :func:`repair` top to bottom.

A method sees train and tune rows only. The verdict is reached once, on rows that nothing saw, from the written file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fairguard.checking import count, decide
from fairguard.config import Settings, merged
from fairguard.errors import ConfigError, DataError, ModelError, OutputError
from fairguard.files import write_text
from fairguard.inputs.predictor import Predictor
from fairguard.judge.everybody import besides_the_fall
from fairguard.opening import modes_kept, open_models, open_source
from fairguard.repair.dividing import Parts, divided, need_groups
from fairguard.repair.frontier import Frontier, found_by
from fairguard.repair.journal import Journal
from fairguard.repair.label_weights import label_notes
from fairguard.repair.listening import Listener
from fairguard.repair.masks import Masks
from fairguard.repair.methods import METHODS
from fairguard.repair.patterns import UNITS
from fairguard.repair.places import Places
from fairguard.repair.plans import WRITES, RepairPlan
from fairguard.repair.preparing import (
    constraint_notes,
    float_copy,
    float_weights,
    options_for,
    purpose_of,
    repeatable,
    task_for,
)
from fairguard.repair.proof import (
    Proof,
    bought_notes,
    by_heart_notes,
    outdone_notes,
    overlearned_notes,
    prove,
    strange_notes,
)
from fairguard.repair.publishing import (
    check_outputs,
    differing,
    publish,
    publish_onnx,
    publish_points,
    rehearse,
    report_of,
    resume_notes,
)
from fairguard.repair.starting import need_weights, resized
from fairguard.repair.task import Candidate, Status, Task
from fairguard.repair.telling.record import Files, Result
from fairguard.repair.telling.report import RepairReport
from fairguard.repair.writing import count_zeros, left_out_notes
from fairguard.report.wording import percent
from fairguard.verdict import Outcome, Verdict

REPORTS = ("json", "html")
"""What is written beside FAIR."""
SAME = "PRUNED is DENSE, weight for weight: there was nothing to judge and nothing to repair"
"""The note on one model given twice."""


def repair(
    dense: Any,
    pruned: Any,
    output: str | Path | None = None,
    *,
    train: Any = None,
    data: Any = None,
    verify: Any = None,
    tune: Any = None,
    settings: Settings | None = None,
    tell: Callable[[Status], None] | None = None,
    typed: str = "",
    again: str | None = None,
    **options: Any,
) -> RepairReport:
    """Return what a repair of ``pruned`` did and proved; the repaired model is written to ``output``.

    Args:
        dense: the model before pruning, with its weights (a state dict and ``model``, a module, ...).
        pruned: the model after pruning; its zeros say which tensors are masked and in which pattern.
        output: file to write, of PRUNED's kind; default PRUNED's name with ``.fair`` in it.
        train: rows to train and tune on; ``data`` is then for the verdict alone.
        data: labelled rows; divided in three where nothing else is given.
        verify: rows for the verdict; ``data`` is then divided in two.
        tune: rows to choose by, best some that dense never saw; default a part of the rows to train on.
        settings: the check's options, as a configuration file gives them.
        tell: called after every epoch.
        typed: options typed to a command that a check takes as well, for the next step in the reports.
        again: the command that was typed, where one was, for the next step too.
        **options: options of :class:`RepairPlan` (``method``, ``budget``, ...) and of the check (``label``, ...).

    Raises:
        FairguardError: nothing could be repaired; its one line says why and what would make it possible.
    """
    started = time.monotonic()
    plan = RepairPlan.taken_from(options)
    settings = merged(settings or Settings(), options | ({} if data is None else {"data": data}))
    if tune is not None and train is None and verify is None:
        raise ConfigError("--tune names the rows to choose by: name those to train on (--train) or verify on too.")
    given = {"dense": dense, "pruned": pruned, "data": settings.data, "train": train, "verify": verify, "tune": tune}
    files = Places.of(output, given, like="pruned", work="repair", added="fair", read=settings.inputs)
    check_outputs(files, reports=REPORTS, export=plan.export, frontier=plan.frontier)
    named = Files(*(str(m) if isinstance(m, str | Path) else r for m, r in ((dense, "DENSE"), (pruned, "PRUNED"))))

    with modes_kept(dense, pruned):
        models = open_models(dense, pruned, settings)
        source = open_source(settings.data, settings, models=models, needs_features=True)
        check = decide(count(*models, source, settings=settings), settings)
        if check.outcome is Outcome.PRESERVED:
            return _nothing_to_do(models, check, named)
        if not check.family:
            raise DataError(f"{check.headline}: these rows could prove no repair. Give more of them (--data).")

        parts = divided(source, settings, train=train, verify=verify, tune=tune, classes=check.classes)
        need_groups(plan.only, parts)
        work = _Work(models, parts, files, plan, settings, check, Listener(tell), again)
        with repeatable(settings.seed):
            return _repaired(work, RepairReport(Result.NOT_REPAIRED, check, files=named, options=typed), started)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is to be repaired, and on what.

    Attributes:
        models: dense and PRUNED, opened.
        parts: rows to train, tune and verify on.
        files: what is read and written.
        plan: how to repair.
        settings: the check's.
        check: the verdict on PRUNED that asks for a repair.
        listener: hears of every epoch.
        again: the command that was typed; ``None`` from Python.
    """

    models: tuple[Predictor, Predictor]
    parts: Parts
    files: Places
    plan: RepairPlan
    settings: Settings
    check: Verdict
    listener: Listener
    again: str | None


def _repaired(work: _Work, report: RepairReport, started: float) -> RepairReport:
    """Return the report completed: by the method's best candidate, written, proven and told of on disk."""
    files, plan = work.files, work.plan
    task = replace(_task(work), tell=work.listener)
    asked = asdict(replace(plan, resume=False))
    purpose = purpose_of(files, task, asked, work.settings)
    trains = purpose | {"plan": {name: value for name, value in asked.items() if name not in WRITES}}
    idle = resume_notes(files, resume=plan.resume)
    with Journal(files.journal, purpose=trains, resume=plan.resume) as journal:
        task = replace(task, journal=journal)
        rehearse(files, task, export=plan.export)
        found = found_by(task, plan, work.listener.note, several=plan.frontier)
        report = _proven(found, task, work, report)
        kept = report.output is None and journal.resumable
        report = replace(
            report,
            again=_again(report, work.again, kept=kept),
            resumable=kept,
            files=replace(report.files, output=str(files.output)),
            notes=tuple(dict.fromkeys((*idle, *_notes(task, work), *work.listener.notes, *report.notes))),
            settings=purpose | {"options": purpose["options"] | found.change, "device": str(task.device)},
            seconds=time.monotonic() - started,
        )
        _tell_on_disk(report, files)
        journal.close(keep=kept)
    return report


def _again(report: RepairReport, command: str | None, *, kept: bool) -> str:
    """Return how to have the best candidate written; empty where it was. Nothing is trained anew if that is kept."""
    if report.output is not None:
        return ""
    added = ["--keep-best", *(["--resume"] if kept else [])]
    if command is not None:
        return f"{command} {' '.join(added)}"
    return ", ".join(f"{option[2:].replace('-', '_')}=True" for option in added)


def _nothing_to_do(models: tuple[Predictor, Predictor], check: Verdict, named: Files) -> RepairReport:
    """Return the report on a PRUNED that is preserved already."""
    same = _same(*models)
    return RepairReport(Result.NOTHING_TO_DO, check, files=named, identical=same, notes=(SAME,) if same else ())


def _same(dense: Predictor, pruned: Predictor) -> bool:
    """Return whether both models have the same weights; what has none that can be read counts as another."""
    try:
        one, other = float_weights(dense, "dense"), float_weights(pruned, "pruned")
    except ModelError:
        return dense.info.sha256 is not None and dense.info.sha256 == pruned.info.sha256
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _tell_on_disk(report: RepairReport, files: Places) -> None:
    """Write the reports beside FAIR."""
    try:
        for kind, text in zip(REPORTS, (report.to_json(), report.to_html()), strict=True):
            write_text(report_of(files.output, kind), text)
    except OutputError as error:
        reason = str(error).removesuffix(" Name another file.")
        done = f"The repair itself is done ({report.result}): the same command with --resume writes its reports."
        raise OutputError(f"{reason} {done}") from None


def _task(work: _Work) -> Task:
    """Return the task for a method, at the sparsity that the plan names."""
    plan, settings = work.plan, work.settings
    net, pruned = float_copy(work.models[0], "dense"), float_weights(work.models[1], "pruned")
    options = options_for(settings, plan, compile=plan.compile)
    task = task_for(
        net,
        pruned,
        work.parts,
        settings,
        classes=work.check.classes,
        options=options,
        only=plan.only,
        accuracy_floor=plan.accuracy_floor,
    )
    if plan.sparsity is None:
        need_weights(task.masks, task.net, task.pruned)
        return task
    return replace(task, masks=resized(task.masks, task.dense, plan.sparsity))


def _notes(task: Task, work: _Work) -> tuple[str, ...]:
    """Return what the user should know of the models, the task and its rows, one sentence each."""
    plan, check = work.plan, work.check
    warnings = besides_the_fall(check)  # which repair is for, and its table shows
    notes = [*warnings, *task.journal.notes, *work.parts.notes, *label_notes(task.label_weights, check.classes)]
    if any(pattern.kind == UNITS for pattern in task.masks.patterns.values()):
        notes.append("pruned lost whole units, rows and columns: which ones is kept, so that fair can be cut as small")
    notes += constraint_notes(task, work.settings)
    if plan.sparsity is not None:
        notes.append(f"--sparsity asked for {percent(task.masks.sparsity)} instead of PRUNED's own")
    return tuple(notes)


def _dense_notes(proof: Proof, task: Task, work: _Work) -> list[str]:
    """Return what dense's own answers to the rows to learn from and to prove on tell, a sentence each."""
    notes, plan, settings = [], work.plan, work.settings
    near = METHODS[plan.work].trades and not plan.frontier
    if near and settings.weight is None and settings.cluster is None:  # rows that count alike, each for itself
        notes += outdone_notes(proof) or overlearned_notes(proof, task)
    if settings.weight is None:  # or the shares would not be of the same thing
        notes += strange_notes(task, (proof.before.overall.accuracy.dense, proof.before.overall.n))
    return [*notes, *bought_notes(proof)]


def _proven(found: Frontier, task: Task, work: _Work, report: RepairReport) -> RepairReport:
    """Return what the verify rows say of the best candidate, the model written to its place if it is worth it."""
    candidate, files, plan = found.best, work.files, work.plan
    proof = prove(candidate, task, files, work.models, work.parts.verify, work.settings, floor=plan.accuracy_floor)
    by_heart = by_heart_notes(proof, task) if work.settings.weight is None else []
    notes = [*by_heart, *_dense_notes(proof, task, work)]
    written = proof.result is not Result.NOT_REPAIRED or plan.keep_best
    notes += left_out_notes(files.like) if written or plan.frontier else []
    exported, unlike = _published(proof, task, candidate, work) if written else (None, [])
    notes += unlike
    earlier = not written and files.output.exists()
    notes += [f"{files.output} was there before and is not of this repair"] if earlier else []
    points = publish_points(found.candidates, files)
    zeros, total = count_zeros(task.pruned, task.masks)
    own = Masks({name: task.pruned[name] != 0 for name in task.masks.keep}, {})
    return replace(
        report,
        result=proof.result,
        before=proof.before,
        after=proof.after,
        broken=proof.broken,
        worse=proof.worse,
        memorised=bool(by_heart),
        earlier=earlier,
        output=str(files.output) if written else None,
        exported=exported,
        method=plan.work,
        splits=work.parts.how,
        sparsity=(zeros / total, proof.sparsity),
        moved=1.0 - candidate.masks.overlap(own),
        fixed=task.masks.fixed is not None,
        unusual=plan.unusual(zeros / total),
        heeds=METHODS[plan.work].heeds,
        epochs=candidate.epochs,
        trials=tuple(t | {"file": points[t["letter"]]} if "letter" in t else t for t in candidate.trials),
        notes=tuple(notes),
    )


def _published(proof: Proof, task: Task, candidate: Candidate, work: _Work) -> tuple[str | None, list[str]]:
    """Put the proven file in its place; return the ONNX file beside it, and a word if it answers otherwise."""
    output = work.files.output
    publish(work.files.candidate, output)
    if work.plan.export is None:
        return None, []
    exported = publish_onnx(output, task, candidate)
    differ = differing(proof.opened, exported, work.parts.verify, work.settings)
    unlike = f"{exported} answers {differ:,} of the verify rows otherwise than {output}"
    return str(exported), [unlike] if differ else []
