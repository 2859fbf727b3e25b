"""Masks: read off a pruned model, chosen anew at the same sparsity and pattern, enforced."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from benchmarks.magnitude import masks_at
from fairguard.errors import ModelError
from fairguard.repair.masks import Masks, highest, nth_highest, read_masks
from fairguard.repair.starting import resized


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 16)
        self.body = nn.Linear(16, 16)
        self.out = nn.Linear(16, 64, bias=False)
        self.out.weight = self.embed.weight


def by_four(net: nn.Module, *names: str) -> dict[str, torch.Tensor]:
    """Return masks of the two largest of every four neighbours, for the weights named."""
    parameters = dict(net.named_parameters())
    runs = {name: parameters[name].detach().abs().reshape(-1, 4) for name in names}
    masks = {
        n: torch.zeros_like(r, dtype=torch.bool).scatter_(1, r.topk(2).indices, value=True) for n, r in runs.items()
    }
    return {name: mask.reshape(parameters[name].shape) for name, mask in masks.items()}


def state(net: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def scores(masks: Masks, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(mask.shape, generator=generator) for name, mask in masks.keep.items()}


def read(net: nn.Module, masks: Masks) -> Masks:
    dense = state(net)
    return read_masks(net, dense, masks.on(dense))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_unstructured_masks_keep_count_and_scope(scope: str) -> None:
    net = mlp()
    masks = read(net, masks_at(net, 0.8, scope=scope))
    assert masks.sparsity == pytest.approx(0.8, abs=0.002)
    assert masks.scope == scope
    moved = masks.select(scores(masks))
    assert moved.kept == masks.kept
    assert moved.overlap(masks) < 0.9
    if scope == "layer":
        assert {n: int(m.sum()) for n, m in moved.keep.items()} == {n: int(m.sum()) for n, m in masks.keep.items()}


def test_the_highest_scores_live_beside_each_outputs_floor() -> None:
    net = mlp()
    masks = read(net, masks_at(net, 0.9, scope="layer"))
    given = scores(masks)
    for name, keep in masks.select(given).keep.items():
        out_of_turn = keep & (given[name] < given[name][~keep].max())
        floor = (0.2 * masks.keep[name].sum(1)).ceil()
        assert bool((out_of_turn.sum(1) <= floor).all())
        assert bool((keep.sum(1) >= floor).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_highest_are_those_of_a_stable_sort(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for n, levels in ((1, 1), (7, 2), (500, 9), (500, 10**6)):
        scores = torch.randint(levels, (n,), generator=generator).to(dtype)
        scores[torch.rand(n, generator=generator) < 0.2] = torch.inf
        for count in (0, 1, n // 3, n - 1, n):
            wanted = torch.zeros(n, dtype=torch.bool)
            wanted[scores.sort(descending=True, stable=True).indices[:count]] = True
            assert torch.equal(highest(scores, count), wanted), (n, levels, count)


@pytest.mark.parametrize("about", [-1.0, 0.0, 0.3, 0.5, 0.52, 1.0, math.inf, math.nan])
def test_where_a_threshold_was_never_changes_what_it_is(about: float) -> None:
    scores = torch.rand(40, 50, generator=torch.Generator().manual_seed(0))
    scores.view(-1)[:300] = 0.5  # equals at the threshold itself
    for count in (1, 2, 700, 1000, 1100, 1999, 2000):
        wanted = scores.flatten().sort(descending=True).values[count - 1]
        assert nth_highest(scores, count, about=about) == wanted


def test_no_class_dies_when_its_outputs_score_nothing() -> None:
    net = mlp()
    masks = read(net, masks_at(net, 0.8, scope="layer"))
    given = scores(masks)
    given["4.weight"][2] = 0.0
    assert int(masks.select(given).keep["4.weight"][2].sum()) >= 1


def test_no_layer_dies_when_layers_compete() -> None:
    net = mlp()
    masks = read(net, masks_at(net, 0.9, scope="global"))
    unequal = {name: s * (1e-6 if name.startswith("4") else 1.0) for name, s in scores(masks).items()}
    assert int(masks.select(unequal).keep["4.weight"].sum()) >= 1


def test_two_of_four_stays_two_of_four() -> None:
    net = mlp()
    masks = read(net, Masks(by_four(net, *(name for name, weight in net.named_parameters() if weight.dim() > 1)), {}))
    assert {str(p) for p in masks.patterns.values()} == {"2:4"}
    moved = masks.select(scores(masks))
    assert all(bool((m.reshape(-1, 4).sum(1) == 2).all()) for m in moved.keep.values())
    assert moved.overlap(masks) < 0.9


def test_two_of_four_along_the_channels_of_a_convolution() -> None:
    net = nn.Conv2d(8, 8, 3)
    best = net.weight.detach().abs().movedim(1, -1).reshape(-1, 4).topk(2).indices
    keep = torch.zeros(8 * 9 * 2, 4, dtype=torch.bool).scatter_(1, best, value=True)
    keep = keep.reshape(8, 3, 3, 8).movedim(-1, 1)
    masks = read(net, Masks({"weight": keep}, {}))
    assert str(masks.patterns["weight"]) == "2:4"
    moved = masks.select(scores(masks)).keep["weight"]
    assert bool((moved.movedim(1, -1).reshape(-1, 4).sum(1) == 2).all())


def test_a_small_layer_that_fits_a_pattern_by_chance_has_none() -> None:
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    loose = masks_at(nn.Sequential(net[0]), 0.5).keep["0.weight"]
    masks = read(net, Masks({"0.weight": loose} | by_four(net, "2.weight"), {}))
    assert {str(p) for p in masks.patterns.values()} == {"unstructured"}


def test_a_small_layer_has_the_pattern_that_the_others_have() -> None:
    net = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1))
    masks = read(net, Masks(by_four(net, "0.weight", "2.weight"), {}))
    assert {str(p) for p in masks.patterns.values()} == {"2:4"}


def test_whole_filters_stay_whole() -> None:
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    keep = torch.zeros(16, 3, 3, 3, dtype=torch.bool)
    keep[[0, 3, 5, 9]] = True
    masks = read(net, Masks({"0.weight": keep}, {}))
    assert str(masks.patterns["0.weight"]) == "filters"
    assert set(masks.keep) == {"0.weight"}, "the layer that pruning left alone stays alone"
    rows = masks.select(scores(masks)).keep["0.weight"].flatten(1)
    assert int(rows.all(1).sum()) == 4
    assert int(rows.any(1).sum()) == 4


def wide() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )


def without_units(net: nn.Module, *, columns: bool) -> dict[str, torch.Tensor]:
    """Return weights without ten units of the first and six of the second layer, their biases and norms; perhaps
    without what the next layers made of them too."""
    weights = state(net)
    for layer, gone, norm, after in (("0", range(10), "1", "3"), ("3", range(4, 10), None, "5")):
        for part in (f"{layer}.weight", f"{layer}.bias", *([f"{norm}.weight", f"{norm}.bias"] if norm else [])):
            weights[part][list(gone)] = 0
        if columns:
            weights[f"{after}.weight"][:, list(gone)] = 0
    return weights


def test_biases_and_norms_of_dead_units_die_with_them() -> None:
    net = wide()
    nn.init.normal_(net[1].bias)
    masks = read_masks(net, state(net), without_units(net, columns=False))
    kinds = {name: str(pattern) for name, pattern in masks.patterns.items()}
    assert kinds == {
        "0.weight": "filters", "3.weight": "filters", "0.bias": "follows", "1.weight": "follows", "1.bias": "follows",
        "3.bias": "follows",
    }  # fmt: skip
    moved = masks.select({name: torch.rand_like(mask.float()) for name, mask in masks.keep.items()})
    living = moved.keep["0.weight"].all(1)
    assert int(living.sum()) == 6
    assert not torch.equal(living, masks.keep["0.weight"].all(1))
    assert all(torch.equal(moved.keep[name], living) for name in ("0.bias", "1.weight", "1.bias"))
    assert moved.kept == masks.kept


def test_a_net_made_to_be_cut_smaller_stays_so() -> None:
    net = wide()
    nn.init.normal_(net[1].bias)
    masks = read_masks(net, state(net), without_units(net, columns=True))
    assert {str(masks.patterns[name]) for name in ("0.weight", "3.weight", "5.weight")} == {"whole units"}
    moved = masks.select({name: torch.rand_like(mask.float()) for name, mask in masks.keep.items()})
    assert all(torch.equal(moved.keep[name], mask) for name, mask in masks.keep.items())


def test_columns_that_die_one_by_one_are_no_units() -> None:
    net = wide()
    weights = state(net)
    weights["5.weight"][:, ::4] = 0  # of two rows, and of no dead unit: chance
    weights["3.weight"][:, :4] = 0
    weights["3.weight"][0, 5] = 0
    masks = read_masks(net, state(net), weights)
    assert {str(pattern) for pattern in masks.patterns.values()} == {"unstructured"}


def test_tied_weights_are_one_and_embeddings_are_masked_only_if_pruned() -> None:
    net = Tied()
    left_alone = state(net)
    left_alone["body.weight"][:, ::2] = 0
    assert set(read_masks(net, state(net), left_alone).keep) == {"body.weight"}
    with_table = {name: t.clone() for name, t in left_alone.items()}
    with_table["embed.weight"][:, 0] = 0
    with_table["out.weight"] = with_table["embed.weight"]
    assert set(read_masks(net, state(net), with_table).keep) == {"body.weight", "embed.weight"}
    assert set(masks_at(net, 0.5).keep) == {"body.weight"}, "pruning from scratch leaves embedding tables alone"


def test_enforcing_zeroes_the_net_and_only_there() -> None:
    net = mlp()
    masks = masks_at(net, 0.75)
    before = state(net)
    masks.enforcer(net)()
    for name, keep in masks.keep.items():
        assert torch.equal(net.state_dict()[name], before[name] * keep)


def test_another_sparsity_over_the_same_tensors() -> None:
    net = mlp()
    masks = read(net, masks_at(net, 0.8, scope="layer"))
    assert resized(masks, state(net), 0.95).sparsity == pytest.approx(0.95, abs=0.005)


def test_another_sparsity_empties_no_layer() -> None:
    net = mlp()
    with torch.no_grad():
        net[4].weight.mul_(1e-4)  # where layers compete, the smallest weights of all
    masks = read(net, masks_at(net, 0.5))
    assert masks.scope == "global"
    smaller = resized(masks, state(net), 0.97)
    assert all(bool(keep.any()) for keep in smaller.keep.values())
    assert smaller.sparsity >= 0.97
    with pytest.raises(ModelError, match="so that no layer is empty"):
        resized(masks, state(net), 0.9999)


def test_loosening_goes_from_all_to_none_masked() -> None:
    net = mlp()
    masks = masks_at(net, 0.8)
    kept = [masks.select(scores(masks), loosen=share).kept for share in (0.0, 0.25, 0.5, 1.0)]
    assert kept[0] == masks.kept
    assert kept[-1] == masks.total
    assert kept == sorted(kept)


def test_smaller_shapes_and_a_dense_model_are_told_apart() -> None:
    net = mlp()
    dense = state(net)
    with pytest.raises(ModelError, match="no mask to repair"):
        read_masks(net, dense, dense)
    smaller = dense | {"0.weight": dense["0.weight"][:16]}
    with pytest.raises(ModelError, match="structurally smaller"):
        read_masks(net, dense, smaller)


def test_masks_that_a_network_keeps_beside_its_weights_are_told_of() -> None:
    net = mlp()
    prune.identity(net[0], "weight")
    dense = state(net)
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    with pytest.raises(ModelError, match=r"no mask to repair.*\(0\.weight_mask\).*--model") as caught:
        read_masks(net, dense, state(net))
    assert len(str(caught.value).splitlines()) == 1
