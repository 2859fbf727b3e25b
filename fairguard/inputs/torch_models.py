"""A torch module as a predictor: eval mode, inference mode, its own device and dtype. Knows no file format."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.booleans import Place, as_numbers, taken_as_numbers
from fairguard.inputs.calling import call
from fairguard.inputs.complaints import complaint
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.quantised import is_quantised, stored_dtype
from fairguard.inputs.rows import Batch, take
from fairguard.inputs.sparsity import layer_of, overall
from fairguard.inputs.tensors import scores_of, to_device
from fairguard.names import shown
from fairguard.ranks import own_gpu
from fairguard.verdict import Layer, ModelInfo


@dataclass(frozen=True, eq=False)
class TorchPredictor(Predictor):
    """A module ready to predict."""

    module: nn.Module
    info: ModelInfo
    device: torch.device
    dtype: torch.dtype
    output_key: str | None = None
    kind: ScoreKind = ScoreKind.SCORES
    block: int | None = None
    """How many rows the module takes at once, no more and no less; ``None``: any number."""
    order: tuple[str, ...] | None = None
    """What the module's own configuration calls its outputs, in their order, where it has one."""
    note: str = ""
    """What the reader of a verdict should know of the file."""
    _numbers: set[Place] = field(default_factory=set)
    """Boolean features that turned out to be numbers to the module."""

    @property
    def double(self) -> bool:
        """Return whether the module computes in float64, so that it is to get features in it."""
        return self.dtype == torch.float64

    @property
    def net(self) -> nn.Module:
        """Return the module."""
        return self.module

    def scores(self, batch: Batch) -> NDArray[np.generic]:
        """Return the module's outputs for the batch's rows, shape (n, K), (n, 1) or (n,)."""
        if self.block in (None, len(batch)):
            return self._run(batch)
        found = []
        for start in range(0, len(batch), self.block or 1):  # the last block is filled up with its own last row
            at = np.minimum(np.arange(start, start + (self.block or 1)), len(batch) - 1)
            found.append(self._run(take(batch, at)))
        return np.concatenate(found)[: len(batch)]

    def _run(self, batch: Batch) -> NDArray[np.generic]:
        inputs = to_device(batch.x, device=self.device, dtype=self.dtype)
        inputs = as_numbers(inputs, self._numbers, self.dtype)
        name = self.info.path or "the model"
        with torch.inference_mode():
            try:
                output = self._answer(inputs)
            except FairguardError:
                raise
            except Exception as error:
                raise complaint(name, self.module, inputs, error) from error
            return scores_of(output, rows=len(batch), key=self.output_key, name=name)

    def _answer(self, inputs: Any) -> Any:
        try:
            return call(self.module, inputs)
        except Exception:
            found = taken_as_numbers(self.module, inputs, self.dtype)
            if not found:
                raise
            self._numbers.update(found)
        return call(self.module, as_numbers(inputs, self._numbers, self.dtype))


def predictor_of(
    module: nn.Module, info: ModelInfo, *, device: torch.device | None, output_key: str | None = None, note: str = ""
) -> TorchPredictor:
    """Return ``module`` as a predictor, moved to ``device`` (``None``: where it is) and set to eval mode."""
    if device is not None:
        module = module.to(device)
    if not _is_exported(module):
        module.eval()
    where = next((p.device for p in module.parameters()), device or torch.device("cpu"))
    if where.type == "cuda":
        switch_off_tf32()
    layers = layers_of(module)
    known = {
        "parameters": parameters_of(module),
        "sparsity": overall(layers),
        "layers": layers,
        "dtype": _dtype_name(module, layers),
        "provider": f"torch {where}",
    }
    info = info.model_copy(update=known)
    of_module: dict[str, Any] = {"block": _fixed_rows(module), "order": output_names(module), "note": note}
    return TorchPredictor(module, info, where, float_dtype(module), output_key, **of_module)


def output_names(module: nn.Module) -> tuple[str, ...] | None:
    """Return the classes that a module of transformers was trained on, in its order, as its ``id2label`` says."""
    held = getattr(getattr(module, "config", None), "id2label", None)
    if not isinstance(held, Mapping):
        return None
    names = {str(place): name for place, name in held.items()}
    found = tuple(names.get(str(place)) for place in range(len(names)))
    whole = all(isinstance(name, str) for name in found) and len(set(found)) == len(found)
    return tuple(map(str, found)) if whole else None


