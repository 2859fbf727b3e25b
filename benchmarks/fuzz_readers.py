"""Coverage-guided fuzzing of everything that reads model files (needs atheris, of the extra ``test``).

    python benchmarks/fuzz_readers.py [SECONDS]

Starts from a small real file of every kind, made on the spot. Whatever the bytes are, the only exception that may come
out is a FairguardError of one line; a crash leaves the input in ``crash-*`` here, to become a test.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

# Big libraries first and uninstrumented: only this project's own branches should guide the search.
import model_files
import onnxruntime  # noqa: F401
import pandas  # noqa: F401
import torch  # noqa: F401

with atheris.instrument_imports(include=["fairguard.inputs"]):
    from fairguard.inputs import inspect, models, onnx_models, recorded_files, state_dicts, trusted  # noqa: F401

from fairguard.errors import FairguardError

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
LONGEST = 1 << 16
PLACE = Path(tempfile.mkdtemp()) / "input"


def read(data: bytes) -> None:
    """Open ``data`` as a model and inspect it."""
    PLACE.write_bytes(data)
    for work in (
        lambda: models.load_model(PLACE, factory=model_files.net).scores(BATCH),
        lambda: inspect.inspect_file(PLACE),
    ):
        try:
            work()
        except FairguardError as error:
            if len(str(error).splitlines()) != 1:
                raise AssertionError(f"more than one line: {error!r}") from error


BATCH = model_files.rows()


def main() -> None:
    """Make the seeds and hunt."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as seeds:
        list(model_files.make_all(Path(seeds)))
        options = [f"-max_total_time={SECONDS}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *options, seeds], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
