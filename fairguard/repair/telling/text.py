"""A repair as text for a terminal: what was done, before and after side by side, and what to do next.

Sees only a :class:`Record`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, isnan

from fairguard.aligned import aligned
from fairguard.errors import many
from fairguard.files import typed
from fairguard.judge.intervals import beyond
from fairguard.judge.needed import without_the_late
from fairguard.names import first_few, group_meant
from fairguard.repair.telling.record import Guard, Record, Result, finding_key, unproven
from fairguard.report.wording import (
    bounds,
    finding_name,
    fine_to_gain_less,
    gained_less,
    percent,
    points,
    ruled_out_line,
)
from fairguard.verdict import Finding, Outcome, Verdict

SHOWN = 12
"""Findings shown side by side."""
PLOT = (48, 12)
"""Columns and lines of the frontier's plot."""
NARROWEST = 0.01
"""Least length of the plot's axes, a fraction."""
NOTHING = "preserved already: nothing was changed and nothing written"
FEW = 3
"""Groups named in a next step at most."""
LOSS = 1.645
"""Standard errors by which harmful flips of a group must exceed beneficial ones to be a loss (5 %, one-sided)."""
CLEAR = 2.0
"""Standard errors by which harmful flips must have become fewer to be called so."""
BEHIND = 0.02
"""Accuracy that a repaired model must lie under dense, beyond noise, for a larger budget to be advised."""
WORST = 5
"""Findings that became worse, named in the line on them."""
WORDS = {
    Result.REPAIRED: "REPAIRED, preserved on unseen rows",
    Result.UNPROVEN: "IMPROVED, UNPROVEN",
    Result.NOT_REPAIRED: "NOT REPAIRED",
}


