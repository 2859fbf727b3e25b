"""The worlds that the judge is tried in.

Null: every group loses alike. Boundary: one group's excess is the margin itself. Harm: one group loses more, and has to
be found.
"""

from __future__ import annotations

from benchmarks.calibration.worlds import World, crossed, partition

LOW, UNEVEN = (0.015, 0.005), {"churn": (0.03, 0.01), "other": (0.10, 0.08)}
SCENARIOS = {
    "null": {},
    "low churn": {"churn": LOW},
    "unequal churn": UNEVEN,
    "one group 20x larger": {"majority": 20.0},
    "20x larger, low churn": {"majority": 20.0, "churn": LOW},
    "20x larger, unequal churn": {"majority": 20.0} | UNEVEN,
}
SIZES = [
    (2, 50), (2, 200), (2, 1000), (2, 20_000), (5, 100), (5, 500), (5, 5000), (20, 50), (20, 200), (20, 1000),
    (20, 5000), (50, 200), (50, 500), (200, 50), (200, 200), (200, 1000),
]  # fmt: skip
THREE = ("accuracy", "recall", "fpr")


def null_worlds() -> list[World]:
    """Return worlds in which ``regressed`` is a false alarm."""
    single = [
        partition(groups, rows, name=name, **how)  # type: ignore[arg-type]
        for name, how in SCENARIOS.items()
        for groups, rows in SIZES
    ]
    metrics = [
        partition(groups, rows, name=f"{name}, 3 metrics", metrics=THREE, **how)  # type: ignore[arg-type]
        for name, how in SCENARIOS.items()
        for groups, rows in ((2, 500), (5, 200), (5, 2000), (20, 500))
    ]
    overlapping = [
        crossed(rows, name=f"{name}{', 3 metrics' if metrics == THREE else ''}", metrics=metrics, **how)
        for rows in (2000, 10_000, 50_000)
        for name, how in (
            ("intersections", {}),
            ("intersections, low churn", {"churn": LOW}),
            ("intersections, unequal churn", {"churn": (0.03, 0.01), "uneven": 0.07}),
        )
        for metrics in ("accuracy", THREE)
    ]
    return single + metrics + overlapping


def boundary_worlds() -> list[World]:
    """Return worlds in which ``preserved`` is false, by a hair: one group's excess equals the margin."""
    even = [
        partition(groups, rows, name="boundary", planted=margin, margin=margin, churn=churn)
        for churn in ((0.05, 0.03), LOW)
        for margin, sizes in ((0.02, (1000, 2000, 5000, 20_000)), (0.05, (500, 2000)))
        for rows in sizes
        for groups in (2, 5, 20)
    ]
    mixed = [
        partition(5, rows, name="boundary, unequal churn", planted=0.02, margin=0.02, **UNEVEN)  # type: ignore[arg-type]
        for rows in (2000, 5000)
    ]
    crossing = [
        crossed(rows, name="boundary, intersections", planted=((0, 0), (1, 1)), excess=0.02, margin=0.02)
        for rows in (50_000, 200_000)
    ]
    return even + mixed + crossing


def harm_worlds() -> list[tuple[World, float]]:
    """Return worlds with one harmed group, and the power that the design measured for the score limits alone there."""
    table = [
        (0.02, 5, {500: 0.17, 1000: 0.33, 2000: 0.62, 5000: 0.96}),
        (0.03, 5, {500: 0.34, 1000: 0.64, 2000: 0.93}),
        (0.05, 2, {100: 0.16, 200: 0.32, 500: 0.69, 1000: 0.94}),
        (0.05, 5, {100: 0.15, 200: 0.33, 500: 0.75, 1000: 0.97}),
        (0.05, 20, {200: 0.22, 500: 0.67, 1000: 0.96}),
        (0.05, 200, {200: 0.09, 1000: 0.86}),
        (0.10, 2, {100: 0.49, 200: 0.79}),
        (0.10, 20, {100: 0.34, 200: 0.77}),
    ]
    even = [
        (partition(groups, rows, name=f"+{100 * excess:.0f}pt", planted=excess), power)
        for excess, groups, by_rows in table
        for rows, power in by_rows.items()
    ]
    low = [(partition(20, 1000, name="+2pt, low churn", planted=0.02, churn=LOW), 0.739)]
    return even + low


def margin_worlds() -> list[World]:
    """Return worlds under the default margin of two points: how often each of the three answers comes."""
    return [
        partition(5, rows, name=f"+{100 * excess:.0f}pt", planted=excess, margin=0.02)
        for rows, excesses in (
            (1000, (0.0, 0.05)),
            (2000, (0.0, 0.02, 0.05)),
            (5000, (0.0, 0.01, 0.02, 0.03, 0.05)),
            (20_000, (0.0, 0.03)),
        )
        for excess in excesses
    ]
