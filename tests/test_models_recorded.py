"""The door for models, recorded answers: CSV, Parquet, npz and arrays, joined by id or by number."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from model_files import expected, rows

from fairguard.checking import check
from fairguard.errors import ModelError
from fairguard.inputs.limits import Limits
from fairguard.inputs.models import load_model
from fairguard.inputs.predictor import ScoreKind

LABELS = expected().argmax(1)
WORDS = np.array(["cat", "dog", "fox"])[LABELS]


def table(path: Path, **columns: Any) -> Path:
    frame = pd.DataFrame(columns)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".txt"])
def test_labels_joined_by_id_in_any_order(tmp_path: Path, suffix: str) -> None:
    order = np.random.default_rng(0).permutation(60)
    model = load_model(table(tmp_path / f"p{suffix}", id=order, prediction=LABELS[order]))
    assert (model.kind, model.classes, model.rows) == (ScoreKind.LABELS, None, None)
    np.testing.assert_array_equal(model.scores(rows(10, start=20)), LABELS[20:30])


def test_text_ids_and_text_labels(tmp_path: Path) -> None:
    ids = [f"row-{i}" for i in range(60)]
    model = load_model(table(tmp_path / "p.csv", prediction=WORDS, id=ids))
    assert model.classes == tuple(sorted(set(WORDS)))
    found = np.array(model.classes)[model.scores(rows(3, ids=np.array(ids[5:8], dtype=object)))]
    np.testing.assert_array_equal(found, WORDS[5:8])


def test_labels_in_the_order_of_the_rows(tmp_path: Path) -> None:
    model = load_model(table(tmp_path / "p.parquet", prediction=LABELS))
    assert model.rows == 60
    np.testing.assert_array_equal(model.scores(rows(10, start=20)), LABELS[20:30])
    with pytest.raises(ModelError, match="has 60 answers, the data has more rows"):
        model.scores(rows(10, start=55, x=rows(10).x))


@pytest.mark.parametrize("name", ["labels", "prediction", "y_pred"])
def test_whole_numbers_with_a_point_are_labels_in_a_table_and_in_an_archive(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "p.npz", **{name: LABELS.astype(np.float32)})
    for path in (tmp_path / "p.npz", table(tmp_path / "p.csv", **{name: LABELS.astype(float)})):
        model = load_model(path)
        assert model.kind is ScoreKind.LABELS
        np.testing.assert_array_equal(model.scores(rows()), LABELS)
    np.savez(tmp_path / "s.npz", **{name: expected()[:, 0]})
    for path in (tmp_path / "s.npz", table(tmp_path / "s.csv", **{name: expected()[:, 0]})):
        with pytest.raises(ModelError, match="labels are whole numbers, or text; call scores `score`"):
            load_model(path)
    np.savez(tmp_path / "many.npz", **{name: expected()})
    np.testing.assert_array_equal(load_model(tmp_path / "many.npz").scores(rows()), expected())


def test_one_score_column_and_one_for_each_class(tmp_path: Path) -> None:
    single = load_model(table(tmp_path / "one.csv", score=expected()[:, 0]))
    assert single.scores(rows()).shape == (60, 1)
    columns = {f"prob_{name}": expected()[:, k] for k, name in enumerate(["cat", "dog", "fox"])}
    named = load_model(table(tmp_path / "many.csv", id=np.arange(60), confidence=expected().max(1), **columns))
    assert named.classes == ("cat", "dog", "fox")
    np.testing.assert_allclose(named.scores(rows()), expected(), rtol=1e-6)
    numbered = load_model(table(tmp_path / "numbered.csv", **{f"score_{k}": expected()[:, k] for k in range(3)}))
    assert numbered.classes is None


def test_npz_of_scores_labels_and_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "s.npz", scores=expected().astype(np.float16))
    np.savez(tmp_path / "l.npz", labels=WORDS[::-1], ids=np.arange(60)[::-1])
    scores = load_model(tmp_path / "s.npz").scores(rows())
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected(), atol=1e-2)
    labels = load_model(tmp_path / "l.npz")
    np.testing.assert_array_equal(np.array(labels.classes)[labels.scores(rows())], WORDS)


def test_one_of_several_models_in_an_npz(tmp_path: Path) -> None:
    both = np.stack([expected(), -expected()])
    path = tmp_path / "m.npz"
    np.savez(path, logits=both, models=np.array(["dense", "pruned"]), extra_scores=expected() * 2)
    np.testing.assert_array_equal(load_model(f"{path}::pruned").scores(rows()), -expected())
    np.testing.assert_array_equal(load_model(f"{path}::extra_scores").scores(rows()), expected() * 2)
    with pytest.raises(ModelError, match=r"holds several models; add one as .*::NAME: dense, pruned"):
        load_model(path)
    with pytest.raises(ModelError, match=r"has no model or array 'prune'. Did you mean 'pruned'"):
        load_model(f"{path}::prune")
    with pytest.raises(ModelError, match="only npz files hold several models"):
        load_model(f"{table(tmp_path / 'p.csv', prediction=LABELS)}::pruned")


def test_arrays_in_memory() -> None:
    assert load_model(LABELS).kind is ScoreKind.LABELS
    assert load_model(expected()).kind is ScoreKind.SCORES
    assert load_model(list(WORDS)).classes == tuple(sorted(set(WORDS)))
    assert load_model(expected()[:, 0]).scores(rows()).shape == (60, 1)
    np.testing.assert_array_equal(load_model(LABELS == 1).scores(rows()), LABELS == 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 2, 2], "prediction": [0, 1, 0]}, "1 answers for ids that it has already: 2"),
        ({"id": [1, 2, None], "prediction": [0, 1, 0]}, "1 answers without an id"),
        ({"id": [1, 2, 3], "prediction": [0, 1, None]}, "rows without an answer"),
        ({"id": [1, 2, 3], "prediction": ["a", None, "b"]}, "rows without an answer"),
        ({"id": [1, 2, 3], "prediction": [0, 1, 0.5]}, "has label 0.5"),
        ({"id": [1, 2, 3], "score": ["a", "b", "c"]}, "column 'score' holds"),
        ({"id": [1, 2, 3], "sex": ["a", "b", "c"]}, "has no answers; its columns are id, sex. Give a column"),
        ({"id": [], "prediction": []}, "has no rows"),
        ({"id": [0, 1, 3], "prediction": [0, 1, 0]}, "has no answer for the rows with id 2, 4, 5, 6 and 53 more"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_that_cannot_be_used(tmp_path: Path, suffix: str, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)) as refused:
        load_model(table(tmp_path / f"p{suffix}", **columns)).scores(rows())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"predicted_by_me": LABELS}, "has no answers; its arrays are predicted_by_me"),
        ({"labels": WORDS.astype(object)}, "holds Python objects"),
        ({"labels": LABELS, "ids": np.arange(59)}, "60 answers and ids of shape (59,)"),
        ({"labels": LABELS, "ids": np.zeros(60)}, "59 answers for ids that it has already"),
        ({"scores": np.zeros((4, 5, 6))}, "answers of shape (4, 5, 6)"),
        ({"scores": WORDS}, "not numbers"),
    ],
)
def test_npz_files_that_cannot_be_used(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(tmp_path / "p.npz")


def test_limits_can_be_raised(tmp_path: Path) -> None:
    path = table(tmp_path / "p.parquet", prediction=np.zeros(50_000, dtype=np.int64))
    strict = Limits(free_bytes=1000, ratio=1)
    with pytest.raises(ModelError, match=r"claims 400.0 kB of rows"):
        load_model(path, limits=strict)
    assert load_model(path).rows == 50_000


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_answers_are_joined_by_the_column_that_names_the_rows(tmp_path: Path, suffix: str) -> None:
    truth = pd.DataFrame({"uid": [f"u{i:03}" for i in range(200)], "y": [0, 1] * 100, "sex": ["F", "F", "M", "M"] * 50})
    mixed = truth.sample(frac=1, random_state=0)
    answers = {"uid": mixed["uid"].to_numpy().astype(str), "label": mixed["y"].to_numpy()}
    if suffix == "npz":
        np.savez(tmp_path / "a.npz", **answers)
    else:
        table(tmp_path / f"a.{suffix}", **answers, id=range(200))  # numbers of its own: not those
    other = table(tmp_path / "b.csv", id=truth["uid"], prediction=truth["y"])
    how: dict[str, Any] = {"label": "y", "groups": ["sex"], "id": "uid"}
    verdict = check(tmp_path / f"a.{suffix}", other, truth, **how)
    assert (verdict.overall.accuracy.dense, verdict.overall.accuracy.pruned) == (1.0, 1.0)
    nameless = table(tmp_path / "c.csv", prediction=truth["y"])
    with pytest.raises(ModelError, match=r"no column of ids \(uid, id, ids, row_id, sample_id\) to join by"):
        check(nameless, nameless, truth, **how)


@pytest.mark.parametrize("names", [("ID", "id"), ("id", "ID")])
def test_the_exact_name_of_an_id_column_of_answers_wins(tmp_path: Path, names: tuple[str, str]) -> None:
    ids = {name: np.arange(3) + (100 if name == "ID" else 0) for name in names}
    path = table(tmp_path / "a.csv", **ids, prediction=[0, 1, 2], Prediction=[9, 9, 9])
    assert load_model(path).scores(rows(3)).tolist() == [0, 1, 2]
