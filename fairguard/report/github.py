"""Verdicts for GitHub Actions: annotations on the line that declares the check, and a Markdown step summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fairguard.report.declared import Declared, Unjudged
from fairguard.report.wording import (
    accepting,
    bounds,
    finding_line,
    metric_name,
    outcome_word,
    overall_line,
    percent,
    points,
    why,
)
from fairguard.verdict import Finding, Outcome, Verdict

KEPT = 10
"""Annotations of one kind that GitHub keeps from one step; it drops the others without a word."""
SUMMARY_ROWS = 20
MARKS = {Outcome.REGRESSED: "\N{CROSS MARK}", Outcome.INCONCLUSIVE: "\N{WHITE QUESTION MARK ORNAMENT}"}
ERROR = "\N{WARNING SIGN}"
MARKS |= {Outcome.PRESERVED: "\N{WHITE HEAVY CHECK MARK}"}


def render(verdict: Verdict) -> str:
    """Return one verdict as annotations, which the log of a step turns into marks on the configuration's line."""
    return commands([Declared(verdict)])


def commands(checks: Iterable[Declared]) -> str:
    """Return workflow commands: errors for what regressed, warnings for what is undecided; the worst nine of each."""
    checks = list(checks)
    lines: list[str] = []
    for level, outcome in (("error", Outcome.REGRESSED), ("warning", Outcome.INCONCLUSIVE)):
        found = [
            (check, f) for check in checks for f in check.verdict.findings if f.outcome is outcome and not f.accepted
        ]
        shown = found if len(found) <= KEPT else found[: KEPT - 1]
        lines += [_annotation(level, check, finding) for check, finding in shown]
        hidden = Counter(outcome_word(finding) for _, finding in found[len(shown) :])
        if hidden:
            rest = " and ".join(f"{count} more {word}" for word, count in hidden.items())
            lines.append(f"::{level} title=fairguard::and {rest}")
    return "".join(f"{line}\n" for line in lines)


def summary(checks: Iterable[Declared], unjudged: Iterable[Unjudged] = ()) -> str:
    """Return Markdown for a step summary: a section for each check, its findings in a table, the worst first."""
    errors = [f"### {ERROR} {_cell(check.name)}: not judged\n\n{_cell(check.error)}\n" for check in unjudged]
    return "\n".join([*errors, *(_section(check) for check in checks)])


def _annotation(level: str, check: Declared, finding: Finding) -> str:
    place = (
        f"file={_property(check.file)},line={check.line},title={_property(f'{finding.group} {outcome_word(finding)}')}"
    )
    reason = why(finding)
    return f"::{level} {place}::{_data(finding_line(finding) + (f'; {reason}' if reason else ''))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _section(check: Declared) -> str:
    verdict = check.verdict
    lines = [
        f"### {MARKS[verdict.outcome]} {_cell(check.name)}: {verdict.outcome}",
        "",
        f"{_cell(verdict.headline)}  ",
        f"{_cell(overall_line(verdict))}",
        "",
        *_table([f for f in verdict.findings if f.outcome is not Outcome.PRESERVED]),
        *([f"{_cell(line)}\n"] if (line := accepting(verdict)) else []),
        *(f"> {_cell(warning)}" for warning in verdict.warnings),
    ]
    return "\n".join(lines) + "\n"


def _table(findings: list[Finding]) -> list[str]:
    if not findings:
        return []
    rows = [_row(finding) for finding in findings[:SUMMARY_ROWS]]
    more = len(findings) - len(rows)
    return [
        "| group | metric | n | dense | pruned | excess drop | allowed | outcome |",
        "|---|---|--:|--:|--:|---|--:|---|",
        *rows,
        *([f"\nand {more} more"] if more else []),
        "",
    ]


def _row(finding: Finding) -> str:
    reason = why(finding)
    cells = (
        finding.group,
        metric_name(finding),
        f"{finding.n:,}",
        percent(finding.rate.dense),
        percent(finding.rate.pruned),
        f"{points(finding.estimate)} {bounds(finding)}",
        points(finding.margin, signed=False),
        f"{MARKS[finding.outcome]} {outcome_word(finding)}" + (f": {reason}" if reason else ""),
    )
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    """Return text that Markdown shows as it stands: no markup, no HTML, no end of a table's cell."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for mark in "\\|`*_[]":
        escaped = escaped.replace(mark, f"\\{mark}" if mark != "|" else "&#124;")
    return " ".join(escaped.split())
