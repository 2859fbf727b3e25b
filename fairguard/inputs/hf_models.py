"""Local Hugging Face folders with safetensors weights. Never the network, never code from the folder."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.detect import Found
from fairguard.inputs.floors import require
from fairguard.inputs.limits import Limits, human, shown
from fairguard.inputs.state_dicts import first_line

CONFIG_BYTES = 1 << 20
LARGEST_NUMBER = 1 << 31
MOST_LAYERS = 1_000


def open_folder(found: Found, *, limits: Limits) -> nn.Module:
    """Return the classifier in a folder that ``save_pretrained`` wrote.

    Raises:
        ModelError: no transformers, a folder that needs its own code or has no safetensors weights, or a broken one.
    """
    require("transformers", what=f"{found.path} is a Hugging Face folder, which")
    _check_config(found)
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
    from transformers import AutoConfig, AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    here: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(found.path, **here)
    with torch.device("meta"):  # the architecture's size, before any memory is taken for it
        shape = AutoModelForSequenceClassification.from_config(config)
    claimed = sum(parameter.numel() * parameter.element_size() for parameter in shape.parameters())
    if limits.too_much(claimed, found.size):
        raise ModelError(f"{found.path} holds {human(found.size)} and claims a model of {human(claimed)}.")
    module, report = AutoModelForSequenceClassification.from_pretrained(
        found.path, use_safetensors=True, dtype="auto", output_loading_info=True, **here
    )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{found.path} has no weights for {', '.join(missing[:3])}: it was not saved as a classifier.")
    opened: nn.Module = module
    return opened


def _check_config(found: Found) -> None:
    """Refuse a folder that brings its own code, and sizes that would take forever to build."""
    path = found.path / "config.json"
    try:
        if path.stat().st_size > CONFIG_BYTES:
            raise ModelError(f"{path} has {human(path.stat().st_size)}; that is no configuration.")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON ({shown(error)}).") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path} holds a {type(config).__name__}, no configuration.")
    if "auto_map" in config:
        raise ModelError(f"{found.path} brings its own Python code, which is never run. Export the model to ONNX.")
    for key, value in config.items():
        most = MOST_LAYERS if "layer" in key and "norm" not in key else LARGEST_NUMBER
        if isinstance(value, int | float) and value > most:
            raise ModelError(f"{path}: {shown(key)} = {shown(value)} is larger than any model's.")
