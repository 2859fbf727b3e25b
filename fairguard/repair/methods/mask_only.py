"""``mask-only``: the mask moves and the surviving weights stay dense's own; the patch is a mask.

After "Adapting by Pruning" and FairScratch on trained weights: candidates are the votes of ``ballot`` at three weights
of fairness, and dense's largest weights; the tune rows choose. No weight is trained; batch-norm statistics are
re-estimated.
"""

from __future__ import annotations

from dataclasses import asdict

import torch

from fairguard.repair.masks import Masks
from fairguard.repair.methods.votes import select
from fairguard.repair.nets import refresh_batch_norm
from fairguard.repair.task import Candidate, Task, copied

ETAS = (0.0, 1.0, 4.0)


def select_and_train(task: Task) -> Candidate:
    """Return dense's weights under the mask that the tune rows like best."""
    found: dict[str, Masks] = {}
    spent = 0.0
    for eta in ETAS:
        found[f"votes, eta {eta:g}"], cost = select(task, eta=eta)
        spent += cost
    found["largest"] = task.masks.select({name: task.dense[name].abs() for name in task.masks.keep})
    candidates = {name: _masked(task, masks) for name, masks in found.items()}
    trials = tuple({"mask": name, **asdict(candidate.score)} for name, candidate in candidates.items())
    tried = list(candidates.values())
    best = tried[task.best_of([candidate.score for candidate in tried])]
    return Candidate(best.weights, best.masks, spent, best.score, trials)


@torch.no_grad()
def _masked(task: Task, masks: Masks) -> Candidate:
    task.net.load_state_dict(masks.on(task.dense))
    masks.enforcer(task.net)()  # tied weights have a second name, which the line above filled with dense's
    refresh_batch_norm(task.net, task.train, seed=task.options.seed)
    return Candidate(copied(task.net.state_dict()), masks, 0.0, task.tune_score(task.net))
