"""What a pruning did, and the verdict on it, as a frozen value and as text. Knows nothing of how it was done."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import isnan
from typing import Any

from fairguard.exit_codes import OF_OUTCOME, PRESERVED
from fairguard.files import free_name, typed
from fairguard.judge.everybody import fell
from fairguard.report.text import render
from fairguard.report.wording import percent
from fairguard.verdict import Outcome, Verdict


@dataclass(frozen=True)
class PruneReport:
    """Everything that was done, and what the rows that nothing saw say of it.

    Attributes:
        dense: what was pruned, as the user named it.
        output: the file written.
        method: what selected and trained.
        scope: ``global`` where layers competed for weights, ``layer`` where each kept the same share.
        asked: the sparsity asked for, a fraction.
        sparsity: zeros among the stored entries of the pruned tensors.
        weights: how many entries these are.
        tensors: in how many tensors.
        verdict: dense against the written file; ``None`` where there were no rows to judge on.
        splits: rows to train, tune and verify on.
        epochs: passes over the training rows that were spent.
        seconds: wall time.
        settings: seed, budget, device and the rest.
        trials: the history of every epoch.
        notes: what the user should know of the rows and of the training, one sentence each.
        exported: the ONNX file written beside it, if one was asked for.
        options: those typed that a check or a repair takes as well, for the command that comes next.
    """

    dense: str
    output: str
    method: str
    scope: str
    asked: float
    sparsity: float
    weights: int
    tensors: int
    verdict: Verdict | None = None
    splits: dict[str, Any] = field(default_factory=dict)
    epochs: float = 0.0
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    trials: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    exported: str | None = None
    options: str = ""

    @property
    def exit_code(self) -> int:
        """Return the check's own: 0 preserved (or nothing to judge on), 1 regressed, 3 inconclusive."""
        return PRESERVED if self.verdict is None else OF_OUTCOME[self.verdict.outcome]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values ready for JSON; undefined numbers are ``None``."""
        verdict = self.verdict
        judged = {
            "outcome": None if verdict is None else verdict.outcome.value,
            "verdict": None if verdict is None else verdict.to_dict(),
        }
        text = json.dumps({"schema": 1, **vars(self), **judged}, default=str)
        plain: dict[str, Any] = json.loads(text, parse_constant=lambda name: None)
        return plain

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    def to_text(self, *, verbose: bool = False, colour: bool = False, width: int = 160) -> str:
        """Return the report for a terminal; how it looks is explained at :func:`fairguard.report.text.render`."""
        rows = ", ".join(f"{name} {self.splits[name]:,}" for name in ("train", "tune", "verify") if name in self.splits)
        lines = [
            f"sparsity {percent(self.sparsity)} of {self.weights:,} weights in {self.tensors} tensors   "
            f"method {self.method}, {self.scope}   {self._epochs} epochs, {self.seconds:.0f} s",
            *self._two_figures(),
            *([f"rows: {rows} ({self.splits['how']})"] if rows else []),
            *(f"note: {note}" for note in self.notes),
            f"wrote {self.output}" + (f", {self.exported}" if self.exported else ""),
        ]
        if self.verdict is None:
            return "\n".join([*lines, self.last_line(), f"next: {self._next_step()}"]) + "\n"
        judged = render(self.verdict, verbose=verbose, colour=colour, width=width, next_step=self._next_step())
        return "\n".join(lines) + f"\n\n{judged}"

    def _two_figures(self) -> list[str]:
        """Return a line on the two sparsities that a report with a verdict shows, where they differ."""
        whole = float("nan") if self.verdict is None or not self.verdict.models else self.verdict.models[-1].sparsity
        if isnan(whole) or percent(whole) == percent(self.sparsity):
            return []
        return [
            f"two sparsities: {percent(self.sparsity)} of the tensors that are pruned, and {percent(whole)} in the "
            "check below, which counts all of the model's, also those left dense (embeddings, positions)"
        ]

    def last_line(self) -> str:
        """Return the outcome in one line."""
        if self.verdict is None:
            return f"NOT JUDGED: no labelled rows were given, so nothing is known of {self.output}'s fairness"
        return f"{self.verdict.outcome}: {self.verdict.headline}: wrote {self.output}"

    @property
    def _epochs(self) -> str:
        return f"{self.epochs:.1f}".removesuffix(".0")

    @property
    def _again(self) -> str:
        """Return both models and the options typed, as the next command takes them."""
        return " ".join(filter(None, [typed(self.dense), typed(self.output), self.options]))

    def _next_step(self) -> str:
        if self.verdict is None:
            return f"fairguard check {self._again} --data ROWS --label COL --group COL"
        if self.verdict.outcome is Outcome.REGRESSED:
            repaired = f"fairguard repair {self._again} -o {typed(free_name('fair', self.output))}"
            return f"{repaired}   |   a lower --sparsity, another --method"
        if self.verdict.outcome is Outcome.INCONCLUSIVE:
            return "more rows, or a wider --margin (what is ruled out says which these rows carry)"
        if self.verdict.overall.drop > self.verdict.policy.margin:
            return f"{fell(self.verdict.overall)}: a lower --sparsity, or another --method"
        return "keep it so: @fairness_preserved(...) in a test (README, 'In CI')"
