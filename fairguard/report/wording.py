"""The words and numbers that every report shares, so that all of them say the same thing. Sees only a Verdict."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from fairguard.errors import many
from fairguard.metrics import METRICS, Metric
from fairguard.verdict import Finding, Outcome, Pair, Summary, Verdict, columns_in

RULES = {metric.rule: metric.sentence for metric in METRICS.values()}
"""What the rules of findings say."""
LARGE = 500
"""Rows from which on a group is large, where what is ruled out for large groups is told apart."""


def percent(share: float, digits: int = 1) -> str:
    """Return ``"81.6 %"``; ``"-"`` for a rate that does not exist."""
    return "-" if math.isnan(share) else f"{100 * share:.{digits}f} %"


def points(share: float, *, signed: bool = True, digits: int | None = None) -> str:
    """Return a difference in percentage points, ``"+6.4"``; ``"-"`` where it does not exist."""
    if math.isnan(share):
        return "-"
    if signed:
        return f"{100 * share:+.1f}"
    return f"{100 * share:g}" if digits is None else f"{100 * share:.{digits}f}"


def bounds(finding: Finding) -> str:
    """Return the two bounds that decide, ``"[+1.8, +11.0]"``."""
    lower, upper = finding.interval
    return "" if math.isnan(lower) or math.isnan(upper) else f"[{points(lower)}, {points(upper)}]"


def p_value(finding: Finding) -> str:
    """Return the p value with four digits at most, ``<=0.0037`` where the relabellings behind it can show no less."""
    p = finding.p_value
    if math.isnan(p):
        return "-"
    least = "<=" if finding.draws and p <= 1 / (1 + finding.draws) else ""
    return "<0.0001" if p < 0.0001 else f"{least}{p:.4f}" if p < 0.1 else f"{p:.2f}"


def metric_name(finding: Finding) -> str:
    """Return the metric in words, with the class that it is about."""
    name = finding.metric.replace("_", " ")
    return f"{name} of {finding.label}" if finding.label is not None else name


def finding_name(finding: Finding) -> str:
    """Return a finding's group and metric: ``race=Black: recall of 1``."""
    return f"{finding.group}: {metric_name(finding)}"


def outcome_word(finding: Finding) -> str:
    """Return the outcome, or ``untested``, which is no outcome of the rows but a lack of them."""
    return str(finding.outcome) if finding.tested or finding.dominated else "untested"


def gained_less(finding: Finding) -> bool:
    """Return whether a group regressed that lost nothing itself: the others gained, and it gained less or nothing."""
    return finding.outcome is Outcome.REGRESSED and finding.loss <= 0


def why(finding: Finding) -> str:
    """Return why a finding is undecided, why its regression is accepted, or what is unusual about it."""
    if finding.accepted is not None:
        return f"accepted: {finding.accepted}"
    if gained_less(finding):
        best = "; it could not gain more: its rate is at its best" if _at_best(finding) else ""
        return finding.reason or f"no worse than before, but the rest gained{best}"
    return finding.reason or ""


def _at_best(finding: Finding) -> bool:
    """Return whether the pruned model's rate could not be better."""
    return finding.rate.pruned == (1.0 if METRICS[finding.metric].good else 0.0)


def finding_line(finding: Finding) -> str:
    """Return one finding as one line, the group and the numbers first."""
    return (
        f"{finding.rule} {finding.group}: {metric_name(finding)} {percent(finding.rate.dense)} -> "
        f"{percent(finding.rate.pruned)}, excess drop {points(finding.estimate)} points {bounds(finding)}, "
        f"allowed {points(finding.margin, signed=False)}, n={finding.n:,}"
    )


