"""Weights by name (torch state dicts, safetensors) put into a module that a factory builds. Runs no file's code."""

from __future__ import annotations

import copy
import importlib
import inspect
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.checkpoints import State, tensors_in, under, weights_in
from fairguard.inputs.detect import Found, Kind
from fairguard.inputs.factories import importable, load_callable
from fairguard.inputs.floors import require
from fairguard.inputs.limits import Limits, human
from fairguard.names import listed, shown

Factory = str | Callable[..., Any]
_SCALE, _ZERO_POINT = (re.compile(rf"_?{name}s?(_\d+)?") for name in ("scale", "zero_point"))
"""What torch's quantised models call the numbers beside their integers."""

_OBSERVER = re.compile(r"(^|\.)(activation_post_process(_\d+)?|weight_fake_quant)\.")
"""What torch calls the parts that watch activations and weights until a quantisation is converted."""


def module_from(
    found: Found,
    factory: Factory | None,
    *,
    limits: Limits,
    name: str | None = None,
    notes: list[str] | None = None,
) -> nn.Module:
    """Return the factory's module with the file's weights, in the floating dtype of the file.

    Args:
        found: the file.
        factory: what builds the architecture.
        limits: bounds on what the file may claim.
        name: which of several sets of weights in a checkpoint.
        notes: gets what the reader of a verdict should know of the file.

    Raises:
        ModelError: no factory, one that fails, weights of other names or shapes, or a broken file.
    """
    return _built(found, state_of(found, read_held(found), limits=limits, name=name, notes=notes), factory)


def module_from_held(
    found: Found, held: Any, factory: Factory | None, *, name: str | None = None, notes: list[str] | None = None
) -> nn.Module:
    """Return the factory's module with the weights in ``held``, what a trusted pickle turned out to be."""
    return _built(found, weights_in(held, str(found.path), name=name, notes=notes), factory)


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


def state_of(
    found: Found, held: Any, *, limits: Limits, name: str | None = None, notes: list[str] | None = None
) -> State:
    """Return the tensors by name in what a file ``held``, if they take no more memory than such a file may ask for."""
    state = weights_in(held, str(found.path), name=name, notes=notes)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(state).values())
    if limits.too_much(claimed, found.size):
        raise ModelError(f"{found.path} has {human(found.size)} and claims tensors of {human(claimed)}. Save it again.")
    return state


def read_held(found: Found) -> Any:
    """Return whatever a file of weights holds."""
    return _read_safetensors(found) if found.kind is Kind.SAFETENSORS else _read_torch(found)


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


def build(factory: Factory) -> nn.Module:
    """Return the module that a factory gives when called without arguments; of a module itself, a copy.

    Raises:
        ModelError: it takes arguments, raises, or gives something else.
    """
    name = name_of(factory)
    function = load_callable(factory) if isinstance(factory, str) else factory
    if not isinstance(function, nn.Module):
        _takes_nothing(function, name)
    try:
        with importable(factory):
            module = copy.deepcopy(function) if isinstance(function, nn.Module) else function()
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
    """Load ``state`` into ``module``: every name, every shape and every kind of number must fit.

    Raises:
        ModelError: which names and shapes do not fit.
    """
    state = fitting(state, names_of(module))
    differences = mismatches(module, state)
    if differences:
        raise ModelError(f"{name} does not fit {factory}: {'; '.join(differences)}.{_hint(differences, module, state)}")
    tensors = tensors_in(state).values()
    subclasses = any(type(tensor) not in (torch.Tensor, nn.Parameter) for tensor in tensors)
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if len(dtypes) == 1 and not subclasses:
        module.to(dtypes.pop())  # half-precision weights are judged as they will run
    try:
        module.load_state_dict(state, strict=True, assign=subclasses)
    except Exception as error:
        raise ModelError(f"{name} does not fit {factory}: {shown(_details(error), width=300)}") from error


