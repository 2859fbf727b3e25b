"""How much training a repair may cost: ``1.5x`` of a plain retraining, ``20epochs`` or ``10min``. Knows no method."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace

from fairguard.errors import ConfigError
from fairguard.repair.journal import Journal
from fairguard.repair.objectives import plain
from fairguard.repair.task import Task, copied
from fairguard.repair.training import train

STEPS = 4_000
"""Steps that a plain retraining takes; fewer rows mean more passes over them."""
FEWEST, MOST = 8, 40
_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def retraining_epochs(n_rows: int, batch_size: int) -> int:
    """Return the epochs of one plain retraining over ``n_rows``."""
    return max(FEWEST, min(MOST, math.ceil(STEPS * batch_size / max(n_rows, 1))))


def epochs_of(budget: str, task: Task) -> float:
    """Return how many passes over the training rows ``budget`` allows; a time is turned into passes by trying a few.

    Raises:
        ConfigError: it is none of ``1.5x``, ``20epochs``, ``10min``.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(x|epochs?|s|sec|min|m|h)\s*", budget)
    if not found or float(found[1]) == 0:
        raise ConfigError(f"budget {budget!r}: write 1.5x (of a plain retraining), 20epochs, or 10min.")
    amount, unit = float(found[1]), found[2]
    if unit == "x":
        return amount * retraining_epochs(len(task.train), task.options.batch_size)
    if unit.startswith("epoch"):
        return amount
    # Kept in the journal: a resumed repair must not measure again and plan another number of epochs.
    measured = task.journal.stage("budget", lambda: {"seconds": _seconds_an_epoch(task)})
    return max(1.0, 0.9 * amount * _UNITS[unit] / float(measured["seconds"]))


def _seconds_an_epoch(task: Task) -> float:
    few = min(len(task.train), 20 * task.options.batch_size)
    started = time.perf_counter()
    trial = replace(task, train=task.train.take_first(few), journal=Journal(None), tell=lambda status: None)
    train(trial, "budget", objective=plain(trial), epochs=1, start=copied(task.dense), masks=task.masks)
    return (time.perf_counter() - started) * len(task.train) / few
