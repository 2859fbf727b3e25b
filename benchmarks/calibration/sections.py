"""The measurements: each yields rows of one table, as plain values. Sizes scale with one number, ``effort``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.calibration.cells import boundary_worlds, harm_worlds, margin_worlds, null_worlds
from benchmarks.calibration.rules import bootstrapped, judged, naive, permuted
from benchmarks.calibration.worlds import World, partition

Row = dict[str, Any]

FIRST, SECOND, THIRD = 2_000, 6_000, 30_000
"""Samples of a null world at first; afresh where the first ones gave more than ``CLOSE``; added where those still gave
more than ``ALLOWED``. The worst of many worlds is otherwise the unluckiest one."""
CLOSE, ALLOWED = 0.045, 0.055
SHORT = 0.015
"""Power below the design's figure by more than this is measured afresh on a third of ``THIRD``."""
WIDE = 100
"""Contrasts from which a world gets half the samples."""


def null(effort: float, seed: int) -> Iterator[Row]:
    """Yield the false-alarm rate of every rule in worlds without harm."""
    worlds = null_worlds()
    for world in worlds if effort >= 1 else worlds[::4]:
        yield null_row(world, effort, seed)


def null_row(world: World, effort: float, seed: int) -> Row:
    """Return the false-alarm rates in one world without harm."""
    rng = np.random.default_rng([seed, 10])
    drawer = world.template()
    samples = world.samples(rng, _many(FIRST / (1 + (len(drawer.family) > WIDE)), effort))
    said = judged(world, drawer, samples)
    looked = [float(said["both"].mean())]
    if looked[0] > CLOSE:
        said = judged(world, drawer, world.samples(rng, _many(SECOND, effort)))
        looked.append(float(said["both"].mean()))
        if looked[1] > ALLOWED:
            more = judged(world, drawer, world.samples(np.random.default_rng([seed, 11]), _many(THIRD, effort)))
            said = {name: np.concatenate([said[name], more[name]]) for name in said}
    few = samples[: _many(150 if len(drawer.family) <= WIDE else 50, effort)]
    row = _where(world, len(drawer.family)) | {"tables": len(said["both"]), "looked": looked}
    row |= {"shipped": said["both"].mean(), "score limits alone": said["mover"].mean()}
    row["permutation alone"] = permuted(world, few).mean()
    if len(drawer.family.estimands) == 1:
        row |= {name: fails.mean() for name, fails in naive(drawer, samples).items()}
        if len(drawer.family) <= 20:
            row["bootstrap"] = bootstrapped(drawer, samples[: _many(200, effort)], rng=rng).mean()
    return row


def boundary(effort: float, seed: int) -> Iterator[Row]:
    """Yield how often the all-clear is given where one group's excess is exactly the margin."""
    for world in boundary_worlds():
        rng = np.random.default_rng([seed, 20])
        drawer = world.template()
        samples = world.samples(rng, _many(FIRST, effort))
        said = judged(world, drawer, samples)
        row = _where(world, len(drawer.family)) | {"margin": world.policy.margin, "tables": len(samples)}
        row |= {"churn": float(world.harmed[0, 0] + world.helped[0, 0]), "false preserved": said["preserved"].mean()}
        yield row | {"regressed": said["found"].mean()}


def harm(effort: float, seed: int) -> Iterator[Row]:
    """Yield the chance of finding one harmed group, beside the design's figure and rules in use elsewhere."""
    for world, designed in harm_worlds():
        rng = np.random.default_rng([seed, 30])
        drawer = world.template()
        samples = world.samples(rng, _many(FIRST / (2 + 2 * (len(drawer.family) > WIDE)), effort))
        said = judged(world, drawer, samples)
        looked = float(said["mover"].mean())
        if effort >= 1 and looked < designed - SHORT:
            said = judged(world, drawer, world.samples(np.random.default_rng([seed, 31]), THIRD // 3))
        row = _where(world, len(drawer.family)) | {"tables": len(said["both"]), "looked": [looked], "design": designed}
        row |= {"score limits alone": said["mover"].mean(), "shipped": said["found"].mean()}
        row |= {"another group": said["other"].mean()}
        yield row | {name: fails.mean() for name, fails in naive(drawer, samples).items()}


def outcomes(effort: float, seed: int) -> Iterator[Row]:
    """Yield how often each of the three answers comes under a margin of two points."""
    for world in margin_worlds():
        rng = np.random.default_rng([seed, 40])
        drawer = world.template()
        said = judged(world, drawer, world.samples(rng, _many(FIRST / 2, effort)))
        strict = partition(5, int(world.sizes[-1]), planted=_excess(world), margin=0.02, strict=True)
        proven = judged(strict, strict.template(), world.samples(rng, _many(FIRST / 2, effort)))
        row = _where(world, len(drawer.family)) | {"tables": len(said["both"]), "preserved": said["preserved"].mean()}
        row |= {"regressed": said["both"].mean(), "regressed, strict": proven["both"].mean()}
        yield row | {"inconclusive": 1.0 - row["preserved"] - row["regressed"]}


def looks(effort: float, seed: int) -> Iterator[Row]:
    """Yield the false-alarm rate over several looks at growing data, 5 groups of 2,000 rows at the end."""
    for planned in (1, 5, 10):
        rng = np.random.default_rng([seed, 50])
        tables, rows = _many(FIRST / 2, effort), 2000 // planned
        row: Row = {"looks": planned, "tables": tables}
        for planted in (0.0, 0.03):
            increments = np.stack([partition(5, rows, planted=planted).samples(rng, tables) for _ in range(planned)])
            growing = increments.cumsum(axis=0)
            for name, spend in (("spent", True), ("each at 5 %", False)):
                alarm = np.zeros(tables, dtype=bool)
                for look in range(planned):
                    plan = {"looks": planned, "look": look + 1} if spend else {}
                    world = partition(5, rows * (look + 1), planted=planted, **plan)
                    quiet = np.flatnonzero(~alarm)
                    alarm[quiet] = judged(world, world.template(), growing[look][quiet])["both"] > 0
                row[f"{name}, {'+3pt' if planted else 'null'}"] = alarm.mean()
        yield row


def _excess(world: World) -> float:
    return float(world.harmed[-1, 0] - world.harmed[0, 0])


def _where(world: World, contrasts: int) -> Row:
    return {
        "world": world.name,
        "groups": len(world.sizes) if world.codes.shape[1] == 1 else contrasts,
        "rows": int(world.sizes[-1]) if world.codes.shape[1] == 1 else int(world.sizes.sum()),
    }


def _many(tables: float, effort: float) -> int:
    return max(10, round(tables * effort))
