"""The door for models: whatever it is, it comes out as a :class:`Predictor`. Only what the user trusts may run code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.errors import FairguardError, ModelError
from fairguard.files import sha256_of
from fairguard.inputs.detect import RECORDED, Found, Kind, detect
from fairguard.inputs.floors import require
from fairguard.inputs.limits import DEFAULT, Limits
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.recorded import RecordedPredictor
from fairguard.inputs.rows import Batch, take
from fairguard.names import shown
from fairguard.verdict import ModelInfo

Factory = str | Callable[..., Any]

RECORDED_KIND = "predictions"
"""What all recorded answers are called, whatever file they come from."""


def load_model(
    model: Any,
    *,
    factory: Factory | None = None,
    trust: bool = False,
    device: str = "auto",
    provider: str | None = None,
    output_key: str | None = None,
    per_row: bool = False,
    limits: Limits = DEFAULT,
    id: str | None = None,
) -> Predictor:
    """Return a model as something that gives scores for rows.

    Args:
        model: a path (``file.npz::name`` for one of several recorded models, ``file.pt::name`` for one of several sets
            of weights in a checkpoint), a ``torch.nn.Module``, a callable from
            features to scores, or an array of recorded answers.
        factory: what builds the architecture of a state dict: ``pkg.module:build``, ``path.py:build`` or a callable.
        trust: whether opening the file may run code that it holds.
        device: ``auto``, ``cpu`` or ``cuda``, for torch models.
        provider: onnxruntime's provider, for ONNX models: ``cpu``, ``cuda``, ``tensorrt``, ...
        output_key: which output to judge, where the model gives several.
        per_row: ask the model one row at a time, for models whose answers depend on the rest of the batch.
        limits: bounds on what a file may claim.
        id: the data's column of ids, by which a file of recorded answers that has it too is joined.

    Raises:
        ModelError: the file is missing, broken, unknown, needs a factory or trust, or does not fit its factory.
    """
    if isinstance(model, str | Path):
        path, name = split_name(str(model))
        how = How(factory, name, device, provider, output_key, limits, id)
        predictor = _from_path(str(model), detect(path, limits=limits), how, trust=trust)
    else:
        predictor = _from_object(model, device=device, output_key=output_key)
    if not per_row or isinstance(predictor, RecordedPredictor):
        return predictor
    return RowByRow(predictor)


@dataclass(frozen=True)
class How:
    """How a file is to be opened: the options of :func:`load_model`, and ``name``, what stands after ``::``."""

    factory: Factory | None
    name: str | None
    device: str
    provider: str | None
    output_key: str | None
    limits: Limits
    id: str | None
    notes: list[str] = field(default_factory=list)
    """What the reader of a verdict should know of the file, once it is open."""


def _from_path(text: str, found: Found, how: How, *, trust: bool) -> Predictor:
    if found.runs_code and not trust:
        raise _refusal(found)
    opener = OPENERS.get(found.kind)
    if opener is None:
        raise ModelError(f"{found.path} is {found.kind}, which nothing here opens.")
    return opener(found, info_of(found, text), how)


def _recorded(found: Found, info: ModelInfo, how: How) -> Predictor:
    from fairguard.inputs.recorded_files import open_recorded

    return open_recorded(found, info, name=how.name, limits=how.limits, id=how.id)


def _onnx(found: Found, info: ModelInfo, how: How) -> Predictor:
    _refuse_name(found, info, how)
    for package in ("onnx", "onnxruntime"):
        require(package, what=str(found.path))
    from fairguard.inputs.onnx_models import open_onnx

    return open_onnx(
        found, info, provider=how.provider, device=how.device, output_key=how.output_key, limits=how.limits
    )


def _folder(found: Found, info: ModelInfo, how: How) -> Predictor:
    _refuse_name(found, info, how)
    return _torch(found, info, how, _folder_module)


def _trusted(found: Found, info: ModelInfo, how: How) -> Predictor:
    return _torch(found, info, how, _trusted_module)


def _weights(found: Found, info: ModelInfo, how: How) -> Predictor:
    return _torch(found, info, how, _module_with_weights)


def _torch(found: Found, info: ModelInfo, how: How, open_module: Callable[[Found, How], Any]) -> Predictor:
    """Return the predictor of a torch module, on the device that is asked for, which is looked at first."""
    from fairguard.inputs.torch_models import device_of, predictor_of

    require("torch", what=str(found.path))
    where = device_of(how.device)
    module = open_module(found, how)
    return predictor_of(module, info, device=where, output_key=how.output_key, note="; ".join(how.notes))


def _folder_module(found: Found, how: How) -> Any:
    from fairguard.inputs.hf_models import open_folder

    return open_folder(found, limits=how.limits)


def _trusted_module(found: Found, how: How) -> Any:
    from fairguard.inputs.trusted import open_trusted

    return open_trusted(found, how.factory, name=how.name, notes=how.notes)


def _module_with_weights(found: Found, how: How) -> Any:
    from fairguard.inputs.state_dicts import module_from

    return module_from(found, how.factory, limits=how.limits, name=how.name, notes=how.notes)


OPENERS: dict[Kind, Callable[[Found, ModelInfo, How], Predictor]] = {
    Kind.STATE_DICT: _weights,
    Kind.TORCHAO: _weights,
    Kind.MODULE: _trusted,
    Kind.TORCHSCRIPT: _trusted,
    Kind.PT2: _trusted,
    Kind.SAFETENSORS: _weights,
    Kind.ONNX: _onnx,
    Kind.HF: _folder,
    Kind.NPZ: _recorded,
    Kind.CSV: _recorded,
    Kind.PARQUET: _recorded,
}
"""What opens a file of each kind, once it may be opened."""


def _refuse_name(found: Found, info: ModelInfo, how: How) -> None:
    if how.name is not None:
        raise ModelError(f"{shown(info.path)}: only npz files and checkpoints hold several models; give {found.path}.")


def _refusal(found: Found) -> ModelError:
    from fairguard.inputs.trusted import refusal

    return refusal(found)


def split_name(text: str) -> tuple[Path, str | None]:
    """Return the path and, after ``::``, the name of one of several models in it."""
    path, separator, name = text.rpartition("::")
    if separator and not os.path.exists(text):
        return Path(path), name
    return Path(text), None


def info_of(found: Found, path: str) -> ModelInfo:
    """Return what a file's own bytes say, whatever it holds."""
    kind = RECORDED_KIND if found.kind in RECORDED else str(found.kind)
    return ModelInfo(kind=kind, path=path, sha256=sha256_of(found.path), size=found.size, runs_code=found.runs_code)


