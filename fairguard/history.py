"""How many compressed models were judged on the same rows: each look adds a chance of a false alarm.

A look is a question (rows, label, groups) and which rows flipped: the same answers in another file are no second look,
and two models without a flip between them none at all. Keeps digests only, in the user's cache folder (FAIRGUARD_CACHE
names another, ``off`` keeps nothing). Losing it loses a count, never a verdict, so that a folder that cannot be written
is no error.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairguard.errors import FairguardError
from fairguard.files import write_text
from fairguard.report.wording import percent
from fairguard.verdict import Verdict

USUAL = 0.05
"""Chance of a false alarm that needs no word."""
FOR_MANY = 0.01
"""Alpha that is advised where many models are judged on the same rows."""
MOST = 10_000
"""Models remembered for one set of rows."""


def with_runs(verdict: Verdict) -> Verdict:
    """Return the verdict whose record says how many models were judged on its rows, and what that does to alpha."""
    alpha = verdict.policy.alpha
    levels = levels_on(_question(verdict), _answer(verdict), alpha=alpha)
    if levels is None:
        return verdict
    runs, bound = len(levels), false_alarm_bound(levels)
    seen = {"models_judged": runs, "false_alarm_bound": round(bound, 4)}
    advice = f"--alpha {FOR_MANY} for many, or " if alpha > FOR_MANY else ""
    line = (
        f"{runs} models were judged on these rows: a {percent(bound, 0)} chance of a false alarm for one among them. "
        f"Use {advice}rows of their own for a release."
    )
    return verdict.model_copy(
        update={
            "record": {**verdict.record, "same_rows": seen},
            "warnings": (*verdict.warnings, line) if runs > 1 and bound > USUAL else verdict.warnings,
        }
    )


def _question(verdict: Verdict) -> str | None:
    """Return a digest of the rows' file, the label and the groups; ``None`` for rows in memory."""
    data = verdict.record.get("data", {})
    if data.get("sha256") is None:
        return None
    options = data.get("options", {})
    return _digest([data["sha256"], options.get("label"), sorted(options.get("groups", ()))])


def _answer(verdict: Verdict) -> str | None:
    """Return the digest of which rows the pruned model changed, and to what; ``None`` where it changed nothing.

    However they were weighed or told apart: that is another question to the same model.
    """
    flipped: str = verdict.record.get("flipped", "")
    return flipped if flipped.strip("0") else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def levels_on(data: str | None, pruned: str | None, *, alpha: float) -> list[float] | None:
    """Return the largest alpha that each model was judged at on the rows with digest ``data``, this one included.

    ``None`` where rows have no digest (they are in memory), nothing changed, or nothing is to be kept.
    """
    folder = _folder()
    if folder is None or data is None or pruned is None:
        return None
    path = folder / "runs" / f"{data[:32]}.json"
    known = _read(path)
    if known.get(pruned, 0.0) < alpha and (pruned in known or len(known) < MOST):
        known[pruned] = alpha
        with suppress(OSError, FairguardError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(known))
    return list(known.values())


def false_alarm_bound(levels: Iterable[float]) -> float:
    """Return the chance of a false alarm in at least one of several harmless, independent checks at these levels."""
    return 1.0 - math.prod(1.0 - level for level in levels)


def _folder() -> Path | None:
    named = os.environ.get("FAIRGUARD_CACHE")
    if named == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named or Path(base) / "fairguard").expanduser()


def _read(path: Path) -> dict[str, float]:
    """Return the models remembered and their alphas; none of a file that holds no such thing."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        known = json.loads(path.read_text(encoding="utf-8")).items()
        return {digest: min(max(float(level), 0.0), 1.0) for digest, level in known}
    return {}
