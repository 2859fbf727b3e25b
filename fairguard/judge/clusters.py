"""The verdict where rows are not independent (several rows of one person) or do not count alike (weights).

Both ride in the count table as two more columns, ``(cluster)`` and ``(weight)``, so that tables of shards still add up
exactly; they are never groups. The design effects of a contrast's two sides (:mod:`fairguard.judge.likeness`) say how
many independent rows each is worth, and the score limits run on that many (Rao and Scott, Annals of Statistics 15
(1987)), with Student's quantiles for the clusters there are (Korn and Graubard, Survey Methodology 24 (1998)). The
second witness and the family's critical value come from flipping the signs of whole clusters at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fairguard.dtypes import BoolArray, FloatArray
from fairguard.judge.contrasts import Family, contrasts, family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import OUTSIDE
from fairguard.judge.evidence import ROUNDING, Evidence, certifiable, decided, levels_of, testable
from fairguard.judge.families import value_above
from fairguard.judge.findings import findings_of
from fairguard.judge.judge import verdict_of, with_rows
from fairguard.judge.permutation import Adjusted
from fairguard.judge.power import LossRates
from fairguard.judge.scatter import CLUSTER, WEIGHT, Scatter, Shares, Worth, scatter_of, shares_of, weights_of, worth_of
from fairguard.metrics import METRICS
from fairguard.names import shown
from fairguard.policy import Policy
from fairguard.verdict import NAN, Finding, Verdict

SCALE = float(1 << 20)
"""Weighted counts are kept in millionths of a row, as integers."""
LEAST = 2.0
"""Independent units that a group and its rest are worth at least, to be tested."""


def judge_clustered(table: CountTable, policy: Policy, *, groups: Sequence[str] | None = None) -> Verdict:
    """Return the verdict on rows of which some belong together, some count more, or both.

    Rates, losses and estimates are weighted; numbers of rows and flips are not. Bounds of the summaries are not known
    here and ``nan``.

    Args:
        table: counts with the column ``(cluster)``, ``(weight)``, or both.
        policy: what counts as harm and how much proof is needed.
        groups: sensitive features to judge; default: all of the table but those two.

    Raises:
        DataError: no rows, a single cluster, or an impossible weight.
        ConfigError: a metric or a favourable class that the data cannot give.
    """
    table = with_rows(table)
    family = family_of(
        table, policy, groups=groups or [name for name in table.columns if name not in (CLUSTER, WEIGHT)]
    )
    shares, worth = shares_of(table, family), worth_of(table)
    scatter = scatter_of(table, family, shares)
    evidence = _possible(clustered_evidence(family, shares, scatter, policy=policy), family, shares, table)
    weighted = replace(table, counts=np.rint(table.counts * weights_of(table) * SCALE).astype(np.int64))
    findings = _findings(table, weighted, family, evidence, policy, units=scatter.units)
    effect = _effect(table, scatter, worth)
    verdict = verdict_of(table, family, evidence, findings, policy, weighted=weighted, effect=effect)
    return verdict.model_copy(
        update={
            "weighted": WEIGHT in table.columns,
            "summaries": tuple(summary.model_copy(update={"bound": NAN}) for summary in verdict.summaries),
            "warnings": (*verdict.warnings, *_warnings(table, scatter, worth)),
        }
    )


def clustered_evidence(family: Family, shares: Shares, scatter: Scatter, *, policy: Policy) -> Evidence:
    """Return what the clusters prove of every contrast under the policy's error rates."""
    large = testable(family, policy)
    tested = large & (scatter.units >= LEAST)
    flips = scatter.sign_flips(tested, draws=policy.permutations, seed=policy.seed)
    maxima = np.sort(flips) if tested.any() else np.empty(0)

    def flipped(_: BoolArray) -> Adjusted:
        with np.errstate(invalid="ignore", divide="ignore"):
            observed = np.nan_to_num((shares.loss - shares.loss_rest) / np.sqrt(scatter.variance), nan=-np.inf)
        return Adjusted((1 + len(maxima) - np.searchsorted(maxima, observed)) / (1 + len(maxima)), len(maxima))

    n, n_rest = np.stack([family.n, family.n_rest]) / scatter.effect
    evidence = decided(
        family,
        policy,
        tested=tested,
        counts=(shares.b * n, shares.c * n, n, shares.b_rest * n_rest, shares.c_rest * n_rest, n_rest),
        rates=LossRates(
            n=n,
            n_rest=n_rest,
            churn=shares.b + shares.c,
            churn_rest=shares.b_rest + shares.c_rest,
            loss=shares.loss,
            loss_rest=shares.loss_rest,
        ),
        z=value_above(maxima, levels_of(tested, policy).family, comparisons=int(tested.sum())),
        second=flipped,
        freedom=np.maximum(scatter.units - 1, 1),
    )
    enough = certifiable(family.n, family.n_rest, evidence.margin)  # by rows: a heavy one makes no group too small
    lost = np.nan_to_num(evidence.excess, nan=np.inf) >= evidence.margin - ROUNDING
    return replace(
        evidence,
        dominated=large & ~tested & (enough | lost),
        needed=np.where(scatter.units < LEAST, np.nan, np.ceil(evidence.needed * scatter.effect[0])),
    )


