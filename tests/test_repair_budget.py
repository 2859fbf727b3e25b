"""What a repair may cost: no method spends more than its budget, but for rounding to whole epochs."""

import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_repair_architectures import digits, mlp

from benchmarks.magnitude import masks_at
from fairguard.metrics import Metric
from fairguard.policy import Policy
from fairguard.repair.budget import batch_for, budget_notes, epochs_of
from fairguard.repair.cells import Cell, Cells
from fairguard.repair.constraints import QUICKEST, Constraint
from fairguard.repair.methods import LEAST, METHODS, lth, method_named
from fairguard.repair.shifts import shifts_toward
from fairguard.repair.task import Candidate, Options, Status, Task, copied, make_task


@pytest.fixture(scope="module")
def task() -> Task:
    rows, tune, _ = digits("image")
    torch.manual_seed(0)
    net = mlp()
    return make_task(
        net,
        masks_at(net, 0.9).on(copied(net.state_dict())),
        rows,
        tune,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(margin=0.05, min_group=5),
        epochs=4,
        options=Options(batch_size=64),
    )


@pytest.mark.parametrize("name", METHODS)
def test_four_epochs_are_four_epochs(name: str, task: Task) -> None:
    seen: list[Status] = []
    found = method_named(name)(replace(task, tell=seen.append))
    assert found.epochs <= 4.5
    assert len(seen) <= 4, "an epoch is told of once"


@pytest.mark.parametrize("name", METHODS)
def test_one_epoch_is_one_where_the_method_can_and_its_least_where_not(name: str, task: Task) -> None:
    seen: list[Status] = []
    found = method_named(name)(replace(task, epochs=1, tell=seen.append))
    least = max(LEAST.get(name, 1), 1)
    assert len(seen) == (least if seen else 0)
    if name not in ("mask-only", "ballot-lastlayer"):  # a vote takes 15 steps however few an epoch has: here 14
        assert found.epochs <= 1.2 * least, "an epoch under the constraint costs more than a plain one"
    said = budget_notes("1epochs", 1, method=name, least=least)
    assert said == (
        []
        if least == 1
        else [f"method {name} trains for {least} epochs at least, more than --budget 1epochs allows (1)"]
    )
    assert not budget_notes("3epochs", 3, method=name, least=least)


def test_minutes_are_turned_into_epochs_by_the_methods_own_pace(task: Task) -> None:
    took: dict[float, float] = {}

    def slow(trial: Task) -> Candidate:
        """Take 0.2 seconds an epoch, whatever the rows, and 1.5 to begin."""
        started = time.perf_counter()
        time.sleep(1.5 + 0.2 * trial.epochs)
        weights = copied(trial.net.state_dict())
        found = Candidate(weights, trial.masks, trial.epochs, trial.score_of(weights))
        took[trial.epochs] = time.perf_counter() - started
        return found

    few = replace(task, train=task.train.take_first(5 * task.options.batch_size))
    epochs = epochs_of("2min", few, slow, least=2)
    assert list(took) == [2, 3, 9]
    left = 0.9 * 120 - sum(took.values())
    # By what an epoch took here, a busy machine's delays included; not by its share of the time to begin.
    assert epochs == pytest.approx(left / ((took[9] - took[3]) / 6), rel=0.4)
    assert epochs_of("2min", task, slow, least=0) == 1.0
    assert len(took) == 3, "what does not train is not tried"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_timed_on_a_few_of_the_rows(name: str, task: Task) -> None:
    small = replace(task, options=replace(task.options, batch_size=8))
    least = LEAST.get(name, 1)
    epochs = epochs_of("1min", small, method_named(name), least=least)
    assert epochs > 1.0 if least else epochs == 1.0


def test_tickets_prune_more_at_a_time_where_there_are_few_epochs(task: Task) -> None:
    few = lth.rounds(task.masks, most=2)
    assert few == pytest.approx([0.1**0.5, 0.1], rel=0.02)
    assert lth.rounds(task.masks, most=100) == lth.rounds(task.masks)


def test_a_class_without_rows_stays_where_it_is() -> None:
    torch.manual_seed(0)
    logits, y = torch.randn(300, 4), torch.randint(0, 3, (300,))
    for shift in shifts_toward(torch.zeros(4), logits, y):
        assert bool(shift.isfinite().all())
        assert float((shift - shift.mean()).abs().max()) < 3.0


@given(st.integers(1, 1_000_000))
def test_few_rows_are_taken_in_smaller_batches(n_rows: int) -> None:
    batch = batch_for(n_rows)
    assert batch in (16, 32, 64, 128)
    assert n_rows // batch >= 12 or batch == 16
    assert batch == 128 or n_rows < 12 * 2 * batch, "and in none smaller than that takes"


@pytest.mark.parametrize(("n_rows", "share"), [(40, 0.5), (400, 0.1), (400, 0.9), (4_000, 0.1)])
def test_a_multiplier_waits_for_the_weights_however_few_rows_there_are(n_rows: int, share: float) -> None:
    y = torch.zeros(n_rows, dtype=torch.long)
    codes = (torch.arange(n_rows) < share * n_rows).long()[:, None]
    group = Cell("g=1", Metric.ACCURACY, where=((0, 1),))
    cells = Cells.over([group], codes, y)
    batch = 32
    how = {"margin": torch.zeros(1), "batch_size": batch, "steps": n_rows // batch}
    constraint = Constraint(cells, torch.ones(n_rows, 2), y, **how)
    generator = torch.Generator().manual_seed(0)
    shown: list[float] = []
    for step in range(2_000):
        index = torch.randint(0, n_rows, (batch,), generator=generator)
        constraint.observe(index, codes[index, 0])  # the group is always wrong, all others right
        shown.append(float(constraint.multipliers / constraint.ceiling))
        assert shown[-1] <= (step + 1) / QUICKEST + 1e-6
    assert shown[-1] == pytest.approx(1.0), "it gets there in the end"
    epochs = 0
    constraint = Constraint(cells, torch.ones(n_rows, 2), y, **how)
    while float(constraint.multipliers) < float(constraint.ceiling) - 1e-6:
        constraint.hear(cells.measure(cells.hits(codes[:, 0], y), torch.ones(n_rows, 2)))
        epochs += 1
    assert epochs >= 10
    assert epochs * n_rows / batch >= 0.99 * QUICKEST
