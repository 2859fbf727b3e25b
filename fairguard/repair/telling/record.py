"""What a repair did and proved, as a frozen value and as JSON. Knows nothing of how it was done or how it looks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from math import isfinite
from typing import Any

from fairguard.exit_codes import INCONCLUSIVE, PRESERVED, REGRESSED
from fairguard.judge.needed import Needed, needed_of, undecided
from fairguard.report.wording import finding_name
from fairguard.verdict import Finding, Outcome, Verdict


class Result(StrEnum):
    """How a repair ended."""

    NOTHING_TO_DO = "nothing to do"
    REPAIRED = "repaired"
    UNPROVEN = "improved but unproven"
    NOT_REPAIRED = "not repaired"


EXIT_CODES = {
    Result.NOTHING_TO_DO: PRESERVED,
    Result.REPAIRED: PRESERVED,
    Result.UNPROVEN: INCONCLUSIVE,
    Result.NOT_REPAIRED: REGRESSED,
}


class Guard(StrEnum):
    """What a repair must not cost."""

    OVERALL = "overall accuracy"
    GROUP = "accuracy of a group"


@dataclass(frozen=True)
class Broken:
    """A guard that the repaired model breaks, and how it does, in one sentence."""

    guard: Guard
    sentence: str


@dataclass(frozen=True)
class Files:
    """The files of a repair, as the user named them; what was in memory has no name."""

    dense: str = "DENSE"
    pruned: str = "PRUNED"
    output: str = "FAIR"


@dataclass(frozen=True)
class Record:
    """Everything that was tried, and the proof.

    Attributes:
        result: how it ended.
        check: the verdict on PRUNED over all rows given, before anything was done.
        before: the verdict on PRUNED over the verify rows; ``None`` where nothing was done.
        after: the verdict on the repaired model over the same rows.
        broken: guards that the repaired model breaks.
        worse: findings that the repair made worse beyond noise, the worst first.
        output: the file written; ``None`` where none was.
        exported: the ONNX file written beside it; ``None`` where none was.
        files: what the user named.
        method: what selected and trained.
        splits: rows to train, tune and verify on.
        sparsity: of the masked tensors in PRUNED and in the written file.
        moved: share of the living weights that were dead in PRUNED: how far the mask moved.
        epochs: what was spent, in plain passes over the training rows: one under the constraint costs more.
        seconds: wall time.
        settings: seed, budget, device and the rest.
        trials: the history of every epoch, and the trade-offs of a frontier.
        notes: what the user should know of the way there, one sentence each.
        identical: PRUNED is DENSE, weight for weight.
        memorised: dense knows the rows to tune on by heart, so that they hide what groups lose.
        earlier: no model was written, and one of an earlier run lies where it would be.
        again: what to add or type to have the best candidate written that was not; empty where it was.
        resumable: what was trained is kept, so that ``--resume`` trains nothing anew.
        options: those typed that a check takes as well, for the command that comes next.
        fixed: the pattern of PRUNED's zeros (N:M, whole filters or units) fixes the sparsity.
        unusual: options typed that trained otherwise than usual, what is likeliest to blame first.
        heeds: ``--budget`` and ``--frontier``, if with more of it the method could have found something else.
    """

    result: Result
    check: Verdict
    before: Verdict | None = None
    after: Verdict | None = None
    broken: tuple[Broken, ...] = ()
    worse: tuple[str, ...] = ()
    output: str | None = None
    exported: str | None = None
    files: Files = Files()
    method: str = ""
    splits: dict[str, Any] = field(default_factory=dict)
    sparsity: tuple[float, float] = (float("nan"), float("nan"))
    moved: float = float("nan")
    epochs: float = 0.0
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    trials: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    identical: bool = False
    memorised: bool = False
    earlier: bool = False
    again: str = ""
    resumable: bool = False
    options: str = ""
    fixed: bool = False
    unusual: tuple[str, ...] = ()
    heeds: tuple[str, ...] = ("--budget", "--frontier")

    @property
    def exit_code(self) -> int:
        """Return 0 for a verified repair or nothing to do, 3 for an unproven one, 1 for none."""
        return EXIT_CODES[self.result]

    @property
    def frontier(self) -> list[dict[str, Any]]:
        """Return the trade-offs that were tried, if a frontier was asked for."""
        return [trial for trial in self.trials if "trade_off" in trial]

    @property
    def open(self) -> tuple[Finding, ...]:
        """Return the findings that the verify rows could decide and do not."""
        return () if self.after is None else undecided(self.after)

    @property
    def needed(self) -> Needed:
        """Return what would decide the open findings."""
        return Needed() if self.after is None else needed_of(self.after)

    @property
    def rows_needed(self) -> int | None:
        """Return how many rows to verify on would decide all findings that rows can decide; ``None`` for none."""
        return self.needed.rows or None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON; undefined numbers are ``None``."""
        plain = {k: v for k, v in vars(self).items() if not isinstance(v, Verdict)}
        verdicts = {
            k: v.to_dict() if v is not None else None
            for k, v in vars(self).items()
            if k in ("check", "before", "after")
        }
        needed = self.needed
        proving = {
            "verify_rows": needed.rows or None,
            "all_but_late_rows": needed.sooner or None,
            "late": needed.late,
            "decided_last": needed.slowest and finding_name(needed.slowest),
            "too_near_the_margin": [finding_name(f) for f in needed.near],
            "too_few_rows_to_say": [finding_name(f) for f in needed.few],
        }
        head = {"schema": 1, "result": self.result.value, "exit_code": self.exit_code}
        guards = {"broken": [b.sentence for b in self.broken], "broken_guards": [b.guard.value for b in self.broken]}
        named = {"result": self.result.value, "files": vars(self.files), "would_prove": proving}
        found = head | plain | named | guards
        cleaned: dict[str, Any] = _finite(found | verdicts)
        return cleaned

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False, default=str)


def finding_key(finding: Finding) -> tuple[str, str, str | None]:
    """Return what makes two verdicts' findings the same question."""
    return finding.group, finding.metric, finding.label


def unproven(before: Verdict, after: Verdict) -> tuple[Finding, ...]:
    """Return the findings that had regressed and are neither regressed nor proven preserved, as they are now."""
    had = {finding_key(finding) for finding in before.regressed}
    return tuple(f for f in after.findings if f.outcome is Outcome.INCONCLUSIVE and finding_key(f) in had)


def _finite(value: Any) -> Any:
    """Return the value with ``None`` for numbers that JSON has not: nan, and a loss that ran away to infinity."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
