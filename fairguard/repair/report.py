"""What a repair did and proved, as a frozen value and as text. Knows nothing of how it was done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan
from typing import Any

from fairguard.verdict import Finding, Outcome, Verdict


class Result(StrEnum):
    """How a repair ended."""

    NOTHING_TO_DO = "nothing to do"
    REPAIRED = "repaired"
    UNPROVEN = "improved but unproven"
    NOT_REPAIRED = "not repaired"


EXIT_CODES = {Result.NOTHING_TO_DO: 0, Result.REPAIRED: 0, Result.UNPROVEN: 3, Result.NOT_REPAIRED: 1}


@dataclass(frozen=True)
class RepairReport:
    """Everything that was tried, and the proof.

    Attributes:
        result: how it ended.
        check: the verdict on PRUNED over all rows given, before anything was done.
        before: the verdict on PRUNED over the verify rows; ``None`` where nothing was done.
        after: the verdict on the repaired model over the same rows.
        broken: guards that the repaired model breaks, one sentence each.
        output: the file written; ``None`` where none was.
        method: what selected and trained.
        splits: rows to train, tune and verify on.
        sparsity: of the masked tensors in PRUNED and in the written file.
        moved: share of the living weights that are not those of PRUNED.
        epochs: passes over the training rows that were spent.
        seconds: wall time.
        settings: seed, budget, device and the rest.
        trials: the history of every epoch.
    """

    result: Result
    check: Verdict
    before: Verdict | None = None
    after: Verdict | None = None
    broken: tuple[str, ...] = ()
    output: str | None = None
    method: str = ""
    splits: dict[str, Any] = field(default_factory=dict)
    sparsity: tuple[float, float] = (float("nan"), float("nan"))
    moved: float = float("nan")
    epochs: float = 0.0
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    trials: tuple[dict[str, Any], ...] = ()

    @property
    def exit_code(self) -> int:
        """Return 0 for a verified repair or nothing to do, 3 for an unproven one, 1 for none."""
        return EXIT_CODES[self.result]

    @property
    def rows_needed(self) -> int | None:
        """Return the most rows that a still undecided group would need, or ``None``."""
        findings: tuple[Finding, ...] = self.after.findings if self.after is not None else ()
        return max((f.rows_needed for f in findings if f.rows_needed), default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON; undefined numbers are ``None``."""
        plain = {k: v for k, v in vars(self).items() if not isinstance(v, Verdict)}
        verdicts = {
            k: v.to_dict() if v is not None else None
            for k, v in vars(self).items()
            if k in ("check", "before", "after")
        }
        cleaned: dict[str, Any] = _without_nan({"schema": 1, "result": self.result.value, **plain, **verdicts})
        return cleaned

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self) -> str:
        """Return the report for a terminal, before and after side by side."""
        if self.before is None or self.after is None:
            return f"{self.check.headline}\n{NOTHING}\n"
        lines = [
            f"sparsity {self.sparsity[0]:.1%} -> {self.sparsity[1]:.1%} ({self.moved:.1%} of what lives moved)   "
            f"{self.epochs:.0f} epochs, {self.seconds:.0f} s   method {self.method}",
            "rows: " + ", ".join(f"{name} {count:,}" for name, count in self.splits.items() if isinstance(count, int)),
            f"{'on the verify rows':38}{'dense':>8}{'pruned':>9}{'repaired':>10}",
            f"{'overall accuracy':38}{self.before.overall.accuracy.dense:>8.1%}"
            f"{self.before.overall.accuracy.pruned:>9.1%}{self.after.overall.accuracy.pruned:>10.1%}",
            *_side_by_side(self.before, self.after),
            *self._frontier(),
            *self.broken,
            self._last_line(),
        ]
        return "\n".join(lines) + "\n"

    def _frontier(self) -> list[str]:
        """Return the table of trade-offs, if several were tried."""
        tried = [trial for trial in self.trials if "trade_off" in trial]
        head = [f"{'on the tune rows':38}{'accuracy':>9}{'worst excess':>14}{'harmful flips':>15}"] if tried else []
        rows = [f"{t['trade_off']:38}{t['accuracy']:>9.1%}{t['excess']:>+14.1%}{t['harm']:>15.1%}" for t in tried]
        return head + rows

    def _last_line(self) -> str:
        where = f"wrote {self.output}" if self.output else "nothing was written (--keep-best writes the best candidate)"
        needed = f"; about {self.rows_needed:,} rows of the undecided groups would decide" if self.rows_needed else ""
        if self.result is Result.UNPROVEN:
            return f"IMPROVED, UNPROVEN{needed}: {where}"
        return f"{'REPAIRED, preserved on unseen rows' if self.result is Result.REPAIRED else 'NOT REPAIRED'}: {where}"


NOTHING = "preserved already: nothing was changed"
SHOWN = 12
"""Findings shown side by side."""


def _side_by_side(before: Verdict, after: Verdict) -> list[str]:
    """Return one line for each finding that is not preserved on both sides, worst before first."""
    then = {_key(f): f for f in before.findings}
    changed = [
        (then[_key(f)], f)
        for f in after.findings
        if _key(f) in then and {then[_key(f)].outcome, f.outcome} != {Outcome.PRESERVED} and f.tested
    ]
    changed.sort(key=lambda pair: (pair[0].outcome is not Outcome.REGRESSED, -pair[0].estimate))
    lines = [f"{_name(new):38}excess {old.estimate:+7.1%} -> {new.estimate:+7.1%}   {old.outcome} -> {new.outcome}"
             for old, new in changed[:SHOWN]]  # fmt: skip
    return lines + ([f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else [])


def _key(finding: Finding) -> tuple[str, str, str | None]:
    return finding.group, finding.metric, finding.label


def _name(finding: Finding) -> str:
    return f"{finding.group}: {finding.metric}" + (f" of {finding.label}" if finding.label is not None else "")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and isnan(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return value
