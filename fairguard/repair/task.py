"""What a method is given: the net, PRUNED's masks, rows to train and to tune on. Never a row to verify on.

Knows nothing of how a method selects or trains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairguard.inputs.nested import mapped
from fairguard.policy import Policy
from fairguard.repair.cells import Cells, Measured, cells_of
from fairguard.repair.constraints import Reference
from fairguard.repair.guards import gave_up_classes
from fairguard.repair.heads import Head, head_for
from fairguard.repair.journal import Journal
from fairguard.repair.label_weights import label_weights
from fairguard.repair.masks import Masks, Weights, read_masks
from fairguard.repair.nets import AT_ONCE, lay_out, need_gradients, outputs, run, without_extra_state
from fairguard.repair.rows import Rows

EQUAL_AIM = 0.25
"""Share of the margin that training aims at where groups are to be equally right: with the usual half, classes stayed
further apart than accuracy asked for (CIFAR-10, rows to train and tune on only)."""
WITHIN = 0.005
"""Where no candidate reaches the accuracy floor, those within so much of the most accurate one are taken to."""


@dataclass(frozen=True)
class Options:
    """How training goes; the defaults are what repair uses.

    Attributes:
        seed: of everything random.
        lr: highest learning rate of AdamW.
        weight_decay: AdamW's.
        batch_size: rows a step.
        distil: weight of the dense model's answers as targets, on rows where dense is right.
        reference: what the constraint compares a group's accuracy with.
        aim: share of the policy's margin that training aims at, so that unseen rows stay within it.
        dual: how fast the constraint's multipliers move, relative to their usual pace; 0: no constraint.
        amp: run the forward pass in bfloat16; never where answers are probabilities, which it rounds to 0 and 1.
        compile: run the net through ``torch.compile``.
        checkpoint_seconds: at most so much work is lost to a kill.
    """

    seed: int = 0
    lr: float = 2e-3
    weight_decay: float = 1e-3
    batch_size: int = 128
    distil: float = 1.0
    reference: Reference = "dense"
    aim: float = 0.5
    dual: float = 1.0
    amp: bool = False
    compile: bool = False
    checkpoint_seconds: float = 20.0


class Trouble(StrEnum):
    """What went wrong in a training that goes on all the same."""

    MEMORY = "out of memory"
    DIVERGED = "diverged"


@dataclass(frozen=True)
class Status:
    """Where a training stands, for whoever watches."""

    stage: str
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """On the tune rows."""
    worst: str
    """The group with the largest excess drop there."""
    excess: float
    multiplier: float
    """The highest one."""
    note: str = ""
    later: float = 0.0
    """Epochs that other stages take after this one, about."""
    trouble: Trouble | None = None

    @property
    def midway(self) -> bool:
        """Return whether the epoch is not over: memory runs out within one."""
        return self.trouble is Trouble.MEMORY


@dataclass(frozen=True, eq=False)
class Answers:
    """A model's answers to all rows of one split: logits of shape (n, K) and the hits of :meth:`Cells.hits`."""

    logits: Tensor
    hits: Tensor


@dataclass(frozen=True)
class Score:
    """How good a candidate is on the tune rows."""

    accuracy: float
    violation: float
    """How far the worst cell's excess drop lies over its tolerance beyond noise; 0: none does."""
    harm: float
    """Share of rows that dense gets right and the candidate gets wrong (``reference="equal"``: wrong answers)."""
    worst: str
    excess: float

    def better_than(self, other: Score | None, floor: float) -> bool:
        """Return whether this candidate is to be kept: the accuracy floor first, then fairness and harmful flips."""
        return other is None or self.key(floor) > other.key(floor)

    def key(self, floor: float) -> tuple[float, float]:
        """Return what candidates are ordered by, the best highest."""
        return min(0.0, self.accuracy - floor), -self.violation - self.harm


