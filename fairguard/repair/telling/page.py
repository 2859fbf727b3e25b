"""A repair as one HTML page that needs no network: how it ended, the trade-offs, the training, and both verdicts.

The verdicts' sections, the style and the content security policy are those of :mod:`fairguard.report.html`; the
template beside this module puts the story before them.
"""

from __future__ import annotations

from pathlib import Path, PurePath

from fairguard.errors import many
from fairguard.repair.telling.plots import HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Plot, Point, plot
from fairguard.repair.telling.record import Record, Result
from fairguard.repair.telling.text import (
    CHOSEN,
    frontier_lines,
    last_line,
    needed_lines,
    next_step,
    rows_line,
    side_by_side,
    why_not,
    worse_lines,
)
from fairguard.report.declared import Declared
from fairguard.report.html import page_of
from fairguard.report.wording import bounds, finding_name, percent, points
from fairguard.verdict import Finding

BADGES = {Result.REPAIRED: "preserved", Result.UNPROVEN: "inconclusive", Result.NOT_REPAIRED: "regressed"}
EXCESS = Axis("worst excess drop, points", points)


def render(report: Record) -> str:
    """Return the repair as an HTML page: the story first, then the verdicts before and after."""
    named = (
        (f"before: {report.files.pruned}", report.check if report.before is None else report.before, "pruned"),
        (f"after: {report.output or 'the best candidate, not written'}", report.after, "repaired"),
    )
    judged = report.before is not None and report.after is not None
    return page_of(
        [Declared(verdict, name=name, second=second) for name, verdict, second in named if verdict is not None],
        template=Path(__file__).with_name("repair.html"),
        title=f"{report.result.value}: {PurePath(report.output or report.files.pruned).name}",
        report=report,
        badge=BADGES.get(report.result, "preserved"),
        last_line=last_line(report),
        why_not=why_not(report),
        needed=needed_lines(report),
        next=[],  # a section would repeat the story's steps
        steps=next_step(report).split("   |   "),
        facts=_facts(report),
        rows_line=rows_line(report),
        pairs=_pairs(report),
        worse=worse_lines(report) if judged else [],
        trade_offs=_trade_offs(report),
        frontier=_frontier(report),
        chosen=". ".join(line[:1].upper() + line[1:] for line in (CHOSEN, *frontier_lines(report))),
        training=_training(report),
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP},
    )


def _facts(report: Record) -> list[tuple[str, str]]:
    """Return the numbers at the top, each with what it counts."""
    before, after = report.before, report.after
    if before is None or after is None:
        return []
    one, other = before.overall, after.overall
    return [
        (_way(*map(percent, (one.accuracy.dense, one.accuracy.pruned, other.accuracy.pruned))),
         f"accuracy, {_way('dense', 'pruned', 'repaired')}"),
        (_way(str(len(before.regressed)), str(len(after.regressed))), f"regressed of {many(after.family, 'finding')}"),
        (_way(f"{one.harmful_flips:,}", f"{other.harmful_flips:,}"), "right answers that became wrong"),
        (_way(*map(percent, report.sparsity)), "of the pruned tensors' weights are zero"),
        (percent(report.moved), "of the live weights were dead before"),
    ]  # fmt: skip


def _way(*steps: str) -> str:
    return " \N{RIGHTWARDS ARROW} ".join(steps)


def _pairs(report: Record) -> list[dict[str, str]]:
    """Return every finding that is not preserved on both sides, before and after."""
    if report.before is None or report.after is None:
        return []
    return [
        {"name": finding_name(new), "n": f"{new.n:,}", "before": _excess(old), "was": old.outcome,
         "after": _excess(new), "now": new.outcome} for old, new in side_by_side(report.before, report.after)
    ]  # fmt: skip


def _excess(finding: Finding) -> str:
    return f"{points(finding.estimate)} {bounds(finding)}"


def _trade_offs(report: Record) -> list[tuple[str, ...]]:
    return [
        (t["letter"], t["trade_off"], percent(t["accuracy"], 2), points(t["excess"]), points(t["violation"]),
         percent(t["harm"], 2), t.get("file") or "-", "chosen" if t["chosen"] else "") for t in report.frontier
    ]  # fmt: skip


def _frontier(report: Record) -> Plot | None:
    """Return the trade-offs in a plane: rightward more accurate, downward fairer."""
    found = [Point(t["accuracy"], t["excess"], t["letter"], t["chosen"]) for t in report.frontier]
    return plot(found, Axis("accuracy", percent), EXCESS)


def _training(report: Record) -> list[tuple[str, Plot]]:
    """Return the accuracy and the worst excess drop on the tune rows, epoch by epoch, each with its mark."""
    epochs = [t for t in report.trials if "epoch" in t and "trade_off" not in t]
    drawn = [
        (mark, plot([Point(float(t["epoch"]), t.get(key)) for t in epochs], Axis("epoch", "{:.0f}".format), up))
        for key, mark, up in (("accuracy", "gain", Axis("accuracy", percent)), ("excess", "harm", EXCESS))
    ]
    return [(mark, each) for mark, each in drawn if each is not None]
