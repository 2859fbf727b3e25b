"""Programs of torch.export: opened with the libraries of operators that they need. Runs their code."""

from __future__ import annotations

import importlib
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from fairguard.errors import ModelError
from fairguard.names import listed

REGISTERED_BY = {
    "quantized_decomposed": ("torch.ao.quantization.fx._decomposed", "torchao.quantization.pt2e"),
    "torchao": ("torchao",),
    "torchvision": ("torchvision",),
}
"""By library of operators, the modules one of which has to be imported before a program that uses it is opened."""
_OPERATOR = re.compile(rb"torch\.ops\.([A-Za-z_]\w*)\.([A-Za-z_]\w*)")
_LOGS = ("torch.export", "torch.export.pt2_archive._package")


def open_program(path: Path) -> nn.Module:
    """Return the module in a file of ``torch.export.save``.

    Raises:
        ModelError: it uses operators that nothing here registers.
        Exception: whatever torch raises, where it is broken.
    """
    needed = _operators(path)
    for library in {library for library, _ in needed}:
        _register(library)
    with path.open("rb") as stream, _quiet() as causes:  # by its name, torch would insist on one that ends in .pt2
        try:
            return torch.export.load(stream).module()
        except Exception as error:
            lacking = sorted(f"torch.ops.{library}.{name}" for library, name in needed if not _there(library, name))
            if lacking:
                raise ModelError(
                    f"{path} uses operators that nothing installed here registers: {listed(lacking)}. Install the "
                    f"library that it was quantised or exported with, or export the model to ONNX."
                ) from error
            raise (causes or [error])[0] from error


def _operators(path: Path) -> set[tuple[str, str]]:
    """Return library and name of each operator that a program's graph may call; none where the file is broken."""
    try:
        with zipfile.ZipFile(path) as archive:
            graphs = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    except (OSError, ValueError, zipfile.BadZipFile):
        return set()
    return {(library.decode(), name.decode()) for graph in graphs for library, name in _OPERATOR.findall(graph)}


def _register(library: str) -> None:
    """Import what registers a library of operators, where that is known and installed."""
    for module in REGISTERED_BY.get(library, ()):
        try:
            if find_spec(module) is not None:
                importlib.import_module(module)
                return
        except ImportError:  # a release of torch or torchao that has it elsewhere
            continue


def _there(library: str, name: str) -> bool:
    return hasattr(getattr(torch.ops, library), name)


@contextmanager
def _quiet() -> Iterator[list[BaseException]]:
    """Keep what torch logs while it opens a program off the screen, and give the exceptions among it."""
    causes: list[BaseException] = []

    def heard(record: logging.LogRecord) -> bool:
        if record.exc_info and record.exc_info[1] is not None:
            causes.append(record.exc_info[1])
        return False

    loggers = [logging.getLogger(name) for name in _LOGS]
    for logger in loggers:
        logger.addFilter(heard)
    try:
        yield causes
    finally:
        for logger in loggers:
            logger.removeFilter(heard)
