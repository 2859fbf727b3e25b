"""Every method on one small real problem: the sparsity, what it leaves alone, and the property that defines it."""

from dataclasses import replace

import pytest
import torch
from test_repair_architectures import cnn, digits, mlp, trained
from torch import Tensor, nn

from fairguard.errors import ConfigError
from fairguard.policy import Policy
from fairguard.repair.masks import Masks, masks_at
from fairguard.repair.methods import METHODS, ballot_lastlayer, bias_shift, chita, lth, method_named, safecompress
from fairguard.repair.methods.bilevel import implicit
from fairguard.repair.methods.fairscratch import signed_constants
from fairguard.repair.methods.gates import gated
from fairguard.repair.task import Candidate, Options, Task, answer, copied, make_task


@pytest.fixture(scope="module")
def task() -> Task:
    train, tune, _ = digits("image")
    torch.manual_seed(0)
    net = trained(mlp(), train)
    pruned = masks_at(net, 0.85, scope="layer").on(copied(net.state_dict()))
    return make_task(
        net,
        pruned,
        train,
        tune,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(margin=0.05, min_group=5),
        epochs=14,
        options=Options(lr=5e-3, batch_size=64),
    )


@pytest.fixture(scope="module")
def found(task: Task) -> dict[str, Candidate]:
    return {name: method_named(name)(task) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_sparsity_is_pruneds_and_stored(name: str, task: Task, found: dict[str, Candidate]) -> None:
    stored = sum(int((found[name].weights[n] == 0).sum()) for n in task.masks.keep)
    assert stored >= task.masks.total - task.masks.kept
    assert stored <= 1.02 * (task.masks.total - task.masks.kept)


@pytest.mark.parametrize("name", METHODS)
def test_the_score_is_the_weights_own(name: str, task: Task, found: dict[str, Candidate]) -> None:
    assert task.score_of(found[name].weights) == found[name].score


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"fairscratch", "bias-shift", "chita", "mask-only"}))
def test_methods_that_train_weights_beat_one_shot_pruning(name: str, task: Task, found: dict[str, Candidate]) -> None:
    assert found[name].score.accuracy > task.score_of(task.pruned).accuracy


@pytest.mark.parametrize("name", ["chita", "mask-only", "bias-shift"])
def test_methods_without_training_are_no_less_fair_than_one_shot_pruning(
    name: str, task: Task, found: dict[str, Candidate]
) -> None:
    assert found[name].score.violation <= task.score_of(task.pruned).violation


def test_unknown_methods_get_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'ballot'"):
        method_named("balot")


def test_mask_only_leaves_the_survivors_as_they_are(task: Task, found: dict[str, Candidate]) -> None:
    for name, keep in found["mask-only"].masks.keep.items():
        assert torch.equal(found["mask-only"].weights[name], task.dense[name] * keep)


def test_keep_mask_keeps_the_mask(task: Task, found: dict[str, Candidate]) -> None:
    for name, keep in task.masks.keep.items():
        assert not found["keep-mask"].weights[name][~keep].any()


def test_bias_shift_changes_as_many_numbers_as_there_are_classes(task: Task, found: dict[str, Candidate]) -> None:
    moved = {n: int((t != task.pruned[n]).sum()) for n, t in found["bias-shift"].weights.items()}
    assert {name for name, count in moved.items() if count} <= {"3.bias"}
    task.net.load_state_dict(task.pruned)
    logits = answer(task.net, task.head, task.tune, None).logits
    shifts = bias_shift.toward_equal_recall(logits, task.tune.y)

    def spread(shift: Tensor) -> float:
        right = ((logits + shift).argmax(1) == task.tune.y).float()
        return float(torch.stack([right[task.tune.y == k].mean() for k in range(10)]).std())

    assert min(map(spread, shifts)) < 0.8 * spread(shifts[0])


def test_bias_shift_wants_classes_as_groups(task: Task) -> None:
    other = replace(task.train, codes=task.train.codes % 2)
    with pytest.raises(ConfigError, match="groups that are the classes"):
        bias_shift.select_and_train(replace(task, train=other))