def _hint(differences: Sequence[str], module: nn.Module, state: State) -> str:
    """Return what to do about weights that do not fit."""
    if any(_OBSERVER.search(name) for name in state):
        return (
            " It keeps observers of a quantisation that was prepared and not converted: convert the model "
            "(torch.ao.quantization.convert), save that one's state dict, and name a function that prepares and "
            "converts in the same way, for the pruned one with --model-pruned FILE.py:function."
        )
    foreign = {name.rpartition(".")[2] for name in state if name not in module.state_dict()}
    if any(_SCALE.fullmatch(name) for name in foreign) and any(_ZERO_POINT.fullmatch(name) for name in foreign):
        return (
            " It is the state dict of a quantised model: name a function that builds the model and quantises it in the "
            "same way, for the pruned one with --model-pruned FILE.py:function."
        )
    if any(".parametrizations." in f".{name}" for name in state if name not in module.state_dict()):
        return (
            " It keeps weights with their parametrisation: let the function apply the same one, or save the state dict "
            "after torch.nn.utils.parametrize.remove_parametrizations (torch.ao.pruning: after squash_mask)."
        )
    other = " A model of other shapes (structured pruning) needs its own factory: --model-pruned."
    return other if any(text.startswith("other shape") for text in differences) else ""


def _details(error: Exception) -> str:
    """Return what torch complains of, without the line that only says that it does."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 and lines[0].startswith("Error(s) in loading") else first_line(error)


Names = Mapping[str, frozenset[str]]
"""A module's names of weights, each with all names of the same tensor: tied weights have several."""


def names_of(module: nn.Module) -> Names:
    """Return the names that ``module`` has for its weights."""
    tied: dict[Any, set[str]] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        tied.setdefault(id(value) if isinstance(value, torch.Tensor) else name, set()).add(name)
    return {name: frozenset(names) for names in tied.values() for name in names}


def fitting(state: State, names: Names) -> State:
    """Return ``state`` under the module's names: as it is if those fit, else without what wrappers put around them.

    Wrappers are ``_orig_mod.`` and ``module.``, masks of torch.nn.utils.prune, and any one prefix under which all of
    the module's names stand, as Lightning's ``model.``; what is not under it is no part of the module.
    """
    unwrapped = _renamed(state, lambda name: name.replace("_orig_mod.", ""))
    while not _fits(unwrapped, names) and unwrapped and all(name.startswith("module.") for name in unwrapped):
        unwrapped = _renamed(unwrapped, lambda name: name.removeprefix("module."))
    bare = folded(unwrapped)
    inside = _inside(bare, names)
    forms = (state, unwrapped, bare, *(inside if len(inside) == 1 else ()))
    return next((_with_ties(form, names) for form in forms if _fits(form, names)), bare)


def _fits(state: State, names: Names) -> bool:
    return not set(state) - set(names) and not _missing(state, names)


def _missing(state: State, names: Names) -> list[str]:
    """Return the names without a weight; a count that prediction never reads may be missing, as in old files."""
    return [
        name
        for name, tied in names.items()
        if not any(other in state for other in tied) and not name.endswith("num_batches_tracked")
    ]


def _with_ties(state: State, names: Names) -> State:
    """Return ``state`` with tied weights under all their names; safetensors keeps one of them."""
    for name, tied in names.items():
        if name not in state and (other := next((other for other in tied if other in state), None)):
            state[name] = state[other]
    return state


def _inside(state: State, names: Names) -> list[State]:
    """Return the parts of ``state`` that are a whole module under some prefix."""
    first = min(names, key=len, default="")
    prefixes = [name.removesuffix(first) for name in state if first and name.endswith(f".{first}")]
    return [part for prefix in prefixes if _fits(part := under(state, prefix), names)]


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
    """Return what keeps ``state`` from fitting ``module``: names missing or too many, other shapes or numbers."""
    wanted = module.state_dict()
    missing = _missing(state, names_of(module))
    unexpected = [name for name in state if name not in wanted]
    both = [name for name in wanted if name in state]
    shapes = [
        f"{name} {_shape(state[name])}, the model has {_shape(wanted[name])}"
        for name in both
        if _shape(state[name]) != _shape(wanted[name])
    ]
    types = [
        f"{name} {_dtype(state[name])}, the model has {_dtype(wanted[name])}"
        for name in both
        if _floating(wanted[name]) and not _floating(state[name])
    ]
    found = (("missing", missing), ("unexpected", unexpected), ("other shape", shapes), ("other type", types))
    return [f"{what}: {listed(names, most=3)}" for what, names in found if names]


def _floating(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point()


def _dtype(tensor: Any) -> str:
    return str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")


def _shape(tensor: Any) -> tuple[int, ...] | None:
    return tuple(tensor.shape) if isinstance(tensor, torch.Tensor) else None


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text, or its type where it has none."""
    if isinstance(error, FairguardError):
        return str(error)
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
