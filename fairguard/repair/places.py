"""The files that a user named, and the one that is written: what repairing and pruning share. Knows no network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairguard.errors import ConfigError, OutputError
from fairguard.files import check_writable, sha256_of
from fairguard.inputs.models import split_name
from fairguard.inputs.parts import refuse_read


@dataclass(frozen=True)
class Places:
    """The files that the user named.

    Attributes:
        inputs: those that exist, by role.
        sets: by role, which of a checkpoint's sets of weights was named (``file.pt::NAME``).
        like: the model file whose kind the output has, as the user named it, where there is one.
        output: where the new model goes.
        work: what is done, which names the folder of unfinished work.
        read: all that is read, by role, and must not be written over.
    """

    inputs: dict[str, Path]
    sets: dict[str, str]
    like: str | None
    output: Path
    work: str
    read: dict[str, Any]

    @classmethod
    def of(
        cls,
        output: str | Path | None,
        named: Mapping[str, Any],
        *,
        like: str,
        work: str,
        added: str,
        read: Mapping[str, Any],
    ) -> Places:
        """Return the files among what was given, with the output found to be none of them.

        Args:
            output: what the user named to write; default the file ``like`` with ``added`` in its name.
            named: whatever was given, by role; what is no existing file counts for nothing.
            like: the role of the model whose kind of file is kept.
            work: ``repair`` or ``prune``.
            added: what a default name gets: ``fair`` makes ``model.fair.pt``.
            read: what else is read, by role: a configuration, the file that builds the network.
        """
        split = {role: split_name(str(v)) for role, v in named.items() if isinstance(v, str | Path)}
        inputs = {role: file for role, (file, _) in split.items() if file.exists()}
        sets = {role: name for role, (_, name) in split.items() if name is not None and role in inputs}
        path = _destination(output, split.get(like, (None,))[0], work, added)
        if not path.absolute().parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}. Name another file with -o.")
        places = cls(inputs, sets, str(named[like]) if like in inputs else None, path, work, {**read, **named})
        places.check(path)
        return places

    def check(self, path: Path) -> None:
        """Raise :class:`OutputError` if ``path`` cannot be written, or is something that is read."""
        check_writable(path)
        refuse_read(path, self.read)

    @property
    def journal(self) -> Path:
        """Return the folder of what survives a kill."""
        return self.output.with_name(f".{self.output.name}.{self.work}")

    @property
    def candidate(self) -> Path:
        """Return the file that a candidate is written to, to be judged before it goes to its place."""
        return self.journal / f"candidate{self.output.suffix}"

    def hashes(self) -> dict[str, str]:
        """Return the digest of every input file, with the set of weights that was named in it."""
        digests = {role: sha256_of(file) for role, file in self.inputs.items()}
        return {role: f"{d}::{self.sets[role]}" if role in self.sets else d for role, d in digests.items()}


def opened_as(like: str | Path | None, path: Path) -> str | Path:
    """Return how a file written like ``like`` is named to open it: with the same set of weights."""
    name = None if like is None else split_name(str(like))[1]
    return path if name is None else f"{path}::{name}"


def _destination(output: str | Path | None, model: Path | None, work: str, added: str) -> Path:
    if output is not None:
        return Path(output)
    if model is not None:
        return model.with_suffix(f".{added}{model.suffix}")
    raise ConfigError(f"{work} needs a file to write the new model to: pass output.")
