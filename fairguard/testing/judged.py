"""One judged check as a test sees it: the outcome of each group, the message, and how to do it again.

The message says the group and the numbers first, because pytest cuts its summaries to the terminal's width.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairguard.flips import condition_of
from fairguard.inference import MARGIN
from fairguard.judge.counts import CountTable
from fairguard.lock import FILE, Change, Difference, name_of
from fairguard.report.wording import explanation, finding_line, overall_line, percent, points, why
from fairguard.verdict import Finding, Outcome, Verdict

OVERALL = "overall"
"""The item that has the outcome of the whole verdict, and all of its findings."""
SHOWN = 5
"""Findings that one message names."""
UNSURE = 0.25
"""Share of the rows, those that dense was least sure of, in which a message looks for flips."""


@dataclass(frozen=True)
class Judged:
    """A verdict in a test.

    Attributes:
        check: name of the check, the same in every run: the test without the group.
        verdict: what was found.
        margins: counts with the hidden column that holds the bin of the dense margin.
        differences: how each finding stands to the lock; empty without one.
        command: what one types to do it again; empty where nothing can be typed.
    """

    check: str
    verdict: Verdict
    margins: CountTable
    differences: tuple[Difference, ...]
    command: str

    def findings(self, group: str) -> tuple[Finding, ...]:
        """Return the findings of a group, worst first; all of them for :data:`OVERALL`."""
        return tuple(f for f in self.verdict.findings if group in (OVERALL, f.group))

    def outcome(self, group: str) -> Outcome:
        """Return the outcome of a group; of the whole verdict for :data:`OVERALL`."""
        if group == OVERALL:
            return self.verdict.outcome
        found = {f.outcome for f in self.findings(group) if f.accepted is None}
        if Outcome.REGRESSED in found:
            return Outcome.REGRESSED
        decided = found == {Outcome.PRESERVED} or (not found and bool(self.findings(group)))
        return Outcome.PRESERVED if decided else Outcome.INCONCLUSIVE

    def worse(self, group: str) -> tuple[Difference, ...]:
        """Return the findings of a group that are worse than the lock, beyond noise."""
        names = {name_of(finding) for finding in self.findings(group)}
        return tuple(d for d in self.differences if d.change is Change.WORSE and d.name in names)

    def message(self, group: str) -> str:
        """Return what went wrong with a group: numbers, flips, where they lie, and how to see it again."""
        bad = [f for f in self.findings(group) if f.outcome is Outcome.REGRESSED and f.accepted is None]
        lines = [finding_line(f) + (f"; {said}" if (said := why(f)) else "") for f in bad[:SHOWN]]
        known = {name_of(finding) for finding in bad}
        worse = [difference for difference in self.worse(group) if difference.name not in known]
        lines += [_worse_line(difference) for difference in worse[:SHOWN]]
        more = len(bad) + len(worse) - len(lines)
        if group == OVERALL:
            lines.insert(0, f"{self.verdict.outcome}: {self.verdict.headline}")
        return "\n".join(
            [
                *lines,
                *([f"and {more} more"] if more else []),
                *self._about(group),
                *([f"reproduce: {self.command}"] if self.command else []),
            ]
        )

    def doubt(self, group: str) -> str:
        """Return why a group is inconclusive, in one line."""
        if group == OVERALL:
            return f"inconclusive: {self.verdict.headline}"
        open_ = [f for f in self.findings(group) if f.outcome is Outcome.INCONCLUSIVE]
        if not open_:
            return f"inconclusive: {group} has no rows that could be judged"
        return f"inconclusive: {finding_line(open_[0])}; {why(open_[0])}"

    def properties(self, group: str) -> dict[str, str | float]:
        """Return the outcome and the numbers of a group by name, as JUnit XML has them."""
        found: dict[str, str | float] = {"fairguard.group": group, "fairguard.outcome": str(self.outcome(group))}
        if group == OVERALL:
            return found | {"fairguard.headline": self.verdict.headline, "fairguard.rows": self.verdict.overall.n}
        for finding in self.findings(group):
            name = f"fairguard.{finding.metric}" + (f"[{finding.label}]" if finding.label is not None else "")
            found |= {f"{name}.excess": finding.estimate, f"{name}.lower": finding.interval[0]}
            found |= {f"{name}.upper": finding.interval[1], f"{name}.n": finding.n}
        return found

    def _about(self, group: str) -> list[str]:
        line = overall_line(self.verdict) if group == OVERALL else explanation(self.verdict, group)
        return [line, *self._where(group)]

    def _where(self, group: str) -> list[str]:
        """Return where the harmful flips of a group lie among the dense model's margins, where it has any."""
        table = self.margins
        bins = np.array(table.levels[table.columns.index(MARGIN)], dtype=np.int64)[table.codes(MARGIN)]
        condition = {} if group == OVERALL else condition_of(group, table.columns, table.levels)
        harmful = (table.dense == table.y) & (table.pruned != table.y)
        for column, code in (condition or {}).items():
            harmful &= table.cells[:, column] == code
        total = table.counts[harmful].sum()
        if condition is None or not bins.any() or not total:
            return []
        below = np.bincount(bins, weights=table.counts).cumsum() / table.n
        cut = int(np.searchsorted(below, UNSURE))
        near = table.counts[harmful & (bins <= cut)].sum() / total
        return [
            f"where: {percent(near, 0)} of the harmful flips are in the {percent(below[cut], 0)} of rows that dense "
            f"was least sure of (--flips writes them all)"
        ]


def command_of(options: Mapping[str, Any], *, test: str) -> str:
    """Return the command that does a check again from the project's root; ``pytest`` where code or memory is involved.

    Nothing where that is no test of pytest's either, but a plain call.

    Args:
        options: dense, pruned and what the test itself says; the rest is in the project's configuration.
        test: the test's name, for what no command can name.
    """
    given = dict(options)
    models = [_word(given.pop("dense")), _word(given.pop("pruned"))]
    words = [word for name, value in given.items() if name not in _NO_OPTION for word in _words(name, value)]
    if all(isinstance(part, str) for part in (*models, *words)):
        return shlex.join(["fairguard", "check", *models, *words])
    return shlex.join(["pytest", test]) if "::" in test else ""


_NO_OPTION = {"accept", "permutations"}
_COMMAS = {"features", "classes"}
_SINGULAR = {"groups": "group", "metrics": "metric", "margins": "margin"}


def _words(name: str, value: Any) -> list[Any]:
    """Return an option as words of a command line; something that is no text where it cannot be written."""
    option = f"--{_SINGULAR.get(name, name).replace('_', '-')}"
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, Mapping):
        return [word for key, part in value.items() for word in (option, f"{key}={part}")]
    if isinstance(value, list | tuple):
        parts = [str(part) for part in value]
        return [option, ",".join(parts)] if name in _COMMAS else [word for part in parts for word in (option, part)]
    return [option, _word(value)]


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, int | float | Path) else value


def _worse_line(difference: Difference) -> str:
    now, then = difference.now, difference.then
    if now is None or then is None:
        raise ValueError(f"{difference.name} is not in both records")
    lower, upper = difference.limits
    return (
        f"{difference.name}: excess drop {points(now.excess)} points, worse than the {points(then.excess)} in {FILE} "
        f"by {points(difference.shift)} [{points(lower)}, {points(upper)}], beyond noise, n={now.n:,}"
    )
