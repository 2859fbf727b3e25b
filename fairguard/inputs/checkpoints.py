"""Which of the things that a training checkpoint keeps are the weights. Reads no file and builds no network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from fairguard.errors import ModelError, did_you_mean
from fairguard.names import listed, shown

State = dict[str, Any]
"""Tensors by name; quantised modules of torch.ao keep a few other values among them."""

CHECKPOINT_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "module",
    "params",
    "checkpoint",
)
"""Under which a training checkpoint keeps the weights, in the order in which they are looked for."""

DEEPEST = 3
"""How many dictionaries inside each other are looked into."""


def weights_in(held: Any, path: str, *, name: str | None = None, notes: list[str] | None = None) -> State:
    """Return the tensors of a state dict, or of the checkpoint around one.

    Args:
        held: what the file holds.
        path: the file, for messages.
        name: which of several sets of weights: its place, such as ``state_dict_ema`` or ``ema.model``, or in a flat
            state dict the prefix of its names; default the one under the first of :data:`CHECKPOINT_KEYS`, else the
            only one.
        notes: gets a sentence if none was named and there is another of the same network.

    Raises:
        ModelError: there are no weights, none of that name, or several and no ``name``.
    """
    if not isinstance(held, Mapping):
        raise ModelError(f"{path} holds a {type(held).__name__}, no weights by name. Save model.state_dict().")
    sets = weight_sets(held)
    if name is None:
        name = chosen_set(held, sets)
        if notes is not None and name is not None:
            notes += passed_over_notes(name, {other: _alike(sets[name], held) for other, held in sets.items()}, path)
    if name in sets:
        return _state(sets[name])
    if name is not None and "" in sets and (part := under(_state(held), f"{name}.")):
        return part
    if name is not None:
        hint = did_you_mean(name, sets)
        raise ModelError(f"{path} has no weights called {shown(name)!r}.{hint} It has: {_listed(sets)}.")
    if sets:
        raise ModelError(f"{path} holds several sets of weights; add one as {path}::NAME: {_listed(sets)}.")
    raise ModelError(
        f"{path} holds no weights by name; its keys are: {listed([str(key) for key in held], most=8) or 'none'}. "
        f"Save model.state_dict()."
    )


def weight_sets(held: Mapping[Any, Any]) -> dict[str, Mapping[Any, Any]]:
    """Return all dictionaries of weights in a checkpoint by their dotted place; its own place is ``""``."""
    return dict(_sets(held, "", DEEPEST))


def chosen_set(held: Mapping[Any, Any], sets: Mapping[str, Any]) -> str | None:
    """Return which of a checkpoint's sets of weights is judged when none is named; ``None``: that is not clear."""
    if usual := _usual(held, sets, ""):
        return usual
    return "" if "" in sets else next(iter(sets)) if len(sets) == 1 else None


def passed_over_notes(name: str, alike: Mapping[str, bool], path: str) -> list[str]:
    """Return a sentence on the networks in a checkpoint, by their places, that are ``alike`` and not judged."""
    others = [other for other in alike if other and other != name and alike[other]]
    what = f"{shown(name)} of {path}" if name else path
    same = f"the same network stands under {listed(others, most=4)} too, which {path}::NAME judges"
    return [f"{what} is judged; {same}"] if others else []


def _alike(one: Mapping[Any, Any], other: Mapping[Any, Any]) -> bool:
    """Return whether two sets hold the weights of one network: a moving average is wrapped, and counts its steps."""
    ours, theirs = ({str(key).replace("module.", "") for key in held} for held in (one, other))
    return len(ours & theirs) > len(ours) / 2


def tensors_in(held: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the values that are tensors."""
    return {str(key): value for key, value in held.items() if isinstance(value, torch.Tensor)}


def packed_in(held: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Return the weights that torch.ao's quantised layers keep in pairs with their biases."""
    pairs = {str(key): value for key, value in held.items() if isinstance(value, tuple) and value}
    return {key: value[0] for key, value in pairs.items() if isinstance(value[0], torch.Tensor)}


def _sets(held: Mapping[Any, Any], place: str, depth: int) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    # A lone number in a tensor is a loss or a score; an optimiser's state goes by numbers, not by names.
    if any(tensor.dim() for tensor in tensors_in(held).values()) or packed_in(held):
        yield place, held
    for key, part in held.items():
        if depth and isinstance(key, str) and isinstance(part, Mapping) and not key.startswith("optim"):
            yield from _sets(part, f"{place}.{key}".lstrip("."), depth - 1)


def _usual(held: Mapping[Any, Any], sets: Mapping[str, Any], place: str) -> str | None:
    """Return the first of the sets under keys that are usual for weights."""
    for key in CHECKPOINT_KEYS:
        inside = f"{place}.{key}".lstrip(".")
        if inside in sets:
            return inside
        if any(name.startswith(f"{inside}.") for name in sets):
            deeper = _usual(held[key], sets, inside)
            if deeper:
                return deeper
    return None


def _listed(sets: Mapping[str, Any]) -> str:
    return listed([name for name in sets if name], most=8) or "none"


def under(state: State, prefix: str) -> State:
    """Return the part of ``state`` whose names begin with ``prefix``, under the rest of those names."""
    part: State = OrderedDict((n.removeprefix(prefix), v) for n, v in state.items() if n.startswith(prefix))
    versions = getattr(state, "_metadata", {}).items()
    inside = {f"{n}.".removeprefix(prefix).rstrip("."): v for n, v in versions if f"{n}.".startswith(prefix)}
    part._metadata = inside  # type: ignore[attr-defined]
    return part


def _state(held: Mapping[Any, Any]) -> State:
    """Return a plain copy that still knows the versions of the modules it was saved from."""
    state: State = OrderedDict((str(key), value) for key, value in held.items())
    if isinstance(metadata := getattr(held, "_metadata", None), Mapping):
        state._metadata = metadata  # type: ignore[attr-defined]
    return state
