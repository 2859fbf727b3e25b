"""Arrays of every kind become the same counts; what cannot be counted is told in one line."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from count_tables import draw

from fairguard.errors import DataError
from fairguard.in_memory import count_arrays
from fairguard.judge.counts import CountTable

Y = np.array([0, 1, 1, 0, 1, 0])
DENSE = np.array([0, 1, 0, 0, 1, 1])
PRUNED = np.array([0, 0, 1, 0, 1, 1])
SEX = np.array(["F", "M", "F", "M", "F", "M"])


def content(table: CountTable) -> dict[tuple[Any, ...], int]:
    """Rows by the names of their values."""
    return {
        (
            *(table.levels[i][code] for i, code in enumerate(row[:-3])),
            *("-" if code < 0 else table.classes[code] for code in row[-3:]),
        ): int(count)
        for row, count in zip(table.cells.tolist(), table.counts, strict=True)
    }


EXPECTED = {
    ("F", "0", "0", "0"): 1,
    ("M", "1", "1", "0"): 1,
    ("F", "1", "0", "1"): 1,
    ("M", "0", "0", "0"): 1,
    ("F", "1", "1", "1"): 1,
    ("M", "0", "1", "1"): 1,
}


@pytest.mark.parametrize(
    "kind", [np.asarray, list, pd.Series, torch.tensor, lambda x: x.astype(float), lambda x: x.astype(bool)]
)
def test_any_kind_of_array(kind: Any) -> None:
    assert content(count_arrays(kind(Y), kind(DENSE), kind(PRUNED), {"sex": SEX})) == EXPECTED


def test_kinds_may_differ() -> None:
    scores = torch.nn.functional.one_hot(torch.tensor(DENSE), 2).float().requires_grad_()
    table = count_arrays(pd.Series(Y, index=range(9, 15)), scores, PRUNED.tolist(), pd.DataFrame({"sex": SEX}))
    assert content(table) == EXPECTED


def test_a_column_of_a_table_is_named_already() -> None:
    assert content(count_arrays(Y, DENSE, PRUNED, pd.Series(SEX, name="sex"))) == EXPECTED


def test_text_labels() -> None:
    names = np.array(["no", "yes"])
    table = count_arrays(names[Y], pd.Categorical(names[DENSE]), names[PRUNED].tolist(), {"sex": pd.Categorical(SEX)})
    assert table.classes == ("no", "yes")
    assert content(table) == {
        (sex, *("yes" if value == "1" else "no" for value in rest)): count for (sex, *rest), count in EXPECTED.items()
    }


def test_scores_may_know_more_classes_than_the_labels() -> None:
    scores = np.zeros((6, 4))
    scores[np.arange(6), [0, 1, 3, 0, 1, 1]] = 1.0
    assert count_arrays(Y, scores, PRUNED, {"sex": SEX}).classes == ("0", "1", "2", "3")


def test_without_labels() -> None:
    table = count_arrays(None, DENSE, PRUNED, {"sex": SEX})
    assert not table.labelled
    assert table.n == 6


def test_several_features_missing_values_and_bins() -> None:
    age = [20, 30, np.nan, 70, 20, 30]
    table = count_arrays(Y, DENSE, PRUNED, {"sex": [None, *SEX[1:]], "age:25,65": age})
    assert table.columns == ("sex", "age")
    assert set(table.levels[0]) == {"F", "M", "(missing)"}
    assert set(table.levels[1]) == {"<25", "25-65", ">=65", "(missing)"}


def test_counts_are_those_of_the_codes() -> None:
    table = draw(2000, 3)
    rows = np.repeat(table.cells, table.counts, axis=0)
    again = count_arrays(rows[:, 1], rows[:, 2], rows[:, 3], {"c0": np.array(table.levels[0])[rows[:, 0]]})
    assert content(again) == content(table)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"y": Y[:-1]}, "lengths differ: y 5, dense 6, pruned 6, group 'sex' 6; give one value per row in each."),
        ({"groups": {"sex": SEX[:2]}}, "lengths differ: y 6, dense 6, pruned 6, group 'sex' 2"),
        ({"y": [0.0, 1.0, float("nan"), 0.0, 1.0, 0.0]}, "y has no value in 1 of 6 rows, the first is row 2 (from 0)"),
        ({"pruned": [0, None, 1, 0, 1, 1]}, "pruned has no value in 1 of 6 rows"),
        ({"pruned": np.array(["a"] * 6)}, "pruned holds 'a' in row 0 (from 0), which is no label; labels: 0, 1."),
        ({"y": [], "dense": [], "pruned": [], "groups": {"sex": []}}, "there are no rows"),
        ({"groups": {}}, "groups is empty; name a sensitive feature"),
        ({"groups": SEX}, "groups is a ndarray; name each sensitive feature: groups={'sex': values}."),
        ({"groups": pd.Series(SEX)}, "groups is a Series; name each sensitive feature: groups={'sex': values}."),
        ({"groups": {"sex": ["F"] * 6}}, "group 'sex' has one value, 'F', in all 6 rows"),
        ({"dense": np.full((6, 2), np.nan)}, "dense has a score that is not finite in row 0 (from 0)."),
        ({"dense": DENSE[:, None]}, "dense has shape (6, 1); give predicted labels, as values.ravel(), or the scores"),
        ({"dense": np.full((6, 2), "a")}, "scores are numbers"),
        ({"y": Y.reshape(2, 3)}, "y has shape (2, 3); it must have one value per row."),
        ({"y": 1}, "y is 1; give one value per row."),
    ],
)
def test_one_line_says_what_is_wrong(change: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {"y": Y, "dense": DENSE, "pruned": PRUNED, "groups": {"sex": SEX}} | change
    with pytest.raises(DataError) as caught:
        count_arrays(**given)
    assert line in str(caught.value)


def test_a_misspelt_prediction() -> None:
    names = np.array(["cat", "dog"])
    wrong = names[PRUNED].astype(object)
    wrong[4] = "dgo"
    with pytest.raises(DataError, match=r"pruned holds 'dgo' in row 4 .* labels: cat, dog. Did you mean 'dog'"):
        count_arrays(names[Y], names[DENSE], wrong, {"sex": SEX})


def test_scores_are_of_the_labels_in_their_order() -> None:
    """A column of scores is the class of its place: of 0 .. K-1 where the labels are such, else of the labels."""
    scores = np.eye(2)
    for names in (np.array([1, 2]), np.array([0, 255]), np.array(["no", "yes"])):
        table = count_arrays(names[Y], scores[DENSE], scores[PRUNED], {"sex": SEX})
        assert table.classes == tuple(map(str, names))
        assert list(content(table).values()) == list(EXPECTED.values())
        mixed = count_arrays(names[Y], names[DENSE], scores[PRUNED], {"sex": SEX})
        assert content(mixed) == content(table)
    assert count_arrays(Y + 1, np.eye(3)[DENSE + 1], PRUNED + 1, {"sex": SEX}).classes == ("0", "1", "2")
    named = count_arrays(Y, scores[DENSE], scores[PRUNED], {"sex": SEX}, classes=["no", "yes"])
    assert named.classes == ("no", "yes")
    text = count_arrays(np.array(["b", "a"])[Y], scores[DENSE], scores[PRUNED], {"sex": SEX}, classes=["b", "a"])
    assert list(content(text).values()) == list(EXPECTED.values())


def test_two_numbers_are_two_classes_whatever_they_are() -> None:
    for low, high in ((1, 2), (0, 255), (2, 7)):
        names = np.array([low, high])
        table = count_arrays(names[Y], names[DENSE], names[PRUNED], {"sex": SEX})
        assert table.classes == (str(low), str(high))
    assert count_arrays([1, 2, 3, 3], [1, 2, 3, 3], [1, 2, 3, 1], {"g": list("aabb")}).classes == tuple("0123")
    with pytest.raises(DataError, match=r"pruned answers '0', which is no label .* are 1, 2\. .* classes=\[\.\.\.\]"):
        count_arrays([1, 2], [1, 1], [1, 0], {"g": list("ab")})
    assert count_arrays([1, 2], [1, 1], [1, 0], {"g": list("ab")}, classes="012").classes == tuple("012"), "as named"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"y": [0, 1, 2, 0, 1, 0]}, "dense has scores of 2 classes, and there are 3: 0, 1, 2. Name the class of each"),
        ({"y": list("abcabc")}, "dense has scores of 2 classes, and there are 3: a, b, c. Name the class of each"),
        ({"classes": ["a", "b", "c"]}, "dense has scores of 2 classes, and there are 3: a, b, c."),
        ({"pruned": np.eye(3)[PRUNED]}, "dense has scores of 2 classes and pruned of 3."),
        ({"pruned": PRUNED * 0.6}, "pruned holds 0.6 in row 2 (from 0), a score and no class: give the answers"),
    ],
)
def test_scores_of_other_classes_are_refused(change: dict[str, Any], line: str) -> None:
    given: dict[str, Any] = {"y": Y, "dense": np.eye(2)[DENSE], "pruned": PRUNED, "groups": {"sex": SEX}} | change
    with pytest.raises(DataError) as caught:
        count_arrays(**given)
    assert line in str(caught.value)
