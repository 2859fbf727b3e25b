"""From opened models and divided rows to the task that a method is given: what repairing and pruning share.

Knows no method and no file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.config import Settings
from fairguard.errors import ConfigError, DataError, ModelError, did_you_mean
from fairguard.inputs.booleans import as_numbers, taken_as_numbers
from fairguard.inputs.models import RowByRow
from fairguard.inputs.nested import leaves, mapped
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.quantised import quantised_weight
from fairguard.inputs.torch_models import TorchPredictor, device_of
from fairguard.judge.estimands import favourable
from fairguard.names import group_meant
from fairguard.repair.budget import batch_for
from fairguard.repair.constraints import Reference
from fairguard.repair.dividing import Parts
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.nets import is_extra, without_extra_state
from fairguard.repair.places import Places
from fairguard.repair.plans import CommonPlan
from fairguard.repair.rows import Rows
from fairguard.repair.task import EQUAL_AIM, Options, Task, copied, make_task
from fairguard.repair.writing import sha256_of_tensors
from fairguard.report.remedies import GENTLER

TRAINING = 2
"""Raise it with every change of what training gives: an interrupted run is not continued over one."""


def float_copy(model: Predictor, role: str) -> nn.Module:
    """Return a copy of the model's network in float32, all of it trainable, with a state dict of tensors alone.

    Raises:
        ModelError: it is no torch network, or its weights are quantised.
    """
    module = _module_of(model, role)
    _need_plain(module, role)
    with torch.no_grad():  # or TorchScript's copies would be results of a computation, which no optimiser takes
        net = copy.deepcopy(module).float()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    for module in net.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # how its gradient is kept, which AdamW takes as a whole alone
    return without_extra_state(net)


def float_weights(model: Predictor, role: str) -> Weights:
    """Return a float32 copy of the model's state dict, without what is no tensor on purpose (``get_extra_state``).

    Raises:
        ModelError: it is no torch network, or its weights are quantised.
    """
    module = _module_of(model, role)
    state = {name: t for name, t in module.state_dict().items() if not is_extra(name)}
    _need_plain(module, role, (name for name, t in state.items() if not isinstance(t, torch.Tensor)))
    return copied({name: t.float() if t.is_floating_point() else t for name, t in state.items()})


def _need_plain(module: nn.Module, role: str, packed: Iterable[str] = ()) -> None:
    """Raise :class:`ModelError` if weights are quantised; ``packed`` are names of what is no tensor."""
    name = quantised_weight(module) or next(iter(packed), None)
    if name is None:
        return
    told = f"the {role} model's weights are quantised ({name}): nothing can be trained in them."
    if role == "dense":
        raise ModelError(f"{told} Give the model as it was before that, in floating numbers.")
    raise ModelError(
        f"{told} If it was pruned before that, give it as it was then: what comes out can be quantised again. If not, "
        f"quantising alone did the harm: {GENTLER}."
    )


def _module_of(model: Predictor, role: str) -> nn.Module:
    model = model.inner if isinstance(model, RowByRow) else model
    if not isinstance(model, TorchPredictor):
        raise ModelError(
            f"the {role} model is {model.info.kind}: this needs its weights and their gradients. "
            f"Give a torch state dict and the function that builds the network (--model pkg.module:build)."
        )
    return model.module


def options_for(
    settings: Settings, plan: CommonPlan, *, compile: bool = False, reference: Reference = "dense"
) -> Options:
    """Return how to train on the device that the settings name.

    Args:
        settings: the check's; their seed is training's too.
        plan: what was asked for.
        compile: run the network through ``torch.compile``.
        reference: what a group's accuracy is compared with.
    """
    cuda = device_of(settings.device).type == "cuda"
    # Emulated, as on GPUs before Ampere, it is no faster.
    can = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    return Options(
        seed=settings.seed,
        lr=plan.lr,
        amp=plan.amp == "bf16" or (plan.amp == "auto" and can),
        compile=compile,
        checkpoint_seconds=plan.checkpoint_seconds,
        reference=reference,
        aim=EQUAL_AIM if reference == "equal" else Options.aim,
    )


def task_for(
    net: nn.Module,
    pruned: Weights,
    parts: Parts,
    settings: Settings,
    *,
    classes: tuple[str, ...],
    options: Options,
    masks: Masks | None = None,
    only: Sequence[str] = (),
    accuracy_floor: float = 0.005,
) -> Task:
    """Return the task for a method, on the device that the settings name; its budget is still to be set.

    Args:
        net: dense's network with dense's weights.
        pruned: the state dict to start from.
        parts: the rows, divided.
        settings: the check's.
        classes: names of the models' classes.
        options: how to train; the rows decide how many of them a step takes.
        masks: what is masked; read off ``pruned`` where not given.
        only: groups to constrain, such as ``race=Black``; all where empty.
        accuracy_floor: how much tune accuracy may be lost, a fraction; see :func:`fairguard.repair.task.make_task`.

    Raises:
        ConfigError: there is no such group among the training rows.
        DataError: it has too few of them.
        ModelError: the network cannot be trained.
    """
    _need_training_mode(net)
    device = device_of(settings.device)
    good = favourable(classes, settings.policy())
    train, tune = _as_taken(net, parts.train), _as_taken(net, parts.tune)
    task = make_task(
        net.to(device),
        pruned,
        train.to(device),
        tune.to(device),
        columns=parts.columns,
        levels=parts.levels,
        policy=settings.policy(),
        epochs=1.0,
        threshold=settings.threshold,
        output_key=settings.output_key,
        favourable=1 if good is None else good,  # of more classes none is asked about
        masks=masks,
        only=tuple(_group_named(name, parts) for name in only),
        accuracy_floor=accuracy_floor,
        options=replace(options, batch_size=batch_for(len(parts.train))),
    )
    if only and task.cells[0] is None:
        raise DataError(
            f"--for {only[0]!r}: fewer than {settings.min_group} training rows of it (or of all others) are too few to "
            "constrain; add rows, or lower --min-group."
        )
    return task


def _as_taken(net: nn.Module, rows: Rows) -> Rows:
    """Return rows whose booleans are numbers where the net, in eval mode, takes them as nothing else."""
    where = next((t.device for t in net.parameters()), torch.device("cpu"))
    few = mapped(lambda t: t.to(where), rows.take_first(2).x)
    return replace(rows, x=as_numbers(rows.x, taken_as_numbers(net, few, torch.float32), torch.float32))


def _need_training_mode(net: nn.Module) -> None:
    try:
        net.train()
    except NotImplementedError:
        raise ModelError(
            "the dense model is a torch.export program, whose graph is fixed and cannot be trained: give DENSE as a "
            "state dict and the function that builds the network (--model pkg.module:build). PRUNED may stay as it is."
        ) from None
    net.eval()


def _group_named(name: str, parts: Parts) -> str:
    """Return a group as the cells of a constraint are called, its columns in the order of the data.

    Raises:
        ConfigError: there is no such group among the training rows.
    """
    known = [
        f"{column}={level}" for column, levels in zip(parts.columns, parts.levels, strict=True) for level in levels
    ]
    whole = group_meant(name, known)
    asked = [whole] if whole in known else [group_meant(part.strip(), known) for part in name.split("&")]
    for part in asked:
        if part not in known:
            hint = did_you_mean(part, known) or f" Groups: {', '.join(known[:12])}."
            raise ConfigError(f"--for {name!r}: no training row has {part!r}.{hint}")
    return " & ".join(sorted(asked, key=known.index))


def constraint_notes(task: Task, settings: Settings) -> Iterator[str]:
    """Yield what the training leaves out of what was asked for, one sentence each."""
    if task.cells[0] is None:
        yield "no group has the training rows that a constraint needs (--min-group): trained without one"
    if settings.weight is not None:
        yield "row weights count in the verdict, not in training"


def purpose_of(files: Places, task: Task | None, plan: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Return what it takes to do the work again: an interrupted run goes on only if all of it is the same.

    Args:
        files: what was read.
        task: what is trained; ``None`` where nothing is.
        plan: what was asked for, as plain values.
        settings: the check's.
    """
    told = {"format", "output", "flips", "allow_inconclusive", "accept", "seeds"}
    given = {name: getattr(settings, name) for name in sorted(settings.model_fields_set - told)}
    check = {name: value if _is_plain(value) else _name_of(value) for name, value in given.items()}
    made_by = {"torch": torch.__version__, "fairguard": f"training {TRAINING}"}
    found: dict[str, Any] = files.hashes() | {"plan": plan, "check": check} | made_by
    return found if task is None else found | _in_memory(files, task) | {"options": asdict(task.options)}


