"""What tests and benchmarks prune a net with: its largest weights, as torch.nn.utils.prune keeps them.

Unlike ``fairguard prune`` it sees to no output and no layer, which may end empty: repair is to meet such nets too.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from fairguard.repair.masks import Masks, highest, prunable
from fairguard.repair.patterns import Pattern


def masks_at(net: nn.Module, sparsity: float, *, scope: Literal["global", "layer"] = "global") -> Masks:
    """Return unstructured magnitude masks of ``net`` at ``sparsity`` (a fraction of all prunable entries)."""
    weights = {name: p.detach().abs() for name, p in prunable(net).items()}
    if scope == "layer":
        keep = {name: highest(w, max(1, round(w.numel() * (1 - sparsity)))) for name, w in weights.items()}
    else:
        together = torch.cat([w.float().flatten() for w in weights.values()])
        chosen = highest(together, round(len(together) * (1 - sparsity))).split([w.numel() for w in weights.values()])
        keep = {name: part.view(w.shape) for (name, w), part in zip(weights.items(), chosen, strict=True)}
    return Masks(keep, dict.fromkeys(weights, Pattern()), scope)
