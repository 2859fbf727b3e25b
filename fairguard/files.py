"""Writing files so that nothing already on disk is lost. Knows nothing of what they hold."""

from __future__ import annotations

import hashlib
import itertools
import os
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fairguard.errors import OutputError

LONGEST = 200
"""Bytes of a file's name that leave room for what is put before and behind it: a report's ending, a temporary name."""


def check_writable(path: str | Path) -> None:
    """Raise :class:`OutputError` if ``path`` cannot be written, before an hour of work is lost at its end."""
    target = Path(path)
    if os.path.islink(target):  # where it leads is what will be written
        target = Path(os.path.realpath(path))
    if len(os.fsencode(target.name)) > LONGEST:
        raise OutputError(
            f"cannot write {target.name[:20]}...: its name is over {LONGEST} bytes long. Name another file."
        )
    if os.path.isdir(target):  # unlike Path's own, these take names that no file can have
        raise OutputError(f"cannot write {target}: it is a folder. Name a file.")
    if os.path.exists(target) and not os.path.isfile(target):
        raise OutputError(f"cannot write {target}: it is there and is no regular file. Name another file.")
    if not os.path.isdir(target.parent) or not os.access(target.parent, os.W_OK):
        raise OutputError(
            f"cannot write {target}: {target.parent} is no folder that can be written to. Name another file."
        )


def typed(path: str | Path) -> str:
    """Return a file's name as one would type it to a shell, also where it begins with a dash."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def free_name(stem: str, like: str | Path) -> str:
    """Return a name in this folder that no file has yet, with the ending of ``like``: ``fair.pt``, ``fair-2.pt``.

    Args:
        stem: what the name begins with.
        like: the file that it is for, ``file.pt::NAME`` too; what has no ending (a callable, a folder) counts as .pt.
    """
    ending = Path(str(like).partition("::")[0]).suffix
    ending = ending if ending and ":" not in ending else ".pt"
    numbered = (f"{stem}-{number}{ending}" for number in itertools.count(2))
    names = itertools.chain([f"{stem}{ending}"], numbered)
    return next(name for name in names if not os.path.lexists(name))


def refuse_inputs(path: str | Path, named: Mapping[str, Any]) -> None:
    """Raise :class:`OutputError` if what would be written to ``path`` would replace one of the files that are read.

    Args:
        path: where something is to be written.
        named: what the user named, by role: files, ``file.pt::NAME``, ``file.py:callable``, ``module:callable``. What
            is something else counts for nothing.
    """
    target = os.path.realpath(path)  # Path.resolve() raises where links lead in a circle
    for role, value in named.items():
        if any(os.path.realpath(file) == target for file in files_in(value)):
            raise OutputError(f"{path} is the {role} input, which would be lost; name another file.")


def refuse_same(written: Iterable[tuple[str, Any]]) -> None:
    """Raise :class:`OutputError` if two of the files to be written, each with its option, are one; ``None`` is none."""
    known: dict[str, str] = {}
    for option, path in written:
        if path is None:
            continue
        if (first := known.get(place := os.path.realpath(path))) is not None:
            raise OutputError(f"{first} and {option} are both {path}, and one would be lost; name two files.")
        known[place] = option


def files_in(value: Any) -> list[Path]:
    """Return the files that a value may name and that exist."""
    if not isinstance(value, str | Path):
        return []
    text = str(value)
    code = text.rpartition(":")[0]
    names = (text, text.partition("::")[0], code, f"{code.replace('.', '/')}.py")
    return [Path(name) for name in names if name and os.path.isfile(name)]


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place if the block ends well, else remove it.

    Raises:
        OutputError: the folder is missing or not writable. What stood at ``path`` still stands.
    """
    target = Path(os.path.realpath(path))  # a link, latest.pt -> run42.pt, stays one
    try:
        if target.exists() and not target.is_file():
            raise OSError("it is there and is no regular file")  # a device would be replaced, not written to
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
