"""Under torchrun several processes share the rows of a check, and all of it ends as in one process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fairguard.cli import run
from fairguard.ranks import Ranks

ALONE = [sys.executable, "-m", "fairguard"]
TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fairguard"]


@pytest.fixture
def project(applicants_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in applicants_dir.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def started(how: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"OMP_NUM_THREADS": "1", "FAIRGUARD_CACHE": "off"}  # the last digits depend on threads
    return subprocess.run([*how, *words], capture_output=True, text=True, env=settings, timeout=300)


def test_two_processes_come_to_the_verdict_of_one(project: Path) -> None:
    rows = pd.read_parquet("applicants.parquet")
    rows["person"] = np.arange(len(rows)) // 2
    rows.to_parquet("applicants.parquet")
    words = ["check", "dense.pt", "pruned_preserved.pt", "--format", "json", "--margin", "0.05", "--cluster", "person"]
    done = started(TOGETHER, *words, "--output", "two.json", "--flips", "two.csv")
    alone = started(ALONE, *words, "--output", "one.json", "--flips", "one.csv")
    assert done.returncode == alone.returncode == 0, done.stderr
    assert done.stderr.count("report: ") == 1, "the first process alone tells the verdict"
    two, one = (json.loads(Path(name).read_text()) for name in ("two.json", "one.json"))
    assert {name for name in one if one[name] != two[name]} == {"record"}
    assert sorted(Path("two.csv").read_text().splitlines()) == sorted(Path("one.csv").read_text().splitlines())


def test_what_one_process_finds_wrong_is_told_once_and_its_row_is_the_datas(project: Path) -> None:
    rows = pd.read_parquet("applicants.parquet")
    feature = next(name for name in rows.columns if rows[name].dtype.kind == "f")
    rows.loc[20_001, feature] = np.nan
    rows.to_parquet("applicants.parquet")
    done = started(TOGETHER, "check", "dense.pt", "pruned_preserved.pt")
    told = re.findall(r"^fairguard: .*$", done.stderr, re.MULTILINE)
    assert done.returncode != 0
    assert len(told) == 1
    assert run(["check", "dense.pt", "pruned_preserved.pt"]) == 2
    assert "20001" in told[0] or "20,001" in told[0]


def test_other_commands_are_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["repair", "dense.pt", "pruned.pt"]) == 2
    assert "only fairguard check runs under torchrun" in capsys.readouterr().err


def test_every_batch_is_one_processs() -> None:
    taken = [[batch for batch, mine in Ranks(rank, 3).shared("abcdefg") if mine] for rank in range(3)]
    assert sorted("".join(map("".join, taken))) == list("abcdefg")
    assert Ranks.here() == Ranks(0, 1)
    assert Ranks().gathered(lambda: 7) == [7]
