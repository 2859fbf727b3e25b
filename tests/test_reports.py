"""Reports for machines and for managers: everything of a verdict is in them, and nothing of it is markup."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from fairguard import Outcome, Verdict, assert_fairness_preserved, check_predictions
from fairguard.names import clean
from fairguard.report import charts, github, html, junit, sarif, text
from fairguard.report.declared import Declared
from fairguard.verdict import ModelInfo

NASTY = ["<script>alert(1)</script>", "a|b, c: 100 % & more", "bell\x07 \N{PILE OF POO} `x` ::error::", "plain"]


def judged(harm: float, *, names: list[str] = NASTY, rows: int = 4_000, groups: int = 4, **policy: object) -> Verdict:
    """The verdict on rows of which 3 % flip; in the first group, ``harm`` more."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, groups, size=rows)
    origin = np.array(names)[level]
    y = rng.integers(0, 2, size=rows)
    dense = np.where(rng.random(rows) < 0.1, 1 - y, y)
    pruned = np.where(rng.random(rows) < 0.03 + harm * (level == 0), 1 - dense, dense)
    return check_predictions(y, dense, pruned, {"origin": origin}, permutations=99, **policy)


@pytest.fixture(scope="module")
def regressed() -> Verdict:
    verdict = judged(0.2)
    infos = (ModelInfo(kind="ONNX", path="models/dense.onnx"), ModelInfo(kind="ONNX", path="models/p<80>.onnx"))
    return verdict.model_copy(
        update={"models": infos, "warnings": ("is <b>this</b> right?",), "record": {"a": {"b": None}}}
    )


@pytest.fixture(scope="module")
def undecided() -> Verdict:
    return judged(0.02, rows=800)


@pytest.fixture(scope="module")
def fair() -> Verdict:
    return judged(0.0, names=["A", "B"], groups=2, rows=30_000, metrics="accuracy")


