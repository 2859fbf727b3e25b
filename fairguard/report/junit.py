"""Verdicts as JUnit XML: a suite a check, a case a finding. What is inconclusive is skipped there, never passed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from xml.etree import ElementTree as ET

from fairguard.report.declared import Declared
from fairguard.report.wording import finding_line, metric_name, outcome_word, why
from fairguard.verdict import Finding, Outcome, Verdict

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even escaped."""


def render(verdict: Verdict) -> str:
    """Return one verdict as JUnit XML."""
    return render_all([Declared(verdict)])


def render_all(checks: Iterable[Declared]) -> str:
    """Return all checks as JUnit XML, a suite each."""
    root = ET.Element("testsuites")
    for check in checks:
        _suite(root, check)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, check: Declared) -> None:
    verdict = check.verdict
    skipped = [f for f in verdict.findings if _undecided(f)]
    counts = {"tests": len(verdict.findings), "failures": len(verdict.regressed), "errors": 0, "skipped": len(skipped)}
    suite = ET.SubElement(root, "testsuite", {"name": _clean(check.name), **{k: str(v) for k, v in counts.items()}})
    properties = ET.SubElement(suite, "properties")
    for name, value in (("outcome", verdict.outcome), ("headline", verdict.headline)):
        ET.SubElement(properties, "property", name=f"fairguard.{name}", value=_clean(value))
    for finding in verdict.findings:
        _case(suite, check, finding)


def _case(suite: ET.Element, check: Declared, finding: Finding) -> None:
    name = f"{finding.group}: {metric_name(finding)}"
    case = ET.SubElement(suite, "testcase", classname=_clean(check.name), name=_clean(name))
    line = _clean(finding_line(finding))
    if _undecided(finding):
        ET.SubElement(case, "skipped", message=_clean(f"{outcome_word(finding)}: {why(finding)}")).text = line
    elif finding.outcome is Outcome.REGRESSED:
        line += _clean(f"; {said}" if (said := why(finding)) else "")
        ET.SubElement(case, "failure", message=line, type=finding.rule).text = f"{check.file}:{check.line}: {line}"


def _undecided(finding: Finding) -> bool:
    return finding.outcome is Outcome.INCONCLUSIVE or finding.accepted is not None


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
