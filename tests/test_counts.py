"""The count table: exact sums, whatever the way they were reached."""

import numpy as np
import pytest
from count_tables import draw, tables
from hypothesis import given
from hypothesis import strategies as st

from fairguard.judge.counts import NO_LABEL, CountTable, distinct, merge_all, tally


def same(one: CountTable, other: CountTable) -> bool:
    return (
        (one.columns, one.levels, one.classes) == (other.columns, other.levels, other.classes)
        and np.array_equal(one.cells, other.cells)
        and np.array_equal(one.counts, other.counts)
    )


def test_counts_rows() -> None:
    table = CountTable.of(
        ["sex"],
        [["F", "M"]],
        ["no", "yes"],
        codes=[0, 1, 1, 1],
        y=[1, 0, 0, 1],
        dense=[1, 0, 0, 1],
        pruned=[0, 0, 0, 1],
    )
    assert table.cells.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert table.counts.tolist() == [1, 2, 1]
    assert table.n == 4
    assert table.labelled
    assert table.codes("sex").tolist() == [0, 1, 1]


def test_rows_without_labels() -> None:
    table = CountTable.of(["g"], [["a"]], ["0"], codes=[0, 0], y=None, dense=[0, 0], pruned=[0, 0])
    assert table.y.tolist() == [NO_LABEL]
    assert not table.labelled


def test_a_table_without_rows() -> None:
    table = CountTable.of(["g"], [["a"]], ["0"], codes=[], y=[], dense=[], pruned=[])
    assert table.n == 0
    assert table.cells.shape == (0, 4)
    assert same(merge_all([table, table]), table)


def test_tables_of_other_columns_do_not_merge() -> None:
    with pytest.raises(ValueError, match="do not merge"):
        merge_all([draw(10, 2), draw(10, 2, 2)])


@given(st.lists(tables(classes=2), min_size=2, max_size=4), st.randoms())
def test_merging_is_exact_and_order_free(parts: list[CountTable], random) -> None:
    parts = [part for part in parts if part.columns == parts[0].columns]
    shuffled = random.sample(parts, len(parts))
    whole = merge_all(parts).canonical()
    assert same(whole, merge_all(shuffled).canonical())
    assert whole.n == sum(part.n for part in parts)


@given(tables(classes=3), st.integers(1, 5))
def test_shards_of_rows_add_up(table: CountTable, shards: int) -> None:
    rows = np.repeat(table.cells, table.counts, axis=0)
    cut = [
        CountTable.of(
            table.columns,
            table.levels,
            table.classes,
            codes=part[:, :-3],
            y=part[:, -3],
            dense=part[:, -2],
            pruned=part[:, -1],
        )
        for part in np.array_split(rows, shards)
    ]
    assert same(merge_all(cut).canonical(), table.canonical())


@given(tables())
def test_the_canonical_table_keeps_every_row_and_no_unused_level(table: CountTable) -> None:
    canonical = table.canonical()
    assert canonical.n == table.n
    for column in table.columns:
        names = canonical.levels[canonical.columns.index(column)]
        assert sorted(names) == list(names)
        assert set(canonical.codes(column)) == set(range(len(names)))
    assert same(canonical.canonical(), canonical)


def test_forgetting_a_column_sums_over_it() -> None:
    table = draw(500, 3, 4)
    forgotten = table.without("c1")
    assert forgotten.columns == ("c0",)
    assert forgotten.n == table.n
    for code in range(3):
        assert forgotten.counts[forgotten.codes("c0") == code].sum() == table.counts[table.codes("c0") == code].sum()


@pytest.mark.parametrize("high", [3, 1000, 2**31, 2**62])
def test_every_way_of_counting_agrees(high: int) -> None:
    """Few possible cells are counted in place, many are sorted as one integer, too many as rows."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, high, (40, 3))[rng.integers(0, 40, 300)]
    expected = np.unique(rows, axis=0, return_counts=True)
    cells, counts = tally(list(rows.T))
    assert np.array_equal(cells, expected[0])
    assert np.array_equal(counts, expected[1])
    first, place = distinct(rows)
    assert np.array_equal(rows[first], expected[0])
    assert np.array_equal(rows[first][place], rows)


@pytest.mark.parametrize(("rows", "columns", "low", "high"), [(1, 100, 0, 2), (500, 90, -1, 3), (60, 2000, 0, 2)])
def test_rows_of_very_many_columns_are_told_apart_in_order(rows: int, columns: int, low: int, high: int) -> None:
    """A column for each metric of each class: too wide for one integer, and some rows differ in their last column."""
    rng = np.random.default_rng(0)
    some = rng.integers(low, high, (rows, columns))
    twins = some.copy()
    twins[:, -1] = low + (some[:, -1] == low)
    both = np.concatenate([some, twins, some])[rng.permutation(3 * rows)].astype(np.int8)
    expected = np.unique(both, axis=0, return_index=True, return_inverse=True)
    first, place = distinct(both)
    assert np.array_equal(first, expected[1])
    assert np.array_equal(place, expected[2].ravel())
