"""What a model file is, decided by its content and never by its name. Executes nothing and loads no tensor."""

from __future__ import annotations

import stat
import zipfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fairguard.errors import ModelError, did_you_mean
from fairguard.inputs import archives
from fairguard.inputs.limits import DEFAULT, Limits, human
from fairguard.inputs.pickles import BrokenPickleError, Listing, LongPickleError, list_pickle
from fairguard.inputs.protobufs import looks_like_onnx
from fairguard.names import shown

TORCH_MAGIC = 0x1950A86A20F9469CFC6C
"""The number that torch's format before 1.6 begins with."""


class Kind(StrEnum):
    """What a model file can be."""

    STATE_DICT = "state dict"
    TORCHAO = "torchao state dict"
    MODULE = "pickled module"
    TORCHSCRIPT = "TorchScript program"
    PT2 = "torch.export program"
    SAFETENSORS = "safetensors"
    ONNX = "ONNX"
    HF = "Hugging Face folder"
    NPZ = "npz predictions"
    CSV = "CSV predictions"
    PARQUET = "Parquet predictions"


RUNS_CODE = frozenset({Kind.MODULE, Kind.TORCHSCRIPT, Kind.PT2})
RECORDED = frozenset({Kind.NPZ, Kind.CSV, Kind.PARQUET})


@dataclass(frozen=True)
class Found:
    """A file and what it is.

    Attributes:
        path: where it lies.
        kind: what it is.
        size: bytes on disk.
        imports: dotted names that its pickles would import beyond those of plain tensors.
        zipped: whether it is one of torch's archives, whose tensors can be mapped instead of read.
    """

    path: Path
    kind: Kind
    size: int
    imports: tuple[str, ...] = ()
    zipped: bool = False

    @property
    def runs_code(self) -> bool:
        """Return whether opening it executes what it holds."""
        return self.kind in RUNS_CODE


KNOWN_BUT_NOT_OPENED = (
    (0, b"\x89HDF", "an HDF5 file (Keras?)"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (4, b"ORTM", "onnxruntime's own format"),
    (0, b"GGUF", "a GGUF model"),
    (0, b"\x93NUMPY", "a single numpy array (save it with numpy.savez as an npz of `labels` or `scores`)"),
    (0, b"\x1f\x8b", "compressed with gzip (unpack it)"),
    (0, b'{"learner":', "an XGBoost model"),
    (0, b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner", "an XGBoost model"),
    (0, b"tree\nversion=", "a LightGBM model"),
    (0, b"<?xml", "an XML file (OpenVINO?)"),
    (0, b"<!DOCTYPE", "a web page (a download that failed)"),
    (0, b"version https://git-lfs", "a Git LFS pointer (fetch the file with git lfs pull)"),
)


def detect(path: str | Path, *, limits: Limits = DEFAULT) -> Found:
    """Return what the file at ``path`` is.

    Raises:
        ModelError: missing, empty, no regular file, too large, broken, or of no known kind.
    """
    path = Path(path)
    size = _size(path, limits)
    if path.is_dir():
        return Found(path, Kind.HF, size)
    head = _head(path)
    if head.startswith(b"PK"):
        return _zipped(path, size, limits)
    if head.startswith(b"\x80") and not _is_safetensors(head, size):
        return _pickled(path, size, limits)
    kind = _plain_kind(path, head, size)
    return Found(path, kind, size) if kind is not None else _last_resort(path, size, limits)


def _plain_kind(path: Path, head: bytes, size: int) -> Kind | None:
    """Return the kind of a file that is neither archive nor pickle, ``None`` for an unknown one."""
    for at, magic, what in KNOWN_BUT_NOT_OPENED:
        if head[at:].startswith(magic):
            raise ModelError(f"{path} is {what}; that is not opened here. {POSSIBLE}")
    kinds = (
        (Kind.PARQUET, head.startswith(b"PAR1")),
        (Kind.SAFETENSORS, _is_safetensors(head, size)),
        (Kind.ONNX, looks_like_onnx(path)),
        (Kind.CSV, _is_text(head)),
    )
    return next((kind for kind, fits in kinds if fits), None)


POSSIBLE = "Give a state dict, safetensors, ONNX, or a CSV, Parquet or npz file of predictions."


def _size(path: Path, limits: Limits) -> int:
    """Return the bytes of a regular file, or of the files directly in a model folder."""
    if not str(path).isprintable():
        raise ModelError(f"{shown(path)}: the name has control characters. Rename the file.")
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            what = "links to a file that does not exist" if path.is_symlink() else "does not exist"
            raise ModelError(f"{path} {what}.{did_you_mean(path.name, _neighbours(path))}") from None
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{path} cannot be opened ({reason}).") from None
    if stat.S_ISDIR(status.st_mode):
        return _folder_size(path, limits)
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{path} is no regular file (a pipe, socket or device); give a file on disk.")
    if status.st_size == 0:
        raise ModelError(f"{path} is empty; a save that failed leaves such files. Save the model again.")
    if status.st_size > limits.file_bytes:
        raise ModelError(
            f"{path} has {human(status.st_size)}, more than the {human(limits.file_bytes)} allowed; "
            f"raise --limit if you trust it."
        )
    return status.st_size


def _folder_size(path: Path, limits: Limits) -> int:
    if not (path / "config.json").is_file():
        raise ModelError(f"{path} is a folder without config.json, so no Hugging Face model. {POSSIBLE}")
    size = sum(entry.stat().st_size for entry in path.iterdir() if entry.is_file())
    if size > limits.file_bytes:
        raise ModelError(
            f"{path} holds {human(size)}, more than the {human(limits.file_bytes)} allowed; "
            f"raise --limit if you trust it."
        )
    return size


def _neighbours(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir() if entry.name != path.name]
    except (OSError, ValueError):
        return []


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}).") from None


