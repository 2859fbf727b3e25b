"""Clusters that are larger or more alike in one group than in the other, where a design effect is hardest to know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration.dependent import clustered
from benchmarks.calibration.sections import Row, _many
from fairguard.dtypes import IntArray
from fairguard.judge.contrasts import family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.evidence import evidence_of
from fairguard.judge.scatter import CLUSTER, WEIGHT
from fairguard.policy import Policy

TABLES = 300
"""Data sets of each world and error."""
HELPED = 0.01
"""Share of rows that pruning gets right and dense does not."""
MARGIN, LOW = 0.05, 0.01
"""The excess at which ``preserved`` is false by a hair, and the others' loss there."""


@dataclass(frozen=True)
class Side:
    """Persons of one group.

    Attributes:
        persons: how many.
        rows: of each.
        alike: intraclass correlation of what happens to a person's rows.
        giant: rows of one more person.
        fates: a share ``sqrt(alike)`` of a person's rows has one fate, and the others one each; else persons differ
            in how often their rows are harmed (beta-binomial).
    """

    persons: int
    rows: int = 1
    alike: float = 0.0
    giant: int = 0
    fates: bool = False

    def drawn(self, rng: np.random.Generator, harm: float, helped: float) -> tuple[IntArray, IntArray]:
        """Return each row's person, and what happened to it: 1 harmed, -1 helped."""
        person = np.repeat(np.arange(self.persons + (self.giant > 0)), self._sizes())
        chance = self._chances(rng, harm)[person]
        fate, u = rng.random(person[-1] + 1)[person], rng.random(len(person))
        if self.fates:
            u = np.where(rng.random(len(person)) < np.sqrt(self.alike), fate, u)
        return person, np.where(u < chance, 1, np.where(u > 1.0 - helped, -1, 0))

    def _sizes(self) -> list[int]:
        return [self.rows] * self.persons + [self.giant] * (self.giant > 0)

    def _chances(self, rng: np.random.Generator, harm: float) -> NDArray[np.float64]:
        count = len(self._sizes())
        if self.fates or self.alike == 0.0 or harm == 0.0:
            return np.full(count, harm)
        if self.alike == 1.0:
            return (rng.random(count) < harm).astype(float)
        spread = 1.0 / self.alike - 1.0
        return rng.beta(harm * spread, (1.0 - harm) * spread, count)

    @property
    def words(self) -> str:
        """Return the side in words."""
        giant = f" + one of {self.giant}" if self.giant else ""
        return f"{self.persons} x {self.rows}{giant}, alike {self.alike:g}"


ONE, FOURS = Side(1_000), Side(500, 4)
WORLDS: list[tuple[str, Side, Side, float]] = [
    ("as large, as alike", Side(200, 4, 0.3), Side(200, 4, 0.3), 0.0),
    ("larger, as alike", Side(200, 4, 0.3), Side(40, 20, 0.3), 0.0),
    ("larger, more alike", Side(200, 4, 0.2), Side(40, 20, 0.6), 0.0),
    ("larger, less alike", Side(200, 4, 0.6), Side(40, 20, 0.2), 0.0),
    ("larger, all alike", ONE, Side(30, 100, 1.0), 0.0),
    ("larger, all alike", ONE, Side(15, 40, 1.0), 0.0),
    ("larger, all alike", ONE, Side(60, 40, 1.0), 0.0),
    ("all alike, others not", FOURS, Side(30, 20, 1.0), 0.0),
    ("all alike, others not", FOURS, Side(60, 40, 1.0), 0.0),
    ("few, more alike", Side(300, 8, 0.1), Side(30, 8, 0.6), 0.0),
    ("not alike, others all", Side(500, 4, 1.0), Side(30, 20, 0.0), 0.0),
    ("larger, a little alike", ONE, Side(30, 100, 0.1), 0.0),
    ("larger, rather alike", ONE, Side(30, 100, 0.25), 0.0),
    ("one giant", Side(200, 4, 0.3), Side(100, 4, 0.3, giant=400), 0.0),
    ("single rows", ONE, Side(500), 0.0),
    ("with weights", Side(200, 4, 0.3), Side(40, 20, 0.3), 0.7),
    ("rare fates among noise", ONE, Side(60, 40, 0.25, fates=True), 0.0),
    ("rare fates among noise", ONE, Side(30, 100, 0.25, fates=True), 0.0),
]


def uneven(effort: float, seed: int) -> Iterator[Row]:
    """Yield false alarms and false all-clears where a group of few persons stands beside another kind of persons."""
    for world in WORLDS if effort >= 1 else WORLDS[::4]:
        yield _row(*world, effort, seed)


def _row(name: str, others: Side, group: Side, spread: float, effort: float, seed: int) -> Row:
    rng = np.random.default_rng([seed, 61])
    null = Policy.of(metrics="accuracy", intersections=1, margin=1e-9, permutations=999)
    wide = null.model_copy(update={"margin": MARGIN})
    tables, said = _many(TABLES, effort), np.zeros(4)
    for _ in range(tables):
        plain, whole = _tables(rng, (others, group), (0.05, 0.05), spread)
        said[0] += evidence_of(family_of(plain, null), null).regressed.any()
        said[1] += clustered(whole, null).regressed.any()
        plain, whole = _tables(rng, (others, group), (LOW, LOW + MARGIN), spread)
        said[2] += evidence_of(family_of(plain, wide), wide).upper[-1] < MARGIN
        said[3] += clustered(whole, wide).upper[-1] < MARGIN
    where = {"clusters of the group": name, "others": others.words, "group": group.words, "weights": spread}
    names = ("alarms, rows alone", "alarms, shipped", "false preserved, rows alone", "false preserved, shipped")
    return where | {"tables": tables} | dict(zip(names, said / tables, strict=True))


def _tables(
    rng: np.random.Generator, sides: tuple[Side, Side], harm: tuple[float, float], spread: float
) -> tuple[CountTable, CountTable]:
    """Return the rows of both sides without and with what they belong to and weigh."""
    drawn = [side.drawn(rng, share, HELPED) for side, share in zip(sides, harm, strict=True)]
    person = np.concatenate([drawn[0][0], drawn[1][0] + drawn[0][0][-1] + 1])
    effect, group = np.concatenate([each[1] for each in drawn]), np.repeat([0, 1], [len(each[0]) for each in drawn])
    answers = {"y": np.ones(len(group), int), "dense": 1 - (effect < 0), "pruned": 1 - (effect > 0)}
    names, levels, codes = ["g", CLUSTER], [["A", "B"], [f"{k}" for k in range(person[-1] + 1)]], [group, person]
    if spread:
        weights, place = np.unique(np.round(np.exp(rng.normal(0, spread, len(group))), 2), return_inverse=True)
        names, levels, codes = [*names, WEIGHT], [*levels, [f"{w}" for w in weights]], [*codes, place]
    plain = CountTable.of(["g"], levels[:1], ("0", "1"), codes=group[:, None], **answers)
    return plain, CountTable.of(names, levels, ("0", "1"), codes=np.column_stack(codes), **answers)