def render(report: Record) -> str:
    """Return the report as text, what was achieved and the files in its last line."""
    if report.before is None or report.after is None:
        notes = "".join(f"note: {note}\n" for note in report.notes)
        return f"{report.check.headline}\n{notes}next: {next_step(report)}\n{NOTHING}\n"
    blocks = [
        [
            f"sparsity of the pruned tensors {percent(report.sparsity[0])} -> {percent(report.sparsity[1])} · "
            f"{percent(report.moved)} of the live weights were dead before · method {report.method} · "
            f"cost of {epochs_in_words(report.epochs)} · {report.seconds:.0f} s",
            f"rows: {rows_line(report)}",
            *(f"note: {note}" for note in report.notes),
        ],
        [*_comparison(report.before, report.after), *worse_lines(report)],
        _frontier(report),
        [*why_not(report), *needed_lines(report)],
        [f"next: {next_step(report)}", last_line(report)],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def epochs_in_words(epochs: float) -> str:
    """Return what training cost: ``2.4 plain epochs``."""
    number = f"{epochs:.1f}".removesuffix(".0")
    return f"{number} plain epoch{'s' * (number != '1')}"


def last_line(report: Record) -> str:
    """Return how it ended, which files were written and, where that is not the end, why."""
    if report.result is Result.NOTHING_TO_DO:
        return NOTHING
    pages = f"{report.output or report.files.output}.report.html"
    points_of = [str(t["file"]) for t in report.frontier if t.get("file")]
    if report.output is not None:
        done = f"wrote {', '.join([report.output, *([report.exported] if report.exported else []), pages])}"
    elif points_of:
        done = f"{report.files.output} was not written, its trade-offs were: {', '.join(points_of)}; all of it: {pages}"
    else:
        old = f" ({report.files.output} there is of an earlier run)" if report.earlier else ""
        done = f"no model was written{old}; all that was tried: {pages}"
    reasons = why_not(report)
    return f"{WORDS[report.result]}: {done}" + (f" ({reasons[0]})" if reasons else "")


def rows_line(report: Record) -> str:
    """Return how many rows each split has and where they come from."""
    counts = [f"{name} {report.splits[name]:,}" for name in ("train", "tune", "verify") if name in report.splits]
    how = report.splits.get("how")
    return " · ".join(counts) + (f" ({how})" if how else "")


def next_step(report: Record) -> str:
    """Return what one would do now."""
    files = report.files
    if report.result is Result.NOTHING_TO_DO and report.identical:
        return "name the compressed model as PRUNED"
    if report.result is Result.NOTHING_TO_DO:
        return f"ship {files.pruned}; keep it so: @fairness_preserved(...) in a test (README, 'In CI')"
    if report.result is Result.REPAIRED:
        return f"ship {report.output}; keep it so: @fairness_preserved(...) in a test (README, 'In CI')"
    if report.result is Result.UNPROVEN:
        wider = "accept a wider --margin (what is ruled out says which these rows carry)"
        again = f"fairguard check {typed(files.dense)} {typed(report.output or files.output)} --data MORE_ROWS"
        more = f"more rows: {' '.join(filter(None, [again, report.options]))}"
        return "   |   ".join([*_larger_budget(report), more, wider])
    anew = ", nothing trained anew" if report.resumable else ""
    return "   |   ".join([*_steps(report), *([f"the best candidate{anew}: {report.again}"] if report.again else [])])


def _larger_budget(report: Record) -> list[str]:
    """Return a larger budget as a step where a repair that is unproven left more behind than rows can show.

    Not where it is as right as dense, and so has little to gain.
    """
    overall = None if report.after is None else report.after.overall
    if overall is None or not report.epochs or "--budget" not in report.heeds:
        return []
    if overall.drop <= BEHIND or not beyond(overall.harmful_flips, overall.beneficial_flips, CLEAR):
        return []
    budget = report.settings.get("plan", {}).get("budget", "1.5x")
    rates = f"{percent(overall.accuracy.pruned)} right, dense {percent(overall.accuracy.dense)}"
    return [f"a larger --budget than {budget} (repaired is {rates})"]


def _steps(report: Record) -> list[str]:
    """Return what could be tried where nothing is repaired, the likeliest to help first."""
    plan = report.settings.get("plan", {})
    regressed = report.after.regressed if report.after is not None else ()
    lost = [finding for finding in regressed if _lost(finding)]
    only = plan.get("only") or ()
    spared = [finding for finding in lost if not any(group_meant(n, (finding.group,)) == finding.group for n in only)]
    narrow = ["--for"] if only and (spared or report.broken) else []
    steps = [f"leave out {option}" for option in (*report.unusual, *narrow)]
    trades = "--frontier" in report.heeds and not report.frontier
    if report.after is not None and regressed and not lost and not report.broken:
        return [_only_gained_less(report, regressed), *steps, *(["see the trade-offs: --frontier"] if trades else [])]
    if report.memorised:
        steps.append("rows that dense never saw, to choose by: --tune FILE")
    if report.epochs and "--budget" in report.heeds:
        steps.append(f"a larger --budget than {plan.get('budget', '1.5x')}")
    if trades:
        steps.append("see the trade-offs: --frontier")
    if any(broken.guard is Guard.OVERALL for broken in report.broken):
        steps.append("--accuracy-floor, if the loss is worth it")
    named = dict.fromkeys(finding.group for finding in lost)
    if named and len(named) <= FEW and not only and not report.broken:  # no guard watches over others
        steps.append(" ".join(f"--for {group!r}" for group in named))
    if regressed and not report.fixed and not any(option.startswith("--sparsity") for option in report.unusual):
        steps.append("a lower --sparsity")
    return steps


def _lost(finding: Finding) -> bool:
    """Return whether a group that regressed has itself lost something, beyond noise."""
    alike = abs(finding.loss * finding.n - (finding.harmed - finding.helped)) < 1  # or flips say nothing of noise
    return not gained_less(finding) and (not alike or beyond(finding.harmed, finding.helped, LOSS))


def _only_gained_less(report: Record, regressed: Sequence[Finding]) -> str:
    """Return that the groups which regressed lost nothing, and the two ways to say that this is fine."""
    who = list(dict.fromkeys(finding.group for finding in regressed))
    again = "; with that entry --resume trains nothing anew" if report.resumable else ""
    told = f"{first_few(who, most=FEW)} lost nothing against dense beyond noise, the others gained more"
    return f"{told}: {fine_to_gain_less(regressed)}{again}"


def why_not(report: Record) -> list[str]:
    """Return why it is not repaired, a sentence each."""
    if report.result is not Result.NOT_REPAIRED or report.before is None or report.after is None:
        return []
    lines = [f"guard broken: {broken.sentence}" for broken in report.broken]
    before = {finding_key(finding) for finding in report.before.regressed}
    for said, among in (("still", True), ("newly", False)):
        if found := [f for f in report.after.regressed if (finding_key(f) in before) is among]:
            lines.append(f"{said} regressed: {_some(found)}")
    if not lines:
        lines.append(_unproven(report.before, report.after))
    return lines


def _unproven(before: Verdict, after: Verdict) -> str:
    """Return that nothing is nearer to being proven, beside what is better all the same."""
    proven = [sum(f.outcome is Outcome.PRESERVED for f in v.findings) for v in (before, after)]
    one, other = before.overall, after.overall
    fewer = one.harmful_flips - other.harmful_flips
    bounds_ = (
        "the findings' upper bounds are in sum no nearer to the margin "
        f"({many(proven[0], 'finding')} preserved before, {proven[1]} after)"
    )
    if fewer <= CLEAR * (one.harmful_flips + other.harmful_flips) ** 0.5 or other.drop >= one.drop:
        return f"no better than pruned on the verify rows: {bounds_}"
    rates = f"accuracy {percent(one.accuracy.pruned)} -> {percent(other.accuracy.pruned)}"
    flips = f"harmful flips {one.harmful_flips:,} -> {other.harmful_flips:,}"
    return f"better than pruned overall ({rates}, {flips}), but no fairer: {bounds_}"


def needed_lines(report: Record) -> list[str]:
    """Return in words what would decide the findings that the verify rows leave open, and what they prove already."""
    needed, after = report.needed, report.after
    if after is None or report.result is not Result.UNPROVEN:
        return []  # more rows prove a harm as well as its absence: they are no repair
    lines = []
    if untested := [f for f in after.findings if not f.tested and after.policy.untested == "fail"]:
        lines.append(f"--untested fail: no verdict is preserved with {len(untested)} of the findings untested")
    if report.before is not None and after.outcome is Outcome.PRESERVED:
        lines.append(f"regressed before, and not proven preserved now: {_some(unproven(report.before, after))}")
    if not report.open:
        return lines
    if needed.slowest is not None:
        last = needed.slowest
        lines.append(
            f"open: {len(report.open)} of {many(after.family, 'finding')}; about {needed.rows:,} rows to verify on "
            f"(here {after.overall.n:,}) would decide {'them' if not needed.near and not needed.few else 'most'}, "
            f"last of all {finding_name(last)} (here {last.n:,} rows){without_the_late(needed)}"
        )
    else:
        lines.append(f"open: {len(report.open)} of {many(after.family, 'finding')}")
    if needed.near:
        lines.append(
            f"too near the margin for any realistic number of rows: {_some(needed.near)}; "
            f"a wider --margin decides, or a better repair"
        )
    if needed.few:
        lines.append(f"too few rows to say how many would decide: {_some(needed.few)}")
    return [*lines, *filter(None, [ruled_out_line(after)])]


def _some(findings: Sequence[Finding]) -> str:
    return first_few(findings, most=3, between="; ", told=lambda f: f"{finding_name(f)} ({points(f.estimate)} points)")


def _comparison(before: Verdict, after: Verdict) -> list[str]:
    """Return the table of both models on the verify rows."""
    pairs = side_by_side(before, after)
    rows = [
        (finding_name(new), f"{new.n:,}", points(old.estimate), f"{points(new.estimate)} {bounds(new)}",
         f"{_word(old)} -> {_word(new)}") for old, new in pairs[:SHOWN]
    ]  # fmt: skip
    head = ("excess drop on the verify rows, points", "n", "pruned", "repaired [bounds]", "outcome")
    table = [line.rstrip() for line in aligned([head, *rows], right={1, 2})]
    hidden = f"and {len(pairs) - SHOWN} more in the report; " if len(pairs) > SHOWN else ""
    kept = len(after.findings) - len(pairs)
    one, other = before.overall, after.overall
    return [
        f"overall accuracy: dense {percent(one.accuracy.dense)}, pruned {percent(one.accuracy.pruned)}, "
        f"repaired {percent(other.accuracy.pruned)} · harmful flips {one.harmful_flips:,} -> {other.harmful_flips:,} "
        f"· regressed {len(before.regressed)} -> {len(after.regressed)} of {many(after.family, 'finding')}",
        *(table if rows else []),
        *([f"{hidden}{many(kept, 'finding')} preserved or untested on both sides"] if hidden or kept else []),
        f"repaired: {after.headline}",
    ]


def side_by_side(before: Verdict, after: Verdict) -> list[tuple[Finding, Finding]]:
    """Return each finding before and after, unless it is preserved on both sides.

    What is still regressed comes first, then what the repaired model costs a group most, whatever PRUNED did to it.
    """
    then = {finding_key(f): f for f in before.findings}
    pairs = [(then[finding_key(f)], f) for f in after.findings if finding_key(f) in then and f.tested]
    open_ = [pair for pair in pairs if {f.outcome for f in pair} != {Outcome.PRESERVED}]
    return sorted(open_, key=lambda p: (p[1].outcome is not Outcome.REGRESSED, -_or_zero(p[1].estimate)))


def worse_lines(report: Record) -> list[str]:
    """Return in one line which findings the repair made worse, where it did."""
    if not report.worse:
        return []
    return [f"worse than before: {first_few(report.worse, most=WORST, between='; ')}"]


def _or_zero(number: float) -> float:
    return 0.0 if isnan(number) else number


def _word(finding: Finding) -> str:
    if finding.accepted is not None:
        return "accepted"
    return "REGRESSED" if finding.outcome is Outcome.REGRESSED else str(finding.outcome)


def _frontier(report: Record) -> list[str]:
    """Return the table of trade-offs and their plot, if several were tried."""
    tried = report.frontier
    if not tried:
        return []
    head = ("", "on the tune rows", "accuracy", "worst excess drop", "over tolerance", "harmful flips", "file")
    rows = [
        (t["letter"], t["trade_off"], percent(t["accuracy"], 2), points(t["excess"]), points(t["violation"]),
         percent(t["harm"], 2), f"{t.get('file') or '-'}{'   <- chosen' if t.get('chosen') else ''}") for t in tried
    ]  # fmt: skip
    lines = [line.rstrip() for line in aligned([head, *rows], right=range(2, 6))]
    return [*lines, CHOSEN, *frontier_lines(report), "", *plot(tried)]


def frontier_lines(report: Record) -> list[str]:
    """Return which groups the table of trade-offs is about, where it is not about all."""
    only = report.settings.get("plan", {}).get("only") or ()
    return [f"excess drop and tolerance there are of --for {', '.join(only)} alone"] if only else []


CHOSEN = (
    "chosen on the tune rows: accuracy at its floor first, then the least of harmful flips plus what the worst group "
    "loses over half the margin beyond noise"
)


def plot(tried: Sequence[dict[str, object]]) -> list[str]:
    """Return the trade-offs as letters in a plane: accuracy rightward, worst excess drop upward (lower is fairer)."""
    points_ = [(float(str(t["accuracy"])), float(str(t["excess"]))) for t in tried]
    found = [(x, y) for x, y in points_ if isfinite(x) and isfinite(y)]
    if len(found) < 2:
        return []
    (left, right), (low, high) = (span(v) for v in zip(*found, strict=True))
    width, height = PLOT
    grid = [[" "] * width for _ in range(height)]
    for letter, (x, y) in zip((str(t["letter"]) for t in tried), points_, strict=True):
        if not (isfinite(x) and isfinite(y)):
            continue
        column = round((width - 1) * (x - left) / (right - left))
        row = round((height - 1) * (high - y) / (high - low))
        grid[row][column] = letter if grid[row][column] == " " else "*"
    labels = [points(high), *[""] * (height - 2), points(low)]
    lines = [f"{label:>7} |{''.join(cells).rstrip()}" for label, cells in zip(labels, grid, strict=True)]
    ends = f"{percent(left)}{percent(right):>{width - len(percent(left))}}"
    return [
        "worst excess drop, points (lower is fairer)",
        *lines,
        f"{'':7} +{'-' * width}",
        f"{'':9}{ends}",
        f"{'':9}{'accuracy':^{width}}".rstrip(),
    ]


def span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: a point apart at least, so that small differences look small."""
    middle, half = (min(values) + max(values)) / 2, max(max(values) - min(values), NARROWEST) / 2
    return middle - half, middle + half
