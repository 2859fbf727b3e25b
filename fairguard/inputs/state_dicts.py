"""Weights by name (torch state dicts, safetensors) put into a module that a factory builds. Runs no file's code."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.detect import Found, Kind
from fairguard.inputs.factories import load_callable
from fairguard.inputs.floors import require
from fairguard.inputs.limits import Limits, human, listed, shown

State = dict[str, Any]
"""Tensors by name; quantised modules of torch.ao keep a few other values among them."""
Factory = str | Callable[..., Any]

CHECKPOINT_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "module", "params")
"""Under which a training checkpoint keeps the weights, in the order in which they are looked for."""


def module_from(found: Found, factory: Factory | None, *, limits: Limits) -> nn.Module:
    """Return the factory's module with the file's weights, in the floating dtype of the file.

    Raises:
        ModelError: no factory, one that fails, weights of other names or shapes, or a broken file.
    """
    return _built(found, read_state(found, limits=limits), factory)


def module_from_held(found: Found, held: Any, factory: Factory | None) -> nn.Module:
    """Return the factory's module with the weights in ``held``, what a trusted pickle turned out to be."""
    return _built(found, weights_in(held, str(found.path)), factory)


def _built(found: Found, state: State, factory: Factory | None) -> nn.Module:
    if factory is None:
        first = listed(list(state), most=1)
        raise ModelError(
            f"{found.path} holds weights without their architecture ({first}); "
            f"name the function that builds it with --model pkg.module:build."
        )
    module = build(factory)
    with_weights(module, state, name=str(found.path), factory=name_of(factory))
    return module


def read_state(found: Found, *, limits: Limits) -> State:
    """Return a file's tensors by name, checkpoints unwrapped, as stored."""
    held = _read_safetensors(found) if found.kind is Kind.SAFETENSORS else _read_torch(found)
    state = weights_in(held, str(found.path))
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state).values())
    if limits.too_much(claimed, found.size):
        raise ModelError(f"{found.path} has {human(found.size)} and claims tensors of {human(claimed)}. Save it again.")
    return state


def _read_torch(found: Found) -> Any:
    """Load with torch's weights-only unpickler, always; tensors are mapped, so that claims alone take no memory."""
    if found.kind is Kind.TORCHAO:
        require("torchao", what=f"{found.path} holds torchao's quantised tensors, which")
        importlib.import_module("torchao")  # which tells torch's unpickler the classes of its tensors
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns of its own storages in quantised weights
            return torch.load(found.path, map_location="cpu", weights_only=True, mmap=found.zipped)
    except Exception as error:
        raise ModelError(
            f"{found.path} is a broken or truncated torch file ({shown(first_line(error))}). Save it again."
        ) from None


def _read_safetensors(found: Found) -> State:
    from safetensors.torch import load_file

    try:
        return dict(load_file(found.path))
    except Exception as error:
        raise ModelError(
            f"{found.path} is a broken or truncated safetensors file ({shown(first_line(error))}). Save it again."
        ) from None


def weights_in(held: Any, path: str) -> State:
    """Return the tensors of a state dict, or of the checkpoint around one."""
    if isinstance(held, Mapping):
        for key in CHECKPOINT_KEYS:
            if isinstance(held.get(key), Mapping) and tensors_in(held[key]):
                return _state(held[key])
        if tensors_in(held):
            return _state(held)
        raise ModelError(
            f"{path} holds no weights under {', '.join(CHECKPOINT_KEYS[:3])}; its keys are: "
            f"{listed([str(key) for key in held], most=8) or 'none'}. Save model.state_dict()."
        )
    raise ModelError(f"{path} holds a {type(held).__name__}, no weights by name. Save model.state_dict().")


def tensors_in(held: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the values that are tensors."""
    return {str(key): value for key, value in held.items() if isinstance(value, torch.Tensor)}


def packed_in(held: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the weights that torch.ao's quantised layers keep in pairs with their biases."""
    pairs = {str(key): value for key, value in held.items() if isinstance(value, tuple) and value}
    return {key: value[0] for key, value in pairs.items() if isinstance(value[0], torch.Tensor)}


def _state(held: Mapping[Any, Any]) -> State:
    """Return a plain copy that still knows the versions of the modules it was saved from."""
    state: State = OrderedDict((str(key), value) for key, value in held.items())
    if isinstance(metadata := getattr(held, "_metadata", None), Mapping):
        state._metadata = metadata  # type: ignore[attr-defined]
    return state


def build(factory: Factory) -> nn.Module:
    """Return the module that a factory gives when called without arguments.

    Raises:
        ModelError: it takes arguments, raises, or gives something else.
    """
    name = name_of(factory)
    function = load_callable(factory) if isinstance(factory, str) else factory
    _takes_nothing(function, name)
    try:
        module = function()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{name} failed: {type(error).__name__}: {shown(error, width=300)}") from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name} gives a {type(module).__name__}, not a torch.nn.Module.")
    return module


