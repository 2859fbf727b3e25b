"""A repaired model in the kind of file that PRUNED had: the same wrapping, names and dtypes, and other numbers.

Knows file formats; knows nothing of how the weights came about.
"""

from __future__ import annotations

import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairguard.errors import ModelError, OutputError
from fairguard.inputs.checkpoints import chosen_set, weight_sets
from fairguard.inputs.detect import Kind, detect
from fairguard.inputs.models import split_name
from fairguard.inputs.nested import mapped
from fairguard.names import listed, shown
from fairguard.repair.disk import written
from fairguard.repair.masks import Masks, Weights
from fairguard.repair.nets import run


def write_like(like: str | Path | None, path: Path, weights: Weights, masks: Masks) -> None:
    """Write ``weights`` to ``path`` as the file ``like`` is written; as a plain state dict if there is no such file.

    Optimiser states that a checkpoint carries belong to the old weights and are left out.

    Args:
        like: PRUNED's file, trusted already if its kind runs code; ``file.pt::NAME`` for one of its sets of weights.
        path: where to; its folder exists.
        weights: state dict of the network.
        masks: which weights live, for files that keep masks beside weights.

    Raises:
        ModelError: PRUNED's kind of file holds no weights that could be replaced.
        OutputError: ``path`` cannot be written.
    """
    if like is None:
        state = {name: tensor.cpu() for name, tensor in weights.items()}
        with written(path):
            torch.save(state, path)
        return
    like, name = split_name(str(like))
    kind = detect(like).kind
    if kind is Kind.STATE_DICT:
        held = torch.load(like, map_location="cpu", weights_only=True)
        state = _replaced(held, weights, masks, name=name)
        with written(path):
            torch.save(state, path)
    elif kind is Kind.SAFETENSORS:
        _write_safetensors(like, path, weights, masks, prefix="" if name is None else f"{name}.")
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


def sha256_of_tensors(named: Mapping[str, Tensor]) -> str:
    """Return the hex digest of what tensors hold, by name."""
    found = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


POSSIBLE = "Give a state dict, checkpoint, safetensors, module, TorchScript or .pt2 file."


def export_onnx(net: nn.Module, example: Any, path: Path) -> None:
    """Write ``net`` as ONNX with a free number of rows.

    Args:
        net: in eval mode, on the CPU.
        example: two rows of features.

    Raises:
        OutputError: torch cannot export this network, or not for any number of rows, or the exporter is not installed.
    """
    args, kwargs = (
        ((), example) if isinstance(example, dict) else (example if isinstance(example, tuple) else (example,), {})
    )
    rows = torch.export.Dim("rows")
    shapes = mapped(lambda t: {0: rows}, example)
    shapes = shapes if isinstance(example, dict | tuple) else (shapes,)
    names = _names_of_answers(net, example)
    how: dict[str, Any] = {"output_names": names, "dynamo": True, "verbose": False, "external_data": False}
    try:
        with _quiet():
            program = torch.onnx.export(net, args, str(path), kwargs=kwargs or None, dynamic_shapes=shapes, **how)
            if _of_any_number(program, args, kwargs):
                return
            # The usual way runs the forward, where len(x) is a number; this one reads its code.
            with suppress(Exception):
                whole = torch.export.export(net, args, kwargs, dynamic_shapes=shapes, strict=True)
                if _of_any_number(torch.onnx.export(whole, (), str(path), **how), args, kwargs):
                    return
    except ImportError as error:
        update = "-U " if find_spec("onnxscript") else ""  # one that is older than torch lacks what torch asks it for
        raise OutputError(
            f"cannot export to ONNX: {shown(error, width=200)}. pip install {update}onnxscript"
        ) from error
    except Exception as error:
        raise OutputError(_no_export(error)) from error
    raise OutputError(
        "cannot export to ONNX: the graph would take 2 rows at a time and no other number, as the forward turns the "
        "number of rows into a constant. Leave out --export, or write x.shape[0] (or -1) there and no int(...)."
    )


