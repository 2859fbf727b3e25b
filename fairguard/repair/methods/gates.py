"""Weights seen through learned gates: the parametrisation that methods with a learned mask share. No method itself.

Two kinds: :class:`Gate` looks for the highest scores in every forward pass; :class:`HeldGates` look up a
threshold now and then and may grow tighter, which is cheaper and what ``ballot`` learns its mask with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fairguard.errors import ModelError
from fairguard.repair.masks import Masks, nth_highest
from fairguard.repair.nets import names_of
from fairguard.repair.training import BeforeEpoch

SCORE_RATE = 10.0
"""Learning rate of scores, which begin as ranks between 0 and 1, relative to the weights'."""
SPARSE = 4.0
"""Dead weights for each living one from which scores of held gates learn at that rate; in proportion slower where there
are fewer: size tells well then which weights matter, and quick scores only forget it (chosen on rows of CIFAR-10 and
Adult to develop on, at 50 and 70 %)."""
PART = "_fairguard_gates"
"""Name under which held gates are a part of a net's first gated layer: none that a layer has of its own."""
EVERY = 8
"""Steps after which the thresholds of held gates are looked up anew."""


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
    if (odd := masks.fixed) is not None:
        raise ModelError(
            f"this method chooses weights one by one, and {odd} is pruned {masks.patterns[odd]}: use --method "
            "ballot, magnitude or ceag, which keep that pattern."
        )
    gates = {name: Gate(scores[name], int(keep.sum()), absolute=absolute) for name, keep in masks.keep.items()}
    homes: list[tuple[nn.Module, str, list[str]]] = []
    named = names_of(net)  # before a gate changes them
    try:
        for name, gate in gates.items():
            for known_as in named[name]:  # every place where a tied weight is used sees it through its one gate
                path, _, attribute = known_as.rpartition(".")
                home = _home(net, path)
                homes.append((home, attribute, list(home._parameters)))
                parametrize.register_parametrization(home, attribute, gate, unsafe=True)
        yield gates
    finally:
        for place in reversed(homes):
            _leave(*place)


def _home(net: nn.Module, path: str) -> nn.Module:
    try:
        return net.get_submodule(path)
    except (AttributeError, RuntimeError):
        raise ModelError(
            "this method puts learned gates into the network, which TorchScript and exported programs do not "
            "take: give the state dict and the function that builds the network (--model), or --method ballot."
        ) from None


def ranks(size: Tensor) -> Tensor:
    """Return each entry's rank within its tensor, in [0, 1]."""
    order = size.flatten().argsort(stable=True).argsort().float()
    return (order / max(len(order) - 1, 1)).view(size.shape)


