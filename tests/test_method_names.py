"""A method is one entry of one table and one module; the commands' help and the pages know every one."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from fairguard.cli import cli
from fairguard.repair import methods
from fairguard.repair.methods.names import METHODS, ONE_SHOT
from fairguard.repair.pruning import HEEDING

ROOT = Path(__file__).parent.parent
SHARED = {"names", "gates", "votes"}
"""Modules beside the methods that are none."""


def test_every_module_is_a_method_with_a_name() -> None:
    folder = Path(methods.__file__).parent
    found = {path.stem for path in folder.glob("*.py")} - {"__init__"} - SHARED
    assert found == {name.replace("-", "_") for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_every_name_is_a_method(name: str) -> None:
    method = methods.method_named(name)
    inspect.signature(method).bind("task")
    assert f"{name}``" in (import_module(method.__module__).__doc__ or "").partition("\n")[0]
    assert METHODS[name].sentence


@pytest.mark.parametrize(("command", "names"), [("repair", [*METHODS]), ("prune", [ONE_SHOT, *METHODS])])
def test_the_help_names_every_method(command: str, names: list[str]) -> None:
    text = re.sub(r"\s+", "", CliRunner().invoke(cli, [command, "--help"]).output)  # lines end within names
    assert f"{','.join(names)};defaultballot." in text


def test_the_readme_names_every_method() -> None:
    text = (ROOT / "README.md").read_text()
    section = text[text.index("`--method` is") : text.index("With `--reference equal`")]
    assert {*re.findall(r"`([a-z-]+)`", section)} == {"--method", ONE_SHOT, *METHODS}


def test_those_that_heed_the_reference_are_told_of_in_words() -> None:
    assert all(name in HEEDING for name, traits in METHODS.items() if traits.heeds_reference)
