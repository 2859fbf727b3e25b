"""Rows beside the training rows, and what dense answers to them: dense's function, not only what it learned by heart.

FAIR is judged against dense on rows that neither saw. On the training rows dense's answers are the labels, more or
less; what it does elsewhere it tells where it is asked: each training row is changed a little, and dense's answer to
the change is a target, with no label beside it. Matching a teacher's function instead of its answers to the training
rows is Beyer et al., "Knowledge distillation: A good teacher is patient and consistent" (CVPR 2022, arXiv 2106.05237);
changing a row of a table by another row's values is Yoon et al., "VIME" (NeurIPS 2020). Knows no method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fairguard.inputs.nested import leaves, mapped
from fairguard.repair.cells import Cells
from fairguard.repair.rows import fits, joined
from fairguard.repair.task import Answers, Task, answer

TAKEN = 0.15
"""Share of a row's entries that another row's stand for. Twice as many did as well, and so did normal noise, which may
leave what a column can hold (this and what follows: chosen on rows that benchmarks/repair.md does not report on)."""
TRUST, TRUST_OF_MANY = 10.0, 3.0
"""Weight of dense's answer to a neighbour, where a label's is one, with two classes and with more: with 7 to 14 classes
(digits; other columns of Adult and bank as labels) 10 cost up to a point of accuracy against 3."""
AT_ONCE = 65_536
"""Rows changed at a time: random numbers for all at once would take as much memory as they."""
DIMENSIONS = 2
"""Of features that are changed: tables and tokens (n, F). Images, whether mixed, moved or noisy, were not repaired any
fairer with neighbours: CIFAR-10 less accurate, faces at 80 % with fewer flips, at 98 % with more."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The n training rows and after them a neighbour of each, numbers n to 2n - 1.

    Attributes:
        x: features of both, as the net takes them.
        y: shape (2n,), a neighbour's label is that of its row.
        cells: constrained cells over both; a neighbour is in its row's.
        before: dense's answers to both.
    """

    x: Any
    y: Tensor
    cells: Cells | None
    before: Answers


def neighbours_of(task: Task) -> Neighbours | None:
    """Return the training rows with their neighbours; ``None`` where a row's features are no list of entries."""
    rows, cells = task.train, task.cells[0]
    if not is_list(rows.x):
        return None
    generator = torch.Generator().manual_seed(task.options.seed)
    x = rows.x if fits(rows.x, next(leaves(rows.x)).device, copies=3) else mapped(Tensor.cpu, rows.x)
    beside = replace(rows, x=Changes(generator)(x))
    task.net.load_state_dict(task.dense)
    answers = [task.before[0], answer(task.net, task.head, beside, cells)]
    return Neighbours(
        joined([x, beside.x]),
        rows.y.repeat(2),
        cells.twice(len(rows)) if cells else None,
        Answers(torch.cat([a.logits for a in answers]), torch.cat([a.hits for a in answers])),
    )


def is_list(x: Any) -> bool:
    """Return whether each row's features are lists of entries, as of tables and tokens."""
    return all(t.dim() == DIMENSIONS for t in leaves(x))


def trust(n_classes: int) -> float:
    """Return the weight of dense's answer to a neighbour, where a label's is one."""
    return TRUST if n_classes == 2 else TRUST_OF_MANY


class Changes:
    """Changes the features of rows, tables (n, F) all: some entries become another row's, drawn anew for every row.

    A flag, a code or an amount stays one that its column holds, however the net reads it. Tensors of one width are
    changed alike, as tokens and their mask have to be.
    """

    def __init__(self, generator: torch.Generator) -> None:
        """Start without a draw."""
        self._generator = generator
        self._drawn: dict[torch.Size, tuple[list[Tensor], list[Tensor]]] = {}

    def __call__(self, x: Any) -> Any:
        """Return ``x``, a tensor or what is made of tensors, with all of them changed."""
        return mapped(self._changed, x)

    def _changed(self, x: Tensor) -> Tensor:
        if x.shape not in self._drawn:
            self._drawn[x.shape] = self._draw(x.shape)
        draws = zip(*self._drawn[x.shape], torch.split(x, AT_ONCE), strict=True)
        return torch.cat([torch.where(t.to(x.device), x[other.to(x.device)], part) for t, other, part in draws])

    def _draw(self, shape: torch.Size) -> tuple[list[Tensor], list[Tensor]]:
        """Return for each part of the rows which entries are taken, and from which rows."""
        parts = torch.split(torch.arange(shape[0]), AT_ONCE)
        taken = [torch.rand((len(part), *shape[1:]), generator=self._generator) < TAKEN for part in parts]
        return taken, list(torch.split(torch.randperm(shape[0], generator=self._generator), AT_ONCE))
