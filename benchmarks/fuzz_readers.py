"""Coverage-guided fuzzing of everything that reads model files (needs atheris, of the extra ``test``).

    python benchmarks/fuzz_readers.py [SECONDS]

Starts from a small real file of every kind, made on the spot, and changes archives entry by entry. Whatever the bytes
are, the only exception that may come out is a FairguardError of one line; a crash leaves the input in ``crash-*`` here,
to become a test.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import warnings
import zipfile
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


def changed(data: bytes, most: int, seed: int) -> bytes:
    """Change one entry of an archive and close it again with right checksums; anything else as libFuzzer would.

    Bytes flipped blindly in an archive end at its checksums and never reach the readers of what it holds.
    """
    chance = random.Random(seed)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        entries = {}
    if not entries or chance.random() < 0.2:
        return bytes(atheris.Mutate(data, most))
    name = chance.choice(list(entries))
    entries[name] = bytes(atheris.Mutate(entries[name], max(1, most // 2)))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for entry, held in entries.items():
            archive.writestr(entry, held)
    return stream.getvalue() if len(stream.getvalue()) <= most else bytes(atheris.Mutate(data, most))


def main() -> None:
    """Make the seeds and hunt."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as seeds:
        list(model_files.make_all(Path(seeds)))
        options = [f"-max_total_time={SECONDS}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=4096"]
        atheris.Setup([sys.argv[0], *options, seeds], read, custom_mutator=changed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
