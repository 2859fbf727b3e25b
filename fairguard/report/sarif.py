"""Verdicts as SARIF 2.1.0, for code scanning: a result for every finding that regressed or is inconclusive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from fairguard.report.declared import Declared, model_name
from fairguard.report.wording import RULES, finding_line, outcome_word, why
from fairguard.verdict import Finding, Outcome, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def render(verdict: Verdict) -> str:
    """Return one verdict as a SARIF log; its results point at the configuration that declares the check."""
    return render_all([Declared(verdict)])


def render_all(checks: Iterable[Declared]) -> str:
    """Return all checks as a SARIF log of one run, rules sorted by id."""
    checks = list(checks)
    findings = [(check, f) for check in checks for f in check.verdict.findings if f.outcome is not Outcome.PRESERVED]
    rules = sorted({finding.rule for _, finding in findings})
    run = {
        "tool": {"driver": {"name": "fairguard", "rules": [_rule(rule) for rule in rules]}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(check, finding, rules) for check, finding in findings],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def fingerprint(check: Declared, finding: Finding) -> str:
    """Return what identifies a finding from run to run: its rule, metric, group and model name, never a number."""
    parts = (finding.rule, finding.metric, finding.label or "", finding.group, model_name(check.verdict))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _rule(rule: str) -> dict[str, Any]:
    text = RULES.get(rule, "one group fared worse than the rest")
    return {
        "id": rule,
        "shortDescription": {"text": text[0].upper() + text[1:] + "."},
        "defaultConfiguration": {"level": "error"},
    }


def _result(check: Declared, finding: Finding, rules: list[str]) -> dict[str, Any]:
    """Return one result. ``open`` is SARIF's word for a question that the evidence at hand leaves undecided."""
    regressed = finding.outcome is Outcome.REGRESSED
    reason = why(finding)
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rules.index(finding.rule),
        "kind": "fail" if regressed else "open",
        "level": "error" if regressed else "none",
        "message": {"text": finding_line(finding) + (f"; {outcome_word(finding)}: {reason}" if reason else "")},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(check.file)},
                    "region": {"startLine": check.line},
                },
                "logicalLocations": [{"fullyQualifiedName": check.name}],
            }
        ],
        "partialFingerprints": {"fairguardFinding/v1": fingerprint(check, finding)},
    }
    if finding.accepted is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.accepted}]
    return result
