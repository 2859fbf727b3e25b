"""A report is one module and one name; the command, the configuration and the plugin know the same ones."""

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest
import pytest_fairguard

from fairguard import report
from fairguard.cli import check_command
from fairguard.config import FORMATS, OF_SUFFIX, Settings
from fairguard.testing import closing

SHARED = {"wording", "columns", "charts", "declared", "remedies"}
"""Modules beside the reports that are none."""


def test_every_module_is_a_report_with_a_name() -> None:
    found = {path.stem for path in Path(report.__file__).parent.glob("*.py")} - {"__init__"} - SHARED
    assert found == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_name_is_a_report(name: str) -> None:
    signature(import_module(f"fairguard.report.{name}").render).bind("verdict")
    assert Settings(format=name).format == name


def test_the_command_offers_every_report() -> None:
    (option,) = [param for param in check_command.command.params if param.name == "format"]
    assert tuple(option.type.choices) == FORMATS


def test_a_files_name_asks_for_a_report() -> None:
    assert set(OF_SUFFIX.values()) < set(FORMATS)
    assert set(closing.SUFFIXES) < set(OF_SUFFIX)


def test_the_plugin_writes_reports_that_hold_many_checks() -> None:
    assert closing.SUFFIXES == pytest_fairguard.SUFFIXES
    for suffix in closing.SUFFIXES:
        assert suffix[1:] in FORMATS
        signature(import_module(f"fairguard.report{suffix}").render_all).bind("checks", "unjudged")


def test_an_unknown_suffix_is_no_json(tmp_path: Path) -> None:
    wishes = closing.Wishes(root=tmp_path, locked=tmp_path / "none.lock", reports=(tmp_path / "report.xml",))
    (line,) = closing._reported([], [], wishes)
    assert "'.xml'; end the name in .html, .json, .sarif" in line
    assert not list(tmp_path.iterdir())