def groups_line(verdict: Verdict) -> str:
    """Return what was judged: rows, groups, metrics, margin and error rate."""
    of_groups = [columns_in(row.group, verdict.columns) for row in verdict.groups]
    columns = [f"{name} ({of_groups.count([name])})" for name in verdict.columns]
    crossed = sum(len(names) > 1 for names in of_groups)
    if crossed:
        columns.append(f"intersections ({crossed})")
    judged = {finding.metric for finding in verdict.findings}
    metrics = [metric for metric in Metric if metric in judged]
    policy = verdict.policy
    names = [metric.replace("_", " ") for metric in metrics]
    allowed = [points(policy.margin_of(metric), signed=False) for metric in metrics]
    if len(set(allowed)) > 1:
        allowed = [", ".join(f"{name} {most}" for name, most in zip(names, allowed, strict=True))]
    look = f" (look {policy.look} of {policy.looks}, at {verdict.level:.2g})" if policy.looks > 1 else ""
    return (
        f"{verdict.overall.n:,} rows · groups {' '.join(columns)} · {', '.join(names)} · margin "
        f"{(allowed or [points(policy.margin, signed=False)])[0]} points · alpha {policy.alpha:g}{look} over "
        f"{many(verdict.family, 'finding')}"
    )


def overall_line(verdict: Verdict) -> str:
    """Return what happened to everybody: accuracies, flips, sparsity and noise."""
    row = verdict.overall
    flips = row.harmful_flips + row.beneficial_flips + row.other_flips
    parts = []
    if verdict.labelled:
        weighted, plain = (" (weighted)", " of rows, not weighted") if verdict.weighted else ("", "")
        parts.append(f"accuracy {percent(row.accuracy.dense)} -> {percent(row.accuracy.pruned)}{weighted}")
        parts.append(
            f"flips {percent(flips / row.n)}{plain} "
            f"(harmful {points(row.harmful_flips / row.n, signed=False, digits=1)}, "
            f"beneficial {points(row.beneficial_flips / row.n, signed=False, digits=1)})"
        )
    else:
        parts.append(f"no labels: what differs is not known to be harm · disagree on {percent(flips / row.n)}")
    sparsities = [model.sparsity for model in verdict.models]
    if len(sparsities) == 2 and not any(math.isnan(s) for s in sparsities):
        parts.append(f"zeros in all weights {percent(sparsities[0])} -> {percent(sparsities[1])}")
    if verdict.confirmed_flips is not None:
        chance = verdict.confirmed_by_chance
        beside = "" if math.isnan(chance) else f"; {chance:,.1f} expected by chance"
        parts.append(
            f"{many(verdict.confirmed_flips, 'harmful flip')} confirmed (most seeds get the row wrong too{beside})"
        )
    if verdict.noise:
        parts.append(f"noise floor {percent(max(n.changed / n.rows for n in verdict.noise), 2)}")
    return "overall · " + " · ".join(parts)


def ruled_out_line(verdict: Verdict) -> str:
    """Return what findings that are undecided prove all the same; empty where none is, or nothing is ruled out.

    The highest upper bound of all tested findings bounds the largest true excess at the error rate of each single one:
    it lies below that excess only if the bound of the worst group does (Berger's intersection-union argument, 1982).
    """
    tested = [finding for finding in verdict.findings if finding.tested]
    undecided = any(finding.outcome is Outcome.INCONCLUSIVE for finding in tested)
    if verdict.outcome is Outcome.REGRESSED or not undecided or any(math.isnan(f.interval[1]) for f in tested):
        return ""
    least = max(tested, key=lambda finding: finding.interval[1])
    confidence = 100 * (1 - (verdict.policy.alpha if math.isnan(verdict.level) else verdict.level))
    line = (
        f"ruled out, at {confidence:.10g} % confidence: that any group tested lost over "
        f"{points(least.interval[1], signed=False, digits=1)} points more than the others ({finding_name(least)}, "
        f"{least.n:,} rows)"
    )
    large = max((f.interval[1] for f in tested if f.n >= LARGE), default=math.inf)
    if large <= 0:
        line += f"; none of {LARGE} rows or more lost more than the others"
    elif large < least.interval[1]:
        line += f"; over {points(large, signed=False, digits=1)} where there are {LARGE} rows or more"
    return line


def searched_line(verdict: Verdict) -> str:
    """Return what a search among groups that nobody named came to; empty where none was made."""
    if verdict.searched is None:
        return ""
    if not verdict.searched:
        return "searched no group: every intersection is named already, or has too few rows"
    found = f"{len(verdict.slices)} found" if verdict.slices else "nothing found"
    return f"searched {many(verdict.searched, 'group')} that nobody named (a family of their own; not gated): {found}"


