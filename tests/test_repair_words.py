"""What a repair and a pruning say: the findings that matter first, files that were written, options as typed."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_repair import HOW
from test_repair_report import judged, report_of
from torch import nn

from fairguard.checking import check_predictions
from fairguard.cli import run
from fairguard.demo import digits
from fairguard.repair.frontier import spent_notes
from fairguard.repair.methods import chita, mask_only, votes
from fairguard.repair.proof import worsened
from fairguard.repair.pruning import prune
from fairguard.repair.repairing import repair
from fairguard.repair.starting import left_dense_notes
from fairguard.repair.telling.record import Broken, Guard, Result
from fairguard.repair.telling.report import RepairReport
from fairguard.repair.telling.text import FEW
from fairguard.verdict import Verdict

TYPED = ["--train", "train.parquet", "--budget", "1epochs"]


def two_verdicts(harm: dict[str, float], then: dict[str, float]) -> tuple[Verdict, Verdict]:
    """Return verdicts on models that break such shares of each group's answers, before and after a repair."""
    rng = np.random.default_rng(0)
    groups = [f"g{i:02}" for i in range(20)]
    group, y, chance = rng.choice(groups, 8000), rng.integers(0, 2, 8000), rng.random(8000)
    found = []
    for shares in (harm, then):
        broken = chance < np.array([shares.get(name, 0.02) for name in group])
        found.append(check_predictions(y, y, np.where(broken, 1 - y, y), {"group": group}))
    return found[0], found[1]


def test_what_the_repaired_model_costs_most_is_shown_first() -> None:
    """Sorted by what PRUNED did, twelve lines could hide the group that is worst off now."""
    before, after = two_verdicts({f"g{i:02}": 0.2 for i in range(15)}, {"g19": 0.09, "g18": 0.3})
    report = RepairReport(Result.NOT_REPAIRED, before, before=before, after=after)
    table = report.to_text().split("excess drop on the verify rows")[1].splitlines()[1:]
    assert table[0].startswith("group=g18")
    assert "REGRESSED" in table[0].rsplit("->", 1)[1]
    assert any(line.startswith("group=g19") for line in table[:9])
    page = report.to_html()
    page = page[page.index("Before and after") :]
    assert page.index("group=g18") < page.index("group=g19") < page.index("group=g00")


def test_findings_that_became_worse_are_named_in_one_line() -> None:
    worse = tuple(f"race={name}: recall of 1 +7.1 (n=97, before -8.1)" for name in "ABCDEFG")
    report = report_of(Result.UNPROVEN, worse=worse)
    (line,) = [line for line in report.to_text().splitlines() if line.startswith("worse than before: ")]
    assert line.startswith(f"worse than before: {worse[0]}; ")
    assert line.endswith(" and 2 more")
    assert "worse than before: race=A" in report.to_html()
    assert "worse" not in report_of(Result.UNPROVEN).to_text()


def test_worse_is_beyond_noise_and_more_than_the_others_lose() -> None:
    """Group a is what PRUNED took from, b what it favoured, c lost a little more by accident."""
    group, y = np.repeat(["a", "b", "c"], 1000), np.tile([0, 1], 1500)

    def wrong(a: int, b: int, c: int) -> np.ndarray:
        rows = [*range(a), *range(1000, 1000 + b), *range(2000, 2000 + c)]
        found = y.copy()
        found[rows] = 1 - found[rows]
        return found

    dense, pruned, fair = wrong(50, 100, 50), wrong(200, 20, 50), wrong(60, 160, 55)
    before, after, change = (
        check_predictions(y, *pair, {"group": group}) for pair in ((dense, pruned), (dense, fair), (pruned, fair))
    )
    found = worsened(before, after, change)
    assert "group=b: accuracy +5.2 (n=1,000, before -15.5)" in found
    assert all(sentence.startswith("group=b: ") for sentence in found)
    assert worsened(before, before, check_predictions(y, pruned, pruned, {"group": group})) == ()


@pytest.mark.usefixtures("inside")
def test_every_repair_looks_for_what_it_made_worse() -> None:
    how = HOW | {"method": "fairscratch", "budget": "2epochs", "keep_best": True}  # hardly anything is learned so soon
    report = repair("dense.pt", "pruned.pt", "scratch.pt", **how)
    assert report.worse
    assert report.to_dict()["worse"] == list(report.worse)
    assert f"worse than before: {report.worse[0]}" in report.to_text()


