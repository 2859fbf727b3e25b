"""The wheel that users install: complete, nothing of ours beside it, and it works without the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_package_the_plugin_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"fairguard", "pytest_fairguard.py"}
    shipped = {str(path.relative_to(ROOT)) for path in (ROOT / "fairguard").rglob("*") if path.is_file()}
    shipped = {name for name in shipped if "__pycache__" not in name}
    assert shipped <= set(names)
    assert {"fairguard/py.typed"} <= set(names)
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in names)


def test_the_wheel_works_without_the_checkout(wheel: Path, applicants_dir: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = [
        sys.executable,
        "-c",
        "import fairguard, pytest_fairguard; print(fairguard.__file__, pytest_fairguard.__file__)",
    ]
    found = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert all(path.startswith(str(site)) for path in found.split())
    check = [sys.executable, "-m", "fairguard", "check", "dense.pt", "pruned_regressed.pt", "--format", "html", "-q"]
    done = subprocess.run(check, cwd=applicants_dir, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "origin=D" in done.stdout
