"""ONNX files read as data: the graph, its weights, and where it says that they lie. Runs nothing."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import uses_external_data

from fairguard.errors import ModelError
from fairguard.files import sha256_of
from fairguard.inputs.detect import Found
from fairguard.inputs.limits import Limits, human
from fairguard.inputs.onnx_blocks import OPERATOR, integers_of, sizes_of
from fairguard.inputs.sparsity import layer_of
from fairguard.names import listed, shown
from fairguard.verdict import Layer

ITEMSIZE = {
    number: max(1, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(number)).itemsize)
    for name, number in onnx.TensorProto.DataType.items()
    if name not in ("UNDEFINED", "STRING")
}
"""Bytes of an element by ONNX type; types smaller than a byte count as one."""

WEIGHT_AT = {
    "Conv": (1, None),
    "ConvInteger": (1, 3),
    "ConvTranspose": (1, None),
    "DynamicQuantizeMatMul": (1, 3),
    "Gemm": (1, None),
    "Gather": (0, None),
    "MatMul": (1, None),
    "MatMulInteger": (1, 3),
    "MatMulIntegerToFloat": (1, 5),
    "QGemm": (3, 5),
    "QLinearConv": (3, 5),
    "QLinearMatMul": (3, 5),
}
"""For each operator with weights: the place of the weights and of their zero point among its inputs."""

INPUTS_FIRST = frozenset({"DynamicQuantizeMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"})
"""Operators whose weights have shape (inputs, outputs)."""


@dataclass(frozen=True)
class Weight:
    """A stored tensor and how the graph uses it."""

    name: str
    tensor: Any
    zero_point: str | None = None
    inputs_first: bool = False


def read_graph(found: Found, limits: Limits) -> onnx.ModelProto:
    """Return the model without its external data, found harmless.

    Raises:
        ModelError: broken, weights outside the model's folder, or sizes that the file does not have.
    """
    try:
        model = onnx.load(os.fspath(found.path), format="protobuf", load_external_data=False)
    except Exception as error:
        raise ModelError(
            f"{found.path} is a broken or truncated ONNX file ({shown(error)}). Export it again."
        ) from None
    if any(isinstance(text, bytes) for text in _texts(model)):
        raise ModelError(f"{found.path} is a broken ONNX file: a name in it is no UTF-8 text. Export it again.")
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{found.path} is an ONNX file without a graph. Export it again.")
    if len(model.graph.node) > limits.entries:
        raise ModelError(f"{found.path} has {len(model.graph.node)} nodes, more than the {limits.entries} allowed.")
    held = found.size + sum(
        _contained(tensor, found.path) for tensor in tensors_of(model) if uses_external_data(tensor)
    )
    claimed = sum(_claimed(tensor) for tensor in tensors_of(model))
    if limits.too_much(claimed, held):
        raise ModelError(f"{found.path} has {human(held)} and claims tensors of {human(claimed)}. Export it again.")
    return model


def _texts(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Yield every text of a model; protobuf gives bytes where one is no UTF-8, which a name cannot be."""
    waiting: list[Any] = [model]
    while waiting:
        message = waiting.pop()
        if isinstance(message, onnx.TensorProto):  # never its values: protobuf would copy them
            yield from (message.name, message.doc_string)
            waiting.extend(message.external_data)
            continue
        for field, value in message.ListFields():
            several = value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else (value,)
            if field.type == field.TYPE_STRING:
                yield from several
            elif field.type == field.TYPE_MESSAGE:
                waiting.extend(several)


