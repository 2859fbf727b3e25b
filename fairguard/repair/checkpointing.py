"""What a training leaves behind for the case of a kill, and how it goes on from there to the same weights, bit for bit.

Knows all that changes while a net trains; knows nothing of how it changes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fairguard.repair.averaging import Average
from fairguard.repair.masks import Weights
from fairguard.repair.objectives import Objective
from fairguard.repair.task import Score, Task

WRITING, LONGEST = 10.0, 60.0
"""Checkpoints lie so many times what the last one took to write apart, at least, but no more seconds than that."""


@dataclass
class Run:
    """Where a training stands: all that a checkpoint holds besides weights, optimiser and objective."""

    epoch: int = 0
    step: int = 0
    rate: float = 1.0
    stale: int = 0
    failures: int = 0
    first_loss: float = math.nan
    micro: int = 0
    loss: Tensor | None = None
    """Sum of the epoch's losses so far, on the device."""
    keep: dict[str, Tensor] = field(default_factory=dict)
    """Masks that move during training, as they are now."""
    best_keep: dict[str, Tensor] = field(default_factory=dict)
    """These masks when the best candidate was found."""
    highest: float = 0.0
    """Accuracy of the most accurate candidate so far, on the tune rows."""
    best: Score | None = None
    best_weights: Weights = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Saver:
    """Writes the training's checkpoint when the last one is old, and takes it up again after a kill."""

    task: Task
    name: str
    run: Run
    net: nn.Module
    optimiser: torch.optim.Optimizer
    objective: Objective
    average: Average
    last: float = field(default_factory=time.monotonic)
    took: float = 0.0

    def save_when_due(self) -> None:
        """Save, if what would be lost to a kill is worth it."""
        asked = self.task.options.checkpoint_seconds
        # A net whose state takes seconds to write is saved less often, or writing would be most of the work.
        every = max(asked, min(WRITING * self.took, LONGEST)) if asked else 0.0
        if (now := time.monotonic()) - self.last >= every:
            self.task.journal.save(self.name, self._state())
            self.last = time.monotonic()
            self.took = self.last - now

    def resume(self) -> None:
        """Take up what an earlier life saved; nothing if there is nothing."""
        if (saved := self.task.journal.load(self.name)) is None:
            return
        for key, value in saved["run"].items():
            setattr(self.run, key, value)
        self.run.best = Score(**saved["best"]) if saved["best"] else None
        if self.run.loss is not None:
            self.run.loss = self.run.loss.to(self.task.device)
        self.net.load_state_dict(saved["weights"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.objective.restore(saved["objective"])
        self.average.restore(saved["average"])
        _restore_chance(saved["chance"], self.task.device)

    def _state(self) -> dict[str, Any]:
        run = {name: getattr(self.run, name) for name in vars(self.run) if name != "best"}
        return {
            "run": run,
            "best": asdict(self.run.best) if self.run.best else None,
            "weights": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "objective": self.objective.state(),
            "average": self.average.state(),
            "chance": _chance(self.task.device),
        }


def _chance(device: torch.device) -> list[Tensor]:
    """Return the state of torch's own generators, which dropout draws from, on the CPU and where training runs."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore_chance(states: Iterable[Tensor], device: torch.device) -> None:
    cpu, *there = states
    torch.set_rng_state(cpu)
    if there and device.type == "cuda":
        torch.cuda.set_rng_state(there[0], device)
