"""What pytest's items say: their parameters, and what their marks were given. Imports pytest and nothing heavy."""

from __future__ import annotations

import pytest

from fairguard.errors import ConfigError


def parameters_of(item: pytest.Function, group: str) -> str:
    """Return an item's parameters as pytest writes them, ``[small-int8]``, without that called ``group``, the first."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return ""
    name, first = str(callspec.id), str(callspec.params.get(group, ""))
    for written in {first, first.encode("unicode_escape").decode("ascii")} if group in callspec.params else ():
        if name == written or name.startswith(f"{written}-"):
            name = name[len(written) + 1 :]
            break
    return f"[{name}]" if name else ""


def require_names(item: pytest.Item, marker: str) -> None:
    """Refuse what a marker was given without a name.

    Raises:
        ConfigError: there is such a thing.
    """
    given = [part for mark in item.iter_markers(marker) for part in mark.args]
    if given:
        raise ConfigError(
            f"{marker} takes names only, and {given[0]!r} has none; write dense=..., pruned=..., data=..."
        )
