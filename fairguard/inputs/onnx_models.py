"""ONNX models run by onnxruntime, on a provider that is really the one asked for. Knows nothing of torch."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from fairguard.errors import FeaturesError, ModelError, did_you_mean
from fairguard.inputs.detect import Found
from fairguard.inputs.limits import Limits
from fairguard.inputs.onnx_files import layers_of, loops, parameters_of, read_graph, whole_of
from fairguard.inputs.predictor import Predictor, ScoreKind
from fairguard.inputs.rows import Batch
from fairguard.inputs.sparsity import overall
from fairguard.names import listed, shown
from fairguard.ranks import own_gpu
from fairguard.verdict import ModelInfo

_UNFIT = re.compile(r"dimension|shape|rank", re.IGNORECASE)
"""What onnxruntime's complaint speaks of where the rows have another shape than the graph takes."""
ON_NVIDIA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
"""Providers that run on a GPU that ``--device`` may number."""
TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}


ort: Any = onnxruntime  # its type hints do not export what it offers


@dataclass(frozen=True)
class Input:
    """One input of the graph: its name, numpy type and sizes, ``None`` for a size that may vary."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int | None, ...]


@dataclass(frozen=True, eq=False)
class OnnxPredictor(Predictor):
    """A session ready to predict."""

    session: Any
    inputs: tuple[Input, ...]
    output: str
    info: ModelInfo
    kind: ScoreKind = ScoreKind.SCORES
    seconds: float | None = None

    @property
    def double(self) -> bool:
        """Return whether the graph takes numbers with more digits than float32 has: float64, or large integers."""
        return any(i.dtype in (np.float64, np.int64, np.int32) for i in self.inputs)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the inputs, if each is one column of a table; nothing for a matrix."""
        single = all(len(i.shape) == 2 and i.shape[1] == 1 for i in self.inputs)
        by_name = single and (len(self.inputs) > 1 or self.inputs[0].dtype is np.str_)
        return tuple(i.name for i in self.inputs) if by_name else ()

    def scores(self, batch: Batch) -> NDArray[np.generic]:
        """Return the graph's outputs for the batch's rows, shape (n, K), (n, 1) or (n,)."""
        feed = {i.name: _cast(i, part, self._name) for i, part in self._matched(batch.x)}
        fixed = self.inputs[0].shape[0] if self.inputs[0].shape else None
        whole = fixed in (None, len(batch))
        found = self._run(feed) if whole else self._in_blocks(feed, int(fixed or 1), len(batch))
        if found.ndim == 0 or len(found) != len(batch):
            raise ModelError(
                f"{self._name} gives an output of shape {found.shape} for {len(batch)} rows; "
                f"a classifier gives (rows, classes) or (rows,)."
            )
        return found

    @property
    def _name(self) -> str:
        return self.info.path or "the ONNX model"

    def _run(self, feed: dict[str, NDArray[Any]]) -> NDArray[Any]:
        # Without IO binding: for arrays that come from memory and go back there it measured the same (0.073 against
        # 0.076 ms for 256 rows of a perceptron), since a provider on a GPU has to copy them either way.
        try:
            with _stopped_after(self.seconds) as options:
                found = self.session.run([self.output], feed, options)[0]
        except Exception as error:
            why = _short(error)
            unfit = FeaturesError if _UNFIT.search(why) else ModelError
            raise unfit(f"{self._name} cannot run on these rows: {shown(why, width=300)}") from error
        found = _unzipped(found)
        if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiub":
            raise ModelError(
                f"{self._name}: output {shown(self.output)!r} is no tensor of scores; name another with --output-key."
            )
        return found.astype(np.float32) if found.dtype == np.float16 else found

    def _in_blocks(self, feed: dict[str, NDArray[Any]], size: int, rows: int) -> NDArray[Any]:
        """Run a graph whose batch size is fixed: block by block, the last one filled up with its own last row."""
        found = []
        for start in range(0, rows, size):
            at = np.minimum(np.arange(start, start + size), rows - 1)
            found.append(self._run({name: array[at] for name, array in feed.items()}))
        return np.concatenate(found)[:rows]

    def _matched(self, x: Any) -> list[tuple[Input, Any]]:
        """Return each input with its part of the batch: by name, by order, or the only one."""
        if x is None:
            raise ModelError(f"the data has no features for {self._name}; name the feature columns with --features.")
        names = [i.name for i in self.inputs]
        if not isinstance(x, dict):
            parts = list(x) if isinstance(x, tuple | list) else [x]
            if len(parts) != len(names):
                raise FeaturesError(
                    f"{self._name} takes {len(names)} inputs ({listed(names)}), the rows give {len(parts)}: give a "
                    f"dict of them by name (--transform), a table with columns of these names, or recorded answers."
                )
            return list(zip(self.inputs, parts, strict=True))
        if len(names) == 1 and len(x) == 1:
            return [(self.inputs[0], next(iter(x.values())))]
        missing = [name for name in names if name not in x]
        if missing:
            hint = did_you_mean(missing[0], x)
            raise FeaturesError(f"{self._name} takes {listed(names)}; the rows give {listed(list(map(str, x)))}.{hint}")
        return [(i, x[i.name]) for i in self.inputs]