def test_a_failed_frontier_names_its_files_and_does_not_ask_for_itself(inside: Path) -> None:
    hopeless = HOW | {"method": "bias-shift", "accuracy_floor": 0.0, "margin": 0.05, "budget": "1epochs"}
    report = repair("dense.pt", "pruned.pt", "points.pt", frontier=True, only=("class=1",), **hopeless)
    assert report.result is Result.NOT_REPAIRED
    text = report.to_text()
    assert "--frontier" not in text
    last = text.splitlines()[-1]
    assert "points.pt was not written, its trade-offs were: points.A.pt, points.B.pt" in last
    assert "no model was written" not in last
    assert Path("points.A.pt").exists()
    assert "excess drop and tolerance there are of --for class=1 alone" in text
    assert "of --for class=1 alone" in report.to_html()


def test_the_last_line_alone_gives_the_reason() -> None:
    guarded = report_of(Result.NOT_REPAIRED, output=None, broken=(Broken(Guard.GROUP, "class=3 lost 9.0 points"),))
    assert guarded.to_text().splitlines()[-1].endswith("(guard broken: class=3 lost 9.0 points)")
    assert "(still regressed: group=a: " in report_of(Result.NOT_REPAIRED, output=None).to_text().splitlines()[-1]
    assert report_of(Result.REPAIRED).to_text().splitlines()[-1].endswith("fair.pt.report.html")


def test_better_for_everybody_and_no_fairer_is_said_as_it_is() -> None:
    before, after = judged(0.5, n=300), judged(0.0, n=300).model_copy(update={"findings": ()})
    undecided = before.model_copy(update={"findings": tuple(f for f in before.findings if f.outcome != "regressed")})
    text = RepairReport(Result.NOT_REPAIRED, before, before=undecided, after=after).to_text()
    assert "no better than pruned" not in text
    accuracy = before.overall.accuracy.pruned
    said = f"better than pruned overall (accuracy {100 * accuracy:.1f} % -> 100.0 %, harmful flips "
    assert f"{said}{before.overall.harmful_flips} -> 0), but no fairer: the findings' upper bounds" in text


def test_one_finding_is_one_finding() -> None:
    report = report_of(Result.NOT_REPAIRED)
    assert report.after is not None
    one = report.after.model_copy(update={"family": 1, "headline": ""})
    assert "of 1 finding\n" in replace(report, after=one).to_text()


@pytest.mark.parametrize(
    ("epochs", "words"), [(2.4, "2.4 plain epochs"), (1.0, "1 plain epoch"), (60.0, "60 plain epochs")]
)
def test_costs_have_a_decimal_where_they_have_one(epochs: float, words: str) -> None:
    assert f"cost of {words} ·" in report_of(Result.REPAIRED, epochs=epochs).to_text()


@pytest.mark.usefixtures("inside")
def test_a_budget_that_a_method_rounds_is_told() -> None:
    report = repair("dense.pt", "pruned.pt", "r.pt", **HOW | {"budget": "3epochs", "keep_best": True})
    assert report.epochs == pytest.approx(2.4, abs=0.05)
    assert "cost of 2.4 plain epochs" in report.to_text()
    (note,) = [note for note in report.notes if note.startswith("--budget 3epochs")]
    assert "is 3 plain epochs, and 2.4 were spent, less than asked: method ballot" in note
    assert spent_notes("3epochs", 3.0, 3.1, method="lth") == spent_notes("10min", 3.0, 2.0, method="lth") == []
    assert "more than asked" in spent_notes("1.5x", 3.0, 3.6, method="lth")[0]


def step(report: RepairReport) -> str:
    """Return the next steps of a repair, as they are where its proof fails."""
    guard = Broken(Guard.GROUP, "class=1 lost 9.0 points")
    failed = replace(report, result=Result.NOT_REPAIRED, broken=report.broken or (guard,))
    (line,) = [line for line in failed.to_text().splitlines() if line.startswith("next: ")]
    return line


VOTES = f"casts {len(mask_only.ETAS)} votes for its mask, each for {100 * votes.COST:g} % of the budget at most"
GRADIENTS = f"takes {chita.GRADIENTS} gradients of {chita.ROWS} rows each at most and trains nothing"