@dataclass(frozen=True, eq=False)
class Task:
    """One repair, as a method sees it.

    Attributes:
        net: dense's network on the training device; methods load weights into it as they like.
        head: turns what the net returns into logits of shape (n, K).
        dense: dense's state dict.
        pruned: PRUNED's.
        masks: PRUNED's zeros.
        train: rows to train on.
        tune: rows to choose by.
        cells: constrained cells over ``train`` and over ``tune``.
        before: dense's answers to both.
        margins: shape (C,), tolerated excess drop of each cell.
        floor: tune accuracy below which no candidate is chosen, a fraction.
        epochs: what may be spent, in passes over ``train`` with gradients.
        options: how to train.
        journal: where finished stages are kept.
        tell: called after every epoch.
        later: epochs that the work goes on for after the stage at hand, about, for whoever watches.
        label_weights: shape (K,), what a label of each class counts; ``None``: all count alike.
    """

    net: nn.Module
    head: Head
    dense: Weights
    pruned: Weights
    masks: Masks
    train: Rows
    tune: Rows
    cells: tuple[Cells | None, Cells | None]
    before: tuple[Answers, Answers]
    margins: Tensor
    floor: float
    epochs: float
    options: Options = field(default_factory=Options)
    journal: Journal = field(default_factory=lambda: Journal(None))
    tell: Callable[[Status], None] = lambda status: None
    later: float = 0.0
    label_weights: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Return where training runs."""
        return self.train.y.device

    def reachable(self, highest: float) -> float:
        """Return the accuracy floor, or one just below ``highest``, the best accuracy of all, where that is below it.

        PRUNED has often learned the tune rows by heart, as dense has: then no candidate, which never sees them, reaches
        its accuracy there, and a floor out of reach would let accuracy alone choose.
        """
        return self.floor if highest >= self.floor else highest - WITHIN

    def best_of(self, scores: Sequence[Score]) -> int:
        """Return the place of the best of several scores."""
        floor = self.reachable(max(score.accuracy for score in scores))
        return max(range(len(scores)), key=lambda place: scores[place].key(floor))

    def logits(self, net: Callable[..., Any], x: Any) -> Tensor:
        """Return the net's logits for the rows ``x``, shape (n, K), float32."""
        return self.head(run(net, x)).float()

    def tune_score(self, net: nn.Module) -> Score:
        """Return how good the net is on the tune rows."""
        return self.score(answer(net, self.head, self.tune, self.cells[1]))

    def score_of(self, weights: Weights) -> Score:
        """Return how good a net with these weights is on the tune rows."""
        self.net.load_state_dict(weights)
        return self.tune_score(self.net)

    def score(self, answers: Answers, *, noise: float = 1.0) -> Score:
        """Return how good these answers to the tune rows are. Waits for the device once.

        Args:
            answers: to the tune rows.
            noise: standard errors by which an excess must lie over its tolerance to be a violation.
        """
        measured = self.measure(answers)
        right = answers.hits[:, 0]
        equal = self.options.reference == "equal"
        harm = (1 - right).mean() if equal else (self.before[1].hits[:, 0] * (1 - right)).mean()
        if measured is None or self.cells[1] is None:
            accuracy, lost = torch.stack([right.mean(), harm]).tolist()
            return Score(accuracy, 0.0, lost, "", math.nan)
        over = measured.excess - self.options.aim * self.margins - noise * measured.error
        worst = int(over.argmax())
        numbers = torch.stack([right.mean(), over[worst].clamp_min(0.0), harm, measured.excess[worst]]).tolist()
        return Score(numbers[0], numbers[1], numbers[2], self.cells[1].cells[worst].group, numbers[3])

    def measure(self, answers: Answers) -> Measured | None:
        """Return the excess drops of these answers to the tune rows, or ``None`` without cells."""
        if self.cells[1] is None:
            return None
        before = self.before[1].hits
        return self.cells[1].measure(
            answers.hits, torch.ones_like(before) if self.options.reference == "equal" else before
        )


@dataclass(frozen=True, eq=False)
class Candidate:
    """What a method hands back: whole weights, their masks, what they cost in epochs, and what was tried on the way."""

    weights: Weights
    masks: Masks
    epochs: float
    score: Score
    trials: tuple[dict[str, Any], ...] = ()


