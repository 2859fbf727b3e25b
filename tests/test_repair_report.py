"""What a repair tells: text, JSON and page, what to do next, budgets and trouble on the way."""

import json
import math
import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rich.cells import cell_len
from torch import nn

from fairguard.checking import check, check_predictions
from fairguard.config import Accepted
from fairguard.errors import ConfigError, OutputError
from fairguard.repair.budget_text import parsed
from fairguard.repair.disk import written
from fairguard.repair.journal import Journal
from fairguard.repair.listening import Listener
from fairguard.repair.proof import Proof
from fairguard.repair.repairing import repair
from fairguard.repair.task import Status, Trouble
from fairguard.repair.telling.page import EXCESS
from fairguard.repair.telling.plots import Axis, Point, _box, _meets, plot
from fairguard.repair.telling.record import Broken, Files, Guard, Result
from fairguard.repair.telling.report import RepairReport
from fairguard.report.wording import percent
from fairguard.verdict import Outcome, Verdict


def judged(harm: float, *, n: int = 4000, groups: tuple[str, ...] = ("a", "b", "c")) -> Verdict:
    """Return the verdict on a model that breaks a share of the answers in the first of three groups."""
    rng = np.random.default_rng(0)
    group, y = rng.choice(list(groups), n), rng.integers(0, 2, n)
    broken = (group == groups[0]) & (rng.random(n) < harm)
    return check_predictions(y, y, np.where(broken, 1 - y, y), {"group": group})


@pytest.mark.parametrize(
    ("budget", "amount"),
    [("1.5x", (1.5, "x")), ("20epochs", (20, "epochs")), ("1 epoch", (1, "epochs")), ("10min", (10, "m")),
     ("2 hours", (2, "h")), (".5h", (0.5, "h")), ("90 seconds", (90, "s")), ("3M", (3, "m")),
     ("2 secs", (2, "s")), ("1sec", (1, "s")), ("1 minute", (1, "m")), ("1hr", (1, "h"))],
)  # fmt: skip
def test_budgets_are_read_as_people_write_them(budget: str, amount: tuple[float, str]) -> None:
    assert parsed(budget) == amount


@pytest.mark.parametrize("budget", ["", "0x", "-1x", "ten min", "5", "3 fortnights", "1e3x", "3ep", "3minut", "1e"])
def test_other_budgets_are_refused(budget: str) -> None:
    with pytest.raises(ConfigError, match=r"write 1\.5x"):
        parsed(budget)


def test_a_loss_without_end_still_makes_a_report() -> None:
    verdict = judged(0.2)
    trials = ({"epoch": 0, "loss": math.inf, "accuracy": 0.5, "excess": math.nan},)
    report = RepairReport(Result.NOT_REPAIRED, verdict, before=verdict, after=verdict, trials=trials)
    assert json.loads(report.to_json())["trials"][0]["loss"] is None
    assert "<main>" in report.to_html()


def test_rows_that_nobody_has_are_not_asked_for() -> None:
    verdict = judged(0.0)
    undecided = [f for f in verdict.findings if f.tested]
    needs = [300, 1_674_558_502, None]
    open_ = tuple(
        f.model_copy(update={"outcome": Outcome.INCONCLUSIVE, "rows_needed": rows, "n": 100, "group": f"group={i}"})
        for i, (f, rows) in enumerate(zip(undecided, needs, strict=False))
    )
    after = verdict.model_copy(update={"findings": open_})
    report = RepairReport(Result.UNPROVEN, verdict, before=verdict, after=after, output="fair.pt")
    assert report.rows_needed == pytest.approx(3 * verdict.overall.n, rel=0.05)
    text = report.to_text()
    assert "1,674" not in text
    assert "too near the margin for any realistic number of rows: group=1" in text
    assert "too few rows to say how many would decide: group=2" in text


def test_what_a_group_is_called_is_escaped_in_the_page() -> None:
    verdict = judged(0.2)
    nasty = verdict.model_copy(
        update={"findings": tuple(f.model_copy(update={"group": "<script>x"}) for f in verdict.findings)}
    )
    page = RepairReport(Result.NOT_REPAIRED, nasty, before=nasty, after=nasty, notes=("<b>",)).to_html()
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert '<p class="warning">&lt;b&gt;</p>' in page


