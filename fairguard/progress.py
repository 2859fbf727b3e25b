"""How work tells of itself while it goes on."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called with what is done so far and, where known, with all there is: rows of a pass, pairs of a hunt, data sets."""
