"""What 10,000 candidates of a hunt cost beside predicting 10,000 rows, and beside asking about one pair at a time.

    python -m benchmarks.fuzz_batching

A candidate is a pair, so a hunt predicts twice as many rows. All sides run in turn in one process, on the same table,
transform and models with one thread; times are CPU times, and ratios are taken turn by turn. The rows are generated;
both networks are untrained and do not heed the group, so that nothing is found and every candidate is asked about.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from fairguard.demo.synthetic import FEATURES, applicants
from fairguard.fuzz import BothModels, hunt, open_both
from fairguard.schema import Schema
from fairguard.strategies import counterfactual_pairs

CANDIDATES, ONE_BY_ONE, TURNS = 10_000, 300, 7
RESULTS = Path(__file__).parent / "results" / "fuzz_batching.json"


def encode(table: pd.DataFrame) -> NDArray[np.float32]:
    """Return the features and the sex as a flag, shape (n, 9)."""
    return np.column_stack([table[FEATURES], table["sex"] == "F"]).astype(np.float32)


def network(width: int) -> nn.Module:
    """Return an untrained network that does not heed the sex."""
    made = nn.Sequential(nn.Linear(9, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)).eval()
    with torch.no_grad():
        made[0].weight[:, 8] = 0
    return made


def predict(models: BothModels, rows: int) -> None:
    """Ask both models about the first real rows."""
    models.ask(models.schema.table.select(models.schema.inputs).slice(0, rows))


def one_by_one(models: BothModels, pairs: int) -> None:
    """Ask about one pair after the other, as a test with @given does."""
    from hypothesis import given, settings

    @settings(max_examples=pairs, deadline=None, database=None)
    @given(counterfactual_pairs(models.schema, swap="sex"))
    def alike(pair: tuple[dict[str, object], dict[str, object]]) -> None:
        assert not models.ask(pair).tipped()[0]

    alike()


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time that ``work`` takes, which other processes on the machine disturb least."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compare(width: int) -> dict[str, float]:
    """Return the median times and ratios for networks of one width."""
    torch.manual_seed(0)
    schema = Schema.of(applicants(2 * CANDIDATES, seed=0), label="hired", id="applicant", transform=encode)
    models = open_both(network(width), network(width), schema)
    turns = []
    for turn in range(TURNS + 1):
        found = seconds(lambda: _nothing_found(models))
        rows, twice = seconds(lambda: predict(models, CANDIDATES)), seconds(lambda: predict(models, 2 * CANDIDATES))
        each = seconds(lambda: one_by_one(models, ONE_BY_ONE)) / ONE_BY_ONE * CANDIDATES if turn < 2 else float("nan")
        if turn:  # the first turn warms up
            turns.append((found, rows, twice, found / rows, found / twice, each / found))
    hunted, rows, twice, to_rows, to_twice, to_each = np.nanmedian(turns, axis=0)
    return {
        "width": width,
        "hunt_ms": round(hunted * 1e3, 1),
        "predict_10000_rows_ms": round(rows * 1e3, 1),
        "predict_20000_rows_ms": round(twice * 1e3, 1),
        "hunt_to_10000_rows": round(to_rows, 2),
        "hunt_to_20000_rows": round(to_twice, 2),
        "one_pair_at_a_time_to_hunt": round(to_each, 1),
    }


def _nothing_found(models: BothModels) -> None:
    found = hunt(models, "sex", max_examples=CANDIDATES)
    assert found.candidates == CANDIDATES


def main() -> None:
    """Print a table and keep the numbers."""
    torch.set_num_threads(1)
    results = [compare(width) for width in (32, 256)]
    for result in results:
        print("   ".join(f"{name} {value:.4g}" for name, value in result.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"candidates": CANDIDATES, "turns": TURNS, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