def tensors_of(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield every tensor stored anywhere in a model: weights, constants, those of subgraphs and functions."""
    graphs = [model.graph]
    nodes: list[Any] = [node for function in model.functions for node in function.node]
    defaults = [attribute for function in model.functions for attribute in function.attribute_proto]
    nodes.append(onnx.NodeProto(attribute=defaults))
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from (*((attribute.t,) if attribute.HasField("t") else ()), *attribute.tensors)
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            graphs.extend((*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs))


def whole_of(found: Found, model: onnx.ModelProto) -> tuple[str, int]:
    """Return the sha256 and the bytes of a model together with the files beside it that hold its tensors."""
    beside = sorted({external_file(t, found.path) for t in tensors_of(model) if uses_external_data(t)})
    own = sha256_of(found.path)
    if not beside:
        return own, found.size
    listing = "".join(f"{place.name} {sha256_of(place)}\n" for place in beside)
    return hashlib.sha256(f"{own}\n{listing}".encode()).hexdigest(), found.size + sum(p.stat().st_size for p in beside)


def _claimed(tensor: Any) -> int:
    if any(size < 0 for size in tensor.dims):
        raise ModelError(f"weight {shown(tensor.name)!r} has a negative size. Export the model again.")
    return int(math.prod(tensor.dims)) * ITEMSIZE.get(tensor.data_type, 1)


def external_file(tensor: Any, path: Path) -> Path:
    """Return the file beside the model in which a tensor's values lie.

    Raises:
        ModelError: it leads out of the model's folder, is a link, or is no regular file.
    """
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.parent.resolve()
    parts = location.replace("\\", "/").split("/")
    refused = not location.isprintable() or ".." in parts or Path(location).is_absolute() or ":" in location
    place = folder if refused else folder / location
    if place == folder or place.resolve() != place:
        raise ModelError(
            f"{path}: weight {shown(tensor.name)!r} lies outside the model's folder or behind a link "
            f"({shown(location)!r}); that is refused. Keep the data file beside the model."
        )
    if not _is_file(place):
        raise ModelError(f"{path} needs the data file {shown(location)} beside it; copy it there.")
    return place


def _is_file(place: Path) -> bool:
    try:
        return place.is_file()
    except OSError:  # a name longer than any file's
        return False


def _contained(tensor: Any, path: Path) -> int:
    """Return the bytes of a tensor's external data, which must lie inside its file."""
    place = external_file(tensor, path)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0") or _claimed(tensor))
    except ValueError:
        offset, length = -1, -1
    if offset < 0 or length < 0 or offset + length > place.stat().st_size:
        raise ModelError(f"{path}: {place.name} is too short for weight {shown(tensor.name)!r}. Copy it again.")
    return length


def loops(model: onnx.ModelProto) -> bool:
    """Return whether the graph has operators that can run without end."""
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for nodes in bodies:
        for node in nodes:
            if node.op_type in ("Loop", "Scan"):
                return True
            graphs = (graph for a in node.attribute for graph in (*((a.g,) if a.HasField("g") else ()), *a.graphs))
            bodies.extend(graph.node for graph in graphs)
    return False


def stored_in(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the graph's stored tensors by name: initializers, and the constants that some exporters write instead."""
    constants = (node for node in model.graph.node if node.op_type == "Constant" and node.output)
    held = {node.output[0]: a.t for node in constants for a in node.attribute if a.name == "value"}
    return held | {tensor.name: tensor for tensor in model.graph.initializer}


def layers_of(model: onnx.ModelProto, path: Path, *, rank: bool = False) -> tuple[Layer, ...]:
    """Return all weights of more than one dimension that the graph computes with, and their zeros."""
    stored = stored_in(model)
    plain = (_layer(weight, stored, path, rank) for weight in _weights(model, stored))
    return (*plain, *_blocked_layers(model, stored, path))


def parameters_of(model: onnx.ModelProto) -> int | None:
    """Return the number of stored numbers in weights and biases; of packed ones, of what is in the bytes."""
    stored = stored_in(model)
    blocked = list(_blocked(model, stored))
    beside = {name for node, _ in blocked for name in node.input[1:4]}  # bytes, scales and zero points
    sizes = [
        math.prod(t.dims) for name, t in stored.items() if t.data_type != onnx.TensorProto.INT64 and name not in beside
    ]
    weights = {node.input[1]: outputs * inputs for node, (outputs, inputs, *_) in blocked}
    return sum(size for size in sizes if size > 1) + sum(weights.values()) or None  # single numbers are scales


def _blocked(model: onnx.ModelProto, stored: dict[str, Any]) -> Iterator[tuple[Any, tuple[int, int, int, int]]]:
    """Yield the nodes whose weights are packed into blocks of few bits, with their sizes."""
    for node in model.graph.node:
        if node.op_type == OPERATOR and len(node.input) > 1 and node.input[1] in stored:
            sizes = sizes_of(node, stored[node.input[1]])
            if sizes is not None:
                yield node, sizes


def _blocked_layers(model: onnx.ModelProto, stored: dict[str, Any], path: Path) -> Iterator[Layer]:
    for name, (node, sizes) in {node.input[1]: (node, sizes) for node, sizes in _blocked(model, stored)}.items():
        at = _input(node, 3)
        zeros = _array(stored[at], path) if at in stored else None
        try:
            integers = integers_of(sizes, _array(stored[name], path), zeros)
        except ValueError:  # zero points of another number
            raise ModelError(
                f"{path}: the zero points of weight {shown(name)!r} do not fit it. Export it again."
            ) from None
        yield layer_of(shown(name), integers == 0, dtype=f"int{sizes[2]}")


def _weights(model: onnx.ModelProto, stored: dict[str, Any]) -> Iterator[Weight]:
    """Yield each weight once, seen through a DequantizeLinear or Transpose that stands before its operator."""
    made = {output: node for node in model.graph.node for output in node.output}
    seen = set()
    for node in model.graph.node:
        at, zero_at = WEIGHT_AT.get(node.op_type, (None, None))
        if at is None or len(node.input) <= at:
            continue
        name, zero = node.input[at], _input(node, zero_at)
        inputs_first = node.op_type in INPUTS_FIRST or (node.op_type == "Gemm" and not _attribute(node, "transB"))
        while name in made and made[name].op_type in ("DequantizeLinear", "Transpose", "Cast", "Identity"):
            before = made[name]
            zero = _input(before, 2) if before.op_type == "DequantizeLinear" else zero
            inputs_first ^= before.op_type == "Transpose"
            name = before.input[0]
        if name in stored and name not in seen and len(stored[name].dims) > 1:
            seen.add(name)
            yield Weight(name, stored[name], zero, inputs_first)


def _input(node: Any, at: int | None) -> str | None:
    return node.input[at] if at is not None and at < len(node.input) and node.input[at] else None


def _attribute(node: Any, name: str) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), 0)


