"""What goes wrong in a training leaves nothing behind: a diverged epoch, a batch too large, old gradients."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_repair_robust import TRAIN, TUNE, Narrow, Net, task_with
from test_repair_training import small_net, trained
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ConfigError, ModelError
from fairguard.policy import Policy
from fairguard.repair.journal import Journal
from fairguard.repair.methods import ballot, fairscratch, method_named
from fairguard.repair.methods.gates import gated, ranks
from fairguard.repair.objectives import fair
from fairguard.repair.pruning import prune
from fairguard.repair.repairing import repair
from fairguard.repair.rows import Rows
from fairguard.repair.task import Status, copied, make_task
from fairguard.repair.training import train

EPOCHS, STEPS = 8, len(TRAIN) // 64


class Diverging(Net):
    """Gives nan in one step of its training."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.seen = at, 0

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.training and len(x) == 64:
            self.seen += 1
            return out * torch.nan if self.seen == self.at else out
        return out


@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_a_divergence_in_any_epoch_leaves_the_sparsity_that_was_asked_for(epoch: int) -> None:
    torch.manual_seed(0)
    task = task_with(Diverging(epoch * STEPS + 5))
    told: list[Status] = []
    budget = EPOCHS * ballot.OVERHEAD
    found = ballot.select_and_train(replace(task, epochs=budget, tell=told.append))
    assert any("diverged" in status.note for status in told)
    assert found.masks.sparsity >= task.masks.sparsity
    for name, keep in found.masks.keep.items():
        assert int((found.weights[name] == 0).sum()) >= int((~keep).sum())


class Training(Narrow):
    """Has so little room while it trains alone."""

    def forward(self, x: Tensor) -> Tensor:
        self.room, room = (self.room if self.training else len(x)), self.room
        try:
            return super().forward(x)
        finally:
            self.room = room


@pytest.mark.parametrize("room", [16, 3])
def test_a_batch_in_pieces_moves_the_constraint_as_a_whole_one_does(room: int) -> None:
    highest = []
    for fits in (64, room):
        torch.manual_seed(0)
        task = task_with(net := Training())
        net.room = fits
        told: list[Status] = []
        task = replace(task, tell=told.append)
        train(task, "x", objective=fair(task), epochs=4, start=task.dense, masks=task.masks)
        highest.append([status.multiplier for status in told if status.stage != "memory"])
    assert highest[0] == pytest.approx(highest[1], rel=0.05)
    assert max(highest[0]) > 0


class Normed(Narrow):
    """Has batch norm, which takes no single row while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


@pytest.mark.parametrize("rows", [64, 49])
def test_batch_norm_gets_two_rows_at_least(rows: int) -> None:
    torch.manual_seed(0)
    task = task_with(net := Normed())
    task = replace(task, epochs=2, options=replace(task.options, batch_size=rows))
    net.room = 3
    assert ballot.select_and_train(task).score.accuracy > 0
    net.room = 1
    with pytest.raises(ModelError, match=r"out of memory with 2 rows at a time.*--device cpu"):
        ballot.select_and_train(task)


def test_what_earlier_work_left_in_the_gradients_changes_nothing() -> None:
    found = []
    for stale in (False, True):
        torch.manual_seed(0)
        task = task_with(net := Net())
        if stale:
            nn.functional.cross_entropy(net(TUNE.x), TUNE.y).backward()
        found.append(ballot.select_and_train(replace(task, epochs=2)).weights)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("method", ["chita", "mask-only"])
def test_torchs_own_precision_setting_is_no_obstacle(method: str) -> None:
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "ieee"
    try:
        assert method_named(method)(task_with(Net())).score.accuracy > 0
    finally:
        torch.backends.fp32_precision = before


@pytest.mark.parametrize("other", ["model", "rows"])
def test_a_pruning_of_other_things_in_memory_is_not_gone_on_with(other: str, tmp_path: Path) -> None:
    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return trained(small_net(), TRAIN, epochs=2)

    def data(change: float) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        x = TRAIN.x.numpy().copy()
        x[300:900, 3] += change
        return x, TRAIN.y.numpy(), {"g": TRAIN.codes[:, 0].numpy()}

    def stop(status: Status) -> None:
        if status.epoch == 2:
            raise KeyboardInterrupt

    how: dict[str, Any] = {"sparsity": 0.8, "budget": "4epochs", "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        prune(model(0), tmp_path / "o.pt", data=data(0.0), tell=stop, **how)
    changed = {"model": (model(1), data(0.0)), "rows": (model(0), data(1.0))}[other]
    with pytest.raises(ConfigError, match=r"is of another run: .*another (dense|train|tune)"):
        prune(changed[0], tmp_path / "o.pt", data=changed[1], resume=True, **how)
    assert prune(model(0), tmp_path / "o.pt", data=data(0.0), resume=True, **how).sparsity >= 0.8


def test_a_refused_resume_lets_go_of_the_folder(tmp_path: Path) -> None:
    with Journal(tmp_path / "work", purpose={"dense": "a"}) as first:
        first.save("x.running", {})
    with pytest.raises(ConfigError, match="another dense") as kept:
        Journal(tmp_path / "work", purpose={"dense": "b"}, resume=True)
    assert kept.value is not None, "as a notebook keeps its last exception"
    with Journal(tmp_path / "work", purpose={"dense": "a"}, resume=True) as again:
        assert again.load("x.running") == {}


def test_logits_of_rows_sorted_by_score_are_taken_for_logits() -> None:
    class Sorted(Net):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * x[:, :1] + 0.5 + 0 * self.last(torch.relu(self.first(x))).sum()

    x = torch.zeros(3000, 8)
    x[:, 0] = torch.linspace(0.16, -0.2, 3000)
    ordered = Rows(x, (x[:, 0] > 0).long(), torch.randint(0, 2, (3000, 1)), np.arange(3000))
    net = Sorted()
    pruned = masks_at(net, 0.5).on(copied(net.state_dict()))
    task = make_task(net, pruned, ordered, TUNE, columns=("g",), levels=(("a", "b"),), policy=Policy(), epochs=1)
    assert not task.head.probabilities


class Tied(nn.Module):
    """Uses one weight twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


