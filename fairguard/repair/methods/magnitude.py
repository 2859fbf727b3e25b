"""``magnitude``: the largest weights live, fewer every epoch, then plain fine-tuning. The oldest baseline.

Zhu and Gupta, "To prune, or not to prune" (2017): the share that may still live falls from all to the target as
``(1 - t)^3`` over the first half of the epochs; the second half trains under the final mask.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fairguard.repair.masks import Masks
from fairguard.repair.objectives import Objective, plain
from fairguard.repair.task import Candidate, Task
from fairguard.repair.training import BeforeEpoch, train


def select_and_train(task: Task) -> Candidate:
    """Return gradually pruned and fine-tuned weights of PRUNED's sparsity and pattern."""
    return gradual(task, plain)


def gradual(task: Task, objective: Callable[[Task], Objective]) -> Candidate:
    """Return the best candidate of gradual magnitude pruning from dense's weights under ``objective``."""
    epochs = max(2, round(task.epochs))
    ramp = epochs // 2

    def work() -> dict[str, object]:
        done = train(
            task,
            "gradual",
            objective=objective(task),
            epochs=epochs,
            start=task.dense,
            masks=None,
            before_epoch=tightened(task, ramp),
            keep_from=ramp,
        )
        return {"weights": done.weights, "history": list(done.history)}

    done = task.journal.stage("gradual", work)
    weights = {name: tensor.to(task.device) for name, tensor in done["weights"].items()}
    return Candidate(weights, task.masks.living_in(weights), epochs, task.score_of(weights), tuple(done["history"]))


def tightened(task: Task, ramp: int) -> BeforeEpoch:
    """Return what tightens the mask before each epoch up to ``ramp``, by the sizes that the weights have then."""

    def fewer(epoch: int, net: nn.Module) -> Masks | None:
        if epoch > ramp:
            return None
        return task.masks.select(sizes(net, task.masks), loosen=(1 - epoch / ramp) ** 3)

    return fewer


def sizes(net: nn.Module, masks: Masks) -> dict[str, nn.Parameter]:
    """Return the absolute values of the masked parameters."""
    return {name: p.detach().abs() for name, p in net.named_parameters() if name in masks.keep}  # type: ignore[misc]
