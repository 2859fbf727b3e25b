"""Weights seen through learned gates: the parametrisation that methods with a learned mask share. No method itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fairguard.errors import ModelError
from fairguard.repair.masks import Masks


class _TopK(torch.autograd.Function):
    """A mask of the ``count`` highest scores; gradients pass straight through to the scores (edge-popup)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, count: int) -> Tensor:
        best = scores.flatten().topk(count).indices
        return torch.zeros_like(scores).flatten().index_fill_(0, best, 1.0).view_as(scores)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class Gate(nn.Module):
    """``weight * gate(scores)``: the gate is a mask of the ``count`` highest scores, or the scores themselves.

    Args:
        scores: starting scores, of the weight's shape.
        count: how many weights live.
        hard: whether to mask; soft gates are for looking at gradients.
        absolute: whether the size of a score counts and not its sign.
    """

    def __init__(self, scores: Tensor, count: int, *, hard: bool = True, absolute: bool = False) -> None:
        """Keep the scores as a parameter."""
        super().__init__()
        self.scores = nn.Parameter(scores)
        self.count, self.hard, self.absolute = count, hard, absolute

    def forward(self, weight: Tensor) -> Tensor:
        """Return the gated weight."""
        scores = self.scores.abs() if self.absolute else self.scores
        gate: Tensor = _TopK.apply(scores, self.count) if self.hard else scores  # type: ignore[no-untyped-call]
        return weight * gate


@contextmanager
def gated(
    net: nn.Module, masks: Masks, scores: dict[str, Tensor], *, absolute: bool = False
) -> Iterator[dict[str, Gate]]:
    """Put a gate before every masked parameter of ``net`` and yield the gates; leave the gated weights behind."""
    gates, homes = {}, []
    try:
        for name, keep in masks.keep.items():
            path, _, attribute = name.rpartition(".")
            try:
                home = net.get_submodule(path)
            except (AttributeError, RuntimeError):
                raise ModelError(
                    "this method puts learned gates into the network, which TorchScript and exported programs do not "
                    "take: give the state dict and the function that builds the network (--model), or --method ballot."
                ) from None
            gates[name] = Gate(scores[name], int(keep.sum()), absolute=absolute)
            parametrize.register_parametrization(home, attribute, gates[name], unsafe=True)
            homes.append((home, attribute))
        yield gates
    finally:
        for home, attribute in homes:
            parametrize.remove_parametrizations(home, attribute, leave_parametrized=True)
