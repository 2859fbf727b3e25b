"""The files that a user named, and the one that is written: what repairing and pruning share. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairguard.errors import ConfigError, OutputError
from fairguard.files import sha256_of


@dataclass(frozen=True)
class Places:
    """The files that the user named.

    Attributes:
        inputs: those that exist, by role.
        like: the model file whose kind the output has, where there is one.
        output: where the new model goes.
        work: what is done, which names the folder of unfinished work.
    """

    inputs: dict[str, Path]
    like: Path | None
    output: Path
    work: str

    @classmethod
    def of(cls, output: str | Path | None, *, like: str, work: str, added: str, **named: Any) -> Places:
        """Return the files among what was given, with the output found to be none of them.

        Args:
            output: what the user named; default the file ``like`` with ``added`` in its name.
            like: the role of the model whose kind of file is kept.
            work: ``repair`` or ``prune``.
            added: what a default name gets: ``fair`` makes ``model.fair.pt``.
            **named: whatever was given, by role; what is no existing file counts for nothing.
        """
        inputs = {k: Path(v) for k, v in named.items() if isinstance(v, str | Path) and Path(v).exists()}
        path = _destination(output, named[like], work, added)
        for role, file in inputs.items():
            if file.resolve() == path.resolve():
                raise OutputError(f"{path} is the {role} input; name another file with -o.")
        if not path.absolute().parent.is_dir():
            raise OutputError(f"cannot write {path}: there is no folder {path.parent}. Name another file with -o.")
        return cls(inputs, inputs.get(like), path, work)

    @property
    def journal(self) -> Path:
        """Return the folder of what survives a kill."""
        return self.output.with_name(f".{self.output.name}.{self.work}")

    def hashes(self) -> dict[str, str]:
        """Return the digest of every input file."""
        return {role: sha256_of(file) for role, file in self.inputs.items()}


def _destination(output: str | Path | None, model: Any, work: str, added: str) -> Path:
    if output is not None:
        return Path(output)
    if isinstance(model, str | Path):
        return Path(model).with_suffix(f".{added}{Path(model).suffix}")
    raise ConfigError(f"{work} needs a file to write the new model to: pass output.")