def test_trouble_on_the_way_is_told_in_the_report() -> None:
    heard: list[str] = []
    listener = Listener(lambda status: heard.append(status.stage))
    calm = Status("retrain", 1, 8, 0.5, 0.9, "class=3", 0.01, 0.0)
    listener(calm)
    listener(replace(calm, note="out of memory: 64 rows at a time now", trouble=Trouble.MEMORY))
    diverged = replace(calm, epoch=2, trouble=Trouble.DIVERGED)
    listener(replace(diverged, note="diverged: back to the best candidate, at half the rate"))
    listener(replace(calm, epoch=3, note="no better candidate for a while: back to the best one, at half the rate"))
    listener(replace(calm, stage="memory-diverged", note="memory is diverged, in a name"))
    assert len(heard) == 5
    assert listener.notes == (
        "out of memory: 64 rows at a time now",
        "retrain, epoch 2: diverged: back to the best candidate, at half the rate",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.save("state", {"x": torch.ones(3)})
    with pytest.raises(OutputError, match="--resume"), written(tmp_path / "y.pt"):
        torch.save({"x": torch.ones(10**6)}, "/dev/full")
    found = journal.load("state")
    assert found is not None
    assert torch.equal(found["x"], torch.ones(3))


def report_of(result: Result, **more: object) -> RepairReport:
    before, after = judged(0.2), judged(0.2 if result is Result.NOT_REPAIRED else 0.0)
    made = RepairReport(
        result, before, before=before, after=after, output="fair.pt", splits={"train": 9, "verify": 4000}, epochs=9
    )
    return replace(made, **more)


def test_every_end_says_what_to_do_next() -> None:
    assert "next: ship fair.pt" in report_of(Result.REPAIRED).to_text()
    assert "next: more rows: fairguard check DENSE fair.pt" in report_of(Result.UNPROVEN).to_text()
    left = report_of(Result.NOT_REPAIRED, output=None, again="--keep-best").to_text()
    assert "next: a larger --budget than 1.5x" in left
    assert left.index("--budget") < left.index("--for 'group=a'")
    assert "the best candidate: --keep-best" in left
    assert "no model was written" in left.splitlines()[-1]
    fell = Broken(Guard.OVERALL, "overall accuracy fell by 2.0% against pruned")
    guarded = report_of(Result.NOT_REPAIRED, broken=(fell,)).to_text()
    assert "guard broken: overall accuracy fell" in guarded
    assert "--accuracy-floor" in guarded
    idle = RepairReport(Result.NOTHING_TO_DO, judged(0.0))
    assert "next: ship PRUNED" in idle.to_text()
    assert idle.to_text().splitlines()[-1].startswith("preserved already")


@pytest.mark.parametrize("result", list(Result))
@pytest.mark.parametrize("pair", [True, False])
def test_a_page_says_once_what_to_do_next(result: Result, pair: bool) -> None:
    verdict = judged(0.0)
    both = {"before": verdict, "after": verdict} if pair else {}
    page = RepairReport(result, verdict, **both).to_html()
    assert page.count("What to do next:") == 1


def test_both_models_stand_in_columns_whatever_the_script_of_the_groups() -> None:
    verdict = judged(0.2, groups=("東京都", "Köln", "c"))
    text = RepairReport(Result.NOT_REPAIRED, verdict, before=verdict, after=verdict).to_text()
    heading = re.search(r"^excess drop.* n(?=  pruned)", text, re.MULTILINE)
    rows = re.findall(r"^(group=東京都.*\d) +[+-]\S+  [+-].* -> REGRESSED$", text, re.MULTILINE)
    assert heading is not None
    assert {cell_len(row) for row in rows} == {cell_len(heading[0])}


def test_better_is_what_the_rows_prove() -> None:
    """A tiny group's estimate, which is noise, does not decide whether a repair helped."""
    before, after = judged(0.01, n=900), judged(0.0, n=900)
    worst = after.findings[-1].model_copy(update={"estimate": 0.05, "outcome": Outcome.INCONCLUSIVE})
    after = after.model_copy(update={"outcome": Outcome.INCONCLUSIVE, "findings": (worst, *after.findings[:-1])})
    assert before.outcome is Outcome.INCONCLUSIVE
    proof = Proof(before, after, (), 0.9, opened=None)  # type: ignore[arg-type]
    assert proof.result is Result.UNPROVEN
    assert replace(proof, before=after, after=before).result is Result.NOT_REPAIRED
    assert replace(proof, after=before).result is Result.NOT_REPAIRED, "nothing changed"
    assert replace(proof, broken=(Broken(Guard.GROUP, "race=A lost"),)).result is Result.NOT_REPAIRED
    report = RepairReport(Result.NOT_REPAIRED, before, before=after, after=before)
    assert "no better than pruned on the verify rows:" in report.to_text()


def test_groups_that_pruned_favours_are_no_better_proof() -> None:
    """PRUNED gives one group what it takes from the other: what it favours is proven, and yet it is further off."""
    rng = np.random.default_rng(4)
    group, y = rng.choice(["a", "b"], 400, p=[0.3, 0.7]), (rng.random(400) < 0.7).astype(int)
    dense = np.where(rng.random(400) < 0.78, y, 1 - y)
    skewed = np.where((group == "b") & (rng.random(400) < 0.12), 1, dense)
    skewed = np.where((group == "a") & (rng.random(400) < 0.08), 0, skewed)
    alike = np.where(rng.random(400) < 0.03, 1 - dense, dense)
    before, after = (check_predictions(y, dense, answers, {"group": group}) for answers in (skewed, alike))
    assert before.outcome is after.outcome is Outcome.INCONCLUSIVE
    assert [sum(f.outcome is Outcome.PRESERVED for f in v.findings) for v in (before, after)] == [2, 0]
    proof = Proof(before, after, (), 0.9, opened=None)  # type: ignore[arg-type]
    assert proof.result is Result.UNPROVEN
    assert replace(proof, before=after, after=before).result is Result.NOT_REPAIRED


def test_a_repair_far_under_dense_is_sent_on_with_a_larger_budget() -> None:
    """More rows would only prove what longer training mends; who is as right as dense has little to gain by it."""
    after, settings = judged(0.2), {"plan": {"budget": "6epochs"}}
    far = report_of(Result.UNPROVEN, after=after, settings=settings)
    rates = [percent(rate) for rate in (after.overall.accuracy.pruned, after.overall.accuracy.dense)]
    step = f"next: a larger --budget than 6epochs (repaired is {rates[0]} right, dense {rates[1]})   |   more rows: "
    assert step in far.to_text()
    assert "--budget" not in replace(far, heeds=()).to_text()
    assert "--budget" not in report_of(Result.UNPROVEN, settings=settings).to_text()


def test_what_had_regressed_is_not_excused_as_too_small_to_certify() -> None:
    """Rows enough to prove a harm are asked for its absence; who had not regressed may be too small to certify."""
    group, y = np.array(["big"] * 900 + ["harmed"] * 45 + ["other"] * 45), np.tile([0, 1], 495)
    pruned = np.where((group == "harmed") & (np.arange(990) % 3 > 0), 1 - y, y)
    how = {"metrics": ("accuracy",), "margin": 0.05}
    before, after = (check_predictions(y, y, answers, {"group": group}, **how) for answers in (pruned, y))
    assert {f.group for f in before.regressed} == {"group=harmed"}
    assert after.outcome is Outcome.PRESERVED
    assert "2 groups too small to certify" in after.headline
    proof = Proof(before, after, (), 0.9, opened=None)  # type: ignore[arg-type]
    assert proof.result is Result.UNPROVEN
    report = RepairReport(proof.result, before, before=before, after=after, output="fair.pt")
    assert report.exit_code == 3
    text = report.to_text()
    assert "regressed before, and not proven preserved now: group=harmed: accuracy" in text
    assert re.search(r"open: 2 of 3 findings; about [\d,]+ rows to verify on \(here 990\) would decide them", text)
    assert "next: more rows: fairguard check DENSE fair.pt" in text
    others = Proof(_without(before, "group=harmed"), after, (), 0.9, opened=None)  # type: ignore[arg-type]
    assert others.result is Result.REPAIRED


def _without(verdict: Verdict, group: str) -> Verdict:
    return verdict.model_copy(update={"findings": tuple(f for f in verdict.findings if f.group != group)})


def test_a_harm_that_more_flips_hide_is_not_improved() -> None:
    """Nothing regresses any more as nothing can be shown any more: the bounds are further from the margin than ever."""
    group, y = np.repeat(["a", "b"], [500, 2000]), np.tile([0, 1], 1250)
    at = np.arange(2500)
    dense = np.where(at % 3 == 0, 1 - y, y)
    harmed, helped = np.flatnonzero((group == "a") & (at % 3 > 0)), np.flatnonzero((group == "a") & (at % 3 == 0))
    pruned, churned = dense.copy(), dense.copy()
    pruned[harmed[:40]] = 1 - y[harmed[:40]]
    churned[harmed[:150]], churned[helped[:120]] = 1 - y[harmed[:150]], y[helped[:120]]
    before, after = (
        check_predictions(y, dense, answers, {"group": group}, metrics=("accuracy",)) for answers in (pruned, churned)
    )
    assert (before.outcome, after.outcome) == (Outcome.REGRESSED, Outcome.INCONCLUSIVE)
    proof = Proof(before, after, (), 0.9, opened=None)  # type: ignore[arg-type]
    assert proof.result is Result.NOT_REPAIRED
    report = RepairReport(proof.result, before, before=before, after=after)
    assert "upper bounds are in sum no nearer to the margin" in report.to_text()


def test_findings_that_are_not_shown_are_counted_where_there_are_some() -> None:
    report = report_of(Result.UNPROVEN)
    assert report.before is not None
    assert " preserved or untested on both sides" in report.to_text()
    assert report.after is not None
    shown = {f.group for f in report.before.findings if f.outcome is not Outcome.PRESERVED}
    left = tuple(f for f in report.after.findings if f.group in shown and f.metric == "accuracy")
    alone = replace(report, after=report.after.model_copy(update={"findings": left}))
    assert "on both sides" not in alone.to_text()


def test_before_and_after_stand_in_columns() -> None:
    lines = report_of(Result.REPAIRED).to_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("excess drop on the verify rows"))
    place = lines[start].index("outcome")
    table = [line for line in lines[start + 1 :] if "->" in line[place:]]
    assert any("REGRESSED -> preserved" in line for line in table)
    assert {line[place - 1] for line in table} == {" "}
    assert all(line[place] != " " for line in table)


