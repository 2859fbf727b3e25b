"""Text in columns, as wide as a terminal shows it: a Chinese character takes two cells, an accent none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.cells import cell_len

GAP = "  "
"""Between two columns."""


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return a line for each row, its cells padded to the widest of their column.

    Args:
        rows: as many cells in each; a row of one cell is a line of its own, however long.
        right: the columns, counted from 0, whose cells end in one line, as numbers should.
    """
    widths = [max(map(cell_len, column)) for column in zip(*(row for row in rows if len(row) > 1), strict=True)]
    return [_line(row, widths, right) if len(row) > 1 else row[0] for row in rows]


def _line(row: Sequence[str], widths: Sequence[int], right: Collection[int]) -> str:
    gaps = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
    return GAP.join(
        gap + cell if at in right else cell + gap for at, (cell, gap) in enumerate(zip(row, gaps, strict=True))
    )
