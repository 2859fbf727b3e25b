"""What the installed plugin costs a pytest run that has nothing to do with it: at most 30 ms.

    python -m benchmarks.plugin_overhead

Both sides, with the plugin and with ``-p no:fairguard``, run in turn as processes of their own over the same fifty
tests, in an order that alternates; the difference is taken pair by pair. CPU time is the figure that a busy machine
does not spoil; wall time stands beside it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

PAIRS, TESTS, LIMIT = 40, 50, 0.030
RESULTS = Path(__file__).parent / "results" / "plugin_overhead.json"
OFF = ("-p", "no:fairguard")


def run(folder: Path, *options: str) -> tuple[float, float]:
    """Return CPU and wall seconds of one pytest process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def measured() -> dict[str, object]:
    """Return the extra CPU and wall seconds of a run with the plugin, over all pairs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tests = "\n".join(f"def test_{i}(tmp_path): assert tmp_path.exists()" for i in range(TESTS))
        (folder / "test_unrelated.py").write_text(tests)
        run(folder), run(folder, *OFF)  # byte code and the disk's cache
        pairs = []
        for i in range(PAIRS):
            first, second = (run(folder, *options) for options in ((), OFF)[:: 1 if i % 2 else -1])
            pairs.append((first, second) if i % 2 else (second, first))
    extra = {side: [on[k] - off[k] for on, off in pairs] for k, side in enumerate(("cpu", "wall"))}
    bare = {side: median(off[k] for _, off in pairs) for k, side in enumerate(("cpu", "wall"))}
    return {"pairs": PAIRS, "limit": LIMIT, "without": bare, **{side: spread(extra[side]) for side in extra}}


def spread(values: list[float]) -> dict[str, float]:
    """Return the median of the pairs' differences with their quartiles, in seconds."""
    low, middle, high = quantiles(values, n=4)
    return {"median": round(middle, 4), "lower_quartile": round(low, 4), "upper_quartile": round(high, 4)}


def main() -> None:
    """Measure, write and say it; leave with 1 where the limit is missed."""
    found = measured()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    sys.exit(int(found["cpu"]["median"] > LIMIT))  # type: ignore[index]


if __name__ == "__main__":
    main()
