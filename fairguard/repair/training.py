"""The one training loop, used by every method. Read :func:`train` top to bottom.

Every step: forward, loss, backward, optimiser, mask. Every epoch: a look at the tune rows, the best candidate kept, and
on stagnation or divergence back to it at half the rate. A killed training goes on from its last checkpoint to the same
weights, bit for bit on a CPU. Knows nothing of how masks are chosen or what the objective is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.nested import leaves, mapped
from fairguard.repair.averaging import Average
from fairguard.repair.checkpointing import Run, Saver
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.neighbours import Neighbours
from fairguard.repair.nets import fewest_rows, no_room, refresh_batch_norm, trainable
from fairguard.repair.objectives import Objective
from fairguard.repair.rows import fetched, shuffled
from fairguard.repair.task import Score, Status, Task, Trouble, answer, copied

WARM_UP = 0.05
"""Share of the steps in which the rate rises; then it falls as a cosine."""
PATIENCE = 0.2
"""Share of the epochs without a better candidate after which training rewinds to the best one."""
AVERAGED = 0.04
"""Share of a training that a mean of weights looks back, where candidates are means."""
FAILURES = 3
"""Divergences after which training gives up."""
DIVERGED = 10.0
"""A mean loss so many times the first epoch's is divergence, as nan is."""

BeforeEpoch = Callable[[int, nn.Module], Masks | None]
"""Called with the epoch's number; may change weights, and may return the masks to enforce from now on."""


class DivergedError(FairguardError):
    """Training gave nan three times, at lower and lower rates."""


@dataclass(frozen=True, eq=False)
class Trained:
    """The best candidate of a training and how it went."""

    weights: Weights
    score: Score
    history: tuple[dict[str, Any], ...]


def train(
    task: Task,
    name: str,
    *,
    objective: Objective,
    epochs: int,
    start: Weights,
    masks: Masks | None,
    groups: Callable[[nn.Module], list[dict[str, Any]]] | None = None,
    before_epoch: BeforeEpoch | None = None,
    after_backward: Callable[[nn.Module], None] = lambda net: None,
    after_step: Callable[[], None] = lambda: None,
    keep_from: int = 0,
    averaged: bool = False,
    mixing: float = 0.0,
    neighbours: Neighbours | None = None,
) -> Trained:
    """Return the best candidate of ``epochs`` passes over the training rows.

    Args:
        task: net, rows and options.
        name: the stage's name in the journal.
        objective: the loss, and the constraint that watches the answers.
        epochs: passes over the training rows.
        start: weights to begin with.
        masks: enforced after every step; ``None`` for none.
        groups: the optimiser's parameter groups, where they are not simply all weights.
        before_epoch: for methods whose masks move during training.
        after_backward: for methods that correct the gradients.
        after_step: for methods that correct the weights.
        keep_from: first epoch whose candidate may be chosen (masks still moving before it).
        averaged: candidates are running means of the weights, not the weights of one step.
        mixing: parameter of mixup, where rows are numbers; 0: rows are not mixed.
        neighbours: of the training rows, which then stand for half of them in every batch; the objective knows them.

    Raises:
        DivergedError: nan or an exploding loss three times.
        ModelError: not even the fewest rows that the net takes fit into memory.
    """
    net, options = task.net, task.options
    batch = min(options.batch_size, len(task.train))
    net.load_state_dict(start)
    enforce = masks.enforcer(net) if masks else lambda: None
    enforce()
    torch.manual_seed(options.seed)
    optimiser = _optimiser(groups, task)
    run = Run(micro=batch, best_weights=copied(net.state_dict()))
    steps = _Steps(task, name, objective, run, epochs, batch, mixing, neighbours)
    average = Average(net, max(1, round(AVERAGED * epochs * steps.an_epoch)) if averaged else 0)
    saver = Saver(task, f"{name}.running", run, net, optimiser, objective, average)
    saver.resume()
    while run.epoch < epochs:
        if before_epoch is not None and run.step == 0 and (moved := before_epoch(run.epoch, net)) is not None:
            run.keep = moved.keep
            Masks(run.keep, {}).enforcer(net)()
            average.restart()  # a mean over other masks would be less sparse
        if run.keep:
            enforce = Masks(run.keep, {}).enforcer(net)
        net.train()
        run.loss = torch.zeros((), device=task.device) if run.loss is None else run.loss
        for index, x in steps.left():
            _set_rate(optimiser, run.rate * _schedule(steps.done))
            optimiser.zero_grad(set_to_none=True)
            run.loss = run.loss + steps.gradients(index, x)
            after_backward(net)
            optimiser.step()
            enforce()
            after_step()
            average.update()
            run.step += 1
            saver.save_when_due()
        with average.applied():
            back = steps.look(keep_from=keep_from)
        if back:
            net.load_state_dict(run.best_weights)
            run.keep = run.best_keep or run.keep  # the masks that it was found with: later ones would empty it
            average.restart()
            optimiser = saver.optimiser = _optimiser(groups, task)
        saver.save_when_due()
    net.load_state_dict(run.best_weights)
    refresh_batch_norm(net, task.train, seed=options.seed)
    return Trained(copied(net.state_dict()), task.tune_score(net), tuple(run.history))