def test_lottery_tickets_keep_the_largest_of_the_living(task: Task) -> None:
    shares = lth.rounds(task.masks)
    assert shares[:3] == pytest.approx([0.8, 0.64, 0.512])
    assert shares[-1] == task.masks.kept / task.masks.total
    first = lth.next_masks(task, task.dense, None, 0.8)
    second = lth.next_masks(task, task.dense, first, 0.64)
    for name, keep in second.keep.items():
        assert not (keep & ~first.keep[name]).any(), "what died stays dead"
        # Independently: by numpy's sort of the sizes, the layer's share of the largest, each output's floor aside.
        size = task.dense[name].abs().flatten().numpy()
        largest = torch.zeros(size.size, dtype=torch.bool)
        largest[torch.from_numpy(size.argsort()[::-1][: int(keep.sum())].copy())] = True
        assert float((keep.flatten() == largest).float().mean()) > 0.97


def test_fairscratch_never_changes_a_weight(task: Task, found: dict[str, Candidate]) -> None:
    net = mlp()
    net.load_state_dict(task.dense)
    signed_constants(net, task.masks, task.options.seed)
    frozen = net.state_dict()
    for name, weight in found["fairscratch"].weights.items():
        alive = weight != 0
        assert torch.equal(weight[alive], frozen[name][alive])


def test_safecompress_keeps_each_density_through_drop_and_grow(task: Task) -> None:
    weights = task.masks.on(task.dense)
    growth = {name: torch.rand(mask.shape) for name, mask in task.masks.keep.items()}
    for threshold in (False, True):
        moved = safecompress.exchanged(weights, task.masks, 0.3, growth, threshold=threshold)
        for name, keep in task.masks.keep.items():
            assert int(moved.keep[name].sum()) == int(keep.sum())
        assert 0.6 < moved.overlap(task.masks) < 0.8


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


def test_chita_solves_its_least_squares() -> None:
    torch.manual_seed(0)
    a, weight = torch.randn(60, 12), torch.randn(3, 4)
    keep = torch.rand(3, 4) > 0.4
    got = chita.updated(weight, keep, a)
    assert not got[~keep].any()
    # The same problem as ordinary least squares on stacked rows, by another routine.
    n, alive = len(a), keep.flatten()
    ridge = chita.RIDGE * (a.square().sum(0) / n).mean()
    rows = torch.cat([a / n**0.5, ridge.sqrt() * torch.eye(12)]).double()
    exact = torch.linalg.lstsq(rows[:, alive], rows @ weight.flatten().double()).solution
    torch.testing.assert_close(got[keep].double(), exact, atol=1e-5, rtol=1e-4)


def test_chita_beats_magnitude_on_its_own_objective(task: Task) -> None:
    task.net.load_state_dict(task.dense)
    gradients = chita.balanced_gradients(task)
    name = "3.weight"
    a, w = gradients[name].double(), task.dense[name]
    one = Masks({name: task.masks.keep[name]}, {name: task.masks.patterns[name]}, "layer")
    chosen = one.select({name: chita.costs(w, gradients[name])}).keep[name]
    updated = chita.updated(w, chosen, gradients[name])
    largest = w * one.select({name: w.abs()}).keep[name]

    def error(new: Tensor) -> float:
        return float((a @ (new - w).flatten().double()).square().sum())

    assert error(updated) < 0.5 * error(largest)


def test_the_last_layer_ballot_votes_only_there(task: Task, found: dict[str, Candidate]) -> None:
    by_size = task.masks.select({name: task.dense[name].abs() for name in task.masks.keep})
    got = found["ballot-lastlayer"].masks
    assert torch.equal(got.keep["1.weight"], by_size.keep["1.weight"])
    assert not torch.equal(got.keep["3.weight"], by_size.keep["3.weight"])
    assert ballot_lastlayer.__doc__


def test_gates_leave_a_plain_network_behind() -> None:
    net = cnn()
    names = list(net.state_dict())
    masks = masks_at(net, 0.5)
    with gated(net, masks, {n: torch.rand(m.shape) for n, m in masks.keep.items()}):
        assert list(net.state_dict()) != names
    assert sorted(net.state_dict()) == sorted(names)
    assert all(int((net.state_dict()[n] != 0).sum()) <= int(m.sum()) for n, m in masks.keep.items())