@pytest.mark.parametrize(("method", "why"), [("mask-only", VOTES), ("chita", GRADIENTS)])
@pytest.mark.usefixtures("inside")
def test_a_method_that_stops_early_says_why_and_is_not_sent_on_with_more_of_the_same(method: str, why: str) -> None:
    report = repair("dense.pt", "pruned.pt", "early.pt", **HOW | {"method": method})
    (note,) = [note for note in report.notes if note.startswith("--budget 1.5x is 60 plain epochs")]
    assert f"less than asked: method {method} {why}" in note
    assert step(report).startswith(f"next: leave out --method {method}")
    assert "--frontier" not in step(report), "it trains alike whatever the trade-off"
    assert ("a larger --budget" in step(report)) == (method == "mask-only")


@pytest.mark.usefixtures("inside")
def test_the_next_steps_are_none_that_was_taken() -> None:
    quick = HOW | {"budget": "2epochs"}
    plain = repair("dense.pt", "pruned.pt", "n.pt", **quick | {"lr": 1e-9, "method": "fairscratch"})
    assert step(plain).startswith("next: leave out --lr 1e-09   |   leave out --method fairscratch   |   ")
    assert plain.after is not None
    worst = plain.after.regressed[0].group
    assert len({finding.group for finding in plain.after.regressed}) > FEW
    assert "--for" not in step(plain), "one of many: the others would be left alone"
    how = quick | {"method": "fairscratch"}
    narrow = repair("dense.pt", "pruned.pt", "n.pt", **how | {"only": (worst,)})
    assert narrow.after is not None
    assert "leave out --for   |   " in step(narrow), "what a guard protects is not among these groups"
    assert "--for '" not in step(narrow)
    alone = replace(narrow, broken=(), after=narrow.after.model_copy(update={"findings": narrow.after.regressed[:1]}))
    assert alone.after is not None
    told = replace(alone, settings={"plan": {"only": (alone.after.regressed[0].group,)}}).to_text()
    assert "--for" not in told, "these are what it is about"
    kept = repair("dense.pt", "pruned.pt", "n.pt", **quick, keep_mask=True)
    assert step(kept).startswith("next: leave out --keep-mask   |   ")
    denser = repair("dense.pt", "pruned.pt", "n.pt", **quick, sparsity=0.99)
    assert step(denser).startswith("next: leave out --sparsity 0.99   |   ")
    assert "a lower --sparsity" not in step(denser)
    assert "leave out" not in step(repair("dense.pt", "pruned.pt", "n.pt", **quick, sparsity=0.5))


def test_where_others_only_gained_more_no_harder_training_is_asked_for() -> None:
    group, y, row = np.repeat(["a", "b"], 1000), np.tile([0, 1], 1000), np.arange(2000) % 1000
    dense = np.where(row < 400, 1 - y, y)
    fair = np.where((row < 400) & ((group == "b") | (row < 100)), 1 - y, y)
    after = check_predictions(y, dense, fair, {"group": group}, metrics=("accuracy",))
    assert [(f.group, f.loss) for f in after.regressed] == [("group=b", 0.0)]
    report = RepairReport(Result.NOT_REPAIRED, after, before=after, after=after, epochs=9)
    (said,) = [line for line in report.to_text().splitlines() if line.startswith("next: ")]
    first, second = said.split("   |   ")
    assert first.startswith("next: group=b lost nothing against dense beyond noise, the others gained more: ")
    assert "--metric harmful_flips" in first
    assert 'accept = [{group = "group=b", metric = "accuracy"' in first
    assert second == "see the trade-offs: --frontier"
    assert "next: group=b lost nothing" in replace(report, unusual=("--lr 1",)).to_text(), "before what else there is"
    assert "--budget" not in said
    assert "--for" not in said
    assert "a larger --budget" in step(report), "where a guard is broken too"


@pytest.mark.usefixtures("inside")
def test_a_model_of_an_earlier_run_is_named_in_the_last_line() -> None:
    failing = HOW | {"method": "fairscratch", "budget": "2epochs"}
    first = repair("dense.pt", "pruned.pt", "old.pt", **failing)
    assert first.result is Result.NOT_REPAIRED
    assert "earlier run" not in first.to_text()
    Path("old.pt").write_bytes(b"of yesterday")
    last = repair("dense.pt", "pruned.pt", "old.pt", **failing).to_text().splitlines()[-1]
    assert "no model was written (old.pt there is of an earlier run)" in last


