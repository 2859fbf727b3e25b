"""How a network is called with rows: one tensor, several in order, several by name, or a dict as its one argument.

Decided by what ``forward`` says that it takes, never by trying. Knows no file format and no task.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import Any


def arguments(net: Callable[..., Any], x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and the keyword arguments with which ``net`` takes the rows ``x``.

    Args:
        net: a module, or a function.
        x: a batch's rows: one tensor, a tuple of several in order, or a dict of several by name. A dict is keywords,
            unless they do not fit and ``forward`` takes one argument: then it is that argument.
    """
    if isinstance(x, dict):
        return ((x,), {}) if takes_dict(net, x) else ((), x)
    return (tuple(x), {}) if isinstance(x, tuple | list) else ((x,), {})


def call(net: Callable[..., Any], x: Any) -> Any:
    """Return what ``net`` gives for the rows ``x``; see :func:`arguments`."""
    args, keywords = arguments(net, x)
    return net(*args, **keywords)


def takes_dict(net: Callable[..., Any], x: Mapping[str, Any]) -> bool:
    """Return whether ``net`` takes the dict ``x`` itself, for its entries are not what ``forward`` calls its arguments.

    A ``forward`` that shares a name with it, needs a second argument, or wants a tensor was meant to get keywords.
    """
    signature = _signature(net)
    if signature is None:
        return False
    given = list(signature.parameters.values())
    if any(p.kind is Parameter.VAR_KEYWORD for p in given) and not any(_required(p) for p in given):
        return False  # whatever keywords there are, they fit
    named = {p.name for p in given if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)}
    needed = [p for p in given if _required(p)]
    alone = len(needed) == 1 and needed[0].kind is not Parameter.KEYWORD_ONLY and not _is_tensor(needed[0].annotation)
    return alone and not named & set(x)


def _is_tensor(annotation: Any) -> bool:
    """Return whether an argument is said to be a tensor, in which case a dict is none."""
    return getattr(annotation, "__name__", str(annotation)).rpartition(".")[2] == "Tensor"


def _required(parameter: Parameter) -> bool:
    variable = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return parameter.default is Parameter.empty and not variable


def _signature(net: Callable[..., Any]) -> Signature | None:
    """Return what a net's ``forward`` takes, seen through what wraps it; ``None`` where it does not say."""
    while (inner := getattr(net, "_orig_mod", None) or _wrapped(net)) is not None:
        net = inner
    forward = getattr(net, "forward", net)
    try:
        return inspect.signature(forward)
    except (ValueError, TypeError):
        return _of_script(forward)


def _wrapped(net: Any) -> Any:
    """Return the module within torch's wrappers for several devices, which take whatever it takes."""
    return net.module if type(net).__name__ in ("DataParallel", "DistributedDataParallel") else None


def _of_script(forward: Any) -> Signature | None:
    """Return what a compiled method takes; its first argument is the module."""
    schema = getattr(forward, "schema", None)
    if schema is None:
        return None
    return Signature(
        [
            Parameter(
                each.name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=each.default_value if each.has_default_value() else Parameter.empty,
            )
            for each in schema.arguments[1:]
        ]
    )
