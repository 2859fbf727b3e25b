"""A repair that failed: its words are true, and what it trained is not lost."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_repair import HOW
from test_repair_report import judged, report_of

from fairguard.checking import check_predictions
from fairguard.cli import run
from fairguard.errors import ConfigError
from fairguard.repair.guards import broken_guards
from fairguard.repair.repairing import repair
from fairguard.repair.task import Status
from fairguard.repair.telling.record import Broken, Guard, Result
from fairguard.repair.telling.report import RepairReport
from fairguard.verdict import Verdict

FAILING: dict[str, Any] = HOW | {"method": "fairscratch", "budget": "2epochs"}
TYPED = ["--train", "train.parquet", "--method", "fairscratch", "--budget", "2epochs"]
FOLDER = Path(".kept.pt.repair")


def harmed(**shares: float) -> Verdict:
    """Return the verdict on a model that breaks, or where negative mends, such shares of the groups' answers."""
    rng = np.random.default_rng(0)
    group, y, chance = np.repeat(["a", "b", "c"], 2000), np.tile([0, 1], 3000), rng.random(6000)
    dense = np.where(rng.random(6000) < 0.3, 1 - y, y)
    share = np.array([shares.get(name, 0.0) for name in group])
    broken = np.where((chance < share) & (dense == y), 1 - y, dense)
    fair = np.where((chance < -share) & (dense != y), y, broken)
    return check_predictions(y, dense, fair, {"group": group}, metrics=("accuracy",))


def ended(before: Verdict, after: Verdict) -> RepairReport:
    return RepairReport(Result.NOT_REPAIRED, before, before=before, after=after, epochs=9)


def test_what_pruned_did_not_regress_on_is_newly_regressed() -> None:
    """A gain of the group that PRUNED harmed is an excess of the others, which nothing had harmed."""
    report = ended(harmed(a=0.2), harmed(a=0.2, b=0.3))
    assert {f.group for f in report.before.regressed} == {"group=a"}  # type: ignore[union-attr]
    assert {f.group for f in report.after.regressed} == {"group=a", "group=b"}  # type: ignore[union-attr]
    assert "\nstill regressed: group=a: accuracy" in report.to_text()
    assert "\nnewly regressed: group=b: accuracy" in report.to_text()
    new = ended(harmed(a=0.2), harmed(b=0.2))
    for text in (new.to_text(), new.to_html()):
        assert "still regressed" not in text
        assert "newly regressed: group=b: accuracy" in text
    assert "(newly regressed: group=b" in new.to_text().splitlines()[-1]


def test_a_loss_within_noise_is_none_where_the_others_gained() -> None:
    """Of 2,000 rows one net loss is chance; 300 are not, whatever the others gained."""
    after = harmed(a=-0.3, b=0.002, c=-0.3)
    (finding,) = after.regressed
    assert finding.group == "group=b"
    assert finding.loss > 0
    said = ended(harmed(a=0.2), after).to_text()
    assert "next: group=b lost nothing against dense beyond noise, the others gained more: where it is fine" in said
    lost = ended(harmed(a=0.2), harmed(a=-0.3, b=0.2, c=-0.3)).to_text()
    assert "lost nothing" not in lost
    assert "a larger --budget" in lost


def test_groups_to_train_for_are_all_named_or_none() -> None:
    assert "--for 'group=b' --for 'group=a'" in ended(harmed(a=0.2), harmed(a=0.2, b=0.3)).to_text()
    guarded = report_of(Result.NOT_REPAIRED, broken=(Broken(Guard.GROUP, "group=c lost 9.0 points"),))
    assert "--for" not in guarded.to_text(), "nothing would watch over the group that a guard protects"
    assert judged(0.2).regressed


def test_what_a_column_is_called_gives_no_advice() -> None:
    y, grade = np.tile([0, 1], 2000), np.repeat(["good", "poor"], 2000)
    pruned, fair = y.copy(), y.copy()
    pruned[:800], fair[2000:2300] = 1 - y[:800], 1 - y[2000:2300]
    before, after, change = (
        check_predictions(y, *pair, {"overall_grade": grade}) for pair in ((y, pruned), (y, fair), (pruned, fair))
    )
    (broken,) = broken_guards(change, after, floor=0.005)
    assert broken.guard is Guard.GROUP
    assert broken.sentence.startswith("overall_grade=poor lost 15.0 points of accuracy")
    report = replace(ended(before, after), broken=(broken,))
    assert "--accuracy-floor" not in report.to_text()
    overall = replace(report, broken=(Broken(Guard.OVERALL, "accuracy fell"), broken))
    assert "--accuracy-floor, if the loss is worth it" in overall.to_text()
    plain = json.loads(overall.to_json())
    assert plain["broken"] == ["accuracy fell", broken.sentence]
    assert plain["broken_guards"] == ["overall accuracy", "accuracy of a group"]


