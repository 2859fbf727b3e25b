"""fairguard tells whether compressing a neural network made it unfair, and repairs it.

Names are imported when first used, so that ``fairguard --help`` and unrelated pytest runs load nothing heavy.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fairguard.lazily import FunctionOf

if TYPE_CHECKING:
    from fairguard.check import check, check_predictions
    from fairguard.errors import FairguardError, FairguardWarning, FairnessInconclusive
    from fairguard.policy import Metric, Policy
    from fairguard.testing.asserting import assert_fairness_preserved
    from fairguard.testing.marker import fairness_preserved
    from fairguard.verdict import Finding, Outcome, Verdict

__version__ = "0.1.0"

_HOMES = {
    "check_predictions": "fairguard.check",
    "FairguardError": "fairguard.errors",
    "FairguardWarning": "fairguard.errors",
    "FairnessInconclusive": "fairguard.errors",
    "Metric": "fairguard.policy",
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


class _Package(ModuleType):
    """The package, whose attribute ``check`` is the function also where ``fairguard.check`` was imported before."""

    check = FunctionOf("fairguard.check")


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
