"""Tables of thousands of groups: a verdict's memory grows with what groups hold, not with groups times rows."""

import subprocess
import sys

import numpy as np

from fairguard import check_predictions

BIG = """
import resource
import numpy as np
from fairguard import check_predictions

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))  # groups x atoms alone: 4,100 x 118,000 x 8
rng = np.random.default_rng(0)
n = 120_000
y = rng.integers(0, 2, n)
dense = np.where(rng.random(n) < 0.9, y, 1 - y)
groups = {f"c{i}": rng.integers(0, 20, n) for i in range(5)}
harmed = (groups["c0"] == 3) & (rng.random(n) < 0.15)
verdict = check_predictions(y, dense, np.where(harmed, 1 - dense, dense), groups, metrics=["accuracy"])
print(len(verdict.findings), verdict.outcome, "c0=3" in {finding.group for finding in verdict.regressed})
"""


def test_thousands_of_groups_on_many_rows_fit_into_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BIG], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["4100", "regressed", "True"]


def test_many_groups_are_counted_as_few_are() -> None:
    rng = np.random.default_rng(1)
    n = 30_000
    y = rng.integers(0, 2, n)
    dense, pruned = (np.where(rng.random(n) < right, y, 1 - y) for right in (0.9, 0.87))
    groups = {name: rng.integers(0, levels, n) for name, levels in {"a": 40, "b": 40, "c": 30}.items()}
    found = check_predictions(y, dense, pruned, groups, metrics=["accuracy"]).findings
    assert len(found) > 2_500
    loss = (dense == y).astype(int) - (pruned == y).astype(int)
    for finding in found[:: len(found) // 50]:
        inside = np.ones(n, dtype=bool)
        for part in finding.group.split(" & "):
            column, value = part.split("=")
            inside &= groups[column] == int(value)
        assert finding.n == inside.sum()
        assert np.isclose(finding.estimate, loss[inside].mean() - loss[~inside].mean())
