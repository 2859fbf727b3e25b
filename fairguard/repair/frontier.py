"""Several trade-offs between accuracy and fairness, to choose from. Knows methods by what they give and are said to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fairguard.repair.budget_text import parsed
from fairguard.repair.methods.names import METHODS
from fairguard.repair.task import Candidate, Options, Task

TRADE_OFFS: dict[str, dict[str, float]] = {
    "accuracy alone": {"aim": 1.0, "dual": 0.0, "distil": 0.0},
    "dense's answers, no constraint": {"aim": 1.0, "dual": 0.0, "distil": 1.0},
    "constraint at half the margin": {"aim": 0.5, "dual": 1.0, "distil": 1.0},
    "constraint at no margin": {"aim": 0.0, "dual": 1.0, "distil": 1.0},
    "constraint at no margin, hard": {"aim": 0.0, "dual": 4.0, "distil": 1.0},
}
"""Each takes the whole budget, so a frontier costs as many repairs as it has points; a time is shared by them."""
ROUNDING = 0.05
"""Share of a budget by which a method may miss it without a word."""
LETTERS = "ABCDE"
"""What the points are called in the table, in the plot and in the names of their files."""


@dataclass(frozen=True, eq=False)
class Frontier:
    """What was tried: the best candidate on the tune rows, its trials telling of every point, and all candidates."""

    best: Candidate
    candidates: tuple[Candidate, ...]
    change: dict[str, float] = field(default_factory=dict)
    """Options of the best that are not the task's own."""


def explored(task: Task, method: Callable[[Task], Candidate]) -> Frontier:
    """Return the candidate of every trade-off, and the best on the tune rows."""
    candidates = []
    for place, change in enumerate(TRADE_OFFS.values()):
        how: dict[str, Any] = {"options": Options(**{**asdict(task.options), **change})}
        how["later"] = task.epochs * (len(TRADE_OFFS) - 1 - place)
        found = method(replace(task, journal=task.journal.within(f"trade-off-{place}"), **how))
        # All points by the same yardstick: the task's own tolerance.
        candidates.append(replace(found, score=task.score_of(found.weights)))
    place = task.best_of([candidate.score for candidate in candidates])
    best, chosen = candidates[place], list(TRADE_OFFS.values())[place]
    points = [
        {"letter": letter, "trade_off": name, **change, **asdict(candidate.score), "chosen": candidate is best}
        for letter, (name, change), candidate in zip(LETTERS, TRADE_OFFS.items(), candidates, strict=True)
    ]
    spent = sum(candidate.epochs for candidate in candidates)
    return Frontier(replace(best, epochs=spent, trials=(*points, *best.trials)), tuple(candidates), chosen)


def rounded(budget: str, asked: float, spent: float, *, method: str) -> list[str]:
    """Return a sentence if ``method`` spent clearly more or less than the number of epochs that was asked for."""
    if not spent or parsed(budget)[1] not in ("x", "epochs") or abs(spent - asked) <= ROUNDING * asked:
        return []
    told = "less" if spent < asked else "more"
    return [
        f"--budget {budget} is {asked:.3g} plain epochs, and {spent:.3g} were spent, {told} than asked: method "
        f"{method} {METHODS[method].spends}"
    ]
