"""The files that a repair writes: names that harm no input, a rehearsal before time is spent, then the real thing.

Knows files and weights; knows nothing of how the weights came about or of what the rows say of them.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fairguard.checking import count
from fairguard.config import Settings
from fairguard.errors import OutputError
from fairguard.files import replacing
from fairguard.inputs.predictor import Predictor
from fairguard.inputs.rows import Source
from fairguard.opening import open_model
from fairguard.repair.frontier import LETTERS
from fairguard.repair.masks import Weights
from fairguard.repair.places import Places
from fairguard.repair.task import Candidate, Task
from fairguard.repair.writing import export_onnx, write_like


def check_outputs(files: Places, *, reports: Sequence[str], export: str | None, frontier: bool = False) -> None:
    """Check every file that a repair or a pruning will write.

    Args:
        files: what is read, and the file that the model goes to.
        reports: kinds of reports written beside it.
        export: ``onnx`` where that is written too.
        frontier: whether a model for each trade-off is.

    Raises:
        OutputError: one of them is an input or cannot be written, or the model would be called ONNX, which it is not.
    """
    called_onnx = files.output.suffix == ".onnx"
    given_onnx = str(files.like).endswith(".onnx")  # that has no weights: told when opened
    if called_onnx and not given_onnx:
        raise OutputError(
            f"{files.output}: the model has the kind of file that the one given has, and no ONNX. Give -o another "
            "ending; --export onnx writes ONNX beside it."
        )
    files.check(files.output)
    for kind in reports:
        files.check(report_of(files.output, kind))
    if export is not None:
        files.check(onnx_of(files.output))
    for letter in LETTERS if frontier else "":
        files.check(point_of(files.output, letter))


def resume_notes(files: Places, *, resume: bool) -> list[str]:
    """Return a sentence if a run that is to be resumed left nothing behind; asked before a journal is opened."""
    if not resume or any(files.journal.glob("**/*.pt")):
        return []
    return [f"--resume found nothing to go on from in {files.journal}: all was done anew (is -o the same?)"]


def report_of(output: Path, kind: str) -> Path:
    """Return where the report goes: ``fair.pt.report.json`` or ``.html``."""
    return output.with_name(f"{output.name}.report.{kind}")


def onnx_of(output: Path) -> Path:
    """Return where the model goes as ONNX: ``fair.onnx``."""
    return output.with_suffix(".onnx")


def point_of(output: Path, letter: str) -> Path:
    """Return where one point of a frontier goes: ``fair.A.pt``."""
    return output.with_suffix(f".{letter}{output.suffix}")


def rehearse(files: Places, task: Task, *, export: str | None) -> None:
    """Write PRUNED once more into the journal: what cannot be written is found out before time is spent on training.

    Raises:
        FairguardError: this kind of file cannot be written, or this network not exported.
    """
    assert task.journal.folder is not None  # noqa: S101 - a repair has a journal
    path = task.journal.folder / f"rehearsal{files.output.suffix}"
    write_like(files.like, path, task.pruned, task.masks)
    path.unlink()
    if export is not None:
        path = path.with_suffix(".onnx")
        export_onnx(cpu_copy(task.net, task.dense), task.train.take_first(2).x, path)
        path.unlink()


def publish(file: Path, output: Path) -> None:
    """Put a file that was proven in its place, as a whole or not at all."""
    with replacing(output) as temporary:
        shutil.copyfile(file, temporary)


def publish_points(candidates: Sequence[Candidate], files: Places) -> dict[str, str]:
    """Write every point of a frontier and return the files by their letters."""
    named = {}
    for letter, candidate in zip(LETTERS, candidates, strict=False):
        path = point_of(files.output, letter)
        with replacing(path) as temporary:
            write_like(files.like, temporary, candidate.weights, candidate.masks)
        named[letter] = str(path)
    return named


def publish_onnx(output: Path, task: Task, candidate: Candidate) -> Path:
    """Write the candidate as ONNX beside ``output`` and return where.

    Raises:
        OutputError: torch cannot export it.
    """
    path = onnx_of(output)
    with replacing(path) as temporary:
        export_onnx(cpu_copy(task.net, candidate.weights), task.train.take_first(2).x, temporary)
    return path


def differing(one: Predictor, path: Path, rows: Source, settings: Settings) -> int:
    """Return on how many rows the file at ``path`` answers otherwise than the model ``one``."""
    table = count(one, open_model(path, settings, None), rows, settings=settings, stand_in=True).comparison.counts
    return int(table.counts[table.dense != table.pruned].sum())


def cpu_copy(net: nn.Module, weights: Weights) -> nn.Module:
    """Return a copy of the net with these weights on the CPU, in eval mode."""
    found = copy.deepcopy(net).cpu().eval()
    found.load_state_dict({name: tensor.cpu() for name, tensor in weights.items()})
    return found
