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

from fairguard import check
from fairguard.cli import run
from fairguard.config import load_settings
from fairguard.ranks import Ranks

ALONE = [sys.executable, "-m", "fairguard"]
TOGETHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fairguard"]
TORCHRUNS = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "localhost"}


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
    assert Path("two.csv").read_text() == Path("one.csv").read_text()


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
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    assert run(["repair", "dense.pt", "pruned.pt"]) == 2
    assert "only fairguard check runs under torchrun" in capsys.readouterr().err


def test_every_batch_is_one_processs() -> None:
    taken = [[batch for batch, mine in Ranks(rank, 3).shared("abcdefg") if mine] for rank in range(3)]
    assert sorted("".join(map("".join, taken))) == list("abcdefg")
    assert Ranks.here() == Ranks(0, 1)
    assert Ranks().gathered(lambda: 7) == [7]


def test_what_a_shell_has_left_is_no_torchrun(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.setenv(name, TORCHRUNS[name])
    assert Ranks.here() == Ranks()
    assert run(["check", "dense.pt", "pruned_preserved.pt", "--margin", "0.05"]) == 0


def test_a_script_of_several_processes_may_check_in_one_of_them(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TORCHRUNS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.distributed.init_process_group", lambda *_, **__: pytest.fail("waits for the others"))
    assert check("dense.pt", "pruned_preserved.pt", "applicants.parquet", settings=load_settings()).overall.n


def test_recorded_answers_with_ids_are_joined_by_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    ids, y = rng.permutation(6000), rng.integers(0, 2, 6000)
    pd.DataFrame({"id": ids, "y": y, "sex": rng.choice(["F", "M"], 6000)}).to_csv("rows.csv", index=False)
    for name, share, more in (("dense", 0.1, 0), ("pruned", 0.11, 5)):
        answers = np.where(rng.random(6000) < share, 1 - y, y)
        table = pd.DataFrame({"id": [*ids, *range(9000, 9000 + more)], "prediction": [*answers, *[0] * more]})
        table.sample(frac=1, random_state=0).to_csv(f"{name}.csv", index=False)
    words = ["check", "dense.csv", "pruned.csv", "--data", "rows.csv", "--label", "y", "--group", "sex"]
    words += ["--margin", "0.1", "--format", "json", "--batch-size", "500"]
    for how, name in ((ALONE, "one"), (TOGETHER, "two")):
        done = started(how, *words, "--output", f"{name}.json", "--flips", f"{name}.csv")
        assert done.returncode == 0, done.stderr
    one, two = (json.loads(Path(f"{name}.json").read_text()) for name in ("one", "two"))
    assert one["warnings"] == two["warnings"]
    assert "5 answers of pruned.csv are for ids that the data does not have." in two["warnings"]
    assert Path("two.csv").read_text() == Path("one.csv").read_text(), "flips that tie stand in the order of the rows"


SHARDED = """
import os
import numpy as np

def rows():
    rng = np.random.default_rng(0)
    x, sex = rng.normal(size=(4000, 2)).astype("float32"), rng.choice(["F", "M"], 4000)
    mine = slice(int(os.environ["RANK"]), None, int(os.environ["WORLD_SIZE"]))
    return x[mine], (x[mine, 0] > 0).astype(int), {"sex": sex[mine]}
"""


def test_code_that_shares_the_rows_out_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SHARDED)
    for seed, name in enumerate(("dense", "pruned")):
        answers = np.random.default_rng(seed).integers(0, 2, 4000)
        pd.DataFrame({"prediction": answers}).to_csv(f"{name}.csv", index=False)
    done = started(TOGETHER, "check", "dense.csv", "pruned.csv", "--data", "mine.py:rows")
    told = re.findall(r"^fairguard: .*$", done.stderr, re.MULTILINE)
    assert len(told) == 1, done.stderr
    assert "do not read the same rows" in told[0]