def explanation(verdict: Verdict, group: str) -> str:
    """Return where the harm of a group comes from: flips, the worst class, and which part its make-up explains."""
    parts = []
    row = next((row for row in verdict.groups if row.group == group), None)
    one_class = _of_one_class(group, verdict.classes)
    if row is not None:
        flips = row.harmful_flips + row.beneficial_flips + row.other_flips
        line = f"{many(flips, 'flip')} ({row.harmful_flips:,} harmful, {row.beneficial_flips:,} beneficial)"
        if not math.isnan(row.expected_flips):
            line += f", {_expected(row.expected_flips, verdict)}"
        parts.append(line)
        if row.worst_class is not None and not one_class:
            parts.append(f"worst class {row.worst_class} (recall {points(-row.worst_class_drop)})")
    for finding in verdict.findings:
        about = finding.group == group and finding.outcome is Outcome.REGRESSED
        if about and not one_class and not math.isnan(finding.composition):
            parts.append(
                f"accuracy {points(finding.composition)} points because of which rows the group has, "
                f"{points(finding.specific)} because of how they were treated"
            )
    return f"{group}: {'; '.join(parts)}"


def _expected(flips: float, verdict: Verdict) -> str:
    """Return how many flips a group would have, whatever is known of its rows."""
    if verdict.expected_by_margin:
        return f"where rows as near the boundary flip {flips:,.0f} times"
    return f"at everybody's rate it would be {flips:,.0f}"


def accepting(verdict: Verdict) -> str:
    """Return what to do where others' gains alone made a group regress and that is fine; empty where none did."""
    findings = [finding for finding in verdict.regressed if gained_less(finding)]
    return fine_to_gain_less(findings) if findings else ""


def fine_to_gain_less(findings: Sequence[Finding]) -> str:
    """Return the two ways to say that it is fine if these groups, one at least, gained less than the others."""
    rest = "" if len(findings) == 1 else ", and so for the others like it"
    first = findings[0]
    entry = f'{{group = {json.dumps(first.group, ensure_ascii=False)}, metric = "{first.metric}"'
    return (
        f"where it is fine that others gained more: gate harm alone (--metric {Metric.HARMFUL_FLIPS}), or accept = "
        f"[{entry}, until = DATE, why = REASON}}] in fairguard.toml{rest} (docs/verdict.md)"
    )


def summary_lines(verdict: Verdict, *, verbose: bool) -> list[str]:
    """Return the summary metrics of both models side by side, a line per sensitive feature."""
    lines = []
    for column in dict.fromkeys(summary.column for summary in verdict.summaries):
        parts = [
            f"{_SHORT.get(summary.name, summary.name.replace('_', ' '))} {_pair(summary.name, summary.value)}"
            f"{_of_untested(summary, verdict)}"
            for summary in verdict.summaries
            if summary.column == column and (verbose or summary.name in _SHORT)
        ]
        if parts:
            lines.append(f"{column}: " + " · ".join(parts))
    return ["", "both models, dense -> pruned (reported, not gated):", *lines, ""] if lines else []


def _of_untested(summary: Summary, verdict: Verdict) -> str:
    """Return which groups too small to be tested a summary comes from; empty where it comes from none."""
    tested = {finding.group for finding in verdict.findings if finding.tested or finding.dominated}
    rows = {row.group: row.n for row in verdict.groups}
    small = [name for name in dict.fromkeys(sum(summary.deciding, ())) if name not in tested]
    return f" (untested: {', '.join(f'{name}, n={rows[name]:,}' for name in small)})" if small else ""


_SHORT = {
    "demographic_parity_difference": "DP difference",
    "equalized_odds_difference": "EO difference",
    "worst_group_accuracy": "worst group",
    "mcd": "MCD",
}


def _pair(name: str, value: Pair) -> str:
    if math.isnan(value.dense) and math.isnan(value.pruned):
        return "undefined"
    if name in ("cwv", "cwv_debiased"):
        return f"{value.dense:.5f} -> {value.pruned:.5f}"
    return f"{percent(value.dense)} -> {percent(value.pruned)}"


def _of_one_class(group: str, classes: Sequence[str]) -> bool:
    """Return whether all rows of a group have one label; a user's own column may be called ``class``, too."""
    return any(f" & class={name} & " in f" & {group} & " for name in classes)
