"""Why a torch module failed on rows: they do not fit it, or its own code is at fault. Knows no file format."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fairguard.errors import FeaturesError, ModelError
from fairguard.inputs.calling import call, takes_dict
from fairguard.names import listed, shown

_UNFIT = re.compile(
    r"shape|\bsizes?\b|dimension|\b\dD\b|channels|elements|features|embedding|padding|unpack|too many indices"
    r"|dtype|scalar type|data type|not implemented for '|(?:Float|Double|Half|Long|Int|Byte|Bool)Tensor|bool tensor"
    r"|index out of range in self|tuple index|out of range for tensor|device-side assert|Class values"
    r"|argument\(s\)|missing value for argument",
    re.IGNORECASE,
)
"""What torch's complaint speaks of where rows have another shape or dtype than the module takes."""
_IDS = re.compile(r"'indices' to have .*Long.* but got torch\.\w*(?:Float|Double|Half)Tensor")
"""What is complained of where rows are looked up in a table and are no whole numbers, as a table's columns come."""
TRANSFORM = "with --transform."
_ARGUMENTS = re.compile(r"(?:positional|keyword|keyword-only) arguments?\b")
"""What Python's complaint speaks of where the rows are fewer or more inputs than ``forward`` takes, or other ones."""
_DICT = re.compile(r"\bdict\b|'dict'|^'[^']*'$")
"""What is complained of where a module got a dict of tensors and wanted a tensor, or other entries of it."""
_FULL = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
_INTERPRETER = "TorchScript interpreter"
_OURS = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(torch.__file__).parent))
_INSTALLED = tuple(f"{sysconfig.get_paths()[name]}{os.sep}" for name in ("stdlib", "purelib", "platlib"))


def complaint(name: str, module: nn.Module, inputs: Any, error: Exception) -> ModelError:
    """Return one line on why ``module`` failed: a :class:`FeaturesError` only where the rows do not fit it.

    Args:
        name: the model's, as the user knows it.
        module: what ran.
        inputs: its tensors, as :func:`fairguard.inputs.calling.call` takes them.
        error: what it raised.
    """
    if isinstance(inputs, dict) and takes_dict(module, inputs) and _DICT.search(str(error)):
        return FeaturesError(
            f"{name} cannot run on these rows: its forward takes one argument, and they are a dict of "
            f"{listed(list(map(str, inputs)))}; {_text(error).rstrip('.')}."
        )
    if _unfit(error):
        why = _reason(module, inputs, error)
        return FeaturesError(f"{name} cannot run on these rows: {why}", columns=TRANSFORM not in why)
    if _FULL.search(str(error)):
        why = _text(error).rstrip(".")
        return ModelError(f"{name} cannot run on so many rows at once: {why}. Try a smaller --batch-size.")
    return ModelError(
        f"{name} failed in its own code: {type(error).__name__}: {_text(error)}{_place(error)}. Correct it there, or "
        f"turn the rows into what the model takes with --transform."
    )


def _unfit(error: Exception) -> bool:
    """Return whether the error is about the rows' shape, dtype or number of inputs."""
    if not isinstance(error, RuntimeError | ValueError | TypeError | IndexError | AssertionError):
        return False
    if isinstance(error, TypeError) and _ARGUMENTS.search(str(error)):
        return _own(error)[-1:] != _frames(error)[-1:]  # a wrong call from one line of the user's to another is theirs
    return bool(_UNFIT.search(_text(error))) and not _FULL.search(str(error))


def _frames(error: Exception) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def _own(error: Exception) -> list[traceback.FrameSummary]:
    """Return the calls that led to an error in the user's own files, the innermost last."""
    return [f for f in _frames(error) if not f.filename.startswith((*_OURS, *_INSTALLED, "<"))]


def _text(error: Exception) -> str:
    """Return an error's text in one line; TorchScript's is a page of its own traceback, and then the reason."""
    text = str(error).strip()
    return shown(text.splitlines()[-1] if _INTERPRETER in text else text, width=300)


def _place(error: Exception) -> str:
    """Return where in the user's code an error was raised; where none of it ran, where in somebody else's."""
    frames = _own(error) or [f for f in _frames(error) if not f.filename.startswith(_OURS)]
    if not frames:
        return ""
    last = frames[-1]
    file = Path(last.filename)
    if file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    return f", raised in {shown(last.name)} ({shown(file, width=200)}, line {last.lineno})"


def _reason(module: nn.Module, inputs: Any, error: Exception) -> str:
    """Return in one line which layer did not take what it was given."""
    name, layer, given = _failing_layer(module, inputs)
    if _IDS.search(str(error)):
        return (
            f"{name or 'the model'} looks up whole numbers (token ids), and a table's columns come as floating ones. "
            f"Turn them into what the model takes (ids, and a mask of them) {TRANSFORM}"
        )
    if _INTERPRETER in str(error) or layer is None or given is None:
        return _text(error)
    floating = next((p.dtype for p in layer.parameters() if p.is_floating_point()), None)
    if floating is not None and not given.is_floating_point() and not isinstance(layer, nn.Embedding):
        what = "" if given.dtype == torch.bool else " (images not yet scaled?)"
        return (
            f"{name} computes in {plain(floating)}, the rows are {plain(given.dtype)}{what}. "
            f"Turn them into what the model was trained on {TRANSFORM}"
        )
    wanted = getattr(layer, "in_features", None) or getattr(layer, "in_channels", None)
    at = 1 if hasattr(layer, "in_channels") else -1
    if isinstance(wanted, int) and given.dim() > 1 and given.shape[at] != wanted:
        what = "channels" if hasattr(layer, "in_channels") else "features"
        return f"{name} takes {wanted} {what}, the rows have {given.shape[at]} (shape {tuple(given.shape)})."
    return f"{name} ({type(layer).__name__}) was given shape {tuple(given.shape)}: {_text(error)}"


def plain(dtype: torch.dtype) -> str:
    """Return a dtype's name: ``float32``."""
    return str(dtype).removeprefix("torch.")


def _failing_layer(module: nn.Module, inputs: Any) -> tuple[str, nn.Module | None, torch.Tensor | None]:
    """Run once more and return the layer that was entered and not left, with the tensor that it got."""
    entered: list[tuple[str, nn.Module, torch.Tensor | None]] = []
    hooks = []
    try:
        for name, part in module.named_modules():
            if not any(True for _ in part.children()) and not isinstance(part, torch.jit.ScriptModule):
                hooks.append(part.register_forward_pre_hook(_entering(entered, name or type(part).__name__)))
                hooks.append(part.register_forward_hook(lambda *_: entered.clear()))
        call(module, inputs)
    except Exception:
        return entered[-1] if entered else ("", None, None)
    finally:
        for hook in hooks:
            hook.remove()
    return "", None, None


def _entering(entered: list[tuple[str, nn.Module, torch.Tensor | None]], name: str) -> Callable[..., None]:
    def note(layer: nn.Module, args: tuple[Any, ...]) -> None:
        entered.append((name, layer, next((a for a in args if isinstance(a, torch.Tensor)), None)))

    return note
