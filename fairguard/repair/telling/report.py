"""What a repair hands back: its record, and the record as text and as a page. Knows nothing of how it was done."""

from __future__ import annotations

from dataclasses import dataclass

from fairguard.repair.telling.page import render as as_page
from fairguard.repair.telling.record import Record
from fairguard.repair.telling.text import render as as_text


@dataclass(frozen=True)
class RepairReport(Record):
    """A repair's record that can be read; its attributes are those of :class:`Record`."""

    def to_text(self) -> str:
        """Return the report for a terminal, before and after side by side, and what to do next."""
        return as_text(self)

    def to_html(self) -> str:
        """Return the report as one HTML page that needs no network."""
        return as_page(self)
