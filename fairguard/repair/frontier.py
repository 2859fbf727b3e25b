"""Several trade-offs between accuracy and fairness, to choose from. Knows methods only by what they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

from fairguard.repair.task import Candidate, Options, Task

TRADE_OFFS: dict[str, dict[str, float]] = {
    "accuracy alone": {"aim": 1.0, "dual": 0.0, "distil": 0.0},
    "dense's answers, no constraint": {"aim": 1.0, "dual": 0.0, "distil": 1.0},
    "constraint at half the margin": {"aim": 0.5, "dual": 1.0, "distil": 1.0},
    "constraint at no margin": {"aim": 0.0, "dual": 1.0, "distil": 1.0},
    "constraint at no margin, hard": {"aim": 0.0, "dual": 4.0, "distil": 1.0},
}
"""Each takes the whole budget, so a frontier costs as many repairs as it has points."""


def best_of_frontier(task: Task, method: Callable[[Task], Candidate]) -> Candidate:
    """Return the best candidate on the tune rows; its trials hold one entry for every trade-off."""
    best: Candidate | None = None
    points, spent = [], 0.0
    for place, (name, change) in enumerate(TRADE_OFFS.items()):
        options = Options(**{**asdict(task.options), **change})
        found = method(replace(task, options=options, journal=task.journal.within(f"trade-off-{place}")))
        score = task.score_of(found.weights)  # all points by the same yardstick: the task's own tolerance
        points.append({"trade_off": name, **change, **asdict(score)})
        spent += found.epochs
        if best is None or score.better_than(best.score, task.floor):
            best = replace(found, score=score)
    assert best is not None  # noqa: S101 - there are trade-offs
    return replace(best, epochs=spent, trials=(*points, *best.trials))
