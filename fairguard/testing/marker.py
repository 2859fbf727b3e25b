"""``@fairness_preserved``: the typed name of ``pytest.mark.fairness_preserved``, which passes nothing unjudged.

Imports pytest and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, overload

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])

PLUGIN = "pytest_fairguard"
"""Module of the pytest plugin, without which the marker means nothing to pytest."""
MISSING = (
    "not judged: the fairguard plugin is not loaded. It comes with `pip install pytest-fairguard` and loads itself; "
    f"under PYTEST_DISABLE_PLUGIN_AUTOLOAD add `-p {PLUGIN}`, and leave out `-p no:fairguard`."
)


class Options(TypedDict, total=False):
    """What the marker takes: the options of a check, with the meaning that they have in ``[tool.fairguard]``."""

    dense: str | Path
    pruned: str | Path
    data: Any
    label: str | None
    groups: str | Iterable[str]
    id: str | None
    features: str | Iterable[str] | None
    transform: str | Callable[..., Any] | None
    classes: Iterable[str] | None
    weight: str | None
    cluster: str | None
    model: str | Callable[..., Any] | None
    model_pruned: str | Callable[..., Any] | None
    threshold: float | None
    output_key: str | int | None
    batch_size: int
    per_row: bool
    device: str
    provider: str | None
    limit: str | None
    trust: bool
    metrics: str | Iterable[str]
    margin: float
    margins: Mapping[str, float]
    alpha: float
    intersections: int
    min_group: int
    untested: str
    strict: bool
    favourable: str | None
    permutations: int
    seed: int
    looks: int
    look: int
    seeds: Iterable[str]
    discover: int
    discover_columns: Iterable[str]
    accept: Iterable[Mapping[str, Any]]


@overload
def fairness_preserved(test: Test, /) -> Test: ...


@overload
def fairness_preserved(**options: Unpack[Options]) -> pytest.MarkDecorator: ...


def fairness_preserved(test: Any = None, /, **options: Any) -> Any:
    """Return a test that judges a pruned model: ``@fairness_preserved(dense=..., pruned=..., ...)``, or bare.

    A test that asks for the fixture ``fairness`` calls it with its own models; any other is declared by the options
    alone, and pytest makes an item of it for each group. What is not given comes from ``[tool.fairguard]``. A wrong
    option is an error when the test is set up, and so is a run without the plugin. Called by hand, a test is a plain
    function, and judges nothing.
    """
    marker = _Marker(pytest.mark.fairness_preserved.with_args(**options))
    return marker if test is None else marker(test)


class _Marker(pytest.MarkDecorator):
    """The marker, which keeps its tests from passing where no plugin reads it.

    A decorated test fails when it is set up. Where pytest itself asks for the mark, in ``pytestmark``, ``marks`` of a
    parameter and ``add_marker``, it fails there: only one mark can be handed on.
    """

    def __init__(self, marker: pytest.MarkDecorator) -> None:
        """Keep pytest's own marker."""
        self._marker = marker

    @property
    def mark(self) -> pytest.Mark:  # type: ignore[override]
        """Return the mark, as pytest asks for it."""
        if "PYTEST_VERSION" in os.environ:  # which pytest sets while it runs
            bool(_loaded)
        return self._marker.mark

    @property
    def name(self) -> str:
        """Return the marker's name."""
        return self._marker.name

    def with_args(self, *args: Any, **options: Any) -> _Marker:
        """Return the marker with more options."""
        return _Marker(self._marker.with_args(*args, **options))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Mark a test, or take more options, as pytest's markers do."""
        marked = self._marker(*args, **options)
        if isinstance(marked, pytest.MarkDecorator):
            return _Marker(marked)
        return pytest.mark.skipif(_loaded, reason="")(marked)


class _Loaded:
    """A reason to skip that never holds: pytest asks for it before any kind of test, and it fails without the plugin.

    A fixture of the plugin's would be missed too, in words that tell of fixtures and not of what to do.
    """

    def __bool__(self) -> bool:
        if PLUGIN not in sys.modules:
            pytest.fail(MISSING, pytrace=False)
        return False


_loaded: Any = _Loaded()
