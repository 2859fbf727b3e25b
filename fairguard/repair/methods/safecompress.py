"""``safecompress``: sparse from start to end; weights drop and grow, and a fairness check chooses among the ways.

Zhu et al., "SafeCompress" (ASE 2022). Before every epoch a share of the living weights (from 0.5 down to 0.005 as a
cosine) drops out and as many others grow. Candidates are {smallest weights, a threshold over all layers} to drop x
{largest gradients, chance} to grow; the safety test that picks one is, here, the fairness score on the tune rows.
Layers begin with Erdos-Renyi-Kernel densities where they compete, with PRUNED's own otherwise. Whole filters change
places as wholes, in N:M a weight gives way to another of its run, and whole units that are gone stay so.
"""

from __future__ import annotations

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairguard.repair.masks import Masks
from fairguard.repair.nets import fewest_rows, gradients, halving
from fairguard.repair.objectives import plain
from fairguard.repair.rows import fetched, shuffled
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

    def move(epoch: int, net: nn.Module) -> Masks:
        if epoch == 0:
            return first
        living = Masks({n: p.detach() != 0 for n, p in _masked(net, task.masks).items()}, task.masks.patterns)
        share = LEAST + (MOST - LEAST) * 0.5 * (1 + math.cos(math.pi * epoch / epochs))
        return safest(task, net, living, share, epoch, asked=first)

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


def safest(task: Task, net: nn.Module, living: Masks, share: float, epoch: int, *, asked: Masks) -> Masks:
    """Return the candidate masks whose net scores best on the tune rows, their dropped weights zeroed.

    A weight that grew where no gradient reaches it is still zero and so not among ``living``: every layer is filled up
    to what ``asked`` has of it again.
    """
    weights = copied(net.state_dict())
    wanted = _gradients(task, net, epoch)
    generator = torch.Generator().manual_seed(task.options.seed * 7919 + epoch)
    chance = {name: torch.rand(g.shape, generator=generator).to(g.device) for name, g in wanted.items()}
    best: tuple[Score, Masks] | None = None
    for threshold, growth in product((False, True), (wanted, chance)):
        masks = exchanged(weights, living, share, growth, threshold=threshold, asked=asked)
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
    asked: Masks | None = None,
) -> Masks:
    """Return masks of the same patterns in which ``share`` of the living weights gave way to others in their layer.

    Args:
        weights: the net's.
        living: what lives now.
        share: of it, what drops.
        growth: by name, whose largest entries grow.
        threshold: drop whatever is smallest over all layers, instead of an equal share of each.
        asked: masks with as many as live afterwards; default as many as live now.
    """
    asked = asked or living
    kinds = {name: pattern.kind for name, pattern in living.patterns.items()}
    alive, sizes = dict(living.keep), {name: weights[name].abs() for name in living.keep}
    for name in [name for name in alive if kinds[name] == "filters"]:
        # A row is as small as its mean, and lives though it may have learned a zero.
        alive[name] = _spread(alive[name].flatten(1).any(1), alive[name])
        sizes[name] = _spread(sizes[name].flatten(1).mean(1), sizes[name])
    sizes = {name: size.masked_fill(~alive[name], torch.inf) for name, size in sizes.items()}
    total = int(share * living.kept)
    cut = torch.cat([s.flatten() for s in sizes.values()]).kthvalue(max(1, total)).values
    keep, scores = {}, {}
    for name, mask in alive.items():
        n, unit = int(mask.sum()), mask[0].numel() if kinds[name] == "filters" else 1
        lacking = max(0, int(asked.keep[name].sum()) - n)
        count = int((sizes[name] <= cut).sum()) if threshold else int(share * n)
        count = max(0, min(count, mask.numel() - n - lacking, n - 1)) // unit * unit
        dropped = _marked(mask, sizes[name].flatten().topk(count, largest=False).indices)
        grows = growth[name].abs().masked_fill(mask, -1.0)
        if kinds[name] == "unstructured":
            keep[name] = (mask & ~dropped) | _marked(mask, grows.flatten().topk(count + lacking).indices)
        else:  # who stays, then whoever grows most, never who just dropped
            scores[name] = grows.masked_fill(mask & ~dropped, torch.inf)
    # The best within their patterns live; whole units that are gone stay so.
    held = [name for name in kinds if name not in keep]
    keep |= Masks({n: asked.keep[n] for n in held}, {n: living.patterns[n] for n in held}).select(scores).keep
    return Masks({name: keep[name] for name in living.keep}, living.patterns, living.scope)


def _spread(by_row: Tensor, like: Tensor) -> Tensor:
    """Return what each row of a weight has, shape (rows,), for every entry of ``like``."""
    return by_row.view(-1, *[1] * (like.dim() - 1)).expand_as(like)


def _marked(like: Tensor, places: Tensor) -> Tensor:
    flat = torch.zeros(like.numel(), dtype=torch.bool, device=like.device)
    flat[places] = True
    return flat.view(like.shape)


def _masked(net: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    return {name: p for name, p in net.named_parameters() if name in masks.keep}


def _gradients(task: Task, net: nn.Module, epoch: int) -> dict[str, Tensor]:
    weights = _masked(net, task.masks)
    drawn = shuffled(len(task.train), 512, seed=task.options.seed + 3, epoch=epoch)
    net.train()

    def of(size: int) -> tuple[Tensor, ...]:
        index, x = next(fetched(task.train.x, drawn[:1, :size], task.device))
        loss = F.cross_entropy(task.logits(net, x), task.train.y[index], task.label_weights)
        return gradients(loss, list(weights.values()))

    return dict(zip(weights, halving(of, drawn.shape[1], least=fewest_rows(net)), strict=True))