@pytest.mark.usefixtures("inside")
def test_resuming_what_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    said = "note: --resume found nothing to go on from in "
    run(["repair", "dense.pt", "pruned.pt", "-o", "mistyped.pt", *TYPED, "--resume", "--method", "keep-mask"])
    assert f"{said}.mistyped.pt.repair" in capsys.readouterr().out
    run(["repair", "dense.pt", "pruned.pt", "-o", "mistyped.pt", *TYPED, "--method", "keep-mask"])
    assert said not in capsys.readouterr().out
    how = ["--sparsity", "0.5", "--method", "magnitude", "--resume"]
    run(["prune", "dense.pt", "-o", "other.pt", *TYPED, *how])
    assert f"{said}.other.pt.prune" in capsys.readouterr().out


@pytest.mark.usefixtures("inside")
def test_one_model_given_twice_is_no_success_to_ship(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"again": torch.load("dense.pt", weights_only=True)}, "copy.pt")
    for other in ("dense.pt", "copy.pt"):
        assert run(["repair", "dense.pt", other, "-o", "f.pt", *TYPED]) == 0
        said = capsys.readouterr().out
        assert "note: PRUNED is DENSE, weight for weight" in said
        assert "next: name the compressed model as PRUNED" in said
        assert "ship" not in said


@pytest.mark.parametrize("command", [["repair", "a.pt", "b.pt"], ["prune", "a.pt", "--sparsity", "0.5"]])
def test_a_misspelt_budget_is_refused_before_torch_is_loaded(command: list[str]) -> None:
    code = "import sys; from fairguard.cli import run; code = run(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    words = [sys.executable, "-c", code, *command, "--budget", "3ep"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "False"], done.stderr
    assert done.stderr.startswith("fairguard: error: budget '3ep': write 1.5x")


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("command", [["repair", "dense.pt", "pruned.pt"], ["prune", "dense.pt", "--sparsity", "0.5"]])
def test_a_group_named_by_its_value_alone_gets_its_column(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "-o", "g.pt", *TYPED, "--for", "3"]) == 2
    assert "--for '3': a group is written COLUMN=VALUE. Did you mean 'class=3'?" in capsys.readouterr().err


def test_positions_and_tokens_are_left_dense_without_a_word() -> None:
    net = nn.Module()
    for name in ("pos", "position_table", "cls", "cls_token", "class_tokens", "mixing", "token_mixing"):
        setattr(net, name, nn.Parameter(torch.ones(4, 4)))
    (sentence,) = left_dense_notes(net)
    assert sentence.startswith("32 entries left dense, in matrices that are not called weight: mixing, token_mixing;")
    assert "is pruned" not in sentence


class Embedded(nn.Module):
    """A table that pruning leaves dense, in front of the digits."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.net = nn.Embedding(50, 8), digits.build()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.net(x)
        return found


@pytest.mark.usefixtures("inside")
def test_two_sparsities_are_told_apart_in_one_line() -> None:
    how = {"sparsity": 0.5, "method": "one-shot", "data": "test.parquet", "label": "digit", "groups": ("class",)}
    net = Embedded()
    net.net.load_state_dict(torch.load("dense.pt", weights_only=True))
    torch.save(net.state_dict(), "embedded.pt")
    text = prune("embedded.pt", "half.pt", model=Embedded, **how).to_text()
    (line,) = [line for line in text.splitlines() if line.startswith("two sparsities: 50.0 % of the tensors that are")]
    assert "in the check below, which counts all of the model's" in line
    assert "two sparsities" not in prune("dense.pt", "plain.pt", model=digits.build, **how).to_text()


@pytest.mark.usefixtures("inside")
def test_what_a_checkpoint_held_beside_is_named() -> None:
    state = torch.load("pruned.pt", weights_only=True)
    other = {name: tensor + 1 for name, tensor in state.items()}
    torch.save({"epoch": 3, "optimizer": {"lr": 0.1}, "model": state, "run": {"model_ema": other}}, "whole.pt")
    how = HOW | {"method": "keep-mask", "budget": "1epochs", "keep_best": True}
    report = repair("dense.pt", "whole.pt::model", "left.pt", **how)
    said = "what whole.pt holds of other weights is not in the new file: optimizer, run.model_ema"
    assert said in report.notes
    assert set(torch.load("left.pt", weights_only=True)) == {"epoch", "model", "run"}
    assert not any("of other weights" in note for note in repair("dense.pt", "pruned.pt", "n.pt", **how).notes)
    pruned = prune("whole.pt::model", "again.pt", sparsity=0.7, method="one-shot", model=digits.build)
    assert said in pruned.notes
