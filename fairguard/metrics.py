"""What each metric is: one table for all who need to know, the judge, the reports and repair's training.

A metric is an event that happens in a row or does not, under one model's answers, and the rows in which it counts. Who
loses a good event or meets a bad one is harmed by compression, who gains one or is rid of one is helped; everything
else in the judge is the same for all metrics. Knows codes, in arrays or tensors, and nothing of the house.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any


class Metric(StrEnum):
    """A paired, linear estimand: of the rows in its denominator, the share harmed minus the share helped."""

    ACCURACY = "accuracy"
    """Accuracy drop: right before and wrong after, minus wrong before and right after."""
    HARMFUL_FLIPS = "harmful_flips"
    """Harmful flips only: right before and wrong after."""
    RECALL = "recall"
    """Recall loss: of the rows of one class, those no longer found. Binary: the true positive rate."""
    FPR = "fpr"
    """False positive rate rise: of the rows that are not of the class, those newly called so."""
    SELECTION_RATE = "selection_rate"
    """Selection rate loss for the favourable label; needs no labels."""
    DISAGREEMENT = "disagreement"
    """Dense and pruned answer differently; needs no labels and says nothing about harm."""


class About(Enum):
    """What a metric asks of an answer."""

    ROWS = auto()
    """No class in particular. Such a metric alone compares classes with each other, where they are the groups."""
    EACH_CLASS = auto()
    """One class, each in turn; of two the favourable one alone. It counts rows of the class or all others, so that a
    class and its rest never both have some."""
    FAVOURABLE = auto()
    """The favourable class; within the rows of one class its rate is a recall or a false positive rate."""


Codes = Any
"""Class codes, shape (n,): a numpy array, or a tensor of training."""
Bools = Any


def every_row(y: Codes, k: Codes) -> Bools:
    """Return that every row counts, shape (n,)."""
    return y == y  # noqa: PLR0124 - in the array's own kind


def of_class(y: Codes, k: Codes) -> Bools:
    """Return which rows are of class ``k``, shape (n,)."""
    return y == k


def of_other_classes(y: Codes, k: Codes) -> Bools:
    """Return which rows are not of class ``k``, shape (n,)."""
    return y != k


def right(answers: Codes, y: Codes, dense: Codes, k: Codes) -> Bools:
    """Return where the answer is right, shape (n,)."""
    return answers == y


def spoilt(answers: Codes, y: Codes, dense: Codes, k: Codes) -> Bools:
    """Return where dense is right and the answer is wrong, shape (n,): never under dense's own answers."""
    return (dense == y) & (answers != y)


def called(answers: Codes, y: Codes, dense: Codes, k: Codes) -> Bools:
    """Return where the answer is class ``k``, shape (n,)."""
    return answers == k


def differs(answers: Codes, y: Codes, dense: Codes, k: Codes) -> Bools:
    """Return where the answer is not dense's, shape (n,): never under dense's own answers."""
    return answers != dense


@dataclass(frozen=True)
class Definition:
    """What a metric is.

    Attributes:
        rule: stable identifier of its rule.
        sentence: what its rule says, as reports print it.
        harm: what was harmed, to somebody who knows no metric; ``{label}`` is the class that it is about.
        event: ``(answers, y, dense, k)`` to where the event happens, each of shape (n,); ``k`` is the class that the
            metric is about, or one for each row.
        good: whether the event is good to have; false: it is harm.
        about: which classes it asks about.
        inside: ``(y, k)`` to the rows in its denominator, shape (n,).
        labelled: whether it needs labels.
        between_classes: the metric that says the same where classes are the groups, for one that cannot compare them.
    """

    rule: str
    sentence: str
    harm: str
    event: Callable[[Codes, Codes, Codes, Codes], Bools]
    good: bool
    about: About = About.ROWS
    inside: Callable[[Codes, Codes], Bools] = every_row
    labelled: bool = True
    between_classes: Metric | None = None

    def changes(self, y: Codes, dense: Codes, pruned: Codes, k: Codes) -> tuple[Bools, Bools]:
        """Return which rows are harmed and which are helped, inside the denominator or not, each of shape (n,)."""
        before, after = (self.event(answers, y, dense, k) for answers in (dense, pruned))
        gone, come = before & ~after, after & ~before
        return (gone, come) if self.good else (come, gone)


METRICS = {
    Metric.ACCURACY: Definition(
        rule="FG101",
        sentence="accuracy fell more in one group than in the rest, or rose less",
        harm="right less often",
        event=right,
        good=True,
    ),
    Metric.HARMFUL_FLIPS: Definition(
        rule="FG102",
        sentence="one group has more harmful flips than the rest",
        harm="right answers became wrong",
        event=spoilt,
        good=False,
    ),
    Metric.RECALL: Definition(
        rule="FG103",
        sentence="recall fell more in one group than in the rest, or rose less",
        harm="rows of label {label} found less often",
        event=called,
        good=True,
        about=About.EACH_CLASS,
        inside=of_class,
        between_classes=Metric.ACCURACY,
    ),
    Metric.FPR: Definition(
        rule="FG104",
        sentence="the false positive rate rose more in one group than in the rest, or fell less",
        harm="label {label} wrongly given more often",
        event=called,
        good=False,
        about=About.EACH_CLASS,
        inside=of_other_classes,
    ),
    Metric.SELECTION_RATE: Definition(
        rule="FG105",
        sentence="one group lost more of the favourable label than the rest, or gained less",
        harm="label {label} given less often",
        event=called,
        good=True,
        about=About.FAVOURABLE,
        labelled=False,
    ),
    Metric.DISAGREEMENT: Definition(
        rule="FG106",
        sentence="dense and pruned disagree more on one group than on the rest",
        harm="answers changed, for better or worse",
        event=differs,
        good=False,
        labelled=False,
    ),
}
"""The metrics that can be gated. Where training constrains them too: ``fairguard.repair.cells.KINDS``."""


def default_metrics(n_classes: int, *, labelled: bool = True, favourable: bool = False) -> tuple[Metric, ...]:
    """Return what is gated where the policy names no metric.

    Args:
        n_classes: number of classes.
        labelled: whether there are labels.
        favourable: whether the policy names a favourable class.
    """
    if not labelled:
        return (Metric.SELECTION_RATE,) if favourable else (Metric.DISAGREEMENT,)
    return (Metric.ACCURACY, Metric.RECALL, Metric.FPR) if n_classes == 2 else (Metric.ACCURACY,)
