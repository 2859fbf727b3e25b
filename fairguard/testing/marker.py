"""``@fairness_preserved``, the typed name of ``pytest.mark.fairness_preserved``. Imports pytest and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack, overload

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])


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
def fairness_preserved(**options: Unpack[Options]) -> Callable[[Test], Test]: ...


def fairness_preserved(test: Any = None, /, **options: Any) -> Any:
    """Return a test that judges a pruned model: ``@fairness_preserved(dense=..., pruned=..., ...)``, or bare.

    A test that asks for the fixture ``fairness`` calls it with its own models; any other is declared by the options
    alone, and pytest makes an item of it for each group. What is not given comes from ``[tool.fairguard]``. A wrong
    option is an error when the test is set up.
    """
    mark = pytest.mark.fairness_preserved
    return mark(**options) if test is None else mark(test)