def _from_object(model: Any, *, device: str, output_key: str | None) -> Predictor:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from fairguard.inputs.torch_models import device_of, predictor_of

        where = None if device == "auto" else device_of(device)
        return predictor_of(model, ModelInfo(kind="torch module"), device=where, output_key=output_key)
    if callable(model):
        return FunctionPredictor(model, ModelInfo(kind="callable"), output_key)
    from fairguard.inputs.recorded import recorded

    if hasattr(model, "__array__") or isinstance(model, list | tuple):
        return recorded(model, ModelInfo(kind=RECORDED_KIND))
    raise ModelError(
        f"a {type(model).__name__} is no model; give a path, a torch.nn.Module, a callable from features to scores, "
        f"or an array of recorded answers."
    )


@dataclass(frozen=True, eq=False)
class FunctionPredictor(Predictor):
    """Any callable from a batch's features to scores."""

    function: Callable[[Any], Any]
    info: ModelInfo
    output_key: str | None = None
    kind: ScoreKind = ScoreKind.SCORES

    def scores(self, batch: Batch) -> NDArray[np.generic]:
        """Return what the callable gives for the batch's features."""
        from fairguard.inputs.tensors import scores_of

        name = getattr(self.function, "__name__", type(self.function).__name__)
        try:
            output = self.function(batch.x)
        except FairguardError:
            raise
        except Exception as error:
            raise ModelError(
                f"{name} failed on these rows: {type(error).__name__}: {shown(error, width=300)}"
            ) from error
        return scores_of(output, rows=len(batch), key=self.output_key, name=name)


class RowByRow(Predictor):
    """A predictor that never sees more than one row at a time; all else it is as the predictor inside."""

    def __init__(self, inner: Predictor) -> None:
        """Keep the predictor."""
        self.inner, self.info, self.kind = inner, inner.info, inner.kind

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return the class names that the file fixes."""
        return self.inner.classes

    @property
    def rows(self) -> int | None:
        """Return how many rows the data must have."""
        return self.inner.rows

    @property
    def double(self) -> bool:
        """Return whether the model takes numbers with more digits than float32 has."""
        return self.inner.double

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the inputs, if each is one column."""
        return self.inner.columns

    @property
    def order(self) -> tuple[str, ...] | None:
        """Return what the model itself calls its outputs."""
        return self.inner.order

    @property
    def net(self) -> Any:
        """Return the module behind the scores, where there is one."""
        return self.inner.net

    @property
    def note(self) -> str:
        """Return what the reader should know of the file."""
        return self.inner.note

    def scores(self, batch: Batch) -> NDArray[np.generic]:
        """Return the predictor's scores, each row asked for alone."""
        rows = [self.inner.scores(take(batch, np.array([i]))) for i in range(len(batch))]
        return np.concatenate(rows)
