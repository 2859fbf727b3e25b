"""A verdict as one block of text for a terminal or a log: the worst first, at most a screen, the next step last.

Sees only a :class:`Verdict`. Colour is the caller's choice; without it the text is plain and the same every time.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fairguard.report.wording import (
    bounds,
    explanation,
    groups_line,
    metric_name,
    overall_line,
    p_value,
    percent,
    points,
    summary_lines,
    why,
)
from fairguard.verdict import Finding, GroupRow, Outcome, Verdict

ROWS = 12
"""Findings shown without ``-v``."""
EXPLAINED = 3
"""Regressed groups that get a line on where their harm comes from."""

STYLES = {Outcome.REGRESSED: "bold red", Outcome.INCONCLUSIVE: "yellow", Outcome.PRESERVED: "green"}
WORDS = {Outcome.REGRESSED: "REGRESSED", Outcome.INCONCLUSIVE: "inconclusive", Outcome.PRESERVED: "preserved"}
HEADS = {Outcome.REGRESSED: "FAIL", Outcome.INCONCLUSIVE: "UNDECIDED", Outcome.PRESERVED: "PASS"}


def render(
    verdict: Verdict, *, verbose: bool = False, colour: bool = False, width: int = 160, next_step: str = ""
) -> str:
    """Return the report as text of lines at most ``width`` characters long where the words allow it."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, legacy_windows=False
    )
    console.print(escape(groups_line(verdict)), soft_wrap=True)
    console.print(escape(overall_line(verdict)), soft_wrap=True)
    for warning in verdict.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    console.print()
    shown = _shown(verdict, verbose=verbose)
    if shown:
        console.print(_table(shown))
    if verdict.slices:
        console.print("\nfound by searching groups that nobody named (a family of their own; not gated):")
        console.print(_table(verdict.slices))
    if verbose and verdict.groups:
        console.print("\nflips by group, and how many rows as near the boundary have over the whole data:")
        console.print(_flips_table(verdict.groups))
    hidden = len(verdict.findings) - len(shown)
    for line in [*_explanations(verdict), *summary_lines(verdict, verbose=verbose)]:
        console.print(escape(line), soft_wrap=True)
    more = f" · {hidden} more with -v" if hidden else ""
    style = STYLES[verdict.outcome]
    console.print(f"[{style}]{HEADS[verdict.outcome]}[/] {escape(verdict.headline)}{more}", soft_wrap=True)
    if next_step:
        console.print(f"next: {escape(next_step)}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _shown(verdict: Verdict, *, verbose: bool) -> list[Finding]:
    """Return the findings to show: all with ``verbose``, else the worst, and as many regressed ones as one can read."""
    if verbose or len(verdict.findings) <= ROWS:
        return list(verdict.findings)
    return list(verdict.findings[: max(ROWS, min(len(verdict.regressed), 3 * ROWS))])


def _table(findings: Iterable[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    table.add_column("metric", no_wrap=True)
    for name in ("n", "dense", "pruned", "harmed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(r"excess \[bounds], points", no_wrap=True)
    table.add_column("p adj", no_wrap=True)
    table.add_column("outcome", overflow="fold")
    for finding in findings:
        table.add_row(*_cells(finding))
    return table


def _flips_table(rows: Iterable[GroupRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("group", no_wrap=True)
    for name in ("n", "flips", "expected", "harmful", "beneficial", "drop, points"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        flips = row.harmful_flips + row.beneficial_flips + row.other_flips
        expected = "-" if math.isnan(row.expected_flips) else f"{row.expected_flips:,.1f}"
        counts = (f"{n:,}" for n in (row.harmful_flips, row.beneficial_flips))
        table.add_row(escape(row.group), f"{row.n:,}", f"{flips:,}", expected, *counts, points(row.drop))
    return table


def _cells(finding: Finding) -> list[str]:
    style = STYLES[finding.outcome]
    word = WORDS[finding.outcome] if finding.tested else "untested"
    outcome = f"[{style}]{word}[/]"
    if reason := why(finding):
        outcome += escape(f": {reason}")
    harmed = percent(finding.harmed / finding.n) if finding.n else "-"
    return [
        escape(finding.group),
        escape(metric_name(finding)),
        f"{finding.n:,}",
        percent(finding.rate.dense),
        percent(finding.rate.pruned),
        harmed,
        f"{points(finding.estimate)} {bounds(finding)}",
        p_value(finding.p_value),
        outcome,
    ]


def _explanations(verdict: Verdict) -> list[str]:
    """Return a blank line and, for the worst regressed groups, where the harm comes from."""
    lines = [explanation(verdict, group) for group in dict.fromkeys(f.group for f in verdict.regressed)][:EXPLAINED]
    return ["", *lines] if lines else []