def _layer(weight: Weight, stored: dict[str, Any], path: Path, rank: bool) -> Layer:
    values = _array(weight.tensor, path)
    zero = 0.0
    if weight.zero_point in stored:
        zero = float(np.ravel(_array(stored[str(weight.zero_point)], path))[0])
    if weight.inputs_first:
        values = np.swapaxes(values, -1, -2)
    numbers = values.astype(np.float32) - zero if rank else None
    dtype = _dtype(weight.tensor.data_type)
    return layer_of(shown(weight.name), np.asarray(values == zero), dtype=dtype, weights=numbers)


def _dtype(number: int) -> str:
    name = onnx.TensorProto.DataType.Name(number).lower() if number in onnx.TensorProto.DataType.values() else "?"
    return {"float": "float32", "double": "float64"}.get(name, name)


def inputs_and_outputs(model: onnx.ModelProto) -> tuple[str, str]:
    """Return in words what a graph takes and gives: ``x float32 (rows, 12)``."""
    stored = {tensor.name for tensor in model.graph.initializer}  # in old files they are among the inputs too
    takes = [value for value in model.graph.input if value.name not in stored]
    return (
        listed([_described(value) for value in takes], most=8),
        listed([_described(value) for value in model.graph.output], most=8),
    )


def _described(value: Any) -> str:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return f"{value.name} {_dtype(kind.elem_type)}"
    sizes = [str(dim.dim_value) if dim.HasField("dim_value") else dim.dim_param or "?" for dim in kind.shape.dim]
    return f"{value.name} {_dtype(kind.elem_type)} ({', '.join(sizes)})"


def _array(tensor: Any, path: Path) -> NDArray[Any]:
    try:
        return np.asarray(numpy_helper.to_array(tensor, base_dir=str(path.parent)))
    except Exception as error:
        raise ModelError(
            f"{path}: weight {shown(tensor.name)!r} does not hold what it claims ({shown(error)}). Export it again."
        ) from None
