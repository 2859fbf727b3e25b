"""The oldest releases that open files safely. Knows versions, and no files."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

from packaging.version import InvalidVersion, Version

from fairguard.errors import ModelError

OLDEST = {
    "torch": ("2.10", "weights-only loading of older ones can be tricked into corrupting memory, CVE-2026-24747"),
    "onnxruntime": ("1.24.4", "older ones follow external data out of the model's folder"),
    "onnx": ("1.21", "older ones follow external data out of the model's folder"),
}
"""For each package that opens files, its oldest safe release and why older ones are not."""

EXTRAS = {"transformers": "hf", "torchao": "torchao"}
"""For each package that is not installed by default, the extra that brings it."""


@cache
def installed(package: str) -> str | None:
    """Return the version of an installed package, ``None`` where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def require(package: str, *, what: str) -> None:
    """Check that ``package`` is installed and new enough to open ``what``.

    Raises:
        ModelError: it is missing or older than :data:`OLDEST`.
    """
    have = installed(package)
    if have is None:
        name = f"pytest-fairguard[{EXTRAS[package]}]" if package in EXTRAS else package
        raise ModelError(f"{what} needs {package}, which is not installed. pip install '{name}'")
    if reason := too_old(package, have):
        raise ModelError(reason)


def too_old(package: str, have: str) -> str | None:
    """Return why release ``have`` of ``package`` is not used, ``None`` if it is new enough."""
    if package not in OLDEST:
        return None
    oldest, why = OLDEST[package]
    try:
        if Version(have) >= Version(oldest):
            return None
    except InvalidVersion:
        return None  # a build of the user's own, whose number says nothing
    return f"{package} {have} is installed; {oldest} or later is needed ({why}). pip install '{package}>={oldest}'"
