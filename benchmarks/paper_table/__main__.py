"""Run the cells that are not done yet, one JSON file for each data set and network, then write the table.

    python -m benchmarks.paper_table                     everything, in hours; may be stopped and run again at any time
    python -m benchmarks.paper_table --quick             one seed at 90 % on digits and law_school, in minutes
    python -m benchmarks.paper_table --only cifar10/vgg --sparsity 0.9 --seeds 2
    python -m benchmarks.paper_table --ablations         what each part of ``ballot`` is worth
    python -m benchmarks.paper_table --table             only the table, from the results that there are

Two processes may work on different data sets at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.paper_table.ablations import ABLATIONS
from benchmarks.paper_table.cells import PROBLEMS, Cell, longer_lth, run
from benchmarks.paper_table.report import RESULTS, write_report
from fairguard.files import write_text
from fairguard.repair.methods import METHODS, method_named

SPARSITIES = (0.9, 0.95, 0.8, 0.98)
SEEDS = (0, 1, 2)
RATES = (2e-3, 6e-3)
"""The trials that every method gets: learning rates, chosen on the tune rows of the first seed and sparsity."""
LEFT_OUT = {"keep-mask", "mask-only", "bias-shift"}
"""Ways of repair that make no sparse model of their own; shifted biases are a column of every row."""
UNTRAINED = {"chita"}
NAMES = tuple(name for name in METHODS if name not in LEFT_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=PROBLEMS, action="append")
    parser.add_argument("--method", choices=[*NAMES, "lth-3x", *ABLATIONS], action="append")
    parser.add_argument("--sparsity", type=float, action="append")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--ablations", action="store_true")
    parser.add_argument("--table", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if asked.quick:
        problems, sparsities, seeds = ["mnist/mlp", "law_school/mlp"], SPARSITIES[:1], SEEDS[:1]
    else:
        problems, sparsities, seeds = asked.only or list(PROBLEMS), asked.sparsity or SPARSITIES, SEEDS[: asked.seeds]
    if not asked.table:
        methods = asked.method or list(ABLATIONS if asked.ablations else NAMES)
        for sparsity, problem, seed, method in product(sparsities, problems, seeds, methods):
            finish(Cell(problem, sparsity, method, seed))
    write_report()


def finish(cell: Cell) -> None:
    """Run a cell unless its result is there."""
    done = stored(cell.problem)
    if cell.key in done["cells"]:
        return
    if cell.method in ABLATIONS:
        found = run(cell, ABLATIONS[cell.method], lr=done["rates"].get("ballot", RATES[0]))
    elif cell.method in UNTRAINED:
        found = run(cell, method_named(cell.method))
    elif cell.method in done["rates"]:
        found = run(cell, method_named(cell.method), lr=done["rates"][cell.method])
    elif cell.method == "lth-3x":
        found = run(cell, longer_lth, lr=done["rates"].get("lth", RATES[0]))
    else:
        trials = [run(cell, method_named(cell.method), lr=rate) for rate in RATES]
        found = max(trials, key=lambda trial: trial["tune_key"])
        done["rates"][cell.method] = found["lr"]
    done["cells"][cell.key] = found
    write_text(file_of(cell.problem), json.dumps(done, indent=1))
    print(cell.problem, cell.key, f"accuracy {found['accuracy']:.3f} cwv {found['cwv'] * 1e4:.1f}e-4", flush=True)


def stored(problem: str) -> dict[str, Any]:
    """Return the results of a data set and network: chosen rates and finished cells."""
    file = file_of(problem)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {"rates": {}, "cells": {}}
    return found


def file_of(problem: str) -> Path:
    RESULTS.mkdir(parents=True, exist_ok=True)
    return RESULTS / f"{problem.replace('/', '-')}.json"


if __name__ == "__main__":
    main()
