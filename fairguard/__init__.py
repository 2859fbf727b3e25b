"""fairguard tells whether compressing a neural network made it unfair, and repairs it.

Names are imported when first used, so that ``fairguard --help`` and unrelated pytest runs load nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairguard.checking import check, check_predictions
    from fairguard.errors import FairguardError, FairguardWarning, FairnessInconclusive
    from fairguard.metrics import Metric
    from fairguard.policy import Policy
    from fairguard.testing.asserting import assert_fairness_preserved
    from fairguard.testing.marker import fairness_preserved
    from fairguard.verdict import Finding, Outcome, Verdict

__version__ = "0.1.0"

_HOMES = {
    "check": "fairguard.checking",
    "check_predictions": "fairguard.checking",
    "FairguardError": "fairguard.errors",
    "FairguardWarning": "fairguard.errors",
    "FairnessInconclusive": "fairguard.errors",
    "Metric": "fairguard.metrics",
    "Policy": "fairguard.policy",
    "Finding": "fairguard.verdict",
    "Outcome": "fairguard.verdict",
    "Verdict": "fairguard.verdict",
    "assert_fairness_preserved": "fairguard.testing.asserting",
    "fairness_preserved": "fairguard.testing.marker",
}

__all__ = [
    "FairguardError",
    "FairguardWarning",
    "FairnessInconclusive",
    "Finding",
    "Metric",
    "Outcome",
    "Policy",
    "Verdict",
    "__version__",
    "assert_fairness_preserved",
    "check",
    "check_predictions",
    "fairness_preserved",
]


def __getattr__(name: str) -> Any:
    """Return a public name, imported on first use."""
    if name == "repair":  # a package of its own, with functions of its own
        return import_module("fairguard.repair")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairguard' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
