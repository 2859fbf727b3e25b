"""From opened models and divided rows to the task that a method is given: what repairing and pruning share.

Knows no method and no file.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fairguard.config import Settings
from fairguard.errors import ModelError
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.torch_models import TorchPredictor, device_of
from fairguard.repair.dividing import Parts
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.task import Options, Task, copied, make_task


def float_copy(model: Predictor, role: str) -> nn.Module:
    """Return a copy of the model's network in float32, all of it trainable.

    Raises:
        ModelError: it is no torch network.
    """
    with torch.no_grad():  # or TorchScript's copies would be results of a computation, which no optimiser takes
        net = copy.deepcopy(_module_of(model, role)).float()
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return net


def float_weights(model: Predictor, role: str) -> Weights:
    """Return a float32 copy of the model's state dict.

    Raises:
        ModelError: it is no torch network.
    """
    state = _module_of(model, role).state_dict()
    return copied({name: t.float() if t.is_floating_point() else t for name, t in state.items()})


def _module_of(model: Predictor, role: str) -> nn.Module:
    if not isinstance(model, TorchPredictor):
        raise ModelError(
            f"the {role} model is {model.info.kind}: this needs its weights and their gradients. "
            f"Give a torch state dict and the function that builds the network (--model pkg.module:build)."
        )
    return model.module


def options_for(settings: Settings, *, lr: float, amp: str, compile: bool, checkpoint_seconds: float) -> Options:
    """Return how to train on the device that the settings name.

    Args:
        settings: the check's; their seed is training's too.
        lr: highest learning rate.
        amp: ``auto`` (bfloat16 on a GPU that has it), ``bf16`` or ``off``.
        compile: run the network through ``torch.compile``.
        checkpoint_seconds: at most so much work is lost to a kill.
    """
    cuda = device_of(settings.device).type == "cuda"
    half = amp == "bf16" or (amp == "auto" and cuda and torch.cuda.is_bf16_supported())
    return Options(seed=settings.seed, lr=lr, amp=half, compile=compile, checkpoint_seconds=checkpoint_seconds)


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
    **how: Any,
) -> Task:
    """Return the task for a method, on the device that the settings name; its budget is still to be set.

    Args:
        net: dense's network with dense's weights.
        pruned: the state dict to start from.
        parts: the rows, divided.
        settings: the check's.
        classes: names of the models' classes.
        options: how to train.
        masks: what is masked; read off ``pruned`` where not given.
        only: groups to constrain; all where empty.
        **how: further options of :func:`fairguard.repair.task.make_task`.
    """
    device = device_of(settings.device)
    favourable = classes.index(settings.favourable) if settings.favourable in classes else min(1, len(classes) - 1)
    return make_task(
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
        masks=masks,
        only=only,
        options=options,
        **how,
    )


def described(settings: Settings) -> dict[str, Any]:
    """Return the options that were given as plain values, so that a resumed run can be held against its first life."""
    told = {"format", "output", "flips", "allow_inconclusive", "accept", "seeds"}
    given = {name: getattr(settings, name) for name in sorted(settings.model_fields_set - told)}
    return {
        name: value
        if isinstance(value, str | int | float | tuple | dict)
        else getattr(value, "__qualname__", "in memory")
        for name, value in given.items()
        if value is not None
    }


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
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
