"""The running mean of weights, mixed rows, and kernels stored channels last: what training stands on."""

from dataclasses import replace

import pytest
import torch
from test_repair_architectures import digits, mlp
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ModelError
from fairguard.policy import Policy
from fairguard.repair.averaging import Average
from fairguard.repair.nets import lay_out
from fairguard.repair.objectives import plain
from fairguard.repair.task import Options, Task, copied, make_task
from fairguard.repair.training import train


def small_task(net: nn.Module) -> Task:
    rows, tune, _ = digits("image")
    return make_task(
        net,
        masks_at(net, 0.5).on(copied(net.state_dict())),
        rows,
        tune,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(min_group=5),
        epochs=2,
        options=Options(batch_size=64),
    )


def test_a_mean_is_that_of_the_steps_and_the_net_gets_its_own_weights_back() -> None:
    net = nn.Linear(3, 2)
    average = Average(net, 100)
    seen = []
    for step in range(4):
        with torch.no_grad():
            net.weight.fill_(float(step))
        average.update()
        seen.append(float(step))
    with average.applied():
        assert net.weight[0, 0].item() == pytest.approx(sum(seen) / 4)
    assert net.weight[0, 0].item() == 3.0
    average.restart()
    with average.applied():
        assert net.weight[0, 0].item() == 3.0


def test_no_horizon_is_no_mean() -> None:
    net = nn.Linear(3, 2)
    average = Average(net, 0)
    average.update()
    with average.applied():
        before = net.weight.clone()
    assert torch.equal(net.weight, before)
    assert average.state() == {"steps": 0, "mean": []}


def test_a_mean_under_a_mask_is_as_sparse() -> None:
    task = small_task(mlp())
    done = train(
        task, "mean", objective=plain(task), epochs=2, start=task.dense, masks=task.masks, averaged=True, mixing=1.0
    )
    for name, keep in task.masks.keep.items():
        assert not done.weights[name][~keep].any()
        assert int((done.weights[name] != 0).sum()) == int(keep.sum())


def test_mixing_is_a_function_of_the_seed_and_changes_the_training() -> None:
    def weights(seed: int, mixing: float) -> Tensor:
        torch.manual_seed(0)
        task = small_task(mlp())
        task = replace(task, options=replace(task.options, seed=seed))
        done = train(task, "mixed", objective=plain(task), epochs=1, start=task.dense, masks=task.masks, mixing=mixing)
        return done.weights["1.weight"]

    assert torch.equal(weights(1, 1.0), weights(1, 1.0))
    assert not torch.equal(weights(1, 1.0), weights(1, 0.0))


class Viewing(nn.Module):
    """A net that counts on the usual order of memory."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(2, 4, 3), nn.Linear(4 * 36, 2)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.convolution(x)
        return self.last(hidden.view(len(x), -1))


def test_kernels_are_stored_channels_last_only_where_the_net_takes_it() -> None:
    x = torch.randn(5, 2, 8, 8)
    flattening = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    lay_out(flattening, x)
    assert flattening[0].weight.is_contiguous(memory_format=torch.channels_last)
    viewing = Viewing()
    expected = viewing(x)
    lay_out(viewing, x)
    torch.testing.assert_close(viewing(x), expected)
    assert copied(flattening.state_dict())["0.weight"].is_contiguous()


class Doubled(nn.Module):
    """A net that casts its rows to a fixed type."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.only(x.double())


def test_a_net_that_casts_to_another_type_than_its_weights_is_refused_in_one_line() -> None:
    x = torch.randn(5, 4)
    assert Doubled().double()(x).shape == (5, 2), "it runs as it was saved"
    with pytest.raises(ModelError, match=r"does not run in float32.*weight\.dtype") as caught:
        lay_out(Doubled(), x)
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RuntimeError, match="shapes"):
        lay_out(Doubled().double(), torch.randn(5, 3))
