"""From the cells' numbers to benchmarks/paper_table.md and its plots."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper_table.ablations import ABLATIONS
from benchmarks.paper_table.cells import PROBLEMS
from fairguard.files import replacing, write_text

HERE = Path(__file__).parent.parent
RESULTS = HERE / "results" / "paper_table"
OURS = "ballot"
AGAIN = "default-again"
PUBLISHED = {"magnitude": 0.38, "lth": 0.3391, "safecompress": 0.1796, "fairscratch": 0.3582}
"""Improvements of Ballot that its paper claims (Gao et al., ISSTA 2024, abstract)."""
COMPARED = ("0.9", "0.95")
"""Sparsities at which the published gains are to be doubled."""
REPLICATES = 2_000
SEEDS = 3

Cells = dict[tuple[str, str, str, int], dict[str, Any]]
"""Results by problem, sparsity, method and seed."""


def read() -> Cells:
    found: Cells = {}
    for problem in PROBLEMS:
        file = RESULTS / f"{problem.replace('/', '-')}.json"
        for key, cell in json.loads(file.read_text())["cells"].items() if file.exists() else ():
            sparsity, method, seed = key.split()
            found[problem, sparsity, method, int(seed)] = cell
    return found


def write_report() -> None:
    cells = read()
    parts = [(HERE / "paper_table" / "head.md").read_text().rstrip(), "", "## How far ahead", ""]
    parts += [*improvements(cells), "", *by_problem(cells), "", again(cells), "", "## At each sparsity", ""]
    parts += [*by_sparsity(cells), "", "## Every cell", ""]
    for problem, sparsity in sorted({k[:2] for k in cells}, key=lambda k: (list(PROBLEMS).index(k[0]), k[1])):
        parts += [*table(cells, problem, sparsity), ""]
    parts += ["## What each part of ballot is worth", "", *ablations(cells), "", "## Not run", "", missing(cells)]
    write_text(HERE / "paper_table.md", "\n".join(parts) + "\n")
    draw(cells)


def classwise(cell: dict[str, Any]) -> bool:
    return "shifted" in cell


def table(cells: Cells, problem: str, sparsity: str) -> Iterator[str]:
    """Yield a table of all methods, mean and standard deviation over the seeds."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for (p, s, method, _), cell in cells.items():
        if (p, s) == (problem, sparsity) and method not in ABLATIONS:
            rows.setdefault(method, []).append(cell)
    one = next(iter(rows.values()))[0]
    dense = np.mean([c["dense"] for found in rows.values() for c in found])
    yield f"### {problem}, {float(sparsity):.0%} sparse; dense accuracy {dense:.1%}, budget {one['budget']} epochs"
    yield ""
    last = "accuracy / CWV / MCD with shifted biases" if classwise(one) else "DP difference | EO difference"
    yield (
        "| method | seeds | accuracy | CWV x 1e4 | MCD | worst group | max excess drop | harmful flips "
        f"| {last} | epochs | seconds |"
    )
    yield "|---" * (11 if classwise(one) else 12) + "|"
    for method, found in sorted(rows.items(), key=lambda row: row[0] != OURS):
        shown = [percent(found, name) for name in ("mcd", "worst", "excess", "harmful")]
        if classwise(one):
            after = [c["shifted"] for c in found]
            tail = f"{percent(after, 'accuracy')} / {spread(after, 'cwv', 1e4)} / {percent(after, 'mcd')}"
        else:
            tail = f"{percent(found, 'dp')} | {percent(found, 'eo')}"
        yield (
            f"| {method} | {len(found)} | {percent(found, 'accuracy')} | {spread(found, 'cwv', 1e4)} "
            f"| {' | '.join(shown)} | {tail} | {mean(found, 'epochs'):.1f} | {mean(found, 'seconds'):.0f} |"
        )


