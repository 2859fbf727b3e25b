"""``ballot``: a fair subnetwork that is learned while its weights train under the constraint. The default.

After Gao et al., the Ballot paper (ISSTA 2024, arXiv 2407.02805), and what measuring it taught. The paper votes for a
mask by the gradients of accuracy and of fairness, rewinds and retrains (``Recipe(mask="votes")``). Here, by default,
every weight has a score that learns with it, as in bi-level pruning (arXiv 2312.10181): its gradient is what the loss,
weighed by the constraint's multipliers, would lose without the weight, so a weight that the weak groups need rises
while they are wronged. The number of weights that live falls over the first half of the training, layers sharing it by
the sizes that their weights have then; a weight that died may live again to the end. Patterns of zeros (N:M, whole
filters) and nets that take no gates are tightened by size instead, under the same constraint.

Training starts from dense's weights with the rate rewound to its start (Renda et al., ICLR 2020: as good as rewinding
the weights, and the one form that needs no checkpoint of dense's own training), learns dense's answers where they are
right and, for tables and tokens, beside the rows too (``neighbours``), and hands back a mean of weights. Where groups
are to be equally right whatever dense does, it starts from PRUNED's weights, mixes rows and leaves dense's answers
alone: what dense has learned by heart, and unequally, it would have to unlearn (chosen on rows of MNIST and CIFAR-10 to
train and tune on). Where groups are classes, the last biases are moved at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fairguard.repair.masks import Masks, Weights
from fairguard.repair.methods.gates import held, is_program, takes_gates
from fairguard.repair.methods.magnitude import tightened
from fairguard.repair.methods.votes import ETA, select, steps_an_epoch
from fairguard.repair.neighbours import Neighbours, is_list, neighbours_of
from fairguard.repair.objectives import Objective, fair
from fairguard.repair.shifts import groups_are_classes, last_bias, shifted
from fairguard.repair.task import Candidate, Task, copied
from fairguard.repair.training import train

TRIAL = 0.15
"""Share of the budget that one candidate of the run-off gets."""
MIXING = 1.0
"""Parameter of the mixing of rows (mixup, Zhang et al., ICLR 2018), where groups are to be equally right: it earns the
accuracy that equality costs. Where dense's answers are to be kept it does harm: it teaches other ones."""
SHORT, SHORT_ALONE = 300, 600
"""Steps of a training that leave a mask no time to be learned: of tables and tokens, and of what has no neighbours,
such as images (so have sequences of vectors none, which were not measured). With fewer, fine-tuned nets of law school,
bank, Adult, UTKFace and CIFAR-10 were less accurate than trained under PRUNED's own mask; with more there was no
difference or the learned mask was better (rows to develop on). Without fine-tuning either may be better: at 95 % a net
of faces stayed collapsed under dense's largest weights."""
OVERHEAD = 1.2
"""Cost of an epoch under the constraint, the look at the tune rows included, over that of a plain one."""


@dataclass(frozen=True)
class Recipe:
    """What ``ballot`` is made of; each part can be left out, to measure what it is worth.

    Attributes:
        mask: how the mask comes about: ``learned`` while the weights train, tightened on the way by their
            ``magnitude``, or by ``votes`` at dense's weights before the training.
        conflicts: whether conflicting weights lose their votes.
        eta: weight of the fairness saliency against the accuracy saliency, in votes.
        run_off: whether a short training chooses between the voted mask and PRUNED's.
        rewind: whether training begins at dense's weights, otherwise at PRUNED's; ``None`` to begin at dense's where
            its answers are to be kept, and at PRUNED's where groups are to be equally right.
        constrained: whether the constraint moves the rows' weights.
        distilled: whether dense's answers are targets too, where they are to be kept.
        matched: whether its answers beside the training rows are as well, where these are tables or tokens.
        averaged: whether candidates are running means of the weights.
        mixed: whether rows are mixed, where groups are to be equally right.
        shifted: whether the last biases are moved at the end, where groups are classes.
    """

    mask: Literal["learned", "magnitude", "votes"] = "learned"
    conflicts: bool = True
    eta: float = ETA
    run_off: bool = True
    rewind: bool | None = None
    constrained: bool = True
    distilled: bool = True
    matched: bool = True
    averaged: bool = True
    mixed: bool = True
    shifted: bool = True


DEFAULT = Recipe()


def select_and_train(task: Task, recipe: Recipe = DEFAULT) -> Candidate:
    """Return the best candidate of choosing and training by the recipe."""
    if recipe.mask != "votes":
        return retrain(task, None, 0.0, recipe)
    masks, spent = select(task, eta=recipe.eta, conflicts=recipe.conflicts)
    if recipe.run_off:
        masks, tried = _run_off(task, {"votes": masks, "PRUNED's": task.masks}, recipe)
        spent += tried
    return retrain(task, masks, spent, recipe)


def adapted(task: Task) -> tuple[Callable[[Task], Candidate], list[str]]:
    """Return what the budget allows, :func:`briefly` where that is too small, and what to tell of it and of the net."""
    if notes := too_short_notes(task):
        return briefly, notes
    if not is_program(task.net):
        return select_and_train, []
    return select_and_train, [
        "weights were chosen by their size: this kind of file takes no scores that learn. A state dict of dense and "
        "--model do better"
    ]


def _epochs(task: Task, spent: float = 0.0) -> int:
    """Return the epochs of training that the budget pays for, two at least."""
    return max(2, round((task.epochs - spent) / OVERHEAD))


