"""``ballot-lastlayer``: what the Ballot paper's release does, with its defects mended. For ablation only.

Votes choose within the last layer alone, which the release does too; here the group weights are real numbers (truncated
to integers they made the fairness gradient equal to the plain one), every layer is masked, and masks are enforced. The
other layers keep their largest weights; training is plain, from dense's weights.
"""

from __future__ import annotations

from fairguard.repair.masks import Masks
from fairguard.repair.methods.votes import select
from fairguard.repair.objectives import plain
from fairguard.repair.patterns import FOLLOWS
from fairguard.repair.task import Candidate, Task
from fairguard.repair.training import train


def select_and_train(task: Task) -> Candidate:
    """Return the best candidate of plain training under votes in the last layer and magnitude elsewhere."""
    patterns = task.masks.patterns
    last = [name for name in task.masks.keep if patterns[name].kind != FOLLOWS][-1]
    names = [last, *(name for name, pattern in patterns.items() if pattern.leader == last)]
    by_size = task.masks.select({name: task.dense[name].abs() for name in task.masks.keep})
    in_last = Masks({name: by_size.keep[name] for name in names}, {name: patterns[name] for name in names}, "layer")
    voted, spent = select(task, within=in_last)
    masks = Masks(by_size.keep | voted.keep, by_size.patterns, by_size.scope)
    epochs = max(1, round(task.epochs - spent))

    def work() -> dict[str, object]:
        done = train(task, "retrain", objective=plain(task), epochs=epochs, start=task.dense, masks=masks)
        return {"weights": done.weights, "history": list(done.history)}

    done = task.journal.stage("retrain", work)
    weights = {name: tensor.to(task.device) for name, tensor in done["weights"].items()}
    return Candidate(weights, masks, spent + epochs, task.score_of(weights), tuple(done["history"]))
