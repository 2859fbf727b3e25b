"""The use case: check, split, select, retrain, verify, write. Read :func:`repair` top to bottom.

A method sees train and tune rows only. The verdict is reached once, on rows that nothing saw, from the written file.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.check import count, decide, open_models, open_source
from fairguard.config import Settings, merged
from fairguard.errors import ConfigError, ModelError, OutputError
from fairguard.files import replacing, sha256_of, write_text
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.torch_models import TorchPredictor, device_of
from fairguard.repair.budget import epochs_of
from fairguard.repair.dividing import Parts, divided
from fairguard.repair.frontier import best_of_frontier
from fairguard.repair.journal import Journal
from fairguard.repair.masks import Weights, resized
from fairguard.repair.methods import method_named
from fairguard.repair.proof import Proof, prove
from fairguard.repair.report import RepairReport, Result
from fairguard.repair.task import Candidate, Options, Status, Task, copied, make_task
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
    files = _Files.of(dense, pruned, output, train=train, data=settings.data, verify=verify)
    method = method_named(plan.work)

    models = open_models(dense, pruned, settings)
    source = open_source(settings.data, settings)
    check = decide(count(*models, source, settings=settings), settings)
    if check.outcome is Outcome.PRESERVED:
        return RepairReport(Result.NOTHING_TO_DO, check)

    parts = divided(source, settings, train=train, verify=verify, classes=check.classes, seed=settings.seed)
    with _repeatable(settings.seed):
        task = _task(models, parts, settings, plan, classes=check.classes)
        purpose = files.hashes() | {"plan": asdict(replace(plan, resume=False)), "options": asdict(task.options)}
        task = replace(
            task, journal=Journal(files.journal, purpose=purpose, resume=plan.resume), tell=tell or task.tell
        )
        task = replace(task, epochs=epochs_of(plan.budget, task))
        candidate = best_of_frontier(task, method) if plan.frontier else method(task)

    candidate_file = files.journal / f"candidate{files.output.suffix}"
    how: dict[str, Any] = {"like": files.pruned, "models": models, "rows": parts.verify, "settings": settings}
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


@dataclass(frozen=True)
class _Files:
    """The files that the user named.

    Attributes:
        inputs: those that exist, by role.
        pruned: PRUNED's, where it is a file.
        output: where the repaired model goes.
    """

    inputs: dict[str, Path]
    pruned: Path | None
    output: Path

    @classmethod
    def of(cls, dense: Any, pruned: Any, output: str | Path | None, **rows: Any) -> _Files:
        """Return the files among what was given, with the output found to be none of them."""
        named = {"dense": dense, "pruned": pruned, **rows}
        inputs = {k: Path(v) for k, v in named.items() if isinstance(v, str | Path) and Path(v).exists()}
        path = _destination(pruned, output)
        for role, file in inputs.items():
            if file.resolve() == path.resolve():
                raise OutputError(f"{path} is the {role} input; name another file with -o.")
        if not path.absolute().parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}. Name another file with -o.")
        return cls(inputs, inputs.get("pruned"), path)

    @property
    def journal(self) -> Path:
        """Return the folder of what survives a kill."""
        return self.output.with_name(f".{self.output.name}.repair")

    def hashes(self) -> dict[str, str]:
        """Return the digest of every input file."""
        return {role: sha256_of(file) for role, file in self.inputs.items()}


def _destination(pruned: Any, output: str | Path | None) -> Path:
    if output is not None:
        return Path(output)
    if isinstance(pruned, str | Path):
        return Path(pruned).with_suffix(f".fair{Path(pruned).suffix}")
    raise ConfigError("repair needs a file to write the repaired model to: pass output.")


def _task(
    models: tuple[Predictor, Predictor], parts: Parts, settings: Settings, plan: Plan, *, classes: tuple[str, ...]
) -> Task:
    """Return the task for a method, on the device that the settings name."""
    device = device_of(settings.device)
    half = plan.amp == "bf16" or (plan.amp == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported())
    net, pruned = _trainable(models)
    favourable = classes.index(settings.favourable) if settings.favourable in classes else min(1, len(classes) - 1)
    task = make_task(
        net.to(device),
        pruned,
        parts.train.to(device),
        parts.tune.to(device),
        columns=parts.columns,
        levels=parts.levels,
        policy=settings.policy(),
        epochs=1.0,
        threshold=settings.threshold,
        output_key=None if settings.output_key is None else str(settings.output_key),
        favourable=favourable,
        only=plan.only,
        accuracy_floor=plan.accuracy_floor,
        options=Options(
            seed=settings.seed,
            lr=plan.lr,
            amp=half,
            compile=plan.compile,
            checkpoint_seconds=plan.checkpoint_seconds,
        ),
    )
    return task if plan.sparsity is None else replace(task, masks=resized(task.masks, task.dense, plan.sparsity))


def _trainable(models: tuple[Predictor, Predictor]) -> tuple[nn.Module, Weights]:
    """Return a float copy of dense's network, and PRUNED's weights.

    Raises:
        ModelError: one of them has no weights, or none with gradients.
    """
    modules = []
    for role, model in zip(("dense", "pruned"), models, strict=True):
        if not isinstance(model, TorchPredictor):
            raise ModelError(
                f"the {role} model is {model.info.kind}: repair needs its weights and their gradients. "
                f"Give a torch state dict and the function that builds the network (--model pkg.module:build)."
            )
        modules.append(model.module)
    net = copy.deepcopy(modules[0]).float().requires_grad_(True)
    pruned = {name: t.float() if t.is_floating_point() else t for name, t in modules[1].state_dict().items()}
    return net, copied(pruned)


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Seed torch and choose repeatable kernels; put everything back afterwards."""
    cudnn = torch.backends.cudnn
    chance, deterministic, benchmark = torch.get_rng_state(), cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(chance)
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


def _publish(file: Path, output: Path, task: Task, candidate: Candidate, export: str | None) -> None:
    with replacing(output) as temporary:
        shutil.copyfile(file, temporary)
    if export == "onnx":
        net = copy.deepcopy(task.net).cpu().eval()
        net.load_state_dict({name: tensor.cpu() for name, tensor in candidate.weights.items()})
        with replacing(output.with_suffix(".onnx")) as temporary:
            export_onnx(net, task.train.take_first(2).x, temporary)
