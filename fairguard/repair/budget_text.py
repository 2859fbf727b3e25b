"""A budget as one types it. Needs no torch: a misspelt one is refused before torch is loaded, which takes seconds."""

from __future__ import annotations

import re

from fairguard.errors import ConfigError


def parsed(budget: str) -> tuple[float, str]:
    """Return the amount and the unit (``x``, ``epochs``, ``s``, ``m`` or ``h``) of a budget.

    Raises:
        ConfigError: it is none of ``1.5x``, ``20epochs``, ``90s``, ``10min``, ``2h``.
    """
    units = r"(x)|(e)pochs?|(s)(?:ec(?:ond)?s?)?|(m)(?:in(?:ute)?s?)?|(h)(?:(?:ou)?rs?)?"
    found = re.fullmatch(rf"\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:{units})\s*", str(budget), re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise ConfigError(
            f"budget {str(budget)!r}: write 1.5x (of a plain retraining), 20epochs, or a time: 90s, 10min, 2h."
        )
    unit = next(part for part in found.groups()[1:] if part).lower()
    return float(found[1]), "epochs" if unit == "e" else unit
