"""The one training loop, used by every method. Read :func:`train` top to bottom.

Every step: forward, loss, backward, optimiser, mask. Every epoch: a look at the tune rows, the best candidate kept, and
on stagnation or divergence back to it at half the rate. A killed training goes on from its last checkpoint to the same
weights, bit for bit on a CPU. Knows nothing of how masks are chosen or what the objective is made of.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairguard.errors import FairguardError, ModelError
from fairguard.repair.averaging import Average
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.neighbours import Neighbours
from fairguard.repair.nets import fewest_rows, no_room, refresh_batch_norm, trainable
from fairguard.repair.objectives import Objective
from fairguard.repair.rows import fetched, mapped, shuffled, tensors_of
from fairguard.repair.task import Score, Status, Task, answer, copied

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

WRITING, LONGEST = 10.0, 60.0
"""Checkpoints lie so many times what the last one took to write apart, at least, but no more seconds than that."""

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


@dataclass
class Run:
    """Where a training stands: all that a checkpoint holds besides weights, optimiser and objective."""

    epoch: int = 0
    step: int = 0
    rate: float = 1.0
    stale: int = 0
    failures: int = 0
    first_loss: float = math.nan
    micro: int = 0
    loss: Tensor | None = None
    """Sum of the epoch's losses so far, on the device."""
    keep: dict[str, Tensor] = field(default_factory=dict)
    """Masks that move during training, as they are now."""
    best_keep: dict[str, Tensor] = field(default_factory=dict)
    """These masks when the best candidate was found."""
    highest: float = 0.0
    """Accuracy of the most accurate candidate so far, on the tune rows."""
    best: Score | None = None
    best_weights: Weights = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


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
    steps = len(task.train) // (batch := min(options.batch_size, len(task.train)))
    net.load_state_dict(start)
    enforce = masks.enforcer(net) if masks else lambda: None
    enforce()
    torch.manual_seed(options.seed)
    optimiser = _optimiser(groups, task)
    forward = torch.compile(net) if options.compile else net
    run = Run(micro=batch, best_weights=copied(net.state_dict()))
    average = Average(net, max(1, round(AVERAGED * epochs * steps)) if averaged else 0)
    saver = _Saver(task, f"{name}.running", run, net, optimiser, objective, average)
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
        for index, x in _batches(task, run, batch, neighbours):
            _set_rate(optimiser, run.rate * _schedule((run.epoch * steps + run.step) / (epochs * steps)))
            optimiser.zero_grad(set_to_none=True)
            run.loss = run.loss + _gradients(task, forward, objective, index, x, run, mixing)
            after_backward(net)
            optimiser.step()
            enforce()
            after_step()
            average.update()
            run.step += 1
            saver.save_when_due()
        with average.applied():
            back = _look(task, name, run, epochs, steps, objective, net, keep_from)
        if back:
            net.load_state_dict(run.best_weights)
            run.keep = run.best_keep or run.keep  # the masks that it was found with: later ones would empty it
            average.restart()
            optimiser = saver.optimiser = _optimiser(groups, task)
        saver.save_when_due()
    net.load_state_dict(run.best_weights)
    refresh_batch_norm(net, task.train, seed=task.options.seed)
    return Trained(copied(net.state_dict()), task.tune_score(net), tuple(run.history))


def _batches(task: Task, run: Run, size: int, neighbours: Neighbours | None) -> Iterator[tuple[Tensor, Any]]:
    """Return the row numbers and features of the batches that are left of the epoch."""
    beside = neighbours is not None
    order = shuffled(len(task.train), size, seed=task.options.seed, epoch=run.epoch, beside=beside)
    return fetched((neighbours or task.train).x, order[run.step :], task.device)


