"""How many compressed models were judged on the same rows: each look adds a chance of a false alarm.

Keeps digests only, in the user's cache folder (FAIRGUARD_CACHE names another, ``off`` keeps nothing). Losing it loses a
count, never a verdict, so that a folder that cannot be written is no error.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from fairguard.errors import FairguardError
from fairguard.files import write_text
from fairguard.report.wording import percent
from fairguard.verdict import Verdict

MOST = 10_000
"""Models remembered for one set of rows."""


def with_runs(verdict: Verdict) -> Verdict:
    """Return the verdict whose record says how many models were judged on its rows, and what that does to alpha."""
    digests = [verdict.record.get(name, {}).get("sha256") for name in ("data", "pruned")]
    runs = runs_on(*digests)
    if runs is None:
        return verdict
    bound = false_alarm_bound(runs, verdict.policy.alpha)
    seen = {"models_judged": runs, "false_alarm_bound": round(bound, 4)}
    line = (
        f"{runs} models were judged on these rows, each with a {percent(verdict.policy.alpha, 0)} chance of a false "
        f"alarm: {percent(bound, 0)} for one among them. Use --alpha 0.01 for many, or rows of their own for a release."
    )
    return verdict.model_copy(
        update={
            "record": {**verdict.record, "same_rows": seen},
            "warnings": (*verdict.warnings, line) if runs > 1 else verdict.warnings,
        }
    )


def runs_on(data: str | None, pruned: str | None) -> int | None:
    """Return how many different models were judged on the rows with digest ``data``, this one included.

    ``None`` where rows or model have no digest (they are in memory), or nothing is to be kept.
    """
    folder = _folder()
    if folder is None or data is None or pruned is None:
        return None
    path = folder / "runs" / f"{data[:32]}.json"
    known = _read(path)
    if pruned not in known and len(known) < MOST:
        known.append(pruned)
        with suppress(OSError, FairguardError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(known))
    return len(known)


def false_alarm_bound(runs: int, alpha: float) -> float:
    """Return the chance of a false alarm in at least one of ``runs`` harmless, independent checks."""
    return 1.0 - (1.0 - alpha) ** runs


def _folder() -> Path | None:
    named = os.environ.get("FAIRGUARD_CACHE")
    if named == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named or Path(base) / "fairguard").expanduser()


def _read(path: Path) -> list[str]:
    with suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(known, list):
            return [str(digest) for digest in known]
    return []
