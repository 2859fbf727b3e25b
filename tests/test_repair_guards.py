"""What a repair must not cost: overall accuracy, and the accuracy of groups that PRUNED had no unfair share of."""

import numpy as np

from fairguard import check_predictions
from fairguard.repair.guards import broken_guards
from fairguard.verdict import Verdict

N = 2_000
CLASSES = np.repeat(np.arange(4), N // 4)


def answers(*accuracies: float) -> np.ndarray:
    """Answers to ``CLASSES``, right for these shares of each class; the wrong ones name the next class."""
    found = CLASSES.copy()
    for k, accuracy in enumerate(accuracies):
        wrong = np.flatnonzero(k == CLASSES)[int(accuracy * N // 4) :]
        found[wrong] = (k + 1) % 4
    return found


def verdict(first: np.ndarray, second: np.ndarray) -> Verdict:
    return check_predictions(CLASSES, first, second, {"class": CLASSES})


def broken(dense: np.ndarray, pruned: np.ndarray, repaired: np.ndarray) -> tuple[str, ...]:
    return broken_guards(verdict(pruned, repaired), verdict(dense, repaired), floor=0.005)


def test_a_better_model_breaks_nothing() -> None:
    assert broken(answers(0.9, 0.9, 0.9, 0.9), answers(0.9, 0.5, 0.9, 0.9), answers(0.9, 0.88, 0.9, 0.9)) == ()


def test_overall_accuracy_may_fall_to_the_floor_only() -> None:
    dense = answers(0.9, 0.9, 0.9, 0.9)
    assert broken(dense, dense, answers(0.9, 0.9, 0.9, 0.89)) == ()
    (sentence,) = broken(dense, dense, answers(0.89, 0.89, 0.89, 0.89))
    assert "overall accuracy fell by 1.0 points against pruned" in sentence


def test_a_group_levelled_down_is_named() -> None:
    dense, pruned = answers(0.9, 0.9, 0.9, 0.9), answers(0.9, 0.5, 0.9, 0.9)
    (sentence,) = broken(dense, pruned, answers(0.8, 0.9, 0.9, 0.9))
    assert "lost 10.0 points of accuracy against pruned" in sentence
    assert "=0 " in sentence


def test_a_group_that_a_collapsed_model_favoured_is_not_levelled_down() -> None:
    dense, collapsed = answers(0.9, 0.9, 0.9, 0.9), np.zeros(N, dtype=np.int64)
    assert broken(dense, collapsed, answers(0.9, 0.89, 0.9, 0.9)) == ()
