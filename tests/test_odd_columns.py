"""Columns of every type that Arrow knows: different values stay different groups and classes, and nothing crashes."""

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairguard import check, check_predictions
from fairguard.cli import run
from fairguard.errors import DataError, FairguardError, ModelError

N = 6_000
FAR = 2**62
NO_TEXT = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))


@pytest.fixture
def harmed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """Recorded answers of a net and of its pruned one, which harms the first of three groups alone."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, N), rng.integers(0, 3, N)
    hit = (group == 0) & (rng.random(N) < 0.06)
    write("dense.parquet", prediction=y)
    write("pruned.parquet", prediction=np.where(hit, 1 - y, y))
    return y, group


def write(name: str, **columns: Any) -> None:
    pq.write_table(pa.table(columns), name)


def judged(**options: Any) -> Any:
    return check(
        "dense.parquet", "pruned.parquet", **{"data": "rows.parquet", "label": "y", "groups": ["g"], **options}
    )


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"\xff", b"\xfe", b"A"]),
        pa.array([b"\xff", b"\xfe", b"A"], type=pa.large_binary()),
        pa.array([1_000_000_001, 1_000_000_002, 5_000_000_000], type=pa.time64("ns")),
        pa.array([1, 2, FAR], type=pa.timestamp("ns")),
        pa.array([FAR, FAR - 1, 0], type=pa.timestamp("ms")),
        pa.array([1, 2, 3], type=pa.timestamp("ns", tz="Nowhere/No")),
        pa.array([FAR, FAR - 1, 0], type=pa.duration("s")),
        pa.array([2**30, 2**30 + 1, 0], type=pa.date32()),
        pa.array([Decimal("0.10"), Decimal("0.11"), Decimal(10**30)], type=pa.decimal256(60, 2)),
        pa.concat_arrays([NO_TEXT, pa.array(["\ufffd", "A"])]),
    ],
    ids=lambda values: str(values.type),
)
def test_different_values_are_different_groups(harmed: tuple[np.ndarray, np.ndarray], values: Any) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=values.take(pa.array(group)))
    verdict = judged()
    sizes = {finding.group: finding.n for finding in verdict.findings if finding.metric == "accuracy"}
    assert verdict.outcome == "regressed"
    assert len(sizes) == 3
    assert sum(sizes.values()) == N
    (worst,) = {finding.group for finding in verdict.findings if finding.outcome == "regressed"}
    assert sizes[worst] == (group == 0).sum()


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"\xfe", b"\xff"]),
        pa.array([1_000_000_001, 1_000_000_002], type=pa.time64("ns")),
        pa.array([FAR, FAR - 1], type=pa.timestamp("ms")),
        pa.array([Decimal("0.00"), Decimal("1.00")], type=pa.decimal128(30, 2)),
        pa.array([Decimal(0), Decimal(1)], type=pa.decimal256(60, 2)),
        pa.array([0, 10**17]),
        pa.array(["00", "01"]),
        pa.array(["\u0660", "\u0661"]),
        pa.array(["\u00b2", "\u00b3"]),
    ],
    ids=lambda values: (
        f"{values.type} {values.to_numpy(zero_copy_only=False).tolist()!r}"
        if not pa.types.is_temporal(values.type)
        else str(values.type)
    ),
)
def test_labels_and_recorded_answers_of_one_type_meet(harmed: tuple[np.ndarray, np.ndarray], values: Any) -> None:
    y, group = harmed
    places = pq.read_table("pruned.parquet").column("prediction").to_numpy()
    write("dense.parquet", prediction=values.take(pa.array(y)))
    write("pruned.parquet", prediction=values.take(pa.array(places)))
    write("rows.parquet", y=values.take(pa.array(y)), g=np.array(["a", "b", "c"])[group])
    assert judged().overall.n == N
    assert [each.group for each in judged().findings if each.outcome == "regressed"] == ["g=a"] * 3


NESTED = {
    "list": [[1], [2]],
    "struct": [{"a": 1}, {"a": 2}],
    "map": pa.array([[("a", 1)], [("a", 2)]], type=pa.map_(pa.string(), pa.int64())),
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_column_of_lists_is_refused_by_its_type(
    harmed: tuple[np.ndarray, np.ndarray], kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    y, group = harmed
    column = pa.array(NESTED[kind]).take(pa.array(y))
    write("rows.parquet", y=y, g=column, sex=np.array(["F", "M", "X"])[group])
    write("labels.parquet", y=column, g=group)
    write("answers.parquet", prediction=column)
    with pytest.raises(DataError, match=rf"group 'g' holds {kind}.*; name a column of text"):
        judged()
    with pytest.raises(DataError, match=rf"label column 'y' holds {kind}.*; name a column of text"):
        judged(data="labels.parquet")
    with pytest.raises(ModelError, match=rf"column 'prediction' holds {kind}.*; name a column of text"):
        check("dense.parquet", "answers.parquet", data="rows.parquet", label="y", groups=["sex"])
    asked = ["check", "dense.parquet", "pruned.parquet", "--data", "rows.parquet", "--label", "y", "--group", "sex"]
    for option in ("--id", "--cluster", "--weight"):
        assert run([*asked, option, "g"]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert "internal" not in told


def test_two_columns_of_one_name_are_refused(
    harmed: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    y, group = harmed
    twice = pa.table([pa.array(y), pa.array(group), pa.array(group)], names=["y", "g", "g"])
    pq.write_table(twice, "rows.parquet")
    with pytest.raises(DataError, match=r"rows.parquet has two columns 'g'; give each column its own name"):
        judged()
    assert run(["init", "rows.parquet"]) == 2
    assert "has two columns 'g'" in capsys.readouterr().err


def test_arrays_that_no_column_holds_are_refused_in_a_line() -> None:
    y = np.arange(400) % 2
    sex = np.where(np.arange(400) % 3, "F", "M")
    refused = {
        "of more than 64 bits": [10**40 * int(v) for v in y],
        "no Unicode": np.where(y == 1, "a\udcff", "b"),
        "holds list": [[int(v)] for v in y],
        "holds struct": [{"a": int(v)} for v in y],
    }
    for message, values in refused.items():
        with pytest.raises(DataError, match=message):
            check_predictions(y, y, y, {"g": values})
        with pytest.raises(FairguardError):
            check_predictions(values, values, values, {"g": sex})
    far = (y * 10**9).astype("M8[D]")
    assert check_predictions(y, y, y, {"g": far}).overall.n == 400
    days = np.array([datetime.date(2020, 1, 1 + int(v)) for v in y], dtype=object)
    assert {f.group for f in check_predictions(y, y, y, {"g": days}).findings} == {"g=2020-01-01", "g=2020-01-02"}


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("stray", [50_000_000, 10**12])
def test_a_far_answer_takes_no_memory(
    harmed: tuple[np.ndarray, np.ndarray], stray: int, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=group)
    write("pruned.parquet", prediction=np.where(y == 1, stray, 0))
    if labelled:
        with pytest.raises(ModelError, match=rf"answers '{stray}', which is no label of the data; its labels are 0, 1"):
            judged()
    else:  # 1 and the far answer are two classes, not one
        verdict = judged(label=None)
        assert {f.n for f in verdict.findings} <= {int((group == k).sum()) for k in range(3)}
        assert verdict.overall.other_flips == int(y.sum())


def test_rows_that_weigh_nothing_hide_no_part_of_an_excess(harmed: tuple[np.ndarray, np.ndarray]) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=group)
    found = [f for f in judged(weight="y").findings if f.metric == "accuracy"]
    assert [f.composition + f.specific for f in found] == pytest.approx([f.estimate for f in found], abs=1e-9)


@pytest.mark.parametrize("option", ["id", "cluster"])
def test_ids_that_are_no_text_are_refused(harmed: tuple[np.ndarray, np.ndarray], option: str) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=group, c=pa.concat_arrays([NO_TEXT, pa.array(["A"])]).take(pa.array(y)))
    with pytest.raises(DataError, match=rf"column 'c' \(--{option}\) holds text that is no UTF-8"):
        judged(**{option: "c"})


def test_scores_as_large_as_numbers_go_are_summed_in_silence(harmed: tuple[np.ndarray, np.ndarray]) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=group)
    write("dense.parquet", score=np.where(y == 1, 1.7e308, -1.7e308))
    assert judged().outcome == "regressed"


@pytest.mark.parametrize("answer", [np.inf, 1e300, -np.inf])
def test_an_answer_that_is_no_whole_number_is_named_without_a_warning(
    harmed: tuple[np.ndarray, np.ndarray], answer: float
) -> None:
    y, group = harmed
    write("rows.parquet", y=y, g=group)
    write("pruned.parquet", prediction=np.where(y == 1, answer, 0.0))
    with pytest.raises(ModelError, match="labels are whole numbers, or text"):
        judged()


def test_columns_of_numbered_classes_count_by_their_numbers(harmed: tuple[np.ndarray, np.ndarray]) -> None:
    y, group = harmed
    places = pq.read_table("pruned.parquet").column("prediction").to_numpy()
    write("rows.parquet", y=y, g=group)
    write("dense.parquet", score_0=1.0 - y, score_1=1.0 * y)
    write("pruned.parquet", score_1=1.0 * places, score_0=1.0 - places)
    assert 0 < judged().overall.harmful_flips < N / 10
