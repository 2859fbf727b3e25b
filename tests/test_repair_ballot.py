"""The default method and its parts, and shifted biases, on scikit-learn's digits with the classes as groups."""

from dataclasses import replace

import pytest
import torch
from test_repair_architectures import digits, mlp, trained
from torch import nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ModelError
from fairguard.policy import Policy
from fairguard.repair.constraints import Reference
from fairguard.repair.masks import Masks
from fairguard.repair.methods import ballot, bias_shift, bilevel, magnitude
from fairguard.repair.methods.gates import held, takes_gates
from fairguard.repair.patterns import Pattern
from fairguard.repair.shifts import WIDTH, groups_are_classes, last_bias, recalls, shifted, shifts_toward
from fairguard.repair.task import WITHIN, Candidate, Options, Task, answer, copied, make_task


def task_with(net: nn.Module, *, sparsity: float = 0.85, epochs: float = 14) -> Task:
    rows, tune, _ = digits("image")
    return make_task(
        net,
        masks_at(net, sparsity, scope="layer").on(copied(net.state_dict())),
        rows,
        tune,
        columns=("class",),
        levels=(tuple(map(str, range(10))),),
        policy=Policy(margin=0.05, min_group=5),
        epochs=epochs,
        options=Options(lr=5e-3, batch_size=64),
    )


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    return task_with(trained(mlp(), digits("image")[0]))


def spread(task: Task, candidate: Candidate) -> float:
    """The standard deviation of the classes' recalls on the tune rows."""
    task.net.load_state_dict(candidate.weights)
    return float(recalls(answer(task.net, task.head, task.tune, None).logits, task.tune.y).std())


def test_equal_reference_makes_classes_more_alike_than_plain_pruning_leaves_them(task: Task) -> None:
    equal = replace(task, options=replace(task.options, reference="equal"))
    assert spread(task, ballot.select_and_train(equal)) < spread(task, magnitude.select_and_train(task))


@pytest.mark.parametrize("part", ["rewind", "constrained", "distilled", "matched", "averaged", "shifted"])
def test_every_part_can_be_left_out(task: Task, part: str) -> None:
    left = ballot.select_and_train(replace(task, epochs=3), ballot.Recipe(**{part: False}))
    assert sum(int((left.weights[n] == 0).sum()) for n in task.masks.keep) >= task.masks.total - task.masks.kept


@pytest.mark.parametrize("mask", ["learned", "magnitude", "votes"])
def test_the_mask_may_come_about_otherwise(task: Task, mask: str) -> None:
    left = ballot.select_and_train(replace(task, epochs=3), ballot.Recipe(mask=mask))
    assert sum(int((left.weights[n] == 0).sum()) for n in task.masks.keep) >= task.masks.total - task.masks.kept


def test_the_mask_follows_the_weights_and_is_not_pruneds(task: Task) -> None:
    found = ballot.select_and_train(task)
    assert found.masks.kept == task.masks.kept
    assert 0.3 < found.masks.overlap(task.masks) < 1.0


def test_shifts_lead_to_the_recalls_that_are_wanted(task: Task) -> None:
    task.net.load_state_dict(task.pruned)
    logits = answer(task.net, task.head, task.tune, None).logits
    for wanted in (torch.zeros(10), torch.linspace(0.0, 0.3, 10)):
        off = [
            float((recalls(logits + s, task.tune.y) - wanted).std()) for s in shifts_toward(wanted, logits, task.tune.y)
        ]
        assert min(off) < 0.7 * off[0]


