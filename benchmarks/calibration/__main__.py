"""Measure how often the judge is wrong.

python -m benchmarks.calibration --quick        under a minute, prints only
python -m benchmarks.calibration --full         about half an hour on one core, writes results and page
python -m benchmarks.calibration --full --only looks clusters       these sections anew, the others as they are
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from benchmarks.calibration import dependent, exact, sections, uneven
from benchmarks.calibration.report import Row, page, plot, summary

HERE = Path(__file__).parents[1]
SECTIONS = {
    "null": sections.null,
    "boundary": sections.boundary,
    "rare flips": exact.rare_flips,
    "cleared": exact.cleared,
    "harm": sections.harm,
    "outcomes": sections.outcomes,
    "looks": sections.looks,
    "clusters": dependent.clusters,
    "uneven clusters": uneven.uneven,
    "clustered looks": dependent.looks,
    "slices": dependent.slices,
    "real": dependent.real,
}
QUICK = 0.01
"""Share of the full number of data sets that the quick mode draws."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.calibration", description=__doc__)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--quick", action="store_true", help="few data sets, nothing written")
    how.add_argument("--full", action="store_true", help="all data sets, results written")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--machine", default="unnamed machine", help="kind of machine, for the page")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), metavar="SECTION", help=", ".join(SECTIONS))
    asked = parser.parse_args()
    results: dict[str, list[Row]] = _known(asked.seed) if asked.only and asked.full else {}
    for name in asked.only or SECTIONS:
        start = time.perf_counter()
        results[name] = list(SECTIONS[name](QUICK if asked.quick else 1.0, asked.seed))
        print(f"{name}: {len(results[name])} rows, {time.perf_counter() - start:.0f} s", flush=True)
        if asked.full:
            _write(results, seed=asked.seed, machine=asked.machine)
    print("\n".join(summary(results)))


def _known(seed: int) -> dict[str, list[Row]]:
    """Return the sections measured before with this seed; each has random numbers of its own, so that they may stay."""
    known = json.loads((HERE / "results" / "calibration.json").read_text())
    if known["seed"] != seed:
        raise SystemExit(f"the sections on file have seed {known['seed']}: leave out --only, or give that seed.")
    sections: dict[str, list[Row]] = known["sections"]
    return sections


def _write(results: dict[str, list[Row]], *, seed: int, machine: str) -> None:
    command = f"python -m benchmarks.calibration --full --seed {seed}"
    rounded = {
        name: [{k: round(float(v), 5) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
        for name in SECTIONS
        if (rows := results.get(name))
    }
    known = {"command": command, "seed": seed, "machine": machine, "sections": rounded}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "calibration.json").write_text(json.dumps(known, indent=1) + "\n")
    (HERE / "calibration.md").write_text(page(rounded, command=command, seed=seed, machine=machine))
    plot(rounded["null"], HERE / "results" / "calibration.svg")


if __name__ == "__main__":
    main()
