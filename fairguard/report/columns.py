"""Findings and flips as aligned columns for a terminal, as lines of console markup.

A table never wraps and no number is ever cut. Where the columns do not all fit, the least telling ones are left out;
where the reasons do not fit beside them, they stand below.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.markup import escape

from fairguard.aligned import GAP, aligned
from fairguard.report.wording import bounds, metric_name, outcome_word, p_value, percent, points, why
from fairguard.verdict import Finding, GroupRow, Outcome

STYLES = {Outcome.REGRESSED: "bold red", Outcome.INCONCLUSIVE: "yellow", Outcome.PRESERVED: "green"}
_LEAST = {"harmed", "p adj"}
LEFT_OUT: tuple[set[str], ...] = (
    *(set(), {"harmed"}, _LEAST, _LEAST | {"n"}),
    *(_LEAST | {"dense", "pruned"}, _LEAST | {"n", "dense", "pruned"}),
)
"""Columns that are left out where not all fit: the first set that is enough."""
WEIGHTED_DROP = "weighted drop, points"
RIGHT = {"n", "dense", "pruned", "harmed", "flips", "expected", "harmful", "beneficial", "allowed"}
RIGHT |= {"drop, points", WEIGHTED_DROP}
"""Columns of numbers, which end in one line."""
INDENT = 4 * " "


def finding_lines(findings: Sequence[Finding], *, width: int, weighted: bool = False) -> list[str]:
    """Return a heading and a line for each finding, at most ``width`` characters wide where that can be done.

    Args:
        findings: in the order of their lines.
        width: of the terminal, in characters.
        weighted: rates and excesses are, so that the share of rows harmed would not fit beside them.
    """
    unsaid = {"harmed"} if weighted else set()
    if len({finding.margin for finding in findings}) < 2:
        unsaid.add("allowed")  # the headline says it
    rows = [{k: v for k, v in _cells(finding).items() if k not in unsaid} for finding in findings]
    words = [outcome_word(finding) for finding in findings]
    words = [word.upper() if word == Outcome.REGRESSED else word for word in words]
    reasons = [why(finding) for finding in findings]
    longest = max(map(len, ["outcome", *words]))
    for left_out in LEFT_OUT:
        heading, *lines = _aligned([{k: v for k, v in row.items() if k not in left_out} for row in rows])
        if cell_len(heading) + len(GAP) + longest <= width:
            break
    ends = [word + (f": {reason}" if reason else "") for word, reason in zip(words, reasons, strict=True)]
    beside = all(cell_len(line + GAP + end) <= width for line, end in zip(lines, ends, strict=True))
    said = [f"[bold]{escape(heading)}{GAP}outcome[/]"]
    for finding, line, word, reason in zip(findings, lines, words, reasons, strict=True):
        end = escape(f": {reason}") if reason and beside else ""
        said.append(f"{escape(line)}{GAP}[{STYLES[finding.outcome]}]{word}[/]{end}")
        if reason and not beside:
            said += [INDENT + escape(part) for part in textwrap.wrap(reason, max(width - len(INDENT), 20))]
    return said


def flip_lines(groups: Sequence[GroupRow], *, weighted: bool = False) -> list[str]:
    """Return a heading and a line for each group: its flips, how many are expected, and its (weighted) drop."""
    heading, *lines = _aligned([_flips(row, weighted=weighted) for row in groups])
    return [f"[bold]{escape(heading.rstrip())}[/]", *map(escape, lines)]


def _cells(finding: Finding) -> dict[str, str]:
    return {
        "group": finding.group,
        "metric": metric_name(finding),
        "n": f"{finding.n:,}",
        "dense": percent(finding.rate.dense),
        "pruned": percent(finding.rate.pruned),
        "harmed": percent(finding.harmed / finding.n) if finding.n else "-",
        "excess [bounds], points": f"{points(finding.estimate)} {bounds(finding)}",
        "allowed": points(finding.margin, signed=False),
        "p adj": p_value(finding),
    }


def _flips(row: GroupRow, *, weighted: bool) -> dict[str, str]:
    flips = row.harmful_flips + row.beneficial_flips + row.other_flips
    return {
        "group": row.group,
        "n": f"{row.n:,}",
        "flips": f"{flips:,}",
        "expected": "-" if math.isnan(row.expected_flips) else f"{row.expected_flips:,.1f}",
        "harmful": f"{row.harmful_flips:,}",
        "beneficial": f"{row.beneficial_flips:,}",
        WEIGHTED_DROP if weighted else "drop, points": points(row.drop),
    }


def _aligned(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return a heading and the rows, each as long as the others."""
    names = list(rows[0])
    right = [at for at, name in enumerate(names) if name in RIGHT]
    return aligned([names, *([row[name] for name in names] for row in rows)], right=right)
