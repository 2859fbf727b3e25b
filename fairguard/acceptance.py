"""Regressions that a project lives with for now: who says so, until when, and why. Knows verdicts and dates;
the judge says what remains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fairguard.config import Accepted
from fairguard.errors import did_you_mean
from fairguard.judge.findings import standing_of
from fairguard.judge.judge import outcome_of, uncertified
from fairguard.names import group_meant
from fairguard.verdict import Finding, Outcome, Verdict


def with_acceptance(verdict: Verdict, accept: Sequence[Accepted], *, today: date) -> Verdict:
    """Return the verdict in which accepted regressions do not count; doing it twice changes nothing more.

    Args:
        verdict: what the judge said.
        accept: the project's acceptances; the last one that fits a finding holds.
        today: the day on which they are looked at. One that is over says so in the finding's reason.
    """
    if not accept:
        return verdict
    groups = list(dict.fromkeys(finding.group for finding in verdict.findings))
    accept = [entry.model_copy(update={"group": group_meant(entry.group, groups)}) for entry in accept]
    findings = tuple(_marked(finding, accept, today) for finding in verdict.findings)
    lines = dict.fromkeys((*verdict.warnings, *_unknown_warnings(accept, groups)))
    changed = verdict.model_copy(update={"findings": findings, "warnings": tuple(lines)})
    known = sum(finding.accepted is not None for finding in findings)
    if not known or changed.regressed or verdict.outcome is not Outcome.REGRESSED:
        return changed
    outcome = _outcome(changed)
    small = uncertified(findings) if outcome is Outcome.PRESERVED else ""
    text = f"{verdict.headline} ({known:,} accepted for now)" + (f" ({small})" if small else "")
    return changed.model_copy(update={"outcome": outcome, "headline": text})


def _marked(finding: Finding, accept: Sequence[Accepted], today: date) -> Finding:
    if finding.outcome is not Outcome.REGRESSED:
        return finding
    for entry in reversed(accept):
        if entry.group == finding.group and entry.metric in (None, finding.metric):
            if today <= entry.until:
                return finding.model_copy(update={"accepted": f"{entry.why} (until {entry.until})"})
            return finding.model_copy(update={"reason": f"was accepted until {entry.until}: {entry.why}"})
    return finding


def _outcome(verdict: Verdict) -> Outcome:
    """Return the outcome that the judge would give if the accepted findings were none."""
    others = [finding for finding in verdict.findings if finding.accepted is None]
    return outcome_of(standing_of(others), verdict.policy)


def _unknown_warnings(accept: Sequence[Accepted], groups: Sequence[str]) -> list[str]:
    return [
        f"accept names {entry.group!r}, which is no group of this check.{did_you_mean(entry.group, groups)}"
        for entry in accept
        if entry.group not in groups
    ]
