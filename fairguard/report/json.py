"""A verdict as JSON, and the schema of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fairguard.report.declared import Declared
from fairguard.verdict import Outcome, Verdict


def render(verdict: Verdict) -> str:
    """Return the verdict as JSON text: keys in the order of the types, undefined numbers as ``null``."""
    return json.dumps(verdict.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def render_all(checks: Sequence[Declared]) -> str:
    """Return all checks as JSON text, by name, with the worst outcome of them."""
    outcomes = [check.verdict.outcome for check in checks]
    worst = next(o for o in (Outcome.REGRESSED, Outcome.INCONCLUSIVE, Outcome.PRESERVED) if o in outcomes)
    verdicts = {check.name: check.verdict.to_dict() for check in checks}
    return json.dumps({"schema": 1, "outcome": worst, "checks": verdicts}, indent=2, ensure_ascii=False) + "\n"


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
