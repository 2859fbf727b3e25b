"""A repaired model in the kind of file that PRUNED had: the same wrapping, names and dtypes, and other numbers.

Knows file formats; knows nothing of how the weights came about.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError, OutputError
from fairguard.inputs.detect import Kind, detect
from fairguard.inputs.state_dicts import CHECKPOINT_KEYS, weights_in
from fairguard.repair.journal import written
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.rows import mapped


def write_like(like: Path | None, path: Path, weights: Weights, masks: Masks) -> None:
    """Write ``weights`` to ``path`` as the file ``like`` is written; as a plain state dict if there is no such file.

    Optimiser states that a checkpoint carries belong to the old weights and are left out.

    Args:
        like: PRUNED's file, trusted already if its kind runs code.
        path: where to; its folder exists.
        weights: state dict of the network.
        masks: which weights live, for files that keep masks beside weights.

    Raises:
        ModelError: PRUNED's kind of file holds no weights that could be replaced.
        OutputError: ``path`` cannot be written.
    """
    kind = Kind.STATE_DICT if like is None else detect(like).kind
    if like is None:
        state = {name: tensor.cpu() for name, tensor in weights.items()}
        with written(path):
            torch.save(state, path)
    elif kind is Kind.STATE_DICT:
        held = torch.load(like, map_location="cpu", weights_only=True)
        state = _replaced(held, weights, masks)
        with written(path):
            torch.save(state, path)
    elif kind is Kind.SAFETENSORS:
        _write_safetensors(like, path, weights, masks)
    elif kind is Kind.MODULE:
        module = torch.load(like, map_location="cpu", weights_only=False)
        filled = _filled(module, weights, masks)
        with written(path):
            torch.save(filled, path)
    elif kind is Kind.TORCHSCRIPT:
        script = torch.jit.load(str(like), map_location="cpu")  # type: ignore[no-untyped-call]
        filled = _filled(script, weights, masks)
        with written(path):
            torch.jit.save(filled, str(path))
    elif kind is Kind.PT2:
        _write_exported(like, path, weights, masks)
    else:
        raise ModelError(f"{like} is {kind}: new weights cannot be written into that kind of file. {POSSIBLE}")


POSSIBLE = "Give a state dict, checkpoint, safetensors, module, TorchScript or .pt2 file."


def export_onnx(net: nn.Module, example: Any, path: Path) -> None:
    """Write ``net`` as ONNX with a free number of rows.

    Args:
        net: in eval mode, on the CPU.
        example: some rows of features.

    Raises:
        OutputError: torch cannot export this network, or the exporter is not installed.
    """
    args, kwargs = (
        ((), example) if isinstance(example, dict) else (example if isinstance(example, tuple) else (example,), {})
    )
    rows = torch.export.Dim("rows")
    shapes = mapped(example, lambda t: {0: rows})  # type: ignore[arg-type,return-value]
    try:
        with _quiet():
            torch.onnx.export(
                net,
                args,
                str(path),
                kwargs=kwargs or None,
                dynamo=True,
                verbose=False,
                external_data=False,
                dynamic_shapes=shapes if isinstance(example, dict | tuple) else (shapes,),
            )
    except Exception as error:
        raise OutputError(
            f"cannot export to ONNX: {type(error).__name__}: {error} "
            "The new weights are written all the same; exporting needs `pip install onnxscript`."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on packages that are not installed off the terminal."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def count_zeros(state: Mapping[str, Tensor], masks: Masks) -> tuple[int, int]:
    """Return the zeros among the stored entries that are under a mask, and the number of those entries."""
    stored = [state[name] for name in masks.keep]
    return sum(int((tensor == 0).sum()) for tensor in stored), sum(tensor.numel() for tensor in stored)


def _replaced(held: Any, weights: Weights, masks: Masks) -> Any:
    """Return what a file held, with its tensors replaced wherever they were nested."""
    state = weights_in(held, "the model")
    if _is_around(held, state):
        key = next(
            key for key in CHECKPOINT_KEYS if isinstance(held.get(key), Mapping) and set(state) <= set(held[key])
        )
        kept = {k: v for k, v in held.items() if not str(k).startswith("optim")}
        return kept | {key: _replaced(held[key], weights, masks)}
    changed = copy.copy(held)
    for name, old in state.items():
        changed[name] = _new(name, old, weights, masks)
    return changed


def _is_around(held: Mapping[str, Any], state: Weights) -> bool:
    return not set(state) <= set(held)


def _new(name: str, old: Tensor, weights: Weights, masks: Masks) -> Tensor:
    """Return what a stored tensor becomes; its name may carry a wrapper's prefix, or a pruned weight's two halves."""
    plain = _plain(name, weights)
    if plain in weights:
        return weights[plain].detach().to("cpu", old.dtype).clone()
    if plain.endswith("_orig"):
        return weights[plain.removesuffix("_orig")].detach().to("cpu", old.dtype).clone()
    weight = plain.removesuffix("_mask")
    living = masks.keep[weight] if weight in masks.keep else torch.ones_like(weights[weight])
    return living.to("cpu", old.dtype)


def _plain(name: str, weights: Weights) -> str:
    """Return the network's own name of a stored tensor; ``_orig`` and ``_mask`` stay."""
    if name in weights:
        return name
    name = name.replace("_orig_mod.", "")
    while name not in weights and name.startswith("module."):
        name = name.removeprefix("module.")
    return name


def _write_safetensors(like: Path, path: Path, weights: Weights, masks: Masks) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(like, framework="pt") as file:
        metadata = file.metadata()
    state = {name: _new(name, old, weights, masks).contiguous() for name, old in load_file(like).items()}
    with written(path):
        save_file(state, path, metadata=metadata)


@torch.no_grad()
def _filled(module: Any, weights: Weights, masks: Masks) -> Any:
    """Return the module with its own tensors overwritten."""
    if not isinstance(module, nn.Module):
        module = next((part for part in module.values() if isinstance(part, nn.Module)), None)
    if module is None:
        raise ModelError("the file holds no module whose weights could be replaced.")
    for name, tensor in module.state_dict().items():
        tensor.copy_(_new(name, tensor, weights, masks))
    return module


@torch.no_grad()
def _write_exported(like: Path, path: Path, weights: Weights, masks: Masks) -> None:
    program = torch.export.load(like)
    for name, tensor in program.state_dict.items():
        tensor.copy_(_new(name, tensor, weights, masks))
    with written(path):
        torch.export.save(program, path)
