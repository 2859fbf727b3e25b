"""Counting the models judged on the same rows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard import check
from fairguard.history import false_alarm_bound, levels_on, with_runs


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRGUARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_model_counts_and_the_same_one_does_not(cache: Path) -> None:
    assert [len(levels_on("rows", model, alpha=0.05)) for model in ("a", "b", "a", "c")] == [1, 2, 2, 3]
    assert levels_on("other rows", "a", alpha=0.05) == [0.05]


def test_each_model_counts_at_the_largest_alpha_that_it_was_judged_at(cache: Path) -> None:
    levels_on("rows", "a", alpha=0.05)
    levels_on("rows", "b", alpha=0.01)
    levels_on("rows", "a", alpha=0.01)
    assert levels_on("rows", "c", alpha=0.01) == [0.05, 0.01, 0.01]
    assert false_alarm_bound([0.05, 0.01, 0.01]) == pytest.approx(1 - 0.95 * 0.99 * 0.99)


def test_only_digests_are_kept(cache: Path) -> None:
    levels_on("d" * 64, "p" * 64, alpha=0.05)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == [f'{{"{"p" * 64}": 0.05}}']


def test_nothing_is_kept_when_told_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRGUARD_CACHE", "off")
    assert levels_on("rows", "a", alpha=0.05) is None
    assert not cache.exists()


@pytest.mark.parametrize("content", ["{", '{"a": "x"}', '["a"]', "7", "\x00"])
def test_a_broken_file_is_begun_anew(cache: Path, content: str) -> None:
    (cache / "runs").mkdir(parents=True)
    (cache / "runs" / "rows.json").write_text(content)
    assert levels_on("rows", "a", alpha=0.05) == [0.05]


def test_a_cache_that_is_a_file_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRGUARD_CACHE", str(tmp_path / "file"))
    assert levels_on("rows", "a", alpha=0.05) == [0.05]


def test_ten_pull_requests_at_five_percent() -> None:
    assert false_alarm_bound([0.05]) == pytest.approx(0.05)
    assert false_alarm_bound([0.05] * 10) == pytest.approx(0.401, abs=0.001)


@pytest.fixture
def judged(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that judges answers of which a share flipped, and says how many looks that makes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2000)
    frame = {"y": y, "z": 1 - y, "sex": rng.choice(["F", "M"], 2000), "race": rng.choice(["A", "B"], 2000)}
    pd.DataFrame(frame).to_csv("rows.csv", index=False)
    pd.DataFrame({"prediction": y}).to_csv("dense.csv", index=False)

    def look(
        seed: int, *, name: str = "pruned.csv", label: str = "y", groups: str = "sex", **how: object
    ) -> int | None:
        chosen = np.random.default_rng(seed).random(2000) < 0.05 * (seed > 0)
        table = pd.DataFrame({"prediction": np.where(chosen, 1 - y, y)})
        (table.to_csv if name.endswith("csv") else table.to_parquet)(name, index=False)
        verdict = with_runs(check("dense.csv", name, "rows.csv", label=label, groups=[groups], **how))
        return verdict.record.get("same_rows", {}).get("models_judged")

    return look


def test_the_same_answers_in_another_file_are_no_second_look(judged) -> None:
    assert [judged(1), judged(1), judged(1, name="again.parquet"), judged(1, intersections=1), judged(2)] == [
        1,
        1,
        1,
        1,
        2,
    ]


def test_two_models_that_flip_as_many_rows_of_each_group_are_two(cache: Path, tmp_path: Path) -> None:
    y = np.tile([0, 1], 200)
    pd.DataFrame({"y": y, "sex": np.repeat(["F", "M"], 200)}).to_csv(tmp_path / "rows.csv", index=False)
    pd.DataFrame({"prediction": y}).to_csv(tmp_path / "dense.csv", index=False)
    looks = []
    for flipped, suffix in (([0, 2, 200], "csv"), ([4, 6, 202], "csv"), ([4, 6, 202], "parquet")):
        answers = pd.DataFrame({"prediction": np.where(np.isin(np.arange(400), flipped), 1 - y, y)})
        path = tmp_path / f"pruned.{suffix}"
        (answers.to_csv if suffix == "csv" else answers.to_parquet)(path, index=False)
        verdict = with_runs(check(tmp_path / "dense.csv", path, tmp_path / "rows.csv", label="y", groups=["sex"]))
        looks.append(verdict.record["same_rows"]["models_judged"])
    assert looks == [1, 2, 2]


def test_another_label_or_other_groups_are_another_question(judged) -> None:
    assert [judged(1), judged(2), judged(3, label="z"), judged(3, groups="race"), judged(3)] == [1, 2, 1, 1, 3]


def test_dense_against_itself_is_no_look(judged) -> None:
    assert [judged(0), judged(1), judged(0)] == [None, 1, None]


def test_the_same_model_weighed_or_clustered_is_no_second_look(cache: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    rows = pd.DataFrame({"y": y, "sex": np.repeat(["F", "M"], 200), "w": rng.integers(1, 4, 400), "who": range(400)})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for name, answers in (("dense", y), ("pruned", np.where(rng.random(400) < 0.1, 1 - y, y))):
        pd.DataFrame({"prediction": answers}).to_csv(tmp_path / f"{name}.csv", index=False)
    files = [tmp_path / f"{name}.csv" for name in ("dense", "pruned", "rows")]
    for how in ({}, {"weight": "w"}, {"weight": "w", "cluster": "who"}):
        verdict = with_runs(check(*files, label="y", groups=["sex"], **how))
        assert verdict.record["same_rows"]["models_judged"] == 1
