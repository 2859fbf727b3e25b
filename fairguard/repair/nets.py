"""A network as training meets it: run on whatever rows are, laid out, its statistics refreshed. Knows no task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError
from fairguard.repair.rows import Rows, fetched


def run(net: Callable[..., Any], x: Any) -> Any:
    """Return what the net gives for ``x``: a tensor is its one argument, a tuple its arguments, a dict its keywords."""
    if isinstance(x, Tensor):
        return net(x)
    return net(**x) if isinstance(x, dict) else net(*x)


@torch.no_grad()
def lay_out(net: nn.Module, few: Any) -> Any:
    """Store a net's kernels channels last, which convolutions are faster on, and return its answers to ``few`` rows.

    A net whose forward pass counts on the usual order of memory (``view``) stays as it is.

    Raises:
        ModelError: it casts to a type that its float32 weights do not have.
    """
    if any(isinstance(module, nn.Conv2d) for module in net.modules()):
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            return run(net, few)
        except RuntimeError:
            net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        return run(net, few)
    except RuntimeError as error:
        if "dtype" not in str(error):
            raise
        raise ModelError(
            f"the network does not run in float32, in which it would be trained ({error}). Let its forward pass cast "
            "to the type of its own weights, x.to(self.layer.weight.dtype), not to a fixed one."
        ) from None


@torch.no_grad()
def refresh_batch_norm(net: nn.Module, rows: Rows, *, seed: int, batches: int = 50) -> None:
    """Estimate the running statistics of batch-norm anew: other weights live, so other activations flow."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    net.eval()
    for norm in norms:
        norm.train()
    size = min(256, len(rows))
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    for _, x in fetched(rows.x, order[: len(order) // size * size].view(-1, size)[:batches], rows.y.device):
        run(net, x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def trainable(net: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that gradients reach.

    Raises:
        ModelError: there are none.
    """
    found = [p for p in net.parameters() if p.requires_grad and p.is_floating_point()]
    if not found:
        raise ModelError(
            "this model has no weights that can be trained; give the float network (--model) and its state dict."
        )
    return found
