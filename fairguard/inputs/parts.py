"""The files that a model consists of beside the one that is named: nothing that is written may replace one of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fairguard.errors import ModelError, OutputError
from fairguard.files import files_in, refuse_inputs
from fairguard.inputs.detect import Kind, detect
from fairguard.inputs.limits import DEFAULT


def refuse_read(path: str | Path, named: Mapping[str, Any]) -> None:
    """Raise :class:`OutputError` if what would be written to ``path`` would replace something that is read.

    That is one of the files that are named, one in a folder that is named, or one in which an ONNX model keeps weights.

    Args:
        path: where something is to be written.
        named: what the user named, by role; see :func:`fairguard.files.refuse_inputs`.
    """
    refuse_inputs(path, named)
    target = Path(path).resolve()
    if not target.is_file():
        return  # nothing is lost, so that no model has to be looked at
    for role, value in named.items():
        if any(place.resolve() == target for file in files_in(value) for place in _beside(file)):
            raise OutputError(f"{path} holds weights of the {role} input, which would be lost; name another file.")


def _beside(file: Path) -> Iterator[Path]:
    """Yield the files in which an ONNX model keeps weights; what cannot be read is said when the model is opened."""
    with suppress(ModelError):
        found = detect(file)
        if found.kind is Kind.ONNX:
            from fairguard.inputs.onnx_files import external_file, read_graph, tensors_of

            for tensor in tensors_of(read_graph(found, DEFAULT)):
                if tensor.external_data:
                    yield external_file(tensor, file)