def make_task(
    net: nn.Module,
    pruned: Weights,
    train: Rows,
    tune: Rows,
    *,
    columns: Sequence[str],
    levels: Sequence[Sequence[str]],
    policy: Policy,
    epochs: float,
    threshold: float | None = None,
    output_key: str | None = None,
    favourable: int = 1,
    only: Sequence[str] = (),
    masks: Masks | None = None,
    accuracy_floor: float = 0.005,
    options: Options | None = None,
) -> Task:
    """Return the task of repairing ``pruned``.

    Args:
        net: dense's network with dense's weights, on the device to train on.
        pruned: PRUNED's state dict.
        train: rows to train on, on that device.
        tune: rows to choose by.
        columns: names of the sensitive features.
        levels: names of their values.
        policy: what is gated.
        epochs: what may be spent.
        threshold: cut of a single output, where it is not the usual one.
        output_key: which output, where the net returns several.
        favourable: code of the class that is good to receive.
        only: names of the groups to constrain; all where empty.
        masks: what is masked; read off ``pruned`` where not given.
        accuracy_floor: how much tune accuracy may be lost against ``pruned``, or against dense where ``pruned`` gave up
            a class, a fraction.
        options: how to train.

    Raises:
        ModelError: the network cannot be trained, or PRUNED has no mask of its own.
    """
    head = _head_of(without_extra_state(net), train, threshold=threshold, key=output_key)
    dense, pruned = copied(net.state_dict()), copied(pruned, device=train.y.device)
    n_classes = answer(net, head, train.take_first(2), None).logits.shape[1]
    codes, y = train.codes.cpu(), train.y.cpu()
    cells = cells_of(columns, levels, codes, y, n_classes=n_classes, policy=policy, favourable=favourable, only=only)
    over = [Cells.over(cells, rows.codes, rows.y, favourable=favourable) if cells else None for rows in (train, tune)]
    masks = masks or read_masks(net, dense, pruned)  # before its weights are loaded: their shapes may differ
    options = options or Options()
    before = [answer(net, head, rows, part) for rows, part in zip((train, tune), over, strict=True)]
    net.load_state_dict(pruned)
    at_tune = answer(net, head, tune, over[1])
    net.load_state_dict(dense)
    return Task(
        net=net,
        head=head,
        dense=dense,
        pruned=pruned,
        masks=placed(masks, train.y.device),
        train=train,
        tune=tune,
        cells=(over[0], over[1]),
        before=(before[0], before[1]),
        margins=torch.tensor([policy.margin_of(cell.metric) for cell in cells], device=train.y.device),
        floor=_accuracy_to_keep(before[1], at_tune, tune.y, floor=accuracy_floor) - accuracy_floor,
        epochs=epochs,
        options=replace(options, amp=False) if head.probabilities else options,
        label_weights=None if options.reference == "equal" else label_weights(before[0].logits, train.y),
    )


def _head_of(net: nn.Module, train: Rows, *, threshold: float | None, key: str | None) -> Head:
    """Return what makes logits of the net's answers; leave it in eval mode, its weights laid out for training."""
    device, pick = train.y.device, Head(key=key).pick
    net.eval()
    spread = np.linspace(0, len(train) - 1, min(AT_ONCE, len(train))).astype(np.int64)  # rows may be sorted by score
    sample = lay_out(net, train.take(spread).x, ask=lambda net, x: outputs(net, pick, x, device))
    need_gradients(net, pick, mapped(lambda t: t.to(device), train.take_first(2).x))
    return head_for(sample, threshold=threshold, key=key)


def _accuracy_to_keep(dense: Answers, pruned: Answers, y: Tensor, *, floor: float) -> float:
    """Return the accuracy on these rows that is to be kept: PRUNED's, or dense's where PRUNED gave up classes."""
    right = [torch.bincount(y, model.hits[:, 0]).tolist() for model in (dense, pruned)]
    kept = dense if gave_up_classes(torch.bincount(y).tolist(), *right, floor=floor) else pruned
    return float(kept.hits[:, 0].mean())


def answer(net: nn.Module, head: Head, rows: Rows, cells: Cells | None) -> Answers:
    """Return the net's answers to all ``rows``, in eval mode.

    Raises:
        ModelError: not even one row fits into memory.
    """
    was_training = net.training
    net.eval()
    logits = outputs(net, lambda out: head(out).float(), rows.x, rows.y.device)
    net.train(was_training)
    return Answers(logits, hits_of(logits.argmax(1), rows, cells))


def hits_of(chosen: Tensor, rows: Rows, cells: Cells | None) -> Tensor:
    """Return the hits of the classes ``chosen`` (n,) for ``rows``; without cells right and favourable alone, (n, 2)."""
    return cells.hits(chosen, rows.y) if cells else torch.stack([chosen == rows.y, chosen == 1], dim=1).float()


def placed(masks: Masks, device: torch.device) -> Masks:
    """Return the masks on ``device``."""
    return replace(masks, keep={name: keep.to(device) for name, keep in masks.keep.items()})


def copied(weights: Weights, *, device: torch.device | str | None = None) -> Weights:
    """Return a copy that no later step changes, in the usual order of memory; what is no tensor is no weight."""
    return {
        name: tensor.detach().to(device, copy=True).contiguous()
        for name, tensor in weights.items()
        if isinstance(tensor, Tensor)
    }
