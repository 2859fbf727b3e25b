"""``--keep-mask``: PRUNED's own mask and weights, retrained under the constraint."""

from __future__ import annotations

from fairguard.repair.methods.ballot import retrain
from fairguard.repair.task import Candidate, Task


def select_and_train(task: Task) -> Candidate:
    """Return the best candidate of constrained retraining of dense's weights under PRUNED's own mask."""
    return retrain(task, task.masks, 0.0)
