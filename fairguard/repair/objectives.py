"""What training minimises: cross-entropy, the dense model's answers where it is right, the constraint's push.

Knows logits, labels and multipliers; knows nothing of nets, masks or schedules.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from fairguard.repair.cells import FLIP, Measured
from fairguard.repair.constraints import Constraint
from fairguard.repair.neighbours import Neighbours, trust
from fairguard.repair.task import Answers, Task

Penalty = Callable[[Tensor, Tensor], Tensor]
"""An extra term of the loss, from a batch's logits (b, K) and row numbers (b,)."""


class Objective:
    """The loss of a batch, and what watches it.

    ``w[y] CE + distil * [dense is right] * KL(dense, net)``, each row weighted by its groups' multipliers. The
    distillation counts only where dense is right, so that its mistakes are not handed on (focal distillation; the
    perplexed weight of "PW loss", arXiv 2211.10285, keeps the same idea). Where disagreement is gated, dense's
    wrong answers take their labels' place. Dense's answers were computed once, before training.

    Args:
        y: shape (n,), labels of the training rows.
        before: dense's answers to them, for distillation.
        distil: its weight.
        constraint: moves the rows' weights; ``None`` for plain training.
        penalty: an extra term.
        labelled: how many rows, the first ones, have labels to learn; the others learn dense's answers alone.
        label_weights: shape (K,), what a label of each class counts; ``None``: all count alike.
    """

    def __init__(
        self,
        y: Tensor,
        *,
        before: Answers | None = None,
        distil: float = 0.0,
        constraint: Constraint | None = None,
        penalty: Penalty | None = None,
        labelled: int | None = None,
        label_weights: Tensor | None = None,
    ) -> None:
        """Compute the targets of all rows once."""
        self.y, self.constraint, self.penalty, self.label_weights = y, constraint, penalty, label_weights
        self.target: Tensor | None = None
        if before is not None and distil:
            one = F.one_hot(y, before.logits.shape[1]).float()
            if label_weights is not None:
                one = one * label_weights
            if constraint is not None and FLIP in constraint.cells.kinds:
                one = torch.where(before.hits[:, :1] > 0, one, before.logits.softmax(1))
            self.target = one + distil * before.hits[:, :1] * before.logits.softmax(1)
            if labelled is not None:
                self.target[labelled:] = trust(one.shape[1]) * before.logits[labelled:].softmax(1)

    def __call__(self, logits: Tensor, index: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar, up to the entropy of dense's answers, which no weight changes.

        Args:
            logits: shape (b, K).
            index: shape (b,), the rows' numbers among the training rows.
        """
        on_label, on_favourable = self.constraint.weights(index) if self.constraint else (None, None)
        if self.target is None:
            loss = F.cross_entropy(logits, self.y[index], self.label_weights, reduction="none")
            total = (loss if on_label is None else loss * on_label).mean()
        else:
            target = self.target.index_select(0, index) / len(index)
            weighed = target if on_label is None else target * on_label[:, None]
            total = -(weighed * logits.log_softmax(1)).sum()
        if on_favourable is not None and self.constraint is not None:
            total = total + selection_loss(logits, self.constraint.cells.favourable, on_favourable)
        return total if self.penalty is None else total + self.penalty(logits, index)

    def observe(self, logits: Tensor, index: Tensor) -> None:
        """Let the constraint see the answers of a step."""
        if self.constraint is not None:
            self.constraint.observe(index, logits.detach().argmax(1))

    def hear(self, measured: Measured | None) -> None:
        """Let the constraint see what the tune rows show."""
        if self.constraint is not None and measured is not None:
            self.constraint.hear(measured)

    def state(self) -> dict[str, Tensor]:
        """Return all that changes during training."""
        return self.constraint.state() if self.constraint is not None else {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the state of :meth:`state`."""
        if self.constraint is not None:
            self.constraint.restore(state)


def selection_loss(logits: Tensor, favourable: int, push: Tensor) -> Tensor:
    """Return what pushes rows toward the favourable class, or away from it, a mean over rows.

    ``push * -log p`` where it is positive, ``-push * -log(1 - p)`` where it is negative: never below 0. The first with
    a negative push would fall without end as p goes to 0, and everything else with it.

    Args:
        logits: shape (b, K).
        favourable: a class code.
        push: shape (b,).
    """
    chance = logits.log_softmax(1)
    others = torch.cat([chance[:, :favourable], chance[:, favourable + 1 :]], dim=1).logsumexp(1)
    return -(torch.where(push > 0, chance[:, favourable], others) * push.abs()).mean()


def plain(task: Task) -> Objective:
    """Return cross-entropy alone, labels weighted as they seem to have been for dense."""
    return Objective(task.train.y, label_weights=task.label_weights)


def fair(
    task: Task, *, constrained: bool = True, distil: float | None = None, neighbours: Neighbours | None = None
) -> Objective:
    """Return the objective of a repair: distillation where dense is right, under the policy's constraint.

    Where groups are to be equally right dense does not teach: it would hand its own inequality on, and shifted until it
    recalls every class alike it did not pay either (CIFAR-10 and MNIST, rows to train and tune on only).
    """
    options, labelled = task.options, len(task.train) if neighbours else None
    y, cells, before = task.train.y, task.cells[0], task.before[0]
    if neighbours:
        y, cells, before = neighbours.y, neighbours.cells, neighbours.before
    batch = min(options.batch_size, len(task.train))
    constraint = None
    if constrained and cells is not None:
        constraint = Constraint(
            cells,
            before.hits,
            y,
            margin=options.aim * task.margins,
            batch_size=batch,
            steps=len(task.train) // batch,
            pace=options.dual,
            reference=options.reference,
        )
    weight = options.distil if distil is None else distil
    weight = weight if options.reference == "dense" else 0.0
    return Objective(
        y, before=before, distil=weight, constraint=constraint, labelled=labelled, label_weights=task.label_weights
    )