@dataclass(eq=False)
class _Steps:
    """One training's steps and looks: what they all need, so that each says only what is its own.

    Attributes:
        task: net, rows and options.
        name: the stage's.
        objective: the loss, and the constraint that watches the answers.
        run: where the training stands.
        epochs: passes over the training rows.
        batch: rows a step.
        mixing: parameter of mixup; 0: rows are not mixed.
        neighbours: of the training rows, or ``None``.
    """

    task: Task
    name: str
    objective: Objective
    run: Run
    epochs: int
    batch: int
    mixing: float
    neighbours: Neighbours | None

    def __post_init__(self) -> None:
        """Take the net as the options want it, compiled or not."""
        self.forward: Callable[..., Any] = torch.compile(self.task.net) if self.task.options.compile else self.task.net

    @property
    def an_epoch(self) -> int:
        """Return the steps of one pass over the training rows."""
        return len(self.task.train) // self.batch

    @property
    def done(self) -> float:
        """Return the share of all steps that are done."""
        return (self.run.epoch * self.an_epoch + self.run.step) / (self.epochs * self.an_epoch)

    def left(self) -> Iterator[tuple[Tensor, Any]]:
        """Return the row numbers and features of the batches that are left of the epoch."""
        task, beside = self.task, self.neighbours is not None
        order = shuffled(len(task.train), self.batch, seed=task.options.seed, epoch=self.run.epoch, beside=beside)
        return fetched((self.neighbours or task.train).x, order[self.run.step :], task.device)

    def gradients(self, index: Tensor, x: Any) -> Tensor:
        """Leave the batch's gradients in the weights and return its loss; out of memory, in ever smaller pieces."""
        task, run = self.task, self.run
        while True:
            with suppress(torch.OutOfMemoryError):
                loss, out = self._in_pieces(index, x)
                self.objective.observe(out, index)
                return loss
            # Here and not where it was caught: the exception holds on to what did not fit.
            task.net.zero_grad(set_to_none=True)
            if run.micro <= (least := fewest_rows(task.net)):
                raise ModelError(no_room(least))
            run.micro = max((run.micro + 1) // 2, least)
            if task.device.type == "cuda":
                torch.cuda.empty_cache()
            note = f"out of memory: {run.micro} rows at a time now"
            task.tell(_status(task, "memory", run, run.epoch, note, trouble=Trouble.MEMORY))

    def _in_pieces(self, index: Tensor, x: Any) -> tuple[Tensor, Tensor]:
        """Leave the batch's gradients in the weights; return its loss, a scalar, and the net's logits, shape (b, K)."""
        task, micro = self.task, self.run.micro
        total, answers = torch.zeros((), device=task.device), []
        size = len(index)
        pieces = 1 if micro >= size else max(1, min(math.ceil(size / micro), size // fewest_rows(task.net)))
        for i in range(pieces):  # as equal as can be: a last one of a single row would be too few for batch norm
            piece = slice(size * i // pieces, size * (i + 1) // pieces)
            taken = x if pieces == 1 else mapped(itemgetter(piece), x)
            share = self._share()
            if share < 1.0:
                taken = _mixed(taken, share)
            with torch.autocast(task.device.type, torch.bfloat16, enabled=task.options.amp):
                out = task.logits(self.forward, taken)
            loss = self.objective(out, index[piece])
            if share < 1.0:
                loss = share * loss + (1 - share) * self.objective(out, index[piece].roll(1))
            loss = loss * ((piece.stop - piece.start) / size)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            answers.append(out.detach())
        return total, answers[0] if pieces == 1 else torch.cat(answers)

    def _share(self) -> float:
        """Return a row's share in its mixture with another (mixup), at least half, by seed, epoch and step alone."""
        task, run = self.task, self.run
        if not self.mixing or not all(t.is_floating_point() for t in leaves(task.train.x)):
            return 1.0
        drawn = float(np.random.default_rng((task.options.seed, run.epoch, run.step)).beta(self.mixing, self.mixing))
        return max(drawn, 1.0 - drawn)

    def look(self, *, keep_from: int) -> bool:
        """Judge the epoch on the tune rows and move on to the next; return whether to rewind to the best candidate."""
        task, run, objective, epochs = self.task, self.run, self.objective, self.epochs
        # The epoch's one wait for the device.
        loss = float(run.loss) / self.an_epoch if run.loss is not None else math.nan
        score = None
        diverged = not math.isfinite(loss) or loss > DIVERGED * max(run.first_loss, 1.0)
        if not diverged:
            run.first_loss = loss if math.isnan(run.first_loss) else run.first_loss
            answers = answer(task.net, task.head, task.tune, task.cells[1])
            score = task.score(answers)
            objective.hear(task.measure(answers))
        self._keep(score if run.epoch >= keep_from else None)
        run.history.append({"epoch": run.epoch, "loss": loss, "rate": run.rate} | (asdict(score) if score else {}))
        run.epoch, run.step, run.loss = run.epoch + 1, 0, None
        note = ""
        if diverged:
            note = "diverged: back to the best candidate, at half the rate"
            self._count_failure()
        rewind = diverged or (run.best is not None and run.stale > max(2.0, PATIENCE * epochs) and run.epoch < epochs)
        if rewind:
            run.rate, run.stale = run.rate / 2, 0
            note = note or "no better candidate for a while: back to the best one, at half the rate"
        trouble = Trouble.DIVERGED if diverged else None
        how = _status(task, self.name, run, epochs, note, loss=loss, score=score, objective=objective, trouble=trouble)
        task.tell(how)
        return rewind

    def _keep(self, score: Score | None) -> None:
        """Keep the candidate of this score if it is the best so far; ``None``: it cannot be chosen."""
        run = self.run
        if score is not None:
            run.highest = max(run.highest, score.accuracy)
            if score.better_than(run.best, self.task.reachable(run.highest)):
                run.best, run.best_weights = score, copied(self.task.net.state_dict())
                run.best_keep, run.stale = run.keep, 0
                return
        run.stale += 1

    def _count_failure(self) -> None:
        run = self.run
        run.failures += 1
        if run.failures >= FAILURES or (run.best is None and run.epoch >= self.epochs):
            raise DivergedError(
                f"training diverged {run.failures} times ({self.name}, epoch {run.epoch}), the last time at a rate of "
                f"{self.task.options.lr * run.rate:.2g}. Look for huge values in the rows, or lower the rate (--lr)."
            )


def _status(
    task: Task,
    name: str,
    run: Run,
    epochs: int,
    note: str,
    *,
    loss: float = math.nan,
    score: Score | None = None,
    objective: Objective | None = None,
    trouble: Trouble | None = None,
) -> Status:
    shown = score or Score(math.nan, math.nan, math.nan, "", math.nan)
    constraint = objective.constraint if objective else None
    highest = float(constraint.multipliers.max()) if constraint else 0.0
    seen = (loss, shown.accuracy, shown.worst, shown.excess, highest)
    return Status(name, run.epoch, epochs, *seen, note, task.later, trouble)


def _optimiser(groups: Callable[[nn.Module], list[dict[str, Any]]] | None, task: Task) -> torch.optim.Optimizer:
    options = task.options
    task.net.zero_grad(set_to_none=True)  # what earlier work left behind is no gradient of the steps to come
    parameters = groups(task.net) if groups else [{"params": trainable(task.net)}]
    optimiser = torch.optim.AdamW(parameters, lr=options.lr, weight_decay=options.weight_decay, fused=True)
    for group in optimiser.param_groups:
        group["highest"] = group["lr"]
    return optimiser


def _schedule(share: float) -> float:
    """Return the rate at a share of the training, relative to the highest: a short rise, then half a cosine."""
    if share < WARM_UP:
        return (share + 0.002) / (WARM_UP + 0.002)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))


def _set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = group["highest"] * factor


def _mixed(x: Any, share: float) -> Any:
    """Return each row mixed with its neighbour in the batch."""
    return mapped(lambda t: share * t + (1 - share) * t.roll(1, 0), x)
