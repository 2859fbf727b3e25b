"""Worlds with a known truth, from which thousands of count tables are drawn at once.

A world is a few atoms (cells of the sensitive features), how many rows each has, and how likely pruning harms or helps
a row of either label there. The judge sees the tables only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray, IntArray
from fairguard.judge.contrasts import Family, family_of
from fairguard.judge.counts import CountTable
from fairguard.policy import Policy

ANSWERS = np.array(list(product((0, 1), repeat=3)))
"""The eight kinds of row of a binary task: label, dense, pruned; shape (8, 3)."""
ACCURACY = 0.85
"""Of the dense model, in every group."""
EVIDENCE_ONLY = 1e-9
"""A margin that lets every proven excess count, so that the false alarms are those of the evidence."""


@dataclass(frozen=True, eq=False)
class World:
    """A population by atom, and the policy that judges its samples.

    Attributes:
        name: what to call it in the table of results.
        codes: shape (A, C), level codes of the atoms in the C columns.
        sizes: shape (A,), rows of each atom in every sample.
        harmed: shape (A, 2), chance that a row of label 0 and of label 1 is right before and wrong after.
        helped: shape (A, 2), chance of the contrary.
        options: the policy's.
        base: shape (A,), share of rows with label 1.
        planted: name of the one harmed group, where there is one.
    """

    name: str
    codes: IntArray
    sizes: IntArray
    harmed: FloatArray
    helped: FloatArray
    options: dict[str, Any] = field(default_factory=dict)
    base: FloatArray | float = 0.5
    planted: str | None = None

    @property
    def policy(self) -> Policy:
        """Return the policy: accuracy alone, no intersections, evidence only, unless the world says otherwise."""
        usual = {"metrics": "accuracy", "intersections": 1, "margin": EVIDENCE_ONLY, "permutations": 1_999}
        return Policy.of(**(usual | self.options))

    @property
    def chances(self) -> FloatArray:
        """Return the chance of every kind of row in every atom, shape (A, 8)."""
        y, dense, pruned = ANSWERS.T
        harmed, helped = self.harmed[:, y], self.helped[:, y]
        right, wrong = ACCURACY - harmed, 1.0 - ACCURACY - helped
        before, after = dense == y, pruned == y
        kinds = np.select([before & after, before, after], [right, harmed, helped], wrong)
        base = np.broadcast_to(self.base, len(self.sizes))[:, None]
        return kinds * np.where(y == 1, base, 1.0 - base)

    def samples(self, rng: np.random.Generator, tables: int) -> IntArray:
        """Return that many samples' rows by atom and kind, shape (tables, A, 8)."""
        return np.stack([rng.multinomial(n, p, tables) for n, p in zip(self.sizes, self.chances, strict=True)], axis=1)

    def table(self, sample: IntArray) -> CountTable:
        """Return one sample, shape (A, 8), as the table that the judge reads."""
        atom, kind = np.nonzero(sample)
        y, dense, pruned = ANSWERS[kind].T
        columns = [f"c{i}" for i in range(self.codes.shape[1])]
        levels = [[f"g{k}" for k in range(top + 1)] for top in self.codes.max(axis=0)]
        found = sample[atom, kind]
        return CountTable.of(
            columns, levels, ("0", "1"), codes=self.codes[atom], y=y, dense=dense, pruned=pruned, counts=found
        )

    def family(self, sample: IntArray) -> Family:
        """Return the family that the judge forms on one sample, shape (A, 8)."""
        return family_of(self.table(sample), self.policy)

    def template(self) -> Drawer:
        """Return what turns samples into families."""
        every = self.table(np.maximum(np.rint(self.sizes[:, None] * self.chances), 1).astype(np.int64))
        family = family_of(every, self.policy)
        order = np.lexsort(self.codes.T[::-1])
        grid = self.table(np.ones((len(self.sizes), 8), dtype=np.int64))
        rows = np.column_stack([e.effects(grid) for e in family.estimands])
        answers = np.column_stack([grid.y, grid.dense, grid.pruned])
        kinds = [_place(family.effects, rows[(answers == answer).all(axis=1)][0]) for answer in ANSWERS]
        return Drawer(family, order, np.array(kinds))


