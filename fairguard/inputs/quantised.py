"""Whether a network's weights are quantised, whoever quantised them: torch.ao, torchao, PT2E, in TorchScript or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

PACKED = ("PackedParams", "PackedParameter")
"""What the parts of torch.ao's quantised layers are called that hold their integers."""


def is_quantised(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds integers and scales: torch's own kind, or a class that computes otherwise.

    Such are torchao's. A class of a user's own that only marks a parameter computes as any tensor does.
    """
    computes_as_usual = type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return not computes_as_usual or tensor.is_quantized


def stored_dtype(tensor: torch.Tensor) -> str:
    """Return what a weight is stored as, ``int4``: torchao's tensors call themselves what they stand for.

    Fewer than eight bits often lie in bytes, in which torchao knows how many of them count.
    """
    held = getattr(tensor, "qdata", tensor).dtype
    return str(getattr(tensor, "target_dtype", held)).removeprefix("torch.")


def quantised_weight(module: nn.Module) -> str | None:
    """Return the name of a weight that is quantised; ``None`` where all are plain numbers."""
    for place, part in module.named_modules():
        kind = getattr(part, "original_name", type(part).__name__)  # TorchScript keeps the name of the class alone
        if hasattr(part, "_packed_params") or kind.endswith(PACKED):
            return f"{place}.weight".lstrip(".")
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if is_quantised(tensor):
                return f"{place}.{name}".lstrip(".")
    return "int8 between its operators" if quantised_program(module) else None


def quantised_program(module: Any) -> str | None:
    """Return how a program of torch.export is quantised, as torchao's PT2E does it: between its operators."""
    called = " ".join(str(node.target) for node in module.graph.nodes) if "GraphModule" in type(module).__name__ else ""
    if "quantized_decomposed" not in called:
        return None
    return f"{'dynamic' if 'choose_qparams' in called else 'static'} int8 (PT2E)"
