"""Findings: what was proven of each contrast, as values that a reader or a file can take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairguard.dtypes import FloatArray, IntArray
from fairguard.errors import many
from fairguard.judge.composition import split_of
from fairguard.judge.contrasts import Family
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import OUTSIDE
from fairguard.judge.evidence import ROUNDING, Evidence, Standing, certifiable
from fairguard.judge.intervals import share
from fairguard.judge.power import rounded_up
from fairguard.judge.rates import pair
from fairguard.judge.spending import level_of
from fairguard.metrics import METRICS, About, Metric, called
from fairguard.policy import Policy
from fairguard.verdict import NAN, Finding, Outcome

_RANK = {Outcome.REGRESSED: 0, Outcome.INCONCLUSIVE: 1, Outcome.PRESERVED: 3}
_UNTESTED = 2


def findings_of(table: CountTable, family: Family, evidence: Evidence, *, policy: Policy) -> tuple[Finding, ...]:
    """Return a finding for every contrast, worst first."""
    rates = _rates(table, family)
    splits = _splits(table, family)
    findings = [
        _finding(table, family, evidence, i, rates=rates[i], split=splits[i], why=_why(evidence, family, i, policy))
        for i in range(len(family))
    ]
    return tuple(sorted(findings, key=_badness))


def _finding(
    table: CountTable,
    family: Family,
    evidence: Evidence,
    i: int,
    *,
    rates: FloatArray,
    split: FloatArray,
    why: _Why,
) -> Finding:
    estimand = family.estimands[family.estimand[i]]
    b, c, n, b_rest, c_rest, n_rest = (int(counts[i]) for counts in family.counts)
    outcome, needed = _outcome(evidence, i), evidence.needed[i]
    return Finding(
        rule=METRICS[estimand.metric].rule,
        group=family.grouping.groups[family.group[i]].name,
        metric=estimand.metric,
        label=None if estimand.label is None else table.classes[estimand.label],
        outcome=outcome,
        estimate=float(evidence.excess[i]),
        interval=(float(evidence.lower[i]), float(evidence.upper[i])),
        p_value=float(evidence.p[i]),
        draws=evidence.draws if evidence.tested[i] else 0,
        margin=float(evidence.margin[i]),
        n=n,
        n_rest=n_rest,
        harmed=b,
        helped=c,
        rate=pair(rates),
        loss=(b - c) / n if n else NAN,
        loss_rest=(b_rest - c_rest) / n_rest if n_rest else NAN,
        composition=float(split[0]),
        specific=float(split[1]),
        tested=bool(evidence.tested[i]),
        dominated=evidence.dominated is not None and bool(evidence.dominated[i]),
        detectable=float(evidence.detectable[i]),
        rows_needed=int(needed) if outcome is Outcome.INCONCLUSIVE and np.isfinite(needed) else None,
        reason=why.reason,
        few_outside=why.few_outside,
    )


def standing_of(findings: Sequence[Finding]) -> Standing:
    """Return what the outcome is read off, from findings as the judge told them, an entry each."""
    n, n_rest, excess, margin = (
        np.array([getattr(finding, name) for finding in findings], dtype=np.float64)
        for name in ("n", "n_rest", "estimate", "margin")
    )
    tested, dominated = (
        np.array([getattr(finding, name) for finding in findings], dtype=bool) for name in ("tested", "dominated")
    )
    regressed, preserved = (
        np.array([finding.outcome is outcome for finding in findings], dtype=bool)
        for outcome in (Outcome.REGRESSED, Outcome.PRESERVED)
    )
    return Standing(
        tested=tested,
        certifiable=tested & certifiable(n, n_rest, margin),
        regressed=regressed,
        preserved=preserved,
        excess=excess,
        margin=margin,
        dominated=dominated,
    )


def _outcome(evidence: Evidence, i: int) -> Outcome:
    """Return the outcome of one contrast."""
    if evidence.regressed[i]:
        return Outcome.REGRESSED
    return Outcome.PRESERVED if evidence.preserved[i] else Outcome.INCONCLUSIVE


class _Why(NamedTuple):
    """Why a contrast is inconclusive, in a few words, and whether rows are missing outside the group; or nothing."""

    reason: str | None = None
    few_outside: bool = False


def _why(evidence: Evidence, family: Family, i: int, policy: Policy) -> _Why:
    """Return why a contrast is inconclusive, and what would decide it: rows of whichever side lacks them."""
    if _outcome(evidence, i) is not Outcome.INCONCLUSIVE:
        return _Why()
    n, n_rest = int(family.n[i]), int(family.n_rest[i])
    rows, why = evidence.needed[i], _reason(evidence, i, n=n, n_rest=n_rest, policy=policy)
    if not np.isfinite(rows):
        return why
    wanted = f"{rounded_up(rows * n_rest / n):,} rows there" if why.few_outside else f"{rounded_up(rows):,} rows"
    return why._replace(reason=f"{why.reason}; needs about {wanted}")


def _reason(evidence: Evidence, i: int, *, n: int, n_rest: int, policy: Policy) -> _Why:
    """Return why a contrast is inconclusive, in a few words."""
    if min(n, n_rest) < policy.min_group:
        outside = n >= policy.min_group
        where, rows = (" outside the group", n_rest) if outside else ("", n)
        return _Why(
            f"{many(rows, 'row')}{where}, fewer than {policy.min_group}" if rows else f"no rows{where}", outside
        )
    if not evidence.tested[i]:
        return _Why("too few rows to show anything among so many findings")
    if evidence.excess[i] >= evidence.margin[i] - ROUNDING:
        return _Why(_unproven(evidence, i, policy))
    if not evidence.certifiable[i]:
        outside = bool(certifiable(n, np.inf, evidence.margin[i]))  # then it is not the group that lacks rows
        where = " outside the group" if outside else ""
        return _Why(f"too few rows{where} to rule out {100 * evidence.margin[i]:g} points", outside)
    return _Why(f"could be up to {_points(evidence.upper[i])} points")


def _unproven(evidence: Evidence, i: int, policy: Policy) -> str:
    """Return why an estimate at the margin or above is not proven: which witness fails, where the other does not."""
    bounded = evidence.lower[i] > (evidence.margin[i] if policy.strict else 0.0)
    if not bounded and policy.strict:
        return "not proven to be over the margin"
    if bounded:
        spent = "alpha" if policy.looks == 1 else f"what this look spends of alpha ({level_of(policy):.2g})"
        return f"could be chance: p adj is above {spent}"
    relabelled = evidence.p[i] <= max(level_of(policy), 1 / (1 + evidence.draws))
    return "could be chance: the lower bound is not above 0" if relabelled else "could be chance"


def _points(share: float) -> str:
    return f"{100 * share:.1f}"


def _badness(finding: Finding) -> tuple[int, float, str, str, str]:
    rank = _RANK[finding.outcome] if finding.tested or finding.dominated else _UNTESTED
    excess = -finding.estimate if finding.estimate == finding.estimate else np.inf
    return rank, excess, finding.group, finding.metric, finding.label or ""


def _rates(table: CountTable, family: Family) -> FloatArray:
    """Return each contrast's metric in the group, dense and pruned, shape (m, 2)."""
    counts = np.stack([_happened(table, family, answers) for answers in (table.dense, table.pruned)], axis=-1)
    return share(counts[family.group, family.estimand], family.n)