def _possible(evidence: Evidence, family: Family, shares: Shares, table: CountTable) -> Evidence:
    """Return the evidence with bounds that no answers could lie beyond: nobody loses more right answers than dense has.

    So few independent rows as heavy weights leave would else give bounds beyond a hundred points.
    """
    rows, best, worst = (table.counts * weights_of(table))[:, None], [], []
    inside = np.column_stack([estimand.effects(table) != OUTSIDE for estimand in family.estimands])
    happens = inside * np.column_stack([estimand.happens(table, table.dense) for estimand in family.estimands])
    within = family.grouping.sums(happens * rows)[family.group, family.estimand]
    outside = (happens * rows).sum(axis=0)[family.estimand] - within
    good = np.array([METRICS[estimand.metric].good for estimand in family.estimands])[family.estimand]
    with np.errstate(invalid="ignore", divide="ignore"):
        for events, total in ((within, shares.total), (outside, shares.total_rest)):
            rate = np.clip(events / total, 0.0, 1.0)
            worst.append(np.where(good, rate, 1.0 - rate))
            best.append(worst[-1] - 1.0)
    low, high = best[0] - worst[1], worst[0] - best[1]
    return replace(evidence, lower=np.clip(evidence.lower, low, high), upper=np.clip(evidence.upper, low, high))


def _findings(
    table: CountTable, weighted: CountTable, family: Family, evidence: Evidence, policy: Policy, *, units: FloatArray
) -> tuple[Finding, ...]:
    """Return findings with numbers of rows, and with rates and losses of weighted rows.

    Args:
        table: the counts.
        weighted: the same, weighted.
        family: the contrasts.
        evidence: what was proven of them.
        policy: what was asked.
        units: shape (m,), independent units that each contrast's smaller side is worth.
    """
    reweighted = contrasts(weighted, family.grouping, estimands=family.estimands)
    known = {(f.group, f.rule, f.label): f for f in findings_of(weighted, reweighted, evidence, policy=policy)}
    names = ("rate", "loss", "loss_rest", "composition", "specific")
    found = findings_of(table, family, evidence, policy=policy)
    worth = {_key(table, family, i): float(units[i]) for i in range(len(family))}
    return tuple(
        f.model_copy(
            update={name: getattr(known[f.group, f.rule, f.label], name) for name in names}
            | _too_few_units(f, worth[f.group, f.rule, f.label], table, policy)
        )
        for f in found
    )


def _key(table: CountTable, family: Family, i: int) -> tuple[str, str, str | None]:
    """Return what the finding of the i-th contrast is known by."""
    estimand = family.estimands[family.estimand[i]]
    label = None if estimand.label is None else table.classes[estimand.label]
    return family.grouping.groups[family.group[i]].name, METRICS[estimand.metric].rule, label


def _too_few_units(finding: Finding, units: float, table: CountTable, policy: Policy) -> dict[str, Any]:
    """Return the reason of a finding that no number of rows like these would decide; nothing for others."""
    if units >= LEAST or min(finding.n, finding.n_rest) < policy.min_group:
        return {}
    if not units:
        return _few("the rows of the group, or all others, weigh nothing")
    if CLUSTER not in table.columns:
        return _few("one row has nearly all the weight of the group, or of all others: trim the weights")
    return _few("one cluster has nearly all rows of the group, or all others: more clusters are needed")


def _few(reason: str) -> dict[str, Any]:
    """Return a reason that names the group or the others, since either may be meant."""
    return {"reason": reason, "few_outside": False}


def _effect(table: CountTable, scatter: Scatter, worth: Worth) -> float:
    """Return how many rows are worth an independent one, over all rows."""
    typical = float(np.median(scatter.overall)) if len(scatter.overall) else 1.0
    return typical if CLUSTER in table.columns else max(typical, table.n / worth.worth)


def _warnings(table: CountTable, scatter: Scatter, worth: Worth) -> tuple[str, ...]:
    """Return what the rows are worth by what they weigh and whom they belong to, and who outweighs the rest."""
    told, whose = f"{table.n:,} rows are worth about {max(int(worth.worth + 1e-9), 1):,}", "one row"
    if CLUSTER in table.columns:
        what = "clusters and weights" if WEIGHT in table.columns else "clusters"
        effect = f"median design effect {_effect(table, scatter, worth):.2f}"
        told, whose = f"{told} clusters of one size (of {worth.units:,}; {effect})", "cluster"
    else:
        what, told = "weights", f"{told} independent ones of one weight"
    of = "weight" if WEIGHT in table.columns else "rows"
    name = shown(worth.heaviest) if CLUSTER in table.columns else f"of weight {float(worth.heaviest):,.7g}"
    alone = f"; {whose} {name} has {100 * worth.share:.3g} % of all {of}" if worth.dominated else ""
    return (f"{what}: {told}{alone}; summaries have no bounds here.",)
