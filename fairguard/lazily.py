"""Functions of a package that are called like the module they live in, imported when first used."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class FunctionOf:
    """An attribute for the class of a package: the function that the module ``home`` is named after.

    It stays the function where the module was imported, which binds the module to that very name. Anything else can be
    put in its place and taken away again, as tests do.

    Args:
        home: the module in full, ``package.name``.
    """

    def __init__(self, home: str) -> None:
        """Import nothing yet."""
        self.home, self.name = home, home.rpartition(".")[2]
        self.deleted = False
        self.__doc__ = f"The function of {home}; imports it on first use."

    def __get__(self, package: ModuleType | None, _: object = None) -> Any:
        """Return what was put here, else the function."""
        if package is None:
            return self
        if self.deleted:
            raise AttributeError(f"module {package.__name__!r} has no attribute {self.name!r}")
        return vars(package)[self.name] if self.name in vars(package) else getattr(import_module(self.home), self.name)

    def __set__(self, package: ModuleType, value: object) -> None:
        """Keep the value, unless it is the module, which the import system puts here."""
        module = sys.modules.get(self.home)
        if module is not None and value is module:
            return
        vars(package)[self.name], self.deleted = value, False
        if value is getattr(module, self.name, self):  # the function is back, which needs no keeping
            del vars(package)[self.name]

    def __delete__(self, package: ModuleType) -> None:
        """Take away what was put here, else the function."""
        if vars(package).pop(self.name, self) is self:
            self.__get__(package)  # of what is gone already it says so
            self.deleted = True
