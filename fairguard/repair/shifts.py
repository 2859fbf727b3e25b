"""The last layer's biases moved so that classes are recalled alike: the cheapest rung, where groups are classes.

Then the group is what the net predicts, and need not be known. As many numbers change as there are classes. Knows no
method.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fairguard.repair.masks import Weights
from fairguard.repair.task import Answers, Score, Task, answer, copied, hits_of
from fairguard.repair.translations import bears_moving, with_moved_images

STEPS = 200
RATE = 0.5
"""Logits by which a recall one below what is wanted moves a bias, at first."""
SMOOTH_RATE = 2.0
"""The same where recalls are smoothed, in widths of the smoothing."""
WIDTH = 1.0
"""Width of the smoothing, in standard deviations of the margin. A counted recall of few rows is mostly noise: moved
by smoothed ones, unseen classes come out more alike (simulated in ``tests/test_repair_ballot.py``)."""
WIDTH_OF_MANY = 0.5
"""The same where moved images count too: of so many a counted recall is less noise."""
NOISE = 0.5
"""Standard errors of noise that a class is allowed against dense when a shift is chosen: fewer than an epoch gets,
because so few numbers cannot fit themselves to the noise of all tune rows."""


def groups_are_classes(task: Task) -> bool:
    """Return whether some sensitive feature is the label itself."""
    y = task.train.y
    count = len(torch.unique(y))
    for of_group in task.train.codes.T:
        pairs = torch.unique(torch.stack([of_group, y]), dim=1)
        if pairs.shape[1] == count == len(torch.unique(of_group)):
            return True
    return False


def shifts_toward(wanted: Tensor, logits: Tensor, y: Tensor, *, width: float = 0.0, look: int = 10) -> list[Tensor]:
    """Return shifts of the K logits, from none toward recalls that differ as ``wanted`` do.

    Args:
        wanted: shape (K,), recall of every class up to a constant; zeros for equal recall.
        logits: shape (n, K).
        y: shape (n,), class codes.
        width: of the smoothing of recalls, in standard deviations of the margin; 0 counts right answers.
        look: steps between two shifts that are handed back.
    """
    classes = logits.shape[1]
    shift = torch.zeros(classes, device=logits.device)
    count = torch.bincount(y, minlength=classes)
    seen = count > 0  # nothing says where a class without rows should stand
    wanted = wanted - wanted[seen].mean()
    scale = width * float(margins(logits, y).std()) if width else 0.0
    rate, slower = (SMOOTH_RATE * scale, 40) if scale else (RATE, 20)
    found = [shift.clone()]
    for step in range(STEPS):
        recall = recalls(logits + shift, y, scale)
        shift = shift + rate / (1 + step / slower) * (recall[seen].mean() + wanted - recall) * seen
        if step % look == look - 1:
            found.append((shift - shift.mean()).clone())
    return found


def margins(logits: Tensor, y: Tensor) -> Tensor:
    """Return by how much each row's own logit exceeds the highest other one, shape (n,)."""
    own = y[:, None]
    return logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)


def recalls(logits: Tensor, y: Tensor, scale: float = 0.0) -> Tensor:
    """Return the recall of each class, shape (K,), from logits (n, K) and class codes (n,).

    With a ``scale``, in logits, a row counts by the logistic function of its margin over it instead of by 0 or 1: a
    kernel estimate of the same share, which varies less from sample to sample.
    """
    classes = logits.shape[1]
    count = torch.bincount(y, minlength=classes).clamp_min(1)
    if not scale:
        return torch.bincount(y[logits.argmax(1) == y], minlength=classes) / count
    right = torch.sigmoid(margins(logits, y) / scale)
    return torch.zeros(classes, device=y.device).index_add_(0, y, right) / count


def shifted(task: Task, weights: Weights, bias: str) -> tuple[Weights, Score]:
    """Return ``weights`` with the last biases moved as the tune rows like best (perhaps not at all), and their score.

    Where a net with these weights bears its images moved, those are asked instead, of the rows to train on too.

    Args:
        task: the tune rows, and what is asked of them.
        weights: a state dict.
        bias: the name of the last biases, from :func:`last_bias`.
    """
    task.net.load_state_dict(weights)
    by, logits, width = task, answer(task.net, task.head, task.tune, None).logits, WIDTH
    if bears_moving(task, weights):
        (by, logits), width = with_moved_images(task, weights), WIDTH_OF_MANY
    y = by.tune.y
    if task.options.reference == "equal":
        shifts = shifts_toward(torch.zeros_like(logits[0]), logits, y, width=width, look=1)
        scale = width * float(margins(logits, y).std())
        scores = [_equality(by, logits + shift, scale) for shift in shifts]
    else:  # counted: both models answer the same rows and agree on most, which leaves little noise
        shifts = shifts_toward(recalls(by.before[1].logits, y), logits, y)
        scores = [_closeness(by, logits + shift) for shift in shifts]
    best = shifts[by.best_of(scores)]
    moved = weights | {bias: weights[bias] + best.to(weights[bias])}
    return moved, task.score_of(moved)


def _equality(task: Task, logits: Tensor, scale: float) -> Score:
    """Return how equally right these answers are: how few are wrong.

    A violation is what the last class's smoothed recall is further behind than training aims at.
    """
    y = task.tune.y
    accuracy = float((logits.argmax(1) == y).float().mean())
    tolerance = task.options.aim * float(task.margins.min()) if len(task.margins) else 0.0
    behind = _furthest_behind(recalls(logits, y, scale), y)
    return Score(accuracy, max(0.0, behind - tolerance), 1.0 - accuracy, "", behind)


def _closeness(task: Task, logits: Tensor) -> Score:
    """Return how closely these answers keep to dense's, class by class."""
    hits = hits_of(logits.argmax(1), task.tune, task.cells[1])
    return task.score(Answers(logits, hits), noise=NOISE)


def _furthest_behind(recall: Tensor, y: Tensor) -> float:
    """Return how far the last class's recall, of shape (K,), lies behind the mean of the other rows' (y of shape n)."""
    count = torch.bincount(y, minlength=len(recall)).float()
    rest = ((recall * count).sum() - recall * count) / (count.sum() - count).clamp_min(1.0)
    return float((rest - recall)[count > 0].max())


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
