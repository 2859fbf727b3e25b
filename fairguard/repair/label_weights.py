"""What a label of each class was worth when dense was trained, read off its answers to its training rows.

Where classes are rare, nets are often trained on weighted labels, on rows drawn evenly from the classes, or cut at
another threshold. Labels that count alike would teach FAIR to decide otherwise than dense, for some groups more than
for others. Knows logits and labels; knows nothing of nets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fairguard.report.wording import percent

EVIDENT = 0.03
"""Share of the rows that dense must give to the classes whose labels seem to count more, beyond those that are theirs,
both in its probabilities and in its decisions. Nets that were stopped early or smooth their labels reach it in one of
the two at most (tables, tweets and images, rows to develop on)."""
APART = 1.5
"""How many times as much the labels of one class must seem to count as those of another."""
FEWEST = 20
"""Rows that each of two classes must have: what dense gives to a few labels says nothing of all of them."""
FOREIGN = 0.05
"""By how much more often dense must be right on rows that it never saw, for those to train on to be strange to it."""
AT_ONCE = 65_536
"""Rows whose probabilities are held at a time."""
POWERS = 20
"""Steps in which the power of a class's frequency is looked for, from 0 to 1."""


def label_weights(logits: Tensor, y: Tensor) -> Tensor | None:
    """Return what a label of each class counts, shape (K,), 1 in the mean over rows; ``None`` where all count alike.

    Training on ``sum_i w[y_i] CE_i`` ends, by the gradient of the last biases, where ``sum_i w[y_i] (p_i[c] - [y_i =
    c]) = 0`` for every class. With T[k, c] the mean of ``p[c]`` over the rows of class k, and u[k] the share of rows
    that class k has when they are weighted, this is ``u T = u``: dense takes as many rows from a class as it gives.
    Two classes have one solution. More have weights that are powers of their frequencies here: each is confused with
    each other one too rarely to tell a weight of its own (for CIFAR-10, learned unweighted, it would be 0.06 to 6).

    Args:
        logits: shape (n, K), dense's answers to the rows it was trained on, cut where the check cuts them.
        y: shape (n,), class codes.
    """
    device = logits.device
    logits, y = logits.cpu(), y.cpu()  # a GPU adds up in another order every time, and training would end elsewhere
    classes = logits.shape[1]
    count = torch.bincount(y, minlength=classes)
    share, here = count.to(logits) / len(y), count > 0
    if int(here.sum()) < 2 or (classes == 2 and int(count.min()) < FEWEST):
        return None
    taken = torch.zeros(classes, classes)
    for first in range(0, len(y), AT_ONCE):
        taken.index_add_(0, y[first : first + AT_ONCE], logits[first : first + AT_ONCE].softmax(1))
    given = taken.sum(0) / len(y)
    taken /= count[:, None].clamp_min(1)
    found = _balance(share, taken) if classes == 2 else _power_of(share, here, taken)
    found = torch.where(here, found, found[here].mean())
    found = found / (found * share).sum()
    decided = torch.bincount(logits.argmax(1), minlength=classes).to(share) / len(y)
    more = found > 1
    evident = min(float((part - share)[more].sum()) for part in (given, decided))
    apart = float(found[here].max() / found[here].min())
    return found.to(device) if evident > EVIDENT and apart > APART else None


def _balance(share: Tensor, taken: Tensor) -> Tensor:
    """Return the weights under which each of two classes takes as much from the other as it gives."""
    return torch.stack([taken[1, 0], taken[0, 1]]).clamp_min(torch.finfo(taken.dtype).tiny) / share


def _power_of(share: Tensor, here: Tensor, taken: Tensor) -> Tensor:
    """Return the weights ``share ** -power`` that leave the classes' exchange of rows closest to even."""

    def uneven(weights: Tensor) -> float:
        weighted = share * weights / (share * weights).sum()
        return float((weighted @ taken - weighted).abs().sum())

    safe = torch.where(here, share, 1.0)
    return min((safe ** (-step / POWERS) for step in range(POWERS + 1)), key=uneven)


def label_notes(weights: Tensor | None, classes: Sequence[str]) -> list[str]:
    """Return a sentence on what labels of the K named classes count, if they do not count alike."""
    if weights is None:
        return []
    most, least = int(weights.argmax()), int(weights.argmin())
    times = float(weights[most] / weights[least])
    return [
        f"dense decides as if a label of {classes[most]} counted {times:.1f} times one of {classes[least]} (class "
        "weights, rows drawn evenly, another threshold): it counts as much in training"
    ]


def foreign_notes(taught: tuple[float, int], unseen: tuple[float, int]) -> list[str]:
    """Return a sentence if dense does not know the rows to train on: it is right far less often than on unseen ones.

    What it gets wrong then says nothing of what labels counted when it was trained.

    Args:
        taught: share of the rows to train on that dense gets right, and how many they are.
        unseen: the same of the rows to verify on.
    """
    noise = sum(share * (1 - share) / n for share, n in (taught, unseen)) ** 0.5
    if not unseen[0] - taught[0] > max(FOREIGN, 4 * noise):
        return []
    return [
        f"dense is right on {percent(taught[0])} of the rows to train on and on {percent(unseen[0])} of those to "
        "verify on: the former are not as dense knows them (a loader that crops or normalises otherwise?), so what is "
        "learned there, of labels too, may not hold"
    ]
