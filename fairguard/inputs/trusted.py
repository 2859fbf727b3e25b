"""Files that run code when they are opened: pickled modules, TorchScript, torch.export programs. Only with trust."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.checkpoints import CHECKPOINT_KEYS, passed_over_notes, weight_sets
from fairguard.inputs.detect import Found, Kind
from fairguard.inputs.factories import load_callable
from fairguard.inputs.programs import open_program
from fairguard.inputs.state_dicts import Factory, first_line, module_from_held
from fairguard.names import listed, shown

REMEDY = {
    Kind.MODULE: "save model.state_dict() and pass --model pkg.module:build",
    Kind.TORCHSCRIPT: "export it to ONNX, or save the state dict and pass --model pkg.module:build",
    Kind.PT2: "export it to ONNX, or save the state dict and pass --model pkg.module:build",
}


QUANTISED = ("torch.ao.", "torch.fx.", ".quantized.")
"""What a pickle of a quantised module imports: torch restores some of them in part only."""


def remedy(found: Found) -> str:
    """Return what to do instead of opening a file that runs code."""
    if any("_rebuild_sparse" in name for name in found.imports):
        return "save the sparse tensors dense, as tensor.to_dense(), and pass --model pkg.module:build"
    if any(name.split(".")[0] in ("sklearn", "xgboost", "lightgbm") for name in found.imports):
        return "export it to ONNX (skl2onnx), or record its answers in a file"
    return REMEDY[found.kind]


def refusal(found: Found) -> ModelError:
    """Return why the file is not opened, what it would import and what to do instead."""
    own_first = sorted(found.imports, key=lambda name: name.split(".")[0] in ("torch", "builtins", "collections"))
    imports = f" that would import {listed(own_first)}" if own_first else ""
    return ModelError(
        f"{found.path} holds a {found.kind}{imports}: opening it runs its code. "
        f"Either {remedy(found)}, or pass --trust if you made the file."
    )


def open_trusted(
    found: Found, factory: Factory | None, *, name: str | None = None, notes: list[str] | None = None
) -> nn.Module:
    """Return the module that the file's own code builds; the caller has the user's word that it may run.

    ``name`` and ``notes`` as for :func:`fairguard.inputs.checkpoints.weights_in`.

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
            for kind in (DeprecationWarning, UserWarning):  # torch warns of its own storages in quantised weights
                warnings.simplefilter("ignore", kind)
            held = _module_in(openers[found.kind](found.path), found, name, notes)
            if isinstance(held, nn.Module):
                list(held.modules())  # what torch restores in part shows it here
    except FairguardError:
        raise
    except Exception as error:
        if isinstance(error, AttributeError) and any(sign in each for each in found.imports for sign in QUANTISED):
            raise ModelError(
                f"{found.path}: torch cannot restore this quantised module from a pickle. Save its state dict and name "
                f"a function that quantises a module in the same way (--model-pruned FILE.py:function), or save it as "
                f"TorchScript."
            ) from error
        reason = f"{type(error).__name__}: {shown(first_line(error), width=300)}"
        raise ModelError(f"{found.path} cannot be opened: {reason}") from error
    return held if isinstance(held, nn.Module) else module_from_held(found, held, factory, name=name, notes=notes)


def _module_in(held: Any, found: Found, name: str | None, notes: list[str] | None) -> Any:
    """Return the module in a checkpoint that keeps whole modules by name; whatever else is held, as it is."""
    modules = (
        {str(key): part for key, part in held.items() if isinstance(part, nn.Module)}
        if isinstance(held, Mapping)
        else {}
    )
    if not modules or (name is not None and name not in modules) or (name is None and weight_sets(held)):
        return held
    chosen = name or next((key for key in CHECKPOINT_KEYS if key in modules), next(iter(modules)))
    if name is None and chosen not in CHECKPOINT_KEYS and len(modules) > 1:
        raise ModelError(f"{found.path} holds several modules; add one as {found.path}::NAME: {listed(list(modules))}.")
    if name is None and notes is not None:
        notes += passed_over_notes(chosen, dict.fromkeys(modules, True), str(found.path))
    return modules[chosen]


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