@pytest.mark.usefixtures("inside")
def test_a_failed_repair_keeps_what_it_trained_until_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", "dense.pt", "pruned.pt", "-o", "kept.pt", *TYPED]) == 1
    said = capsys.readouterr().out
    assert not Path("kept.pt").exists()
    assert {path.name for path in FOLDER.iterdir()} == {"scores.done.pt", "ended", "lock", "purpose.json"}
    command = re.search(r"the best candidate, nothing trained anew: fairguard (repair .*--keep-best --resume)", said)
    assert command is not None
    trained = json.loads(Path("kept.pt.report.json").read_text())["trials"]

    before = {path: path.stat().st_mtime_ns for path in FOLDER.glob("*.done.pt")}
    assert run([*shlex.split(command[1])[:-2], "--resume"]) == 1, "without --keep-best it is told once more"
    assert f"fairguard {command[1]}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in FOLDER.glob("*.done.pt")} == before
    assert run(shlex.split(command[1])) == 1
    again = capsys.readouterr()
    assert "scores 1/" not in again.err
    assert json.loads(Path("kept.pt.report.json").read_text())["trials"] == trained
    assert again.out.splitlines()[-1].startswith("NOT REPAIRED: wrote kept.pt")
    assert "the best candidate" not in again.out
    assert not FOLDER.exists()

    repair("dense.pt", "pruned.pt", "anew.pt", **FAILING, keep_best=True)
    one, other = (torch.load(path, weights_only=True) for path in ("kept.pt", "anew.pt"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("inside")
def test_the_next_repair_begins_anew_without_a_word_and_others_do_not_go_on() -> None:
    first = repair("dense.pt", "pruned.pt", "kept.pt", **FAILING)
    assert "the best candidate, nothing trained anew: keep_best=True, resume=True" in first.to_text()
    with pytest.raises(ConfigError, match="is of another run: --budget 2epochs there, 3epochs here"):
        repair("dense.pt", "pruned.pt", "kept.pt", **FAILING | {"budget": "3epochs"}, resume=True)
    second = repair("dense.pt", "pruned.pt", "kept.pt", **FAILING | {"budget": "3epochs"})
    assert not any("interrupted" in note for note in second.notes)
    (FOLDER / "other.running.pt").touch()
    assert repair("dense.pt", "pruned.pt", "kept.pt", **FAILING, keep_best=True).output == "kept.pt"
    assert not FOLDER.exists()


@pytest.mark.usefixtures("inside")
def test_what_is_trained_anew_in_a_kept_folder_is_not_dropped_without_a_word() -> None:
    def stop(status: Status) -> None:
        if status.epoch == 2:
            raise KeyboardInterrupt

    how = FAILING | {"checkpoint_seconds": 0.0}
    repair("dense.pt", "pruned.pt", "kept.pt", **how)
    (FOLDER / "scores.done.pt").write_bytes(b"cut short")
    with pytest.raises(KeyboardInterrupt):
        repair("dense.pt", "pruned.pt", "kept.pt", **how, resume=True, tell=stop)
    assert list(FOLDER.glob("*.running.pt"))
    last = repair("dense.pt", "pruned.pt", "kept.pt", **how)
    assert any("an interrupted run to the same output was dropped" in note for note in last.notes)


@pytest.mark.usefixtures("inside")
def test_a_method_that_trains_nothing_keeps_nothing() -> None:
    how = HOW | {"method": "bias-shift", "margin": 0.05, "accuracy_floor": 0.0}
    report = repair("dense.pt", "pruned.pt", "kept.pt", **how)
    assert report.result is Result.NOT_REPAIRED
    assert report.again == "keep_best=True"
    assert not FOLDER.exists()


@pytest.mark.usefixtures("inside")
def test_a_file_named_resume_is_no_training_that_was_kept(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("pruned.pt", "resume_screener.pt")
    how = ["--train", "train.parquet", "--method", "bias-shift", "--margin", "0.05", "--accuracy-floor", "0"]
    assert run(["repair", "dense.pt", "resume_screener.pt", "-o", "kept.pt", *how]) == 1
    said = capsys.readouterr().out
    assert "the best candidate: fairguard repair dense.pt resume_screener.pt " in said
    assert "trained anew" not in said
    assert json.loads(Path("kept.pt.report.json").read_text())["resumable"] is False
