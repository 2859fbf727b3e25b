"""Verdicts as one HTML page that needs no network: for people who decide, with a slider for the margin.

Everything from a verdict is escaped; the page's own style and script are the only markup it trusts, and its content
security policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairguard.errors import many
from fairguard.metrics import METRICS
from fairguard.report import wording
from fairguard.report.declared import Declared, model_name
from fairguard.verdict import Finding, GroupRow, Outcome, Verdict

PAGE = Path(__file__).parent / "page"
ORDER = (Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.PRESERVED)
WIDTH = 240
"""Pixels of a bar in the findings' table; its scale is shared by all findings of a check."""
CHART = 480
"""Pixels of a line in the chart of accuracies at the top."""
CHART_ROWS = 12
"""Groups in that chart: those that lost most."""
NAMED = 3
"""Groups that the sentence at the top names."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Accuracies between the lines of that chart: the smallest that needs no more than seven."""


def render(verdict: Verdict) -> str:
    """Return one verdict as an HTML page."""
    return render_all([Declared(verdict)])


def render_all(checks: Iterable[Declared]) -> str:
    """Return all checks as one HTML page, a section each, what regressed first."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rooms = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    rooms.filters |= {
        "of_summary": _summary_value,
        "percent": wording.percent,
        "points": wording.points,
        "p_value": wording.p_value,
    }
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return rooms.get_template("page.html").render(
        checks=[_section(check) for check in sorted(checks, key=lambda check: ORDER.index(check.verdict.outcome))],
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        rules=wording.RULES,
    )


@dataclass(frozen=True)
class Scale:
    """Excess drops as places on a line of :data:`WIDTH` pixels; ``low`` and ``high`` are fractions."""

    low: float
    high: float

    @classmethod
    def over(cls, findings: Iterable[Finding]) -> Scale:
        """Return a scale on which every estimate and margin fits; a bound far outside is cut off at the edge."""
        findings = list(findings)
        middles = [abs(f.estimate) for f in findings if math.isfinite(f.estimate)]
        widths = sorted(abs(side) for f in findings for side in f.interval if math.isfinite(side))
        usual = widths[int(0.9 * (len(widths) - 1))] if widths else 0.0
        reach = 1.1 * max([*middles, usual, *(2 * f.margin for f in findings), 0.01])
        return cls(-reach, reach)

    def at(self, share: float) -> float:
        """Return the place of ``share`` in pixels, within the line."""
        place = WIDTH * (share - self.low) / (self.high - self.low)
        return round(min(max(place, 0.0), WIDTH), 1)


def _section(check: Declared) -> dict[str, Any]:
    verdict = check.verdict
    scale, margins = Scale.over(verdict.findings), {finding.margin for finding in verdict.findings}
    return {
        "name": check.name,
        "second": check.second,
        "verdict": verdict,
        "plain": _plain_words(verdict),
        "groups_line": wording.groups_line(verdict),
        "overall_line": wording.overall_line(verdict),
        "scale": scale,
        "chart": _chart(verdict),
        "findings": [_row(finding, scale, several=len(margins) > 1) for finding in verdict.findings],
        "searched": wording.searched_line(verdict),
        "slices": [_row(finding, scale) for finding in verdict.slices],
        "bars": [_flips(row, verdict) for row in (verdict.overall, *verdict.groups)],
        "margin": max(margins, default=verdict.policy.margin),
        "largest": max(0.2, 2 * max(margins, default=verdict.policy.margin)),
        "slider": len(margins) == 1 and verdict.policy.looks == 1,  # one margin moves, at one level
        "model": model_name(verdict),
        "record": _flat(verdict.record),
    }


def _chart(verdict: Verdict) -> dict[str, Any] | None:
    """Return every group's accuracy before and after as places on one line; ``None`` without labels.

    The overall row comes first, then the groups that regressed, then those that lost most, which may be small.
    """
    known = [row for row in verdict.groups if row.n and math.isfinite(row.drop)]
    if not verdict.labelled or not known:
        return None
    rows = [verdict.overall, *sorted(known, key=lambda row: (not _worst(verdict, row), -row.drop))[:CHART_ROWS]]
    shares = [share for row in rows for share in (row.accuracy.dense, row.accuracy.pruned)]
    step = next((step for step in STEPS if max(shares) - min(shares) <= 5 * step), STEPS[-1])
    low, high = math.floor(min(shares) / step), max(math.ceil(max(shares) / step), math.floor(min(shares) / step) + 1)

    def at(share: float) -> float:
        return round(8 + (CHART - 16) * (share / step - low) / (high - low), 1)

    ticks = [step * tick for tick in range(low, high + 1)]
    return {
        "rows": [(row, at(row.accuracy.dense), at(row.accuracy.pruned), _worst(verdict, row)) for row in rows],
        "ticks": [(at(tick), wording.percent(tick, 0)) for tick in ticks],
        "hidden": len(known) - len(rows) + 1,
    }


def _worst(verdict: Verdict, row: GroupRow) -> str:
    """Return ``regressed`` for a group with a regression that nobody accepted, else nothing."""
    return "regressed" if any(f.group == row.group for f in verdict.regressed) else ""


def _plain_words(verdict: Verdict) -> str:
    """Return the verdict as a sentence or two for somebody who has never seen a confidence bound."""
    if verdict.outcome is Outcome.REGRESSED:
        return _what_regressed(verdict)
    if verdict.outcome is Outcome.INCONCLUSIVE:
        return (
            "These rows can neither prove nor rule out that compression harmed a group more than the others: more "
            "rows, or a wider margin."
        )
    known = [f for f in verdict.findings if f.accepted is not None]
    if known:
        return (
            f"No group lost more than allowed, except for {many(len(known), 'finding')} that the project accepts for "
            "now."
        )
    small = {f.group for f in verdict.findings if f.outcome is not Outcome.PRESERVED}
    if small:
        return (
            f"No group with rows enough to tell lost more than the allowed margin over everybody else; {len(small)} "
            f"group{'s have' if len(small) > 1 else ' has'} too few rows to tell in every respect."
        )
    return "No group lost more than the allowed margin over everybody else, and the rows are enough to say so."


def _what_regressed(verdict: Verdict) -> str:
    """Return which groups regressed in which respect: those that lost, and those that others only left behind."""
    lost = _by_group((f for f in verdict.regressed if not wording.gained_less(f)), _harm)
    behind = _by_group((f for f in verdict.regressed if wording.gained_less(f)), wording.metric_name)
    sentences = []
    if lost:
        who, them, what = _who(lost)
        sentences.append(
            f"Compression hit {who} harder than everybody outside {them}, by more than chance and by an estimate over "
            f"what is allowed: {what}."
        )
    if behind:
        who, them, what = _who(behind)
        sentences.append(
            f"Compression left {who} no worse off than before, but everybody outside {them} gained more, by more than "
            f"chance and by an estimate over what is allowed: {what}. If that is fine, the project can accept these "
            "findings by name, with a reason and a date (docs/verdict.md)."
        )
    return " ".join(sentences)


def _who(groups: dict[str, list[str]]) -> tuple[str, str, str]:
    """Return who some groups are, the pronoun for them, and in which respects each is meant."""
    if len(groups) == 1:
        ((group, respects),) = groups.items()
        return group, "it", ", ".join(respects)
    named = [f"{group} ({', '.join(respects)})" for group, respects in list(groups.items())[:NAMED]]
    more = len(groups) - len(named)
    return "these groups", "each", "; ".join([*named, *([f"and {many(more, 'more group')}"] if more else [])])


def _by_group(findings: Iterable[Finding], respect: Callable[[Finding], str]) -> dict[str, list[str]]:
    """Return the respects in which each group is found, by group."""
    groups: dict[str, list[str]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(respect(finding))
    return groups


def _harm(finding: Finding) -> str:
    """Return what a finding's group lost, for somebody who knows no metric."""
    return METRICS[finding.metric].harm.format(label=finding.label)


