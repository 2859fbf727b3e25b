"""``ballot`` with one part left out or changed, to measure what that part is worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fairguard.repair.methods.ballot import Recipe, select_and_train
from fairguard.repair.task import Candidate, Task

RECIPES = {
    "default-again": Recipe(),
    "without-constraint": Recipe(constrained=False),
    "from-dense": Recipe(rewind=True),
    "from-pruned": Recipe(rewind=False),
    "without-distillation": Recipe(distilled=False),
    "without-neighbours": Recipe(matched=False),
    "without-averaging": Recipe(averaged=False),
    "without-mixing": Recipe(mixed=False),
    "without-shift": Recipe(shifted=False),
    "magnitude-mask": Recipe(mask="magnitude"),
    "shift-alone": Recipe(
        mask="magnitude", rewind=True, constrained=False, distilled=False, averaged=False, mixed=False
    ),
    "votes-and-run-off": Recipe(mask="votes"),
    "votes": Recipe(mask="votes", run_off=False),
    "votes-without-conflicts": Recipe(mask="votes", run_off=False, conflicts=False),
    "votes-eta-0.5": Recipe(mask="votes", run_off=False, eta=0.5),
    "votes-eta-1": Recipe(mask="votes", run_off=False, eta=1.0),
    "votes-eta-2": Recipe(mask="votes", run_off=False, eta=2.0),
}
"""Default again: nothing is left out; it tells what rounding and another dense net are worth, where parts were measured
on another machine. One of the two starts is the default: dense's weights where its answers are to be kept, PRUNED's
where classes are to be equally right, where there is no distillation to leave out either. Without distillation there
are no neighbours; images have none. Magnitude mask: tightened by the weights' sizes while they train, instead of
learned. Shift alone: gradual magnitude pruning with the last biases moved as the default moves them, where groups are
classes. Votes: one shot at dense's weights."""

ABLATIONS: dict[str, Callable[[Task], Candidate]] = {
    name: partial(select_and_train, recipe=recipe) for name, recipe in RECIPES.items()
}