def test_smoothed_recalls_vary_less_and_lead_to_more_alike_unseen_classes() -> None:
    """Nets' logits simulated: 60 rows a class to shift by, 4,000 to look at, margins that differ by class."""
    generator = torch.Generator().manual_seed(0)
    easy = torch.linspace(1.0, 2.2, 8)

    def drawn(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.arange(8).repeat_interleave(rows)
        return torch.randn(len(y), 8, generator=generator) + easy[y][:, None] * nn.functional.one_hot(y, 8) * 1.5, y

    unseen = drawn(4_000)
    off: dict[float, list[float]] = {0.0: [], WIDTH: []}
    for _ in range(20):
        few = drawn(60)
        for width, found in off.items():
            shift = shifts_toward(torch.zeros(8), *few, width=width)[-1]
            found.append(float(recalls(unseen[0] + shift, unseen[1]).std()))
    before = float(recalls(*unseen).std())
    assert sum(off[WIDTH]) / 20 < 0.85 * sum(off[0.0]) / 20 < 0.5 * before


@pytest.mark.parametrize("reference", ["dense", "equal"])
def test_a_shift_mends_violations_unless_accuracy_is_below_the_floor(task: Task, reference: Reference) -> None:
    bias = last_bias(task, task.pruned)
    assert bias is not None
    asked = replace(task, options=replace(task.options, reference=reference))
    before = asked.score_of(asked.pruned)
    free, freed = shifted(replace(asked, floor=0.0), asked.pruned, bias)
    assert not torch.equal(free[bias], asked.pruned[bias])
    assert all(torch.equal(free[name], tensor) for name, tensor in asked.pruned.items() if name != bias)
    assert freed.violation < before.violation
    _, kept = shifted(replace(asked, floor=1.0), asked.pruned, bias)
    assert kept.accuracy >= max(before.accuracy, freed.accuracy) - WITHIN, "out of reach: the most accurate, nearly"


def test_a_net_without_last_biases_is_left_as_trained_and_bias_shift_says_so() -> None:
    bare = nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=False))
    other = task_with(bare, sparsity=0.5, epochs=2)
    assert groups_are_classes(other)
    assert ballot.select_and_train(other).weights.keys() == bare.state_dict().keys()
    with pytest.raises(ModelError, match="one bias per class"):
        bias_shift.select_and_train(other)


def test_held_gates_let_their_counts_live_and_hear_from_the_dead() -> None:
    torch.manual_seed(0)
    net, x, y = nn.Linear(6, 3), torch.randn(40, 6), torch.randint(0, 3, (40,))
    masks = Masks({"weight": torch.zeros(3, 6, dtype=torch.bool)}, {"weight": Pattern()})
    with held(net, masks) as gates:
        scores, hidden = gates.scores[0], gates.hidden[0]
        optimiser = torch.optim.SGD(gates.groups(0.1)(net), lr=0.1)
        gates.counts.fill_(5)
        gates.choose()
        dead = net.weight.detach() == 0
        assert int(dead.sum()) == 13
        before = hidden.clone()
        nn.functional.cross_entropy(net(x), y).backward()
        # A dead weight's score falls and rises as if the weight came back: against finite differences of the loss.
        place = tuple(int(i) for i in dead.nonzero()[0])
        ends = []
        for share in (1e-3, -1e-3):
            moved = net.weight.detach().clone()
            moved[place] += share * hidden[place]
            ends.append(float(nn.functional.cross_entropy(x @ moved.T + net.bias.detach(), y)))
        gates.follow(net)
        assert float(scores.grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-3, rel=0.02, abs=1e-4)
        optimiser.step()
        gates.settle()
        assert torch.equal(hidden[dead], before[dead]), "dead weights rest"
        assert not torch.equal(hidden[~dead], before[~dead]), "living weights learn"
        net.eval()
        assert int((net.weight != 0).sum()) == 5, "exact where it counts, whatever the threshold let through"
        assert bool((net.weight.detach() != 0).flatten()[scores.flatten().topk(5).indices].all())
    assert list(net.state_dict()) == ["weight", "bias"]
    assert int((net.weight != 0).sum()) == 5


def test_held_gates_let_exactly_their_counts_live_where_scores_are_equal() -> None:
    net = nn.Linear(6, 3)
    with held(net, Masks({"weight": torch.zeros(3, 6, dtype=torch.bool)}, {"weight": Pattern()})) as gates:
        gates.scores[0].data.fill_(1.0)
        gates.counts.fill_(5)
        net.eval()
        picked = gates.scores[0].detach().flatten().topk(5, sorted=False).indices
        assert set(net.weight.detach().flatten().nonzero()[:, 0].tolist()) == set(picked.tolist()), "as topk picks them"
        net.train()
        net.eval()
        assert set(net.weight.detach().flatten().nonzero()[:, 0].tolist()) == set(picked.tolist()), "and the same again"


