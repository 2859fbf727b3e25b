"""The page in the hands of a reader: what it names, what its script says at another margin, and what it prints."""

import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_reports import Page, judged

from fairguard import Outcome, Verdict, check_predictions
from fairguard.acceptance import with_acceptance
from fairguard.config import Accepted
from fairguard.report import html
from fairguard.report.declared import Declared
from fairguard.verdict import ModelInfo

needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run the page's script")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def data_of(attributes: dict[str, str | None]) -> dict[str, str | None]:
    return {name.removeprefix("data-"): value for name, value in attributes.items() if name.startswith("data-")}


def at_margins(verdict: Verdict, margins: list[float]) -> list[tuple[list[str], str]]:
    """Return what the page's script makes of the page's own rows: outcomes and the verdict at each margin."""
    page = Page(html.render(verdict))
    rows = [{"dataset": data_of(a)} for tag, a in page.tags if tag == "tr" and "data-outcome" in a]
    (form,) = [{"dataset": data_of(a)} for tag, a in page.tags if a.get("class") == "slider"]
    code = (
        f"const {{findingOf, policyOf, outcomeAt, verdictAt}} = require({json.dumps(str(html.PAGE / 'page.js'))});"
        f"const [rows, form, margins] = {json.dumps([rows, form, margins])};"
        "const all = rows.map(findingOf), policy = policyOf(form);"
        "const at = m => [all.map(f => outcomeAt(f, m, policy)), verdictAt(all, m, policy)];"
        "console.log(JSON.stringify(margins.map(at)))"
    )
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    return [(outcomes, whole) for outcomes, whole in json.loads(done.stdout)]


@needs_node
class TestSlider:
    MARGINS = (0.005, 0.02, 0.04, 0.08, 0.15, 0.19, 0.25)

    @pytest.mark.parametrize("small", [12_000, 140, 56, 25, 5])
    @pytest.mark.parametrize("harm", [0.17, 0.0])
    @pytest.mark.parametrize("policy", [{}, {"strict": True}, {"untested": "fail"}])
    def test_the_slider_says_what_the_judge_says(self, policy: dict[str, Any], harm: float, small: int) -> None:
        """At every margin the script gives each finding, and the whole, the outcome that the judge gives it there."""
        verdicts = [few(harm, small=small, margin=margin, **policy) for margin in self.MARGINS]
        known = verdicts[0].findings
        for verdict, (found, whole) in zip(verdicts, at_margins(verdicts[0], list(self.MARGINS)), strict=True):
            by_name = {(f.group, f.metric, f.label): f.outcome for f in verdict.findings}
            assert found == [by_name[f.group, f.metric, f.label] for f in known]
            assert whole == verdict.outcome
        assert (Outcome.REGRESSED in {v.outcome for v in verdicts}) == (harm > 0)

    def test_at_the_margin_is_over_it(self) -> None:
        """1,200 of 20,000 less 800 of 20,000 are two points, and in floating point a little less."""
        group, y = np.repeat(["A", "B"], 20_000), np.resize([0, 1], 40_000)
        broken = np.arange(40_000) % 20_000 < np.where(group == "A", 1_200, 800)
        verdict = check_predictions(y, y, np.where(broken, 1 - y, y), {"g": group}, metrics="accuracy")
        assert verdict.findings[0].estimate < verdict.findings[0].margin
        assert verdict.findings[0].outcome is Outcome.REGRESSED
        ((found, whole),) = at_margins(verdict, [0.02])
        assert (found, whole) == ([f.outcome for f in verdict.findings], "regressed")

    def test_no_p_value_can_be_less_than_the_relabellings_show(self) -> None:
        verdict = judged(0.2, alpha=0.00001)
        assert verdict.regressed
        assert verdict.regressed[0].p_value > verdict.policy.alpha
        ((found, whole),) = at_margins(verdict, [0.02])
        assert (found, whole) == ([f.outcome for f in verdict.findings], "regressed")

    def test_what_is_accepted_stays_so(self) -> None:
        verdict = few(0.17)
        found = [[whole for _, whole in at_margins(each, [0.02, 0.3])] for each in (verdict, accepted(verdict))]
        assert found == [["regressed", "preserved"], ["preserved", "preserved"]]


