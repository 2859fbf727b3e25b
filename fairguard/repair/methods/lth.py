"""``lth``: lottery tickets with rewinding: train, prune a fifth of what lives, back to an early epoch, again.

Frankle and Carbin (ICLR 2019) and Frankle et al., "Linear Mode Connectivity and the Lottery Ticket Hypothesis" (ICML
2020). Round r leaves ``0.8^r`` of the weights, the smallest of all layers going first. The ticket starts from fresh
weights trained for one epoch: dense's own early epoch is not in its file. Parameters that no module resets keep dense's
values.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.methods.magnitude import sizes
from fairguard.repair.objectives import plain
from fairguard.repair.task import Candidate, Task, copied
from fairguard.repair.training import train

KEPT = 0.8
"""Share of the living weights that survives a round."""


def select_and_train(task: Task) -> Candidate:
    """Return the trained ticket of PRUNED's sparsity and pattern."""
    shares = rounds(task.masks, most=max(1, int(task.epochs) - 2))  # an epoch before them, and one of the ticket
    each = max(1, int(task.epochs - 1) // (len(shares) + 1))
    final = max(1, round(task.epochs) - 1 - each * len(shares))
    left = [task.later + final + each * n for n in range(len(shares) + 1)]  # epochs after a stage that n rounds follow
    weights = early = _early(replace(task, later=left[-1]))
    masks: Masks | None = None
    for number, share in enumerate(shares):
        weights = _trained(replace(task, later=left[-2 - number]), f"round-{number}", each, early, masks)[0]
        masks = next_masks(task, weights, masks, share)
    weights, history = _trained(task, "ticket", final, early, masks)
    assert masks is not None  # noqa: S101 - there is at least one round
    return Candidate(weights, masks, 1 + each * len(shares) + final, task.score_of(weights), history)


def rounds(masks: Masks, *, most: int | None = None) -> list[float]:
    """Return the share of all maskable weights that lives after each round; the last is PRUNED's.

    Where the budget has no room for rounds of a fifth each, ``most`` rounds prune more at a time.
    """
    target = masks.kept / masks.total
    shares: list[float] = []
    while (share := KEPT ** (len(shares) + 1)) > target:
        shares.append(share)
    if most is not None and len(shares) >= most:
        return [target ** ((number + 1) / most) for number in range(most - 1)] + [target]
    return [*shares, target]


def next_masks(task: Task, weights: Weights, masks: Masks | None, share: float) -> Masks:
    """Return masks that leave ``share`` of all weights: the largest of those that live under ``masks``."""
    task.net.load_state_dict(weights)
    dead = {} if masks is None else {name: ~keep for name, keep in masks.keep.items()}
    scores: dict[str, Tensor] = {
        name: size.masked_fill(dead[name], -1.0) if dead else size for name, size in sizes(task.net, task.masks).items()
    }
    total, kept = task.masks.total, task.masks.kept
    return task.masks.select(scores, loosen=max(0.0, (share * total - kept) / max(total - kept, 1)))


def fresh(net: nn.Module, seed: int) -> None:
    """Reset every module that can be reset.

    Raises:
        ModelError: none can, so that "fresh" weights would be dense's.
    """
    torch.manual_seed(seed)
    resets = [
        getattr(module, reset)
        for module in net.modules()
        for reset in ("reset_parameters", "_reset_parameters")
        if hasattr(module, reset)
    ]
    if not resets:
        raise ModelError(
            "this method starts from fresh weights, and no module of this network can be reset (TorchScript and "
            "exported programs cannot): give DENSE as a state dict and the function that builds the network (--model), "
            "or take --method ballot."
        )
    for reset in resets:
        reset()


def _early(task: Task) -> Weights:
    task.net.load_state_dict(task.dense)
    fresh(task.net, task.options.seed)
    return _trained(task, "early", 1, copied(task.net.state_dict()), None)[0]


def _trained(
    task: Task, name: str, epochs: int, start: Weights, masks: Masks | None
) -> tuple[Weights, tuple[dict[str, object], ...]]:
    def work() -> dict[str, object]:
        done = train(task, name, objective=plain(task), epochs=epochs, start=start, masks=masks)
        return {"weights": done.weights, "history": list(done.history)}

    done = task.journal.stage(name, work)
    return {key: tensor.to(task.device) for key, tensor in done["weights"].items()}, tuple(done["history"])
