"""A repair as one HTML page that needs no network: how it ended, the trade-offs, the training, and both verdicts.

The verdicts' sections, the style and the content security policy are those of :mod:`fairguard.report.html`; this adds
the section before them. Everything that a file or a user named is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from math import isfinite
from typing import Any

from fairguard.errors import many
from fairguard.repair.telling.record import Record, Result
from fairguard.repair.telling.text import (
    CHOSEN,
    frontier_lines,
    last_line,
    needed_lines,
    next_step,
    rows_line,
    side_by_side,
    span,
    why_not,
    worse_lines,
)
from fairguard.report.declared import Declared
from fairguard.report.html import render_all
from fairguard.report.wording import bounds, finding_name, percent, points
from fairguard.verdict import Finding, Verdict

BADGES = {Result.REPAIRED: "preserved", Result.UNPROVEN: "inconclusive", Result.NOT_REPAIRED: "regressed"}
WIDTH, HEIGHT, EDGE = 560, 220, 46
"""Pixels of a plot, and of the rim that holds its labels."""
COLOURS = ("#2f6fb3", "#b3261e")


def render(report: Record) -> str:
    """Return the repair as an HTML page: the story first, then the verdicts before and after."""
    named = (
        (f"before: {report.files.pruned}", report.check if report.before is None else report.before, "pruned"),
        (f"after: {report.output or 'the best candidate, not written'}", report.after, "repaired"),
    )
    verdicts = [Declared(verdict, name=name, second=second) for name, verdict, second in named if verdict is not None]
    page = render_all(verdicts)
    return page.replace("<main>", f"<main>\n{_story(report)}", 1)


def _story(report: Record) -> str:
    badge = BADGES.get(report.result, "preserved")
    parts = [
        f'<p class="name">fairguard repair {escape(report.files.dense)} {escape(report.files.pruned)}</p>',
        f'<h1><span class="badge {badge}">{escape(report.result.value)}</span> {escape(last_line(report))}</h1>',
        *(f'<p class="warning">{escape(sentence)}</p>' for sentence in why_not(report)),
        *(f'<p class="plain">{escape(line)}</p>' for line in needed_lines(report)),
        f'<p class="plain">next: <code>{escape(next_step(report))}</code></p>',
        *(f'<p class="warning">{escape(note)}</p>' for note in report.notes),
    ]
    if report.before is not None and report.after is not None:
        parts += [_facts(report, report.before, report.after), _comparison(report.before, report.after)]
        parts += [f'<p class="warning">{escape(line)}</p>' for line in worse_lines(report)]
    parts += [_trade_offs(report), _training(report.trials), _record(report)]
    return f'<section class="check">\n<header>{"".join(parts[:2])}</header>\n{"".join(parts[2:])}\n</section>\n'


def _facts(report: Record, before: Verdict, after: Verdict) -> str:
    one, other = before.overall, after.overall
    rates = " &rarr; ".join(map(percent, (one.accuracy.dense, one.accuracy.pruned, other.accuracy.pruned)))
    found = (
        (rates, "accuracy, dense &rarr; pruned &rarr; repaired"),
        (
            f"{len(before.regressed)} &rarr; {len(after.regressed)}",
            f"regressed of {many(after.family, 'finding')}",
        ),
        (f"{one.harmful_flips:,} &rarr; {other.harmful_flips:,}", "right answers that became wrong"),
        (" &rarr; ".join(map(percent, report.sparsity)), "of the pruned tensors' weights are zero"),
        (percent(report.moved), "of the live weights were dead before"),
    )
    items = "".join(f"<li><b>{value}</b> {name}</li>" for value, name in found)
    return f'<ul class="facts">{items}</ul><p class="small">{escape(rows_line(report))}</p>'


def _comparison(before: Verdict, after: Verdict) -> str:
    """Return every finding that is not preserved on both sides, before and after."""
    rows = [
        (finding_name(new), f"{new.n:,}", f"{points(old.estimate)} {bounds(old)}", _badge(old),
         f"{points(new.estimate)} {bounds(new)}", _badge(new)) for old, new in side_by_side(before, after)
    ]  # fmt: skip
    if not rows:
        return ""
    head = ("group and metric", "rows", "pruned: excess drop, points", "", "repaired: excess drop, points", "")
    return "<h2>Before and after, on rows that repair did not see</h2>" + _table(head, rows, markup=(3, 5))


def _badge(finding: Finding) -> str:
    return f'<span class="badge {finding.outcome}">{finding.outcome}</span>'


def _trade_offs(report: Record) -> str:
    tried = report.frontier
    if not tried:
        return ""
    rows = [
        (t["letter"], t["trade_off"], percent(t["accuracy"], 2), points(t["excess"]), points(t["violation"]),
         percent(t["harm"], 2), t.get("file") or "-", "chosen" if t["chosen"] else "") for t in tried
    ]  # fmt: skip
    head = (
        "",
        "trade-off",
        "accuracy",
        "worst excess drop, points",
        "over tolerance, points",
        "harmful flips",
        "file",
        "",
    )
    found = [(t["accuracy"], t["excess"], t["letter"]) for t in tried]
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x + 7:.1f}" y="{y + 4:.1f}" font-size="13">{name}</text>'
        for x, y, name in _placed(found)
    )
    words = ". ".join(line[:1].upper() + line[1:] for line in (CHOSEN, *frontier_lines(report)))
    note = f'<p class="small">On the tune rows. Right is more accurate, down is fairer. {escape(words)}.</p>'
    drawn = _plot(marks, found, "accuracy", "worst excess drop, points")
    return "<h2>Trade-offs to choose from</h2>" + note + drawn + _table(head, rows)


def _training(trials: Sequence[dict[str, Any]]) -> str:
    """Return the accuracy and the worst excess drop on the tune rows, epoch by epoch."""
    epochs = [t for t in trials if "epoch" in t and "trade_off" not in t]
    plots = []
    for key, name, colour in zip(("accuracy", "excess"), ("accuracy", "worst excess drop"), COLOURS, strict=True):
        found = [(float(t["epoch"]), t.get(key), "") for t in epochs]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in _placed(found))
        if line.count(" ") >= 1:
            mark = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>'
            plots.append(_plot(mark, found, "epoch", name, share=False))
    title = "<h2>Training, on the tune rows</h2>"
    return title + "".join(plots) if plots else ""


def _placed(found: Iterable[tuple[float, Any, str]]) -> list[tuple[float, float, str]]:
    """Return the points that exist as pixels, with their names."""
    there = [(x, y, name) for x, y, name in found if y is not None and isfinite(x) and isfinite(y)]
    if not there:
        return []
    left, right, low, high = _range(there)
    return [
        (
            EDGE + (WIDTH - 2 * EDGE) * (x - left) / (right - left),
            HEIGHT - EDGE - (HEIGHT - 2 * EDGE) * (y - low) / (high - low),
            name,
        )
        for x, y, name in there
    ]


def _range(there: Sequence[tuple[float, float, str]]) -> tuple[float, float, float, float]:
    (left, right), (low, high) = (span(v) for v in list(zip(*there, strict=True))[:2])
    return left, right, low, high


def _plot(marks: str, found: Sequence[tuple[float, Any, str]], across: str, up: str, *, share: bool = True) -> str:
    there = [(x, y, name) for x, y, name in found if y is not None and isfinite(x) and isfinite(y)]
    if not there:
        return ""
    left, right, low, high = _range(there)
    ends = [percent(v) if share else f"{v:.0f}" for v in (left, right)]
    bottom = HEIGHT - EDGE
    words = (
        (EDGE, bottom + 18, "start", ends[0]),
        (WIDTH - EDGE, bottom + 18, "end", ends[1]),
        (WIDTH / 2, bottom + 34, "middle", across),
        (EDGE - 6, bottom, "end", percent(low)),
        (EDGE - 6, EDGE + 4, "end", percent(high)),
        (EDGE, EDGE - 14, "start", up),
    )
    texts = "".join(
        f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-size="12">{escape(word)}</text>'
        for x, y, anchor, word in words
    )
    axes = f'<path d="M{EDGE} {EDGE}V{bottom}H{WIDTH - EDGE}" fill="none" stroke="currentColor" stroke-opacity=".4"/>'
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" fill="currentColor" '
        f'aria-label="{escape(up)} by {escape(across)}">{axes}{texts}{marks}</svg>'
    )


def _record(report: Record) -> str:
    rows = [(key, str(value)) for key, value in report.settings.items()]
    return f"<details open><summary>How to do it again</summary>{_table(('', ''), rows)}</details>" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, markup: Sequence[int] = ()) -> str:
    """Return a table; cells are escaped but for the columns in ``markup``, which are our own."""
    cells = "".join(f"<th>{escape(name)}" for name in head)
    lines = "".join(
        "<tr>" + "".join(f"<td>{cell if i in markup else escape(str(cell))}" for i, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table></div>'
