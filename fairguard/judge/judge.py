"""The verdict on a count table: preserved, regressed or inconclusive. Knows counts and a policy, nothing of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fairguard.errors import DataError, many
from fairguard.judge.contrasts import Family, family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.estimands import favourable
from fairguard.judge.everybody import fall_of
from fairguard.judge.evidence import Evidence, Standing, evidence_of
from fairguard.judge.findings import findings_of
from fairguard.judge.rates import GroupRates, group_rows, rates_of
from fairguard.judge.spending import level_of
from fairguard.judge.summaries import summaries_of
from fairguard.names import first_few
from fairguard.policy import Policy
from fairguard.verdict import Finding, GroupRow, Outcome, Verdict


def judge(table: CountTable, policy: Policy, *, groups: Sequence[str] | None = None) -> Verdict:
    """Return the verdict on the rows of ``table``.

    ``regressed`` if some group provably lost more than the rest, by the margin or more; ``preserved`` if that is ruled
    out for every group large enough; else ``inconclusive``.

    Args:
        table: counts of rows by group codes, label and both predictions.
        policy: what counts as harm and how much proof is needed.
        groups: sensitive features to judge, ``class`` for the label itself; default: all of the table.

    Raises:
        DataError: no rows, or an unknown sensitive feature.
        ConfigError: a metric or a favourable class that the data cannot give.
    """
    table = with_rows(table)
    family = family_of(table, policy, groups=groups)
    evidence = evidence_of(family, policy)
    return verdict_of(table, family, evidence, findings_of(table, family, evidence, policy=policy), policy)


def with_rows(table: CountTable) -> CountTable:
    """Return the table in its canonical order.

    Raises:
        DataError: it has no rows.
    """
    if not table.n:
        raise DataError("the data has no rows: nothing to judge.")
    return table.canonical()


def verdict_of(
    table: CountTable,
    family: Family,
    evidence: Evidence,
    findings: tuple[Finding, ...],
    policy: Policy,
    *,
    weighted: CountTable | None = None,
    effect: float = 1.0,
) -> Verdict:
    """Return the verdict that evidence and findings add up to.

    Args:
        table: the counts.
        family: the contrasts.
        evidence: what was proven of them.
        findings: the same, told.
        policy: what was asked.
        weighted: the counts that rates are taken of, where rows do not count alike.
        effect: how many rows are worth one independent row.
    """
    told, label, grouping = table if weighted is None else weighted, favourable(table.classes, policy), family.grouping
    outcome, rates = outcome_of(evidence, policy), rates_of(told, grouping, label)
    overall, *rows = _rows(table, rates, None if weighted is None else rates_of(table, grouping, label))
    fall = fall_of(told, overall, outcome, policy, effect=effect)
    return Verdict(
        outcome=outcome,
        headline=headline_of(outcome, findings, aside=fall.aside),
        policy=policy,
        family=int(evidence.tested.sum()),
        findings=findings,
        overall=overall,
        groups=tuple(rows),
        classes=table.classes,
        columns=grouping.columns,
        labelled=table.labelled,
        level=level_of(policy),
        summaries=summaries_of(told, grouping, rates, label=label, alpha=level_of(policy)),
        warnings=(*fall.warnings, *_warnings(family, policy)),
    )


def _rows(table: CountTable, rates: GroupRates, counted: GroupRates | None) -> Iterator[GroupRow]:
    """Yield everybody's row and the groups', with numbers of rows from ``counted`` where ``rates`` are weighted."""
    overall, groups = group_rows(rates, table.classes)
    if counted is None:
        yield from (overall, *groups)
        return
    plain, plain_groups = group_rows(counted, table.classes)
    names = ("n", "harmful_flips", "beneficial_flips", "other_flips")
    for row, own in zip((overall, *groups), (plain, *plain_groups), strict=True):
        yield row.model_copy(update={name: getattr(own, name) for name in names})


def outcome_of(evidence: Standing, policy: Policy) -> Outcome:
    """Return the outcome of the whole family.

    Nothing is ``preserved`` where nothing could be certified, nor, if the policy says so, while a group is untested.
    """
    if evidence.regressed.any():
        return Outcome.REGRESSED
    if evidence.undecided.any() or not evidence.preserved.any():
        return Outcome.INCONCLUSIVE
    if policy.untested == "fail" and not evidence.preserved.all():
        return Outcome.INCONCLUSIVE
    return Outcome.PRESERVED


def headline_of(outcome: Outcome, findings: Sequence[Finding], *, aside: str = "") -> str:
    """Return how many findings came out how, in one line, with an ``aside`` and the names of untested groups."""
    tested = [finding for finding in findings if finding.tested or finding.dominated]
    counts = {each: sum(finding.outcome is each for finding in tested) for each in Outcome}
    if outcome is Outcome.PRESERVED:
        open_ = counts[Outcome.INCONCLUSIVE]
        text = f"{f'{len(tested) - open_:,} of' if open_ else 'all'} {many(len(tested), 'finding')} preserved"
    else:
        order = (Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.PRESERVED)
        parts = [f"{counts[each]:,} {each}" for each in order if counts[each]]
        text = f"{', '.join(parts)} of {many(len(tested), 'finding')}" if parts else "nothing could be tested"
    asides = [aside, _dominated(findings), _untested(findings)]
    if outcome is Outcome.PRESERVED:
        asides.append(uncertified(findings))
    return text + "".join(f" ({aside})" for aside in asides if aside)


def uncertified(findings: Sequence[Finding]) -> str:
    """Return which tested groups an all-clear says nothing of: ``1 group too small to certify: g=C``."""
    return _lacking([f for f in findings if f.outcome is Outcome.INCONCLUSIVE and f.tested], "too small", "to certify")


def _untested(findings: Sequence[Finding]) -> str:
    """Return ``2 groups untested: race=Other, sex=X``, or how many findings are untested in groups tested otherwise."""
    small = [finding for finding in findings if not finding.tested and not finding.dominated]
    known = {finding.group for finding in findings if finding.tested or finding.dominated}
    groups = [finding for finding in small if finding.group not in known]
    partly = sum(finding.group in known for finding in small)
    parts = [
        _lacking(groups, "untested", "to test"),
        f"{many(partly, 'finding')} on too few rows to test" if partly else "",
    ]
    return "; ".join(part for part in parts if part)


def _dominated(findings: Sequence[Finding]) -> str:
    """Return how many findings one row or cluster decides alone; nothing where none is so."""
    found = sum(finding.dominated for finding in findings)
    return f"{many(found, 'finding')} outweighed by one row or cluster" if found else ""


def _lacking(findings: Sequence[Finding], what: str, why: str) -> str:
    """Return the groups that lack rows, and apart from them those of which everybody else lacks them."""
    small = {finding.group for finding in findings if not finding.few_outside}
    names = [finding.group for finding in findings]
    own = _named(what if what == "untested" else f"{what} {why}", [name for name in names if name in small])
    others = _named(f"with too few rows outside {why}", [name for name in names if name not in small])
    return "; ".join(part for part in (own, others) if part)


def _named(what: str, names: Sequence[str]) -> str:
    groups = list(dict.fromkeys(names))
    return f"{many(len(groups), 'group')} {what}: {first_few(groups, most=3)}" if groups else ""


def _warnings(family: Family, policy: Policy) -> tuple[str, ...]:
    small = family.grouping.unformed
    if not small:
        return ()
    which = f"{many(small, 'intersection')} of fewer than {policy.min_group} rows (or with fewer outside)"
    return (f"{which} {'is' if small == 1 else 'are'} judged only as part of the wider groups.",)