def _zipped(path: Path, size: int, limits: Limits) -> Found:
    with archives.opened(path, limits) as archive:
        names = archive.namelist()
        inner = {name.partition("/")[2] or name for name in names}
        if any(name.endswith("constants.pkl") for name in inner):
            return Found(path, Kind.TORCHSCRIPT, size, _imports(archive, limits))
        if inner & {"archive_format", "serialized_exported_program.json", "archive_version"}:
            return Found(path, Kind.PT2, size, _imports(archive, limits))
        if any(name.endswith("/data.pkl") for name in names):
            return _torch_archive(path, size, archive, limits)
        if names and all(name.endswith(".npy") for name in names):
            return Found(path, Kind.NPZ, size)
    raise ModelError(f"{path} is a zip archive, but neither torch nor numpy wrote it. {POSSIBLE}")


def _torch_archive(path: Path, size: int, archive: zipfile.ZipFile, limits: Limits) -> Found:
    names = archive.namelist()
    name = f"{names[0].partition('/')[0]}/data.pkl"
    # torch reads that one, and ignores the case of letters: a second pickle would be loaded or listed by mistake.
    if [n for n in names if n.lower().endswith(".pkl")] != [name]:
        raise ModelError(f"{path} has pickles where torch.save writes none. Save it again with torch.save.")
    packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ModelError(f"{path} has compressed entries, which torch never writes. Save it again with torch.save.")
    archives.check_sums(path, archive)
    listing = _listing(path, archives.read(archive, name, most=limits.pickle_bytes), limits)
    return _by_imports(path, size, listing, zipped=True)


def _imports(archive: zipfile.ZipFile, limits: Limits) -> tuple[str, ...]:
    """Return what all pickles of an archive would import."""
    found: dict[str, None] = {}
    for name in archive.namelist():
        if name.endswith(".pkl"):
            data = archives.read(archive, name, most=limits.pickle_bytes)
            found |= dict.fromkeys(_listing(Path(str(archive.filename)), data, limits).refused)
    return tuple(found)


def _pickled(path: Path, size: int, limits: Limits) -> Found:
    """Tell torch's older format (three pickles, then the model's) from a pickle of something else."""
    with path.open("rb") as stream:
        data = stream.read(limits.pickle_bytes)
    listing = _listing(path, data, limits)
    if listing.number != TORCH_MAGIC:
        return _by_imports(path, size, listing, zipped=False)
    at, parts = 0, []
    for _ in range(4):
        parts.append(_listing(path, data, limits, start=at))
        at += parts[-1].length
    imports = tuple(dict.fromkeys(name for part in parts for name in part.imports))
    return _by_imports(path, size, Listing(imports, parts[-1].long_ints, None, at), zipped=False)


def _listing(path: Path, data: bytes, limits: Limits, *, start: int = 0) -> Listing:
    most = limits.opcodes
    try:
        return list_pickle(data, start=start, most=most)
    except LongPickleError:
        raise ModelError(
            f"{path} holds a pickle of more than {most:,} steps (some thousands of tensors); raise --limit, "
            f"to 32GiB or more, if you trust it."
        ) from None
    except BrokenPickleError:
        raise ModelError(f"{path} holds a broken or truncated pickle. Copy or save it again.") from None


def _by_imports(path: Path, size: int, listing: Listing, *, zipped: bool) -> Found:
    if listing.long_ints:
        raise ModelError(f"{path} has integers of more than 64 bits in its pickle; no model needs them.")
    weights = Kind.TORCHAO if listing.quantised else Kind.STATE_DICT
    kind = Kind.MODULE if listing.refused else weights
    return Found(path, kind, size, listing.refused, zipped)


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return head[8:9] == b"{" and length >= 2 and (length <= size - 8 or head[9:11] in (b'"_', b"}"))


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4  # a character cut in half by the end of what was read
    return b"," in head or b"\n" in head


def _last_resort(path: Path, size: int, limits: Limits) -> Found:
    """Name a pickle of protocol 0 or 1 for what it is; refuse everything else."""
    with path.open("rb") as stream:
        data = stream.read(limits.pickle_bytes)
    try:
        listing = list_pickle(data, most=limits.opcodes)
    except BrokenPickleError:
        raise ModelError(f"{path} is of no known kind, or broken. {POSSIBLE}") from None
    return Found(path, Kind.MODULE, size, listing.refused or ("?",))
