"""Count tables for the judge's tests: by hand, and at random."""

import numpy as np
from hypothesis import strategies as st

from fairguard.judge.counts import CountTable


def flips(**groups: tuple[int, int, int]) -> CountTable:
    """Groups by name, each (rows, harmed, helped); all labels are 1, so that accuracy is all there is to see."""
    rows = [
        (code, dense, pruned, count)
        for code, (n, b, c) in enumerate(groups.values())
        for dense, pruned, count in ((1, 0, b), (0, 1, c), (1, 1, n - b - c))
        if count
    ]
    codes, dense, pruned, counts = np.array(rows, dtype=np.int64).reshape(-1, 4).T
    return CountTable.of(
        ["g"], [list(groups)], ["0", "1"], codes=codes, y=np.ones_like(codes), dense=dense, pruned=pruned, counts=counts
    )


def draw(
    n: int, *levels: int, seed: int = 0, classes: int = 2, churn: float = 0.05, harm: float = 0.0, labels: bool = True
) -> CountTable:
    """n random rows with a column for each number of ``levels``; value 0 of the first is harmed ``harm`` more."""
    rng = np.random.default_rng(seed)
    codes = np.column_stack([rng.integers(0, k, n) for k in levels])
    y = rng.integers(0, classes, n)
    dense = np.where(rng.random(n) < 0.85, y, (y + 1) % classes)
    chance = churn + harm * ((codes[:, 0] == 0) & (dense == y))
    pruned = np.where(rng.random(n) < chance, (dense + 1) % classes, dense)
    return CountTable.of(
        [f"c{i}" for i in range(len(levels))],
        [[f"v{j}" for j in range(k)] for k in levels],
        [str(k) for k in range(classes)],
        codes=codes,
        y=y if labels else None,
        dense=dense,
        pruned=pruned,
    )


def relabelled(table: CountTable, column: int, names: dict[str, str]) -> CountTable:
    """The same rows, with other names for the values of one column."""
    levels = list(table.levels)
    levels[column] = tuple(names[name] for name in levels[column])
    return CountTable(table.columns, tuple(levels), table.classes, table.cells, table.counts)


@st.composite
def tables(draw_: st.DrawFn, *, most: int = 60, classes: int | None = None, labels: bool = True) -> CountTable:
    """Any table of up to 24 kinds of row, one or two columns; empty cells, groups of one and missing classes happen."""
    k = draw_(st.integers(2, 3)) if classes is None else classes
    columns = draw_(st.integers(1, 2))
    code, label = st.integers(0, 2), st.integers(0, k - 1)
    rows = draw_(
        st.lists(st.tuples(*[code] * columns, label, label, label, st.integers(1, most)), min_size=1, max_size=24)
    )
    array = np.array(rows, dtype=np.int64)
    return CountTable.of(
        ["a", "b"][:columns],
        [["x", "y", "z"]] * columns,
        [str(i) for i in range(k)],
        codes=array[:, :columns],
        y=array[:, -4] if labels else None,
        dense=array[:, -3],
        pruned=array[:, -2],
        counts=array[:, -1],
    )
