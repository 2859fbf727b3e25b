"""``fairscratch``: weights are frozen at random and only a mask is learned, under a fairness regulariser.

Tang et al., "Fair Scratch Tickets: Finding Fair Sparse Networks without Weight Training" (CVPR 2023). Weights are
signed constants (Kaiming's scale), scores are learned by edge-popup: per layer the k largest |scores| live, gradients
pass straight through. Loss = cross-entropy + ``LAMBDA`` times a regulariser: for two classes the logistic form of
demographic parity, over every group against the rest; for more classes, cross-entropy with every group at equal weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fairguard.repair.masks import Masks
from fairguard.repair.methods.gates import gated
from fairguard.repair.methods.lth import fresh
from fairguard.repair.objectives import Objective
from fairguard.repair.task import Candidate, Task, copied
from fairguard.repair.training import train

LAMBDA = 0.18


def select_and_train(task: Task) -> Candidate:
    """Return frozen random weights under the learned mask."""
    net, epochs = task.net, max(1, round(task.epochs))
    net.load_state_dict(task.dense)
    signed_constants(net, task.masks, task.options.seed)
    generator = torch.Generator().manual_seed(task.options.seed)
    scores = {n: (torch.rand(m.shape, generator=generator) - 0.5).to(task.device) for n, m in task.masks.keep.items()}
    objective = Objective(
        task.train.y,
        penalty=lambda logits, index: LAMBDA * unfairness(task, logits, index),
        label_weights=task.label_weights,
    )
    with gated(net, task.masks, scores, absolute=True) as gates:
        start = copied(net.state_dict())

        def only_scores(_: nn.Module) -> list[dict[str, object]]:
            return [
                {"params": [gate.scores for gate in gates.values()], "lr": 10 * task.options.lr, "weight_decay": 0.0}
            ]

        def work() -> dict[str, object]:
            done = train(
                task, "scores", objective=objective, epochs=epochs, start=start, masks=None, groups=only_scores
            )
            return {"weights": done.weights, "history": list(done.history)}

        done = task.journal.stage("scores", work)
        net.load_state_dict(done["weights"])
    weights = copied(net.state_dict())
    masks = task.masks.living_in(weights)
    return Candidate(weights, masks, epochs, task.score_of(weights), tuple(done["history"]))


@torch.no_grad()
def signed_constants(net: nn.Module, masks: Masks, seed: int) -> None:
    """Reset ``net`` and make every masked weight plus or minus one constant of its layer, larger the sparser it is."""
    fresh(net, seed)
    for name, weight in net.named_parameters():
        if name in masks.keep:
            share = float(masks.keep[name].float().mean())
            inputs = max(1.0, weight[0].numel() * share)
            weight.copy_(torch.where(weight >= 0, 1.0, -1.0) * (2.0 / inputs) ** 0.5)


def unfairness(task: Task, logits: Tensor, index: Tensor) -> Tensor:
    """Return the regulariser of a batch, a scalar: over whole groups, whatever else the policy gates of them."""
    if task.cells[0] is None:
        return logits.new_zeros(())
    whole = [place for place, cell in enumerate(task.cells[0].cells) if cell.label is None]
    member = task.cells[0].member[task.cells[0].atom[index]]  # (b, C)
    member = member[:, whole] if whole else member
    share = member.mean(0).clamp_min(1.0 / len(index))
    if logits.shape[1] == 2:
        score = (logits[:, 1] - logits[:, 0])[:, None]
        inside = member * F.logsigmoid(score) / share
        outside = (1 - member) * F.logsigmoid(-score) / (1 - share).clamp_min(1.0 / len(index))
        return -(inside + outside).mean()
    loss = F.cross_entropy(logits, task.train.y[index], reduction="none")[:, None]
    return (member * loss / share).mean()
