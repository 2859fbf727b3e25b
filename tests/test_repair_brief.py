"""A budget of few steps: a mask cannot be learned in it, and what fine-tuning gave PRUNED is not thrown away."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_repair_training import rows, small_net, task_of, trained

from benchmarks.magnitude import masks_at
from fairguard.repair.methods import ballot, method_for, method_named
from fairguard.repair.objectives import plain
from fairguard.repair.repairing import repair
from fairguard.repair.rows import shuffled
from fairguard.repair.task import Task
from fairguard.repair.training import train

STEPS = 1200 // 64


@pytest.fixture(scope="module")
def task() -> Task:
    """Half of the weights are gone, and PRUNED was trained again since."""
    torch.manual_seed(0)
    made = task_of(small_net(), rows(1200, 0), rows(600, 1))
    tuned = train(made, "x", objective=plain(made), epochs=8, start=made.pruned, masks=made.masks)
    return replace(made, pruned=tuned.weights)


def test_the_budget_decides_whether_a_mask_is_learned(task: Task) -> None:
    few, many = (replace(task, epochs=ballot.OVERHEAD * epochs) for epochs in (3, 1 + ballot.SHORT // STEPS))
    method, told = method_for("ballot", few)
    assert method is ballot.briefly
    assert told == [
        f"{3 * STEPS} steps of training are too few for a mask to be learned, so pruned's own mask is kept and its "
        "weights are trained on: --budget 22epochs lets it learn"
    ]
    assert method_for("ballot", many) == (ballot.select_and_train, [])
    assert method_for("ceag", few) == (method_named("ceag"), [])
    images = replace(many.train, x=many.train.x[:, :, None, None])
    assert "(600 where a row's features are no list" in ballot.too_short_notes(replace(many, train=images))[0]
    assert not ballot.too_short_notes(replace(task, epochs=22)), "what is advised is enough"


def test_few_steps_go_on_from_what_fine_tuning_made(task: Task) -> None:
    few = replace(task, epochs=2.4)
    found = ballot.briefly(few)
    assert all(torch.equal(found.masks.keep[name], keep) for name, keep in task.masks.keep.items())
    learned = ballot.select_and_train(few)
    assert found.score.accuracy > learned.score.accuracy


def test_the_report_says_that_the_mask_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = trained(small_net(), on := rows(3000, 0))
    torch.save(net, tmp_path / "dense.pt")
    masks = masks_at(net, 0.8)
    masks.enforcer(net)()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for index in shuffled(len(on), 64, seed=0, epoch=0):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(on.x[index]), on.y[index]).backward()
        optimiser.step()
        masks.enforcer(net)()
    torch.save(net.eval(), tmp_path / "pruned.pt")
    given = (on.x.numpy(), on.y.numpy(), {"g": on.codes[:, 0].numpy()})
    files = [tmp_path / name for name in ("dense.pt", "pruned.pt", "fair.pt")]
    report = repair(*files, data=given, budget="3epochs", keep_best=True, trust=True)
    assert "too few for a mask to be learned" in " ".join(report.notes)
    assert report.moved == 0


def test_without_fine_tuning_the_mask_is_learned_however_short_the_training(task: Task) -> None:
    """Nothing could be lost, and dense's largest weights may be a mask under which nothing can be learned."""
    few = replace(task, epochs=2.4, pruned=task.masks.on(task.dense))
    assert method_for("ballot", few) == (ballot.select_and_train, [])
    images = replace(few, train=replace(few.train, x=few.train.x[:, :, None, None]))
    assert not ballot.too_short_notes(images)