def test_a_tied_weight_is_seen_through_its_gate_wherever_it_is_used() -> None:
    torch.manual_seed(0)
    task = task_with(net := Tied())
    with gated(net, task.masks, {name: ranks(task.dense[name].abs()) for name in task.masks.keep}):
        assert torch.equal(net.a.weight, net.b.weight)
        inside = net.eval()(TUNE.x)
    torch.testing.assert_close(net(TUNE.x), inside)
    assert net.a.weight is net.b.weight


def test_chita_updates_what_survives_of_a_tied_weight() -> None:
    torch.manual_seed(0)
    task = task_with(Tied())
    found = method_named("chita")(task)
    weight = found.weights["a.weight"]
    assert torch.equal(weight, found.weights["b.weight"])
    alive = weight != 0
    assert not torch.equal(weight[alive], task.dense["a.weight"][alive])


def test_a_pruned_model_with_other_buffers_is_refused_in_one_line() -> None:
    net, other = Net(), Net()
    other.register_buffer("calibration", torch.ones(3))
    pruned = masks_at(other, 0.5).on(copied(other.state_dict()))
    with pytest.raises(ModelError, match=r"pruned has calibration, dense has not: build both by one function"):
        make_task(net, pruned, TRAIN, TUNE, columns=("g",), levels=(("a", "b"),), policy=Policy(), epochs=1)


def test_fairscratchs_regulariser_knows_groups_and_no_labels() -> None:
    """Recall and false positives are gated too, but what is in their cells is no group."""
    task = task_with(Net())
    assert task.cells[0] is not None
    assert any(cell.label is not None for cell in task.cells[0].cells)
    logits = torch.zeros(len(TRAIN), 2, requires_grad=True)
    fairscratch.unfairness(task, logits, torch.arange(len(TRAIN))).backward()
    assert logits.grad is not None
    for group in (0, 1):
        pull = logits.grad[TRAIN.codes[:, 0] == group, 1]
        torch.testing.assert_close(pull, pull[:1].expand_as(pull))


class Columns(nn.Module):
    """Takes one dict, as nets of tables often do."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds, self.numbers, self.last = nn.Embedding(2, 8), nn.Linear(7, 24), nn.Linear(32, 2)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        hidden = torch.cat([self.kinds(batch["kind"][:, 0]), torch.relu(self.numbers(batch["numbers"]))], dim=1)
        return self.last(hidden)


def test_a_net_that_takes_one_dict_is_repaired(tmp_path: Path) -> None:
    def batches() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]]:
        x, y, g = TRAIN.x.numpy(), TRAIN.y.numpy(), TRAIN.codes[:, 0].numpy()
        for at in (slice(0, 700), slice(700, 1500)):
            yield {"kind": x[at, :1].astype(np.int64), "numbers": x[at, 1:]}, y[at], {"g": g[at]}

    dense = Columns()
    optimiser = torch.optim.Adam(dense.parameters(), lr=1e-2)
    rows = {"kind": TRAIN.x[:, :1].long(), "numbers": TRAIN.x[:, 1:]}
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(dense(rows), TRAIN.y).backward()
        optimiser.step()
    pruned = copy.deepcopy(dense)
    pruned.load_state_dict(masks_at(dense, 0.8).on(copied(dense.state_dict())))
    report = repair(dense, pruned, tmp_path / "fair.pt", data=batches, budget="3epochs", keep_best=True)
    assert report.after is not None
    assert report.sparsity[1] >= report.sparsity[0] > 0.7
