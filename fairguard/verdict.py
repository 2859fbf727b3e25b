"""What a check found, as frozen values. Knows nothing of how it was found or how it will be shown.

A rate that does not exist (no positives in a group, say) is ``nan`` here and ``null`` in JSON: undefined is not zero.
All rates, drops, bounds and margins are fractions: 0.02 is two percentage points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from fairguard.metrics import Metric
from fairguard.policy import Policy

if TYPE_CHECKING:
    import pandas as pd

NAN = float("nan")


class Outcome(StrEnum):
    """The three answers. ``inconclusive`` means that the rows can neither prove nor rule out a regression."""

    PRESERVED = "preserved"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"


def columns_in(group: str, columns: Sequence[str]) -> list[str]:
    """Return which of ``columns`` a group's name speaks of; a column or a value may hold an ``&`` of its own."""
    without_quoted = re.sub(r'="[^"]*"', "=", group)
    return [name for name in columns if f" & {name}=" in f" & {without_quoted}"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Pair(_Frozen):
    """One rate under the dense and under the pruned model; ``nan`` where it does not exist."""

    dense: float = NAN
    pruned: float = NAN

    @property
    def change(self) -> float:
        """Return pruned minus dense."""
        return self.pruned - self.dense


class GroupRow(_Frozen):
    """What happened to one group (or to everybody): plain counts and rates, no inference."""

    group: str
    """``overall``, ``race=Black`` or ``race=Black & sex=F``."""
    n: int
    accuracy: Pair = Pair()
    harmful_flips: int = 0
    """Rows that dense gets right and pruned gets wrong."""
    beneficial_flips: int = 0
    """Rows that dense gets wrong and pruned gets right."""
    other_flips: int = 0
    """Rows on which both are wrong, differently; every flip, where there are no labels."""
    expected_flips: float = NAN
    """Flips that rows of the same dense margins have on average, whatever their group: what any change of this size
    would have done to the group. Where no margins are known, simply its rows at everybody's rate of flips."""
    drop: float = NAN
    """Accuracy of dense minus accuracy of pruned."""
    excess_drop: float = NAN
    """``drop`` minus the drop of everybody else."""
    recall: Pair = Pair()
    """Binary labels: true positive rate of the favourable class."""
    fpr: Pair = Pair()
    """Binary labels: false positive rate of the favourable class."""
    selection_rate: Pair = Pair()
    """Share that receives the favourable label (binary)."""
    worst_class: str | None = None
    """The class whose recall fell most in this group (more than two classes)."""
    worst_class_drop: float = NAN
    """How far it fell."""


class Finding(_Frozen):
    """The judgement of one group on one metric."""

    rule: str
    """Stable identifier of the metric's rule, ``FG101`` and so on."""
    group: str
    metric: Metric
    label: str | None = None
    """The class that recall or the false positive rate is about; ``None`` for metrics over all classes."""
    outcome: Outcome
    estimate: float = NAN
    """The excess: the group's loss minus the loss of everybody else."""
    interval: tuple[float, float] = (NAN, NAN)
    """The two bounds that decide: the family-corrected one-sided lower bound (evidence of harm) and the one-sided
    upper bound at ``alpha`` (evidence of safety)."""
    p_value: float = NAN
    """Family-adjusted permutation p value of "this group lost more than the rest"."""
    draws: int = 0
    """Random relabellings behind it (of whole clusters, signs): it can be no less than ``1 / (1 + draws)``."""
    margin: float
    """The tolerated excess."""
    n: int
    """Rows in the metric's denominator (of the class, for recall)."""
    n_rest: int = 0
    harmed: int = 0
    """Rows that changed to the group's harm (``b`` of the formulas)."""
    helped: int = 0
    """Rows that changed to its benefit (``c``)."""
    rate: Pair = Pair()
    """The metric itself in the group, before and after."""
    loss: float = NAN
    """The group's own loss: ``(harmed - helped) / n``."""
    loss_rest: float = NAN
    """The loss of everybody else."""
    composition: float = NAN
    """Accuracy: the part of the excess due to which rows the group has; with ``specific`` it adds up to it."""
    specific: float = NAN
    """Accuracy: the part of the excess due to how the group's rows were treated."""
    tested: bool = True
    """False where no data of this size could have shown a regression; such a group is listed, never passed."""
    dominated: bool = False
    """Not tested although there are rows enough: one cluster, or one row's weight, outweighs all others. No verdict is
    ``preserved`` then."""
    detectable: float = NAN
    """The smallest excess that the rows at hand would show with 80 % power."""
    rows_needed: int | None = None
    """Rows in the group's denominator that would decide with 80 % chance, as far as the rows at hand can tell; ``None``
    when decided, or when no number can be given."""
    reason: str | None = None
    """Why it is inconclusive or untested and about how many rows would decide, in a few words."""
    few_outside: bool = False
    """The rows that would decide are missing outside the group, not in it."""
    accepted: str | None = None
    """Why the project accepts this regression for now; such a finding does not fail the verdict."""
    discovered: bool = False
    """Found by searching slices nobody named; its family is the search, not the gate."""


class Summary(_Frozen):
    """A max-min style summary of both models; reported, never gated (its interval would not be valid)."""

    name: str
    """``demographic_parity_difference`` and so on, fairlearn's names where fairlearn has the metric."""
    column: str
    """The sensitive feature that it runs over."""
    value: Pair
    deciding: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    """The groups that dense's and pruned's value come from; how many rows they have stands under ``groups``."""
    bound: float = NAN
    """Largest worsening that the linear contrasts leave possible, at the policy's confidence."""


class Layer(_Frozen):
    """One weight tensor of a model file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    sparsity: float
    """Share of entries that are exactly zero."""
    pattern: str = "dense"
    """``dense``, ``unstructured``, ``2:4`` (or ``1:2``, ``1:4``, ``4:8``: so many of so many neighbours live),
    ``filters``, ``empty``, ``rounded`` (no more zeros than rounding to so few bits leaves), or from an inspection
    ``low-rank``."""


class ModelInfo(_Frozen):
    """What is known of a model file without running it."""

    kind: str
    """``state dict``, ``ONNX``, ``predictions`` and so on."""
    path: str | None = None
    sha256: str | None = None
    size: int | None = None
    """Bytes on disk."""
    parameters: int | None = None
    sparsity: float = NAN
    """Zeros among the entries of all weight tensors (more than one dimension)."""
    layers: tuple[Layer, ...] = ()
    dtype: str | None = None
    provider: str | None = None
    """What runs it: ``torch cpu``, ``CPUExecutionProvider``."""
    runs_code: bool = False
    """Opening it executes code that the file holds; needs ``--trust``."""


class Noise(_Frozen):
    """How far one model disagrees with itself: rows predicted again in another order and batch size."""

    model: str
    rows: int
    changed: int
    ties: int = 0


class Verdict(_Frozen):
    """The whole answer to "did compression make it unfair?".

    It has no truth value, because ``assert verdict`` would always pass: compare ``verdict.outcome``.
    """

    schema_version: int = Field(default=1, alias="schema", serialization_alias="schema")
    outcome: Outcome
    headline: str = ""
    """One line: how many regressed, inconclusive, untested and preserved."""
    policy: Policy
    family: int = 0
    """How many findings the error rate is shared by."""
    findings: tuple[Finding, ...] = ()
    """Worst first."""
    overall: GroupRow
    groups: tuple[GroupRow, ...] = ()
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """The sensitive features judged."""
    labelled: bool = True
    weighted: bool = False
    """Rates, losses and estimates are weighted; numbers of rows and of flips never are."""
    level: float = NAN
    """Error rate of each upper bound: ``alpha``, or what this of several looks spends of it."""
    summaries: tuple[Summary, ...] = ()
    slices: tuple[Finding, ...] = ()
    """Regressions in intersections that nobody named, from ``--discover``."""
    searched: int | None = None
    """How many groups that nobody named ``--discover`` looked at; ``None`` where it was not asked to."""
    models: tuple[ModelInfo, ...] = ()
    """Dense, then pruned."""
    expected_by_margin: bool = False
    """Whether the rows' dense margins are known, so that expected flips are those of rows as near the boundary."""
    noise: tuple[Noise, ...] = ()
    confirmed_flips: int | None = None
    """Harmful flips of rows that more than half of the seeds get wrong too; ``None`` without seeds or labels."""
    confirmed_by_chance: float = NAN
    """How many that would be if every model's harmful flips fell on the rows of each group (the finest that the
    features form together) at random, as many as it has there."""
    warnings: tuple[str, ...] = ()
    record: dict[str, Any] = Field(default_factory=dict)
    """What it takes to do this again: hashes, versions, provider, dtype, batch size, seed, command."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null", populate_by_name=True)

    def __bool__(self) -> NoReturn:
        """Refuse: a verdict has three outcomes."""
        raise TypeError("a Verdict has no truth value: compare verdict.outcome with Outcome.PRESERVED")

    @property
    def regressed(self) -> tuple[Finding, ...]:
        """Return the findings that fail the check."""
        return tuple(f for f in self.findings if f.outcome is Outcome.REGRESSED and f.accepted is None)

    @property
    def untested(self) -> tuple[Finding, ...]:
        """Return the findings that no data of this size could decide."""
        return tuple(f for f in self.findings if not f.tested)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON, ``outcome`` near the top; undefined rates are ``None``."""
        import json

        plain: dict[str, Any] = json.loads(self.model_dump_json(by_alias=True))
        return plain

    def frame(self) -> pd.DataFrame:
        """Return the findings as a pandas table, a row each, worst first."""
        import pandas as pd

        rows = [finding.model_dump() for finding in self.findings]
        table = pd.DataFrame(rows, columns=list(Finding.model_fields))
        for name in ("interval", "rate"):
            parts = table.pop(name)
            first, second = ("lower", "upper") if name == "interval" else ("dense", "pruned")
            table[first] = [p[0] if name == "interval" else p["dense"] for p in parts]
            table[second] = [p[1] if name == "interval" else p["pruned"] for p in parts]
        return table