def _gradients(
    task: Task,
    forward: Callable[..., Any],
    objective: Objective,
    index: Tensor,
    x: Any,
    run: Run,
    mixing: float,
) -> Tensor:
    """Leave the batch's gradients in the weights and return its loss; out of memory, in smaller and smaller pieces."""
    while True:
        with suppress(torch.OutOfMemoryError):
            loss, out = _in_pieces(task, forward, objective, index, x, run, mixing)
            objective.observe(out, index)
            return loss
        # Here and not where it was caught: the exception holds on to what did not fit.
        task.net.zero_grad(set_to_none=True)
        if run.micro <= (least := fewest_rows(task.net)):
            raise ModelError(no_room(least))
        run.micro = max((run.micro + 1) // 2, least)
        if task.device.type == "cuda":
            torch.cuda.empty_cache()
        task.tell(_status(task, "memory", run, run.epoch, f"out of memory: {run.micro} rows at a time now"))


def _in_pieces(
    task: Task,
    forward: Callable[..., Any],
    objective: Objective,
    index: Tensor,
    x: Any,
    run: Run,
    mixing: float,
) -> tuple[Tensor, Tensor]:
    """Leave the batch's gradients in the weights; return its loss, a scalar, and the net's logits, shape (b, K)."""
    total, answers = torch.zeros((), device=task.device), []
    size = len(index)
    pieces = 1 if run.micro >= size else max(1, min(math.ceil(size / run.micro), size // fewest_rows(task.net)))
    for i in range(pieces):  # as equal as can be: a last one of a single row would be too few for batch norm
        piece = slice(size * i // pieces, size * (i + 1) // pieces)
        taken = x if pieces == 1 else mapped(x, itemgetter(piece))
        share = _share(task, run, mixing)
        if share < 1.0:
            taken = _mixed(taken, share)
        with torch.autocast(task.device.type, torch.bfloat16, enabled=task.options.amp):
            out = task.logits(forward, taken)
        loss = objective(out, index[piece])
        if share < 1.0:
            loss = share * loss + (1 - share) * objective(out, index[piece].roll(1))
        loss = loss * ((piece.stop - piece.start) / size)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
        answers.append(out.detach())
    return total, answers[0] if pieces == 1 else torch.cat(answers)


def _share(task: Task, run: Run, mixing: float) -> float:
    """Return a row's share in its mixture with another (mixup), at least half; a function of seed, epoch and step."""
    if not mixing or not all(t.is_floating_point() for t in tensors_of(task.train.x)):
        return 1.0
    drawn = float(np.random.default_rng((task.options.seed, run.epoch, run.step)).beta(mixing, mixing))
    return max(drawn, 1.0 - drawn)


def _look(
    task: Task, name: str, run: Run, epochs: int, steps: int, objective: Objective, net: nn.Module, keep_from: int
) -> bool:
    """Judge the epoch on the tune rows and move on to the next; return whether to rewind to the best candidate."""
    loss = float(run.loss) / steps if run.loss is not None else math.nan  # the epoch's one wait for the device
    score = None
    diverged = not math.isfinite(loss) or loss > DIVERGED * max(run.first_loss, 1.0)
    if not diverged:
        run.first_loss = loss if math.isnan(run.first_loss) else run.first_loss
        answers = answer(net, task.head, task.tune, task.cells[1])
        score = task.score(answers)
        objective.hear(task.measure(answers))
    better = False
    if score is not None and run.epoch >= keep_from:
        run.highest = max(run.highest, score.accuracy)
        better = score.better_than(run.best, task.reachable(run.highest))
    if score is not None and better:
        run.best, run.best_weights, run.best_keep, run.stale = score, copied(net.state_dict()), run.keep, 0
    else:
        run.stale += 1
    run.history.append({"epoch": run.epoch, "loss": loss, "rate": run.rate} | (asdict(score) if score else {}))
    run.epoch, run.step, run.loss = run.epoch + 1, 0, None
    note = ""
    if diverged:
        run.failures += 1
        note = "diverged: back to the best candidate, at half the rate"
        if run.failures >= FAILURES or (run.best is None and run.epoch >= epochs):
            raise DivergedError(
                f"training diverged {run.failures} times ({name}, epoch {run.epoch}), the last time at a rate of "
                f"{task.options.lr * run.rate:.2g}. Look for huge values in the rows, or lower the rate (--lr)."
            )
    rewind = diverged or (run.best is not None and run.stale > max(2.0, PATIENCE * epochs) and run.epoch < epochs)
    if rewind:
        run.rate, run.stale = run.rate / 2, 0
        note = note or "no better candidate for a while: back to the best one, at half the rate"
    task.tell(_status(task, name, run, epochs, note, loss=loss, score=score, objective=objective))
    return rewind


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
) -> Status:
    shown = score or Score(math.nan, math.nan, math.nan, "", math.nan)
    constraint = objective.constraint if objective else None
    highest = float(constraint.multipliers.max()) if constraint else 0.0
    return Status(name, run.epoch, epochs, loss, shown.accuracy, shown.worst, shown.excess, highest, note, task.later)


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
    return mapped(x, lambda t: share * t + (1 - share) * t.roll(1, 0))


@dataclass
class _Saver:
    """Writes the training's checkpoint when the last one is old, and takes it up again after a kill."""

    task: Task
    name: str
    run: Run
    net: nn.Module
    optimiser: torch.optim.Optimizer
    objective: Objective
    average: Average
    last: float = field(default_factory=time.monotonic)
    took: float = 0.0

    def save_when_due(self) -> None:
        asked = self.task.options.checkpoint_seconds
        # A net whose state takes seconds to write is saved less often, or writing would be most of the work.
        every = max(asked, min(WRITING * self.took, LONGEST)) if asked else 0.0
        if (now := time.monotonic()) - self.last >= every:
            self.task.journal.save(self.name, self._state())
            self.last = time.monotonic()
            self.took = self.last - now

    def resume(self) -> None:
        if (saved := self.task.journal.load(self.name)) is None:
            return
        for key, value in saved["run"].items():
            setattr(self.run, key, value)
        self.run.best = Score(**saved["best"]) if saved["best"] else None
        if self.run.loss is not None:
            self.run.loss = self.run.loss.to(self.task.device)
        self.net.load_state_dict(saved["weights"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.objective.restore(saved["objective"])
        self.average.restore(saved["average"])
        _restore_chance(saved["chance"], self.task.device)

    def _state(self) -> dict[str, Any]:
        run = {name: getattr(self.run, name) for name in vars(self.run) if name != "best"}
        return {
            "run": run,
            "best": asdict(self.run.best) if self.run.best else None,
            "weights": self.net.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "objective": self.objective.state(),
            "average": self.average.state(),
            "chance": _chance(self.task.device),
        }


def _chance(device: torch.device) -> list[Tensor]:
    """Return the state of torch's own generators, which dropout draws from, on the CPU and where training runs."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _restore_chance(states: Iterable[Tensor], device: torch.device) -> None:
    cpu, *there = states
    torch.set_rng_state(cpu)
    if there and device.type == "cuda":
        torch.cuda.set_rng_state(there[0], device)
