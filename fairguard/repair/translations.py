"""Images moved a little: what a net that has learned the images themselves by heart has not seen as such.

Rows to train and to tune on were often dense's own training rows. There it is right for having seen them, and so is
PRUNED, while no candidate is as much: what classes lose against dense cannot be told from what it remembers. Moved by a
few pixels an image keeps its label and loses much of that memory: accuracy on it is closer to that on unseen rows (the
idea of Aithal et al., "Robustness to Augmentations as a Generalization Metric", arXiv 2101.06459), and so is the
difference of two nets, class by class. Rows to train on count too then, which are many more. Knows no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairguard.inputs.nested import leaves, mapped
from fairguard.repair.cells import Cells
from fairguard.repair.masks import Weights
from fairguard.repair.rows import Rows
from fairguard.repair.task import Answers, Task, answer, hits_of

SHARE = 1 / 32
"""How far an image is moved at most, in each direction, as a share of its side. Twice as far tells no more, and costs
nets that know where a face is their accuracy."""
SMALLEST = 16
"""Pixels of a side from which on an image is one: moved by a pixel, a smaller one is another picture."""
BEARABLE = 0.1
"""Share of its right answers that moving may cost a net. What costs more is another picture: faces that all look out of
the same place lose a quarter, CIFAR-10 3 to 4 %."""
MOST_MOVED = 20_000
"""Images that are moved at most: more would tell recalls no better than these do."""
AT_ONCE = 1024
"""Images that are moved and answered at a time."""


def sees_images(net: nn.Module, x: Any) -> bool:
    """Return whether ``x`` is images and ``net`` convolves them: to other nets, moved pixels are other features."""
    return any(is_images(t) for t in leaves(x)) and any(p.dim() == 4 for p in net.parameters())


def is_images(t: Tensor) -> bool:
    """Return whether a tensor has the shape (n, channels, height, width) of images that are large enough to move."""
    return t.dim() == 4 and t.is_floating_point() and min(t.shape[2:]) >= SMALLEST


def bears_moving(task: Task, weights: Weights) -> bool:
    """Return whether the rows to tune on are images that a net with these weights answers nearly as well when moved."""
    if not sees_images(task.net, task.tune.x):
        return False
    as_they_are, moved = (
        float((_logits(task, [(task.tune, m)], weights).argmax(1) == task.tune.y).float().mean()) for m in (False, True)
    )
    return as_they_are - moved <= BEARABLE * as_they_are


def with_moved_images(task: Task, weights: Weights) -> tuple[Task, Tensor]:
    """Return the task with many more images to choose by, and the net's logits for them.

    They are the rows to tune and to train on, moved. Where groups are to be equally right, so that what dense remembers
    does not matter, the rows to tune on count as they are too. So many need no tolerance: what is aimed at is none.
    """
    equal = task.options.reference == "equal"
    few = _some(task.tune, MOST_MOVED, task.options.seed)
    more = _some(task.train, MOST_MOVED - len(few), task.options.seed)
    parts = [(few, False)] * equal + [(few, True), (more, True)]
    dense, pruned, own = (_logits(task, parts, w) for w in (task.dense, task.pruned, weights))
    y, codes = (torch.cat([getattr(rows, name) for rows, _ in parts]) for name in ("y", "codes"))
    ids = np.concatenate([rows.ids for rows, _ in parts])
    rows = Rows(None, y, codes, ids)  # answers to them are all that is needed
    known = task.cells[1]
    cells = None if known is None else Cells.over(known.cells, rows.codes, rows.y, favourable=known.favourable)
    before = Answers(dense, hits_of(dense.argmax(1), rows, cells))
    kept = _logits(task, [(task.tune, False)], task.pruned).argmax(1) == task.tune.y
    allowed = float(kept.float().mean()) - task.floor
    many = replace(
        task,
        tune=rows,
        cells=(task.cells[0], cells),
        before=(task.before[0], before),
        floor=float((pruned.argmax(1) == rows.y).float().mean()) - allowed,
        options=replace(task.options, aim=0.0),
    )
    return many, own


def _some(rows: Rows, most: int, seed: int) -> Rows:
    """Return at most so many rows, drawn at random: a file may be in the order of its classes."""
    if len(rows) <= most:
        return rows
    return rows.take(np.sort(np.random.default_rng(seed).permutation(len(rows))[:most]))


def _logits(task: Task, parts: Sequence[tuple[Rows, bool]], weights: Weights) -> Tensor:
    """Return the logits of a net with these weights for all parts; the images of some are moved when they are due."""
    task.net.load_state_dict(weights)
    found = []
    for rows, moved in parts:
        for place in range(0, len(rows), AT_ONCE):
            some = rows.take(np.arange(place, min(place + AT_ONCE, len(rows))))
            x = translated(some.x, seed=task.options.seed + place) if moved else some.x
            found.append(answer(task.net, task.head, replace(some, x=x), None).logits)
    return torch.cat(found)


def translated(x: Any, *, seed: int) -> Any:
    """Return ``x`` with each image moved by some pixels, its borders repeated; what is no image stays as it is.

    Args:
        x: what a model takes: a tensor of shape (n, channels, height, width), or a dict or tuple with such.
        seed: of the directions.
    """
    return mapped(lambda t: _moved(t, seed) if is_images(t) else t, x)


def _moved(images: Tensor, seed: int) -> Tensor:
    height, width = images.shape[2:]
    down, right = (max(1, round(SHARE * side)) for side in (height, width))
    steps = torch.cartesian_prod(torch.arange(-down, down + 1), torch.arange(-right, right + 1))
    steps = steps[steps.abs().sum(1) > 0]  # an image that stays is not moved
    chosen = torch.randint(len(steps), (len(images),), generator=torch.Generator().manual_seed(seed))
    chosen = chosen.to(images.device)
    out = torch.empty_like(images)
    for place, (by_rows, by_columns) in enumerate(steps.tolist()):
        rows = (torch.arange(height, device=images.device) + by_rows).clamp(0, height - 1)
        columns = (torch.arange(width, device=images.device) + by_columns).clamp(0, width - 1)
        here = (chosen == place).nonzero()[:, 0]
        out[here] = images[here][:, :, rows][..., columns]
    return out
