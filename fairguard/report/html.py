"""Verdicts as one HTML page that needs no network: for people who decide, with a slider for the margin.

Everything from a verdict is escaped; the page's own style and script are the only markup it trusts, and its content
security policy lets nothing else run.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any
from unicodedata import bidirectional

from fairguard.errors import many
from fairguard.metrics import METRICS
from fairguard.report import charts, wording
from fairguard.report.declared import Declared, Unjudged, model_name
from fairguard.report.text import EXPLAINED
from fairguard.verdict import Finding, Outcome, Verdict

PAGE = Path(__file__).parent / "page"
ORDER = (Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.PRESERVED)
WORDS = ("regressed", "accepted", "inconclusive", "untested", "preserved")
"""What findings are marked as, in the order in which they are listed."""
NAMED = 3
"""Groups that the sentence at the top names."""
FOLDED = 60
"""Groups beyond which their flips are not listed until somebody asks."""
LISTED = {"inconclusive": 300, "untested": 300, "preserved": FOLDED}
"""Findings beyond which those of a mark are not listed until somebody asks, where there are worse ones."""
PICKED = 12
"""Findings beyond which one may pick those that are listed."""


def render(verdict: Verdict, *, next_step: str = "") -> str:
    """Return one verdict as an HTML page, with what to do next, if that is known."""
    return render_all([Declared(verdict)], next_step=next_step)


def render_all(checks: Iterable[Declared], unjudged: Iterable[Unjudged] = (), *, next_step: str = "") -> str:
    """Return all checks as one HTML page, a section each, what regressed first, after what could not be judged."""
    checks = sorted(checks, key=lambda check: ORDER.index(check.verdict.outcome))
    unjudged = list(unjudged)
    steps = next_step.split("   |   ") if next_step else []
    return page_of(checks, unjudged, title=_title(checks, unjudged), next=steps)


def page_of(
    checks: Iterable[Declared],
    unjudged: Sequence[Unjudged] = (),
    *,
    template: Path = PAGE / "page.html",
    **more: object,
) -> str:
    """Return checks as one HTML page, in the order given.

    Args:
        checks: a section each.
        unjudged: checks that could not be made, which come first.
        template: the page, or one that extends ``page.html``; it stands in any folder.
        more: what the template names: ``title`` of the page, steps that come ``next``, and its own.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rooms = Environment(
        loader=FileSystemLoader([PAGE, template.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rooms.filters |= {
        "isolated": isolated,
        "of_summary": _summary_value,
        "percent": wording.percent,
        "points": wording.points,
        "p_value": wording.p_value,
    }
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return rooms.get_template(template.name).render(
        checks=[_section(check) | {"number": number} for number, check in enumerate(checks, 1)],
        unjudged=unjudged,
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        width=charts.WIDTH,
        **more,
    )


def _title(checks: Sequence[Declared], unjudged: Sequence[Unjudged] = ()) -> str:
    """Return what the page is called in a tab: the outcome first."""
    if not checks and not unjudged:
        return "nothing was judged"
    if len(checks) == 1 and not unjudged:
        verdict = checks[0].verdict
        names = [PurePath(model.path).name for model in reversed(verdict.models) if model.path]
        return f"{verdict.outcome}: {' vs '.join(names) or checks[0].name}"
    counts = Counter(check.verdict.outcome for check in checks)
    words = [*([f"{len(unjudged)} not judged"] if unjudged else []), *(f"{counts[o]} {o}" for o in ORDER if counts[o])]
    return f"{many(len(checks) + len(unjudged), 'check')}: {', '.join(words)}"


def _section(check: Declared) -> dict[str, Any]:
    verdict = check.verdict
    scale, margins = charts.Scale.over(verdict.findings), {finding.margin for finding in verdict.findings}
    rows = [_row(finding, scale, several=len(margins) > 1) for finding in verdict.findings]
    regressed = dict.fromkeys(finding.group for finding in verdict.regressed)
    return {
        "name": check.name,
        "second": check.second,
        "verdict": verdict,
        "badge": _badge(verdict),
        "subject": _subject(verdict),
        "plain": _plain_words(verdict),
        "accepted": _accepted(verdict),
        "explained": [(g, wording.explanation(verdict, g).removeprefix(f"{g}: ")) for g in list(regressed)[:EXPLAINED]],
        "ruled_out": wording.ruled_out_line(verdict),
        "groups_line": wording.groups_line(verdict),
        "overall_line": wording.overall_line(verdict),
        "scale": scale,
        "chart": charts.accuracies(verdict),
        "findings": rows,
        "counts": _counts([row["word"] for row in rows]),
        "pick": len(rows) > PICKED,
        "reasons": any(row["why"] for row in rows),
        "rules": sorted({(METRICS[f.metric].rule, f.metric, METRICS[f.metric].sentence) for f in verdict.findings}),
        "searched": wording.searched_line(verdict),
        "slices": [_row(finding, scale) for finding in verdict.slices],
        "bars": charts.flips(verdict),
        "folded": len(verdict.groups) > FOLDED,
        # one margin moves, at one level
        "slider": charts.slider(margins.pop()) if len(margins) == 1 and verdict.policy.looks == 1 else None,
        "draws": max((finding.draws for finding in verdict.findings), default=0),
        "model": model_name(verdict),
        "record": _flat(verdict.record),
    }


def _counts(words: Sequence[str]) -> list[tuple[str, int, bool]]:
    """Return how many findings have each mark, and whether those are listed from the start, the worst mark first."""
    counts, found, before = Counter(words), [], 0
    for word in WORDS:
        listed = not before or before + counts[word] <= LISTED.get(word, math.inf)
        found.append((word, counts[word], listed))
        before += counts[word]
    return found


def _badge(verdict: Verdict) -> tuple[str, str]:
    """Return how the verdict is marked and in which words: one that rests on acceptances says so."""
    known = sum(finding.accepted is not None for finding in verdict.findings)
    if not known or verdict.outcome is Outcome.REGRESSED:
        return verdict.outcome, verdict.outcome
    return "accepted", f"{verdict.outcome}, with {many(known, 'accepted regression')}"


def _subject(verdict: Verdict) -> str:
    """Return what was judged and when, as far as the verdict knows: models, rows, day and version."""
    record = verdict.record
    models = [model.path or "a model in memory" for model in verdict.models]
    data, versions = record.get("data"), record.get("versions")
    parts = (
        " \N{RIGHTWARDS ARROW} ".join(models),
        data.get("path") if isinstance(data, dict) else None,
        str(record.get("created", ""))[:16].replace("T", " ") + " UTC" if record.get("created") else None,
        f"fairguard {versions.get('pytest-fairguard', '')}".rstrip() if isinstance(versions, dict) else None,
    )
    return " · ".join(str(part) for part in parts if part)


def _accepted(verdict: Verdict) -> list[tuple[str, list[str]]]:
    """Return each reason for which regressions are accepted, until when, and the findings that it excuses."""
    reasons: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.accepted is not None:
            reasons.setdefault(finding.accepted, []).append(wording.finding_name(finding))
    return list(reasons.items())


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
        return isolated(group), "it", ", ".join(respects)
    named = [f"{isolated(group)} ({', '.join(respects)})" for group, respects in list(groups.items())[:NAMED]]
    more = len(groups) - len(named)
    return "these groups", "each", "; ".join([*named, *([f"and {many(more, 'more group')}"] if more else [])])


def isolated(name: str) -> str:
    """Return a name that may stand in a sentence: one with letters from the right to the left keeps them to itself."""
    mixed = any(bidirectional(letter) in ("R", "AL") for letter in name)
    return f"\N{FIRST STRONG ISOLATE}{name}\N{POP DIRECTIONAL ISOLATE}" if mixed else name


def _by_group(findings: Iterable[Finding], respect: Callable[[Finding], str]) -> dict[str, list[str]]:
    """Return the respects in which each group is found, by group."""
    groups: dict[str, list[str]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(respect(finding))
    return groups


def _harm(finding: Finding) -> str:
    """Return what a finding's group lost, for somebody who knows no metric."""
    return METRICS[finding.metric].harm.format(label=finding.label)


def _row(finding: Finding, scale: charts.Scale, *, several: bool = False) -> dict[str, Any]:
    """Return what a line of the table of findings shows, the allowed excess in words where there are several."""
    allowed = f" (allowed {wording.points(finding.margin, signed=False)} points)" if several else ""
    return {
        "finding": finding,
        "metric": wording.metric_name(finding) + allowed,
        "bounds": wording.bounds(finding),
        "word": charts.word_of(finding),
        "why": wording.why(finding),
        "bar": scale.bar(finding),
        "middle": scale.at(finding.estimate) if math.isfinite(finding.estimate) else 0,
        "allowed": scale.at(finding.margin),
    }


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
