"""The files that a model consists of beside the one that is named: nothing that is written may replace one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fairguard.errors import ModelError, OutputError
from fairguard.files import files_in, refuse_inputs
from fairguard.inputs.detect import Kind, detect
from fairguard.inputs.limits import DEFAULT

LOADED = (
    "*.safetensors",
    "*.bin",
    "*.model",
    "*.txt",
    "*.py",
    "*config.json",
    "*index.json",
    "*token*.json",
    "vocab*.json",
)
"""What a Hugging Face folder is loaded from, by name: weights, settings and vocabularies."""


def refuse_read(path: str | Path, named: Mapping[str, Any]) -> None:
    """Raise :class:`OutputError` if what would be written to ``path`` would replace something that is read.

    That is one of the files that are named, one that a named folder is loaded from, there already or not, or one in
    which an ONNX model keeps weights. Anything else may lie in a folder: people work in that of their model.

    Args:
        path: where something is to be written.
        named: what the user named, by role; see :func:`fairguard.files.refuse_inputs`.
    """
    refuse_inputs(path, named)
    target = Path(os.path.realpath(path))
    for role, value in named.items():
        if _is_folder(value) and target.is_relative_to(os.path.realpath(value)) and _loaded(target):
            raise OutputError(f"{path} lies in the {role} input, the folder {value}; name a file outside it.")
    if not target.is_file():
        return  # nothing is lost, so that no model has to be looked at
    for role, value in named.items():
        if any(os.path.realpath(place) == str(target) for file in files_in(value) for place in _beside(file)):
            raise OutputError(f"{path} holds weights of the {role} input, which would be lost; name another file.")


def _is_folder(value: Any) -> bool:
    return isinstance(value, str | Path) and os.path.isdir(value)


def _loaded(target: Path) -> bool:
    return any(fnmatchcase(target.name, pattern) for pattern in LOADED)


def _beside(file: Path) -> Iterator[Path]:
    """Yield the files in which an ONNX model keeps weights; what cannot be read is said when the model is opened."""
    with suppress(ModelError):
        found = detect(file)
        if found.kind is Kind.ONNX:
            from fairguard.inputs.onnx_files import external_file, read_graph, tensors_of

            for tensor in tensors_of(read_graph(found, DEFAULT)):
                if tensor.external_data:
                    yield external_file(tensor, file)
