"""Repair takes any architecture: each is trained on small real data, pruned until classes suffer, and repaired.

What methods put into a network, learned gates, feels what its weights feel, and leaves it as it was.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.policy import Policy
from fairguard.repair.masks import Masks
from fairguard.repair.methods import ballot
from fairguard.repair.methods.bilevel import implicit
from fairguard.repair.methods.gates import gated
from fairguard.repair.rows import Rows, shuffled
from fairguard.repair.task import Options, Task, copied, make_task

SIZE = 8


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = nn.functional.max_pool2d(x + torch.relu(self.inner(x)), 2)
        return self.head(x.flatten(1))


class Tokens(nn.Module):
    """A transformer encoder over the rows of the image, their ink counted in 17 steps and embedded."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(17, 8)
        self.place = nn.Parameter(torch.randn(SIZE, 64) * 0.1)
        self.inside = nn.Linear(64, 32)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(32, 2, 64, dropout=0.1, batch_first=True), 1, enable_nested_tensor=False
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2) + self.place
        return self.head(self.encoder(self.inside(x)).mean(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SIZE, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10)
    )


def depthwise() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], str, float]] = {
    "mlp": (mlp, "image", 0.8),
    "cnn": (cnn, "image", 0.85),
    "residual": (Residual, "image", 0.85),
    "depthwise": (depthwise, "image", 0.7),
    "transformer": (Tokens, "tokens", 0.75),
    "lstm": (Recurrent, "rows", 0.85),
}


def digits(form: str) -> tuple[Rows, Rows, Rows]:
    images, y = load_digits(return_X_y=True)
    images = images.reshape(-1, SIZE, SIZE)
    x = {
        "image": torch.tensor(images[:, None] / 16, dtype=torch.float32),
        "rows": torch.tensor(images / 16, dtype=torch.float32),
        "tokens": torch.tensor(images, dtype=torch.int64),
    }[form]
    labels = torch.tensor(y, dtype=torch.int64)
    every = Rows(x, labels, labels[:, None].clone(), np.arange(len(y)))
    order = np.random.default_rng(0).permutation(len(y))
    return every.take(order[:900]), every.take(order[900:1300]), every.take(order[1300:])


def trained(net: nn.Module, rows: Rows, *, epochs: int = 12, lr: float = 5e-3) -> nn.Module:
    optimiser = torch.optim.Adam(net.parameters(), lr=lr)
    for epoch in range(epochs):
        for index in shuffled(len(rows), 64, seed=0, epoch=epoch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(rows.x[index]), rows.y[index]).backward()
            optimiser.step()
    return net.eval()


def accuracy(net: nn.Module, weights: dict[str, Tensor], rows: Rows) -> tuple[float, float]:
    """Return accuracy and the worst class's."""
    net.load_state_dict(weights)
    with torch.no_grad():
        right = (net.eval()(rows.x).argmax(1) == rows.y).float()
    return float(right.mean()), min(float(right[rows.y == k].mean()) for k in range(10))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_repair_of(name: str) -> None:
    build, form, sparsity = ARCHITECTURES[name]
    train, tune, unseen = digits(form)
    torch.manual_seed(0)
    net = trained(build(), train)
    masks = masks_at(net, sparsity)
    pruned = masks.on(copied(net.state_dict()))
    task: Task = make_task(
        net,
        pruned,
        train,
        tune,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(margin=0.05, min_group=5),
        epochs=8,
        options=Options(lr=5e-3, batch_size=64),
    )
    assert set(task.masks.keep) == set(masks.keep)
    found = ballot.select_and_train(replace(task, net=net))
    zeros = sum(int((found.weights[name] == 0).sum()) for name in masks.keep)
    assert zeros >= masks.total - task.masks.kept, "never less sparse than PRUNED"
    before, worst_before = accuracy(net, pruned, unseen)
    after, worst_after = accuracy(net, found.weights, unseen)
    assert after > before
    assert worst_after > worst_before


def test_a_gates_gradient_equals_finite_differences() -> None:
    torch.manual_seed(0)
    net, x, y = nn.Linear(6, 3), torch.randn(40, 6), torch.randint(0, 3, (40,))
    masks = Masks({"weight": torch.ones(3, 6, dtype=torch.bool)}, {})
    net.double()

    def loss() -> Tensor:
        return nn.functional.cross_entropy(net(x.double()), y)

    with gated(net, masks, {"weight": torch.rand(3, 6).double()}) as gates:
        gate = gates["weight"]
        gate.hard = False
        loss().backward()
        direct = gate.scores.grad.clone()
        for place in [(0, 0), (1, 3), (2, 5)]:
            ends = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    gate.scores[place] += step
                    ends.append(float(loss()))
                    gate.scores[place] -= step
            assert direct[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)
        inner = net.parametrizations["weight"].original.grad.clone()
        implicit(net, gates)
        torch.testing.assert_close(gate.scores.grad, direct - inner.square() / 100.0)


def test_gates_leave_a_plain_network_behind() -> None:
    net = cnn()
    names = list(net.state_dict())
    masks = masks_at(net, 0.5)
    with gated(net, masks, {n: torch.rand(m.shape) for n, m in masks.keep.items()}):
        assert list(net.state_dict()) != names
    assert sorted(net.state_dict()) == sorted(names)
    assert all(int((net.state_dict()[n] != 0).sum()) <= int(m.sum()) for n, m in masks.keep.items())
