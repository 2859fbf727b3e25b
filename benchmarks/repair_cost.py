"""What fairness costs a training step, and a whole repair: both sides in one run, ratios only.

    python -m benchmarks.repair_cost

A plain masked step (forward, cross-entropy, backward, optimiser, mask) against the same step with what fairness adds
(dense's answers as targets, on rows and beside them, row weights from the multipliers, replay buffers), turn and turn
about. Target: 1.15. The step of the default repair, whose mask is learned too, beside them. And the whole default
repair (tune rows, mean of weights, checkpoints) against one plain retraining, and against one of as many passes.
Target: 1.5.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.magnitude import masks_at
from fairguard.files import write_text
from fairguard.policy import Policy
from fairguard.repair.budget import epochs_of, retraining_epochs
from fairguard.repair.methods import ballot
from fairguard.repair.methods.gates import held
from fairguard.repair.neighbours import Neighbours, neighbours_of
from fairguard.repair.objectives import Objective, fair, plain
from fairguard.repair.rows import Rows
from fairguard.repair.task import Options, Task, copied, make_task
from fairguard.repair.training import train

RESULT = Path(__file__).parent / "results" / "repair_cost.json"
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def mlp() -> tuple[nn.Module, tuple[int, ...]]:
    layers = [nn.Linear(100, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 2)]
    return nn.Sequential(*layers), (100,)


def cnn() -> tuple[nn.Module, tuple[int, ...]]:
    layers: list[nn.Module] = []
    for wide, narrow in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(wide, narrow, 3, padding=1), nn.BatchNorm2d(narrow), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 10)), (3, 32, 32)


def task_of(build: Callable[[], tuple[nn.Module, tuple[int, ...]]], n: int) -> Task:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    net, shape = build()
    net.to(DEVICE)
    classes = 10 if len(shape) == 3 else 2
    rows = Rows(
        torch.randn(n, *shape),
        torch.from_numpy(rng.integers(0, classes, n)),
        torch.from_numpy(rng.integers(0, 4, (n, 2))),
        np.arange(n),
    ).to(DEVICE)
    pruned = masks_at(net, 0.9).on(copied(net.state_dict()))
    levels = (tuple("abcd"), tuple("efgh"))
    return make_task(
        net, pruned, rows, rows.take_first(n // 10), columns=("g", "h"), levels=levels, policy=Policy(), epochs=1
    )


KINDS = ("plain", "again", "fair", "learned")
"""Plain training, plain training again (the noise), the constraint and its targets, and a learned mask beside them."""


def step_times(task: Task, *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return seconds a step of each kind of training, turn and turn about; the first round warms up."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    beside = neighbours_of(task)
    fairly = {"fair", "learned"}
    objectives = {kind: fair(task, neighbours=beside) if kind in fairly else plain(task) for kind in KINDS}
    for round_ in range(rounds + 1):
        for kind in KINDS:
            task.net.load_state_dict(task.dense)
            if kind == "learned":
                with held(task.net, task.masks) as gates:
                    gates.tightened(task.masks, 1)(1, task.net)
                    optimiser = torch.optim.AdamW(gates.groups(1e-3)(task.net), lr=1e-3, fused=True)
                    seconds = _run(
                        task, objectives[kind], optimiser, partial(gates.follow, task.net), gates.settle, steps, beside
                    )
            else:
                optimiser = torch.optim.AdamW(task.net.parameters(), lr=1e-3, fused=True)
                enforce = task.masks.enforcer(task.net)
                asked = beside if kind in fairly else None
                seconds = _run(task, objectives[kind], optimiser, _nothing, enforce, steps, asked)
            if round_:
                times[kind].append(seconds)
    return times


def _run(
    task: Task,
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    after_backward: Callable[[], None],
    after_step: Callable[[], None],
    steps: int,
    beside: Neighbours | None,
) -> float:
    task.net.train()
    order = (torch.arange(128, device=DEVICE) + 128 * torch.arange(steps, device=DEVICE)[:, None]) % len(task.train)
    if beside:
        order[:, 64:] += len(task.train)
    x = (beside or task.train).x
    _wait()
    started = _clock()
    for rows in order:
        optimiser.zero_grad(set_to_none=True)
        logits = task.logits(task.net, x.index_select(0, rows))
        objective(logits, rows).backward()
        objective.observe(logits, rows)
        after_backward()
        optimiser.step()
        after_step()
    _wait()
    return (_clock() - started) / steps


def _nothing() -> None:
    """Stand for a hook that this kind of training has not."""


def _clock() -> float:
    """Return seconds: of the processor where nothing else works (other programs do not count), else of the wall.

    Meaningful with one thread (OMP_NUM_THREADS=1).
    """
    return time.perf_counter() if DEVICE.type == "cuda" else time.process_time()


def _wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def whole(task: Task) -> dict[str, float]:
    """Return the time of a default repair over that of one plain retraining, and of a plain one of as many passes."""
    epochs = retraining_epochs(len(task.train), task.options.batch_size)
    quiet = replace(task, options=Options())
    started = _clock()
    train(quiet, "plain", objective=plain(quiet), epochs=epochs, start=quiet.dense, masks=quiet.masks)
    retraining = _clock() - started
    started = _clock()
    budget = epochs_of("1.5x", quiet, ballot.select_and_train)
    done = ballot.select_and_train(replace(quiet, epochs=budget))
    over = (_clock() - started) / retraining
    return {"whole_repair_over_retraining": over, "whole_repair_over_equal_passes": over * epochs / len(done.trials)}


def main() -> None:
    found: dict[str, dict[str, float]] = {}
    for name, build, n, rounds, steps in (("MLP", mlp, 8192, 9, 60), ("CNN", cnn, 1024, 7, 4)):
        task = task_of(build, n)
        times = step_times(task, rounds=rounds, steps=steps)
        over = {
            kind: statistics.median(a / b for a, b in zip(times[kind], times["plain"], strict=True)) for kind in KINDS
        }
        found[name] = {
            "plain_ms": 1e3 * statistics.median(times["plain"]),
            "repair_over_plain": over["fair"],
            "learned_mask_over_plain": over["learned"],
            "plain_over_plain": over["again"],
        }
        if name == "MLP":
            found[name] |= whole(task)
        print(name, {key: round(value, 3) for key, value in found[name].items()}, flush=True)
    write_text(
        RESULT, json.dumps({"device": str(DEVICE), "threads": torch.get_num_threads(), **found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
