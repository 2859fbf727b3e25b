"""Results as a page and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Row = dict[str, Any]

TITLES = {
    "null": "False alarms where every group loses alike",
    "boundary": "False all-clears where one group's excess is exactly the margin",
    "rare flips": "False all-clears where few flips are expected, enumerated: the worst of many numbers of rows",
    "cleared": "The all-clear without excess, enumerated, with the rows that a plan asks for (80 % wanted)",
    "harm": "Power: one group loses more",
    "outcomes": "The three answers under a margin of two points (5 groups, one harmed)",
    "looks": "Several looks at growing data (5 groups, 2,000 rows each at the end)",
    "clusters": "Several rows of one person, and weights",
    "uneven clusters": "Clusters larger or more alike in one group than in the other (persons x rows, likeness)",
    "clustered looks": "Several looks at growing numbers of persons (4 rows each, half of them alike)",
    "slices": "Slices nobody named (10,000 rows, 5 columns)",
    "real": "Real predictions, group labels dealt anew",
}


UNEVEN = 0.08
"""Error that few tables of a world cannot tell from the promised one."""

METHOD = """Rates are shares of data sets; each row says of how many (`tables`), permutation and bootstrap of fewer. The
shipped rule is the shipped code, with 1,999 relabellings. A world without harm that gave more than 4.5 % in its first
2,000 data sets was tried afresh on 6,000, and where those gave more than 5.5 %, on 30,000 more; power more than 1.5
points below the design's figure was measured afresh on 10,000; a plan of looks at persons that gave more than 5.5 % in
its first 600, afresh on 1,000. First looks are in
[calibration.json](results/calibration.json) as `looked`."""


def summary(results: dict[str, list[Row]]) -> list[str]:
    """Return the headline numbers, one line each."""
    lines = []
    if null := results.get("null"):
        worst = max(null, key=lambda row: row["shipped"])
        alone = max(row["score limits alone"] for row in null)
        permutation = max(row["permutation alone"] for row in null)
        over = sum(row["shipped"] > 0.055 for row in null)
        lines.append(
            f"False alarms (promised 5 %): at most {worst['shipped']:.1%} +- {error(worst, 0.05):.1%} in {len(null)} "
            f"worlds without harm, {over} above 5.5 %; score limits alone up to {alone:.1%}, permutation alone up to "
            f"{permutation:.1%}."
        )
        for name in ("gap grew > 2pt", "EAG > 2pt", "Welch per group", "McNemar Holm", "bootstrap"):
            rates = sorted(row[name] for row in null if name in row)
            lines.append(f"{name}: {rates[len(rates) // 2]:.0%} in the median world, up to {rates[-1]:.0%}.")
    if boundary := results.get("boundary"):
        worst = max(boundary, key=lambda row: row["false preserved"])
        rate = worst["false preserved"]
        wrong = max(row["regressed"] for row in boundary)
        lines.append(f"False all-clear at the boundary: at most {rate:.1%} +- {error(worst, 0.05):.1%}.")
        lines.append(
            f"A true excess as large as the margin is called regressed in up to {wrong:.0%}: what is proven is that "
            "there is an excess; that it is over the margin is an estimate (--strict asks for proof of that too)."
        )
    if rare := results.get("rare flips"):
        old, new = (max(row[limit] for row in rare if row["alpha"] == 0.05) for limit in ("score limit", "shipped"))
        close = max(row["shipped"] / row["alpha"] for row in rare)
        lines.append(
            f"The same where few flips are expected, enumerated without chance: at most {new:.1%} (the score limit "
            f"{old:.1%}); at promises of 1 to 20 % at most {close:.1%} of what is promised."
        )
    if cleared := results.get("cleared"):
        lost = max(cleared, key=lambda row: (row["alpha"] == 0.05) * (row["score limit"] - row["shipped"]))
        lines.append(
            f"What that costs at 5 %: {100 * (lost['score limit'] - lost['shipped']):.1f} points of the chance of an "
            f"all-clear where nothing is wrong, at most; plans count it in."
        )
    if harm := results.get("harm"):
        lost = min(row["score limits alone"] - row["design"] for row in harm)
        cost = max(row["score limits alone"] - row["shipped"] for row in harm)
        shipped = min(row["shipped"] - row["design"] for row in harm)
        lines.append(
            f"Power: {100 * lost:+.1f} points against the design at worst by score limits alone; the second witness "
            f"costs {cost:.1%} more at worst, and the shipped rule lies {100 * shipped:+.1f} points from the "
            "design at worst."
        )
    if clusters := results.get("clusters"):
        alarms, clear = (
            max(clusters, key=lambda row: row[f"{name}, shipped"]) for name in ("alarms", "false preserved")
        )
        lines.append(
            f"Several rows of one person: false alarms at most {alarms['alarms, shipped']:.1%} +- "
            f"{error(alarms, 0.05):.1%}, false all-clears at most {clear['false preserved, shipped']:.1%} +- "
            f"{error(clear, 0.05):.1%}, in few tables each."
        )
    if uneven := results.get("uneven clusters"):
        rates = [max(row["alarms, shipped"], row["false preserved, shipped"]) for row in uneven]
        above = [row for row, rate in zip(uneven, rates, strict=True) if rate > UNEVEN]
        where = "; ".join(dict.fromkeys(row["clusters of the group"] for row in above))
        lines.append(
            f"One group's clusters larger or more alike than the others': both errors at most {UNEVEN:.0%} in "
            f"{len(uneven) - len(above)} of {len(uneven)} worlds, up to {max(rates):.1%} +- "
            f"{error(uneven[0], 0.05):.1%} in the others ({where or 'none'})."
        )
    if looked := results.get("clustered looks"):
        worst = max(looked, key=lambda row: row["shipped, null"])
        lines.append(
            f"Several looks at growing numbers of persons: at most {worst['shipped, null']:.1%} +- "
            f"{error(worst, 0.05):.1%} false alarms over all looks of a plan."
        )
    return lines


def error(row: Row, rate: float) -> float:
    """Return the Monte-Carlo standard error of a rate in a row's tables."""
    return float((rate * (1 - rate) / row["tables"]) ** 0.5)


