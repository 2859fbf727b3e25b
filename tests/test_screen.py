"""Progress of long work: a line now and then where there is no terminal, nothing where it is to be quiet."""

import re

import pytest

from fairguard.cli.screen import epochs_shown
from fairguard.repair.task import Status


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
