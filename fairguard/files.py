"""Writing files so that nothing already on disk is lost. Knows nothing of what they hold."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fairguard.errors import OutputError


def check_writable(path: str | Path) -> None:
    """Raise :class:`OutputError` if ``path`` cannot be written, before an hour of work is lost at its end."""
    target = Path(path)
    if target.is_dir():
        raise OutputError(f"cannot write {target}: it is a folder. Name a file.")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise OutputError(
            f"cannot write {target}: {target.parent} is no folder that can be written to. Name another file."
        )


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place if the block ends well, else remove it.

    Raises:
        OutputError: the folder is missing or not writable. What stood at ``path`` still stands.
    """
    target = Path(path)
    try:
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder")
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}. Name another file.") from None
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}. Name another file.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(path: str | Path) -> str:
    """Return the hex digest of a file's bytes; of a folder's, those of its files by name."""
    target = Path(path)
    if target.is_dir():
        listing = "".join(f"{p.relative_to(target)} {sha256_of(p)}\n" for p in sorted(target.rglob("*")) if p.is_file())
        return hashlib.sha256(listing.encode()).hexdigest()
    with target.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