def test_findings_are_counted_as_the_check_counts_them() -> None:
    """Those on too few rows to be tested are in no family: text, page and check name the same number."""
    rng = np.random.default_rng(1)
    group, y = np.append(rng.choice(["a", "b"], 4000), ["few"] * 5), rng.integers(0, 2, 4005)
    broken = np.where((group == "a") & (rng.random(4005) < 0.3), 1 - y, y)
    before, after = (check_predictions(y, y, answers, {"group": group}) for answers in (broken, y))
    assert f"all {after.family} findings preserved" in after.headline
    assert after.family < len(after.findings)
    report = RepairReport(Result.REPAIRED, before, before=before, after=after, output="fair.pt")
    assert f"-> 0 of {after.family} findings" in report.to_text()
    page = report.to_html()
    assert f"regressed of {after.family} findings" in page
    first, second = page.index('id="check-1"'), page.index('id="check-2"')
    assert '<th class="n">pruned' in page[first:second], "each verdict names its model"
    assert '<th class="n">repaired' in page[second:]
    assert '<th class="n">pruned' not in page[second:]


def test_what_is_untested_is_named_and_may_forbid_the_proof() -> None:
    rng = np.random.default_rng(1)
    group, y = np.append(rng.choice(["a", "b"], 4000), ["few"] * 5), rng.integers(0, 2, 4005)
    broken = np.where((group == "a") & (rng.random(4005) < 0.3), 1 - y, y)
    before, after = (check_predictions(y, y, p, {"group": group}, untested="fail") for p in (broken, y))
    text = RepairReport(Result.UNPROVEN, before, before=before, after=after, output="fair.pt").to_text()
    assert "repaired: 6 preserved of 6 findings (1 group untested: group=few)" in text
    assert "--untested fail: no verdict is preserved with 3 of the findings untested" in text


