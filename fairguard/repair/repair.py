"""The use case: check, split, select, retrain, verify, write. Read :func:`repair` top to bottom.

A method sees train and tune rows only. The verdict is reached once, on rows that nothing saw, from the written file.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from fairguard.check import count, decide, open_models, open_source
from fairguard.config import Settings, merged
from fairguard.files import replacing, write_text
from fairguard.inputs.predictor import Predictor
from fairguard.repair.budget import epochs_of
from fairguard.repair.dividing import Parts, divided
from fairguard.repair.frontier import best_of_frontier
from fairguard.repair.journal import Journal
from fairguard.repair.masks import resized
from fairguard.repair.methods import method_named
from fairguard.repair.places import Places
from fairguard.repair.preparing import float_copy, float_weights, options_for, repeatable, task_for
from fairguard.repair.proof import Proof, prove
from fairguard.repair.report import RepairReport, Result
from fairguard.repair.task import Candidate, Options, Status, Task
from fairguard.repair.writing import export_onnx
from fairguard.verdict import Outcome, Verdict


@dataclass(frozen=True)
class Plan:
    """How to repair.

    Attributes:
        method: how to select and train; see :data:`fairguard.repair.methods.METHODS`.
        budget: ``1.5x`` of a plain retraining, ``20epochs`` or ``10min``.
        sparsity: another sparsity than PRUNED's, a fraction of the masked tensors.
        keep_mask: retrain under PRUNED's own mask.
        frontier: try several trade-offs and report them all.
        only: groups to constrain, such as ``race=Black``; all where empty.
        accuracy_floor: overall accuracy that may be lost against PRUNED, a fraction.
        amp: ``auto`` (bfloat16 on a GPU that has it), ``bf16`` or ``off``.
        compile: run the network through ``torch.compile``.
        lr: highest learning rate (AdamW).
        resume: continue a repair that was killed.
        keep_best: write the best candidate even if it is not repaired.
        export: ``onnx`` to write that beside it.
        checkpoint_seconds: at most so much work is lost to a kill.
    """

    method: str = "ballot"
    budget: str = "1.5x"
    sparsity: float | None = None
    keep_mask: bool = False
    frontier: bool = False
    only: tuple[str, ...] = ()
    accuracy_floor: float = 0.005
    amp: str = "auto"
    compile: bool = False
    lr: float = Options.lr
    resume: bool = False
    keep_best: bool = False
    export: str | None = None
    checkpoint_seconds: float = 20.0

    @property
    def work(self) -> str:
        """Return the name of the method that runs."""
        return "keep-mask" if self.keep_mask else self.method


def repair(
    dense: Any,
    pruned: Any,
    output: str | Path | None = None,
    *,
    train: Any = None,
    data: Any = None,
    verify: Any = None,
    settings: Settings | None = None,
    tell: Callable[[Status], None] | None = None,
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
        settings: the check's options, as a configuration file gives them.
        tell: called after every epoch.
        **options: options of :class:`Plan` (``method``, ``budget``, ...) and of the check (``label``, ``groups``, ...).

    Raises:
        FairguardError: nothing could be repaired; its one line says why and what would make it possible.
    """
    started = time.monotonic()
    planned = {name: options.pop(name) for name in [f.name for f in fields(Plan)] if name in options}
    plan = Plan(**planned)
    settings = merged(settings or Settings(), options | ({} if data is None else {"data": data}))
    rows = {"train": train, "data": settings.data, "verify": verify}
    files = Places.of(output, like="pruned", work="repair", added="fair", dense=dense, pruned=pruned, **rows)
    method = method_named(plan.work)

    models = open_models(dense, pruned, settings)
    source = open_source(settings.data, settings)
    check = decide(count(*models, source, settings=settings), settings)
    if check.outcome is Outcome.PRESERVED:
        return RepairReport(Result.NOTHING_TO_DO, check)

    parts = divided(source, settings, train=train, verify=verify, classes=check.classes, seed=settings.seed)
    with repeatable(settings.seed):
        task = _task(models, parts, settings, plan, classes=check.classes)
        purpose = files.hashes() | {"plan": asdict(replace(plan, resume=False)), "options": asdict(task.options)}
        task = replace(
            task, journal=Journal(files.journal, purpose=purpose, resume=plan.resume), tell=tell or task.tell
        )
        task = replace(task, epochs=epochs_of(plan.budget, task))
        candidate = best_of_frontier(task, method) if plan.frontier else method(task)

    candidate_file = files.journal / f"candidate{files.output.suffix}"
    how: dict[str, Any] = {"like": files.like, "models": models, "rows": parts.verify, "settings": settings}
    proof = prove(candidate_file, task, candidate, floor=plan.accuracy_floor, **how)
    if written := proof.result is not Result.NOT_REPAIRED or plan.keep_best:
        _publish(candidate_file, files.output, task, candidate, plan.export)
    report = replace(
        _report(check, plan, parts, task, candidate, proof),
        output=str(files.output) if written else None,
        seconds=time.monotonic() - started,
        settings=purpose | {"device": str(task.device)},
    )
    write_text(f"{files.output}.report.json", report.to_json())
    task.journal.close()
    return report


def _report(check: Verdict, plan: Plan, parts: Parts, task: Task, candidate: Candidate, proof: Proof) -> RepairReport:
    return RepairReport(
        result=proof.result,
        check=check,
        before=proof.before,
        after=proof.after,
        broken=proof.broken,
        method=plan.work,
        splits=parts.how,
        sparsity=(task.masks.sparsity, proof.sparsity),
        moved=1.0 - candidate.masks.overlap(task.masks),
        epochs=candidate.epochs,
        trials=candidate.trials,
    )


def _task(
    models: tuple[Predictor, Predictor], parts: Parts, settings: Settings, plan: Plan, *, classes: tuple[str, ...]
) -> Task:
    """Return the task for a method, at the sparsity that the plan names."""
    net, pruned = float_copy(models[0], "dense"), float_weights(models[1], "pruned")
    options = options_for(
        settings, lr=plan.lr, amp=plan.amp, compile=plan.compile, checkpoint_seconds=plan.checkpoint_seconds
    )
    how: dict[str, Any] = {"only": plan.only, "accuracy_floor": plan.accuracy_floor, "options": options}
    task = task_for(net, pruned, parts, settings, classes=classes, **how)
    return task if plan.sparsity is None else replace(task, masks=resized(task.masks, task.dense, plan.sparsity))


def _publish(file: Path, output: Path, task: Task, candidate: Candidate, export: str | None) -> None:
    with replacing(output) as temporary:
        shutil.copyfile(file, temporary)
    if export == "onnx":
        net = copy.deepcopy(task.net).cpu().eval()
        net.load_state_dict({name: tensor.cpu() for name, tensor in candidate.weights.items()})
        with replacing(output.with_suffix(".onnx")) as temporary:
            export_onnx(net, task.train.take_first(2).x, temporary)
