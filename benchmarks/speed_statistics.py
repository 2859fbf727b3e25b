"""The judge's statistics beside fairlearn's, on the same rows in one run: points, bootstrap and verdict.

    python -m benchmarks.speed_statistics                  # the whole grid, about 20 minutes
    python -m benchmarks.speed_statistics --quick          # 10,000 rows only, about a minute

Both sides take the same arrays with text groups and give accuracy, selection rate, true and false positive rate of two
models by group, then 1,000 bootstrap replicates of them. fairlearn resamples rows; we resample the cells of the count
table, which is the same draw. Where fairlearn's 1,000 replicates do not fit into the budget, some are timed and the
rest is reckoned in proportion; the table says how many. All times are CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score

from fairguard.dtypes import FloatArray
from fairguard.in_memory import count_arrays
from fairguard.judge.counts import CountTable
from fairguard.judge.judge import judge
from fairguard.policy import Policy

METRICS = {
    "accuracy": accuracy_score,
    "selection_rate": selection_rate,
    "recall": true_positive_rate,
    "fpr": false_positive_rate,
}
REPLICATES = 1_000
QUANTILES = [0.025, 0.975]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Rows:
    """Labels, answers and groups of n rows."""

    y: NDArray[np.int64]
    dense: NDArray[np.int64]
    pruned: NDArray[np.int64]
    group: NDArray[np.str_]

    @classmethod
    def draw(cls, n: int, groups: int, seed: int) -> Rows:
        """Return random rows: dense right in 85 %, and 8 % of its answers changed by pruning."""
        rng = np.random.default_rng(seed)
        y = (rng.random(n) < 0.4).astype(np.int64)
        dense = np.where(rng.random(n) < 0.85, y, 1 - y)
        pruned = np.where(rng.random(n) < 0.08, 1 - dense, dense)
        return cls(y, dense, pruned, np.char.add("g", rng.integers(0, groups, n).astype(str)))


@dataclass(frozen=True)
class Cell:
    """What one size of data cost, in CPU seconds."""

    rows: int
    groups: int
    fairlearn_point: float
    ours_point: float
    fairlearn_per_replicate: float
    fairlearn_measured: int
    fairlearn_bootstrap: float
    ours_bootstrap: float
    bootstrap_ratio: float
    verdict_default: float
    verdict_accuracy: float
    points_equal: bool


def cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def fairlearn_frames(rows: Rows, n_boot: int | None = None, seed: int = 0) -> list[MetricFrame]:
    """Return fairlearn's metrics of both models by group."""
    more = {} if n_boot is None else {"n_boot": n_boot, "ci_quantiles": QUANTILES, "random_state": seed}
    return [
        MetricFrame(metrics=METRICS, y_true=rows.y, y_pred=answers, sensitive_features=rows.group, **more)
        for answers in (rows.dense, rows.pruned)
    ]


def our_table(rows: Rows) -> CountTable:
    return count_arrays(rows.y, rows.dense, rows.pruned, {"g": rows.group})


def rates(table: CountTable, counts: FloatArray) -> FloatArray:
    """Return the four metrics of both models, shape (..., G, 2, 4), for ``counts`` of the table's cells, (..., M)."""
    answers = np.stack([table.dense, table.pruned], axis=1)
    y = table.y[:, None]
    every = np.ones_like(answers)
    events = np.stack([answers == y, answers == 1, (answers == 1) & (y == 1), (answers == 1) & (y == 0)], axis=2)
    rows = np.stack([every, every, every * (y == 1), every * (y == 0)], axis=2)
    starts = np.flatnonzero(np.diff(table.codes("g"), prepend=-1))
    shape = (*counts.shape[:-1], len(starts), 2, 4)

    def sums(amounts: NDArray[Any]) -> FloatArray:
        parts = [
            np.asarray(counts[..., low:high] @ amounts[low:high].reshape(high - low, -1))
            for low, high in zip(starts, [*starts[1:], len(table.counts)], strict=True)
        ]
        return np.stack(parts, axis=-2).reshape(shape)

    with np.errstate(invalid="ignore", divide="ignore"):
        return sums(events.astype(np.float64)) / sums(rows.astype(np.float64))