def improvements(cells: Cells) -> Iterator[str]:
    """Yield what ``ballot`` improves over each baseline, over the cells that both have."""
    rows = {m for (_, s, m, _) in cells if s in COMPARED and m != OURS and m not in ABLATIONS}
    yield (
        "| over | cells | CWV and MCD [95 %] | accuracy, points | over it with shifted biases [95 %] "
        "| accuracy, points | both with shifted biases [95 %] | accuracy, points "
        "| max excess drop on protected attributes, theirs -> ours, points | the paper |"
    )
    yield "|---" * 10 + "|"
    for method in sorted(rows, key=lambda m: (m not in PUBLISHED, m)):
        pairs = [
            (ours, cells[p, s, method, seed])
            for (p, s, m, seed), ours in cells.items()
            if m == OURS and s in COMPARED and (p, s, method, seed) in cells
        ]
        yield against(method, pairs)


def by_problem(cells: Cells) -> Iterator[str]:
    """Yield the same for each data set with classes as groups, over the published baselines."""
    yield f"| data, network | {' | '.join(f'over {name} · accuracy, points' for name in PUBLISHED)} |"
    yield "|---" * (1 + len(PUBLISHED)) + "|"
    for problem in PROBLEMS:
        found = []
        for method in PUBLISHED:
            pairs = [
                (ours, cells[p, s, method, seed])
                for (p, s, m, seed), ours in cells.items()
                if (p, m) == (problem, OURS) and s in COMPARED and (p, s, method, seed) in cells and classwise(ours)
            ]
            found.append(f"{gain(pairs)} · {points(pairs)}")
        if any(text != "- · -" for text in found):
            yield f"| {problem} | {' | '.join(found)} |"


def by_sparsity(cells: Cells) -> Iterator[str]:
    """Yield the same for each data set and sparsity, over all that learn a mask or train long."""
    names = [*PUBLISHED, "bilevel", "lth-3x"]
    yield f"| data, network, sparsity | {' | '.join(f'over {name} · accuracy, points' for name in names)} |"
    yield "|---" * (1 + len(names)) + "|"
    for problem, sparsity in sorted({k[:2] for k in cells}, key=lambda k: (list(PROBLEMS).index(k[0]), k[1])):
        found = []
        for method in names:
            pairs = paired(cells, OURS, method, where=(problem, sparsity))
            found.append(f"{gain(pairs)} · {points(pairs)}" if pairs else "-")
        if set(found) != {"-"}:
            yield f"| {problem}, {float(sparsity):.0%} | {' | '.join(found)} |"


def paired(cells: Cells, ours: str, theirs: str, *, where: tuple[str, str]) -> list[tuple[Any, Any]]:
    """Return the cells of two methods that differ in nothing else, where groups are classes."""
    seeds = sorted({seed for *_, seed in cells})
    both = [(cells.get((*where, ours, seed)), cells.get((*where, theirs, seed))) for seed in seeds]
    return [(a, b) for a, b in both if a and b and classwise(a)]


def again(cells: Cells) -> str:
    """Return a sentence on the same means with the default trained again in its place, where it was."""
    found = []
    for method in PUBLISHED:
        pairs = []
        for where in sorted({k[:2] for k in cells if k[1] in COMPARED}):
            pairs += paired(cells, AGAIN, method, where=where) or paired(cells, OURS, method, where=where)
        found.append(f"{method} {gain(pairs)}")
    return f"With `{AGAIN}` in the default's place where there is one: over {', '.join(found)}."


