"""From whatever a net returns to logits of shape (n, K): the one form that training knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fairguard.errors import ModelError
from fairguard.inputs.tensors import choose


@dataclass(frozen=True)
class Head:
    """How a net's output becomes logits.

    Attributes:
        single: one number decides between two classes.
        probabilities: the numbers are probabilities, not logits.
        threshold: a single number above it means class 1.
        key: which output, where the net returns several.
    """

    single: bool = False
    probabilities: bool = False
    threshold: float = 0.0
    key: str | None = None

    def __call__(self, out: Any) -> Tensor:
        """Return logits, shape (n, K), whose largest entry is the class that a check would read off ``out``."""
        scores = self.pick(out).float()
        if not self.single:
            return scores.clamp_min(1e-7).log() if self.probabilities else scores
        flat = scores.reshape(len(scores))
        # A cut other than one half shifts the logit: class 1 wins exactly where the number exceeds the cut.
        logit = (torch.logit(flat, 1e-6) - _logit(self.threshold)) if self.probabilities else flat - self.threshold
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    def pick(self, out: Any) -> Tensor:
        """Return the tensor of scores among the outputs."""
        if isinstance(out, tuple | list):
            out = {str(place): part for place, part in enumerate(out)}
        if isinstance(out, Mapping):
            out = choose({str(name): part for name, part in out.items()}, self.key, "the model")
        if not isinstance(out, Tensor):
            raise ModelError(f"the model returns a {type(out).__name__}, not a tensor of scores.")
        return out


def _logit(share: float) -> float:
    return float(torch.logit(torch.tensor(share, dtype=torch.float64), 1e-6))


def head_for(out: Tensor, *, threshold: float | None = None, key: str | None = None) -> Head:
    """Return the head that fits a sample of scores, shape (n, K), (n, 1) or (n,)."""
    within = bool(((out >= 0) & (out <= 1)).all())
    if out.dim() == 1 or out.shape[1] == 1:
        return Head(True, within, (0.5 if within else 0.0) if threshold is None else threshold, key)
    sums = out.sum(1)
    return Head(False, within and bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-3)), key=key)