def open_onnx(
    found: Found, info: ModelInfo, *, provider: str | None, device: str, output_key: str | None, limits: Limits
) -> OnnxPredictor:
    """Return an ONNX file as a predictor.

    Raises:
        ModelError: broken, weights outside its folder, several outputs and no ``output_key``, no such provider.
    """
    model = read_graph(found, limits)
    layers = layers_of(model, found.path)
    sha256, size = whole_of(found, model)
    session = _session(found, _provider(provider, device), device, limits)
    inputs = tuple(_input(node, found) for node in session.get_inputs())
    if not inputs:
        raise ModelError(f"{found.path} takes no input, so that it is no classifier of rows.")
    dtypes = [layer.dtype for layer in layers]
    known = {
        "sha256": sha256,
        "size": size,
        "parameters": parameters_of(model),
        "sparsity": overall(layers),
        "layers": layers,
        "dtype": max(set(dtypes), key=dtypes.count) if dtypes else None,
        "provider": session.get_providers()[0],
    }
    output = _output([node.name for node in session.get_outputs()], output_key, str(found.path))
    seconds = limits.run_seconds if loops(model) else None
    return OnnxPredictor(session, inputs, output, info.model_copy(update=known), seconds=seconds)


def _session(found: Found, provider: str, device: str, limits: Limits) -> Any:
    _bound_memory(limits.run_bytes)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the core to torch
    options.add_session_config_entry("session.use_env_allocators", "1")
    wanted: list[Any] = [(provider, provider_options(provider, device))]
    if provider != "CPUExecutionProvider":
        wanted.append("CPUExecutionProvider")  # for operators that the other one lacks
    try:
        session = ort.InferenceSession(os.fspath(found.path), sess_options=options, providers=wanted, enable_fallback=0)
    except Exception as error:
        raise ModelError(f"{found.path}: onnxruntime cannot open it: {shown(_short(error), width=300)}") from None
    if session.get_providers()[0] != provider:  # onnxruntime falls back to the CPU without a word
        raise ModelError(f"{found.path}: {provider} was asked for and {session.get_providers()[0]} would run.")
    return session


@cache
def _bound_memory(most: int) -> None:
    """Let all sessions on the CPU share one pool of at most ``most`` bytes: a small graph can ask for any amount."""
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(place, ort.OrtArenaCfg({"max_mem": most}))


@contextmanager
def _stopped_after(seconds: float | None) -> Iterator[Any]:
    """Yield options for one run, which is told to end after ``seconds`` if a time is given."""
    if seconds is None:
        yield None
        return
    options = ort.RunOptions()
    options.log_severity_level = 4
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.start()
    try:
        yield options
    finally:
        timer.cancel()


