"""From a regressed model to a verified fair sparse one: select again, retrain under a constraint, prove it.

Knows torch and the check; knows nothing of the command line or of how a report looks. ``repair`` and ``prune`` are its
face, imported with torch when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairguard.repair.pruning import prune
    from fairguard.repair.repairing import repair

_HOMES = {"prune": "fairguard.repair.pruning", "repair": "fairguard.repair.repairing"}

__all__ = ["prune", "repair"]


def __getattr__(name: str) -> Any:
    """Return a public name, imported on first use."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fairguard.repair' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