def our_bootstrap(table: CountTable, replicates: int, seed: int) -> FloatArray:
    """Return percentile intervals of all metrics, shape (2 quantiles, G, 2, 4); memory is bounded by blocks."""
    rng = np.random.default_rng(seed)
    block = max(1, 2_000_000 // len(table.counts))
    share = table.counts / table.n
    drawn = [
        rates(table, rng.multinomial(table.n, share, size=min(block, replicates - done)).astype(np.float64))
        for done in range(0, replicates, block)
    ]
    quantiles: FloatArray = np.quantile(np.concatenate(drawn), QUANTILES, axis=0)
    return quantiles


def measure(n: int, groups: int, *, budget: float, seed: int) -> Cell:
    """Return the costs at one size; fairlearn's replicates are timed for about ``budget`` seconds."""
    rows = Rows.draw(n, groups, seed)
    slow_point, frames = cpu(lambda: fairlearn_frames(rows))
    count_time, table = cpu(lambda: our_table(rows))
    rate_time, ours = cpu(lambda: rates(table, table.counts.astype(np.float64)))
    first, _ = cpu(lambda: fairlearn_frames(rows, 1))
    measured = int(np.clip(budget / max(first - slow_point, 1e-3), 2, REPLICATES))
    slow_some, _ = cpu(lambda: fairlearn_frames(rows, measured))
    each = (slow_some - slow_point) / measured
    quick, _ = cpu(lambda: our_bootstrap(table, REPLICATES, seed))
    judge(table, Policy())
    default, _ = cpu(lambda: judge(table, Policy()))
    accuracy, _ = cpu(lambda: judge(table, Policy.of(metrics="accuracy")))
    return Cell(
        rows=n,
        groups=groups,
        fairlearn_point=slow_point,
        ours_point=count_time + rate_time,
        fairlearn_per_replicate=each,
        fairlearn_measured=measured,
        fairlearn_bootstrap=slow_point + REPLICATES * each,
        ours_bootstrap=count_time + rate_time + quick,
        bootstrap_ratio=(slow_point + REPLICATES * each) / (count_time + rate_time + quick),
        verdict_default=default,
        verdict_accuracy=accuracy,
        points_equal=points_equal(table, ours, frames),
    )


def points_equal(table: CountTable, ours: FloatArray, frames: list[MetricFrame]) -> bool:
    """Return whether every metric of every group is fairlearn's to the last bit."""
    for model, frame in enumerate(frames):
        theirs = frame.by_group.loc[list(table.levels[0]), list(METRICS)].to_numpy(dtype=np.float64)
        if not np.array_equal(ours[:, model], theirs):
            return False
    return True


def endpoints(n: int, groups: int, *, n_boot: int, repeats: int, seed: int) -> dict[str, float]:
    """Return how far fairlearn's interval endpoints lie from ours, in their Monte-Carlo standard deviations."""
    rows = Rows.draw(n, groups, seed)
    table = our_table(rows)
    ours = np.stack([our_bootstrap(table, n_boot, seed + 1 + k) for k in range(repeats)])
    theirs = np.stack(
        [
            np.stack([ci.loc[list(table.levels[0]), list(METRICS)].to_numpy() for ci in frame.by_group_ci])
            for frame in fairlearn_frames(rows, n_boot, seed)
        ],
        axis=2,
    )
    away = np.abs(theirs - ours.mean(axis=0)) / ours.std(axis=0, ddof=1)
    return {
        "rows": n,
        "groups": groups,
        "n_boot": n_boot,
        "endpoints": int(away.size),
        "largest_in_sd": float(away.max()),
        "mean_in_sd": float(away.mean()),
    }


def machine() -> str:
    from importlib.metadata import version

    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "fairlearn", "scikit-learn", "pandas"))
    return f"{platform.machine()}, one thread, Python {platform.python_version()}, {libraries}"


def markdown(report: dict[str, Any]) -> str:
    head = (
        "| rows | groups | fairlearn point s | ours s | fairlearn 1,000 replicates s | of which measured | ours s "
        "| ratio | verdict ms, 3 metrics | verdict ms, accuracy | points bit-equal |"
    )
    lines = [
        "# Statistics: fairlearn and fairguard in one run",
        "",
        f"`{report['command']}`, seed {report['seed']}; {report['machine']}. CPU seconds.",
        "",
        head,
        "|" + "---|" * 11,
    ]
    for cell in report["cells"]:
        lines.append(
            f"| {cell['rows']:,} | {cell['groups']} | {cell['fairlearn_point']:.2f} | {cell['ours_point']:.4f} "
            f"| {cell['fairlearn_bootstrap']:,.0f} | {cell['fairlearn_measured']} | {cell['ours_bootstrap']:.3f} "
            f"| **{cell['bootstrap_ratio']:,.0f}** | {1e3 * cell['verdict_default']:.0f} "
            f"| {1e3 * cell['verdict_accuracy']:.0f} | {'yes' if cell['points_equal'] else 'NO'} |"
        )
    ends = report["endpoints"]
    lines += [
        "",
        f"Percentile intervals of {ends['endpoints']} endpoints ({ends['rows']:,} rows, {ends['groups']} groups, "
        f"{ends['n_boot']} replicates): fairlearn's lie {ends['mean_in_sd']:.2f} Monte-Carlo standard deviations from "
        f"ours on average (0.80 expected), {ends['largest_in_sd']:.1f} at most.",
        "",
        "Replicates beyond those measured are reckoned in proportion. A verdict goes on relabelling, within "
        "bounds, while the p value of a group that looks harmed is close to alpha: its slowest cell shows it.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="10,000 rows only")
    parser.add_argument(
        "--budget", type=float, default=None, help="seconds of fairlearn replicates a cell (60; quick 5)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    budget = given.budget or (5.0 if given.quick else 60.0)
    sizes = [10_000] if given.quick else [10_000, 100_000, 1_000_000]
    cells = []
    for n in sizes:
        for groups in (2, 20, 200):
            cells.append(asdict(measure(n, groups, budget=budget, seed=given.seed)))
            print(json.dumps(cells[-1]), file=sys.stderr, flush=True)
    report = {
        "command": " ".join(["python -m benchmarks.speed_statistics", *sys.argv[1:]]),
        "seed": given.seed,
        "machine": machine(),
        "replicates": REPLICATES,
        "budget_s": budget,
        "cells": cells,
        "endpoints": endpoints(10_000, 2, n_boot=50 if given.quick else 400, repeats=100, seed=given.seed),
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "speed_statistics.json").write_text(json.dumps(report, indent=1) + "\n")
    text = markdown(report)
    (given.out / "speed_statistics.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
