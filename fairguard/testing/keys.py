"""When two passes over models and rows would count the same: keys made of contents, never of names and times.

Code that builds a network is known by its source and by that of the project's modules that it imports. Code that makes
rows may read anything, so its counts are good for one run of tests only.
"""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

from fairguard.config import Settings
from fairguard.files import sha256_of
from fairguard.inputs.detect import Found, Kind, detect
from fairguard.inputs.limits import raised_to
from fairguard.inputs.models import split_name
from fairguard.policy import Policy
from fairguard.provenance import versions

_AFTER_COUNTING = {"accept", "flips", "format", "output", "allow_inconclusive", "discover"}
"""Options that change what is said of the counts and not the counts."""
_CODE = ("model", "model_pruned", "transform")


def counting_options(settings: Settings) -> dict[str, Any]:
    """Return the options that decide what a pass over the rows counts; an option not known here is one of them."""
    left = Settings.model_fields.keys() - Policy.model_fields.keys() - _AFTER_COUNTING
    options = {name: getattr(settings, name) for name in sorted(left)}
    options["searched"] = settings.discover_columns if settings.discover else ()
    options["seed"] = None if _is_file(settings.data) else settings.seed  # code may choose its rows at random
    return options


def question_of(asked: Mapping[str, Any]) -> str:
    """Return a text that two tests share only if they ask the same; an object in memory is itself alone.

    Tests with the same text ask the same for as long as their objects stay in memory. Those with other texts may too.
    """
    return _told(dict(asked), _itself)


