"""What a method makes of a task: once, or for several trade-offs between accuracy and fairness, to choose from.

Knows methods by what they give and are said to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from fairguard.repair.budget import budget_notes, epochs_of
from fairguard.repair.budget_text import parsed
from fairguard.repair.methods import LEAST, METHODS, method_for, method_named
from fairguard.repair.plans import CommonPlan
from fairguard.repair.task import Candidate, Options, Task


@dataclass(frozen=True)
class TradeOff:
    """Options of training that trade accuracy for fairness; :class:`~fairguard.repair.task.Options` explains them."""

    aim: float
    dual: float
    distil: float

    def of(self, options: Options) -> Options:
        """Return ``options`` with this trade-off."""
        return replace(options, aim=self.aim, dual=self.dual, distil=self.distil)


TRADE_OFFS = {
    "accuracy alone": TradeOff(aim=1.0, dual=0.0, distil=0.0),
    "dense's answers, no constraint": TradeOff(aim=1.0, dual=0.0, distil=1.0),
    "constraint at half the margin": TradeOff(aim=0.5, dual=1.0, distil=1.0),
    "constraint at no margin": TradeOff(aim=0.0, dual=1.0, distil=1.0),
    "constraint at no margin, hard": TradeOff(aim=0.0, dual=4.0, distil=1.0),
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
    chosen: TradeOff | None = None
    """The best one's, where several were tried."""

    @property
    def change(self) -> dict[str, float]:
        """Return the options of the best that are not the task's own."""
        return {} if self.chosen is None else asdict(self.chosen)


def found_by(task: Task, plan: CommonPlan, note: Callable[[Iterable[str]], None], *, several: bool = False) -> Frontier:
    """Return what the plan's method makes of the task within the plan's budget.

    Args:
        task: what is to be trained; its budget is set here.
        plan: what was asked for.
        note: takes what the user should know of the budget and the method, one sentence each.
        several: try all trade-offs; a time as budget is shared by them.
    """
    method, least = method_named(plan.work), LEAST[plan.work]
    repairs = len(TRADE_OFFS) if several else 1
    task = replace(task, epochs=epochs_of(plan.budget, task, method, least=least, repairs=repairs))
    note(budget_notes(plan.budget, task.epochs, method=plan.work, least=least))
    method, brief = method_for(plan.work, task)
    note(brief)
    found = explored(task, method) if several else Frontier(method(task), ())
    if round(task.epochs) >= least:
        note(spent_notes(plan.budget, task.epochs, found.best.epochs / repairs, method=plan.work))
    return found


def explored(task: Task, method: Callable[[Task], Candidate]) -> Frontier:
    """Return the candidate of every trade-off, and the best on the tune rows."""
    candidates = []
    for place, trade_off in enumerate(TRADE_OFFS.values()):
        journal, later = task.journal.within(f"trade-off-{place}"), task.epochs * (len(TRADE_OFFS) - 1 - place)
        found = method(replace(task, journal=journal, options=trade_off.of(task.options), later=later))
        # All points by the same yardstick: the task's own tolerance.
        candidates.append(replace(found, score=task.score_of(found.weights)))
    place = task.best_of([candidate.score for candidate in candidates])
    best, chosen = candidates[place], list(TRADE_OFFS.values())[place]
    points = [
        {"letter": letter, "trade_off": name, **asdict(change), **asdict(candidate.score), "chosen": candidate is best}
        for letter, (name, change), candidate in zip(LETTERS, TRADE_OFFS.items(), candidates, strict=True)
    ]
    spent = sum(candidate.epochs for candidate in candidates)
    return Frontier(replace(best, epochs=spent, trials=(*points, *best.trials)), tuple(candidates), chosen)


def spent_notes(budget: str, asked: float, spent: float, *, method: str) -> list[str]:
    """Return a sentence if ``method`` spent clearly more or less than the number of epochs that was asked for."""
    if not spent or parsed(budget)[1] not in ("x", "epochs") or abs(spent - asked) <= ROUNDING * asked:
        return []
    told = "less" if spent < asked else "more"
    return [
        f"--budget {budget} is {asked:.3g} plain epochs, and {spent:.3g} were spent, {told} than asked: method "
        f"{method} {METHODS[method].spends}"
    ]