def test_more_rows_are_judged_with_the_options_that_were_typed() -> None:
    files = Files("dense net.pt", "pruned.pt", "-fair.pt")
    more = {"files": files, "output": "-fair.pt", "options": "--model net.py:build --margin 0.1"}
    text = report_of(Result.UNPROVEN, **more).to_text()
    command = "fairguard check 'dense net.pt' ./-fair.pt --data MORE_ROWS --model net.py:build --margin 0.1   |"
    assert f"next: more rows: {command}" in text


def test_the_frontier_is_a_plane_of_letters() -> None:
    point = {"accuracy": 0.9, "excess": 0.02, "violation": 0.01, "harm": 0.1, "chosen": False}
    tried = (
        point | {"letter": "A", "trade_off": "accuracy alone", "file": "fair.A.pt"},
        point
        | {"letter": "B", "trade_off": "hard", "accuracy": 0.85, "excess": -0.01, "chosen": True, "file": "fair.B.pt"},
        point | {"letter": "C", "trade_off": "no number", "excess": math.nan, "file": "fair.C.pt"},
    )
    report = report_of(Result.REPAIRED, trials=tried)
    plane = [line for line in report.to_text().splitlines() if "|" in line and "next" not in line]
    assert plane[0].rstrip().endswith("A"), "the most accurate, and the least fair"
    assert plane[-1].split("|")[1].startswith("B")
    assert "fair.B.pt   <- chosen" in report.to_text()
    assert report.to_html().count("<circle cx=") >= 2


