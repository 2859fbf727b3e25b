"""A verdict as one block of text for a terminal or a log: the worst first, at most a screen, the next step last.

Sees only a :class:`Verdict`. Colour is the caller's choice; without it the text is plain and the same every time.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from fairguard.report.columns import STYLES, finding_lines, flip_lines
from fairguard.report.wording import (
    explanation,
    groups_line,
    overall_line,
    ruled_out_line,
    searched_line,
    summary_lines,
)
from fairguard.verdict import Finding, Outcome, Verdict

ROWS = 12
"""Findings shown without ``-v``."""
EXPLAINED = 3
"""Regressed groups that get a line on where their harm comes from."""

WEIGHTED = (
    "dense, pruned, excess and bounds are weighted; n counts rows (no share of rows with harm stands beside these)"
)
"""Stands under the findings of weighted rows."""

HEADS = {Outcome.REGRESSED: "FAIL", Outcome.INCONCLUSIVE: "UNDECIDED", Outcome.PRESERVED: "PASS"}


def render(
    verdict: Verdict, *, verbose: bool = False, colour: bool = False, width: int = 160, next_step: str = ""
) -> str:
    """Return the report as text of lines at most ``width`` characters long where the words allow it."""
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour, highlight=False, legacy_windows=False
    )

    def say(lines: Iterable[str]) -> None:
        for line in lines:
            console.print(line, soft_wrap=True)

    console.print(escape(groups_line(verdict)), soft_wrap=True)
    console.print(escape(overall_line(verdict)), soft_wrap=True)
    for warning in verdict.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    console.print()
    shown = _shown(verdict, verbose=verbose)
    if shown:
        say(finding_lines(shown, width=width, weighted=verdict.weighted))
        if verdict.weighted:
            console.print(WEIGHTED, soft_wrap=True)
    if searched := searched_line(verdict):
        console.print(f"\n{searched}", soft_wrap=True)
    if verdict.slices:
        say(finding_lines(verdict.slices, width=width))
    if verbose and verdict.groups:
        console.print(f"\n{escape(_flips_heading(verdict))}", soft_wrap=True)
        say(flip_lines(verdict.groups, weighted=verdict.weighted))
    hidden = len(verdict.findings) - len(shown)
    for line in [*_explanations(verdict), *summary_lines(verdict, verbose=verbose)]:
        console.print(escape(line), soft_wrap=True)
    more = f" · {hidden:,} more with -v" if hidden else ""
    style = STYLES[verdict.outcome]
    console.print(f"[{style}]{HEADS[verdict.outcome]}[/] {escape(verdict.headline)}{more}", soft_wrap=True)
    if ruled_out := ruled_out_line(verdict):
        console.print(escape(ruled_out), soft_wrap=True)
    if next_step:
        console.print(f"next: {escape(next_step)}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _shown(verdict: Verdict, *, verbose: bool) -> list[Finding]:
    """Return the findings to show: all with ``verbose``, else the worst, and as many regressed ones as one can read."""
    if verbose or len(verdict.findings) <= ROWS:
        return list(verdict.findings)
    return list(verdict.findings[: max(ROWS, min(len(verdict.regressed), 3 * ROWS))])


def _flips_heading(verdict: Verdict) -> str:
    rows = " (rows, not weighted)" if verdict.weighted else ""
    if verdict.expected_by_margin:
        return f"flips by group{rows}, and how many rows as near the boundary have over the whole data:"
    return f"flips by group{rows}, and how many are expected at everybody's rate (no margins are known):"


def _explanations(verdict: Verdict) -> list[str]:
    """Return a blank line and, for the worst regressed groups, where the harm comes from."""
    lines = [explanation(verdict, group) for group in dict.fromkeys(f.group for f in verdict.regressed)][:EXPLAINED]
    return ["", *lines] if lines else []
