"""Names of Python objects, ``pkg.module:name`` or ``path.py:name``, turned into the objects. Knows nothing of models.

Importing runs the user's own code, which the user named on purpose; nothing a model file says is ever imported here.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

from fairguard.errors import ConfigError, did_you_mean


def load_callable(spec: str) -> Any:
    """Return the object that ``spec`` names; the current folder is importable, as it is for ``python -m``.

    Raises:
        ConfigError: the spec is malformed, its module cannot be imported, or the module has no such name.
    """
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name:
        raise ConfigError(f"{spec!r} names no Python object; write pkg.module:name or path.py:name.")
    module = _from_file(spec, Path(where)) if where.endswith(".py") else _by_name(spec, where)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            options = [option for option in vars(found) if not option.startswith("_")]
            raise ConfigError(f"{where} has no {part!r}.{did_you_mean(part, options)}")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{spec} is a {type(found).__name__}, not a function or class.")
    return found


def called_within(spec: str) -> Callable[..., Any]:
    """Return the object that ``spec`` names, called with :func:`importable` around every call.

    Raises:
        ConfigError: as :func:`load_callable`.
    """
    function = load_callable(spec)

    @wraps(function)
    def within(*args: Any, **keywords: Any) -> Any:
        with importable(spec):
            return function(*args, **keywords)

    return within


@contextmanager
def importable(named: object) -> Iterator[None]:
    """Let the user's code that runs here import what it could when ``named`` was imported.

    Args:
        named: ``pkg.module:name`` or ``path.py:name``; beside anything else nothing is found.
    """
    where = named.rpartition(":")[0] if isinstance(named, str) else ""
    if not where:
        yield
        return
    with _first(Path(where).resolve().parent if where.endswith(".py") else Path.cwd()):
        yield


def _by_name(spec: str, name: str) -> ModuleType:
    with _first(Path.cwd()):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise _failed(spec, error) from error
            hint = did_you_mean(name, (path.stem for path in Path.cwd().glob("*.py")))
            raise ConfigError(f"{spec}: there is no module {error.name!r} here or installed.{hint}") from None
        except (Exception, SystemExit) as error:
            raise _failed(spec, error) from error


def _from_file(spec: str, path: Path) -> ModuleType:
    """Import a file by its place; the same file gives the same module every time."""
    if not os.path.isfile(path):
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.py")) if os.path.isdir(path.parent) else ())
        raise ConfigError(f"{spec}: there is no file {path}.{near}")
    place = path.resolve()
    name = f"fairguard_file_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}_{place.stem}"
    if name in sys.modules:
        return sys.modules[name]
    description = importlib.util.spec_from_file_location(name, place)
    if description is None or description.loader is None:
        raise ConfigError(f"{spec}: {path} cannot be imported.")
    module = sys.modules[name] = importlib.util.module_from_spec(description)
    with _first(place.parent):
        try:
            description.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise _failed(spec, error) from error
    return module


def _failed(spec: str, error: BaseException) -> ConfigError:
    return ConfigError(f"{spec}: importing it failed: {type(error).__name__}: {error}")


@contextmanager
def _first(folder: Path) -> Iterator[None]:
    """Put ``folder`` first on the import path for a while."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with suppress(ValueError):  # the user's code may have taken it out
            sys.path.remove(str(folder))
