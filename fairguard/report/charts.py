"""What the page draws, as places in pixels: excess drops with their bounds, accuracies before and after, and flips."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fairguard.report.wording import outcome_word, percent, points
from fairguard.verdict import Finding, GroupRow, Outcome, Verdict

WIDTH = 240
"""Pixels of a bar in the findings' table; its scale is shared by all findings of a check."""
CHART = 480
"""Pixels of a line in the chart of accuracies at the top."""
CHART_ROWS = 12
"""Groups in that chart: those that lost most."""
STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Accuracies between the lines of that chart: the smallest that needs no more than seven."""


@dataclass(frozen=True)
class Scale:
    """Excess drops from ``-reach`` to ``reach``, a fraction, as places on a line of :data:`WIDTH` pixels."""

    reach: float

    @classmethod
    def over(cls, findings: Iterable[Finding]) -> Scale:
        """Return a scale on which every estimate and margin fits; a bound far outside is cut off at the edge."""
        findings = list(findings)
        middles = [abs(f.estimate) for f in findings if math.isfinite(f.estimate)]
        widths = sorted(abs(side) for f in findings for side in f.interval if math.isfinite(side))
        usual = widths[int(0.9 * (len(widths) - 1))] if widths else 0.0
        least = max([*middles, usual, *(2 * f.margin for f in findings), 0.01])
        return cls(1.1 * max(least, min([*widths[-1:], 1.5 * least])))

    def at(self, share: float) -> float:
        """Return the place of ``share`` in pixels, within the line."""
        place = WIDTH / 2 * (1 + share / self.reach)
        return round(min(max(place, 0.0), WIDTH), 1)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return the places that the heading names: zero, and a round number of points on both sides."""
        most = 80 * self.reach  # per cent, with room for the words
        ten = 10.0 ** math.floor(math.log10(most))
        far = max(digit * ten for digit in (1, 2, 5) if digit * ten <= most)
        return [(self.at(value / 100), f"{value:+g}" if value else "0") for value in (-far, 0.0, far)]

    def bar(self, finding: Finding) -> str | None:
        """Return the path from bound to bound, an arrow where one is beyond the edge; ``None`` without bounds."""
        lower, upper = finding.interval
        if not all(map(math.isfinite, (finding.estimate, lower, upper))):
            return None
        left = "M6 5L1 9L6 13" if lower < -self.reach else ""
        right = f"M{WIDTH - 6} 5L{WIDTH - 1} 9L{WIDTH - 6} 13" if upper > self.reach else ""
        return f"M{self.at(lower):g} 9H{self.at(upper):g}{left}{right}"


def accuracies(verdict: Verdict) -> dict[str, Any] | None:
    """Return every group's accuracy before and after as places on one line; ``None`` without labels.

    The overall row comes first, then the groups that regressed, then those that lost most, which may be small.
    """
    known = [row for row in verdict.groups if row.n and math.isfinite(row.drop)]
    if not verdict.labelled or not known:
        return None
    worst = _worst(verdict)
    rank = {Outcome.REGRESSED.value: 0, "accepted": 1}
    known.sort(key=lambda row: (rank.get(worst.get(row.group, ""), 2), -row.drop))
    rows = [verdict.overall, *known[:CHART_ROWS]]
    shares = [share for row in rows for share in (row.accuracy.dense, row.accuracy.pruned)]
    step = next((step for step in STEPS if max(shares) - min(shares) <= 5 * step), STEPS[-1])
    low, high = math.floor(min(shares) / step), max(math.ceil(max(shares) / step), math.floor(min(shares) / step) + 1)

    def at(share: float) -> float:
        return round(8 + (CHART - 16) * (share / step - low) / (high - low), 1)

    ticks = [step * tick for tick in range(low, high + 1)]
    return {
        "rows": [(r, at(r.accuracy.dense), at(r.accuracy.pruned), worst.get(r.group, "")) for r in rows],
        "ticks": [(at(tick), percent(tick, 0)) for tick in ticks],
        "hidden": len(known) - len(rows) + 1,
    }


def _worst(verdict: Verdict) -> dict[str, str]:
    """Return what the groups with regressions are called: ``accepted`` where the project accepts all of them."""
    worst: dict[str, str] = {}
    for finding in verdict.findings:
        if finding.outcome is Outcome.REGRESSED and worst.get(finding.group) != Outcome.REGRESSED:
            worst[finding.group] = word_of(finding)
    return worst


def word_of(finding: Finding) -> str:
    """Return a finding's outcome as the page marks it: ``accepted`` and ``untested`` are marks of their own."""
    return outcome_word(finding) if finding.accepted is None else "accepted"


def flips(verdict: Verdict) -> list[dict[str, Any]]:
    """Return the flips of everybody and of each group, as pixel widths on one scale, the widest filling the line."""
    rows = [verdict.overall, *verdict.groups]
    most = max((_flips(row) / row.n for row in rows if row.n), default=0.0) or 1.0
    return [_parts(row, most) for row in rows]


def _flips(row: GroupRow) -> int:
    return row.harmful_flips + row.beneficial_flips + row.other_flips


def _parts(row: GroupRow, most: float) -> dict[str, Any]:
    parts = (row.harmful_flips, row.beneficial_flips, row.other_flips)
    widths = [round(WIDTH * part / row.n / most, 1) if row.n else 0.0 for part in parts]
    starts = [0.0, widths[0], round(widths[0] + widths[1], 1)]
    return {"row": row, "parts": list(zip(("harmful", "beneficial", "other"), starts, widths, strict=True))}


def slider(margin: float) -> dict[str, str]:
    """Return the ends, the step and the start of a slider that stands on ``margin`` exactly, in points."""
    digits = max(1, len(points(margin, signed=False).partition(".")[2]))
    return {
        "start": f"{100 * margin:.{digits}f}",
        "step": f"{10.0**-digits:.{digits}f}",
        "most": f"{max(20.0, 200 * margin):g}",
    }
