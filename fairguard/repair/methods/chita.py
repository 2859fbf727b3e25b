"""``chita``: which weights to drop, and how the others make up for it, in closed form. One shot, no training.

Benbaki et al., "Fast as CHITA: Neural Network Pruning with Combinatorial Optimization" (ICML 2023): minimise
``1/2 ||A w_bar - A w||^2`` over sparse w_bar, where each row of A is a mini-batch's gradient (empirical Fisher). Here
the mini-batches are drawn with every group at equal weight, so that what a small group needs is as loud as what the
rest does. Weights are treated in blocks; a weight's cost is that of the optimal brain surgeon, w^2 / (2 [H^-1]_ii), and
the survivors of a block solve their ridge least squares exactly.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fairguard.repair.nets import differentiable, gradients, names_of, refresh_batch_norm
from fairguard.repair.rows import fetched
from fairguard.repair.task import Candidate, Task, copied

BLOCK = 512
"""Weights that are updated together."""
GRADIENTS = 256
ROWS = 16
"""Rows of one gradient."""
RIDGE = 3e-2
"""Relative to the mean of the Fisher's diagonal."""


def select_and_train(task: Task) -> Candidate:
    """Return dense's weights, pruned and updated in closed form."""
    task.net.load_state_dict(task.dense)
    found = balanced_gradients(task)
    masks = task.masks.select({name: costs(task.dense[name], a) for name, a in found.items()})
    weights = dict(task.dense)
    named = names_of(task.net)
    for name, a in found.items():
        weights |= dict.fromkeys(named[name], updated(task.dense[name], masks.keep[name], a))
    task.net.load_state_dict(weights)
    masks.enforcer(task.net)()
    refresh_batch_norm(task.net, task.train, seed=task.options.seed)
    spent = _affordable(task) * ROWS / len(task.train)
    return Candidate(copied(task.net.state_dict()), masks, spent, task.tune_score(task.net))


def balanced_gradients(task: Task) -> dict[str, Tensor]:
    """Return A of every masked parameter, shape (gradients, entries): each row from rows of equally likely groups."""
    net = task.net.eval()
    weights = {name: p for name, p in net.named_parameters() if name in task.masks.keep}
    likely = torch.ones(len(task.train), dtype=torch.float64)
    if task.cells[0] is not None:
        member = task.cells[0].member.cpu().double()
        by_atom = (member / task.cells[0].n_member.cpu().clamp_min(1.0)).sum(1)
        likely = by_atom[task.cells[0].atom.cpu()].clamp_min(1e-12)
    generator = torch.Generator().manual_seed(task.options.seed)
    found: dict[str, list[Tensor]] = {name: [] for name in weights}
    drawn = [torch.multinomial(likely, min(ROWS, len(likely)), generator=generator) for _ in range(_affordable(task))]
    for index, x in fetched(task.train.x, drawn, task.device):
        with differentiable(net):
            loss = F.cross_entropy(task.logits(net, x), task.train.y[index], task.label_weights)
            of_batch = gradients(loss, list(weights.values()))
        for name, g in zip(weights, of_batch, strict=True):
            found[name].append(g.flatten())
    return {name: torch.stack(rows) for name, rows in found.items()}


def _affordable(task: Task) -> int:
    """Return the gradients that are taken: of few rows, no more than the budget allows."""
    return max(1, min(GRADIENTS, int(task.epochs * len(task.train) / ROWS)))


def costs(weight: Tensor, gradients: Tensor) -> Tensor:
    """Return what dropping each entry costs: w^2 / (2 [H^-1]_ii), of the weight's shape."""
    parts = []
    for w, a in zip(torch.split(weight.flatten(), BLOCK), torch.split(gradients, BLOCK, 1), strict=True):
        inverse = torch.linalg.inv(_fisher(a))
        parts.append(w.double().square() / (2 * inverse.diagonal()))
    return torch.cat(parts).to(weight.dtype).view(weight.shape)


def updated(weight: Tensor, keep: Tensor, gradients: Tensor) -> Tensor:
    """Return the weight whose dropped entries are zero and whose survivors minimise the ridge least squares.

    Survivors u solve ``(A_S^T A_S + r I) u = A_S^T A w + r w_S``, block by block.
    """
    parts = []
    flat = zip(
        torch.split(weight.flatten(), BLOCK),
        torch.split(keep.flatten(), BLOCK),
        torch.split(gradients, BLOCK, 1),
        strict=True,
    )
    for w, alive, a in flat:
        fisher = _fisher(a)
        new = torch.zeros_like(w)
        if bool(alive.any()):
            right = (fisher @ w.double())[alive]
            new[alive] = torch.linalg.solve(fisher[alive][:, alive], right).to(w.dtype)
        parts.append(new)
    return torch.cat(parts).view(weight.shape)


def _fisher(a: Tensor) -> Tensor:
    """Return ``A^T A / n`` with its ridge, in double precision."""
    a = a.double()
    fisher = a.T @ a / len(a)
    ridge = RIDGE * fisher.diagonal().mean().clamp_min(1e-12)
    return fisher + ridge * torch.eye(len(fisher), dtype=torch.float64, device=a.device)