@dataclass(frozen=True, eq=False)
class Drawer:
    """Turns samples of one world into the family's counts, many at once.

    Attributes:
        family: the world's family on a typical sample.
        order: shape (A,), the family's atoms as places among the world's.
        kinds: shape (8,), the family's kind of each kind of row.
    """

    family: Family
    order: IntArray
    kinds: IntArray

    def atoms(self, samples: IntArray) -> IntArray:
        """Return rows by the family's atoms and kinds, shape (tables, A, J)."""
        kinds = np.zeros((8, len(self.family.effects)), dtype=np.int64)
        kinds[np.arange(8), self.kinds] = 1
        return samples[:, self.order] @ kinds

    def counts(self, samples: IntArray) -> tuple[FloatArray, ...]:
        """Return ``b, c, n, b_rest, c_rest, n_rest`` of all samples, each of shape (tables, m)."""
        rows = np.einsum("sa,taj->tsj", self.family.member.astype(np.float64), self.atoms(samples), optimize=True)
        whole = self.atoms(samples).sum(axis=1)
        pairs = []
        for what in (self.family.effects == 1, self.family.effects == -1, self.family.effects != 2):
            inside = (rows @ what)[:, self.family.group, self.family.estimand]
            pairs.append((inside, (whole @ what)[:, self.family.estimand] - inside))
        (b, b_rest), (c, c_rest), (n, n_rest) = pairs
        return b, c, n, b_rest, c_rest, n_rest


def _place(effects: NDArray[np.int8], row: NDArray[np.int8]) -> int:
    return int(np.flatnonzero((effects == row).all(axis=1))[0])


def partition(
    groups: int,
    rows: int,
    *,
    name: str = "null",
    churn: tuple[float, float] = (0.05, 0.03),
    other: tuple[float, float] | None = None,
    majority: float = 1.0,
    planted: float = 0.0,
    **options: Any,
) -> World:
    """Return one column of ``groups`` groups of ``rows`` rows.

    Args:
        groups: how many.
        rows: in each of them.
        name: what to call the scenario.
        churn: chance of a harmful and of a beneficial flip.
        other: the same in every second group, where it differs.
        majority: how many times larger the first group is.
        planted: excess harm of the last group.
        **options: the policy's.
    """
    sizes = np.full(groups, rows)
    sizes[0] = int(rows * majority)
    second = (np.arange(groups) % 2 == 1)[:, None]
    harmed = np.where(second, (other or churn)[0], churn[0]) * np.ones((1, 2))
    helped = np.where(second, (other or churn)[1], churn[1]) * np.ones((1, 2))
    harmed[-1] += planted
    codes = np.arange(groups)[:, None]
    last = f"c0=g{groups - 1}" if planted else None
    return World(name, codes, sizes, harmed, helped, options=options, planted=last)


def crossed(
    rows: int,
    *,
    name: str = "null",
    levels: tuple[int, ...] = (4, 2, 3),
    churn: tuple[float, float] = (0.05, 0.03),
    uneven: float = 0.0,
    planted: tuple[tuple[int, int], ...] = (),
    excess: float = 0.0,
    **options: Any,
) -> World:
    """Return several crossed columns, all their products judged, ``rows`` in all.

    Args:
        rows: in the whole sample.
        name: what to call the scenario.
        levels: how many values each column has.
        churn: chance of a harmful and of a beneficial flip.
        uneven: extra chance of both a harmful and a beneficial flip in every second atom: unequal churn, equal loss.
        planted: the harmed cell as (column, level) pairs.
        excess: its excess harm.
        **options: the policy's.
    """
    codes = np.array(list(product(*(range(k) for k in levels))))
    shares = np.prod([_shares(k)[codes[:, i]] for i, k in enumerate(levels)], axis=0)
    more = uneven * (codes.sum(axis=1) % 2 == 1)[:, None] * np.ones((1, 2))
    harmed, helped = churn[0] + more, churn[1] + more
    inside = np.all([codes[:, column] == level for column, level in planted], axis=0) if planted else np.zeros(0)
    if planted:
        harmed = harmed + excess * inside[:, None]
    where = " & ".join(f"c{column}=g{level}" for column, level in planted) or None
    sizes = np.maximum(np.rint(rows * shares), 1).astype(np.int64)
    return World(name, codes, sizes, harmed, helped, options={"intersections": len(levels)} | options, planted=where)


def _shares(k: int) -> FloatArray:
    """Return unequal shares of k levels: each two thirds of the one before."""
    weights = (2.0 / 3.0) ** np.arange(k)
    return np.asarray(weights / weights.sum())
