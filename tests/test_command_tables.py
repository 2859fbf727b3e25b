"""Options that only one command takes stand in a table of its name: ``[repair]``, ``[prune]``."""

import json
import shutil
from pathlib import Path

import pytest

from fairguard.cli import run
from fairguard.config import load_settings

BASE = 'model = "model.py:build"\ndata = "test.parquet"\nlabel = "digit"\ngroups = ["class"]\nmargin = 0.10\n'
REPAIR = ["repair", "dense.pt", "pruned.pt", "-q"]


@pytest.fixture
def project(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("dense.pt", "pruned.pt", "train.parquet", "test.parquet", "model.py"):
        shutil.copy(folder / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_repair_takes_its_table_and_the_command_line_wins(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = 'train = "train.parquet"\nbudget = "2epochs"\nkeep-mask = true\nfor = "class=3"\nkeep-best = true\n'
    (project / "fairguard.toml").write_text(f"{BASE}\n[repair]\n{table}")
    assert load_settings().margin == 0.10, "a check reads past the table"
    (project / "below").mkdir()
    monkeypatch.chdir(project / "below")
    command = ["repair", "../dense.pt", "../pruned.pt", "-q", "-o", "fair.pt", "--budget", "3epochs"]
    assert run(command) in (0, 1, 3)
    how = json.loads((project / "below" / "fair.pt.report.json").read_text())
    plan = how["settings"]["plan"]
    assert (plan["budget"], plan["keep_mask"], plan["only"]) == ("3epochs", True, ["class=3"])
    assert how["method"] == "keep-mask"


def test_prune_has_a_table_too(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "fairguard.toml").write_text(f'{BASE}\n[prune]\nsparsity = 0.5\nmethod = "one-shot"\n[repair]\nlr = 1\n')
    assert run(["prune", "dense.pt", "-o", "half.pt"]) in (0, 1, 3)
    assert "50.0 %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("budgt = '1x'", "[repair]: unknown option 'budgt'. Did you mean 'budget'?"),
        ("resume = true", "[repair]: unknown option 'resume'. Options: train, verify, tune, method, budget,"),
        ("margin = 0.1", "option 'margin' is every command's, not repair's alone: write it above [repair]"),
        ("trust = true", "'trust' is for the command line alone"),
        ("keep-mask = 'yes'", "[repair]: option 'keep_mask' is 'yes': give true or false."),
        ("method = true", "[repair]: option 'method' is True: give a value."),
        ("for = [['class=3']]", "[repair]: option 'for' is [['class=3']]: give one value, or a list of them."),
        ("train = ['a', 'b']", "[repair]: option 'train' is ['a', 'b']: give one value."),
        ("amp = 'fp8'", "Invalid value for '--amp': 'fp8' is not one of 'auto', 'bf16', 'off'."),
        ("train = 'absent.parquet'", "absent.parquet"),
    ],
)
def test_mistakes_are_one_line(project: Path, table: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "fairguard.toml").write_text(f"{BASE}\n[repair]\n{table}\n")
    assert run(REPAIR) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    (project / "fairguard.toml").write_text(f"repair = 3\n{BASE}")
    assert run(REPAIR) == 2
    assert "the options of fairguard repair stand in a table, [tool.fairguard.repair]" in capsys.readouterr().err
