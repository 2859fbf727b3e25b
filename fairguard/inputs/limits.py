"""How much a file from a stranger may make us read. Knows no file format."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from fairguard.errors import ConfigError

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Bounds on what opening a model file may cost, checked before memory is taken.

    Attributes:
        file_bytes: largest file (or folder) that is opened at all.
        tensor_bytes: most bytes that all tensors of a file may claim together.
        free_bytes: up to here a file may claim whatever it likes; beyond, ``ratio`` counts.
        ratio: most bytes claimed per byte on disk, in archives and in tensors.
        entries: most entries of an archive, tensors of a header or nodes of a graph.
        columns: most columns of a table of predictions.
        pickle_bytes: largest pickle that is listed; weights lie outside it, so that real ones are small.
        opcodes: most steps of such a pickle; a weight takes about forty.
        run_bytes: most memory that ONNX models may take together while they run.
        run_seconds: longest that one batch may take in an ONNX graph with loops.
    """

    file_bytes: int = 16 * GIB
    tensor_bytes: int = 16 * GIB
    free_bytes: int = 64 * MIB
    ratio: int = 50
    entries: int = 50_000
    columns: int = 4_096
    pickle_bytes: int = 8 * MIB
    opcodes: int = 500_000
    run_bytes: int = 4 * GIB
    run_seconds: float = 5.0

    def too_much(self, claimed: int, size: int) -> bool:
        """Return whether a file of ``size`` bytes claims suspiciously many bytes of memory."""
        return claimed > min(self.tensor_bytes, max(self.free_bytes, self.ratio * size))


DEFAULT = Limits()

_SIZE = re.compile(r"(\d+)\s*(MiB|GiB|TiB)", re.IGNORECASE)
_UNITS = {"mib": MIB, "gib": GIB, "tib": GIB << 10}


def raised_to(size: str | None) -> Limits:
    """Return the limits with ``size`` bytes, such as ``64GiB``, for files, tensors and running models alike.

    ``None`` gives the defaults.

    Beyond the default, archives may have as many times more entries and pickles as many times more steps, too.

    Raises:
        ConfigError: it is no size.
    """
    if size is None:
        return DEFAULT
    found = _SIZE.fullmatch(size.strip())
    if found is None:
        raise ConfigError(f"--limit {size!r} is no size; write 64GiB, or MiB or TiB.")
    most = int(found[1]) * _UNITS[found[2].lower()]
    times = max(1, most // DEFAULT.file_bytes)
    return replace(
        DEFAULT,
        file_bytes=most,
        tensor_bytes=most,
        free_bytes=most,
        run_bytes=most,
        entries=DEFAULT.entries * times,
        pickle_bytes=DEFAULT.pickle_bytes * times,
        opcodes=DEFAULT.opcodes * times,
    )


def human(size: int) -> str:
    """Return a number of bytes for the eye: ``4.2 MB``."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            break
        amount /= 1000
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
