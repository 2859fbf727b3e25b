"""Functions of a package that are called like the module they live in, imported when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def function_of(home: str) -> property:
    """Return an attribute for the class of a package: the function that the module ``home`` is named after.

    It stays the function where the module was imported, which binds the module to that very name.
    """

    def get(package: Any) -> Any:
        return getattr(import_module(home), home.rpartition(".")[2])

    def take_note_of_nothing(package: Any, module: Any) -> None:
        pass

    return property(get, take_note_of_nothing, doc=f"The function of {home}; imports it on first use.")
