"""Peak memory of a whole check as rows grow: ``python -m benchmarks.memory``.

Two Parquet files of 20 columns, one ten times as long as the other, are checked with the same two small networks, each
in a process of its own. The peak is the process's largest resident set, interpreter and torch included; the base is
what the process held before the check began. Both sides run one after the other on the same machine.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FEATURES = 16
ALLOWED = 1.2
MIB = 1 << 10  # ru_maxrss counts KiB on Linux


def write_rows(path: Path, rows: int, *, seed: int = 0) -> None:
    """Write rows of 20 columns: 16 features, a label, two sensitive features and an id."""
    rng = np.random.default_rng(seed)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, 250_000):
        n = min(250_000, rows - start)
        x = rng.standard_normal((n, FEATURES))
        table = pa.table(
            {
                **{f"x{i}": x[:, i] for i in range(FEATURES)},
                "label": (x[:, 0] + rng.standard_normal(n) > 0).astype(np.int64),
                "sex": np.array(["F", "M"])[rng.integers(0, 2, n)],
                "race": np.array(list("ABCDE"))[rng.integers(0, 5, n)],
                "id": np.arange(start, start + n),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def check_once(path: Path, flips: Path | None) -> dict[str, Any]:
    """Return rows, base and peak memory in MiB of one check in this process."""
    import torch

    from fairguard import check

    torch.manual_seed(0)
    dense = torch.nn.Sequential(torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    pruned = torch.nn.Sequential(torch.nn.Linear(FEATURES, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
    pruned.load_state_dict({name: torch.where(w.abs() < 0.1, 0, w) for name, w in dense.state_dict().items()})
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict = check(dense, pruned, path, label="label", groups=["sex", "race"], id="id", batch_size=4096, flips=flips)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"rows": verdict.overall.n, "base": round(base / MIB), "peak": round(peak / MIB)}


def main() -> int:
    """Print both peaks and their ratio; return 1 if it exceeds what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the longer file")
    parser.add_argument("--flips", action="store_true", help="write the file of flips too")
    parser.add_argument("--check", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check is not None:
        print(json.dumps(check_once(options.check, options.check.with_suffix(".csv") if options.flips else None)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        found = [_measured(Path(folder), rows, flips=options.flips) for rows in (options.rows // 10, options.rows)]
    for side in found:
        print(f"{side['rows']:>10,} rows x 20 columns   base {side['base']:,} MiB   peak {side['peak']:,} MiB")
    ratio = found[1]["peak"] / found[0]["peak"]
    print(f"ratio of the peaks {ratio:.3f} (allowed {ALLOWED})")
    return int(ratio > ALLOWED)


def _measured(folder: Path, rows: int, *, flips: bool) -> dict[str, Any]:
    path = folder / f"{rows}.parquet"
    write_rows(path, rows)
    command = [sys.executable, "-m", "benchmarks.memory", "--check", str(path), *(["--flips"] if flips else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    path.unlink()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
