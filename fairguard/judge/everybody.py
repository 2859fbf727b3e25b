"""What happened to everybody: whether or not some group lost more than the others, the model may be broken.

Fairness compares groups, so a collapse that spares nobody is rightly no regression. The reader has to hear of it, and
also where a group is named, or none can be: who lost more is another question than how much was lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from fairguard.judge.counts import CountTable
from fairguard.metrics import Metric, default_metrics
from fairguard.policy import Policy
from fairguard.verdict import GroupRow, Outcome, Verdict

UNLABELLED = "only disagreement was judged, for no label is named"
"""Said beside the headline where rows have no labels: that answers differ is not known to be harm."""
LARGE = 0.05
"""A fall of the overall accuracy by more than this is told beside the verdict."""
LESS = "Compress it less, or train it again"
OTHER_INPUTS = ", unless it wants other inputs than dense (preprocessing)"
"""Said of a model that knows nothing any more: an export may have the preprocessing inside that dense gets done."""
GROUPS = {
    Outcome.PRESERVED: ("no group lost more than the others beyond the margin, but", "everybody lost"),
    Outcome.INCONCLUSIVE: ("whether some group lost more than the others is open, but", "much was lost over all"),
    Outcome.REGRESSED: ("some groups lost more than the others, and", "much was lost over all"),
}
"""What an outcome says of the groups, and what a fall of all rows' accuracy then means if the model is not broken."""


class Fall(NamedTuple):
    """What is to be said of a fall of the overall accuracy: beside the headline, and as warnings; empty for none."""

    aside: str = ""
    warnings: tuple[str, ...] = ()


def fall_of(table: CountTable, overall: GroupRow, outcome: Outcome, policy: Policy, *, effect: float = 1.0) -> Fall:
    """Return what is to be said where the overall accuracy fell by more than :data:`LARGE` and by more than chance.

    Args:
        table: the counts, weighted where rows have weights.
        overall: everybody's row.
        outcome: of the verdict; an all-clear says it beside its headline too.
        policy: its ``alpha`` says what is chance.
        effect: how many rows are worth one independent row.
    """
    if not table.labelled:
        default = default_metrics(len(table.classes), labelled=False, favourable=policy.favourable is not None)
        return Fall(UNLABELLED if set(policy.metrics or default) == {Metric.DISAGREEMENT} else "")
    z, n = -float(ndtri(policy.alpha)), overall.n / effect
    changed = (table.dense == table.y) != (table.pruned == table.y)
    churn = float(table.counts[changed].sum()) / table.n  # weighted, as the drop is
    if not overall.drop > max(LARGE, z * np.sqrt(churn / n)):
        return Fall()
    useless = _no_better(table, overall, z=z, n=n)
    aside = f"but accuracy fell from {_change(overall)} for everybody" if outcome is Outcome.PRESERVED else ""
    groups, lost = GROUPS[outcome]
    fate = f"the pruned model is broken: {useless}" if useless else lost
    return Fall(aside, (f"{fell(overall)}: {groups} {fate}. {LESS}{OTHER_INPUTS if useless else ''}.",))


def fell(overall: GroupRow) -> str:
    """Return how far the accuracy of all rows fell, in words."""
    return f"overall accuracy fell from {_change(overall)}"


def besides_the_fall(verdict: Verdict) -> tuple[str, ...]:
    """Return a verdict's warnings without that of :func:`fall_of`, which :func:`fell` begins."""
    return tuple(warning for warning in verdict.warnings if not warning.startswith(fell(verdict.overall)))


def _change(overall: GroupRow) -> str:
    return f"{100 * overall.accuracy.dense:.1f} % to {100 * overall.accuracy.pruned:.1f} %"


def _no_better(table: CountTable, overall: GroupRow, *, z: float, n: float) -> str:
    """Return which single answer serves as well as the pruned model, if one does and none did before."""
    by_class = np.bincount(table.y, table.counts, len(table.classes)) / table.n
    usual = int(by_class.argmax())
    majority = float(by_class[usual])
    noise = z * float(np.sqrt(majority * (1.0 - majority) / n))
    if overall.accuracy.dense <= majority or overall.accuracy.pruned > majority + noise:
        return ""
    return f"no better than always answering {table.classes[usual]!r} ({100 * majority:.1f} %)"
