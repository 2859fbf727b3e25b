"""Every method on one small real problem: the sparsity, what it leaves alone, and the property that defines it."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_repair_architectures import digits, mlp, trained
from torch import Tensor, nn

from benchmarks.magnitude import masks_at
from fairguard.errors import ConfigError, ModelError
from fairguard.policy import Policy
from fairguard.repair.journal import Journal
from fairguard.repair.masks import Masks
from fairguard.repair.methods import (
    METHODS,
    ballot_lastlayer,
    bias_shift,
    chita,
    lth,
    magnitude,
    method_named,
    safecompress,
)
from fairguard.repair.methods.bilevel import gap
from fairguard.repair.methods.fairscratch import signed_constants
from fairguard.repair.methods.gates import gated
from fairguard.repair.shifts import shifts_toward
from fairguard.repair.task import Candidate, Options, Task, answer, copied, make_task
from fairguard.repair.training import BeforeEpoch, Trained, train


@pytest.fixture(scope="module")
def task() -> Task:
    rows, tune, _ = digits("image")
    torch.manual_seed(0)
    net = trained(mlp(), rows)
    pruned = masks_at(net, 0.85, scope="layer").on(copied(net.state_dict()))
    return make_task(
        net,
        pruned,
        rows,
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


@pytest.mark.parametrize("name", [name for name, traits in METHODS.items() if traits.trains_weights])
def test_methods_that_train_weights_beat_one_shot_pruning(name: str, task: Task, found: dict[str, Candidate]) -> None:
    assert found[name].score.accuracy > task.score_of(task.pruned).accuracy


@pytest.mark.parametrize("name", [name for name, traits in METHODS.items() if not traits.trains_weights])
def test_methods_without_training_are_no_less_fair_than_one_shot_pruning(
    name: str, task: Task, found: dict[str, Candidate]
) -> None:
    assert found[name].score.violation <= task.score_of(task.pruned).violation


def two_of_four(weights: dict[str, Tensor]) -> None:
    for runs in (weights["1.weight"].view(-1, 4), weights["3.weight"].view(-1, 4)):
        runs.scatter_(1, runs.abs().topk(2, largest=False).indices, 0.0)


def rows_of_a_layer(weights: dict[str, Tensor]) -> None:
    norms = weights["1.weight"].norm(dim=1)
    weights["1.weight"][norms < norms.median()] = 0.0


def units_of_a_layer(weights: dict[str, Tensor]) -> None:
    rows_of_a_layer(weights)
    dead = ~weights["1.weight"].any(1)
    weights["1.bias"][dead], weights["3.weight"][:, dead] = 0.0, 0.0


PATTERNS = {"2:4": two_of_four, "filters": rows_of_a_layer, "whole units": units_of_a_layer}


@pytest.fixture(scope="module")
def patterned() -> dict[str, Task]:
    rows, tune, _ = digits("image")
    tasks, how = {}, {"columns": ("class",), "levels": (tuple(map(str, range(10))),), "policy": Policy()}
    for pattern, prune in PATTERNS.items():
        torch.manual_seed(0)
        net = trained(mlp(), rows, epochs=4)
        prune(pruned := copied(net.state_dict()))
        tasks[pattern] = make_task(net, pruned, rows, tune, **how, epochs=4, options=Options(lr=5e-3, batch_size=64))
        assert {str(p) for p in tasks[pattern].masks.patterns.values()} - {"follows"} == {pattern}
    return tasks


def assert_fits(pattern: str, masks: Masks, weights: dict[str, Tensor]) -> None:
    for name, keep in masks.keep.items():
        living = weights[name] != 0
        assert int(living.sum()) <= int(keep.sum()), "no more of them live"
        if pattern == "2:4":
            assert int(living.view(-1, 4).sum(1).max()) <= 2
        elif pattern == "filters":
            assert int(living.any(1).sum()) <= int(keep.any(1).sum())
        assert pattern != "whole units" or not living[~keep].any(), "what is gone stays so"


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_pattern_of_zeros_or_refuses_in_one_line(
    name: str, pattern: str, patterned: dict[str, Task]
) -> None:
    task = patterned[pattern]
    if not METHODS[name].keeps_patterns:
        with pytest.raises(ModelError, match=f"is pruned {pattern}: use --method") as caught:
            method_named(name)(task)
        assert len(str(caught.value).splitlines()) == 1
    else:
        found = method_named(name)(task)
        assert_fits(pattern, task.masks, found.weights)
        assert_fits(pattern, task.masks, found.masks.keep)


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
    shifts = shifts_toward(torch.zeros(10), logits, task.tune.y)

    def spread(shift: Tensor) -> float:
        right = ((logits + shift).argmax(1) == task.tune.y).float()
        return float(torch.stack([right[task.tune.y == k].mean() for k in range(10)]).std())

    assert min(map(spread, shifts)) < 0.8 * spread(shifts[0])


def test_bias_shift_wants_classes_as_groups(task: Task) -> None:
    other = replace(task.train, codes=task.train.codes % 2)
    with pytest.raises(ConfigError, match="groups that are the classes"):
        bias_shift.select_and_train(replace(task, train=other))


def largest(sizes: list[np.ndarray], count: int, pruned: list[np.ndarray]) -> list[np.ndarray]:
    """Return the ``count`` largest of all layers, of each output at least a fifth of what PRUNED has: plain numpy."""
    places = [(layer, row, column) for layer, size in enumerate(sizes) for row, column in np.ndindex(*size.shape)]
    places.sort(key=lambda place: -sizes[place[0]][place[1], place[2]])
    left = [[math.ceil(0.2 * row.sum()) for row in keep] for keep in pruned]
    safe = []
    for layer, row, column in places:
        if left[layer][row]:
            left[layer][row] -= 1
            safe.append((layer, row, column))
    others = [place for place in places if place not in set(safe)]
    found = [np.zeros(size.shape, dtype=bool) for size in sizes]
    for layer, row, column in [*safe, *others][:count]:
        found[layer][row, column] = True
    return found


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_lottery_tickets_survivors_equal_an_independent_computation(
    scope: Any, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.net.load_state_dict(task.dense)
    masks = task.masks if scope == "layer" else masks_at(task.net, 0.85)
    starts = []

    def noted(task: Task, name: str, *, start: dict[str, Tensor], **how: Any) -> Trained:
        starts.append((name, start))
        return train(task, name, start=start, **how)

    monkeypatch.setattr(lth, "train", noted)
    found = lth.select_and_train(replace(task, masks=masks, journal=Journal(tmp_path / "journal")))

    pruned = {name: keep.numpy() for name, keep in masks.keep.items()}
    total, kept = masks.total, masks.kept
    alive = {name: np.ones_like(keep) for name, keep in pruned.items()}
    shares = [*[0.8**r for r in range(1, 20) if 0.8**r > kept / total], kept / total]
    for number, share in enumerate(shares):
        trained_weights = Journal(None)
        trained_weights.folder = tmp_path / "journal"
        weights = trained_weights.load(f"round-{number}.done")["weights"]
        sizes = {n: np.where(alive[n], weights[n].abs().numpy(), -1.0) for n in pruned}
        assert all(not weights[n].numpy()[~alive[n]].any() for n in pruned), "what died stays dead"
        loosen = max(0.0, (share * total - kept) / (total - kept))
        counts = {n: int(keep.sum()) + round(loosen * int((~keep).sum())) for n, keep in pruned.items()}
        if scope == "layer":
            alive = {n: largest([sizes[n]], counts[n], [pruned[n]])[0] for n in pruned}
        else:
            chosen = largest(list(sizes.values()), sum(counts.values()), list(pruned.values()))
            alive = dict(zip(pruned, chosen, strict=True))
        assert sum(int(a.sum()) for a in alive.values()) == pytest.approx(share * total, abs=len(pruned))
    for name, survivors in alive.items():
        assert np.array_equal(found.masks.keep[name].numpy(), survivors)
        assert not found.weights[name].numpy()[~survivors].any()
    early = trained_weights.load("early.done")["weights"]
    rewound = {name: start for name, start in starts if name != "early"}
    assert list(rewound) == [*[f"round-{number}" for number in range(len(shares))], "ticket"]
    for start in rewound.values():
        assert all(torch.equal(start[name], early[name]) for name in early), "every training rewinds to the early epoch"


@pytest.mark.parametrize("method", ["magnitude", "ceag"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_gradual_pruning_follows_the_cubic_schedule(
    method: str, scope: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.net.load_state_dict(task.dense)
    masks = task.masks if scope == "layer" else masks_at(task.net, 0.85)
    seen: dict[int, Masks] = {}

    def noted(task: Task, name: str, *, before_epoch: BeforeEpoch, **how: Any) -> Trained:
        def moved(epoch: int, net: nn.Module) -> Masks | None:
            if (found := before_epoch(epoch, net)) is not None:
                seen[epoch] = found
            return found

        return train(task, name, before_epoch=moved, **how)

    monkeypatch.setattr(magnitude, "train", noted)
    found = method_named(method)(replace(task, masks=masks, epochs=12))
    assert list(seen) == list(range(7)), "fewer every epoch of the first half, then the mask stays"
    for epoch, chosen in seen.items():
        share = (1 - epoch / 6) ** 3  # Zhu and Gupta: s_t = s_f (1 - (1 - t/T)^3)
        assert chosen.kept == pytest.approx(masks.kept + share * (masks.total - masks.kept), abs=len(masks.keep) / 2)
    assert all(not (found.weights[n][~keep]).any() for n, keep in seen[6].keep.items())


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


@pytest.mark.parametrize("threshold", [False, True])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_safecompress_drops_and_grows_within_a_pattern(
    pattern: str, threshold: bool, patterned: dict[str, Task]
) -> None:
    task = patterned[pattern]
    weights = task.masks.on(task.dense)
    growth = {name: torch.rand(mask.shape) for name, mask in task.masks.keep.items()}
    moved = safecompress.exchanged(weights, task.masks, 0.3, growth, threshold=threshold)
    assert_fits(pattern, task.masks, moved.keep)
    assert moved.kept == task.masks.kept, "as many grew as dropped"
    first, now, size = task.masks.keep["1.weight"], moved.keep["1.weight"], weights["1.weight"].abs()
    if pattern != "whole units":
        assert 0.65 < moved.overlap(task.masks) < 0.85
        assert size[first & ~now].mean() < size[first & now].mean()
    weights["1.weight"][first.any(1).nonzero()[0]] = 0.0  # a row that grew and learned nothing
    living = task.masks.living_in(weights)
    filled = safecompress.exchanged(weights, living, 0.3, growth, threshold=threshold, asked=task.masks)
    assert_fits(pattern, task.masks, filled.keep)
    assert filled.kept == task.masks.kept, "what lacked grew too"


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_safecompress_keeps_its_density_through_a_whole_run(
    scope: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    task.net.load_state_dict(task.dense)
    task = replace(task, masks=task.masks if scope == "layer" else masks_at(task.net, 0.85))
    first = safecompress.densities(task)
    before, after, shares = [], [], []
    safest = safecompress.safest

    def noted(task: Task, net: nn.Module, living: Masks, share: float, epoch: int, **how: Any) -> Masks:
        chosen = safest(task, net, living, share, epoch, **how)
        before.append({name: int(keep.sum()) for name, keep in living.keep.items()})
        after.append({name: int(keep.sum()) for name, keep in chosen.keep.items()})
        shares.append(1.0 - chosen.overlap(living))
        return chosen

    monkeypatch.setattr(safecompress, "safest", noted)
    found = safecompress.select_and_train(task)
    every = {name: int(keep.sum()) for name, keep in first.keep.items()}
    assert len(after) == 13, "before every epoch but the first"
    assert first.kept == task.masks.kept, "as dense as asked from the start"
    assert all(counts == every for counts in after), "as many grew as dropped, in every layer"
    assert min(sum(counts.values()) for counts in before) >= 0.99 * first.kept, "and what grew learned to live"
    assert sum(int((found.weights[name] != 0).sum()) for name in every) >= 0.99 * first.kept
    cosine = [0.005 + 0.495 * (1 + math.cos(math.pi * epoch / 14)) / 2 for epoch in range(1, 14)]
    assert shares == pytest.approx(cosine, abs=0.02), "fewer and fewer move"


def test_the_bilevel_mask_gradient_sees_the_fairness_term(task: Task) -> None:
    """grad_m of loss and relaxed accuracy gap, through the gates of both layers, against finite differences."""
    net = mlp().double()
    net.load_state_dict(task.dense)
    index = torch.arange(300)
    x, y = task.train.x[index].double(), task.train.y[index]

    def both() -> Tensor:
        logits = net(x)
        return nn.functional.cross_entropy(logits, y) + 5.0 * gap(task, logits, index)

    torch.manual_seed(0)
    with gated(net, task.masks, {n: torch.rand(m.shape).double() for n, m in task.masks.keep.items()}) as gates:
        for gate in gates.values():
            gate.hard = False
        both().backward()
        plain_loss = nn.functional.cross_entropy(net(x), y)
        for name, gate in gates.items():
            without = torch.autograd.grad(plain_loss, gate.scores, retain_graph=True)[0]
            assert float((gate.scores.grad - without).abs().max()) > 1e-4, f"{name}: the mask sees fairness"
            flat = gate.scores.detach().view(-1)
            for place in gate.scores.grad.abs().flatten().topk(3).indices.tolist():
                ends = []
                for step in (1e-6, -1e-6):
                    flat[place] += step
                    ends.append(float(both().detach()))
                    flat[place] -= step
                assert gate.scores.grad.flatten()[place].item() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-4)


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
