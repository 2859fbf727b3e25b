"""Progress of long work: a line now and then where there is no terminal, nothing where it is to be quiet."""

import re

import pytest

from fairguard.cli.screen import Ahead, epochs_shown
from fairguard.repair.task import Status, Trouble


def test_a_log_gets_lines_that_say_how_far_training_is(capsys: pytest.CaptureFixture[str]) -> None:
    tell = epochs_shown(every=0.0)
    assert tell is not None
    for epoch in (1, 2):
        tell(Status("retrain", epoch, 4, 0.25, 0.9, "race=Black", 0.031, 1.5, later=2))
    first, second = capsys.readouterr().err.splitlines()
    shown = r"fairguard: retrain 1/4  loss 0.250  accuracy 90.0 %  worst race=Black \+3.1 points  multiplier 1.50"
    assert re.match(shown, first)
    assert second.startswith("fairguard: retrain 2/4")


def test_a_log_is_not_flooded_and_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    tell = epochs_shown()
    assert tell is not None
    for epoch in range(50):
        tell(Status("retrain", epoch, 50, 0.25, 0.9, "", 0.0, 0.0))
    assert capsys.readouterr().err == "", "fifty epochs in no time are no lines"
    assert epochs_shown(quiet=True) is None


def told(stage: str, epoch: int, epochs: int, *, later: float = 0.0, trouble: Trouble | None = None) -> Status:
    return Status(stage, epoch, epochs, 0.25, 0.9, "", 0.0, 0.0, later=later, trouble=trouble)


def test_the_time_left_is_that_of_epochs_and_not_of_what_came_before() -> None:
    ahead = Ahead()
    assert ahead.left(told("trial", 1, 2), 100.0) is None, "the check and the division of the rows took most of it"
    assert ahead.left(told("trial", 2, 2, later=10), 102.0) is None, "too few epochs are known"
    assert ahead.left(told("retrain", 1, 10), 150.0) is None, "dense's answers to all rows came before it"
    assert ahead.left(told("retrain", 2, 10), 152.0) is None
    assert ahead.left(told("memory", 2, 2, trouble=Trouble.MEMORY), 153.0) is None, (
        "told of within an epoch, and no stage"
    )
    assert ahead.left(told("retrain", 3, 10), 154.0) == 2.0 * 7
    assert ahead.left(told("retrain", 4, 10, later=6), 160.0) == 3.0 * 12
    assert ahead.left(told("retrain", 10, 10), 178.0) == 0.0
    resumed = Ahead()
    assert [resumed.left(told("retrain", epoch, 10), 5.0 * epoch) for epoch in (6, 7, 8, 9)] == [None, None, None, 5.0]