def _happened(table: CountTable, family: Family, answers: IntArray) -> FloatArray:
    """Return in how many rows of each group's denominators the metric's event happens under ``answers``, shape (S, E).

    What is about a class is counted for all classes at once: a thousand passes over the cells would take minutes.
    """
    counts = np.empty((len(family.grouping.groups), len(family.estimands)))
    by_class = {}
    for metric in {estimand.metric for estimand in family.estimands}:
        what = METRICS[metric]
        if what.about is About.EACH_CLASS and what.event is called:  # a row can only count for the class that it got
            amounts = table.counts * what.inside(table.y, answers)
            by_class[metric] = family.grouping.sums_by(answers, len(table.classes), amounts)
    for e, estimand in enumerate(family.estimands):
        if estimand.metric in by_class:
            counts[:, e] = by_class[estimand.metric][:, estimand.label]
        else:
            inside = table.counts * (estimand.effects(table) != OUTSIDE)
            counts[:, e] = family.grouping.sums(inside * estimand.happens(table, answers))
    return counts


def _splits(table: CountTable, family: Family) -> FloatArray:
    """Return the composition and the specific part of each accuracy contrast, shape (m, 2); ``nan`` for others."""
    about = np.array([estimand.metric is Metric.ACCURACY for estimand in family.estimands])[family.estimand]
    splits = np.full((len(family), 2), np.nan)
    if about.any():
        splits[about] = np.stack(split_of(table, family.grouping), axis=1)[family.group[about]]
    return splits
