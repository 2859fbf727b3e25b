"""``ceag``: gradual magnitude pruning under a constraint on every group's excess accuracy drop.

Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models" (ICLR 2024, arXiv 2310.20673): the
mask knows nothing of groups, the weights do. No distillation; the constraint is the shared one.
"""

from __future__ import annotations

from functools import partial

from fairguard.repair.methods.magnitude import gradual
from fairguard.repair.objectives import fair
from fairguard.repair.task import Candidate, Task


def select_and_train(task: Task) -> Candidate:
    """Return the best candidate of gradual magnitude pruning under the constraint."""
    return gradual(task, partial(fair, distil=0.0))
