"""``--keep-mask``: PRUNED's own mask, retrained under the constraint from where ``ballot`` starts."""

from __future__ import annotations

from fairguard.repair.methods.ballot import retrain
from fairguard.repair.task import Candidate, Task


def select_and_train(task: Task) -> Candidate:
    """Return the best candidate of constrained retraining under PRUNED's own mask."""
    return retrain(task, task.masks, 0.0)
