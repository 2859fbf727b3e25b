"""examples/quantised: a torch model against its own ONNX export and its int8 versions, as the README shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fairguard.cli import run

EXAMPLE = Path(__file__).parent.parent / "examples" / "quantised"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantised")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, EXAMPLE / "quantise.py", folder], check=True, capture_output=True, env=environment)
    return folder


def shape(line: str) -> str:
    """A line without its numbers, which another machine may change in the last digit."""
    return re.sub(r"[-+]?\d[\d,.]*", "#", line).strip()


BLOCKS = re.findall(r"```\n\$ fairguard check (.*?)\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
CODES = (0, 0, 2, 0)


@pytest.mark.parametrize(
    ("command", "shown", "code"), [(*block, code) for block, code in zip(BLOCKS, CODES, strict=True)]
)
def test_the_readme_shows_what_comes_out(
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    shown: str,
    code: int,
) -> None:
    monkeypatch.chdir(made)
    assert run(["check", *command.split()]) == code
    said = capsys.readouterr()
    printed = {shape(line) for line in (said.out + said.err).splitlines()}
    assert {shape(line) for line in shown.splitlines()} <= printed
