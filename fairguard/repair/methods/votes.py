"""Votes for a mask, in one shot at dense's weights: the Ballot paper's way to choose. No method itself.

After Gao et al. (ISSTA 2024, arXiv 2407.02805). In every round, at the same weights, the gradient G of the loss and the
gradient GF of the loss with each group weighted by 1 / (its accuracy on the tune rows). Weights vote by their
saliencies |W G| and |W GF|, batch by batch, so that what matters to some rows counts even where the mean gradient of a
trained net is zero. The best of every round get one vote. A weight whose G and GF disagree in sign round after round is
in conflict (accuracy wants it otherwise than the weak groups do) and loses its votes; at a single round the sign of a
trained net's gradient is a coin's, and obeying it made every mask tried worse. The most voted live; ties go to the
larger weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fairguard.repair.masks import Masks
from fairguard.repair.nets import differentiable, gradients
from fairguard.repair.rows import fetched, shuffled
from fairguard.repair.task import Task

ROUNDS = 5
"""Rounds of voting, each over other rows."""
SMALL = 32
"""Rows of one gradient: few, because gradients of many rows cancel."""
COST = 0.1
"""Share of the budget that voting may take."""
STEPS = 3
"""Steps of plain training that two gradients of one batch cost, however small the batch."""
LOWEST = 0.1
"""A group that is never right does not drown the others: its accuracy counts as this."""
ETA = 0.0
"""Weight of the fairness saliency against the accuracy saliency. The paper's 1 does not pay (``votes-eta-1`` among the
ablations of ``benchmarks.paper_table``); the fairness gradient still decides who is in conflict."""


def select(task: Task, *, eta: float = ETA, conflicts: bool = True, within: Masks | None = None) -> tuple[Masks, float]:
    """Return the most voted masks of PRUNED's sparsity and pattern, and what they cost in epochs.

    Args:
        task: net, rows and PRUNED's masks.
        eta: weight of the fairness saliency.
        conflicts: whether conflicting weights lose their votes (off only to measure what that is worth).
        within: the masks to choose anew, where they are not all of PRUNED's.
    """
    masks = within or task.masks
    done = task.journal.stage(
        f"votes-{eta:g}{'' if conflicts else '-all'}", lambda: {"votes": _votes(task, masks, eta, conflicts)}
    )
    votes = {name: tensor.to(task.device) for name, tensor in done["votes"].items()}
    return masks.select(votes), STEPS * ROUNDS * _batches(task) / steps_an_epoch(task)


def _votes(task: Task, masks: Masks, eta: float, conflicts: bool) -> dict[str, Tensor]:
    """Return each weight's votes plus its size among all, in [0, 1), which breaks ties."""
    net = task.net
    push = _group_weights(task)
    net.load_state_dict(task.dense)
    weights = {name: p for name, p in net.named_parameters() if name in masks.keep}
    votes = {name: torch.zeros_like(w) for name, w in weights.items()}
    clashes = {name: torch.zeros_like(w) for name, w in weights.items()}
    for round_ in range(ROUNDS):
        saliency, clash = _round(task, weights, push, round_, eta)
        for name, chosen in masks.select(saliency).keep.items():
            votes[name] += chosen & (saliency[name] > 0)
            clashes[name] += clash[name]
    largest = torch.stack([w.detach().abs().max() for w in weights.values()]).max()
    return {
        name: votes[name] * ((clashes[name] < ROUNDS) if conflicts else 1) + 0.999 * w.detach().abs() / largest
        for name, w in weights.items()
    }


def _round(
    task: Task, weights: dict[str, torch.nn.Parameter], push: Tensor, round_: int, eta: float
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the saliencies of one round, in units of the loss and so comparable across layers, and who is in conflict.

    The plain and the group-weighted loss are taken over the same rows, at the same weights.
    """
    net = task.net.eval()  # dropout and batch statistics would make the two gradients differ for no reason
    sums = {name: torch.zeros(4, *w.shape, device=w.device) for name, w in weights.items()}  # G, GF, G^2, GF^2
    order = shuffled(len(task.train), SMALL, seed=task.options.seed + 1, epoch=round_)
    for index, x in fetched(task.train.x, order[: _batches(task)], task.device):
        with differentiable(net):
            loss = F.cross_entropy(task.logits(net, x), task.train.y[index], task.label_weights, reduction="none")
            first = gradients(loss.mean(), list(weights.values()), again=True)
            second = gradients((loss * push[index]).mean(), list(weights.values()))
        for name, g, gf in zip(weights, first, second, strict=True):
            sums[name] += torch.stack([g, gf, g.square(), gf.square()])
    felt = {name: s[2].sqrt() + eta * s[3].sqrt() for name, s in sums.items()}
    # Damped by the layer's mean: rows that are right for sure have no gradient, and what serves them must not die.
    saliency = {name: w.detach().abs() * (felt[name] + felt[name].mean()) for name, w in weights.items()}
    return saliency, {name: s[0] * s[1] < 0 for name, s in sums.items()}


def _group_weights(task: Task) -> Tensor:
    """Return each training row's weight, shape (n,): 1 / the mean rate of its cells under dense on the tune rows."""
    if task.cells[0] is None or task.cells[1] is None:
        return torch.ones(len(task.train), device=task.device)
    hits = task.before[1].hits
    rate = task.cells[1].measure(hits, hits).rate.clamp_min(LOWEST)
    member = task.cells[0].member  # (A, C)
    by_atom = (member @ (1.0 / rate)) / member.sum(1).clamp_min(1.0)
    rows = torch.where(member.sum(1) > 0, by_atom, by_atom[member.sum(1) > 0].mean())[task.cells[0].atom]
    return rows / rows.mean()


def _batches(task: Task) -> int:
    """Return the batches that a round sees: the whole vote costs its share of the budget at most."""
    affordable = COST * task.epochs * steps_an_epoch(task) / (STEPS * ROUNDS)
    return max(1, min(len(task.train) // _small(task), int(affordable)))


def steps_an_epoch(task: Task) -> int:
    """Return the steps of one pass over the training rows."""
    return max(1, len(task.train) // task.options.batch_size)


def _small(task: Task) -> int:
    return min(SMALL, len(task.train))
