"""examples/ci: the sample project is green with a good pruned model and red with a worse one, as its README shows."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "ci"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, env=environment)


ELSEWHERE = re.compile(r" in [\d.]+s.*$|\d+ inconclusive, |^ *(better:|and \d+ more).*", re.MULTILINE)
"""What a machine changes: the time and, as it trains slightly other weights, which intersection is decided."""


def shape(text: str) -> set[str]:
    """The lines without numbers, and with every intersection as one: what no other machine may change."""
    plain = re.sub(r"=[=]+|_[_]+|sex=. & ", "", ELSEWHERE.sub("", text))
    return {re.sub(r"[-+]?\d[\d,.]*", "#", line).strip() for line in plain.splitlines()}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(
        shutil.copytree(EXAMPLE, tmp_path / "ci", ignore=shutil.ignore_patterns("*.pt", "*.parquet", ".pytest*"))
    )


@pytest.mark.parametrize(
    ("options", "code", "block"), [([], 0, 0), (["--sparsity", "0.85"], 1, 1)], ids=["green", "red"]
)
def test_the_project_runs_as_its_readme_shows(project: Path, options: list[str], code: int, block: int) -> None:
    trained = run(project, "train.py", *options)
    assert trained.returncode == 0, trained.stderr
    done = run(project, "-m", "pytest", "-q")
    assert done.returncode == code, done.stdout
    shown = re.findall(r"```\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)[block]
    assert shape(done.stdout) - {""} == shape(re.sub(r"^\$ .*\n", "", shown, flags=re.MULTILINE)) - {""}


def test_the_workflow_runs_the_tests_and_keeps_the_reports() -> None:
    text = (EXAMPLE / ".github" / "workflows" / "fairness.yml").read_text()
    for part in (
        "pytest --fairguard-report=fairness.html --fairguard-report=fairness.sarif",
        "upload-sarif",
        "junit.xml",
    ):
        assert part in text


def test_every_extra_that_is_named_is_there() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    places = [path for part in ("README.md", "docs", "examples", "fairguard") for path in files_of(ROOT / part)]
    texts = {path: path.read_text() for path in places if path.suffix in (".md", ".yml", ".toml", ".py")}
    assert EXAMPLE / ".github" / "workflows" / "fairness.yml" in texts
    named = {(extra, path) for path, text in texts.items() for extra in re.findall(r"fairguard\[([\w,-]+)\]", text)}
    assert [(extra, path) for extra, path in named if not {*extra.split(",")} <= {*known}] == []


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
