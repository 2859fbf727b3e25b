"""How much training a repair may cost: ``1.5x`` of a plain retraining, ``20epochs`` or ``10min``, in steps of how many
rows. Knows no method by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from fairguard.repair.budget_text import parsed
from fairguard.repair.cells import Cells
from fairguard.repair.journal import Journal
from fairguard.repair.task import Answers, Candidate, Options, Task
from fairguard.repair.training import DivergedError

STEPS = 4_000
"""Steps that a plain retraining takes; fewer rows mean more passes over them."""
FEWEST, MOST = 8, 40
STEPS_AN_EPOCH = 12
"""Steps that an epoch has at least: few rows are taken in smaller batches, or a budget of epochs would end before the
weights and the mask have settled."""
SMALLEST_BATCH = 16
TRIAL_STEPS = 5
"""Steps an epoch of the short training that a budget of minutes is turned into epochs by."""
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def retraining_epochs(n_rows: int, batch_size: int) -> int:
    """Return the epochs of one plain retraining over ``n_rows``."""
    return max(FEWEST, min(MOST, math.ceil(STEPS * batch_size / max(n_rows, 1))))


def batch_for(n_rows: int) -> int:
    """Return how many of ``n_rows`` training rows a step takes: the usual number, or a smaller power of two."""
    wanted = max(n_rows // STEPS_AN_EPOCH, SMALLEST_BATCH)
    return min(Options.batch_size, 1 << (wanted.bit_length() - 1))


def epochs_of(
    budget: str, task: Task, method: Callable[[Task], Candidate], *, least: int = 1, repairs: int = 1
) -> float:
    """Return how many passes over the training rows ``budget`` allows; a time is turned into passes by trying a few.

    Args:
        budget: ``1.5x``, ``20epochs`` or ``10min``.
        task: what is to be trained.
        method: what trains it.
        least: epochs that it trains for at least; 0: it does not train.
        repairs: how many repairs share a time; the other units are for each of them.

    Raises:
        ConfigError: it is none of ``1.5x``, ``20epochs``, ``10min``.
    """
    amount, unit = parsed(budget)
    if unit == "x":
        return amount * retraining_epochs(len(task.train), task.options.batch_size)
    if unit == "epochs":
        return amount
    if not least:
        return 1.0  # it does not train
    # Kept in the journal: a resumed repair must not measure again and plan another number of epochs.
    measured = task.journal.stage("budget", lambda: _timed(task, method, least))
    left = 0.9 * amount * _UNITS[unit] - float(measured["trial"])
    return max(1.0, left / repairs / float(measured["epoch"]))


def budget_notes(budget: str, epochs: float, *, method: str, least: int) -> list[str]:
    """Return a sentence if ``method``, which trains for ``least`` epochs at least, has fewer in its budget."""
    if round(epochs) >= least:
        return []
    return [f"method {method} trains for {least} epochs at least, more than --budget {budget} allows ({epochs:.2g})"]


def _timed(task: Task, method: Callable[[Task], Candidate], least: int) -> dict[str, float]:
    """Return the seconds that an ``epoch`` of ``method`` takes, and that the ``trial`` on a few of the rows took."""
    started = time.perf_counter()
    trial = _on_few_rows(task)
    _spent(trial, method, epochs=least)  # warms up
    short, long = (_spent(trial, method, epochs=epochs) for epochs in (least + 1, least + 7))
    # What does not grow with the epochs, such as the last look at the tune rows, is no part of one.
    seconds = max((long[0] - short[0]) / max(long[1] - short[1], 1.0), 0.2 * long[0] / long[1])
    steps = max(seconds - _look(trial), 0.2 * seconds)
    epoch = steps * len(task.train) / len(trial.train) + _look(task)
    return {"epoch": epoch, "trial": time.perf_counter() - started}


def _on_few_rows(task: Task) -> Task:
    """Return the task on its first rows; the constraint still counts all rows that train, or groups would be empty."""
    few = TRIAL_STEPS * task.options.batch_size
    train, tune = task.train.take_first(few), task.tune.take_first(few)
    cells = task.cells[1]
    if cells is not None:
        cells = Cells.over(cells.cells, tune.codes, tune.y, favourable=cells.favourable)
    before = [Answers(answers.logits[:few], answers.hits[:few]) for answers in task.before]
    return replace(
        task,
        train=train,
        tune=tune,
        cells=(task.cells[0], cells),
        before=(before[0], before[1]),
        journal=Journal(None),
        tell=lambda status: None,
    )


def _look(task: Task) -> float:
    """Return the seconds that a look at the tune rows takes, once an epoch however many rows train."""
    started = time.perf_counter()
    task.tune_score(task.net)
    return time.perf_counter() - started


def _spent(trial: Task, method: Callable[[Task], Candidate], *, epochs: int) -> tuple[float, float]:
    """Return the seconds and the epochs that a training took."""
    started = time.perf_counter()
    try:
        spent = method(replace(trial, epochs=epochs)).epochs
    except DivergedError:  # a training as short as this cannot recover, the real one may
        spent = epochs
    return time.perf_counter() - started, spent
