"""Which weights live: read off a pruned model, chosen anew by scores, enforced after every step.

A mask keeps PRUNED's sparsity and its pattern (unstructured over all layers or layer by layer, N:M, whole filters or
units): see ``patterns``. Knows nothing of data, groups or training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fairguard.errors import ModelError
from fairguard.repair.patterns import FOLLOWS, UNITS, Pattern, dead_rows, find_patterns, neighbours
from fairguard.report.remedies import RETRAIN

Weights = dict[str, Tensor]
"""A state dict: parameters and buffers by name."""

FLOOR = 0.2
"""No output of a layer falls below this share of the weights that it has now, and no layer below this share of the
overall density, when weights compete: so that no layer dies, and no class."""
NEAR = 0.05
"""How far a threshold is looked for from where it was: scores are ranks between 0 and 1 when they begin to learn."""
SAME_SHARE = 0.002
"""Layers whose densities differ by less were pruned layer by layer."""


@dataclass(frozen=True, eq=False)
class Masks:
    """Which entries of which parameters live.

    Attributes:
        keep: by parameter name, a bool tensor of the parameter's shape. Parameters not named stay dense.
        patterns: by the same names, how the zeros lie.
        scope: ``global`` when unstructured layers compete for weights, ``layer`` when each keeps its own share.
    """

    keep: dict[str, Tensor]
    patterns: dict[str, Pattern]
    scope: Literal["global", "layer"] = "global"

    @property
    def total(self) -> int:
        """Return the number of entries under a mask."""
        return sum(mask.numel() for mask in self.keep.values())

    @property
    def kept(self) -> int:
        """Return the number of entries that live."""
        return sum(int(mask.sum()) for mask in self.keep.values())

    @property
    def sparsity(self) -> float:
        """Return the share of masked entries among all entries under a mask."""
        return 1.0 - self.kept / self.total

    @property
    def fixed(self) -> str | None:
        """Return a parameter whose pattern fixes its sparsity, if there is one."""
        return next((name for name, pattern in self.patterns.items() if pattern.kind != "unstructured"), None)

    def overlap(self, other: Masks) -> float:
        """Return the share of the living weights that live under ``other`` too."""
        return sum(int((mask & other.keep[name]).sum()) for name, mask in self.keep.items()) / max(self.kept, 1)

    def enforcer(self, net: nn.Module) -> Callable[[], None]:
        """Return a function that zeroes the masked weights of ``net``, one fused multiplication for all layers."""
        parameters = dict(net.named_parameters())
        weights: list[Tensor] = [parameters[name] for name in self.keep]
        factors: list[Any] = [  # in the weights' own order of memory, or the multiplication would not fuse
            torch.empty_like(w.detach()).copy_(self.keep[name]) for name, w in zip(self.keep, weights, strict=True)
        ]

        @torch.no_grad()
        def enforce() -> None:
            if weights:
                torch._foreach_mul_(weights, factors)

        return enforce

    def on(self, weights: Weights) -> Weights:
        """Return ``weights`` with the masked entries zero; tied tensors must be given under their first name."""
        return {k: w * self.keep[k].to(w.device, w.dtype) if k in self.keep else w for k, w in weights.items()}

    def living_in(self, weights: Weights) -> Masks:
        """Return masks over the same tensors of what lives in ``weights``."""
        return Masks({name: weights[name] != 0 for name in self.keep}, self.patterns, self.scope)

    def select(self, scores: Mapping[str, Tensor], *, loosen: float = 0.0) -> Masks:
        """Return masks of the same sparsity and pattern whose living entries have the highest ``scores``.

        Args:
            scores: by parameter name, as many as there are masks; comparable across layers if ``scope`` is global.
            loosen: 0 keeps as many as these masks do, 1 keeps all; between them for pruning step by step.
        """
        keep: dict[str, Tensor] = {}
        free = [name for name, pattern in self.patterns.items() if pattern.kind == "unstructured"]
        for name, pattern in self.patterns.items():
            if pattern.kind == "filters":
                keep[name] = _best_rows(scores[name], self.keep[name], loosen)
            elif pattern.kind == "n:m":
                keep[name] = _best_of_neighbours(scores[name], self.keep[name], pattern, loosen)
            elif pattern.kind == UNITS:
                keep[name] = self.keep[name]
        keep |= self._unstructured(scores, free, loosen)
        keep |= {name: ~dead_rows(keep[p.leader]) for name, p in self.patterns.items() if p.kind == FOLLOWS}
        return Masks({name: keep[name] for name in self.keep}, self.patterns, self.scope)

    def _unstructured(self, scores: Mapping[str, Tensor], names: list[str], loosen: float) -> dict[str, Tensor]:
        living = {name: _loosened(int(self.keep[name].sum()), self.keep[name].numel(), loosen) for name in names}
        safe = {name: _safe(scores[name], self.keep[name]) for name in names}
        if self.scope == "layer" or len(names) < 2:
            lifted = {name: scores[name].masked_fill(safe[name], torch.inf) for name in names}
            return {name: highest(lifted[name], living[name]) for name in names}
        return _top_together({name: scores[name] for name in names}, sum(living.values()), safe)


def read_masks(net: nn.Module, dense: Weights, pruned: Weights) -> Masks:
    """Return the masks of a pruned model: every parameter with more than one dimension in which pruning left zeros.

    Layers and embeddings that pruning left alone stay alone; tied weights are one parameter. Where whole rows are zero,
    the biases and norms of these very units that are zero too are masked with them: units that are dead stay dead.

    Raises:
        ModelError: the shapes differ, or there is no zero that dense has not.
    """
    keep = {}
    for name, parameter in net.named_parameters():
        _need_alike(name, parameter, pruned)
        living = pruned[name] != 0
        if parameter.dim() > 1 and int(living.sum()) < int((dense[name] != 0).sum()):
            keep[name] = living
    if odd := sorted(net.state_dict().keys() ^ pruned.keys()):
        owner, other = ("pruned", "dense") if odd[0] in pruned else ("dense", "pruned")
        raise ModelError(f"{owner} has {odd[0]}, {other} has not: build both by one function (--model), then repair.")
    if not keep:
        raise ModelError(
            "the pruned model has no weight tensor with more zeros than dense: there is no mask to repair."
            + _masks_beside(pruned)
        )
    zeros = {n: pruned[n] == 0 for n, p in net.named_parameters() if p.dim() == 1 and bool((pruned[n] == 0).any())}
    patterns = find_patterns(
        keep, {name: ~zero for name, zero in zeros.items() if bool((dense[name] != 0)[zero].any())}
    )
    keep |= {name: ~zeros[name] for name in patterns if name in zeros}
    return Masks(keep, patterns, _scope(keep[n] for n, p in patterns.items() if p.kind == "unstructured"))


def _need_alike(name: str, parameter: Tensor, pruned: Weights) -> None:
    """Raise :class:`ModelError` if pruned has no such parameter, or one of another shape."""
    if name in pruned and pruned[name].shape == parameter.shape:
        return
    if f"{name}_mask" in pruned:
        raise ModelError(
            f"pruned model: {name} is kept apart from its mask. Make masks permanent, with "
            "torch.nn.utils.prune.remove(layer, 'weight') for each layer, or give a state dict and --model."
        )
    if name not in pruned:
        raise ModelError(f"dense has {name}, pruned has not: build both by one function (--model), then repair.")
    raise ModelError(
        f"pruned model: {name} has {tuple(pruned[name].shape)}, dense has {tuple(parameter.shape)}. Repair moves zeros "
        f"inside dense's own shapes; a structurally smaller network has none to move: {RETRAIN}."
    )


def _masks_beside(weights: Weights) -> str:
    """Return what to do if a network keeps masks beside its weights instead of zeros in them."""
    for name in weights:
        if name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in weights:
            return (
                f" Its network keeps masks beside its weights ({name}): give a function that builds it without "
                "torch.nn.utils.prune (--model); masks in a file are applied when it is opened."
            )
    return ""


def prunable(net: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that pruning from scratch masks: the weights of layers that multiply by them.

    These are matrices and kernels called weight: of linear layers, convolutions, attention and recurrent nets, also
    under a parametrisation. Embedding tables, norms, and parameters of other names, such as positional embeddings and
    class tokens, stay dense, as torch.nn.utils.prune and its like leave them.
    """
    left = {id(p) for m in net.modules() if is_left_dense(m) for p in m.parameters(recurse=False)}
    named = _left_dense_in(net)
    return {n: p for n, p in net.named_parameters() if id(p) not in left and n not in named and _is_kernel(n, p)}


