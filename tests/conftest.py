"""What all tests share: the place of the real data, and a folder of small models that show every outcome."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

import fairguard.testing.checks  # noqa: F401
from fairguard.demo import digits, synthetic

# Tests that run pytest in this process forget every module that their run loaded. torch cannot be loaded twice, and the
# others take seconds each time, so all of them are loaded here.

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parent.parent
os.environ["FAIRGUARD_CACHE"] = "off"  # tests leave nothing in the user's own cache
torch.set_num_threads(1)
hypothesis.settings.load_profile("ci")  # the same examples everywhere, and no deadline: a busy machine changes nothing

SURROUNDINGS = (
    *("CI", "BUILD_NUMBER", "GITHUB_STEP_SUMMARY", "PYTEST_ADDOPTS"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PY_COLORS"),
)


@pytest.fixture(autouse=True)
def _no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide from a test, and from what it starts, where the suite itself runs: pytest cuts no summary line in CI."""
    for name in SURROUNDINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget the modules that a test loaded from its own files: the next one's ``model.py`` is another."""
    yield
    base = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__dict__", {}).get("__file__")).startswith(base):
            del sys.modules[name]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("FAIRGUARD_DATA", ROOT / ".." / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set FAIRGUARD_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def applicants_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configured project: a dense model and three pruned ones, by outcome, on 30,000 synthetic applicants."""
    folder = tmp_path_factory.mktemp("applicants")
    synthetic.make(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configured project of handwritten digits, with rows to train on; each module of tests writes into its own."""
    made = tmp_path_factory.mktemp("digits")
    digits.make(made)
    return made


@pytest.fixture
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project as the current folder."""
    monkeypatch.chdir(folder)
    return folder
