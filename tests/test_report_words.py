"""What reports say in words is true of the numbers: who lost what, what is known of the rows, what was counted how."""

import json
import re
import shutil
import subprocess
from datetime import date
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from fairguard import Outcome, Verdict, check, check_predictions
from fairguard.acceptance import with_acceptance
from fairguard.config import load_settings
from fairguard.report import github, html, junit, sarif, text


def plain(verdict: Verdict) -> str:
    """Return the page's sentence for people who decide."""
    (said,) = re.findall(r'class="plain">(.*?)</p>', html.render(verdict))
    return said


def two_sexes() -> Verdict:
    """Men are found less often, women are chosen wrongly more often; there is nobody else."""
    n = 8_000
    rng = np.random.default_rng(0)
    sex, y = rng.choice(["F", "M"], n), rng.integers(0, 2, n)
    chance = np.where((sex == "M") & (y == 1), 0.12, np.where((sex == "F") & (y == 0), 0.12, 0.01))
    return check_predictions(y, y, np.where(rng.random(n) < chance, 1 - y, y), {"sex": sex}, metrics=["recall", "fpr"])


def caught_up() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return group, labels and answers before and after: nothing changes for A, which was ahead; B catches up."""
    n = 6_000
    group, y = np.resize(["A", "B"], n), np.resize([0, 0, 1, 1], n)
    place = np.arange(n) // 4
    dense = np.where(place % 100 < np.where(group == "A", 3, 20), 1 - y, y)
    pruned = np.where(place % 100 < np.where(group == "A", 3, 5), 1 - y, y)
    return group, y, dense, pruned


@pytest.fixture(scope="module")
def gap() -> Verdict:
    group, y, dense, pruned = caught_up()
    return check_predictions(y, dense, pruned, {"g": group}, permutations=999)


def test_both_groups_may_regress_and_neither_is_worse_than_everybody() -> None:
    verdict = two_sexes()
    assert {(f.group, str(f.metric)) for f in verdict.regressed} == {("sex=M", "recall"), ("sex=F", "fpr")}
    said = plain(verdict)
    assert "sex=M (rows of label 1 found less often)" in said
    assert "sex=F (label 1 wrongly given more often)" in said
    assert "everybody else" not in said


def test_one_group_is_named_with_what_it_lost() -> None:
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 3, 9_000), rng.choice(["a", "b", "c"], 9_000)
    pruned = np.where((group == "a") & (rng.random(9_000) < 0.2), (y + 1) % 3, y)
    said = plain(check_predictions(y, y, pruned, {"g": group}, permutations=999))
    assert said.startswith("Compression hit g=a harder than everybody outside it")
    assert said.endswith(": right less often.")


def test_a_group_that_lost_nothing_is_not_told_to_have_lost(gap: Verdict) -> None:
    assert {f.group for f in gap.regressed} == {"g=A"}
    assert all(f.loss == 0 for f in gap.regressed)
    said = plain(gap)
    assert said.startswith("Compression left g=A no worse off than before, but everybody outside it gained more")
    assert "can accept these findings" in said
    for word in ("harder", "treats", "worse than everybody"):
        assert word not in said
    told = "no worse than before, but the rest gained"
    results = json.loads(sarif.render(gap))["runs"][0]
    assert all(told in result["message"]["text"] for result in results["results"])
    assert all("rose less" in r["shortDescription"]["text"] for r in results["tool"]["driver"]["rules"][:2])
    assert all(told in case.get("message", "") for case in ET.fromstring(junit.render(gap)).iter("failure"))
    assert all(told in line for line in github.render(gap).splitlines())
    assert "where it is fine that others gained more" in github.summary([github.Declared(gap)])


def test_what_a_report_says_to_accept_is_accepted(tmp_path, monkeypatch, capsys, gap: Verdict) -> None:
    from fairguard.cli import run

    monkeypatch.chdir(tmp_path)
    group, y, dense, pruned = caught_up()
    pd.DataFrame({"y": y, "g": group}).to_parquet("rows.parquet")
    for name, answers in (("dense", dense), ("pruned", pruned)):
        pd.DataFrame({"prediction": answers}).to_csv(f"{name}.csv", index=False)
    words = ["check", "dense.csv", "pruned.csv", "--data", "rows.parquet", "--label", "y", "--group", "g"]
    assert run([*words, "--metric", "accuracy"]) == 1
    assert "gate harm alone (--metric harmful_flips)" in capsys.readouterr().out
    assert run([*words, "--metric", "harmful_flips"]) == 0
    assert run([*words, "--metric", "accuracy"]) == 1
    (entry,) = re.findall(r"accept = \[.*\]", capsys.readouterr().out)
    entry = entry.replace("DATE", "2999-01-01").replace("REASON", '"B caught up"')
    (tmp_path / "fairguard.toml").write_text(f"{entry}\n")
    assert run([*words, "--metric", "accuracy"]) == 0
    assert "g=A" in entry
    accepted = with_acceptance(gap, load_settings().accept, today=date(2026, 1, 1))
    assert sum(f.accepted is not None for f in accepted.findings) == 1, "the metric that it names, and no other"


def test_a_known_loss_is_one_finding_not_one_findings() -> None:
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 6_000), rng.choice(["a", "b"], 6_000)
    pruned = np.where((group == "a") & (rng.random(6_000) < 0.2), 1 - y, y)
    verdict = check_predictions(y, y, pruned, {"g": group}, metrics="accuracy", permutations=999)
    known = tuple(
        f.model_copy(update={"accepted": "known"}) if f.outcome is Outcome.REGRESSED else f for f in verdict.findings
    )
    assert "except for 1 finding that" in plain(
        verdict.model_copy(update={"findings": known, "outcome": Outcome.PRESERVED})
    )
    assert "over 1 finding\n" in text.render(verdict.model_copy(update={"family": 1}))


@pytest.mark.parametrize("scores", [False, True])
def test_nearness_to_the_boundary_is_told_only_where_it_is_known(scores: bool) -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"y": rng.integers(0, 2, 4_000), "g": rng.choice(["a", "b"], 4_000)})
    y = rows["y"].to_numpy()
    pruned = np.where((rows["g"] == "a") & (rng.random(4_000) < 0.2), 1 - y, y)
    dense = np.where(y == 1, 0.5 + rng.random(4_000) / 2, rng.random(4_000) / 2) if scores else y
    verdict = check(dense, pruned, rows, label="y", groups=["g"], permutations=999)
    assert verdict.expected_by_margin is scores
    said = (text.render(verdict, verbose=True), html.render(verdict))
    assert [bool(re.search("as near the (dense model's )?boundary", report)) for report in said] == [scores, scores]
    row = next(row for row in verdict.groups if row.group == "g=a")
    if not scores:
        assert row.expected_flips == pytest.approx(row.n * (y != pruned).mean())
        assert f"at everybody's rate it would be {row.expected_flips:,.0f};" in said[0]
        assert "at everybody's rate (no margins are known)" in said[0]
        assert "changes at everybody's rate" in said[1]


def test_a_p_value_at_its_floor_says_so_and_by_how_many_draws() -> None:
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 6_000), rng.choice(["a", "b", "c"], 6_000)
    pruned = np.where((group == "a") & (rng.random(6_000) < 0.2), 1 - y, y)
    verdict = check_predictions(y, y, pruned, {"g": group}, permutations=199)
    worst = verdict.findings[0]
    assert worst.draws == json.loads(verdict.model_dump_json())["findings"][0]["draws"] > 0
    assert worst.p_value == 1 / (1 + worst.draws)
    least = f"<={worst.p_value:.4f}"
    assert least in text.render(verdict)
    assert least.replace("<", "&lt;") in html.render(verdict)
    other = next(f for f in verdict.findings if f.p_value > worst.p_value)
    assert "<=" not in text.render(verdict.model_copy(update={"findings": (other,)}))


def crowd() -> Verdict:
    """Many undecided findings, and a few on too few rows to test."""
    rng = np.random.default_rng(0)
    group = np.concatenate([np.repeat(np.arange(24), 150), np.repeat([90, 91, 92], 5)])
    y = rng.integers(0, 2, len(group))
    return check_predictions(
        y, y, np.where(rng.random(len(y)) < 0.06, 1 - y, y), {"g": group}, metrics="accuracy", permutations=199
    )


def test_counts_over_a_thousand_are_parted_in_the_last_line() -> None:
    g, h = (np.tile(each.ravel(), 42) for each in np.indices((33, 33)))
    y = np.arange(len(g)) % 2
    harmed, spared = (
        check_predictions(y, y, pruned, {"g": g, "h": h}, metrics="accuracy", permutations=199)
        for pruned in (np.where(g == 0, 1 - y, y), y)
    )
    assert re.fullmatch(r"\d+ regressed, 1,\d{3} inconclusive, \d+ preserved of 1,155 findings", harmed.headline)
    assert re.search(r"findings · 1,\d{3} more with -v$", text.render(harmed), re.MULTILINE)
    assert "(1,089 groups too small to certify: " in spared.headline
    assert spared.headline.endswith(" and 1,086 more)")


def test_untested_is_not_counted_among_the_inconclusive() -> None:
    verdict = crowd()
    inconclusive = int(re.search(r"(\d+) inconclusive", verdict.headline)[1])
    lines = github.render(verdict).splitlines()
    shown = [line for line in lines if " inconclusive::" in line]
    more, untested = map(int, re.search(r"and (\d+) more inconclusive and (\d+) more untested$", lines[-1]).groups())
    assert len(shown) + more == inconclusive
    assert untested == len(verdict.untested) == 3
    few = verdict.model_copy(update={"findings": verdict.untested})
    for report in (github.render(few), github.summary([github.Declared(few)]), junit.render(few), sarif.render(few)):
        assert "untested" in report
        assert "inconclusive: " not in report
        assert " inconclusive::" not in report


def test_an_untested_finding_says_that_its_bounds_are_not_computed() -> None:
    verdict = crowd()
    told = html.render(verdict.model_copy(update={"findings": verdict.untested}))
    assert told.count("bounds not computed") == 3
    assert ">undefined<" not in told


def test_weighted_rows_say_what_is_weighted() -> None:
    rng = np.random.default_rng(0)
    n = 4_000
    rows = pd.DataFrame({"y": rng.integers(0, 2, n), "g": rng.choice(["a", "b"], n), "w": rng.uniform(0.5, 2, n)})
    y = rows["y"].to_numpy()
    pruned = np.where(rng.random(n) < 0.05, 1 - y, y)
    how = {"label": "y", "groups": ["g"], "permutations": 199}
    weighted = check(y, pruned, rows, weight="w", **how)
    alike = check(y, pruned, rows.drop(columns="w"), **how)
    said, usual = (text.render(verdict, verbose=True) for verdict in (weighted, alike))
    assert "dense, pruned, excess and bounds are weighted; n counts rows (no share of rows with harm" in said
    assert "flips by group (rows, not weighted)" in said
    assert "weighted drop, points" in said
    assert "rows are counted, not weighted" in html.render(weighted)
    assert "rows and changes are counted, not weighted" in html.render(weighted)
    assert "weighted" not in usual
    assert "weighted" not in html.render(alike)


def test_a_printed_page_holds_its_provenance(gap: Verdict) -> None:
    page = html.render(gap)
    assert "<details open>" in page
    assert "details { display: none" not in page


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
def test_details_are_closed_on_screen_and_open_on_paper() -> None:
    code = (
        f"const {{fold}} = require({json.dumps(str(html.PAGE / 'page.js'))});"
        "const all = [{open: true}, {open: true}], on = {}, seen = [];"
        "const look = () => seen.push(all.map(d => d.open));"
        "fold({querySelectorAll: () => all}, {addEventListener: (name, what) => { on[name] = what; }});"
        "look(); all[1].open = true; on.beforeprint(); look(); on.afterprint(); look();"
        "console.log(JSON.stringify(seen))"
    )
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[False, False], [True, True], [False, True]]


@pytest.mark.parametrize(
    ("rest", "headline", "reason"),
    [
        (
            10,
            "nothing could be tested (1 group untested: g=B; 1 group with too few rows outside to test: g=A)",
            r"10 rows outside the group, fewer than 20; needs about 1[5-9]0 rows there",
        ),
        (
            60,
            "2 inconclusive of 2 findings",
            r"too few rows outside the group to rule out 2 points; needs about 1[5-9]0 rows there",
        ),
    ],
)
def test_where_everybody_else_is_few_it_is_they_who_lack_rows(rest: int, headline: str, reason: str) -> None:
    y = np.ones(20_000 + rest, dtype=int)
    verdict = check_predictions(y, y, y, {"g": np.repeat(["A", "B"], [20_000, rest])}, metrics="accuracy")
    large, few = sorted(verdict.findings, key=lambda finding: finding.group)
    assert verdict.headline == headline
    assert re.fullmatch(reason, large.reason)
    assert "outside" not in few.reason


def test_an_estimate_that_one_witness_proves_says_which_one_does_not() -> None:
    """Few rows of which some are harmed, by a rest of which few are: relabelling proves it, the bound does not."""
    group, y = np.repeat(["A", "B"], [400, 25]), np.ones(425, dtype=int)
    reasons = {}
    for harmed in range(1, 12):
        pruned = y.copy()
        pruned[-harmed:] = 0
        pruned[:8] = 0
        verdict = check_predictions(y, y, pruned, {"g": group}, metrics="accuracy", alpha=0.01)
        (finding,) = [f for f in verdict.findings if f.group == "g=B"]
        proven = finding.interval[0] > 0, finding.p_value <= 0.01
        assert (finding.outcome is Outcome.REGRESSED) == all(proven)
        if finding.outcome is Outcome.INCONCLUSIVE:
            reasons[proven] = finding.reason.partition(";")[0]
    assert reasons[False, False] == "could be chance"
    assert reasons[False, True] == "could be chance: the lower bound is not above 0"


def test_at_a_planned_look_p_has_to_be_below_what_it_spends_of_alpha() -> None:
    group, y = np.repeat(["A", "B"], [200, 200]), np.ones(400, dtype=int)
    pruned = y.copy()
    pruned[-11:], pruned[:2] = 0, 0
    how = {"metrics": "accuracy", "looks": 4, "look": 3, "permutations": 1_000}
    (finding,) = [f for f in check_predictions(y, y, pruned, {"g": group}, **how).findings if f.group == "g=B"]
    assert finding.interval[0] > 0
    assert finding.p_value < 0.05
    assert finding.reason.startswith("could be chance: p adj is above what this look spends of alpha (0.0")


def test_a_summary_names_the_groups_too_small_to_be_tested_that_it_comes_from() -> None:
    group, y = np.repeat(["A", "B", "few", "fewer"], [500, 500, 10, 5]), np.ones(1015, dtype=int)
    dense, pruned = y.copy(), y.copy()
    dense[:50], dense[-5:-2] = 0, 0
    pruned[:50], pruned[-15:-7] = 0, 0
    verdict = check_predictions(y, dense, pruned, {"g": group}, metrics="accuracy")
    worst, mcd = (next(s for s in verdict.summaries if s.name == name) for name in ("worst_group_accuracy", "mcd"))
    assert worst.deciding == (("g=fewer",), ("g=few",))
    assert mcd.deciding == (("g=fewer", "g=B"), ("g=few", "g=B"))
    assert json.loads(verdict.model_dump_json())["summaries"][0]["deciding"] == [["g=fewer"], ["g=few"]]
    told = text.render(verdict)
    assert "worst group 40.0 % -> 20.0 % (untested: g=fewer, n=5, g=few, n=10)" in told
    whole = check_predictions(y[:1000], dense[:1000], pruned[:1000], {"g": group[:1000]}, metrics="accuracy")
    assert "(untested" not in text.render(whole)