def is_left_dense(module: nn.Module) -> bool:
    """Return whether a layer is an embedding or a norm, whose parameters stay dense."""
    kind = getattr(module, "original_name", type(module).__name__)  # TorchScript keeps the name of the class alone
    return isinstance(module, nn.Embedding | nn.EmbeddingBag) or kind.endswith(("Embedding", "EmbeddingBag", "Norm"))


def _left_dense_in(net: nn.Module) -> set[str]:
    """Return what an exported program, whose modules have no types, looks rows up in or norms with, by name."""
    if not isinstance(net, torch.fx.GraphModule):
        return set()
    nodes = [n for n in net.graph.nodes if n.op == "call_function" and str(n.target).startswith(_DENSE)]
    return {str(given.target) for node in nodes for given in node.all_input_nodes if given.op == "get_attr"}


_DENSE = ("aten.embedding", "aten.layer_norm", "aten.rms_norm", "aten.group_norm")


def _is_kernel(name: str, weight: nn.Parameter) -> bool:
    """Return whether a parameter is a matrix or a kernel of a layer, and no vector with dimensions of one beside it.

    Such are layer scales, and the lengths that weight norm keeps; a layer of one output is none.
    """
    *path, last = name.split(".")
    called = path[-1] if "parametrizations" in path else last  # inner.parametrizations.weight.original
    is_vector = weight.dim() < 2 or (weight.numel() == max(weight.shape) and last != "weight")
    return weight.is_floating_point() and not is_vector and "weight" in called