@pytest.mark.parametrize(("sparsity", "rate"), [(0.5, 2.5), (0.75, 7.5), (0.8, 10.0), (0.98, 10.0)])
def test_scores_learn_slower_where_size_tells_well_what_matters(sparsity: float, rate: float) -> None:
    net = nn.Linear(40, 25)
    with held(net, masks_at(net, sparsity)) as gates:
        weights, scores = gates.groups(1e-3)(net)
        assert scores["lr"] == pytest.approx(rate * 1e-3)
        assert "lr" not in weights, "the optimiser's own"


def test_a_frozen_weight_behind_a_gate_stays_as_it_is() -> None:
    torch.manual_seed(0)
    net = mlp()
    first = next(name for name, p in net.named_parameters() if p.dim() > 1)
    net.get_parameter(first).requires_grad_(False)
    frozen = task_with(net, epochs=3)
    found = ballot.select_and_train(frozen).weights[first]
    living = found != 0
    assert 0 < int(living.sum()) <= int(frozen.masks.keep[first].sum())
    assert torch.equal(found[living], frozen.dense[first][living])


class Flaky(nn.Module):
    """Has memory for 32 rows; for the second such piece of the first batch it has none, as beside another program."""

    def __init__(self, net: nn.Module, *, flaky: bool) -> None:
        super().__init__()
        self.net, self.flaky, self.pieces = net, flaky, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.flaky and self.training:
            self.pieces += len(x) == 32
            if len(x) > 32 or (len(x) == 32 and self.pieces == 2):
                raise torch.OutOfMemoryError("too many rows")
        return self.net(x)


def test_out_of_memory_within_a_batch_leaves_nothing_of_it_behind_gates() -> None:
    torch.manual_seed(0)
    net = mlp()
    done = []
    for flaky in (False, True):
        one = task_with(Flaky(net, flaky=flaky), epochs=2)
        one = replace(one, options=replace(one.options, distil=0.0))
        done.append(ballot.select_and_train(one, ballot.Recipe(constrained=False, averaged=False)).weights)
        net.load_state_dict({name.removeprefix("net."): tensor for name, tensor in one.dense.items()})
    for name, tensor in done[0].items():
        torch.testing.assert_close(done[1][name], tensor, atol=2e-3, rtol=1e-2)


class Cell(nn.Module):
    """A layer of the user's own, whose parts have the names that they like."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(64, 10) * 0.1)
        self.gates = nn.Linear(10, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gates(x.flatten(1) @ self.weight)


def test_a_layer_with_gates_of_its_own_learns_its_mask() -> None:
    torch.manual_seed(0)
    found = ballot.select_and_train(task_with(Cell(), epochs=3))
    assert sorted(found.weights) == ["gates.bias", "gates.weight", "weight"]


def test_a_layer_that_pruning_emptied_learns_its_mask(task: Task) -> None:
    first, last = task.masks.keep
    keep = {first: task.masks.keep[first], last: torch.zeros_like(task.masks.keep[last])}
    emptied = replace(task, epochs=3, masks=Masks(keep, dict.fromkeys(keep, Pattern()), "layer"))
    found = ballot.select_and_train(emptied)
    assert int((found.weights[last] != 0).sum()) == 0
    assert int((found.weights[first] != 0).sum()) <= int(keep[first].sum())


def test_what_takes_no_gates_is_tightened_and_keeps_its_pattern(task: Task) -> None:
    masks = Masks({"0.weight": torch.ones(4, 4, dtype=torch.bool)}, {"0.weight": Pattern()})
    assert not takes_gates(torch.jit.script(nn.Sequential(nn.Linear(4, 4))), masks)
    assert takes_gates(nn.Sequential(nn.Linear(4, 4)), masks)
    rows = {name: p.detach().abs().flatten(1).sum(1) for name, p in task.net.named_parameters() if p.dim() > 1}
    first, *_ = rows
    keep = (rows[first] >= rows[first].median())[:, None].expand(task.dense[first].shape).clone()
    filters = replace(task, epochs=3, masks=Masks({first: keep}, {first: Pattern("filters")}))
    assert not takes_gates(task.net, filters.masks)
    living = ballot.select_and_train(filters).weights[first] != 0
    assert int(living.any(1).sum()) == int(keep.any(1).sum())
    with pytest.raises(ModelError, match="one by one"):
        bilevel.select_and_train(filters)
