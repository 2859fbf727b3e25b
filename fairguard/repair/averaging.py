"""The running mean of a training's weights: steadier than the weights themselves, and as sparse.

Polyak and Juditsky (SIAM J. Control Optim. 1992), as an exponential mean. Masked weights are zero in every term,
so they are zero in the mean; batch-norm's running statistics are averaged with the weights. Knows no loss and no mask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Average:
    """An exponential mean of a net's floating state, one fused step for all tensors.

    Args:
        net: whose weights and buffers are averaged, from what they are now.
        horizon: steps that the mean looks back, about; 0 for no mean: the net stands for itself.
    """

    def __init__(self, net: nn.Module, horizon: int) -> None:
        """Start the mean at the net's own state, without what its parts make of the rest (``fairguard_derived``)."""
        self.horizon, self.steps = horizon, 0
        left_out = {t.data_ptr() for module in net.modules() for t in getattr(module, "fairguard_derived", ())}
        state = [t.detach() for t in net.state_dict().values() if t.is_floating_point()]
        self.live = [t for t in state if t.data_ptr() not in left_out] if horizon else []
        self.mean = [t.clone() for t in self.live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the net's state into the mean; the first steps weigh more, so that the start is soon forgotten."""
        if self.live:
            self.steps += 1
            torch._foreach_lerp_(self.mean, self.live, max(1.0 / self.horizon, 1.0 / self.steps))

    @torch.no_grad()
    def restart(self) -> None:
        """Begin anew at the net's own state."""
        if self.live:
            self.steps = 0
            torch._foreach_copy_(self.mean, self.live)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the net be its mean for a while."""
        if not self.live:
            yield
            return
        own = [t.clone() for t in self.live]
        with torch.no_grad():
            torch._foreach_copy_(self.live, self.mean)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.live, own)

    def state(self) -> dict[str, Any]:
        """Return all that changes."""
        return {"steps": self.steps, "mean": [t.clone() for t in self.mean]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state of :meth:`state`."""
        self.steps = state["steps"]
        for mine, kept in zip(self.mean, state["mean"], strict=True):
            mine.copy_(kept)
