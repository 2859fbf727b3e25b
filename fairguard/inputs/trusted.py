"""Files that run code when they are opened: pickled modules, TorchScript, torch.export programs. Only with trust."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.detect import Found, Kind
from fairguard.inputs.factories import load_callable
from fairguard.inputs.limits import listed, shown
from fairguard.inputs.programs import open_program
from fairguard.inputs.state_dicts import Factory, first_line, module_from_held

REMEDY = {
    Kind.MODULE: "save model.state_dict() and pass --model pkg.module:build",
    Kind.TORCHSCRIPT: "export it to ONNX, or save the state dict and pass --model pkg.module:build",
    Kind.PT2: "export it to ONNX, or save the state dict and pass --model pkg.module:build",
}


def remedy(found: Found) -> str:
    """Return what to do instead of opening a file that runs code."""
    if any("_rebuild_sparse" in name for name in found.imports):
        return "save the sparse tensors dense, as tensor.to_dense(), and pass --model pkg.module:build"
    return REMEDY[found.kind]


def refusal(found: Found) -> ModelError:
    """Return why the file is not opened, what it would import and what to do instead."""
    own_first = sorted(found.imports, key=lambda name: name.split(".")[0] in ("torch", "builtins", "collections"))
    imports = f" that would import {listed(own_first)}" if own_first else ""
    return ModelError(
        f"{found.path} holds a {found.kind}{imports}: opening it runs its code. "
        f"Either {remedy(found)}, or pass --trust if you made the file."
    )


def open_trusted(found: Found, factory: Factory | None, *, name: str | None = None) -> nn.Module:
    """Return the module that the file's own code builds; the caller has the user's word that it may run.

    Raises:
        ModelError: the file is broken, its classes cannot be imported, or it holds no module.
    """
    openers: dict[Kind, Callable[[Path], Any]] = {
        Kind.TORCHSCRIPT: _torchscript,
        Kind.PT2: open_program,
        Kind.MODULE: lambda path: torch.load(path, map_location="cpu", weights_only=False),
    }
    try:
        with _importing_from_here(factory), _as_in_its_script(found, factory), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            held = openers[found.kind](found.path)
    except FairguardError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {shown(first_line(error), width=300)}"
        raise ModelError(f"{found.path} cannot be opened: {reason}") from error
    return held if isinstance(held, nn.Module) else module_from_held(found, held, factory, name=name)


def _torchscript(path: Path) -> Any:
    return torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]


@contextmanager
def _importing_from_here(factory: Factory | None) -> Iterator[None]:
    """Let pickled classes be found in the current folder and beside the factory's file."""
    before = list(sys.path)
    where = factory.rpartition(":")[0] if isinstance(factory, str) else ""
    sys.path[:0] = [str(Path(where).resolve().parent) if where.endswith(".py") else str(Path.cwd()), str(Path.cwd())]
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def _as_in_its_script(found: Found, factory: Factory | None) -> Iterator[None]:
    """Let classes that a script defined and saved as its own, ``__main__.Net``, be those of the factory's module.

    Raises:
        ModelError: the file needs such classes, and no factory says where they are.
    """
    main = sys.modules["__main__"]
    names = {name.split(".")[1] for name in found.imports if name.startswith("__main__.")}
    lacking = sorted(name for name in names if not hasattr(main, name))
    if lacking and factory is None:
        raise ModelError(
            f"{found.path} needs {listed(lacking)} from the script that saved it; name that script with "
            f"--model script.py:{shown(lacking[0])}."
        )
    home = inspect.getmodule(load_callable(factory) if isinstance(factory, str) else factory) if lacking else None
    lent = [name for name in lacking if hasattr(home, name)]
    for name in lent:
        setattr(main, name, getattr(home, name))
    try:
        yield
    finally:
        for name in lent:
            delattr(main, name)
