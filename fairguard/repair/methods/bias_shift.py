"""``bias-shift``: PRUNED with its last layer's biases moved toward equal class recall. The control of every other row.

Post-hoc, on the tune rows (on moved images where the net bears that, see ``shifts``), and only where the groups are the
classes. Whatever claims to be fairer must beat a model with it.
"""

from __future__ import annotations

from fairguard.errors import ConfigError, ModelError
from fairguard.repair.shifts import groups_are_classes, last_bias, shifted
from fairguard.repair.task import Candidate, Task


def select_and_train(task: Task) -> Candidate:
    """Return PRUNED with shifted biases, the best by the tune rows.

    Raises:
        ConfigError: the groups are not the classes.
        ModelError: the network has no last bias.
    """
    if not groups_are_classes(task):
        raise ConfigError(
            "bias-shift is for groups that are the classes themselves: name --group class, or another method."
        )
    bias = last_bias(task, task.pruned)
    if bias is None:
        raise ModelError("bias-shift needs a last layer with one bias per class; this network has none.")
    weights, score = shifted(task, task.pruned, bias)
    return Candidate(weights, task.masks, 0.0, score)
