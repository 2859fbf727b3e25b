"""``ballot`` with one part left out or changed, to measure what that part is worth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from fairguard.repair.methods.ballot import Recipe, select_and_train
from fairguard.repair.task import Candidate, Task

RECIPES = {
    "without-constraint": Recipe(constrained=False),
    "without-rewind": Recipe(rewind=False),
    "without-distillation": Recipe(distilled=False),
    "without-averaging": Recipe(averaged=False),
    "without-mixing": Recipe(mixed=False),
    "without-shift": Recipe(shifted=False),
    "votes-and-run-off": Recipe(gradual=False),
    "votes": Recipe(gradual=False, run_off=False),
    "votes-without-conflicts": Recipe(gradual=False, run_off=False, conflicts=False),
    "votes-eta-0.5": Recipe(gradual=False, run_off=False, eta=0.5),
    "votes-eta-1": Recipe(gradual=False, run_off=False, eta=1.0),
    "votes-eta-2": Recipe(gradual=False, run_off=False, eta=2.0),
}
"""Without rewinding: from PRUNED's weights instead of dense's. Votes: one shot at dense's weights, instead of a mask
that tightens while the weights train."""

ABLATIONS: dict[str, Callable[[Task], Candidate]] = {
    name: partial(select_and_train, recipe=recipe) for name, recipe in RECIPES.items()
}
