"""The training loop: masks hold, the best candidate is kept, kills lose nothing, divergence ends in a clear message."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ConfigError
from fairguard.policy import Policy
from fairguard.repair.journal import Journal
from fairguard.repair.objectives import fair, plain
from fairguard.repair.rows import Rows, shuffled
from fairguard.repair.task import WITHIN, Options, Score, Status, Task, copied, make_task
from fairguard.repair.training import DivergedError, train


def rows(n: int, seed: int) -> Rows:
    """Two groups; in the small one the label hangs on another feature."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)).astype(np.float32)
    group = (rng.random(n) < 0.25).astype(np.int64)
    x[:, 0] = group
    y = (np.where(group == 1, x[:, 1] + x[:, 2], x[:, 3] - x[:, 4]) + 0.3 * rng.normal(size=n) > 0).astype(np.int64)
    return Rows(torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(group[:, None]), np.arange(n))


def small_net() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 2))


def trained(net: nn.Module, on: Rows, epochs: int = 15) -> nn.Module:
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for epoch in range(epochs):
        for index in shuffled(len(on), 64, seed=0, epoch=epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(on.x[index]), on.y[index]).backward()
            optimiser.step()
    return net.eval()


def task_of(net: nn.Module, on: Rows, tune: Rows, **changes: object) -> Task:
    torch.manual_seed(0)
    trained(net, on)
    masks = masks_at(net, 0.8, scope="layer")
    pruned = masks.on(copied(net.state_dict()))
    options = Options(**{"lr": 5e-3, "batch_size": 64, **changes})
    return make_task(
        net, pruned, on, tune, columns=("g",), levels=(("a", "b"),), policy=Policy(), epochs=6, options=options
    )


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    return task_of(small_net(), rows(1200, 0), rows(600, 1))


def go(task: Task, *, epochs: int = 4, name: str = "x") -> dict[str, torch.Tensor]:
    objective = fair(task)
    return train(task, name, objective=objective, epochs=epochs, start=task.dense, masks=task.masks).weights


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_masked_weights_stay_zero_after_every_step(task: Task) -> None:
    nonzero = []

    def look(status: Status) -> None:
        state = task.net.state_dict()
        nonzero.append(sum(int((state[name][~keep] != 0).sum()) for name, keep in task.masks.keep.items()))

    weights = go(replace(task, tell=look))
    assert nonzero == [0, 0, 0, 0]
    assert all(not weights[name][~keep].any() for name, keep in task.masks.keep.items())


def test_a_seed_fixes_the_weights_and_another_changes_them(task: Task) -> None:
    first = go(task)
    assert same(first, go(task))
    assert not same(first, go(replace(task, options=replace(task.options, seed=1))))


def test_a_floor_out_of_reach_leaves_the_choice_among_the_most_accurate_to_fairness(task: Task) -> None:
    asked = replace(task, floor=0.9)
    scores = [Score(0.700, 0.10, 0.1, "", 0.1), Score(0.698, 0.0, 0.1, "", 0.0), Score(0.6, 0.0, 0.0, "", 0.0)]
    assert asked.best_of(scores) == 1
    assert replace(task, floor=0.5).best_of(scores) == 2
    assert replace(task, floor=0.699).best_of(scores) == 0, "a floor that one reaches holds for all"
    done = train(replace(task, floor=2.0), "x", objective=plain(task), epochs=6, start=task.dense, masks=task.masks)
    assert done.score.accuracy >= max(h["accuracy"] for h in done.history) - WITHIN
    near = [h for h in done.history if h["accuracy"] >= max(h["accuracy"] for h in done.history) - WITHIN]
    assert -done.score.violation - done.score.harm == max(-h["violation"] - h["harm"] for h in near)


def test_the_best_candidate_is_kept_not_the_last(task: Task) -> None:
    done = train(task, "x", objective=plain(task), epochs=6, start=task.dense, masks=task.masks)
    best = max((min(0.0, h["accuracy"] - task.floor), -h["violation"] - h["harm"]) for h in done.history)
    assert (min(0.0, done.score.accuracy - task.floor), -done.score.violation - done.score.harm) == best


def test_each_epoch_sees_other_batches_and_no_row_twice() -> None:
    first, second = (shuffled(100, 32, seed=0, epoch=e) for e in (0, 1))
    assert first.shape == (3, 32)
    assert len(first.unique()) == 96
    assert not torch.equal(first, second)


