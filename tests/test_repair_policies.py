"""A repair keeps to the notion of fairness that the policy gates: every metric, on real people."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_repair_training import rows, small_net, task_of
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.checking import check
from fairguard.config import Settings
from fairguard.opening import open_source
from fairguard.policy import Policy
from fairguard.repair.dividing import divided
from fairguard.repair.objectives import fair, selection_loss
from fairguard.repair.preparing import task_for
from fairguard.repair.repairing import repair
from fairguard.repair.rows import shuffled
from fairguard.repair.task import Options, make_task
from fairguard.repair.telling.record import Result
from fairguard.verdict import Outcome

Given = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]


@pytest.mark.parametrize("favourable", [0, 1, 2])
def test_a_push_away_from_the_favourable_class_has_an_end(favourable: int) -> None:
    """Cross-entropy with a negative weight has none: it falls, faster and faster, until the net answers one class."""
    logits = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    push = torch.linspace(-2, 2, 64)
    optimiser = torch.optim.SGD([logits], lr=20.0)
    for _ in range(500):
        optimiser.zero_grad()
        loss = selection_loss(logits, favourable, push)
        loss.backward()
        optimiser.step()
    assert 0 <= float(loss.detach()) < 0.05
    assert float(logits.detach().abs().max()) < 50
    chosen = logits.detach().argmax(1) == favourable
    assert bool(chosen[push > 0.2].all())
    assert not bool(chosen[push < -0.2].any())


@pytest.mark.parametrize("push", [1.0, -1.0])
def test_a_push_is_the_derivative_of_the_chance_of_the_favourable_class(push: float) -> None:
    logits = torch.tensor([[0.3, -0.2, 1.0]], dtype=torch.float64, requires_grad=True)
    selection_loss(logits, 1, torch.tensor([push], dtype=torch.float64)).backward()
    chance = logits.detach().softmax(1)[0, 1]
    expected = push * (chance - 1) if push > 0 else -push * chance
    assert float(logits.grad[0, 1]) == pytest.approx(float(expected))  # type: ignore[index]


@pytest.mark.parametrize(("metric", "follows_dense"), [("disagreement", True), ("accuracy", False)])
def test_where_disagreement_is_gated_denses_wrong_answers_are_targets_too(metric: str, follows_dense: bool) -> None:
    torch.manual_seed(0)
    usual = task_of(small_net(), rows(1200, 0), rows(600, 1))
    task = make_task(
        usual.net,
        usual.pruned,
        usual.train,
        usual.tune,
        columns=("g",),
        levels=(("a", "b"),),
        policy=Policy(metrics=(metric,)),
        epochs=1,
    )
    wrong = (task.before[0].hits[:, 0] == 0).nonzero()[:, 0]
    assert len(wrong) > 20
    logits = task.before[0].logits[wrong].clone().requires_grad_()
    fair(task)(logits, wrong).backward()
    assert (float(logits.grad.abs().max()) < 1e-6) is follows_dense  # type: ignore[union-attr]


class Adult(nn.Sequential):
    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


@pytest.fixture(scope="module")
def adult(data_dir: Path) -> tuple[Given, Given]:
    """Who earns more than 50,000, by race and sex: 30,000 people to learn from, 15,000 to judge on."""
    table = pd.read_csv(data_dir / "adult.csv.gz").sample(45_000, random_state=0)
    groups = {column: table[column].astype(str).to_numpy() for column in ("race", "sex")}
    columns = table.drop(columns=["race", "sex", "fnlwgt", "split", "label"])
    features = pd.get_dummies(columns.fillna("?")).astype("float32")
    x = ((features - features.mean()) / (features.std() + 1e-6)).to_numpy()
    y = table["label"].to_numpy(np.int64)

    def of(rows: slice) -> Given:
        return x[rows], y[rows], {name: values[rows] for name, values in groups.items()}

    return of(slice(30_000)), of(slice(30_000, None))


def learned(given: Given) -> nn.Module:
    x, y = torch.tensor(given[0]), torch.tensor(given[1])
    torch.manual_seed(0)
    net = Adult(x.shape[1])
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(6):
        for index in shuffled(len(y), 128, seed=0, epoch=epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[index]), y[index]).backward()
            optimiser.step()
    return net.eval()


def pruned_until(regressed: Outcome, net: nn.Module, given: Given, **how: object) -> dict[str, Tensor]:
    for sparsity in (0.8, 0.9, 0.95):
        pruned = masks_at(net, sparsity, scope="layer").on(net.state_dict())
        other = Adult(given[0].shape[1])
        other.load_state_dict(pruned)
        if check(net, other.eval(), given, **how).outcome is regressed:
            return pruned
    raise AssertionError("nothing to repair")


@pytest.mark.parametrize("metric", ["selection_rate", "harmful_flips"])
def test_adult_is_repaired_for(metric: str, adult: tuple[Given, Given], tmp_path: Path) -> None:
    train, unseen = adult
    dense = learned(train)
    how = {"metrics": (metric,), "device": "cpu", "seed": 0, "min_group": 200}
    other = Adult(train[0].shape[1])
    other.load_state_dict(pruned_until(Outcome.REGRESSED, dense, unseen, **how))
    report = repair(dense, other.eval(), tmp_path / "fair.pt", train=train, data=unseen, budget="30epochs", **how)
    assert report.result in (Result.REPAIRED, Result.UNPROVEN), report.to_text()
    assert report.after is not None
    accuracy = report.after.overall.accuracy
    assert accuracy.pruned > accuracy.dense - 0.01
    assert not report.after.regressed


@pytest.mark.parametrize(
    ("classes", "named", "good"),
    [(("0", "1"), None, 1), (("1", "0"), None, 0), (("no", "yes"), None, 1), (("no", "yes"), "no", 0)],
)
def test_the_class_that_is_good_to_receive_is_the_verdicts(
    classes: tuple[str, str], named: str | None, good: int
) -> None:
    learn = rows(1_200, 0)
    places = learn.y.numpy() if classes[0] != "1" else 1 - learn.y.numpy()
    given = (learn.x.numpy(), np.array(classes)[places], {"g": learn.codes[:, 0].numpy()})
    torch.manual_seed(7)  # answers both classes about as often
    net = small_net()
    settings = Settings(classes=classes, favourable=named, metrics=("selection_rate",), device="cpu")
    source = open_source(given, settings, needs_features=True)
    parts = divided(source, settings, train=None, verify=None, tune=None, classes=classes)
    pruned = masks_at(net, 0.8, scope="layer").on(net.state_dict())
    task = task_for(net, pruned, parts, settings, classes=classes, options=Options())
    verdict = check(net.eval(), net, given, settings=settings)
    assert task.cells[0] is not None
    assert task.cells[0].favourable == good
    assert {finding.label for finding in verdict.findings} == {classes[good]}