def name_of(factory: Factory) -> str:
    """Return how a factory is called in messages."""
    return factory if isinstance(factory, str) else getattr(factory, "__qualname__", type(factory).__name__)


def _takes_nothing(function: Any, name: str) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind not in optional]
    if needed:
        raise ModelError(
            f"{name} needs arguments ({', '.join(needed)}); name a function without any, e.g. "
            f"`def build(): return {name.rpartition(':')[2]}(...)`."
        )


def with_weights(module: nn.Module, state: State, *, name: str, factory: str) -> None:
    """Load ``state`` into ``module``: every name and every shape must fit.

    Raises:
        ModelError: which names and shapes do not fit.
    """
    state = fitting(state, set(module.state_dict()))
    differences = mismatches(module, state)
    if differences:
        raise ModelError(
            f"{name} does not fit {factory}: {'; '.join(differences)}. "
            f"A model of other shapes (structured pruning) needs its own factory: --model-pruned."
        )
    tensors = tensors_in(state).values()
    subclasses = any(type(tensor) not in (torch.Tensor, nn.Parameter) for tensor in tensors)
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if len(dtypes) == 1 and not subclasses:
        module.to(dtypes.pop())  # half-precision weights are judged as they will run
    try:
        module.load_state_dict(state, strict=True, assign=subclasses)
    except Exception as error:
        raise ModelError(f"{name} does not fit {factory}: {shown(first_line(error), width=300)}") from error


def fitting(state: State, names: set[str]) -> State:
    """Return ``state`` under the module's names: as it is if those fit, else without wrappers' prefixes and masks."""
    if _fits(state, names):
        return state
    state = _renamed(state, lambda name: name.replace("_orig_mod.", ""))
    while not _fits(state, names) and state and all(name.startswith("module.") for name in state):
        state = _renamed(state, lambda name: name.removeprefix("module."))
    return state if _fits(state, names) else folded(state)


def _fits(state: State, names: set[str]) -> bool:
    return not set(state) - names and not _missing(state, names)


def _missing(state: State, names: Iterable[str]) -> list[str]:
    """Return the names without a weight; a count that prediction never reads may be missing, as in old files."""
    return [name for name in names if name not in state and not name.endswith("num_batches_tracked")]


def _renamed(state: State, rename: Callable[[str], str]) -> State:
    renamed: State = OrderedDict((rename(name), value) for name, value in state.items())
    if metadata := getattr(state, "_metadata", None):
        renamed._metadata = {rename(f"{name}.").rstrip("."): v for name, v in metadata.items()}  # type: ignore[attr-defined]
    return renamed


def folded(state: State) -> State:
    """Return ``state`` with ``weight_orig * weight_mask`` in place of each pair, as ``prune.remove`` would leave it."""

    def whole(name: str) -> str:
        return name.removesuffix("_orig").removesuffix("_mask")

    pairs = {whole(n): (state.get(f"{whole(n)}_orig"), state[n]) for n in state if n.endswith("_mask")}
    masked = {name for name, (orig, mask) in pairs.items() if orig is not None and _shape(orig) == _shape(mask)}
    whole_state = _renamed(state, lambda name: whole(name) if whole(name) in masked else name)
    whole_state.update((name, pairs[name][0] * pairs[name][1]) for name in masked)
    return whole_state


def mismatches(module: nn.Module, state: State) -> list[str]:
    """Return what keeps ``state`` from fitting ``module``: missing names, names too many, other shapes."""
    wanted = module.state_dict()
    missing = _missing(state, wanted)
    unexpected = [name for name in state if name not in wanted]
    shapes = [
        f"{name} {_shape(state[name])}, the model has {_shape(wanted[name])}"
        for name in wanted
        if name in state and _shape(state[name]) != _shape(wanted[name])
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("other shape", shapes))
    return [f"{what}: {listed(names, most=3)}" for what, names in found if names]


def _shape(tensor: Any) -> tuple[int, ...] | None:
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    if isinstance(error, FairguardError):
        return str(error)
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
