"""What survives a kill: finished stages and the running one's last checkpoint, each a file replaced as a whole.

Knows nothing of what a stage does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from fairguard.errors import ConfigError, OutputError
from fairguard.files import replacing, write_text
from fairguard.repair.disk import written

LOCK = "lock"
"""The file that whoever works in a journal's folder holds."""
PURPOSE = "purpose.json"
ENDED = "ended"
"""The file that says that the work is done, though it may be wanted again."""


class Journal:
    """A folder of stages. Without a folder nothing is kept and every stage runs.

    As a context it lets go of the folder however the work ends; work that failed leaves none behind without a stage.

    Args:
        folder: where to keep; ``None`` for nowhere.
        purpose: what is being done with what (hashes, settings); a journal of another purpose is not continued.
        resume: continue from what the folder holds, instead of starting anew.

    Attributes:
        folder: where stages are kept, or ``None``.
        dropped: whether what another run had left behind, when it was interrupted, is gone now.
        damaged: names of files that could not be read, so that their work is done anew.

    Raises:
        ConfigError: ``resume`` with a journal of another purpose, or somebody else is at work in the folder.
    """

    def __init__(self, folder: Path | None, *, purpose: dict[str, Any] | None = None, resume: bool = False) -> None:
        """Open the folder, emptied unless it is to be resumed."""
        self.folder, self.dropped = folder, False
        self.damaged: list[str] = []
        self._held: FileLock | None = None  # until the journal is closed or forgotten, or the process ends
        if folder is None:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._held = _held(folder)
        except OSError as error:
            raise OutputError(f"cannot write {folder}: {error.strerror}. Name another file with -o.") from None
        text = json.dumps(purpose or {}, sort_keys=True, indent=1, default=str)
        stages = (*folder.glob("**/*.running.pt"), *folder.glob("**/*.done.pt"))
        left = bool(stages) and not (folder / ENDED).exists()
        before = _purpose_in(folder) if resume else None
        if before is not None and before != (now := json.loads(text)):
            self._release()  # an exception that is kept, as a notebook keeps its last one, would keep the lock too
            raise ConfigError(
                f"{folder} is of another run: {_differing(before, now)}. Repeat that command, or leave out --resume."
            )
        if before is None:  # stages without their purpose may be of any run
            self.dropped = left and not resume
            self.damaged += [PURPOSE] if left and resume else []
            _empty(folder)
        (folder / ENDED).unlink(missing_ok=True)  # what is gone on with may train again, and be interrupted
        write_text(folder / PURPOSE, text)

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the user should know of the folder, one sentence each."""
        found = [f"{name} could not be read and its work was done anew" for name in self.damaged]
        if self.dropped:
            found += [
                "an interrupted run to the same output was dropped and all was done anew; --resume goes on from one"
            ]
        return tuple(found)

    def __enter__(self) -> Journal:
        """Return the journal itself."""
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Let go of the folder, and remove it where the work failed before anything could be resumed."""
        failed = isinstance(error, Exception)  # an interrupt is none
        if self.folder is not None and failed and not any(self.folder.glob("**/*.pt")):
            self._remove()
        self._release()

    def within(self, name: str) -> Journal:
        """Return the journal of a part of the work, kept inside this one."""
        part = Journal(None)
        if self.folder is not None:
            part.folder = self.folder / name
            part.folder.mkdir(exist_ok=True)
        part.damaged = self.damaged
        return part

    def stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what ``work`` gave, from the file if the stage ended in an earlier life.

        A checkpoint that ``work`` saved as ``name.running`` has then served.
        """
        if (done := self.load(f"{name}.done")) is not None:
            return done
        result = work()
        self.save(f"{name}.done", result)
        self.forget(f"{name}.running")
        return result

    def load(self, name: str) -> dict[str, Any] | None:
        """Return what was saved under ``name``, on the CPU; ``None`` for nothing, or for a file cut short."""
        if self.folder is None or not (path := self.folder / f"{name}.pt").exists():
            return None
        try:
            found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception:  # torch raises whatever the damage makes it stumble over
            self.damaged.append(path.name)
            path.unlink()
            return None
        return found

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Save tensors and plain values; a kill leaves either the old file or the new one."""
        if self.folder is not None:
            with replacing(self.folder / f"{name}.pt") as temporary, written(temporary):
                torch.save(state, temporary)

    def forget(self, name: str) -> None:
        """Remove what was saved under ``name``."""
        if self.folder is not None:
            (self.folder / f"{name}.pt").unlink(missing_ok=True)

    @property
    def resumable(self) -> bool:
        """Return whether a stage has ended, which need not be done again."""
        return self.folder is not None and any(self.folder.glob("**/*.done.pt"))

    def close(self, *, keep: bool = False) -> None:
        """Remove the folder, as the work is done; or keep what stages gave, until the next work in it."""
        if not keep or self.folder is None:
            self._remove()
            return
        for path in (path for path in self.folder.rglob("*") if path.is_file() and path.name not in (LOCK, PURPOSE)):
            if not path.name.endswith(".done.pt"):
                path.unlink(missing_ok=True)
        write_text(self.folder / ENDED, "")
        self._release()

    def _remove(self) -> None:
        """Remove the folder and let go of it: under the lock, so that nobody's work is removed who begins meanwhile."""
        if self.folder is None:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        left = self.folder.exists()  # Windows removes no file that is held
        self._release()
        if left:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()


def _differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what is not the same in two purposes, as a user knows it: an option with both values, a file by role."""
    one, other = _flat(before), _flat(now)
    changed = {name: (one.get(name), other.get(name)) for name in {**one, **other} if one.get(name) != other.get(name)}
    asked = {name.partition(".")[2]: values for name, values in changed.items() if name.startswith(("plan.", "check."))}
    told = [f"--{name.replace('_', '-')} {_shown(a)} there, {_shown(b)} here" for name, (a, b) in asked.items()]
    told += [f"another {name}" for name in changed if "." not in name]
    return ", ".join(told[:5]) or "trained otherwise"


def _flat(purpose: dict[str, Any]) -> dict[str, Any]:
    """Return all values of a purpose by name, ``plan.budget``."""
    flat: dict[str, Any] = {}
    for name, value in purpose.items():
        flat |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def _purpose_in(folder: Path) -> dict[str, Any] | None:
    """Return what the folder's stages are of; ``None`` where nothing that can be read says so."""
    try:
        found = json.loads((folder / PURPOSE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _held(folder: Path) -> FileLock:
    """Return a lock on the folder for this process, where the system knows locks; work goes on without one elsewhere.

    Raises:
        ConfigError: another process holds it: it would lose its checkpoints, and this one its work.
        OSError: there cannot be a file in the folder.
    """
    # A soft lock is a file that a killed run leaves behind, and who looks from another host cannot tell that it died.
    lock = FileLock(folder / LOCK, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(f"another run is at work in {folder}: wait for it, or name another file with -o.") from None
    except (OSError, NotImplementedError):  # what a system without locks says; or there can be no file, said again here
        (folder / LOCK).open("a").close()
    return lock


def _empty(folder: Path) -> None:
    """Remove what the folder holds, all but the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
