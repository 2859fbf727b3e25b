"""``bilevel``: mask and weights learned together under the fairness term, in a single run.

Dai et al., "Integrating Fairness and Model Pruning Through Bi-level Optimization" (arXiv 2312.10181, v2): scores m in
[0, 1], the highest k of a layer live (straight-through). Inner step: weights descend on L + F. Upper step: scores
descend on ``grad_m(L + F) + (d theta*/dm) grad_theta(L + F)``, with the cheap implicit term of a ridge inner problem,
``d theta*/dm = -(1/gamma) diag(grad_theta L)``; here grad_theta(L + F) stands for grad_theta L in it, which spares a
second backward pass. F relaxes the accuracy gap of every group to the rest: the indicator becomes a sigmoid of the
margin of the true class, and F is the mean of the squared gaps. The paper reports no alpha, beta, gamma: these are our
choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fairguard.repair.methods.gates import SCORE_RATE, Gate, gated, ranks
from fairguard.repair.objectives import Objective
from fairguard.repair.task import Candidate, Task, copied
from fairguard.repair.training import train

WEIGHT = 1.0
"""Weight of the fairness term."""
GAMMA = 100.0
"""Ridge of the inner problem."""


def select_and_train(task: Task) -> Candidate:
    """Return weights and mask of one joint run."""
    net, epochs = task.net, max(1, round(task.epochs))
    net.load_state_dict(task.dense)
    scores = {n: ranks(task.dense[n].abs()) for n in task.masks.keep}
    objective = Objective(
        task.train.y,
        penalty=lambda logits, index: WEIGHT * gap(task, logits, index),
        label_weights=task.label_weights,
    )
    with gated(net, task.masks, scores) as gates:
        start = copied(net.state_dict())

        def both(_: nn.Module) -> list[dict[str, object]]:
            upper = [gate.scores for gate in gates.values()]
            chosen = {id(p) for p in upper}
            inner = [p for p in net.parameters() if p.requires_grad and id(p) not in chosen]
            rate = SCORE_RATE * task.options.lr
            return [{"params": inner}, {"params": upper, "lr": rate, "weight_decay": 0.0}]

        def work() -> dict[str, object]:
            done = train(
                task,
                "joint",
                objective=objective,
                epochs=epochs,
                start=start,
                masks=None,
                groups=both,
                after_backward=lambda net: implicit(net, gates),
            )
            return {"weights": done.weights, "history": list(done.history)}

        done = task.journal.stage("joint", work)
        net.load_state_dict(done["weights"])
    weights = copied(net.state_dict())
    masks = task.masks.living_in(weights)
    return Candidate(weights, masks, epochs, task.score_of(weights), tuple(done["history"]))


@torch.no_grad()
def implicit(net: nn.Module, gates: dict[str, Gate]) -> None:
    """Add the implicit term to the scores' gradients: how the best weights would follow the mask."""
    for name, gate in gates.items():
        path, _, attribute = name.rpartition(".")
        weight: Any = net.get_submodule(f"{path}.parametrizations.{attribute}".lstrip(".")).original
        if gate.scores.grad is not None and weight.grad is not None:
            gate.scores.grad -= weight.grad.square() / GAMMA


def gap(task: Task, logits: Tensor, index: Tensor) -> Tensor:
    """Return the mean squared gap of the relaxed accuracy of every group to the rest, a scalar."""
    if task.cells[0] is None:
        return logits.new_zeros(())
    atoms = task.cells[0].atom[index]
    member, base = task.cells[0].member[atoms], task.cells[0].base[atoms]
    y = task.train.y[index][:, None]
    others = logits.scatter(1, y, -torch.inf).logsumexp(1)
    right = torch.sigmoid(logits.gather(1, y)[:, 0] - others)[:, None]
    rest = base - member
    inside = (member * right).sum(0) / member.sum(0).clamp_min(1.0)
    outside = (rest * right).sum(0) / rest.sum(0).clamp_min(1.0)
    seen = (member.sum(0) > 0) & (rest.sum(0) > 0)
    return ((inside - outside).square() * seen).sum() / len(seen)
