"""``bias-shift``: PRUNED with its last layer's biases moved toward equal class recall. The control of every other row.

Post-hoc, on the tune rows, and only where the groups are the classes: then the group is what the net predicts and needs
not be known. It changes as many numbers as there are classes; whatever claims to be fairer must beat a model with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairguard.errors import ConfigError, ModelError
from fairguard.repair.task import Candidate, Task, answer, copied

STEPS = 200
RATE = 0.5
"""Logits by which a recall one below the mean moves a bias, at first."""


def select_and_train(task: Task) -> Candidate:
    """Return PRUNED with shifted biases, the best by the tune rows."""
    _need_classes(task)
    task.net.load_state_dict(task.pruned)
    logits = answer(task.net, task.head, task.tune, task.cells[1]).logits
    shifts = toward_equal_recall(logits, task.tune.y)
    bias = last_bias(task, logits.shape[1])
    start = copied(task.pruned)
    best: Candidate | None = None
    for shift in shifts:
        weights = start | {bias: start[bias] + shift.to(start[bias])}
        candidate = Candidate(weights, task.masks, 0.0, task.score_of(weights))
        if best is None or candidate.score.better_than(best.score, task.floor):
            best = candidate
    assert best is not None  # noqa: S101 - no shift at all is among them
    return best


def toward_equal_recall(logits: Tensor, y: Tensor) -> list[Tensor]:
    """Return shifts of the K logits, shape (K,) each, from none toward equal recall of all classes."""
    classes = logits.shape[1]
    shift = torch.zeros(classes, device=logits.device)
    count = torch.bincount(y, minlength=classes).clamp_min(1)
    found = [shift.clone()]
    for step in range(STEPS):
        right = (logits + shift).argmax(1) == y
        recall = torch.bincount(y[right], minlength=classes) / count
        shift = shift + RATE / (1 + step / 20) * (recall.mean() - recall)
        if step % 10 == 9:
            found.append((shift - shift.mean()).clone())
    return found


def last_bias(task: Task, classes: int) -> str:
    """Return the name of the bias that moves the logits one for one.

    Raises:
        ModelError: there is none.
    """
    few = task.tune.take_first(8)
    before = answer(task.net, task.head, few, None).logits
    step = torch.arange(classes, device=before.device, dtype=before.dtype)
    for name, parameter in reversed(list(task.net.named_parameters())):
        if parameter.shape == (classes,):
            with torch.no_grad():
                parameter.add_(step)
            moved = answer(task.net, task.head, few, None).logits
            task.net.load_state_dict(task.pruned)
            if torch.allclose(moved - before, step.expand_as(before), atol=1e-3):
                return name
    raise ModelError("bias-shift needs a last layer with one bias per class; this network has none.")


def _need_classes(task: Task) -> None:
    groups = task.train.codes
    for column in range(groups.shape[1]):
        of_group = groups[:, column]
        pairs = torch.unique(torch.stack([of_group, task.train.y]), dim=1)
        if pairs.shape[1] == len(torch.unique(task.train.y)) == len(torch.unique(of_group)):
            return
    raise ConfigError(
        "bias-shift is for groups that are the classes themselves: name --group class, or another method."
    )