def test_what_the_project_accepts_is_nothing_to_repair(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"x": rng.normal(size=4_000), "g": np.repeat(["a", "b"], 2_000)})
    rows["in_a"] = (rows["g"] == "a").astype(float)
    rows["y"] = ((rows["x"] > 0) ^ (rng.random(4_000) < 0.1)).astype(int)
    rows.to_parquet("rows.parquet")
    for name, leaning in (("dense", 0.0), ("pruned", 1.0)):
        net = nn.Linear(2, 1)
        net.load_state_dict({"weight": torch.tensor([[4.0, leaning * 6.0]]), "bias": torch.zeros(1)})
        torch.save(net, f"{name}.pt")
    how: dict[str, Any] = {"data": "rows.parquet", "label": "y", "groups": ["g"], "features": ["x", "in_a"]}
    how |= {"trust": True, "metrics": ["accuracy"], "device": "cpu"}
    found = check("dense.pt", "pruned.pt", **how)
    assert [(f.group, f.outcome) for f in found.findings] == [("g=a", "regressed"), ("g=b", "preserved")]
    entry = Accepted(group="g=a", until=date.today(), why="a known loss")
    report = repair("dense.pt", "pruned.pt", **how, accept=(entry,))
    assert (report.result, report.exit_code) == (Result.NOTHING_TO_DO, 0)
    assert "1 accepted for now" in report.to_text()


def test_the_page_tells_before_first_and_names_the_file() -> None:
    worse = report_of(Result.NOT_REPAIRED)
    page = replace(worse, before=worse.check.model_copy(update={"outcome": Outcome.INCONCLUSIVE})).to_html()
    assert "<title>not repaired: fair.pt</title>" in page
    links = [page.index(f'<a href="#check-{k}">{name}: ') for k, name in ((1, "before"), (2, "after"))]
    assert page.index("The verdicts before and after") < links[0] < links[1]


def test_letters_of_the_frontier_keep_off_one_another_and_words_off_the_edge() -> None:
    values = [(0.9165, 0.0089), (0.9163, 0.0088), (0.9208, 0.0166), (0.9146, 0.0047), (0.9146, 0.0081)]
    found = [Point(x, y, letter, letter == "B") for (x, y), letter in zip(values, "ABCDE", strict=True)]
    drawn = plot([*found, Point(0.9, math.nan, "F")], Axis("accuracy", percent), EXCESS)
    assert drawn is not None
    assert [chosen for *_, chosen in drawn.marks] == [False, True, False, False, False]
    letters = [word for word in drawn.words if word.text in "ABCDE"]
    boxes = [_box(word) for word in letters]
    assert len(boxes) == 5
    assert not any(_meets(box, boxes[:i]) for i, box in enumerate(boxes))
    assert {word.text for word in drawn.words if word.anchor == "end" and word not in letters} > {"+1.7", "+0.5"}
    assert min(_box(word)[0] for word in drawn.words) >= 0
    assert plot(found[:1], Axis("accuracy", percent), EXCESS) is None