def few(harm: float, *, small: int = 12_000, **policy: object) -> Verdict:
    """Three groups of 12,000 rows, the first of which is harmed, and one that may be small."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(4), [12_000, 12_000, 12_000, small])
    y = rng.integers(0, 2, len(level))
    pruned = np.where(rng.random(len(y)) < 0.02 + harm * (level == 0), 1 - y, y)
    return check_predictions(y, y, pruned, {"g": np.array(list("ABCD"))[level]}, permutations=199, **policy)


def accepted(verdict: Verdict) -> Verdict:
    entries = [Accepted(group=f.group, until=date(2030, 1, 1), why="the board knows") for f in verdict.regressed]
    return with_acceptance(verdict, entries, today=date(2029, 1, 1))


def test_an_accepted_regression_is_marked_as_one_everywhere() -> None:
    verdict = accepted(few(0.17))
    assert verdict.outcome is Outcome.PRESERVED
    text = html.render(verdict)
    known = sum(f.accepted is not None for f in verdict.findings)
    assert f'<h1><span class="badge accepted">preserved, with {known} accepted regressions</span>' in text
    assert "accepted for now: the board knows (until 2030-01-01): <bdi>g=A: " in text
    words = [a["class"] for tag, a in Page(text).tags if tag == "tr" and "data-outcome" in a]
    assert words[:known] == ["accepted"] * known
    assert "regressed" not in words
    chart = text[text.index('<table class="chart">') : text.index('<table class="findings')]
    assert '<tr class="accepted">' in chart
    assert '<span class="badge accepted">accepted</span>' in chart


def test_the_first_lines_name_what_was_judged() -> None:
    models = (ModelInfo(kind="ONNX", path="m/dense.onnx"), ModelInfo(kind="ONNX", path="m/pruned.onnx"))
    record = {
        "created": "2026-11-30T18:22:53+00:00",
        "data": {"path": "rows.csv"},
        "versions": {"pytest-fairguard": "9"},
    }
    verdict = few(0.17).model_copy(update={"models": models, "record": record})
    text = html.render(verdict, next_step="repair it   |   train it again")
    assert "<title>regressed: pruned.onnx vs dense.onnx</title>" in text
    subject = "m/dense.onnx \N{RIGHTWARDS ARROW} m/pruned.onnx · rows.csv · 2026-11-30 18:22 UTC · fairguard 9"
    assert f'<p class="subject">{subject}</p>' in text
    assert re.search(r"<li>repair it\s+<li>train it again\s+</ul>", text)
    assert re.search(r"<li><b><bdi>g=A</bdi></b>: [\d,]+ flips \(", text), "where the harm comes from"
    fair = html.render_all([Declared(verdict), Declared(accepted(verdict))])
    assert "<title>2 checks: 1 regressed, 1 preserved</title>" in fair
    assert "repair it" not in fair


def test_many_findings_are_listed_when_they_are_asked_for() -> None:
    def boxes(verdict: Verdict) -> dict[str, bool]:
        tags = [a for tag, a in Page(html.render(verdict)).tags if a.get("type") == "checkbox"]
        return {str(a["value"]): "checked" in a for a in tags}

    names = [f"g{i}" for i in range(80)]
    assert boxes(judged(0.5, names=names, groups=80, rows=60_000)) == {
        "regressed": True,
        "inconclusive": True,
        "preserved": False,
    }
    assert set(boxes(judged(0.2, names=names, groups=5)).values()) == {True}
    assert boxes(judged(0.2, names=names, groups=2, metrics="accuracy")) == {}
    text = html.render(judged(0.5, names=names, groups=80, rows=60_000))
    assert "<summary>80 groups</summary>" in text


def test_names_from_the_right_to_the_left_keep_to_themselves() -> None:
    arabic = "\N{ARABIC LETTER ALEF}\N{ARABIC LETTER BEH}"
    text = html.render(judged(0.2, names=[arabic, "b", "c", "d"]))
    assert f"<bdi>origin={arabic}</bdi> <span" in text
    assert f"\N{FIRST STRONG ISOLATE}origin={arabic}\N{POP DIRECTIONAL ISOLATE}" in text
    assert "\N{FIRST STRONG ISOLATE}" not in html.render(judged(0.2, names=["a", "b", "c", "d"]))


@pytest.mark.parametrize(("margin", "start", "step"), [(0.02, "2.0", "0.1"), (0.0025, "0.25", "0.01")])
def test_the_slider_stands_on_the_margin(margin: float, start: str, step: str) -> None:
    (range_,) = [a for _, a in Page(html.render(judged(0.2, margin=margin))).tags if a.get("type") == "range"]
    assert (range_["value"], range_["step"], range_["min"]) == (start, step, step)
    assert f"<output>{start} points (as judged)</output>" in html.render(judged(0.2, margin=margin))


DRIVER = """
const said = [], say = () => said.push([document.querySelector(".findings tbody .badge").textContent,
  document.querySelector(".findings caption").textContent, document.querySelector(".recount").textContent]);
const range = document.querySelector("[type=range]");
window.requestAnimationFrame = (draw) => draw();  // a frame comes when it likes, and maybe after the page was read
range.value = 20; range.dispatchEvent(new Event("input")); say();
dispatchEvent(new Event("beforeprint")); say();
dispatchEvent(new Event("afterprint")); say();
document.title = JSON.stringify([said, document.querySelectorAll("details[open]").length,
  document.querySelector(".find").hidden]);
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to open the page")
def test_a_browser_prints_the_verdict_whatever_the_slider_says(tmp_path: Path) -> None:
    verdict = judged(0.05, names=list("ABCDE"), groups=5, rows=40_000)
    text = html.render(verdict).replace("</body>", f"<script>{DRIVER}</script></body>")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)
    assert policy is not None
    page = tmp_path / "page.html"
    page.write_text(text.replace(policy[0], ""), encoding="utf-8")  # it would not let the driver run
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run([*command, f"--user-data-dir={tmp_path / 'user'}", page.as_uri()], capture_output=True)
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout.decode())
    (moved, printed, back), details, hidden = json.loads(title)
    assert moved[:2] == ["preserved", "Hypothetical: 20.0 points allowed, judged at 2.0"]
    assert moved[2].startswith("The verdict would be preserved: ")
    assert printed == ["regressed", "", ""]
    assert back == moved
    assert details == 0, "the script runs, and folds them"
    assert not hidden