def device_of(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; a GPU of no number is this process's own.

    Raises:
        ModelError: there is no such device on this machine.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        own = own_gpu()
        return torch.device("cuda") if own is None else torch.device("cuda", own)
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ModelError(f"--device {shown(name)} is none of auto, cpu, cuda.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(f"--device {name}: torch sees {torch.cuda.device_count()} GPUs here. Use --device cpu.")
    return device


def switch_off_tf32() -> None:
    """Make matrix products and convolutions on a GPU use all of float32's digits.

    cuDNN's convolutions use TF32 by default, which flips some 13 of 200,000 predictions on its own.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def float_dtype(module: nn.Module) -> torch.dtype:
    """Return the floating dtype that the module takes: that of its weights; where it hides them, float32."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def layers_of(module: nn.Module, *, rank: bool = False) -> tuple[Layer, ...]:
    """Return all weight tensors of more than one dimension, quantised ones included, with their zeros."""
    return tuple(tensor_layer(name, tensor, rank=rank) for name, tensor in _weights(module))


def tensor_layer(name: str, tensor: torch.Tensor, *, rank: bool = False) -> Layer:
    """Return what is known of one weight tensor; ``rank`` also looks for a low rank."""
    tensor = tensor.detach().cpu()
    dtype = stored_dtype(tensor)
    if is_quantised(tensor):
        tensor = tensor.dequantize()
    values = tensor.float().numpy() if rank else None
    return layer_of(name, (tensor == 0).numpy(), dtype=dtype, weights=values)


def _weights(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each weight of more than one dimension once, as the module computes with it: masked and reparametrised."""
    seen = set()
    for place, part in module.named_modules():
        if "parametrizations" in place.split("."):
            continue
        for name, stored, weight in _own_weights(part):
            if weight.dim() > 1 and id(stored) not in seen:
                seen.add(id(stored))
                yield f"{place}.{name}".lstrip("."), weight
    yield from _packed(module)


def _own_weights(part: nn.Module) -> Iterator[tuple[str, Any, torch.Tensor]]:
    """Yield each of a part's weights: its name, what it is stored as, and its values."""
    changed = getattr(part, "parametrizations", None)  # torch.nn.utils.parametrize
    if isinstance(changed, nn.ModuleDict):
        yield from ((name, held, getattr(part, name)) for name, held in changed.items())
    for name, parameter in part.named_parameters(recurse=False):
        whole = name.removesuffix("_orig")
        mask = getattr(part, f"{whole}_mask", None)  # torch.nn.utils.prune
        if whole != name and isinstance(mask, torch.Tensor):
            yield whole, parameter, parameter * mask
        else:
            yield name, parameter, parameter


def _packed(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights of torch.ao's quantised layers, which hold them behind a method."""
    for name, part in module.named_modules():
        weight = getattr(part, "weight", None)
        if callable(weight) and not isinstance(weight, nn.Module | torch.Tensor):
            yield f"{name}.weight".lstrip("."), weight()


def parameters_of(module: nn.Module) -> int | None:
    """Return the number of trained numbers; of torch.ao's quantised layers, which hide theirs, the weights."""
    hidden = sum(weight.numel() for _, weight in _packed(module))
    return sum(p.numel() for p in module.parameters()) + hidden or None


def _dtype_name(module: nn.Module, layers: tuple[Layer, ...]) -> str | None:
    found = [layer.dtype for layer in layers] or [str(p.dtype).removeprefix("torch.") for p in module.parameters()]
    return max(set(found), key=found.count) if found else None


def _is_exported(module: nn.Module) -> bool:
    """Return whether the module comes from torch.export, whose graph is fixed and refuses ``eval()``."""
    fx = sys.modules.get("torch.fx")
    return fx is not None and isinstance(module, fx.GraphModule) and "_guards_fn" in dict(module.named_children())


def _fixed_rows(module: nn.Module) -> int | None:
    """Return how many rows a graph of torch.export was made for, ``None`` where it takes any number."""
    if not _is_exported(module):
        return None
    given = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]  # type: ignore[union-attr]
    sizes = [value.shape[0] for value in given if isinstance(value, torch.Tensor) and value.dim()]
    return next((size for size in sizes if isinstance(size, int)), None)
