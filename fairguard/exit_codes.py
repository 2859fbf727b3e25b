"""What a command leaves with. Knows verdicts and commands by name only."""

from __future__ import annotations

PRESERVED, REGRESSED, NOT_JUDGED, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130

OF_OUTCOME = {"preserved": PRESERVED, "regressed": REGRESSED, "inconclusive": INCONCLUSIVE}
"""The code of each outcome of a verdict."""
