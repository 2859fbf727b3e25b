"""Local Hugging Face folders with safetensors weights. Never the network, never code from the folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.detect import Found
from fairguard.inputs.floors import require
from fairguard.inputs.limits import Limits, human
from fairguard.inputs.state_dicts import first_line
from fairguard.names import listed, shown

CONFIG_BYTES = 1 << 20
INDEX_BYTES = 64 << 20
TASKS = ("SequenceClassification", "ImageClassification", "AudioClassification")
"""What the classifiers of transformers are for, as the name of a folder's architecture says."""
LARGEST_NUMBER = 1 << 31
MOST_LAYERS = 1_000


def open_folder(found: Found, *, limits: Limits) -> nn.Module:
    """Return the classifier in a folder that ``save_pretrained`` wrote.

    Raises:
        ModelError: no transformers, a folder that needs its own code or has no safetensors weights, or a broken one.
    """
    require("transformers", what=f"{found.path} is a Hugging Face folder, which")
    _check_config(found)
    _check_index(found)
    graphs = sorted(found.path.glob("*.onnx"))
    if graphs and not any(found.path.glob("*.safetensors")):
        raise ModelError(f"{found.path} holds an ONNX export: give the file itself, {graphs[0]}.")
    if not any(found.path.glob("*.safetensors")):
        raise ModelError(f"{found.path} has no safetensors weights; save it again with save_pretrained.")
    try:
        return _opened(found, limits)
    except FairguardError:
        raise
    except Exception as error:
        raise ModelError(f"{found.path} cannot be opened: {shown(first_line(error), width=300)}") from error


def _opened(found: Found, limits: Limits) -> nn.Module:
    import torch
    import transformers

    logging: Any = import_module("transformers.utils.logging")  # half typed
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = transformers.AutoConfig.from_pretrained(found.path, **here)
    task = next((t for t in TASKS if t in str((config.architectures or [""])[0])), TASKS[0])
    classifier: Any = getattr(transformers, f"AutoModelFor{task}")
    with torch.device("meta"):  # the architecture's size, before any memory is taken for it
        shape = classifier.from_config(config)
    claimed = sum(parameter.numel() * parameter.element_size() for parameter in shape.parameters())
    if limits.too_much(claimed, found.size):
        raise ModelError(f"{found.path} holds {human(found.size)} and claims a model of {human(claimed)}.")
    module, report = classifier.from_pretrained(
        found.path, use_safetensors=True, dtype="auto", output_loading_info=True, **here
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{found.path} has no weights for {', '.join(missing[:3])}: it was not saved as a classifier.")
    opened: nn.Module = module
    return opened


def _check_config(found: Found) -> None:
    """Refuse a folder that brings its own code, and sizes that would take forever to build."""
    path = found.path / "config.json"
    if (found.path / "adapter_config.json").exists():
        raise ModelError(f"{found.path} is an adapter to a model elsewhere. Merge the two and save the whole model.")
    for key, value in _items(_json(path, CONFIG_BYTES)):
        if key == "auto_map":
            raise ModelError(f"{found.path} brings its own Python code, which is never run. Export the model to ONNX.")
        if "implementation" in key and "/" in str(value):  # transformers would fetch it from the hub and run it
            raise ModelError(f"{path}: {shown(key)} = {shown(value)} names code from elsewhere, which is never run.")
        most = MOST_LAYERS if "layer" in key and "norm" not in key else LARGEST_NUMBER
        if isinstance(value, int | float) and value > most:
            raise ModelError(f"{path}: {shown(key)} = {shown(value)} is larger than any model's.")


def _check_index(found: Found) -> None:
    """Refuse an index that leads out of the folder, or to a file that is no safetensors."""
    path = found.path / "model.safetensors.index.json"
    if not path.exists():
        return
    held = _json(path, INDEX_BYTES).get("weight_map")
    files = sorted(set(map(str, held.values()))) if isinstance(held, dict) else []
    if strange := [name for name in files if not name.endswith(".safetensors") or "/" in name or "\\" in name]:
        raise ModelError(f"{path} names {listed(strange)}; only safetensors in the same folder are opened.")


def _json(path: Path, most: int) -> dict[str, Any]:
    """Return what a file of a folder says."""
    try:
        if not path.is_file() or path.stat().st_size > most:
            raise ModelError(f"{path} has {human(path.stat().st_size)}; that is no configuration.")
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON ({shown(error)}).") from None
    if not isinstance(held, dict):
        raise ModelError(f"{path} holds a {type(held).__name__}, no configuration.")
    return held


def _items(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a configuration and of those inside it."""
    waiting = [config]
    while waiting:
        for key, value in waiting.pop().items():
            yield str(key), value
            if isinstance(value, dict):
                waiting.append(value)
