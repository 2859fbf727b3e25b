"""Weights seen through learned gates: the parametrisation that methods with a learned mask share. No method itself.

Two kinds: :class:`Gate` looks for the highest scores in every forward pass; :class:`HeldGate` looks up a threshold
now and then, and may grow tighter, which is cheaper and what ``ballot`` learns its mask with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fairguard.errors import ModelError
from fairguard.repair.masks import Masks
from fairguard.repair.task import Task
from fairguard.repair.training import BeforeEpoch

SCORE_RATE = 10.0
"""Learning rate of scores, which begin as ranks between 0 and 1, relative to the weights'."""
EVERY = 8
"""Steps after which the threshold of a held gate is looked up anew."""


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
    if odd := [name for name, pattern in masks.patterns.items() if pattern.kind != "unstructured"]:
        raise ModelError(
            f"this method chooses weights one by one, and {odd[0]} is pruned {masks.patterns[odd[0]]}: use --method "
            "ballot, magnitude or ceag, which keep that pattern."
        )
    gates: dict[str, Gate] = {}
    homes: list[tuple[nn.Module, str, list[str]]] = []
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
            homes.append((home, attribute, list(home._parameters)))
            parametrize.register_parametrization(home, attribute, gates[name], unsafe=True)
        yield gates
    finally:
        for place in reversed(homes):
            _leave(*place)


def ranks(size: Tensor) -> Tensor:
    """Return each entry's rank within its tensor, in [0, 1]."""
    order = size.flatten().argsort(stable=True).argsort().float()
    return (order / max(len(order) - 1, 1)).view(size.shape)


class _Held(torch.autograd.Function):
    """A weight under a mask, whose gradient reaches living weights, and the scores of all as if each lived."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(weight, mask)
        return torch.where(mask, weight, 0.0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, mask = ctx.saved_tensors
        return torch.where(mask, gradients[0], 0.0), gradients[0] * weight, None


class HeldGate(nn.Module):
    """``weight * mask``: the mask of the ``count`` highest scores, exact whenever the net changes to evaluation.

    While it trains, the mask is what lies above a threshold that is looked up now and then: sorting after every step
    would cost a small net as much as its training.

    Args:
        weight: what is gated; scores begin as the ranks of its sizes, and everything lives.
    """

    mask: Tensor
    threshold: Tensor
    count: Tensor
    age: Tensor

    def __init__(self, weight: Tensor) -> None:
        """Keep scores and mask in the weight's own order of memory."""
        super().__init__()
        self.scores = nn.Parameter(torch.empty_like(weight).copy_(ranks(weight.abs())))
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.register_buffer("threshold", torch.zeros((), device=weight.device))
        # On the host, so that nothing waits for them.
        self.register_buffer("count", torch.tensor(weight.numel()))
        self.register_buffer("age", torch.zeros((), dtype=torch.long))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the gated weight."""
        held: Tensor = _Held.apply(weight, self.scores, self.mask)  # type: ignore[no-untyped-call]
        return held

    def train(self, mode: bool = True) -> HeldGate:
        """Change between training and evaluation, with exactly ``count`` living weights."""
        if mode != self.training:  # else a resumed training would choose where the uninterrupted one does not
            self.choose()
        return super().train(mode)

    @torch.no_grad()
    def choose(self) -> None:
        """Let the ``count`` highest scores live."""
        best = self.scores.flatten().topk(int(self.count), sorted=False)
        self.threshold.copy_(best.values.min())
        chosen = torch.zeros_like(self.mask).flatten().index_fill_(0, best.indices, value=True)
        self.mask.copy_(chosen.view(self.mask.shape))

    @torch.no_grad()
    def follow(self) -> None:
        """Let the mask follow the scores after a step."""
        self.age += 1
        if int(self.age) % EVERY == 0:
            self.choose()
        else:
            torch.ge(self.scores, self.threshold, out=self.mask)


@dataclass(frozen=True)
class HeldGates:
    """The gates of a net, by the masked parameter's name, with the parameters behind them."""

    gates: dict[str, HeldGate]
    hidden: dict[str, nn.Parameter]

    def groups(self, task: Task) -> Callable[[nn.Module], list[dict[str, Any]]]:
        """Return what splits the parameters for the optimiser: scores learn faster and do not decay."""
        scores = [gate.scores for gate in self.gates.values()]
        chosen = {id(p) for p in scores}

        def apart(net: nn.Module) -> list[dict[str, Any]]:
            others = [p for p in net.parameters() if p.requires_grad and id(p) not in chosen]
            return [
                {"params": others},
                {"params": scores, "lr": SCORE_RATE * task.options.lr, "weight_decay": 0.0},
            ]

        return apart

    def tightened(self, masks: Masks, ramp: int) -> BeforeEpoch:
        """Return what lets fewer live before each epoch up to ``ramp``; sizes of weights say how layers share them."""

        def fewer(epoch: int, _: nn.Module) -> None:
            if epoch <= ramp:
                sizes = {name: p.detach().abs() for name, p in self.hidden.items()}
                keep = masks.select(sizes, loosen=(1 - epoch / max(ramp, 1)) ** 3).keep
                for name, gate in self.gates.items():
                    gate.count.fill_(int(keep[name].sum()))
            for gate in self.gates.values():
                gate.choose()  # also after the ramp: the look at the tune rows left the masks of the mean weights

        return fewer

    def follow(self, _: nn.Module) -> None:
        """Let masks follow their scores; called after every backward pass."""
        for gate in self.gates.values():
            gate.follow()


@contextmanager
def held(net: nn.Module, masks: Masks) -> Iterator[HeldGates]:
    """Put a held gate before every masked parameter of ``net`` and yield them; leave the gated weights behind."""
    found = HeldGates({}, {})
    homes: list[tuple[nn.Module, str, list[str]]] = []
    try:
        for name in masks.keep:
            path, _, attribute = name.rpartition(".")
            home = net.get_submodule(path)
            found.hidden[name] = getattr(home, attribute)
            found.gates[name] = HeldGate(found.hidden[name].detach())
            homes.append((home, attribute, list(home._parameters)))
            parametrize.register_parametrization(home, attribute, found.gates[name], unsafe=True)
        net.train()  # before a resumed training takes up its masks, which the change of mode would choose anew
        yield found
    finally:
        for place in reversed(homes):
            _leave(*place)


def _leave(home: nn.Module, attribute: str, order: list[str]) -> None:
    """Leave the gated weight behind, its parameters in the order that they had: an optimiser's state goes by it."""
    if parametrize.is_parametrized(home, attribute):
        parametrize.remove_parametrizations(home, attribute, leave_parametrized=True)
        for name in order:
            home._parameters[name] = home._parameters.pop(name)


def takes_gates(net: nn.Module, masks: Masks) -> bool:
    """Return whether held gates can stand before every masked parameter and keep the pattern of zeros.

    Not where zeros have a pattern, where a parameter has two names (the other would lead around the gate), is
    parametrised already, or belongs to a TorchScript or exported program.
    """
    if any(pattern.kind != "unstructured" for pattern in masks.patterns.values()):
        return False
    names: dict[int, int] = {}
    for _, parameter in net.named_parameters(remove_duplicate=False):
        names[id(parameter)] = names.get(id(parameter), 0) + 1
    program = torch.jit.ScriptModule | torch.fx.GraphModule
    if isinstance(net, program) or any(isinstance(module, program) for module in net.modules()):
        return False
    parameters = dict(net.named_parameters())
    return all(names[id(parameters[name])] == 1 and "parametrizations" not in name for name in masks.keep)