class HeldGates(nn.Module):
    """Scores beside a net's weights that say which of them live; a part of the net while it trains.

    The net's own parameters are what lives, zeros included; the weights behind them, which a dead weight comes back
    with, are kept here and are what the optimiser moves. One operation for all layers where a gate in every layer
    would cost a small net as much as its training. After a backward pass (:meth:`follow`) scores get the gradient of
    all weights as if each lived, weights that of the living; after the optimiser's step (:meth:`settle`) the net is
    what lives again. While it trains, a mask is what lies above a threshold that is looked up now and then; whenever
    the net changes to evaluation, exactly ``counts`` live.

    Args:
        net: whose parameters are gated; scores begin as the ranks of their sizes, and everything lives.
        masks: names of these parameters.
    """

    thresholds: Tensor
    counts: Tensor
    age: Tensor

    def __init__(self, net: nn.Module, masks: Masks) -> None:
        """Keep scores, weights and masks in the parameters' own order of memory."""
        super().__init__()
        parameters = dict(net.named_parameters())
        self.names = list(masks.keep)
        # Lists of the tensors themselves: a module looks its parts up by name, three times a step and layer.
        self.weights: list[Any] = [parameters[name] for name in self.names]
        like = [w.detach() for w in self.weights]
        self.scores: list[Any] = [nn.Parameter(torch.empty_like(w).copy_(ranks(w.abs()))) for w in like]
        self.hidden: list[Any] = [nn.Parameter(w.detach().clone(), w.requires_grad) for w in self.weights]
        self.masks: list[Any] = [torch.ones_like(w) for w in like]  # in the weights' own type: a fast product
        for place in range(len(like)):
            self.register_parameter(f"scores{place}", self.scores[place])
            self.register_parameter(f"hidden{place}", self.hidden[place])
            self.register_buffer(f"mask{place}", self.masks[place])
        self.register_buffer("thresholds", torch.zeros(len(like), device=like[0].device))
        self.cuts: list[Any] = list(self.thresholds)
        # On the host, so that nothing waits for them.
        self.register_buffer("counts", torch.tensor([w.numel() for w in like]))
        self.register_buffer("age", torch.zeros((), dtype=torch.long))
        dead_per_living = masks.sparsity / max(1 - masks.sparsity, 1e-9)
        self.rate = SCORE_RATE * min(1.0, round(dead_per_living / SPARSE, 2))

    @property
    def fairguard_derived(self) -> list[Any]:
        """Return the tensors that a change to evaluation makes of the others, so that no mean of them is taken."""
        return [*self.weights, *self.masks]

    def train(self, mode: bool = True) -> HeldGates:
        """Change between training and evaluation, which sees exactly ``counts`` living weights."""
        if self.training and not mode:
            self.choose()
        super().train(mode)
        return self

    @torch.no_grad()
    def choose(self) -> None:
        """Let the ``counts`` highest scores live in the net."""
        self._look_up()
        self.settle()

    @torch.no_grad()
    def follow(self, _: nn.Module) -> None:
        """Hand on the gradients and let the masks follow the scores; called after every backward pass."""
        grads: list[Any] = [torch.zeros_like(w) if w.grad is None else w.grad for w in self.weights]
        for scores, gradient in zip(self.scores, torch._foreach_mul(grads, self.hidden), strict=True):
            scores.grad = gradient
        torch._foreach_mul_(grads, self.masks)
        for weight, hidden, gradient in zip(self.weights, self.hidden, grads, strict=True):
            weight.grad, hidden.grad = None, gradient
        self.age += 1
        if int(self.age) % EVERY == 0:
            self._look_up()
        else:
            for scores, cut, mask in zip(self.scores, self.cuts, self.masks, strict=True):
                torch.ge(scores, cut, out=mask)

    def _look_up(self) -> None:
        """Look up the thresholds, and let exactly ``counts`` live, whichever of those that are equal at them."""
        for scores, cut, mask, count in zip(self.scores, self.cuts, self.masks, self.counts.tolist(), strict=True):
            if scores.device.type == "cpu" and count:  # elsewhere one would wait for the sum
                cut.copy_(nth_highest(scores, count, about=float(cut)))
                if int(torch.ge(scores, cut, out=mask).sum(dtype=torch.long)) == count:
                    continue
            best = scores.flatten().topk(count, sorted=False)
            cut.copy_(best.values.min() if count else torch.tensor(torch.inf))  # inf: pruning emptied the layer
            chosen = best.values.new_zeros(mask.numel()).index_fill_(0, best.indices, 1.0)
            mask.copy_(chosen.view(mask.shape))

    @torch.no_grad()
    def settle(self) -> None:
        """Let the net be what lives; called after every step of the optimiser."""
        torch._foreach_copy_(self.weights, self.hidden)
        torch._foreach_mul_(self.weights, self.masks)

    def groups(self, lr: float) -> Callable[[nn.Module], list[dict[str, Any]]]:
        """Return what splits the parameters for the optimiser: scores learn faster than ``lr`` and do not decay.

        The weights behind the net's stand for the net's own, which :meth:`settle` makes of them.
        """
        left_out = {id(p) for p in (*self.weights, *self.scores)}

        def apart(net: nn.Module) -> list[dict[str, Any]]:
            others = [p for p in net.parameters() if p.requires_grad and id(p) not in left_out]
            return [
                {"params": others},
                {"params": self.scores, "lr": self.rate * lr, "weight_decay": 0.0},
            ]

        return apart

    def tightened(self, masks: Masks, ramp: int) -> BeforeEpoch:
        """Return what lets fewer live before each epoch up to ``ramp``; sizes of weights say how layers share them."""

        def fewer(epoch: int, _: nn.Module) -> None:
            # After the ramp only where a divergence on its last epoch led back to before it, where more live.
            if epoch <= ramp or int(self.counts.sum()) > masks.kept:
                sizes = {name: h.abs() for name, h in zip(self.names, self.hidden, strict=True)}
                keep = masks.select(sizes, loosen=(1 - min(epoch, ramp) / max(ramp, 1)) ** 3).keep
                self.counts.copy_(torch.tensor([int(keep[name].sum()) for name in self.names]))
            self.choose()  # also after the ramp: the look at the tune rows left the masks of the mean weights

        return fewer


@contextmanager
def held(net: nn.Module, masks: Masks) -> Iterator[HeldGates]:
    """Put held gates beside the masked parameters of ``net`` and yield them; leave what lives behind."""
    gates = HeldGates(net, masks)
    home = net.get_submodule(gates.names[0].rpartition(".")[0])  # a layer: a container would run them as one of its own
    home.add_module(PART, gates)
    try:
        net.train()  # before a resumed training takes up its masks, which the change of mode would choose anew
        yield gates
    finally:
        del home._modules[PART]


def _leave(home: nn.Module, attribute: str, order: list[str]) -> None:
    """Leave the gated weight behind, its parameters in the order that they had: an optimiser's state goes by it."""
    if parametrize.is_parametrized(home, attribute):
        parametrize.remove_parametrizations(home, attribute, leave_parametrized=True)
        for name in order:
            home._parameters[name] = home._parameters.pop(name)


def takes_gates(net: nn.Module, masks: Masks) -> bool:
    """Return whether held gates can stand beside every masked parameter and keep the pattern of zeros.

    Not where zeros have a pattern, a parameter is seen through a parametrisation already, or the net is a TorchScript
    or exported program, which takes no new parts.
    """
    if masks.fixed is not None:
        return False
    if any("parametrizations" in name.split(".") for name in masks.keep):
        return False
    return not is_program(net)


def is_program(net: nn.Module) -> bool:
    """Return whether a net is a TorchScript or exported program."""
    return any(isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule) for module in net.modules())
