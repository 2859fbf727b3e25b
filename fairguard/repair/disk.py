"""What a disk refuses, in one line. Knows nothing of what is written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairguard.errors import OutputError


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what torch raises where a file cannot be written, such as on a full disk, into one line.

    Raises:
        OutputError: the file could not be written.
    """
    try:
        yield
    except Exception as error:  # torch's writer raises RuntimeError, safetensors' its own, where a disk is full
        free = shutil.disk_usage(path.parent).free
        reason = str(error).split("\n")[0][:200]
        raise OutputError(
            f"cannot write into {path.parent}: {reason} ({free / 2**20:,.0f} MiB are free there). "
            f"Make room, then the same command with --resume goes on."
        ) from error
