"""What a repair must not cost: overall accuracy, and the accuracy of groups that PRUNED had no unfair share of."""

import numpy as np

from fairguard import check_predictions
from fairguard.judge.counts import CountTable
from fairguard.judge.scatter import WEIGHT
from fairguard.repair.guards import broken_guards, gave_up_classes, right_by_class
from fairguard.repair.telling.record import Broken
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


def sentences(found: tuple[Broken, ...]) -> tuple[str, ...]:
    return tuple(broken.sentence for broken in found)


def broken(dense: np.ndarray, pruned: np.ndarray, repaired: np.ndarray) -> tuple[str, ...]:
    return sentences(broken_guards(verdict(pruned, repaired), verdict(dense, repaired), floor=0.005))


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


def test_accuracy_that_cost_a_rarer_class_is_bought() -> None:
    rows, dense = (900, 100), (720, 80)
    assert gave_up_classes(rows, dense, (890, 10), floor=0.005), "nearly all are called the common class"
    assert gave_up_classes(rows, dense, (738, 75), floor=0.005), "a step that way"
    assert not gave_up_classes(rows, dense, (738, 84), floor=0.005), "better at both"
    assert not gave_up_classes(rows, dense, (723, 79), floor=0.005), "hardly more accurate"
    assert not gave_up_classes(rows, dense, (700, 90), floor=0.005), "less accurate"
    assert not gave_up_classes((500, 500), (400, 400), (480, 330), floor=0.005), "of equal classes none is rarer"
    assert gave_up_classes((900, 100, 0), (720, 80, 0), (890, 10, 0), floor=0.005), "a class without rows has no recall"


def test_rows_right_by_class_count_as_they_weigh() -> None:
    y, dense, pruned = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), np.array([0, 0, 0, 1])
    table = CountTable.of(("g",), (("a",),), ("x", "y"), codes=np.zeros((4, 1)), y=y, dense=dense, pruned=pruned)
    assert right_by_class(table) == ([2, 2], [1, 2], [2, 1])
    weights = CountTable.of(
        (WEIGHT,), (("1", "3"),), ("x", "y"), codes=[[0], [0], [0], [1]], y=y, dense=dense, pruned=pruned
    )
    rows, dense_right, pruned_right = right_by_class(weights)
    assert [round(n, 9) for n in rows] == [round(4 / 3, 9), round(8 / 3, 9)]
    assert [round(n, 9) for n in dense_right] == [round(2 / 3, 9), round(8 / 3, 9)]
    assert [round(n, 9) for n in pruned_right] == [round(4 / 3, 9), 2.0]


def test_bought_accuracy_is_held_to_denses_overall_and_by_group() -> None:
    dense, pruned = answers(0.8, 0.8, 0.8, 0.8), answers(1.0, 1.0, 1.0, 0.6)

    def held(*accuracies: float) -> tuple[str, ...]:
        repaired = answers(*accuracies)
        against = verdict(pruned, repaired), verdict(dense, repaired)
        return sentences(broken_guards(*against, floor=0.005, bought=True))

    assert held(0.8, 0.8, 0.8, 0.8) == ()
    assert "overall accuracy fell by 5.0 points against dense" in held(0.75, 0.75, 0.75, 0.75)[0]
    (sentence,) = held(0.7, 0.9, 0.8, 0.8)
    assert "class=0 lost 10.0 points of accuracy against dense" in sentence


def of_three(dense: np.ndarray, pruned: np.ndarray, repaired: np.ndarray) -> tuple[str, ...]:
    against = verdict(pruned, repaired), verdict(dense, repaired)
    return sentences(broken_guards(*against, floor=0.005, before=verdict(dense, pruned)))


def test_a_group_that_pruned_favoured_shares_in_what_everybody_lost_against_dense() -> None:
    """Sparse nets are less right than dense about everybody: else no repair could end what PRUNED gave one group."""
    dense, pruned = answers(0.65, 0.6, 0.6, 0.6), answers(0.8, 0.2, 0.2, 0.2)
    assert of_three(dense, pruned, answers(0.59, 0.54, 0.54, 0.54)) == ()
    (sentence,) = of_three(dense, pruned, answers(0.45, 0.58, 0.58, 0.58))
    assert sentence == (
        "class=0 lost 35.0 points of accuracy against pruned (80.0 % -> 45.0 %) and 20.0 against dense (65.0 %), "
        "where everybody lost 6.5"
    )


def test_a_group_that_pruned_did_not_favour_shares_in_nothing() -> None:
    dense, pruned = answers(0.65, 0.6, 0.6, 0.6), answers(0.64, 0.2, 0.2, 0.2)
    (sentence,) = of_three(dense, pruned, answers(0.58, 0.54, 0.54, 0.54))
    assert sentence.startswith("class=0 lost 6.0 points of accuracy against pruned (64.0 % -> 58.0 %)")
    luck = answers(0.652, 0.2, 0.2, 0.2)
    assert of_three(dense, luck, answers(0.58, 0.54, 0.54, 0.54)), "one row more is noise and no favour"


def test_what_one_group_loses_for_others_is_no_repair() -> None:
    """Equal at last, and nothing gained: that is levelling, however favoured the group was."""
    dense, pruned = answers(0.9, 0.9, 0.9, 0.9), answers(0.95, 0.7, 0.7, 0.7)
    (sentence,) = of_three(dense, pruned, answers(0.76, 0.76, 0.76, 0.76))
    assert sentence.startswith("class=0 lost 19.0 points of accuracy against pruned")
    assert "14.0 against dense (90.0 %), where everybody lost 14.0" in sentence
    assert of_three(dense, pruned, answers(0.85, 0.85, 0.85, 0.85)) == (), "all are better off than under PRUNED"
