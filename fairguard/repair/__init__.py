"""From a regressed model to a verified fair sparse one: select again, retrain under a constraint, prove it.

Knows torch and the check; knows nothing of the command line or of how a report looks. ``repair`` and ``prune`` are its
face, imported with torch when first used.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

from fairguard.lazily import FunctionOf

if TYPE_CHECKING:
    from fairguard.repair.prune import prune
    from fairguard.repair.repair import repair

__all__ = ["prune", "repair"]


class _Package(ModuleType):
    """The package, whose attributes are the functions also where their modules were imported before."""

    prune = FunctionOf("fairguard.repair.prune")
    repair = FunctionOf("fairguard.repair.repair")


sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
