"""Verdicts as SARIF 2.1.0, for code scanning: a result for every finding that regressed or is inconclusive."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from fairguard.report.declared import Declared, Unjudged, model_name
from fairguard.report.wording import RULES, finding_line, outcome_word, why
from fairguard.verdict import Finding, Outcome, Verdict

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

UNJUDGED = "FG001"
"""Rule of the results that stand for a check without a verdict."""


def render(verdict: Verdict) -> str:
    """Return one verdict as a SARIF log; its results point at the configuration that declares the check."""
    return render_all([Declared(verdict)])


def render_all(checks: Iterable[Declared], unjudged: Iterable[Unjudged] = ()) -> str:
    """Return all checks as a SARIF log of one run, rules sorted by id.

    A check that could not be judged is a result too, as code scanning shows nothing else; the run then counts as one
    that failed, as it does without any check.
    """
    checks, unjudged = list(checks), list(unjudged)
    findings = [(check, f) for check in checks for f in check.verdict.findings if f.outcome is not Outcome.PRESERVED]
    rules = sorted({finding.rule for _, finding in findings} | ({UNJUDGED} if unjudged else set()))
    run: dict[str, Any] = {
        "tool": {"driver": {"name": "fairguard", "rules": [_rule(rule) for rule in rules]}},
        "columnKind": "unicodeCodePoints",
        "results": [
            *(_result(check, finding, rules) for check, finding in findings),
            *(_error(check, rules) for check in unjudged),
        ],
    }
    if unjudged or not checks:
        run["invocations"] = [{"executionSuccessful": False}]
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def fingerprint(check: Declared, finding: Finding) -> str:
    """Return what identifies a finding from run to run: its rule, metric, group and model name, never a number."""
    parts = (finding.rule, finding.metric, finding.label or "", finding.group, model_name(check.verdict))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _rule(rule: str) -> dict[str, Any]:
    fallback = "a check could not be judged" if rule == UNJUDGED else "one group fared worse than the rest"
    text = RULES.get(rule, fallback)
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
        "locations": [_location(check)],
        "partialFingerprints": {"fairguardFinding/v1": fingerprint(check, finding)},
    }
    if finding.accepted is not None:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.accepted}]
    return result


def _error(check: Unjudged, rules: list[str]) -> dict[str, Any]:
    prints = hashlib.sha256("\0".join((UNJUDGED, check.name)).encode()).hexdigest()[:32]
    return {
        "ruleId": UNJUDGED,
        "ruleIndex": rules.index(UNJUDGED),
        "kind": "fail",
        "level": "error",
        "message": {"text": f"{check.name}: not judged: {check.error}"},
        "locations": [_location(check)],
        "partialFingerprints": {"fairguardFinding/v1": prints},
    }


def _location(check: Declared | Unjudged) -> dict[str, Any]:
    return {
        "physicalLocation": {"artifactLocation": {"uri": quote(check.file)}, "region": {"startLine": check.line}},
        "logicalLocations": [{"fullyQualifiedName": check.name}],
    }