def against(method: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    classes = [(a, b) for a, b in pairs if classwise(a)]
    shifted = [(a, b["shifted"]) for a, b in classes]
    both = [(a["shifted"], b["shifted"]) for a, b in classes]
    protected = [(a["excess"], b["excess"]) for a, b in pairs if not classwise(a)]
    ours, theirs = (100 * np.mean(side) for side in zip(*protected, strict=True)) if protected else (np.nan, np.nan)
    excess = f"{theirs:+.1f} -> {ours:+.1f}" if protected else "-"
    paper = f"{PUBLISHED[method]:.1%}" if method in PUBLISHED else "-"
    gains = " | ".join(f"{gain(pairs)} | {points(pairs)}" for pairs in (classes, shifted, both))
    return f"| {method} | {len(classes)} | {gains} | {excess} | {paper} |"


def gain(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    """Return the mean of the relative reductions of CWV and MCD, with a bootstrap interval over the cells."""
    if not pairs:
        return "-"
    each = np.array([np.mean([1 - a[name] / b[name] for name in ("cwv", "mcd")]) for a, b in pairs])
    low, high = interval(each)
    return f"{each.mean():.1%} [{low:.1%}, {high:.1%}]"


def points(pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> str:
    return f"{100 * np.mean([a['accuracy'] - b['accuracy'] for a, b in pairs]):+.1f}" if pairs else "-"


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (REPLICATES, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def ablations(cells: Cells) -> Iterator[str]:
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for (p, s, method, seed), cell in cells.items():
        if method in ABLATIONS or (method == OURS and any((p, s, a, seed) in cells for a in ABLATIONS)):
            found.setdefault((p, s, method), []).append(cell)
    if not found:
        yield "Not run yet."
        return
    yield "| data, network, sparsity | ballot | seeds | accuracy | CWV x 1e4 | MCD | max excess drop | harmful flips |"
    yield "|---" * 8 + "|"
    for (p, s, method), rows in sorted(found.items(), key=lambda r: (r[0][0], r[0][1], r[0][2] != OURS, r[0][2])):
        shown = " | ".join(percent(rows, name) for name in ("mcd", "excess", "harmful"))
        name = "as it is" if method == OURS else method.replace("-", " ")
        yield (
            f"| {p}, {float(s):.0%} | {name} | {len(rows)} | {percent(rows, 'accuracy')} "
            f"| {spread(rows, 'cwv', 1e4)} | {shown} |"
        )


def missing(cells: Cells) -> str:
    have = {(p, s) for p, s, _, _ in cells}
    lacking = [f"{p} at {float(s):.0%}" for p in PROBLEMS for s in ("0.8", "0.9", "0.95", "0.98") if (p, s) not in have]
    seeds = sorted(Counter((p, s, m) for p, s, m, _ in cells).items())
    lacking += [f"{p} at {float(s):.0%}, {m}: {SEEDS - n} more seeds" for (p, s, m), n in seeds if n < SEEDS]
    return "; ".join(lacking) + "." if lacking else "Everything has been run."


def mean(found: Iterable[dict[str, Any]], name: str) -> float:
    return float(np.mean([cell[name] for cell in found]))


def spread(found: Sequence[dict[str, Any]], name: str, scale: float) -> str:
    values = np.array([cell[name] for cell in found]) * scale
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values[0]:.1f}"


def percent(found: Sequence[dict[str, Any]], name: str) -> str:
    return spread(found, name, 100) + " %"


def draw(cells: Cells) -> None:
    """Draw accuracy against CWV, one point a method, plain and with shifted biases."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "fairguard"
    from matplotlib import pyplot

    places = sorted({(p, s) for (p, s, _, _), cell in cells.items() if classwise(cell) and s in COMPARED})
    if not places:
        return
    figure, axes = pyplot.subplots(
        2, (len(places) + 1) // 2, figsize=(4.2 * ((len(places) + 1) // 2), 8), squeeze=False
    )
    for axis, (problem, sparsity) in zip(axes.flat, places, strict=False):
        for method in sorted({m for p, s, m, _ in cells if (p, s) == (problem, sparsity) and m not in ABLATIONS}):
            found = [c for (p, s, m, _), c in cells.items() if (p, s, m) == (problem, sparsity, method)]
            colour = "tab:red" if method == OURS else "tab:blue"
            after = [c["shifted"] for c in found]
            ends = [(mean(rows, "accuracy"), mean(rows, "cwv") * 1e4) for rows in (found, after)]
            axis.plot(*zip(*ends, strict=True), "-", color=colour, alpha=0.3)
            axis.plot(*ends[0], "o", color=colour)
            axis.plot(*ends[1], "x", color=colour)
            axis.annotate(method, ends[0], fontsize=7, xytext=(3, 3), textcoords="offset points")
        axis.set(title=f"{problem}, {float(sparsity):.0%}", xlabel="accuracy", ylabel="CWV x 1e4", yscale="log")
    figure.suptitle("Lower and further right is better. Points: as trained; crosses: with shifted biases")
    figure.tight_layout()
    with replacing(HERE / "results" / "paper_table.svg") as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)