def _no_export(error: Exception) -> str:
    """Return why torch cannot export in one line; what it says around the reason is a page for its own developers."""
    reason = error.__cause__ or error
    text = str(reason).strip().splitlines() or [""]
    return (
        f"cannot export to ONNX: {type(reason).__name__}: {shown(text[0], width=200)}. Leave out --export, or "
        "change the network: no TorchScript, and no branch on what the rows hold."
    )


def _of_any_number(program: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Return whether an exported program takes another number of rows than the two that it was traced with."""
    if any(value.shape is not None and isinstance(value.shape[0], int) for value in program.model.graph.inputs):
        return False
    try:
        program(*args, **kwargs)
    except Exception:  # no onnxruntime, or a way to feed it that is not known here: the sizes declared must do
        return True
    three: Any = lambda x: mapped(lambda t: torch.cat([t, t[:1]]), x)  # noqa: E731
    try:
        program(*three(args), **three(kwargs))
    except Exception:  # a constant deep inside
        return False
    return True


def _names_of_answers(net: nn.Module, example: Any) -> list[str] | None:
    """Return the keys of a net's answers, which an exported file would lose; ``None`` where they have none."""
    with torch.no_grad():
        out = run(net, example)
    named = isinstance(out, dict) and all(isinstance(part, torch.Tensor) for part in out.values())
    return list(out) if named else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says and prints off the terminal: what went wrong is told in one line."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    nowhere = io.StringIO()
    try:
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def count_zeros(state: Mapping[str, Tensor], masks: Masks) -> tuple[int, int]:
    """Return the zeros among the stored entries that are under a mask, and the number of those entries."""
    stored = [state[name] for name in masks.keep]
    return sum(int((tensor == 0).sum()) for tensor in stored), sum(tensor.numel() for tensor in stored)


def written_sparsity(state: Mapping[str, Tensor], masks: Masks, *, asked: Masks) -> float:
    """Return the zeros among the entries under ``masks`` in a written file's ``state``, a fraction.

    Raises:
        ModelError: they are fewer than under the masks ``asked`` for, which is nobody's fault but ours.
    """
    zeros, total = count_zeros(state, masks)
    if zeros < asked.total - asked.kept:
        raise ModelError(
            f"internal: the written file has {zeros} of {total} weights zero, fewer than asked. Report it."
        )
    return zeros / total


def _replaced(held: Any, weights: Weights, masks: Masks, *, name: str | None) -> Any:
    """Return what a file held, with the weights replaced wherever they were nested.

    What belongs to the old weights is left out: optimisers, and other sets of the same names, such as running means.
    """
    chosen, prefix, old = _chosen(held, name)
    return _swapped(held, chosen, old, _renewed_under(prefix, chosen, weights, masks))


def _chosen(held: Any, name: str | None) -> tuple[Any, str, set[int]]:
    """Return the set of weights that is meant, what its names begin with, and the ids of others of the same names."""
    sets = weight_sets(held)
    place, prefix = chosen_set(held, sets) if name is None else name, ""
    if name is not None and name not in sets and "" in sets:
        place, prefix = "", f"{name}."  # in a flat file NAME is what the names of the weights begin with
    if place is None or place not in sets:
        raise ModelError(
            f"the file holds several sets of weights ({', '.join(sets)}): add which one is meant as FILE::NAME."
        )
    old = {id(part) for name, part in sets.items() if name != place and set(part) == set(sets[place])}
    return sets[place], prefix, old


def _swapped(held: Any, chosen: Any, old: set[int], new: Weights) -> Any:
    if held is chosen:
        changed = copy.copy(held)
        changed.update(new)
        return changed
    if not isinstance(held, Mapping):
        return held
    kept = {k: v for k, v in held.items() if not _is_old(k, v, old)}
    return {key: _swapped(part, chosen, old, new) for key, part in kept.items()}


def _is_old(key: object, value: Any, old: set[int]) -> bool:
    """Return whether an entry of a checkpoint belongs to the weights as they were."""
    return str(key).startswith(("optim", "_optim")) or id(value) in old


def left_out_notes(like: str | None) -> list[str]:
    """Return a sentence that names the entries of a model's file which a file written like it has not.

    Args:
        like: as :func:`write_like` takes it.
    """
    if like is None:
        return []
    path, name = split_name(str(like))
    kind = detect(path).kind
    found: list[str] = []
    if kind is Kind.STATE_DICT:
        held = torch.load(path, map_location="cpu", weights_only=True)
        chosen, _, old = _chosen(held, name)
        found = list(_dropped(held, chosen, old))
    elif kind is Kind.MODULE:
        held = torch.load(path, map_location="cpu", weights_only=False)
        if not isinstance(held, nn.Module):
            module = next((part for part in held.values() if isinstance(part, nn.Module)), None)
            found = [str(key) for key, part in held.items() if part is not module]
    return [f"what {path} holds of other weights is not in the new file: {listed(found)}"] if found else []


def _dropped(held: Any, chosen: Any, old: set[int], before: str = "") -> Iterator[str]:
    """Yield the names of the entries that :func:`_swapped` leaves out."""
    if held is chosen or not isinstance(held, Mapping):
        return
    for key, part in held.items():
        if _is_old(key, part, old):
            yield f"{before}{key}"
        else:
            yield from _dropped(part, chosen, old, f"{before}{key}.")


def _renewed_under(prefix: str, state: Mapping[str, Any], weights: Weights, masks: Masks) -> Weights:
    """Return what :func:`_renewed` does of the stored tensors whose names begin with ``prefix``."""
    inside = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return {f"{prefix}{name}": tensor for name, tensor in _renewed(inside, weights, masks).items()}


def _renewed(state: Mapping[str, Any], weights: Weights, masks: Masks) -> Weights:
    """Return what the stored tensors of ``state`` become, by their names; what is no weight of the network is left out.

    A stored name may carry what wrappers put before it, and a pruned weight may be stored in two halves. Tied weights,
    which are stored once, stay tied.
    """
    prefix = _prefix(state, weights)
    found: Weights = {}
    stored: dict[tuple[Any, ...], Tensor] = {}
    for name, old in state.items():
        plain = name.replace("_orig_mod.", "")
        if not isinstance(old, Tensor) or not plain.startswith(prefix):
            continue
        plain = plain.removeprefix(prefix)
        whole = plain.removesuffix("_orig").removesuffix("_mask")
        if plain not in weights and whole not in weights:
            continue
        new = weights[plain] if plain in weights else weights[whole]
        if plain not in weights and plain.endswith("_mask"):
            new = masks.keep[whole] if whole in masks.keep else torch.ones_like(new)
        new = new.detach().to("cpu", old.dtype, copy=True).contiguous()
        tied = stored.setdefault((old.data_ptr(), old.dtype, old.shape, old.stride()), new)
        found[name] = tied if torch.equal(tied, new) else new
    return found


def _prefix(state: Mapping[str, Any], weights: Weights) -> str:
    """Return what stands before the network's own names in a file: ``module.``, Lightning's ``model.``, or nothing."""
    names = {name.replace("_orig_mod.", "").removesuffix("_orig") for name in state}
    first = min(weights, key=len)
    found = [name.removesuffix(first) for name in names if name == first or name.endswith(f".{first}")]
    return max(sorted(found, key=len), key=lambda prefix: sum(prefix + name in names for name in weights), default="")


def _write_safetensors(like: Path, path: Path, weights: Weights, masks: Masks, *, prefix: str) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(like, framework="pt") as file:
        metadata = file.metadata()
    state = load_file(like)
    state.update(_renewed_under(prefix, state, weights, masks))
    with written(path):
        save_file(state, path, metadata=metadata)


@torch.no_grad()
def _filled(module: Any, weights: Weights, masks: Masks) -> Any:
    """Return the module with its own tensors overwritten."""
    if not isinstance(module, nn.Module):
        module = next((part for part in module.values() if isinstance(part, nn.Module)), None)
    if module is None:
        raise ModelError("the file holds no module whose weights could be replaced.")
    state = module.state_dict()
    for name, new in _renewed(state, weights, masks).items():
        state[name].copy_(new)
    return module


@torch.no_grad()
def _write_exported(like: Path, path: Path, weights: Weights, masks: Masks) -> None:
    program = torch.export.load(like)
    for name, new in _renewed(program.state_dict, weights, masks).items():
        program.state_dict[name].copy_(new)
    with written(path):
        torch.export.save(program, path)
