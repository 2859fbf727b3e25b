"""A verdict as JSON, and the schema of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fairguard.report.declared import Declared, Unjudged
from fairguard.verdict import Outcome, Verdict

ERROR = "error"
"""Outcome of a check that could not be judged, and of a run that judged none."""
ORDER = (Outcome.REGRESSED, ERROR, Outcome.INCONCLUSIVE, Outcome.PRESERVED)


def render(verdict: Verdict) -> str:
    """Return the verdict as JSON text: keys in the order of the types, undefined numbers as ``null``."""
    return json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_all(checks: Sequence[Declared], unjudged: Sequence[Unjudged] = ()) -> str:
    """Return all checks as JSON text, by name, with the worst outcome of them; ``error`` where there is no verdict."""
    found: dict[str, dict[str, Any]] = {check.name: check.verdict.to_dict() for check in checks}
    found |= {check.name: {"outcome": ERROR, "error": check.error, "findings": []} for check in unjudged}
    outcomes = [check["outcome"] for check in found.values()] or [ERROR]
    worst = next(outcome for outcome in ORDER if outcome in outcomes)
    return json.dumps({"schema": 1, "outcome": worst, "checks": found}, indent=2, ensure_ascii=False) + "\n"


def schema() -> dict[str, Any]:
    """Return the JSON schema of :func:`render`'s output; floats may be ``null``."""
    plain: dict[str, Any] = _nullable(Verdict.model_json_schema(mode="serialization", by_alias=True))
    return plain


def _nullable(node: Any) -> Any:
    """Return ``node`` with every number allowed to be null: a rate that does not exist is not a number."""
    if isinstance(node, list):
        return [_nullable(part) for part in node]
    if not isinstance(node, dict):
        return node
    changed = {key: _nullable(value) for key, value in node.items()}
    if changed.get("type") == "number":
        changed["type"] = ["number", "null"]
    if isinstance(changed.get("default"), float) and changed["default"] != changed["default"]:
        changed["default"] = None
    if changed.get("default") == [float("nan")] * 2:
        changed["default"] = [None, None]
    return changed
