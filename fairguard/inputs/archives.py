"""Zip archives, as torch and numpy write them: listed and bounded before anything is unpacked. Extracts nothing."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fairguard.errors import FairguardError, ModelError
from fairguard.inputs.limits import Limits, human
from fairguard.names import listed, shown

BYTES_PER_ENTRY = 96
"""Room for an entry of an archive's directory, its name included."""

END = struct.Struct("<4s8xIIH")
"""The end of an archive: mark, length and start of the directory, length of a comment."""
LOCATOR = struct.Struct("<4s4xQ4x")
"""In a zip64 archive, what stands before the end: mark, place of the record."""
RECORD_64 = struct.Struct("<4s36xQQ")
"""In a zip64 archive, what stands before the locator: mark, length and start of the directory."""
ENDS = RECORD_64.size + LOCATOR.size + END.size


@contextmanager
def opened(path: Path, limits: Limits) -> Iterator[zipfile.ZipFile]:
    """Yield the archive at ``path``, found harmless.

    Raises:
        ModelError: it is broken, unpacks to far more than its size, or has entries that lead out of it.
    """
    try:
        _check_directory(path, limits)
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive.infolist(), limits)
            yield archive
    except FairguardError:
        raise
    except Exception as error:  # the reader meets hostile bytes: whatever it raises means "broken"
        raise ModelError(f"{path} is a broken or truncated archive ({shown(error)}). Copy or save it again.") from None


def read(archive: zipfile.ZipFile, name: str, *, most: int) -> bytes:
    """Return the bytes of an entry of at most ``most`` bytes."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise ModelError(
            f"{archive.filename}: {shown(name)} has {human(size)}, more than the {human(most)} allowed; "
            f"raise --limit if you trust it."
        )
    with archive.open(name) as stream:
        return stream.read(most + 1)


def check_sums(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive one of whose entries does not have the bytes that were written.

    Raises:
        ModelError: which entry is damaged.
    """
    if damaged := archive.testzip():
        raise ModelError(f"{path} is damaged: {shown(damaged)} does not match its checksum. Copy or save it again.")


def _check_directory(path: Path, limits: Limits) -> None:
    """Refuse a directory so long that listing it would take much memory, or that readers find in different places.

    Python counts back from the end to find the directory, torch goes where the end says that it is. Where they differ,
    torch would read other entries than those that were found harmless; no writer makes such a file.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - ENDS))
        ends = stream.read().rjust(ENDS, b"\0")
    end = size - END.size
    mark, length, start, comment = END.unpack(ends[-END.size :])
    if mark != b"PK\5\6" or comment:
        raise zipfile.BadZipFile("no end of the archive")
    locator, place = LOCATOR.unpack(ends[RECORD_64.size : -END.size])
    if locator == b"PK\6\7":  # zip64, as torch always writes: the numbers stand in a record before this one
        end -= LOCATOR.size + RECORD_64.size
        short = (length, start)
        mark, length, start = RECORD_64.unpack(ends[: RECORD_64.size])
        agree = short == (min(length, 0xFFFFFFFF), min(start, 0xFFFFFFFF)) or 0xFFFFFFFF in short
        if mark != b"PK\6\6" or place != end or not agree:
            raise zipfile.BadZipFile("two ends of the archive")
    if length > limits.entries * BYTES_PER_ENTRY:
        raise ModelError(f"{path} claims a directory of {human(length)}; that is no model file.")
    if start + length != end:
        raise zipfile.BadZipFile("its directory is not where its end says")


def _check_entries(path: Path, entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    names = [entry.filename for entry in entries]
    if len(entries) > limits.entries:
        raise ModelError(f"{path} has {len(entries)} entries, more than the {limits.entries} allowed.")
    outside = [n for n in names if n.startswith(("/", "\\")) or ".." in n.replace("\\", "/").split("/") or "\0" in n]
    if outside:
        raise ModelError(f"{path} has entries that lead out of the archive: {listed(outside)}. Do not use this file.")
    if len(set(names)) < len(names):
        raise ModelError(f"{path} has two entries of one name; readers disagree on such files. Save it again.")
    claimed = sum(entry.file_size for entry in entries)
    if limits.too_much(claimed, path.stat().st_size):
        raise ModelError(
            f"{path} would unpack {human(path.stat().st_size)} to {human(claimed)}; that is no honest model file. "
            f"Raise the limit if you trust it."
        )