@pytest.fixture(scope="module")
def crowded() -> Verdict:
    """Twenty-five of forty groups were harmed."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(40), 400)
    y = rng.integers(0, 2, size=len(level))
    pruned = np.where(rng.random(len(y)) < 0.4 * (level < 25), 1 - y, y)
    return check_predictions(y, y, pruned, {"g": level}, metrics="accuracy", permutations=99)


def test_the_fixtures_show_all_outcomes(regressed: Verdict, undecided: Verdict, fair: Verdict) -> None:
    assert [v.outcome for v in (regressed, undecided, fair)] == [
        Outcome.REGRESSED,
        Outcome.INCONCLUSIVE,
        Outcome.PRESERVED,
    ]


class Page(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] not in ("style", "script"):
            self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


class TestText:
    @pytest.mark.parametrize("width", [160, 120, 100, 80, 20])
    def test_no_width_cuts_a_name_or_an_outcome(self, width: int) -> None:
        verdict = judged(0.02, rows=800, names=["Asian-Pacific-Islander", "a|b, c: 100 % & [more]", "C", "D"])
        table = text.render(verdict, width=width).split("\n\n")[1].splitlines()
        heading, lines = table[0], [line for line in table[1:] if not line.startswith("    ")]
        assert (heading.split()[0], heading.split()[-1]) == ("group", "outcome")
        for line, finding in zip(lines, verdict.findings, strict=True):
            assert line.startswith(f"{finding.group} ")
            assert re.search(r"(inconclusive|untested|preserved)(: .*)?$", line)
        said = " ".join(" ".join(table).split())
        assert all((finding.reason or "") in said for finding in verdict.findings)

    def test_a_table_as_wide_as_the_terminal_fits(self) -> None:
        verdict = judged(0.02, rows=800, names=["A", "B", "C", "D"])
        for width in (160, 120, 100, 80):
            table = text.render(verdict, width=width).split("\n\n")[1].splitlines()
            assert max(map(len, table)) <= width
            assert ("harmed" in table[0]) == (width >= 100)
            assert any(line.startswith("    ") for line in table) == (width < 160)

    def test_an_ampersand_of_a_name_is_no_intersection(self) -> None:
        y = np.resize([0, 1], 4_000)
        groups = {"R&D": np.resize(["a", "b & c"], 4_000), "sex": np.repeat(["F", "M"], 2_000)}
        groups["R&D"][::3] = "a"
        said = text.render(check_predictions(y, y, y, groups, permutations=99)).splitlines()[0]
        assert "groups R&D (2) sex (2) intersections (4) ·" in said

    def test_a_column_called_class_is_a_column(self) -> None:
        rng = np.random.default_rng(0)
        y, deck = rng.integers(0, 3, 6_000), rng.choice(["first", "third"], 6_000)
        pruned = np.where((deck == "third") & (y == 2) & (rng.random(6_000) < 0.6), 0, y)
        verdict = check_predictions(y, y, pruned, {"class": deck}, metrics="accuracy", permutations=99)
        assert "class=third: " in (told := text.render(verdict))
        assert "worst class 2" in told
        assert "because of how they were treated" in told

    def test_a_search_says_what_it_came_to(self, fair: Verdict, regressed: Verdict) -> None:
        assert "searched" not in text.render(fair)
        for report in (text.render, html.render):
            said = report(fair.model_copy(update={"searched": 1_200}))
            assert "searched 1,200 groups that nobody named" in said
            assert "nothing found" in said
        found = regressed.model_copy(update={"searched": 1, "slices": regressed.findings[:1]})
        assert "searched 1 group that nobody named (a family of their own; not gated): 1 found\n" in text.render(found)
        assert "searched no group" in text.render(fair.model_copy(update={"searched": 0}))


class TestHtml:
    def test_everything_from_a_verdict_is_text(self, regressed: Verdict) -> None:
        page = Page(html.render(regressed))
        assert page.count("script") == 1, "the page's own"
        assert "<b>this" not in html.render(regressed)
        for expected in (*map(clean, NASTY), "is <b>this</b> right?", "models/p<80>.onnx"):
            assert expected in page.text

    def test_it_needs_no_network(self, regressed: Verdict) -> None:
        page = Page(html.render(regressed))
        assert not [a for _, attrs in page.tags for a in attrs if a in ("src", "href", "srcset", "action", "data")]
        assert "url(" not in html.render(regressed)
        assert "@import" not in html.render(regressed)

    def test_its_policy_allows_its_own_style_and_script_alone(self, regressed: Verdict) -> None:
        import base64
        import hashlib

        text = html.render(regressed)
        policy = next(a["content"] for tag, a in Page(text).tags if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None
        assert policy.startswith("default-src 'none';")
        for tag in ("style", "script"):
            (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy

    def test_every_finding_and_group_has_its_row(self, regressed: Verdict) -> None:
        page = Page(html.render(regressed))
        rows = [attrs for tag, attrs in page.tags if tag == "tr" and "data-outcome" in attrs]
        assert [row["data-outcome"] for row in rows] == [finding.outcome for finding in regressed.findings]
        assert [float(row["data-estimate"] or "") for row in rows] == [f.estimate for f in regressed.findings]
        assert page.count("rect") == 3 * (1 + len(regressed.groups))
        in_chart = 2 * (1 + len(regressed.groups))
        assert page.count("circle") == in_chart + sum(np.isfinite(f.interval[0]) for f in regressed.findings)

    def test_the_chart_at_the_top_shows_who_lost_most(self, crowded: Verdict) -> None:
        page = Page(html.render(crowded))
        shown = [a["aria-label"] or "" for tag, a in page.tags if tag == "svg" and "accuracy of" in str(a)]
        worst = sorted(crowded.groups, key=lambda row: -row.drop)[:12]
        assert shown[0].startswith("accuracy of overall: 100.0 % before")
        assert [text.split()[-3] for text in shown[1:]] == [f"{100 * row.accuracy.pruned:.1f}" for row in worst]
        assert "28 more are in the tables below" in page.text
        assert sum(attrs.get("class") == "regressed" for tag, attrs in page.tags if tag == "tr") >= 12
        places = [float(a["cx"] or "") for tag, a in page.tags if tag == "circle"][: 2 * len(shown)]
        assert all(after <= before for before, after in zip(places[::2], places[1::2], strict=True))
        assert max(places) - min(places) > charts.CHART / 2

    def test_equal_models_have_a_chart_too(self) -> None:
        y = np.resize([0, 1], 900)
        text = html.render(check_predictions(y, y, y, {"g": np.resize(["a", "b", "c"], 900)}, permutations=99))
        assert "+0.0 points" in Page(text).text
        assert "-0.0 points" not in Page(text).text

    def test_undefined_rates_are_dashes(self) -> None:
        verdict = judged(0.0, rows=60, names=["A", "B", "C", "tiny"])
        text = html.render(verdict)
        assert Page(text).count("tr") > len(verdict.findings)
        assert "> nan<" not in text
        assert ">nan" not in text

    def test_several_checks_share_a_page(self, regressed: Verdict, fair: Verdict) -> None:
        page = Page(html.render_all([Declared(regressed, "tests/a.py::x"), Declared(fair, "tests/b.py::y<i>")]))
        assert page.count("section") == 2
        assert "tests/b.py::y<i>" in page.text
        links = [(attrs["href"] or "")[1:] for tag, attrs in page.tags if tag == "a"]
        assert links == [attrs["id"] for tag, attrs in page.tags if tag == "section"]
        assert page.count("i") == 0

    def test_rows_without_labels(self) -> None:
        rng = np.random.default_rng(0)
        dense = rng.integers(0, 2, size=900)
        pruned = np.where(rng.random(900) < 0.1, 1 - dense, dense)
        verdict = check_predictions(None, dense, pruned, {"g": rng.integers(0, 3, size=900)}, permutations=99)
        assert "became wrong" not in Page(html.render(verdict)).text


class TestSarif:
    def test_a_log_is_what_code_scanning_reads(self, regressed: Verdict) -> None:
        log = json.loads(sarif.render_all([Declared(regressed, "t.py::x", "tests/my test.py", 12)]))
        assert log["version"] == "2.1.0"
        (run,) = log["runs"]
        ids = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
        assert ids == sorted(set(ids))
        wanted = [f for f in regressed.findings if f.outcome is not Outcome.PRESERVED]
        assert len(run["results"]) == len(wanted) > 0
        for result, finding in zip(run["results"], wanted, strict=True):
            assert ids[result["ruleIndex"]] == result["ruleId"] == finding.rule
            failed = finding.outcome is Outcome.REGRESSED
            assert (result["kind"], result["level"]) == (("fail", "error") if failed else ("open", "none"))
            place = result["locations"][0]["physicalLocation"]
            assert place == {"artifactLocation": {"uri": "tests/my%20test.py"}, "region": {"startLine": 12}}
            assert finding.group in result["message"]["text"]

    def test_fingerprints_survive_other_numbers(self, regressed: Verdict) -> None:
        again = judged(0.3).model_copy(update={"models": regressed.models})

        def prints(verdict: Verdict) -> dict[str, str]:
            check = Declared(verdict)
            return {f"{f.group}{f.metric}{f.label}": sarif.fingerprint(check, f) for f in verdict.findings}

        assert prints(regressed) == prints(again)
        assert len(set(prints(regressed).values())) == len(regressed.findings)
        other = ModelInfo(kind="ONNX", path="models/other.onnx")
        moved = prints(regressed.model_copy(update={"models": (regressed.models[0], other)}))
        assert not set(moved.values()) & set(prints(regressed).values())

    def test_an_accepted_regression_is_suppressed(self, regressed: Verdict) -> None:
        first = regressed.findings[0].model_copy(update={"accepted": "known (until 2030-01-01)"})
        verdict = regressed.model_copy(update={"findings": (first, *regressed.findings[1:])})
        result = json.loads(sarif.render(verdict))["runs"][0]["results"][0]
        assert result["suppressions"] == [
            {"kind": "external", "status": "accepted", "justification": "known (until 2030-01-01)"}
        ]

    def test_preserved_has_no_result(self, fair: Verdict) -> None:
        assert json.loads(sarif.render(fair))["runs"][0]["results"] == []


class TestJunit:
    def test_a_case_for_each_finding(self, regressed: Verdict, undecided: Verdict) -> None:
        root = ET.fromstring(junit.render_all([Declared(regressed, "x"), Declared(undecided, "y")]))
        assert [suite.get("name") for suite in root] == ["x", "y"]
        for suite, verdict in zip(root, (regressed, undecided), strict=True):
            cases = suite.findall("testcase")
            assert len(cases) == len(verdict.findings) == int(suite.get("tests", ""))
            assert len(suite.findall("testcase/failure")) == len(verdict.regressed) == int(suite.get("failures", ""))
            open_ = [f for f in verdict.findings if f.outcome is Outcome.INCONCLUSIVE]
            assert len(suite.findall("testcase/skipped")) == len(open_) == int(suite.get("skipped", ""))

    def test_names_are_text(self, regressed: Verdict) -> None:
        root = ET.fromstring(junit.render(regressed))
        names = {case.get("name", "").removesuffix(": accuracy") for case in root.iter("testcase")}
        assert "origin=<script>alert(1)</script>" in names
        assert 'origin="bell\\x07 \N{PILE OF POO} `x` ::error::"' in names
        raw = [f.model_copy(update={"group": f"origin={NASTY[2]}"}) for f in regressed.findings]
        root = ET.fromstring(junit.render(regressed.model_copy(update={"findings": tuple(raw)})))
        names = {case.get("name", "").removesuffix(": accuracy") for case in root.iter("testcase")}
        assert "origin=bell\N{REPLACEMENT CHARACTER} \N{PILE OF POO} `x` ::error::" in names


class TestGithub:
    def test_commands_are_one_line_each_and_escaped(self, regressed: Verdict) -> None:
        lines = github.commands([Declared(regressed, "x", "a,b:c.py", 7)]).splitlines()
        assert len(lines) == sum(f.outcome is not Outcome.PRESERVED for f in regressed.findings)
        for line in lines:
            assert re.match(r"::(error|warning) file=a%2Cb%3Ac\.py,line=7,title=[^,:]+::", line)
        assert any("title=origin=<script>alert(1)</script> regressed" in line for line in lines)

    def test_the_worst_nine_of_many(self, crowded: Verdict) -> None:
        errors = [line for line in github.render(crowded).splitlines() if line.startswith("::error")]
        assert len(crowded.regressed) > github.KEPT
        assert len(errors) == github.KEPT
        assert errors[-1].endswith(f"and {len(crowded.regressed) - 9} more regressed")
        assert crowded.findings[0].group in errors[0]

    def test_the_summary_is_a_table_that_names_cannot_break(self, regressed: Verdict) -> None:
        text = github.summary([Declared(regressed, "tests/x.py::test")])
        rows = [line for line in text.splitlines() if line.startswith("| ")]
        assert {row.count("|") for row in rows} == {9}
        assert "<script" not in text
        assert "regressed" in text

    def test_the_summary_counts_what_it_leaves_out(self, crowded: Verdict) -> None:
        listed = [finding for finding in crowded.findings if finding.outcome is not Outcome.PRESERVED]
        assert len(listed) > github.SUMMARY_ROWS
        assert f"and {len(listed) - github.SUMMARY_ROWS} more" in github.summary([Declared(crowded)])

    def test_accepted_regressions_raise_no_alarm(self, regressed: Verdict) -> None:
        findings = tuple(f.model_copy(update={"accepted": "known"}) for f in regressed.findings)
        assert "::error" not in github.render(regressed.model_copy(update={"findings": findings}))


def test_an_early_look_is_named_and_its_bounds_are_its_own() -> None:
    whole, early = judged(0.0, rows=8_000), judged(0.0, rows=8_000, looks=5, look=1)
    assert whole.level == 0.05
    assert early.level < 1e-4
    assert "alpha 0.05 over" in text.render(whole)
    assert re.search(r"alpha 0.05 \(look 1 of 5, at \S+e-\d+\) over", text.render(early))
    assert "ruled out, at 99.99" in text.render(early)
    assert 'class="slider"' in html.render(whole)
    assert 'class="slider"' not in html.render(early), "no margin moves what one of several looks spends"


def test_margins_by_metric_are_named_by_metric() -> None:
    one = judged(0.1, rows=8_000, margin=0.05)
    several = judged(0.1, rows=8_000, margins={"accuracy": 0.01, "fpr": 0.1})
    assert "margin 5 points" in text.render(one)
    assert "margin accuracy 1, recall 2, fpr 10 points" in text.render(several)
    heading = next(line for line in text.render(several).splitlines() if line.startswith("group"))
    assert "allowed" in heading
    assert "allowed" not in next(line for line in text.render(one).splitlines() if line.startswith("group"))
    assert "fpr of 1 (allowed 10 points)" in html.render(several)
    assert 'class="slider"' not in html.render(several)


def test_nothing_negative_is_ruled_out() -> None:
    race, rest = [0] * 9740 + [1] * 260, np.arange(10_000) < 10
    pruned = np.where(rest | (np.arange(10_000) >= 9995), 0, 1)
    found = text.render(
        check_predictions(np.ones(10_000, int), np.ones(10_000, int), pruned, {"race": race}, metrics="accuracy")
    )
    assert "where there are" not in found
    assert "; none of 500 rows or more lost more than the others" in found


def test_reports_are_the_same_every_time(regressed: Verdict) -> None:
    for render in (html.render, sarif.render, junit.render, github.render):
        assert render(regressed) == render(regressed)


def test_the_page_lies_beside_the_code(tmp_path: Path) -> None:
    assert {path.name for path in html.PAGE.iterdir()} == {"page.html", "check.html", "page.css", "page.js"}


def gained() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Group b's false positives fall from 2 % to none, everybody else's from 22 % to 2 %."""
    n = 4_000
    group, y = np.arange(n) % 2, np.zeros(n, int)
    y[: n // 2] = 1
    before = np.where(group == 1, np.arange(n) % 50 < 2, np.arange(n) % 9 < 2) & (y == 0)
    after = np.where(group == 1, False, np.arange(n) % 100 < 2) & (y == 0)
    dense, pruned = np.where(y == 1, 1, before), np.where(y == 1, 1, after)
    return y, dense, pruned, np.array(["a", "b"])[group]


GAINED = "no worse than before, but the rest gained; it could not gain more: its rate is at its best"


def test_a_rate_that_could_not_gain_more_is_told_as_that_everywhere() -> None:
    y, dense, pruned, group = gained()
    verdict = check_predictions(y, dense, pruned, {"g": group}, metrics="fpr")
    (finding,) = verdict.regressed
    assert finding.rate.pruned == 0
    assert GAINED in text.render(verdict)
    assert GAINED in junit.render(verdict)
    frame = pd.DataFrame({"y": y, "g": group})
    with pytest.raises(AssertionError, match=re.escape(GAINED)) as told:
        assert_fairness_preserved(dense, pruned, frame, label="y", groups=["g"], metrics="fpr")
    assert "reproduce:" not in str(told.value), "answers in memory have no command"


def test_zeros_are_counted_in_all_weights(regressed: Verdict) -> None:
    models = tuple(ModelInfo(kind="ONNX", sparsity=share) for share in (0.0, 0.789))
    told = text.render(regressed.model_copy(update={"models": models}))
    assert "zeros in all weights 0.0 % -> 78.9 %" in told
