"""What a check costs beside two bare inference loops over the same rows, and what start-up costs.

    python -m benchmarks.check_speed

Both sides run in turn in one process, on the same rows, batch size and threads; the ratio is taken pair by pair.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fairguard.checking import check

ROWS, BATCH, PAIRS = 50_000, 256, 7
RESULTS = Path(__file__).parent / "results" / "check_speed.json"


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 2))


def cnn() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    )


def bare(models: list[nn.Module], x: torch.Tensor) -> None:
    """Predict every row with every model, and keep nothing but the answers."""
    with torch.inference_mode():
        for model in models:
            for start in range(0, len(x), BATCH):
                model(x[start : start + BATCH]).argmax(1)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(build: Callable[[], nn.Module], x: torch.Tensor, classes: int) -> dict[str, float]:
    """Return the median times and the median ratio of ``check`` to two bare loops."""
    torch.manual_seed(0)
    dense, pruned = build().eval(), build().eval()
    pruned.load_state_dict({k: v * (v.abs() > 0.03) if v.dim() > 1 else v for k, v in dense.state_dict().items()})
    rng = np.random.default_rng(0)
    data = (x.numpy(), rng.integers(0, classes, len(x)), {"group": rng.integers(0, 5, len(x)).astype(str)})
    pairs = []
    for _ in range(PAIRS + 1):
        ours = seconds(lambda: check(dense, pruned, data, batch_size=BATCH, device="cpu"))
        pairs.append((ours, seconds(lambda: bare([dense, pruned], x))))
    ours, theirs = np.array(pairs[1:]).T
    return {
        "check_seconds": round(float(np.median(ours)), 3),
        "bare_seconds": round(float(np.median(theirs)), 3),
        "ratio": round(float(np.median(ours / theirs)), 3),
        "ratio_min": round(float((ours / theirs).min()), 3),
        "ratio_max": round(float((ours / theirs).max()), 3),
    }


def start_up() -> dict[str, float]:
    """Return the median wall time of ``--help`` and of importing torch, as whole processes."""
    commands = {"help_seconds": ["-m", "fairguard", "--help"], "import_torch_seconds": ["-c", "import torch"]}
    return {
        name: round(
            float(
                np.median(
                    [
                        seconds(lambda a=args: subprocess.run([sys.executable, *a], capture_output=True))
                        for _ in range(5)
                    ]
                )
            ),
            3,
        )
        for name, args in commands.items()
    }


def main() -> None:
    """Measure, print and keep the figures."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    figures = {
        "command": "python -m benchmarks.check_speed",
        "machine": "2 shared x86-64 cores, one thread, no GPU",
        "rows": ROWS,
        "batch_size": BATCH,
        "pairs": PAIRS,
        "mlp": compare(mlp, torch.from_numpy(rng.normal(size=(ROWS, 64)).astype(np.float32)), 2),
        "cnn": compare(cnn, torch.from_numpy(rng.normal(size=(ROWS, 3, 32, 32)).astype(np.float32)), 10),
        "start_up": start_up(),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
