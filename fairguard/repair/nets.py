"""A network as training meets it: run on whatever rows are, laid out, its statistics refreshed, its gradients taken.

Knows no task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError
from fairguard.inputs.calling import call
from fairguard.inputs.nested import leaves
from fairguard.repair.rows import Rows, fetched

T = TypeVar("T")

AT_ONCE = 1024
"""Rows that a net is asked about at a time, where memory takes them."""
EXTRA = "_extra_state"
"""What torch calls the entry of a state dict that ``get_extra_state`` gives: anything, and most often no tensor."""


def run(net: Callable[..., Any], x: Any) -> Any:
    """Return what the net gives for the rows ``x``, called as a check calls it."""
    return net(x) if isinstance(x, Tensor) else call(net, x)  # most often a tensor, which needs no look


def fewest_rows(net: nn.Module) -> int:
    """Return how many rows a net takes at least while it trains: two with batch norm, which needs a spread."""
    return 2 if _batch_norms(net) else 1


def no_room(rows: int) -> str:
    """Return the line that says that not even so many rows fit into memory."""
    return f"out of memory with {rows} row{'s' if rows > 1 else ''} at a time: use a larger device, or --device cpu."


def halving(work: Callable[[int], T], size: int, *, least: int = 1) -> T:
    """Return what ``work`` gives with ``size`` rows at a time, or with half as many as often as memory runs out.

    Raises:
        ModelError: not even ``least`` rows fit into memory.
    """
    while True:
        with suppress(torch.OutOfMemoryError):
            return work(size)
        if size <= least:
            raise ModelError(no_room(least))
        size = max((size + 1) // 2, least)
        torch.cuda.empty_cache()  # not where it was caught: the exception holds on to what did not fit


@torch.no_grad()
def outputs(net: nn.Module, read: Callable[[Any], Tensor], x: Any, device: torch.device) -> Tensor:
    """Return what ``read`` takes from a net's answers to the rows ``x``, on ``device``, wherever the rows live.

    Raises:
        ModelError: not even one row fits into memory.
    """
    parts: list[Tensor] = []
    done, n = 0, len(next(leaves(x)))

    def go_on(size: int) -> None:
        nonlocal done
        for index, some in fetched(x, torch.split(torch.arange(done, n), size), device):
            parts.append(read(run(net, some)))
            done += len(index)

    halving(go_on, AT_ONCE)
    return torch.cat(parts)


@torch.no_grad()
def lay_out(net: nn.Module, few: Any, *, ask: Callable[[nn.Module, Any], Any] = run) -> Any:
    """Store a net's kernels channels last, which convolutions are faster on, and return its answers to ``few`` rows.

    A net whose forward pass counts on the usual order of memory (``view``) stays as it is.

    Args:
        net: in eval mode.
        few: rows.
        ask: what gives the net's answers to them.

    Raises:
        ModelError: it casts to a type that its float32 weights do not have.
    """
    if any(isinstance(module, nn.Conv2d) for module in net.modules()):
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            return ask(net, few)
        except torch.OutOfMemoryError:  # a RuntimeError that says nothing of the order of memory
            raise
        except RuntimeError:
            net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    try:
        return ask(net, few)
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
    norms = [norm for norm in _batch_norms(net) if norm.track_running_stats]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    net.eval()
    for norm in norms:
        norm.momentum = None  # a plain average over the batches
        norm.train()
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))

    def estimate(size: int) -> None:
        for norm in norms:
            norm.reset_running_stats()
        for _, x in fetched(rows.x, order[: len(order) // size * size].view(-1, size)[:batches], rows.y.device):
            run(net, x)

    halving(estimate, min(256, len(rows)), least=2)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _batch_norms(net: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]


def names_of(net: nn.Module) -> dict[str, list[str]]:
    """Return all names of every parameter, by its first: several where it is tied, and its state dict has them all."""
    named: dict[int, list[str]] = {}
    for name, parameter in net.named_parameters(remove_duplicate=False):
        named.setdefault(id(parameter), []).append(name)
    return {names[0]: names for names in named.values()}


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


@contextmanager
def differentiable(net: nn.Module) -> Iterator[None]:
    """Let gradients be taken in eval mode too: cuDNN's recurrent nets have no backward pass there."""
    cudnn = torch.backends.cudnn
    before = cudnn.enabled
    cudnn.enabled = before and not any(isinstance(module, nn.RNNBase) for module in net.modules())
    try:
        with torch.enable_grad():
            yield
    finally:
        cudnn.enabled = before


def gradients(loss: Tensor, weights: Sequence[Tensor], *, again: bool = False) -> tuple[Tensor, ...]:
    """Return the gradient of each of the ``weights``: zeros where nothing hangs on it, as on an auxiliary head's.

    Args:
        loss: a scalar.
        weights: what it may hang on.
        again: whether other gradients of the same forward pass are still to be taken.
    """
    return torch.autograd.grad(loss, weights, retain_graph=again, allow_unused=True, materialize_grads=True)


def need_gradients(net: nn.Module, read: Callable[[Any], Tensor], few: Any) -> None:
    """Refuse a net that cannot be trained, before time is spent on it.

    Args:
        net: in eval mode.
        read: takes the scores from its answers.
        few: rows on its device.

    Raises:
        ModelError: no gradient comes back from the answers to the weights, or one that the optimiser does not take.
    """
    weights = trainable(net)
    try:
        with differentiable(net):
            scores = read(run(net, few))
            if not scores.requires_grad:
                kind = str(scores.dtype).removeprefix("torch.")
                raise ModelError(
                    f"no gradient comes back from the network's answers ({kind}) to its weights: training needs scores "
                    "or logits. Let its forward pass end before argmax, a threshold, detach() or no_grad()."
                )
            found = torch.autograd.grad(scores.float().sum(), weights, allow_unused=True)
    except torch.OutOfMemoryError:  # training says so, if it cannot do with fewer rows either
        return
    sparse = {id(w) for w, g in zip(weights, found, strict=True) if g is not None and g.layout is not torch.strided}
    if name := next((name for name, p in net.named_parameters() if id(p) in sparse), None):
        raise ModelError(
            f"the gradient of {name} is sparse, which AdamW does not take: build its embedding with sparse=False."
        )


def without_extra_state(net: nn.Module) -> nn.Module:
    """Return the net, whose state dict is from now on tensors alone, and loads as such: a state dict is weights here.

    What its modules keep beside (``get_extra_state``) they keep.
    """
    if any(is_extra(name) for name in net.state_dict()):
        net.register_state_dict_post_hook(_drop_extra)  # type: ignore[no-untyped-call]
        net.register_load_state_dict_post_hook(_miss_no_extra)  # type: ignore[no-untyped-call]
    return net


def _drop_extra(net: nn.Module, state: dict[str, Any], prefix: str, metadata: dict[str, Any]) -> None:
    for name in [name for name in state if name.startswith(prefix) and is_extra(name)]:
        del state[name]


def _miss_no_extra(net: nn.Module, found: Any) -> None:
    found.missing_keys[:] = [name for name in found.missing_keys if not is_extra(name)]


def is_extra(name: str) -> bool:
    """Return whether an entry of a state dict is what a module keeps beside its tensors."""
    return name.rpartition(".")[2] == EXTRA