def threads() -> int:
    """Return how many threads a session gets: ``OMP_NUM_THREADS``, as torch reads it, or the cores of this process."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS, Windows


def _provider(name: str | None, device: str) -> str:
    """Return the full name of an execution provider that onnxruntime has here."""
    available: Sequence[str] = ort.get_available_providers()
    if name is None:
        wanted = "cuda" if device.startswith("cuda") else "cpu"
        name = "cuda" if device == "auto" and "CUDAExecutionProvider" in available else wanted
    known = {provider.removesuffix("ExecutionProvider").lower(): provider for provider in available}
    found = known.get(name.lower().removesuffix("executionprovider"))
    if found is None:
        hint = did_you_mean(name, known)
        raise ModelError(f"--provider {shown(name)}: onnxruntime has {', '.join(known)} here.{hint}")
    return found


def provider_options(provider: str, device: str) -> dict[str, str]:
    """Return what a provider is told: all of float32's digits, and which GPU, as torch models get it.

    Args:
        provider: its full name.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
    """
    if provider not in ON_NVIDIA:
        return {}
    number = device.partition(":")[2] or own_gpu()
    exact = {"use_tf32": "0"} if provider == "CUDAExecutionProvider" else {}
    return exact if number is None else {**exact, "device_id": str(number)}


def _input(node: Any, found: Found) -> Input:
    if node.type not in TYPES:
        raise ModelError(f"{found.path}: input {shown(node.name)!r} is {shown(node.type)}, not a tensor of numbers.")
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape)
    return Input(node.name, TYPES[node.type], shape)


def _output(names: list[str], key: str | None, path: str) -> str:
    if len(names) == 1:  # nothing to choose: the key is for the other model, as with torch
        return names[0]
    if key is None and "logits" in names:
        return "logits"
    if key is not None and key.isdigit() and int(key) < len(names) and key not in names:
        return names[int(key)]
    if key is None or key not in names:
        what = "has several outputs" if key is None else f"has no output {shown(key)!r}"
        raise ModelError(f"{path} {what}; choose one with --output-key: {listed(names, most=8)}.")
    return key


def _unzipped(found: Any) -> Any:
    """Return scores by class name for each row, as exports of scikit-learn give them (ZipMap), in sorted columns."""
    if not (isinstance(found, list) and found and isinstance(found[0], dict) and found[0]):
        return found
    names = sorted(found[0])
    return np.array([[row[name] for name in names] for row in found])


def _cast(wanted: Input, x: Any, name: str) -> NDArray[Any]:
    """Return one input in the graph's type and of its shape.

    Raises:
        ModelError: unscaled images for a floating graph, fractions for an integer one, other sizes.
    """
    array = np.asarray(x.numpy(force=True) if hasattr(x, "numpy") else x)
    _check_shape(wanted, array, name)
    if wanted.dtype is np.str_:
        return _texts(wanted, array, name)
    if array.dtype == wanted.dtype:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fiub":
        raise ModelError(f"the features are {array.dtype.name}, not numbers; turn them into numbers with --transform.")
    floating = np.issubdtype(wanted.dtype, np.floating)
    if floating and array.dtype == np.uint8:
        raise ModelError(
            f"{name} takes {np.dtype(wanted.dtype).name}, the rows are uint8 (images not yet scaled?). "
            f"Turn them into what the model was trained on with --transform."
        )
    cast = array.astype(wanted.dtype)
    if not floating and (cast != array).any():
        raise ModelError(
            f"{name}: input {shown(wanted.name)!r} takes {np.dtype(wanted.dtype).name}, the rows do not fit."
        )
    return cast


def _texts(wanted: Input, array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return text for an input that takes text."""
    if array.dtype.kind not in "OUS":
        raise ModelError(f"{name}: input {shown(wanted.name)!r} takes text, the rows give {array.dtype.name}.")
    return array.astype(str).astype(object)


def _check_shape(wanted: Input, array: NDArray[Any], name: str) -> None:
    sizes = zip(wanted.shape[1:], array.shape[1:], strict=False)
    if array.ndim != len(wanted.shape) or any(size not in (None, given) for size, given in sizes):
        shape = ", ".join("any" if size is None else str(size) for size in wanted.shape[1:])
        raise FeaturesError(
            f"{name}: input {shown(wanted.name)!r} takes rows of shape ({shape}), these have {array.shape[1:]}."
        )


def _short(error: Exception) -> str:
    """Return onnxruntime's complaint without its codes and source lines."""
    text = str(error)
    if any(sign in text for sign in ("Failed to allocate memory", "Available memory of", "bad allocation")):
        return "they take more memory than allowed. Give a smaller --batch-size, or raise --limit if you trust it."
    if "terminate flag" in text:
        return "its loop took longer than allowed. Raise the limit if you trust the file."
    lacks = " Export the model in float32 or float16." if "NOT_IMPLEMENTED" in text else ""
    for sign in ("[ONNXRuntimeError] : ", "Status Message: "):
        text = text.rpartition(sign)[2]
    text = re.sub(r"^\d+ : \w+ : ", "", text.strip())
    return f"{text}.{lacks}" if lacks else text or type(error).__name__
