"""What a repair may cost: no method spends more than its budget, but for rounding to whole epochs."""

from dataclasses import replace

import pytest
import torch
from test_repair_architectures import digits, mlp

from fairguard.policy import Policy
from fairguard.repair.budget import exceeded
from fairguard.repair.masks import masks_at
from fairguard.repair.methods import LEAST, METHODS, lth, method_named
from fairguard.repair.shifts import shifts_toward
from fairguard.repair.task import Options, Status, Task, copied, make_task


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
    least = LEAST.get(name, 1)
    assert len(seen) == (least if seen else 0)
    if name not in ("mask-only", "ballot-lastlayer"):  # a vote takes 15 steps however few an epoch has: here 14
        assert found.epochs <= 1.2 * least, "an epoch under the constraint costs more than a plain one"
    said = exceeded("1epochs", 1, method=name, least=least)
    assert said == (
        []
        if least == 1
        else [f"method {name} trains for {least} epochs at least, more than --budget 1epochs allows (1)"]
    )
    assert not exceeded("3epochs", 3, method=name, least=least)


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