def _row(finding: Finding, scale: Scale, *, several: bool = False) -> dict[str, Any]:
    """Return what a line of the table of findings shows, the allowed excess in words where there are several."""
    lower, upper = finding.interval
    allowed = f" (allowed {wording.points(finding.margin, signed=False)} points)" if several else ""
    drawn = all(map(math.isfinite, (finding.estimate, lower, upper)))
    return {
        "finding": finding,
        "metric": wording.metric_name(finding) + allowed,
        "bounds": wording.bounds(finding),
        "outcome": wording.outcome_word(finding),
        "why": wording.why(finding),
        "drawn": drawn,
        "low": scale.at(lower) if drawn else 0,
        "high": scale.at(upper) if drawn else 0,
        "middle": scale.at(finding.estimate) if drawn else 0,
        "zero": scale.at(0.0),
        "allowed": scale.at(finding.margin),
    }


def _flips(row: GroupRow, verdict: Verdict) -> dict[str, Any]:
    """Return a group's flips as pixel widths on one scale for all groups, the widest filling the line."""
    rows = [other for other in (verdict.overall, *verdict.groups) if other.n]
    most = max((r.harmful_flips + r.beneficial_flips + r.other_flips) / r.n for r in rows) or 1.0
    parts = (row.harmful_flips, row.beneficial_flips, row.other_flips)
    widths = [round(WIDTH * part / row.n / most, 1) if row.n else 0.0 for part in parts]
    return {"row": row, "widths": widths, "starts": [0.0, widths[0], round(widths[0] + widths[1], 1)]}


def _summary_value(value: float, name: str) -> str:
    """Return a summary's value; variances of rates are too small for percent."""
    return wording.percent(value) if not name.startswith("cwv") or math.isnan(value) else f"{value:.5f}"


def _flat(record: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return a nested record as pairs of a dotted name and a text."""
    pairs: list[tuple[str, str]] = []
    for key, value in record.items():
        if isinstance(value, dict):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", "-" if value is None else str(value)))
    return pairs


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
