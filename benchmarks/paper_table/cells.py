"""One cell of the table: a data set, a network, a sparsity, a method and a seed, trained and measured.

The rows to report on are the same for every method and seed and are looked at once, at the end. The seed divides the
others into rows to train and to tune on, and starts the network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.problems import TABLES, Problem, cifar, faces, learn, mnist, resnet, vgg
from fairguard import check_predictions
from fairguard.files import replacing
from fairguard.policy import Policy
from fairguard.repair.methods import method_named
from fairguard.repair.rows import Rows
from fairguard.repair.shifts import recalls, shifts_toward
from fairguard.repair.starting import masked, starting_masks
from fairguard.repair.task import EQUAL_AIM, Candidate, Options, Task, answer, make_task

WORK = Path(__file__).parent.parent.parent / "build" / "paper_table"
VERIFY, TUNE = 0.6, 0.3
"""Share of all rows to report on, and of the others to tune on."""
STEPS, FEWEST, MOST = 1_000, 16, 40
"""What every method may spend: so many steps of a batch, in passes over the training rows, within bounds."""
LEAST = 100
"""Rows that a group needs for its excess drop to be a number worth a table."""

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "cifar10/vgg": lambda: cifar(build=vgg),
    "utkface-age/vgg": lambda: faces(build=vgg, label="age", by=("class",)),
    "mnist/mlp": mnist,
    "cifar10/resnet": lambda: cifar(build=resnet),
    "utkface-gender/vgg": lambda: faces(build=vgg),
    **{f"{name}/mlp": build for name, build in TABLES.items()},
}
"""By data set and network, the most telling first."""


@dataclass(frozen=True)
class Cell:
    """What is trained.

    Attributes:
        problem: a key of :data:`PROBLEMS`.
        sparsity: share of the prunable weights that is zero.
        method: a name that :func:`fairguard.repair.methods.method_named` knows, or an ablation of ``ballot``.
        seed: of everything random.
    """

    problem: str
    sparsity: float
    method: str
    seed: int

    @property
    def key(self) -> str:
        """Return the cell's place among those of its problem."""
        return f"{self.sparsity:g} {self.method} {self.seed}"


@cache
def problem_named(name: str) -> Problem:
    """Return a data set with its network."""
    return PROBLEMS[name]()