def test_nan_rewinds_at_lower_rates_and_then_says_so(task: Task) -> None:
    notes: list[Status] = []
    poisoned = replace(task.train, x=task.train.x.clone())
    poisoned.x[:, 3] = float("nan")
    with pytest.raises(DivergedError, match=r"diverged 3 times.*lower the rate"):
        go(replace(task, train=poisoned, tell=notes.append))
    assert sum("half the rate" in status.note for status in notes) == 2


def test_a_training_too_short_to_recover_says_so_and_hands_back_no_start(task: Task) -> None:
    poisoned = replace(task.train, x=task.train.x.clone())
    poisoned.x[:, 3] = float("nan")
    with pytest.raises(DivergedError, match=r"diverged 1 times.*lower the rate"):
        go(replace(task, train=poisoned), epochs=1)


def test_one_divergence_is_survived(task: Task) -> None:
    clean, bad = task.net, []

    class Once(nn.Module):
        """Gives nan in one single step of training."""

        def __init__(self) -> None:
            super().__init__()
            self.net = clean

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.net(x)
            if self.training:
                bad.append(1)
            return out * float("nan") if len(bad) == 25 and self.training else out

    once = Once()
    prefixed = {f"net.{name}": tensor for name, tensor in task.dense.items()}
    masks = replace(task.masks, keep={f"net.{n}": m for n, m in task.masks.keep.items()})
    done = train(replace(task, net=once), "x", objective=plain(task), epochs=6, start=prefixed, masks=masks)
    assert all(bool(t.isfinite().all()) for t in done.weights.values())
    assert [h["rate"] for h in done.history] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert done.score.accuracy > 0.8


def test_out_of_memory_takes_smaller_pieces_and_gives_the_same_gradients(task: Task) -> None:
    notes: list[Status] = []

    class Narrow(nn.Module):
        """Has memory for 20 rows at a time while training, as a full device would."""

        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training and len(x) > 20:
                raise torch.OutOfMemoryError("too many rows")
            return self.net(x)

    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))  # no dropout: pieces must add up to the batch
    plain_task = task_of(net, task.train, task.tune)
    whole = train(plain_task, "x", objective=plain(plain_task), epochs=2, start=plain_task.dense, masks=None).weights
    narrow = replace(plain_task, net=Narrow(net), tell=notes.append)
    start = {f"net.{name}": tensor for name, tensor in plain_task.dense.items()}
    pieces = train(narrow, "x", objective=plain(plain_task), epochs=2, start=start, masks=None).weights
    assert [s.note for s in notes if s.note] == [
        "out of memory: 32 rows at a time now",
        "out of memory: 16 rows at a time now",
    ]
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[f"net.{name}"], tensor, atol=2e-4, rtol=1e-3)


def test_a_journal_of_other_work_is_not_continued(tmp_path: Path) -> None:
    Journal(tmp_path / "j", purpose={"data": 1})
    with pytest.raises(ConfigError, match="another run"):
        Journal(tmp_path / "j", purpose={"data": 2}, resume=True)


KILLED = """
import sys, torch
sys.path[:0] = [{here!r}]
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from test_repair_training import go, rows, small_net, task_of
from fairguard.repair.journal import Journal
torch.set_num_threads(1)
torch.manual_seed(0)
task = task_of(small_net(), rows(1200, 0), rows(600, 1), checkpoint_seconds=0.0)
task = replace(task, journal=Journal(Path(sys.argv[1]), resume=True))
print("begun", flush=True)
weights = task.journal.stage("all", lambda: go(task, epochs=30))
torch.save(weights, sys.argv[2])
"""


def test_killed_twice_and_resumed_gives_the_same_bits(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(KILLED.format(here=str(Path(__file__).parent)))
    env = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(journal: str, out: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(script), str(tmp_path / journal), str(tmp_path / out)]
        return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    whole = start("whole", "whole.pt")
    for kept in (1, 2):  # killed once it has begun, and once more after it has gone on
        job = start("torn", "torn.pt")
        seen: set[int] = set()
        while job.poll() is None and len(seen) < kept:
            with suppress(FileNotFoundError):  # the last checkpoint goes when all is done
                seen |= {file.stat().st_mtime_ns for file in (tmp_path / "torn").glob("*.running.pt")}
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL, "it ended before the kill"
    assert start("torn", "torn.pt").wait() == 0
    assert whole.wait() == 0
    whole_weights, torn = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "torn"))
    assert same(whole_weights, torn)
