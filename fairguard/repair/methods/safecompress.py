"""``safecompress``: sparse from start to end; weights drop and grow, and a fairness check chooses among the ways.

Zhu et al., "SafeCompress" (ASE 2022). Before every epoch a share of the living weights (from 0.5 down to 0.005 as a
cosine) drops out and as many others grow. Candidates are {smallest weights, a threshold over all layers} to drop x
{largest gradients, chance} to grow; the safety test that picks one is, here, the fairness score on the tune rows.
Layers begin with Erdos-Renyi-Kernel densities where they compete, with PRUNED's own otherwise.
"""

from __future__ import annotations

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairguard.repair.masks import Masks
from fairguard.repair.objectives import plain
from fairguard.repair.rows import picked, shuffled
from fairguard.repair.task import Candidate, Score, Task, copied
from fairguard.repair.training import train

MOST, LEAST = 0.5, 0.005
"""Share of the living weights that drops, at first and at last."""


def select_and_train(task: Task) -> Candidate:
    """Return the best candidate of dynamic sparse training at PRUNED's density."""
    epochs = max(2, round(task.epochs))
    # The masks of every epoch are read off the weights, which a resumed run has too.
    task.net.load_state_dict(task.dense)
    first = densities(task)
    start = first.on(task.dense)
    counts = {name: int(keep.sum()) for name, keep in first.keep.items()}

    def move(epoch: int, net: nn.Module) -> Masks:
        if epoch == 0:
            return first
        living = Masks({n: p.detach() != 0 for n, p in _masked(net, task.masks).items()}, task.masks.patterns)
        share = LEAST + (MOST - LEAST) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        return safest(task, net, living, share, epoch, counts=counts)

    def work() -> dict[str, object]:
        done = train(task, "sparse", objective=plain(task), epochs=epochs, start=start, masks=first, before_epoch=move)
        return {"weights": done.weights, "history": list(done.history)}

    done = task.journal.stage("sparse", work)
    weights = {name: tensor.to(task.device) for name, tensor in done["weights"].items()}
    masks = task.masks.living_in(weights)
    return Candidate(weights, masks, epochs, task.score_of(weights), tuple(done["history"]))


def densities(task: Task) -> Masks:
    """Return the first masks: dense's largest weights, layer by layer."""
    masks = task.masks
    sizes = {name: task.dense[name].abs() for name in masks.keep}
    if masks.scope == "layer" or any(p.kind != "unstructured" for p in masks.patterns.values()):
        return masks.select(sizes)
    counts = erdos_renyi({name: s.shape for name, s in sizes.items()}, masks.kept)
    keep = {name: _marked(s, s.flatten().topk(counts[name]).indices) for name, s in sizes.items()}
    return Masks(keep, masks.patterns, masks.scope)


def erdos_renyi(shapes: dict[str, torch.Size], kept: int) -> dict[str, int]:
    """Return how many weights of each layer live, ``kept`` in all: a share as of sum over product of its dimensions.

    Layers whose share would exceed one are dense, and the others share what is left.
    """
    full: set[str] = set()
    while True:
        free = {name: shape for name, shape in shapes.items() if name not in full}
        left = kept - sum(shapes[name].numel() for name in full)
        scale = left / max(1, sum(sum(shape) for shape in free.values()))
        over = {name for name, shape in free.items() if scale * sum(shape) > shape.numel()}
        if not over:
            break
        full |= over
    counts = {n: shape.numel() if n in full else max(1, int(scale * sum(shape))) for n, shape in shapes.items()}
    for name in sorted(free, key=lambda name: -shapes[name].numel()) * 2:  # what rounding left over
        room = min(shapes[name].numel() - counts[name], kept - sum(counts.values()))
        counts[name] += max(room, 0)
    return counts


def safest(task: Task, net: nn.Module, living: Masks, share: float, epoch: int, *, counts: dict[str, int]) -> Masks:
    """Return the candidate masks whose net scores best on the tune rows, their dropped weights zeroed.

    A weight that grew where no gradient reaches it is still zero and so not among ``living``: every layer is filled up
    to its share of ``counts`` again.
    """
    weights = copied(net.state_dict())
    gradients = _gradients(task, net, epoch)
    generator = torch.Generator().manual_seed(task.options.seed * 7919 + epoch)
    chance = {name: torch.rand(g.shape, generator=generator).to(g.device) for name, g in gradients.items()}
    best: tuple[Score, Masks] | None = None
    for threshold, growth in product((False, True), (gradients, chance)):
        masks = exchanged(weights, living, share, growth, threshold=threshold, counts=counts)
        net.load_state_dict(weights)
        masks.enforcer(net)()
        score = task.tune_score(net)
        if best is None or score.better_than(best[0], task.floor):
            best = score, masks
    net.load_state_dict(weights)
    assert best is not None  # noqa: S101 - there are four candidates
    return best[1]


def exchanged(
    weights: dict[str, Tensor],
    living: Masks,
    share: float,
    growth: dict[str, Tensor],
    *,
    threshold: bool,
    counts: dict[str, int] | None = None,
) -> Masks:
    """Return masks in which ``share`` of the living weights gave way to as many others in their layer.

    Args:
        weights: the net's.
        living: what lives now.
        share: of it, what drops.
        growth: by name, whose largest entries grow.
        threshold: drop whatever is smallest over all layers, instead of an equal share of each.
        counts: by name, what lives afterwards; default as many as live now.
    """
    sizes = {name: weights[name].abs().masked_fill(~keep, torch.inf) for name, keep in living.keep.items()}
    total = int(share * living.kept)
    cut = torch.cat([s.flatten() for s in sizes.values()]).kthvalue(max(1, total)).values
    keep = {}
    for name, mask in living.keep.items():
        alive, dead = int(mask.sum()), int((~mask).sum())
        count = int((sizes[name] <= cut).sum()) if threshold else int(share * alive)
        lacking = max(0, counts[name] - alive) if counts else 0
        count = max(0, min(count, dead - lacking, alive - 1))
        dropped = _marked(mask, sizes[name].flatten().topk(count, largest=False).indices)
        grown = _marked(mask, growth[name].abs().masked_fill(mask, -1.0).flatten().topk(count + lacking).indices)
        keep[name] = (mask & ~dropped) | grown
    return Masks(keep, living.patterns, living.scope)


def _marked(like: Tensor, places: Tensor) -> Tensor:
    flat = torch.zeros(like.numel(), dtype=torch.bool, device=like.device)
    flat[places] = True
    return flat.view(like.shape)


def _masked(net: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    return {name: p for name, p in net.named_parameters() if name in masks.keep}


def _gradients(task: Task, net: nn.Module, epoch: int) -> dict[str, Tensor]:
    weights = _masked(net, task.masks)
    index = shuffled(len(task.train), 512, seed=task.options.seed + 3, epoch=epoch)[0].to(task.device)
    net.train()
    logits = task.logits(net, picked(task.train.x, index))
    found = torch.autograd.grad(
        F.cross_entropy(logits, task.train.y[index], task.label_weights), list(weights.values())
    )
    return dict(zip(weights, found, strict=True))
