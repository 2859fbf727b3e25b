"""What it takes to do a check again: files, versions, and how the models were run. Imports nothing heavy itself."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fairguard.config import Settings
from fairguard.inputs.rows import DataRecord
from fairguard.verdict import ModelInfo

PACKAGES = (
    "pytest-fairguard",
    "numpy",
    "torch",
    "onnxruntime",
    "onnx",
    "safetensors",
    "transformers",
    "torchao",
    "pyarrow",
    "pandas",
    "fairlearn",
    "scipy",
)
CREATED = "created"
"""The only key whose value differs from one run to the next."""


def record_of(dense: ModelInfo, pruned: ModelInfo, data: DataRecord, settings: Settings) -> dict[str, Any]:
    """Return plain values ready for JSON, the same for the same files, options and machine but for ``created``."""
    return {
        CREATED: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "dense": _model(dense),
        "pruned": _model(pruned),
        "data": asdict(data),
        "settings": {name: _plain(getattr(settings, name)) for name in sorted(settings.model_fields_set)},
        "batch_size": 1 if settings.per_row else settings.batch_size,
        "seed": settings.seed,
        "threads": _threads(),
        "matmul_precision": _matmul_precision(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "versions": versions() | _builds(),
    }


@cache
def versions() -> dict[str, str]:
    """Return the installed version of every package that a number of the verdict depends on."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _builds() -> dict[str, str]:
    """Return which build of torch runs, such as ``2.13.0+cu130``: what is installed says so of some builds alone."""
    torch = sys.modules.get("torch")
    return {} if torch is None else {"torch": str(torch.__version__)}


def _command() -> str:
    return _text(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))


def _text(text: str) -> str:
    """Return a text as UTF-8 can write it: a file's name may hold bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode()


def _model(info: ModelInfo) -> dict[str, Any]:
    return info.model_dump(include={"kind", "path", "sha256", "dtype", "provider"})


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: a callable by its name, data in memory by its type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | Path | datetime.date):
        return _text(str(value))
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    named = value if callable(value) else type(value)
    return f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', type(value).__name__)}"


@cache
def _processor() -> str:
    """Return the processor's name: int8 sums overflow on some of them and not on others, and then answers differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _threads() -> int:
    """Return how many threads the models ran on, as the library that ran them says."""
    torch, onnx_models = sys.modules.get("torch"), sys.modules.get("fairguard.inputs.onnx_models")
    if torch is not None:
        return int(torch.get_num_threads())
    return int(onnx_models.threads()) if onnx_models is not None else os.cpu_count() or 1


def _matmul_precision() -> str:
    """Return ``highest`` unless TF32 or less is allowed."""
    torch = sys.modules.get("torch")
    return str(torch.get_float32_matmul_precision()) if torch is not None else "highest"
