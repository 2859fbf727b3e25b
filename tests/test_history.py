"""Counting the models judged on the same rows."""

from pathlib import Path

import pytest

from fairguard.history import false_alarm_bound, runs_on


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAIRGUARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_another_model_counts_and_the_same_one_does_not(cache: Path) -> None:
    assert [runs_on("rows", model) for model in ("a", "b", "a", "c")] == [1, 2, 2, 3]
    assert runs_on("other rows", "a") == 1


def test_only_digests_are_kept(cache: Path) -> None:
    runs_on("d" * 64, "p" * 64)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert [path.read_text() for path in files] == [f'["{"p" * 64}"]']


def test_nothing_is_kept_when_told_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIRGUARD_CACHE", "off")
    assert runs_on("rows", "a") is None
    assert not cache.exists()


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "\x00"])
def test_a_broken_file_is_begun_anew(cache: Path, content: str) -> None:
    (cache / "runs").mkdir(parents=True)
    (cache / "runs" / "rows.json").write_text(content)
    assert runs_on("rows", "a") == 1


def test_a_cache_that_is_a_file_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FAIRGUARD_CACHE", str(tmp_path / "file"))
    assert runs_on("rows", "a") == 1


def test_ten_pull_requests_at_five_percent() -> None:
    assert false_alarm_bound(1, 0.05) == pytest.approx(0.05)
    assert false_alarm_bound(10, 0.05) == pytest.approx(0.401, abs=0.001)
