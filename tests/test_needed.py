"""How many rows would decide what is open: all of it, and all but the few findings that come last."""

import numpy as np
import pytest

from fairguard import Outcome, check_predictions
from fairguard.cli import run
from fairguard.judge.needed import needed_of, without_the_late

RNG = np.random.default_rng(4)
N = 4_000
SIZES = {"a": 0.42, "b": 0.42, "c": 0.07, "d": 0.06, "e": 0.03}
GROUP = RNG.choice(list(SIZES), N, p=list(SIZES.values()))
Y = RNG.integers(0, 2, N)
DENSE = np.where(RNG.random(N) < 0.9, Y, 1 - Y)
PRUNED = np.where(RNG.random(N) < 0.05, 1 - DENSE, DENSE)


def test_the_rows_without_the_slowest_findings_are_told_where_they_are_far_fewer() -> None:
    verdict = check_predictions(Y, DENSE, PRUNED, {"g": GROUP}, metrics=["accuracy"], margin=0.02)
    times = sorted(
        finding.rows_needed / finding.n for finding in verdict.findings if finding.outcome is Outcome.INCONCLUSIVE
    )
    assert len(times) > 2
    assert times[-1] > 2.5 * times[-2], "one group comes far later than the others"
    needed = needed_of(verdict)
    assert needed.late == 1
    assert needed.sooner == pytest.approx(N * times[-2], rel=0.1)
    assert needed.rows == pytest.approx(N * times[-1], rel=0.1)
    assert without_the_late(needed) == f"; {needed.sooner:,} all but 1"


def test_they_are_not_told_where_all_come_at_once() -> None:
    verdict = check_predictions(Y, DENSE, PRUNED, {"g": np.where(RNG.random(N) < 0.5, "a", "b")}, margin=0.001)
    needed = needed_of(verdict)
    assert needed.rows
    assert (needed.sooner, needed.late, without_the_late(needed)) == (0, 0, "")


def test_a_check_tells_both(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("rows.npz", X=np.zeros((N, 1), np.float32), y=Y, g=GROUP)
    for name, answers in {"dense": DENSE, "pruned": PRUNED}.items():
        np.savez(f"{name}.npz", labels=answers)
    words = ["--data", "rows.npz", "--group", "g", "--metric", "accuracy", "--margin", "0.02"]
    assert run(["check", "dense.npz", "pruned.npz", *words]) == 3
    assert "rows; " in (told := capsys.readouterr().out)
    assert " all but 1), or a wider --margin" in told
