"""Every option of a check, from a configuration file and from the command line. Reads TOML and imports nothing heavy.

Options stand in ``[tool.fairguard]`` of ``pyproject.toml`` or in ``fairguard.toml``; the nearest one upward counts.
What only one command takes stands in a table of its name, ``[tool.fairguard.repair]``, and that command reads it.
"""

from __future__ import annotations

import datetime
import os
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    ValidationError,
)

from fairguard.errors import ConfigError, did_you_mean
from fairguard.metrics import Metric
from fairguard.names import first_twice, seed_roles
from fairguard.policy import Policy, as_name, validation_line

FILES = ("fairguard.toml", "pyproject.toml")
_IN_PROJECT = ("dense", "pruned", "data", "seeds", "flips", "output")
_CODE = ("data", "model", "model_pruned", "transform")
_ROWS = ("data", "train", "verify", "tune")
TABLES = ("repair", "prune")
"""Commands whose own options stand in a table of their name."""


def _texts(value: Any) -> Any:
    """Return names as a tuple: a single one may stand alone, and TOML or an array may have them as numbers."""
    value = value.tolist() if hasattr(value, "tolist") else value
    parts = value if isinstance(value, list | tuple) else (value,)
    return tuple(map(as_name, parts))


def _each_once(value: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if value is not None and len(set(value)) < len(value):
        raise ValueError(f"name each class once, and {first_twice(value)!r} stands there twice")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("give auto, cpu, cuda or a GPU by its number, such as cuda:1")
    return value


Format = Literal["text", "json", "html", "sarif", "junit", "github"]
FORMATS: tuple[str, ...] = get_args(Format)
"""Reports of a check, each the module of that name in ``fairguard.report``, with ``render(verdict) -> str``."""
OF_SUFFIX: dict[str, Format] = {".html": "html", ".json": "json", ".sarif": "sarif", ".xml": "junit"}
"""Reports that a file's name asks for; any other name is for text."""

Names = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Code = str | Callable[..., Any]
"""``pkg.module:callable``, ``path.py:callable``, or from Python the callable itself."""


class Accepted(BaseModel):
    """A regression that the project lives with for now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str
    until: datetime.date
    """Last day on which it is accepted."""
    why: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    metric: Metric | None = None
    """Only this metric; default all."""


class Settings(Policy):
    """Every option of a check: the policy, and how to read models and rows.

    Raises:
        ConfigError: an unknown option or a value out of range, when made by :func:`load_settings` or :func:`merged`.
    """

    dense: Any = None
    """The dense model, for tests that name none; a command names both."""
    pruned: Any = None
    data: Any = None
    """File of labelled rows, ``pkg.module:callable``, or from Python anything that ``open_data`` takes."""
    label: str | None = None
    groups: Names = ()
    id: str | None = None
    features: Names | None = None
    transform: Code | None = None
    classes: Annotated[Names | None, AfterValidator(_each_once)] = None
    weight: str | None = None
    cluster: str | None = None

    seeds: Names = ()
    """Five or more models pruned like the pruned one from other seeds: they confirm which flips are no accident."""

    model: Code | None = None
    """What builds the network that a state dict belongs to."""
    model_pruned: Code | None = None
    """What builds the pruned one, where its shapes differ."""
    threshold: float | None = None
    output_key: Annotated[str | None, BeforeValidator(as_name)] = None
    batch_size: Annotated[int, Field(ge=1)] = 256
    per_row: bool = False
    device: Annotated[str, AfterValidator(_device)] = "auto"
    provider: str | None = None
    limit: str | None = None
    """Most bytes that a model file may claim, ``64GiB``; default 16 GiB, and 50 times its size on disk."""
    trust: bool = False
    """Open files that run code when opened; never honoured from a file."""

    discover: Annotated[int, Field(ge=0)] = 0
    """Search intersections of up to so many columns that nobody named; 0: none."""
    discover_columns: Names = ()
    accept: tuple[Accepted, ...] = ()

    flips: str | Path | None = None
    format: Format | None = None
    """How reports look; default: text, and in files what their names end in."""
    output: Annotated[
        tuple[str | Path, ...], BeforeValidator(lambda v: v if isinstance(v, list | tuple) else (v,))
    ] = ()
    """Files of reports, instead of stdout."""
    allow_inconclusive: bool = False

    _file: Path | None = PrivateAttr(default=None)

    @property
    def inputs(self) -> dict[str, Any]:
        """Return what is read, by role, for whoever writes a file: none of these may be it."""
        code = {"model": self.model, "model-pruned": self.model_pruned, "transform": self.transform}
        seeds = dict(zip(seed_roles(len(self.seeds)), self.seeds, strict=True))
        return {"dense": self.dense, "pruned": self.pruned, "data": self.data, "config": self._file, **seeds, **code}

    def format_in(self, file: str | Path) -> Format:
        """Return how the report in a file looks: as ``format`` says, else by the file's name."""
        return self.format or OF_SUFFIX.get(Path(file).suffix.lower(), "text")

    def policy(self) -> Policy:
        """Return the part of the options that decides what counts as harm."""
        return Policy.of(**{name: getattr(self, name) for name in Policy.model_fields})


def merged(settings: Settings, overrides: Mapping[str, Any]) -> Settings:
    """Return ``settings`` with the options of ``overrides`` in place of its own; margins by metric are added.

    Raises:
        ConfigError: an unknown option or a value out of range.
    """
    _check_names(overrides, "")
    own = {name: getattr(settings, name) for name in settings.model_fields_set}
    given = dict(overrides)
    if isinstance(given.get("margins"), Mapping):
        given["margins"] = {**{str(k): v for k, v in settings.margins.items()}, **given["margins"]}
    return _from_file(_valid({**own, **given}, ""), settings._file)


def load_settings(path: Path | None = None, start: Path | None = None) -> Settings:
    """Return the options of a configuration file; the defaults where there is none.

    Args:
        path: the file; default the nearest one from ``start`` upward.
        start: where to look from; default the current folder. File names in the configuration are relative to it.

    Raises:
        ConfigError: the file is missing or no TOML, an option is unknown or out of range, or it grants ``trust``.
    """
    file, table = _found(path, start)
    if file is None:
        return Settings()
    options = {name.replace("-", "_"): value for name, value in table.items() if name not in TABLES}
    where = f"{file.name}: "
    _refuse_trust(options, where)
    _check_names(options, where)
    return _from_file(_valid(_located(options, file.parent), where), file)


def load_table(command: str, names: Collection[str], path: Path | None = None) -> dict[str, Any]:
    """Return the options of ``[tool.fairguard.<command>]``; none where there is no such table.

    Args:
        command: one of :data:`TABLES`.
        names: options that may stand there, ``keep_mask``.
        path: the file, as for :func:`load_settings`.

    Raises:
        ConfigError: the file is missing or no TOML, or an option is unknown.
    """
    file, document = _found(path, None)
    table = document.get(command, {})
    if file is None:
        return {}
    if not isinstance(table, dict):
        raise ConfigError(f"{file}: the options of fairguard {command} stand in a table, [tool.fairguard.{command}].")
    options = {name.replace("-", "_"): value for name, value in table.items()}
    _refuse_trust(options, f"{file.name}: ")
    for name in options.keys() & (Settings.model_fields.keys() | {"group", "margin"}):
        raise ConfigError(
            f"{file.name}: option {name!r} is every command's, not {command}'s alone: write it above [{command}]."
        )
    _check_names(options, f"{file.name}: [{command}]: ", names)
    return _located(options, file.parent)


def _refuse_trust(options: Mapping[str, Any], where: str) -> None:
    if "trust" in options:
        raise ConfigError(
            f"{where}'trust' is for the command line alone: a file that comes with a project must not allow that "
            f"project's models to run code. Remove it and pass --trust."
        )


def _from_file(settings: Settings, file: Path | None) -> Settings:
    """Return the settings, knowing which file they come from."""
    settings._file = file
    return settings


def _found(path: Path | None, start: Path | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the configuration file, the nearest one where none is named, and its options.

    Raises:
        ConfigError: the file is missing, no TOML, or says nothing about fairguard.
    """
    file = _nearest(Path.cwd() if start is None else Path(start)) if path is None else Path(path)
    if file is None:
        return None, {}
    table = _table(file)
    if table is None:
        raise ConfigError(f"{file} has no [tool.fairguard]; write it with fairguard init.")
    return file, table


def _nearest(start: Path) -> Path | None:
    """Return the first configuration from ``start`` upward that says anything about fairguard."""
    for folder in (start.absolute(), *start.absolute().parents):
        for name in FILES:
            file = folder / name
            if file.is_file() and _table(file) is not None:
                return file
    return None


def _table(file: Path) -> dict[str, Any] | None:
    """Return the options of a file; ``None`` for a TOML of other tools."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}. Name another with --config.") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, a number of 5,000 digits, 900 brackets in each other
        raise ConfigError(f"{file} is no proper TOML: {error}.") from None
    if "tool" not in document and file.name != "pyproject.toml":
        return document
    tools = document.get("tool", {})
    found = tools.get("fairguard") if isinstance(tools, dict) else tools
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{file}: options stand in a table, [tool.fairguard], one a line.")
    return found


def _check_names(options: Mapping[str, Any], where: str, names: Collection[str] = Settings.model_fields) -> None:
    for name in options:
        if name not in names:
            hint = did_you_mean(name, names) or f" Options: {', '.join(names)}."
            raise ConfigError(f"{where}unknown option {name!r}.{hint}")


def _valid(options: Mapping[str, Any], where: str) -> Settings:
    try:
        return Settings(**options)
    except ValidationError as error:
        raise ConfigError(where + validation_line(error)) from None


def _located(options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options with file names as seen from the current folder."""
    if folder.absolute() == Path.cwd():
        return options
    moved = dict(options)
    for name in {*_IN_PROJECT, *_CODE, *_ROWS}:
        value = options.get(name)
        if isinstance(value, list):
            moved[name] = [_seen_from(folder, each, name) for each in value]
        elif name in options:
            moved[name] = _seen_from(folder, value, name)
    return moved


def _seen_from(folder: Path, value: Any, name: str) -> Any:
    """Return a value of the option ``name``, as seen from the current folder where it is a file name."""
    is_file = isinstance(value, str) and (name not in {*_CODE, *_ROWS} or _is_path(value, name))
    return os.path.join(folder, value) if is_file else value


def _is_path(value: str, name: str) -> bool:
    """Return whether a value names a file, alone or before a callable, and no module."""
    if re.fullmatch(r".+\.py:\w[\w.]*", value):
        return True
    return name in _ROWS and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", value)
