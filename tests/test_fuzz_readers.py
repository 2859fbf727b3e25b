"""A minute of coverage-guided fuzzing of the file readers: whatever the bytes are, one line and no crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SECONDS = os.environ.get("FAIRGUARD_FUZZ_SECONDS", "60")


def test_no_bytes_crash_the_readers(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this platform or Python")
    script = ROOT / "benchmarks" / "fuzz_readers.py"
    done = subprocess.run([sys.executable, str(script), SECONDS], cwd=tmp_path, capture_output=True, text=True)
    said = done.stdout[-3000:] + done.stderr[-1000:]  # atheris tells of an exception on stdout
    assert done.returncode == 0, said
    assert not list(tmp_path.glob("crash-*")), said
    assert "Done" in done.stderr, "the hunt did not run"