def same_question(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two tests ask the same; objects in memory are alike here if their pickles hold the same.

    For what cannot be pickled, it must be one object.
    """
    return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)


def _same(one: Any, other: Any) -> bool:
    return one is other or any(_told(one, of) == _told(other, of) for of in (_itself, _held))


def _told(value: Any, of: Callable[[Any], str]) -> str:
    """Return a text of a value; ``of`` gives that of an object whose own says too little."""
    if type(value) in _PLAIN:
        return repr(value)
    if type(value) is dict:
        return f"{{{', '.join(sorted(f'{_told(name, of)}: {_told(part, of)}' for name, part in value.items()))}}}"
    if type(value) in (list, tuple):
        return f"[{', '.join(_told(part, of) for part in value)}]"
    return of(value)


def _itself(value: Any) -> str:
    return f"<object {id(value)}>"


def _held(value: Any) -> str:
    """Return a text of what an object holds; of the object itself where that cannot be pickled."""
    found = _Hash()
    try:
        _Contents(found, protocol=5).dump(value)
    except Exception:  # a pickle runs code of the project's, which may raise anything
        return _itself(value)
    return f"<content {found.sha.hexdigest()}>"


class _Hash:
    """A stream to write to, of which only the hash is kept."""

    def __init__(self) -> None:
        self.sha = hashlib.sha256()

    def write(self, part: Any) -> None:
        self.sha.update(part)


class _Contents(pickle.Pickler):
    """Writes what an object holds: tensors as their numbers, for their own pickles name places in memory."""

    def persistent_id(self, value: Any) -> str | None:
        torch = sys.modules.get("torch")
        if torch is None or not isinstance(value, torch.Tensor):
            return None
        numbers = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        kind = f"{type(value).__qualname__} {value.dtype} {tuple(value.shape)} {value.requires_grad}"
        return f"{kind} {hashlib.sha256(numbers).hexdigest()}"


_PLAIN = {type(None), bool, int, float, str, date, PosixPath, WindowsPath}
"""Types whose text says all about a value; not their subclasses, whose text may say anything."""


def key_of(settings: Settings, *, root: Path, run: str) -> str | None:
    """Return the key of the counts that ``settings`` ask for; ``None`` where something exists in memory only.

    Args:
        settings: with ``dense``, ``pruned`` and ``data``.
        root: folder of the project, whose code is known by its content.
        run: name of this run of tests, part of the key where the rows come from code.
    """
    options = counting_options(settings)
    if any(not isinstance(options[name], str | Path) for name in ("dense", "pruned", "data")):
        return None
    if any(callable(options[name]) for name in _CODE):
        return None
    parts = {"versions": versions(), **options}
    for name in ("dense", "pruned"):
        parts[name] = [str(options[name]), _model(str(options[name]), settings)]
    parts["seeds"] = [[seed, _model(seed, settings)] for seed in settings.seeds]
    parts["data"] = _content(options["data"]) if _is_file(options["data"]) else [str(options["data"]), run]
    for name in _CODE:
        parts[name] = [options[name], _code(options[name], root, run)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


def file_of(model: str, settings: Settings) -> Found:
    """Return the file of a named model, and what it is, within the limits of the settings.

    Raises:
        ModelError: it is no model's.
    """
    return detect(split_name(model)[0], limits=raised_to(settings.limit))


def _is_file(data: Any) -> bool:
    return isinstance(data, str | Path) and Path(data).exists()


def _model(text: str, settings: Settings) -> list[str]:
    """Return what a model's file holds, and the files beside it that an ONNX model keeps its tensors in."""
    found = file_of(text, settings)
    path, files = found.path, {found.path}
    if found.kind is Kind.ONNX:
        from fairguard.inputs.onnx_files import external_file, read_graph, tensors_of

        graph = read_graph(found, raised_to(settings.limit))
        files |= {external_file(tensor, path) for tensor in tensors_of(graph) if tensor.external_data}
    return sorted(_content(file) for file in files)


def _content(path: str | Path) -> str:
    """Return the digest of a file's bytes, read again only if the file has changed; of a folder's, those of its files.

    A folder's own size and times say nothing of what its files hold.
    """
    target = Path(path)
    if target.is_dir():
        files = (file for file in sorted(target.rglob("*")) if file.is_file())
        listing = "".join(f"{file.relative_to(target)} {_content(file)}\n" for file in files)
        return hashlib.sha256(listing.encode()).hexdigest()
    stat = target.stat()
    return _content_at(str(target.absolute()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@lru_cache(maxsize=256)
def _content_at(path: str, *_: int) -> str:
    """Return the digest of a file's bytes; the numbers are those that one cannot change it without changing."""
    return sha256_of(path)


def _code(spec: str | None, root: Path, run: str) -> list[str]:
    """Return what identifies the code behind ``pkg.module:name``: sources, and versions of what they import."""
    if spec is None:
        return []
    where = spec.rpartition(":")[0]
    start = [Path(where)] if where.endswith(".py") else list(_module_files(where, (root,)))
    if not start or not start[-1].is_file():
        return [_version(where.partition(".")[0]) or run]
    seen: dict[Path, str] = {}
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        file = waiting.pop().resolve()
        if file in seen:
            continue
        seen[file] = sha256_of(file)
        for module, folder in _imported(file):
            files = list(_module_files(module, (root, folder)))
            waiting += files
            if not files and (installed := _version(module.partition(".")[0])):
                found.add(installed)
    return sorted([*seen.values(), *found])


def _module_files(module: str, folders: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files that importing ``module`` from one of ``folders`` runs."""
    parts = module.split(".")
    for folder in dict.fromkeys(folders):
        for depth in range(1, len(parts) + 1):
            stem = folder.joinpath(*parts[:depth])
            yield from (file for file in (stem / "__init__.py", stem.with_suffix(".py")) if file.is_file())


def _imported(file: Path) -> Iterator[tuple[str, Path]]:
    """Yield the modules that a file imports, each with the folder that its name may be relative to."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, file.parent) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = f"{node.module}." if node.module else ""
            folder = file.parents[max(0, node.level - 1)]
            yield from ((f"{base}{alias.name}", folder) for alias in node.names)


@lru_cache(maxsize=256)
def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except (PackageNotFoundError, ValueError):
        return ""