def page(results: dict[str, list[Row]], *, command: str, seed: int, machine: str) -> str:
    """Return the results as Markdown."""
    parts = ["# Calibration of the judge", f"`{command}`, seed {seed}, on {machine}."]
    parts.append(METHOD)
    parts.append("\n".join(f"- {line}" for line in summary(results)))
    parts.append("![False alarms by rule](results/calibration.svg)")
    for name, rows in results.items():
        if rows:
            parts.append(f"## {TITLES[name]}\n\n{_table(rows)}")
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row if name != "looked"))
    lines = [" | ".join(names), " | ".join("---" for _ in names)]
    lines += [" | ".join(_cell(row.get(name)) for name in names) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def plot(rows: list[Row], path: Path) -> None:
    """Draw the false-alarm rate of every rule in every world without harm."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "calibration", "font.size": 9}
    rules = ["shipped", "score limits alone", "permutation alone", "bootstrap", "Welch per group", "McNemar Holm"]
    rules += ["gap grew > 2pt", "EAG > 2pt", "EAG > 5pt"]
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    for place, rule in enumerate(rules):
        rates = sorted(row[rule] for row in rows if rule in row)
        spread = [place + 0.7 * ((k + 0.5) / len(rates) - 0.5) for k in range(len(rates))]
        axes.plot(spread, rates, ".", markersize=4, color="C0" if rule == "shipped" else "0.5")
    axes.axhline(0.05, color="C3", linewidth=1)
    axes.set_xticks(range(len(rules)), rules, rotation=25, ha="right")
    axes.set_ylabel("false-alarm rate (5 % promised)")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_yticks([0, 0.05, 0.1, 0.2, 0.5, 1], ["0", "5 %", "10 %", "20 %", "50 %", "100 %"])
    axes.set_title("A dot is a world in which pruning harms every group alike", fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
