"""Where pruning from scratch starts: the largest weights at the sparsity asked for, no layer empty. Knows no rows."""

from __future__ import annotations

import math
import re
from typing import Literal

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError
from fairguard.names import listed
from fairguard.repair.masks import Masks, Weights, highest, is_left_dense, prunable
from fairguard.repair.patterns import Pattern
from fairguard.repair.task import copied

POSITIONS = re.compile(r"(^|_)(pos|posit\w*|pe|cls|(class|mask|register)_?tokens?)(_|$)")
"""What learned positions and tokens are called: they are added to the input, nothing is multiplied by them."""
ROUNDING = 1e-6
"""What 0.9 of 1,000 may miss 900 by, as floats go."""


def starting_masks(net: nn.Module, sparsity: float, scope: Literal["global", "layer"]) -> Masks:
    """Return unstructured magnitude masks of ``net``, at least as sparse as asked.

    Where layers compete (``global``), every output still keeps a fifth of the weights that pruning layer by layer would
    leave it: the layers with the smallest weights, often the last one, would die at high sparsities.

    Args:
        net: the network with its weights.
        sparsity: share of all entries of its weight matrices and kernels that are to be zero.
        scope: whether layers compete for weights or keep the same share each.

    Raises:
        ModelError: there is nothing to prune, or too little to leave every layer a weight.
    """
    sizes = {name: p.detach().abs() for name, p in prunable(net).items()}
    if not sizes:
        left = "".join(f" It has {sentence}." for sentence in left_dense_notes(net))
        raise ModelError(f"this model has no weight matrix or kernel of floating numbers, so nothing to prune.{left}")
    return _largest(sizes, sparsity, scope)


def resized(masks: Masks, weights: Weights, sparsity: float) -> Masks:
    """Return masks over the same tensors at another ``sparsity``, the largest ``weights`` living, no layer empty.

    Raises:
        ModelError: a pattern (N:M, whole filters) fixes the sparsity, or it leaves too little.
    """
    if masks.fixed is not None:
        raise ModelError(
            f"{masks.fixed} is pruned {masks.patterns[masks.fixed]}, which fixes its sparsity: leave out --sparsity."
        )
    return _largest({name: weights[name].abs() for name in masks.keep}, sparsity, masks.scope)


def _largest(sizes: dict[str, Tensor], sparsity: float, scope: Literal["global", "layer"]) -> Masks:
    """Return unstructured masks of the largest entries, at least as sparse as asked.

    Raises:
        ModelError: too little is left for every layer to keep a weight.
    """
    total = sum(size.numel() for size in sizes.values())
    most = total - math.ceil(sparsity * total - ROUNDING)
    if most < len(sizes):
        raise ModelError(
            f"a sparsity of {sparsity:g} leaves {most} of {total:,} weights to {len(sizes)} layers: ask for "
            f"{1 - len(sizes) / total:.4g} at most, so that no layer is empty."
        )
    by_layer = {name: highest(s, max(1, round(s.numel() * (1 - sparsity)))) for name, s in sizes.items()}
    masks = Masks(_at_most(most, by_layer, sizes), dict.fromkeys(sizes, Pattern()), scope)
    return masks if scope == "layer" else masks.select(sizes)


def left_dense_notes(net: nn.Module) -> list[str]:
    """Return a sentence on the matrices that no mask covers because of their names, if there are some.

    What a layer multiplies by is known by its name, weight: a layer of the user's own may call it otherwise. Tables,
    norms, biases, embeddings, positions and tokens are left on purpose, and not told of.
    """
    beside = {id(p) for m in net.modules() if is_left_dense(m) for p in m.parameters(recurse=False)}
    found = {
        name: p
        for name, p in net.named_parameters()
        if p.is_floating_point() and max(p.shape, default=0) < p.numel() and id(p) not in beside and _is_unknown(name)
    }
    if not found:
        return []
    entries = sum(p.numel() for p in found.values())
    return [
        f"{entries:,} entries left dense, in matrices that are not called weight: {listed(list(found))}; a parameter "
        "with weight in its name would be taken for a layer's"
    ]


def _is_unknown(name: str) -> bool:
    *path, last = name.split(".")
    called = path[-1] if "parametrizations" in path else last  # inner.parametrizations.kernel.original
    return not any(word in called for word in ("weight", "bias", "embed")) and not POSITIONS.search(called.lower())


def need_weights(masks: Masks, net: nn.Module, pruned: Weights) -> None:
    """Raise :class:`ModelError` if pruning left no weight in any layer: under such masks nothing can be learned."""
    layers = prunable(net).keys()
    if masks.kept or not layers or any(bool(pruned[name].any()) for name in layers):
        return
    raise ModelError(
        f"pruned has no weight left: all {masks.total:,} in its {len(masks.keep)} pruned tensors are zero, and nothing "
        "can be learned at this sparsity. Ask for a lower one: --sparsity 0.9."
    )


def masked(net: nn.Module, masks: Masks) -> Weights:
    """Return the net's state dict with the masked entries zero, under every name that a tied weight has."""
    before = copied(net.state_dict())
    masks.enforcer(net)()
    pruned = copied(net.state_dict())
    net.load_state_dict(before)
    return pruned


def _at_most(most: int, keep: dict[str, Tensor], sizes: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks with ``most`` living entries: rounding layer by layer may have left a few too many."""
    keep = {name: mask.clone() for name, mask in keep.items()}
    living = {name: int(mask.sum()) for name, mask in keep.items()}
    while sum(living.values()) > most:
        name = max(living, key=lambda name: living[name])
        smallest = sizes[name].masked_fill(~keep[name], torch.inf).argmin()
        keep[name].view(-1)[smallest] = False
        living[name] -= 1
    return keep
