"""Batches and outputs on the border between numpy and torch. Knows no file."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairguard.errors import ModelError
from fairguard.names import listed


def to_device(x: Any, *, device: torch.device, dtype: torch.dtype | None) -> Any:
    """Return a batch's features as tensors on ``device``, in the same shape of dict or tuple.

    Floating features get the model's floating ``dtype``; integers (token ids, images not yet scaled) stay as they are.

    Raises:
        ModelError: there are no features, or they are not numbers.
    """
    if isinstance(x, dict):
        return {name: to_device(part, device=device, dtype=dtype) for name, part in x.items()}
    if isinstance(x, tuple | list):
        return tuple(to_device(part, device=device, dtype=dtype) for part in x)
    tensor = x if isinstance(x, torch.Tensor) else _from_numpy(x)
    if dtype is not None and tensor.is_floating_point() and tensor.dtype != dtype:
        return tensor.to(device=device, dtype=dtype)
    return tensor.to(device)


def _from_numpy(x: Any) -> torch.Tensor:
    if x is None:
        raise ModelError("the data has no features for the model; name the feature columns with --features.")
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise ModelError(f"the features are {array.dtype.name}, not numbers; turn them into numbers with --transform.")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.writeable or any(stride < 0 for stride in array.strides):
        array = array.copy()  # torch cannot share memory that is read-only or runs backwards
    return torch.from_numpy(array)


def scores_of(output: Any, *, rows: int, key: str | None, name: str) -> NDArray[np.generic]:
    """Return what a model gave as numbers of shape (rows, ...).

    Args:
        output: a tensor or array, or a dict, dataclass or tuple of such.
        rows: rows that went in.
        key: which of several outputs to take, by name or place.
        name: the model's name, for messages.

    Raises:
        ModelError: several outputs and no ``key``, an unknown ``key``, another number of rows, or a detector's.
    """
    if key is None:
        _refuse_boxes(output, rows, name)
    values = _array(_pick(output, key, name), name)
    if values.ndim == 0 or len(values) != rows:
        raise ModelError(
            f"{name} gives an output of shape {tuple(values.shape)} for {rows} rows; "
            f"a classifier gives (rows, classes) or (rows,)."
        )
    return values


def _refuse_boxes(output: Any, rows: int, name: str) -> None:
    """Raise :class:`ModelError` if a model gives a dict for each row, as detectors do, or one dict with boxes."""
    each = isinstance(output, tuple | list) and len(output) == rows > 0 and all(isinstance(o, dict) for o in output)
    held = output[0] if each else output
    if not isinstance(held, dict) or not (each or {"boxes", "pred_boxes"} & set(map(str, held))):
        return
    names = listed([str(key) for key in held], most=8)
    what = "a dict for each row" if each else "a dict"
    raise ModelError(
        f"{name} gives {what} ({names}) and looks like a detector; this judges classifiers, which give (rows, classes) "
        f"or (rows,). Let its forward end in the scores of the classes, or give its answers as a file of predictions."
    )


def _pick(output: Any, key: str | None, name: str) -> Any:
    if hasattr(output, "keys") and hasattr(output, "__getitem__"):
        choices = {str(k): output[k] for k in output.keys()}  # noqa: SIM118 - a ModelOutput iterates over its keys too
    elif isinstance(output, tuple | list):
        choices = {str(i): part for i, part in enumerate(output)}
    else:
        return output
    return choose(choices, key, name)


def choose(choices: dict[str, Any], key: str | None, name: str) -> Any:
    """Return one of a model's named outputs.

    Raises:
        ModelError: ``key`` is none of them, or is missing where there are several.
    """
    if key is None and len(choices) == 1:
        return next(iter(choices.values()))
    if key is None and "logits" in choices:
        return choices["logits"]
    if key not in choices:
        what = "returns several outputs" if key is None else f"has no output {key!r}"
        raise ModelError(f"{name} {what}; choose one with --output-key: {listed(list(choices), most=8) or 'none'}.")
    return choices[key]


def _array(values: Any, name: str) -> NDArray[np.generic]:
    if isinstance(values, torch.Tensor):
        return _numpy(values)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise ModelError(f"{name} returns a {type(values).__name__}, not a tensor of scores.")
    return array


def _numpy(values: torch.Tensor) -> NDArray[np.generic]:
    if values.is_quantized:
        values = values.dequantize()
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.float()
    array: NDArray[np.generic] = values.detach().cpu().numpy()
    return array