def divided(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the row numbers to train, to tune and to report on; the last are the same for every seed."""
    order = np.random.default_rng(20_240_916).permutation(n)
    verify, taught = order[: int(VERIFY * n)], order[int(VERIFY * n) :]
    taught = np.random.default_rng(seed).permutation(taught)
    return taught[int(TUNE * len(taught)) :], taught[: int(TUNE * len(taught))], verify


def rows_of(problem: Problem, index: NDArray[np.int64]) -> Rows:
    """Return the rows at ``index``."""
    codes = [np.unique(values, return_inverse=True)[1] for values in problem.groups.values()]
    at = torch.from_numpy(index)
    return Rows(problem.x[at], problem.y[at], torch.from_numpy(np.stack(codes, axis=1))[at], index)


def dense_weights(name: str, problem: Problem, train: Rows, seed: int) -> dict[str, Tensor]:
    """Return the dense network's weights, trained once for all methods of a seed."""
    file = WORK / f"{name.replace('/', '-')}--{seed}.pt"
    if not file.exists():
        torch.manual_seed(seed)
        net = problem.build()
        learn(net, train.x, train.y, epochs=problem.epochs, seed=seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            torch.save(net.state_dict(), temporary)
    found: dict[str, Tensor] = torch.load(file, weights_only=True)
    return found


def task_of(cell: Cell, parts: tuple[NDArray[np.int64], NDArray[np.int64]], *, lr: float | None = None) -> Task:
    """Return what a method is given."""
    problem = problem_named(cell.problem)
    train, tune = (rows_of(problem, index) for index in parts)
    net = problem.build()
    net.load_state_dict(dense_weights(cell.problem, problem, train, cell.seed))
    masks = starting_masks(net, cell.sparsity, "global")
    equal = {"reference": "equal", "aim": EQUAL_AIM} if problem.classwise else {}
    return make_task(
        net,
        masked(net, masks),
        train,
        tune,
        columns=tuple(problem.groups),
        levels=[[str(level) for level in np.unique(values)] for values in problem.groups.values()],
        policy=Policy(margin=problem.margin),
        epochs=max(FEWEST, min(MOST, math.ceil(STEPS * Options.batch_size / len(train)))),
        masks=masks,
        options=Options(seed=cell.seed, lr=Options.lr if lr is None else lr, **equal),
    )


def longer_lth(task: Task) -> Candidate:
    """Return the lottery ticket of three times the budget: its rounds leave little of one for each training."""
    return method_named("lth")(replace(task, epochs=3 * task.epochs))


def run(cell: Cell, method: Callable[[Task], Candidate], *, lr: float | None = None) -> dict[str, Any]:
    """Train one cell and return all that the table says of it, on rows that nothing saw."""
    problem = problem_named(cell.problem)
    *taught, unseen = divided(len(problem.y), cell.seed)
    task = task_of(cell, (taught[0], taught[1]), lr=lr)
    started = time.perf_counter()
    candidate = method(task)
    seconds = time.perf_counter() - started
    task.net.load_state_dict(candidate.weights)
    stored = {name: tensor for name, tensor in task.net.named_parameters() if name in task.masks.keep}
    zeros = sum(int((tensor == 0).sum()) for tensor in stored.values())
    assert zeros >= task.masks.total - task.masks.kept, f"{cell}: {zeros} zeros are too few"
    rows = rows_of(problem, unseen)
    spent = {
        "seconds": seconds,
        "budget": task.epochs,
        "epochs": candidate.epochs,
        "sparsity": zeros / task.masks.total,
    }
    score = candidate.score
    tuned = {
        "lr": lr,
        "tune_accuracy": score.accuracy,
        "tune_violation": score.violation,
        "tune_key": score.key(task.floor),
    }
    return spent | tuned | measured(task, rows, problem, unseen)


def measured(task: Task, rows: Rows, problem: Problem, index: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the network in ``task`` gives on ``rows``, plain and with shifted biases where groups are classes."""
    logits, tune = (answer(task.net, task.head, part, None).logits for part in (rows, task.tune))
    task.net.load_state_dict(task.dense)
    dense = answer(task.net, task.head, rows, None).logits
    groups = {name: values[index] for name, values in problem.groups.items()}
    judged = partial(judge, rows.y, groups, dense.argmax(1))
    found = judged(logits.argmax(1))
    if problem.classwise:
        found["shifted"] = judged((logits + fairest_shift(tune, task.tune.y)).argmax(1))
    return found


def fairest_shift(logits: Tensor, y: Tensor) -> Tensor:
    """Return the shift of the K logits, shape (K,), that makes class recall most equal on the tune rows."""
    shifts = shifts_toward(torch.zeros(logits.shape[1]), logits, y)
    return min(shifts, key=lambda shift: float(recalls(logits + shift, y).std()))


def judge(y: Tensor, groups: Mapping[str, NDArray[Any]], dense: Tensor, pruned: Tensor) -> dict[str, float]:
    """Return the numbers of the table, from fairguard's own verdict on these answers."""
    verdict = check_predictions(y, dense, pruned, groups, intersections=1)
    by_name: dict[str, list[float]] = {}
    for summary in verdict.summaries:
        by_name.setdefault(summary.name, []).append(summary.value.pruned)
    excess = [f.estimate for f in verdict.findings if f.metric == "accuracy" and f.n >= LEAST]
    return {
        "dense": verdict.overall.accuracy.dense,
        "accuracy": verdict.overall.accuracy.pruned,
        "cwv": max(by_name["cwv"]),
        "mcd": max(by_name["mcd"]),
        "worst": min(by_name["worst_group_accuracy"]),
        "excess": max(excess),
        "harmful": verdict.overall.harmful_flips / verdict.overall.n,
        "dp": max(by_name.get("demographic_parity_difference", [np.nan])),
        "eo": max(by_name.get("equalized_odds_difference", [np.nan])),
        "regressed": len(verdict.regressed),
    }
