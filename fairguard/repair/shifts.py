"""The last layer's biases moved so that classes are recalled alike: the cheapest rung, where groups are classes.

Then the group is what the net predicts, and need not be known. As many numbers change as there are classes. Knows no
method.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairguard.repair.masks import Weights
from fairguard.repair.task import Answers, Score, Task, answer, copied

STEPS = 200
RATE = 0.5
"""Logits by which a recall one below what is wanted moves a bias, at first."""
LOOK = 10
"""Steps between two shifts that are handed back."""
NOISE = 0.5
"""Standard errors of noise that a class is allowed when a shift is chosen: fewer than an epoch gets, because so few
numbers cannot fit themselves to the noise of all tune rows."""


def groups_are_classes(task: Task) -> bool:
    """Return whether some sensitive feature is the label itself."""
    y = task.train.y
    count = len(torch.unique(y))
    for of_group in task.train.codes.T:
        pairs = torch.unique(torch.stack([of_group, y]), dim=1)
        if pairs.shape[1] == count == len(torch.unique(of_group)):
            return True
    return False


def shifts_toward(wanted: Tensor, logits: Tensor, y: Tensor) -> list[Tensor]:
    """Return shifts of the K logits, from none toward recalls that differ as ``wanted`` do.

    Args:
        wanted: shape (K,), recall of every class up to a constant; zeros for equal recall.
        logits: shape (n, K).
        y: shape (n,), class codes.
    """
    classes = logits.shape[1]
    shift = torch.zeros(classes, device=logits.device)
    count = torch.bincount(y, minlength=classes).clamp_min(1)
    seen = torch.bincount(y, minlength=classes) > 0  # nothing says where a class without rows should stand
    wanted = wanted - wanted[seen].mean()
    found = [shift.clone()]
    for step in range(STEPS):
        recall = recalls(logits + shift, y, count)
        shift = shift + RATE / (1 + step / 20) * (recall[seen].mean() + wanted - recall) * seen
        if step % LOOK == LOOK - 1:
            found.append((shift - shift.mean()).clone())
    return found


def recalls(logits: Tensor, y: Tensor, count: Tensor | None = None) -> Tensor:
    """Return the recall of each class, shape (K,), from logits (n, K) and class codes (n,)."""
    classes = logits.shape[1]
    count = torch.bincount(y, minlength=classes).clamp_min(1) if count is None else count
    return torch.bincount(y[logits.argmax(1) == y], minlength=classes) / count


def wanted_recalls(task: Task) -> Tensor:
    """Return what the task's constraint asks of the classes' recalls: dense's own, or equal ones."""
    of_dense = recalls(task.before[1].logits, task.tune.y)
    return torch.zeros_like(of_dense) if task.options.reference == "equal" else of_dense


def shifted(task: Task, weights: Weights, bias: str) -> tuple[Weights, Score]:
    """Return ``weights`` with the last biases moved as the tune rows like best (perhaps not at all), and their score.

    Args:
        task: the tune rows, and what is asked of them.
        weights: a state dict.
        bias: the name of the last biases, from :func:`last_bias`.
    """
    task.net.load_state_dict(weights)
    logits = answer(task.net, task.head, task.tune, task.cells[1]).logits
    best: tuple[Score, Tensor] | None = None
    for shift in shifts_toward(wanted_recalls(task), logits, task.tune.y):
        score = task.score(Answers(logits + shift, task.hits((logits + shift).argmax(1))), noise=NOISE)
        if best is None or score.better_than(best[0], task.floor):
            best = score, shift
    assert best is not None  # noqa: S101 - no shift at all is among them
    moved = weights | {bias: weights[bias] + best[1].to(weights[bias])}
    return moved, task.score_of(moved)


def last_bias(task: Task, weights: Weights) -> str | None:
    """Return the name of the bias that moves the logits one for one, or ``None``."""
    task.net.load_state_dict(weights)
    few = task.tune.take_first(8)
    before = answer(task.net, task.head, few, None).logits
    step = torch.arange(before.shape[1], device=before.device, dtype=before.dtype)
    try:
        for name, parameter in reversed(list(task.net.named_parameters())):
            if parameter.shape == step.shape:
                kept = copied({name: parameter})[name]
                with torch.no_grad():
                    parameter.add_(step)
                    moved = answer(task.net, task.head, few, None).logits
                    parameter.copy_(kept)
                if torch.allclose(moved - before, step.expand_as(before), atol=1e-3):
                    return name
    finally:
        task.net.load_state_dict(weights)
    return None
