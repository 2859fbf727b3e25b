"""How the zeros of a pruned model lie: anywhere, N of every M, whole rows, whole units. Knows masks as tensors only.

Also which of them is chance: a layer of few weights fits some pattern by accident, and one that a net was pruned by is
there in other layers too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairguard.inputs.sparsity import BY_CHANCE, EXACT, N_OF_M, log_chance

UNITS: Literal["whole units"] = "whole units"
FOLLOWS: Literal["follows"] = "follows"


@dataclass(frozen=True)
class Pattern:
    """How the zeros of one tensor lie.

    Attributes:
        kind: ``unstructured``, ``n:m`` (at most ``n`` of every ``m`` neighbours live), ``filters`` (whole rows live or
            die), ``whole units`` (whole rows and columns are gone, of one layer and the next, and stay so: the net was
            made to be cut smaller), or ``follows`` (a bias or norm that dies with the rows of ``leader``).
        n: weights that live among ``m`` neighbours.
        m: length of a run of neighbours; 0 unless ``n:m``.
        flat: runs lie along the flattened row (kernel included), not along the input dimension.
        leader: the weight whose rows this parameter goes with.
    """

    kind: Literal["unstructured", "n:m", "filters", "whole units", "follows"] = "unstructured"
    n: int = 0
    m: int = 0
    flat: bool = False
    leader: str = ""

    def __str__(self) -> str:
        """Return the name that a report shows."""
        return f"{self.n}:{self.m}" if self.m else self.kind


def find_patterns(keep: Mapping[str, Tensor], vectors: Mapping[str, Tensor] | None = None) -> dict[str, Pattern]:
    """Return how the zeros of every mask lie; what fits nothing, or fits by chance, is unstructured.

    The pattern of the other layers counts for a small one: it is one if all that fit it together are more than chance.

    Args:
        keep: what lives of each matrix and kernel, in the order of the net's parameters.
        vectors: what lives of biases and norms in which pruning left zeros; those that die with the rows of a weight
            have a pattern too.
    """
    fitting = {name: _fitting(mask) for name, mask in keep.items()}
    chance: dict[Pattern, float] = {}
    for name, pattern in fitting.items():
        chance[pattern] = chance.get(pattern, 0.0) + _log_chance(keep[name], pattern)
    found = {name: p if chance[p] < math.log(BY_CHANCE) else Pattern() for name, p in fitting.items()}
    found |= _units(keep, found)
    for name, living in (vectors or {}).items():
        for weight, pattern in found.items():
            if pattern.kind in ("filters", UNITS) and torch.equal(living, ~dead_rows(keep[weight])):
                found[name] = Pattern(FOLLOWS, leader=weight)
                break
    return found


def dead_rows(keep: Tensor) -> Tensor:
    """Return which rows of a mask hold no living weight, shape (rows,)."""
    return ~keep.flatten(1).any(1)


def neighbours(tensor: Tensor, m: int, flat: bool) -> Tensor:
    """Return shape (..., runs, m): runs of ``m`` along the flattened rows, or along the inputs (dimension 1)."""
    last = tensor.flatten(1) if flat else tensor.movedim(1, -1)
    return last.reshape(*last.shape[:-1], -1, m)


def _fitting(keep: Tensor) -> Pattern:
    """Return the pattern that the zeros of a mask fit, be it by chance."""
    rows = keep.flatten(1)
    if not bool(keep.any()):  # a layer that pruning emptied by accident; it may live again
        return Pattern()
    if bool((rows.all(1) | ~rows.any(1)).all()) and rows.shape[1] > 1:
        return Pattern("filters")
    for n, m in N_OF_M:
        for flat in (False, True):
            if (rows.shape[1] if flat else keep.shape[1]) % m == 0:
                counts = neighbours(keep, m, flat).sum(-1)
                if int(counts.max()) <= n and float((counts == n).float().mean()) > EXACT:
                    return Pattern("n:m", n, m, flat)
    return Pattern()


def _log_chance(keep: Tensor, pattern: Pattern) -> float:
    """Return the logarithm of the chance, about, that as many zeros anywhere would lie in the pattern."""
    if pattern.kind == "n:m":
        return log_chance(pattern.n, pattern.m, keep.numel())
    rows, density = keep.flatten(1), float(keep.float().mean())
    return len(rows) * _log_alike(density, rows.shape[1])


def _log_alike(density: float, count: int) -> float:
    """Return the logarithm of the chance that ``count`` weights all live or all die."""
    return math.log(max(density**count + (1 - density) ** count, 1e-300))


def _units(keep: Mapping[str, Tensor], found: Mapping[str, Pattern]) -> dict[str, Pattern]:
    """Return the layers of a net from which whole units were taken: dead columns, and the rows that made them dead.

    A mask is of such a layer if what lives is just the living rows crossed with the living columns, and this is more
    than chance; by itself, or because the dead columns are the dead rows of another layer.
    """
    units: dict[str, Pattern] = {}
    for name, mask in keep.items():
        rows, columns = ~dead_rows(mask), mask.movedim(1, 0).flatten(1).any(1)
        if bool(columns.all()) or not bool(columns.any()) or found[name].kind == "n:m":
            continue
        crossed = rows.view(-1, 1, *[1] * (mask.dim() - 2)) & columns.view(1, -1, *[1] * (mask.dim() - 2))
        if not torch.equal(mask, crossed.expand_as(mask)):
            continue
        makers = [other for other, made in keep.items() if other != name and _made(made, columns)]
        alike = len(columns) * _log_alike(float(columns.float().mean()), int(rows.sum()))
        if makers:
            alike -= math.log(math.comb(len(columns), int(columns.sum())))
        if alike < math.log(BY_CHANCE):
            units |= dict.fromkeys((name, *(m for m in makers if found[m].kind == "filters")), Pattern(UNITS))
    return units


def _made(keep: Tensor, columns: Tensor) -> bool:
    """Return whether the living rows of a mask are the living ``columns`` of another."""
    return len(keep) == len(columns) and torch.equal(~dead_rows(keep), columns)