def too_short_notes(task: Task) -> list[str]:
    """Return a sentence if a mask would take more steps to learn than the budget pays for, and PRUNED was fine-tuned.

    What fine-tuning gave it is then worth more than another mask, and :func:`briefly` keeps it.
    """
    listed = is_list(task.train.x)
    steps, enough = _epochs(task) * steps_an_epoch(task), SHORT if listed else SHORT_ALONE
    if steps >= enough or not _fine_tuned(task):
        return []
    alone = "" if listed else f" ({enough} where a row's features are no list, as of images and sequences of vectors)"
    wanted = math.ceil(OVERHEAD * (enough / steps_an_epoch(task) + 1))
    return [
        f"{steps} steps of training are too few for a mask to be learned{alone}, so pruned's own mask is kept and its "
        f"weights are trained on: --budget {wanted}epochs lets it learn"
    ]


def _fine_tuned(task: Task) -> bool:
    """Return whether PRUNED's own weights do better than dense's under the mask that is to be reached."""
    begun = [task.score_of(task.masks.on(weights)) for weights in (task.dense, task.pruned)]
    return task.best_of(begun) == 1


def briefly(task: Task) -> Candidate:
    """Return the best candidate of constrained training under PRUNED's own mask, from PRUNED's weights."""
    return retrain(task, task.masks, 0.0, Recipe(rewind=False))


def _run_off(task: Task, candidates: dict[str, Masks], recipe: Recipe) -> tuple[Masks, float]:
    """Return the masks under which a short constrained training scores best on the tune rows, and what it cost.

    Votes are cast at dense's weights and know nothing of how well a mask trains; where PRUNED's own trains better,
    moving weights would only cost.
    """
    epochs = max(2, round(TRIAL * task.epochs))
    scores = [
        task.score_of(_trained(task, f"trial-{name}", epochs, masks, recipe)["weights"])
        for name, masks in candidates.items()
    ]
    return list(candidates.values())[task.best_of(scores)], OVERHEAD * epochs * len(candidates)


def retrain(task: Task, masks: Masks | None, spent: float, recipe: Recipe = DEFAULT) -> Candidate:
    """Return the best candidate of constrained training.

    Args:
        task: net, rows and PRUNED's masks.
        masks: what lives; ``None`` to choose it on the way.
        spent: epochs that choosing ``masks`` took.
        recipe: how to train.
    """
    epochs = _epochs(task, spent)
    done = _trained(task, "retrain", epochs, masks, recipe)
    weights = {name: tensor.to(task.device) for name, tensor in done["weights"].items()}
    if masks is None:
        masks = task.masks.living_in(weights)
    score = task.score_of(weights)
    if recipe.shifted and groups_are_classes(task) and (bias := last_bias(task, weights)) is not None:
        weights, score = shifted(task, weights, bias)
    return Candidate(weights, masks, spent + OVERHEAD * epochs, score, tuple(done["history"]))


def _trained(task: Task, stage: str, epochs: int, masks: Masks | None, recipe: Recipe) -> dict[str, Any]:
    """Return the weights and the history of one training by the recipe, kept under the name ``stage``."""
    equal = task.options.reference == "equal"
    rewind = not equal if recipe.rewind is None else recipe.rewind
    start = task.dense if rewind else task.pruned
    distilled = recipe.distilled and task.options.distil > 0 and not equal
    mixing = MIXING if recipe.mixed and equal else 0.0

    def work() -> dict[str, Any]:
        beside = neighbours_of(task) if recipe.matched and distilled else None
        distil = None if recipe.distilled else 0.0
        objective = fair(task, constrained=recipe.constrained, distil=distil, neighbours=beside)
        course = _Course(task, stage, objective, epochs, start, recipe.averaged, mixing, beside)
        if masks is None and recipe.mask == "learned" and takes_gates(task.net, task.masks):
            return course.learned()
        return course.with_masks(masks)

    return task.journal.stage(stage, work)


@dataclass(frozen=True, eq=False)
class _Course:
    """One training, as it goes however its mask comes about.

    Attributes:
        task: net, rows and PRUNED's masks.
        stage: its name in the journal.
        objective: what it minimises.
        epochs: passes over the training rows; over the first half of them a mask comes about.
        start: weights to begin with.
        averaged: whether candidates are running means of the weights.
        mixing: parameter of the mixing of rows; 0 for none.
        neighbours: of the training rows, if their answers are learned too.
    """

    task: Task
    stage: str
    objective: Objective
    epochs: int
    start: Weights
    averaged: bool
    mixing: float
    neighbours: Neighbours | None

    def with_masks(self, masks: Masks | None) -> dict[str, Any]:
        """Return the weights and the history of training under ``masks``; ``None``: tightened by size on the way."""
        ramp = self.epochs // 2 if masks is None else 0
        done = train(
            self.task,
            self.stage,
            objective=self.objective,
            epochs=self.epochs,
            start=self.start,
            masks=masks,
            before_epoch=tightened(self.task, ramp) if masks is None else None,
            keep_from=ramp,
            averaged=self.averaged,
            mixing=self.mixing,
            neighbours=self.neighbours,
        )
        return {"weights": done.weights, "history": list(done.history)}

    def learned(self) -> dict[str, Any]:
        """Return the weights and the history of a training that learns its mask."""
        task, ramp = self.task, self.epochs // 2
        task.net.load_state_dict(self.start)
        with held(task.net, task.masks) as gates:
            done = train(
                task,
                self.stage,
                objective=self.objective,
                epochs=self.epochs,
                start=copied(task.net.state_dict()),
                masks=None,
                groups=gates.groups(task.options.lr),
                before_epoch=gates.tightened(task.masks, ramp),
                after_backward=gates.follow,
                after_step=gates.settle,
                keep_from=ramp,
                averaged=self.averaged,
                mixing=self.mixing,
                neighbours=self.neighbours,
            )
            task.net.load_state_dict(done.weights)
        return {"weights": copied(task.net.state_dict()), "history": list(done.history)}