def _scope(masks: Iterable[Tensor]) -> Literal["global", "layer"]:
    shares = [float(mask.float().mean()) for mask in masks if mask.numel() >= 1 / SAME_SHARE]
    return "layer" if len(shares) > 1 and max(shares) - min(shares) < SAME_SHARE else "global"


def _loosened(kept: int, total: int, loosen: float) -> int:
    return kept + round(loosen * (total - kept))


def nth_highest(scores: Tensor, count: int, *, about: float | None = None) -> Tensor:
    """Return the ``count``-th highest score, a scalar.

    Args:
        scores: of any shape.
        count: 1 for the highest.
        about: what it was when it was last asked for: near it there are few scores to search, if it is still there.
    """
    flat = scores.detach().flatten()
    if flat.dtype != torch.float32 or flat.device.type != "cpu":
        return flat.kthvalue(len(flat) - count + 1).values
    values = flat.numpy()  # faster than torch there
    if about is not None:
        above = values > about + NEAR
        near = values[np.flatnonzero((values >= about - NEAR) & ~above)]
        if 0 < (left := count - int(np.count_nonzero(above))) <= len(near):
            values, count = near, left
    place = len(values) - count
    return torch.from_numpy(np.partition(values, place)[place : place + 1])[0]


def highest(scores: Tensor, count: int) -> Tensor:
    """Return a mask of the ``count`` highest scores; among equals the first, so that the choice is repeatable."""
    flat = scores.flatten()
    if not 0 < count < len(flat):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    lowest = nth_highest(flat, count)
    keep = flat > lowest
    equals = (flat == lowest).nonzero()[: count - int(keep.sum()), 0]
    return keep.index_fill_(0, equals, value=True).view(scores.shape)


def _top_together(scores: Mapping[str, Tensor], count: int, safe: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return masks of the ``safe`` entries and of the highest scores of all layers beside them, ``count`` in all."""
    if sum(int(mask.sum()) for mask in safe.values()) > count:
        safe = {name: torch.zeros_like(s, dtype=torch.bool) for name, s in scores.items()}
    left = count - sum(int(mask.sum()) for mask in safe.values())
    flat = torch.cat([s.float().masked_fill(safe[name], -torch.inf).flatten() for name, s in scores.items()])
    chosen = torch.split(highest(flat, left), [s.numel() for s in scores.values()])
    return {name: safe[name] | part.view(s.shape) for (name, s), part in zip(scores.items(), chosen, strict=True)}


def _safe(scores: Tensor, keep: Tensor) -> Tensor:
    """Return the entries that live whatever the others score: each output's best, a share of what it has now."""
    rows = keep.flatten(1).sum(1, keepdim=True)
    if not bool(rows.any()):  # an emptied layer: one weight, so that it is a layer again
        return highest(scores, 1)
    order = torch.sort(scores.flatten(1), dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return (rank < (FLOOR * rows).ceil()).view(keep.shape)


def _best_rows(scores: Tensor, keep: Tensor, loosen: float) -> Tensor:
    living = _loosened(int(keep.flatten(1).any(1).sum()), len(keep), loosen)
    rows = highest(scores.flatten(1).sum(1), living)
    return rows.view(-1, *[1] * (scores.dim() - 1)).expand_as(scores).clone()


def _best_of_neighbours(scores: Tensor, keep: Tensor, pattern: Pattern, loosen: float) -> Tensor:
    living = _loosened(pattern.n, pattern.m, loosen)
    runs = neighbours(scores, pattern.m, pattern.flat)
    best = torch.sort(runs, dim=-1, descending=True, stable=True).indices[..., :living]
    chosen = torch.zeros_like(runs, dtype=torch.bool).scatter_(-1, best, value=True)
    inputs_last = scores.movedim(1, -1).shape
    moved = chosen.reshape(scores.shape) if pattern.flat else chosen.reshape(inputs_last).movedim(-1, 1)
    if loosen == 0.0 and int(moved.sum()) > int(keep.sum()):  # PRUNED had runs with fewer: never be less sparse
        moved = highest(scores.masked_fill(~moved, -torch.inf), int(keep.sum()))
    return moved.contiguous()