def _in_memory(files: Places, task: Task) -> dict[str, str]:
    """Return the digests of what is no file: models and rows given in memory, or by code."""
    taught = "train" if files.read["train"] is not None else "data"
    chosen = "tune" if files.read.get("tune") is not None else taught
    weights = {"dense": task.dense, "pruned": task.pruned}
    digests = {role: sha256_of_tensors(found) for role, found in weights.items() if role not in files.inputs}
    for role, source, rows in (("train", taught, task.train), ("tune", chosen, task.tune)):
        if source not in files.inputs:
            digests[role] = sha256_of_tensors(_tensors(rows))
    return digests


def _tensors(rows: Rows) -> Weights:
    named = {f"x{place}": tensor for place, tensor in enumerate(leaves(rows.x))}
    return named | {"y": rows.y, "codes": rows.codes}


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | dict):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str | int | float | None)


def _name_of(value: object) -> str:
    """Return what a file, a callable or an object in memory is called, which is the same in the next process."""
    if isinstance(value, Path):
        return str(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Seed torch and choose repeatable kernels; put everything back afterwards."""
    cudnn = torch.backends.cudnn
    deterministic, benchmark = cudnn.deterministic, cudnn.benchmark
    chance = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    cudnn.deterministic, cudnn.benchmark = True, False
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(chance[0])
        torch.cuda.set_rng_state_all(chance[1])
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark
