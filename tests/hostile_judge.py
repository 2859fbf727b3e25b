"""Opens hostile files in a process of its own; says as JSON lines what happened and what CPU time and memory it took.

python tests/hostile_judge.py FOLDER CUTS SEEDS
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_files
import model_files

from fairguard.errors import FairguardError
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model


def main() -> None:
    folder, cuts, seeds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    _warm_up(folder / "warm")
    for hostile in hostile_files.all_files(folder, cuts=cuts, seeds=seeds):
        results = [judged(work, hostile.path) for work in (_predict, inspect_file)]
        print(json.dumps({"name": hostile.name, "refused": hostile.refused, "results": results}), flush=True)


def _warm_up(folder: Path) -> None:
    """Import everything once, so that no hostile file is blamed for it."""
    folder.mkdir()
    for name, path in model_files.make_all(folder):
        load_model(path, factory=model_files.net, trust=name in model_files.NEED_TRUST).scores(model_files.rows())
        inspect_file(path)


def judged(work: Callable[[Path], Any], path: Path) -> dict[str, Any]:
    """Return what became of one file: ``opened``, ``refused`` with a message, or ``crashed``."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start, said = _memory("VmRSS"), time.process_time(), io.StringIO()
    found: dict[str, Any]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            work(path)
        found = {"outcome": "opened", "message": ""}
    except FairguardError as error:
        found = {"outcome": "refused", "message": str(error)}
    except BaseException as error:
        found = {"outcome": "crashed", "message": f"{type(error).__name__}: {error}"}
    seconds, megabytes = time.process_time() - start, _memory("VmHWM") - before
    return found | {"seconds": seconds, "megabytes": megabytes, "said": said.getvalue()}


def _predict(path: Path) -> None:
    load_model(path, factory=model_files.net).scores(model_files.rows())


def _memory(what: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
