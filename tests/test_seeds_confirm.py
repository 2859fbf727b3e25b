"""What seeds confirm: harmful flips that more than half of them make too, beside how many chance alone would give."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard import Verdict, check
from fairguard.report import text
from fairguard.testing.cache import load, save


def judged(folder: Path, y: np.ndarray, answers: list[np.ndarray], groups: dict[str, np.ndarray]) -> Verdict:
    """Return the verdict on recorded answers of dense, of pruned and of the seeds."""
    names = [str(folder / f"{k}.csv") for k in range(len(answers))]
    for name, given in zip(names, answers, strict=True):
        pd.DataFrame({"prediction": given}).to_csv(name, index=False)
    rows = pd.DataFrame({"y": y, **groups})
    how = {"label": "y", "groups": list(groups), "metrics": "accuracy", "permutations": 99}
    return check(names[0], names[1], rows, seeds=names[2:], **how)


def alone(rng: np.random.Generator, y: np.ndarray, group: np.ndarray, seeds: int) -> list[np.ndarray]:
    """Return answers of dense, pruned and seeds whose flips have nothing in common but the group, each at its rate."""
    dense = np.where(rng.random(len(y)) < 0.1, 1 - y, y)
    rates = rng.uniform(0.05, 0.45, (seeds + 1, 3))
    return [dense, *(np.where(rng.random(len(y)) < rate[group], 1 - dense, dense) for rate in rates)]


def test_flips_by_chance_are_confirmed_as_often_as_is_said(tmp_path: Path) -> None:
    """Over many worlds without anything systematic about a row, what is expected is what is found."""
    found, expected = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y, group = rng.integers(0, 2, 600), rng.choice(3, 600, p=[0.02, 0.28, 0.7])
        verdict = judged(tmp_path, y, alone(rng, y, group, 5 + seed % 2), {"g": group})
        found.append(verdict.confirmed_flips)
        expected.append(verdict.confirmed_by_chance)
    difference = np.array(found) - np.array(expected)
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(len(found))
    assert np.mean(expected) > 5


def test_rows_that_every_seed_gets_wrong_are_more_than_chance(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, group = rng.integers(0, 2, 4_000), rng.integers(0, 2, 4_000)
    fragile = rng.random(4_000) < 0.05
    answers = [y, *(np.where(rng.random(4_000) < np.where(fragile, 0.9, 0.02), 1 - y, y) for _ in range(6))]
    verdict = judged(tmp_path, y, answers, {"g": group})
    assert verdict.confirmed_flips > 0.8 * fragile.sum()
    assert verdict.confirmed_by_chance < 5
    told = f"{verdict.confirmed_flips} harmful flips confirmed (most seeds get the row wrong too; "
    assert f"{told}{verdict.confirmed_by_chance:.1f} expected by chance)" in text.render(verdict)


def test_the_chance_is_the_sum_over_who_gets_a_row_wrong(tmp_path: Path) -> None:
    """Every way that more than half of five seeds can hit a row, by group, written out."""
    rng = np.random.default_rng(1)
    y, group, age = rng.integers(0, 2, 900), rng.integers(0, 3, 900), rng.integers(0, 2, 900)
    answers = alone(rng, y, group, 5)
    verdict = judged(tmp_path, y, answers, {"g": group, "age": age})
    expected = 0.0
    for cell in itertools.product(range(3), range(2)):
        inside = (group == cell[0]) & (age == cell[1]) & (answers[0] == y)
        pruned, *seeds = ((answer != y)[inside].mean() for answer in answers[1:])
        ways = (w for w in itertools.product([0, 1], repeat=5) if sum(w) > 2)
        chance = sum(np.prod([p if hit else 1 - p for p, hit in zip(seeds, way, strict=True)]) for way in ways)
        expected += inside.sum() * pruned * chance
    assert verdict.confirmed_by_chance == pytest.approx(expected)
    wrong = np.array([answer != y for answer in answers[2:]]).sum(axis=0)
    assert verdict.confirmed_flips == ((answers[0] == y) & (answers[1] != y) & (wrong > 2)).sum()


def test_wrong_in_many_ways_is_wrong(tmp_path: Path) -> None:
    """Of four classes the seeds answer a different wrong one each: no answer is the most frequent, all are wrong."""
    y = np.resize([0, 1, 2, 3], 800)
    group = np.arange(800) // 4 % 2
    at = np.arange(800) < 40
    answers = [y] + [np.where(at, (y + 1 + k % 3) % 4, y) for k in range(7)]
    for k, answer in enumerate(answers[1:]):  # no copies of each other
        answer[100 + k] = (y[100 + k] + 1) % 4
    assert judged(tmp_path, y, answers, {"g": group}).confirmed_flips == 40


def test_counts_that_are_kept_keep_what_seeds_confirm(tmp_path: Path) -> None:
    from fairguard.checking import count, decide
    from fairguard.config import Settings
    from fairguard.opening import open_models, open_source

    rng = np.random.default_rng(2)
    y, group = rng.integers(0, 2, 900), rng.integers(0, 3, 900)
    usual = judged(tmp_path, y, alone(rng, y, group, 5), {"g": group})
    pd.DataFrame({"y": y, "g": group}).to_csv(tmp_path / "rows.csv", index=False)
    settings = Settings(data=str(tmp_path / "rows.csv"), label="y", groups=("g",), metrics=("accuracy",))
    models = open_models(str(tmp_path / "0.csv"), str(tmp_path / "1.csv"), settings)
    seeds = [open_models(str(tmp_path / "0.csv"), str(tmp_path / f"{k}.csv"), settings)[1] for k in range(2, 7)]
    source = open_source(settings.data, settings, models=models)
    save(count(*models, source, settings=settings, seeds=seeds), tmp_path / "kept.npz")
    again = decide(load(tmp_path / "kept.npz"), settings)
    assert again.confirmed_flips == usual.confirmed_flips
    assert again.confirmed_by_chance == pytest.approx(usual.confirmed_by_chance)
