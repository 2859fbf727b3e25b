"""Regressions in groups nobody named: every intersection of every column is searched, and the search is paid for.

The reference is the largest statistic of the whole search under random relabelling, so that looking at thousands of
slices raises no false alarm. The slices have a family of their own: named groups lose no power to the search, and what
it finds is worded as found, not as named. Knows counts only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from fairguard.dtypes import BoolArray, FloatArray, IntArray
from fairguard.judge.contrasts import Family, Group, Grouping, column_codes, column_levels, contrasts, judged_columns
from fairguard.judge.counts import CountTable, distinct
from fairguard.judge.estimands import HARMED, HELPED, OUTSIDE, estimands_of
from fairguard.judge.evidence import ROUNDING, evidence_of, levels_of
from fairguard.judge.findings import findings_of
from fairguard.judge.intervals import mover_lower
from fairguard.judge.permutation import null_maxima, studentised
from fairguard.judge.power import LossRates
from fairguard.judge.scatter import require_single_rows
from fairguard.policy import Policy
from fairguard.verdict import Finding

SMALLEST = 30
"""Fewest rows of a slice and of its rest."""
RELABELLINGS = 999
"""Most relabellings of a search."""


class Discovery(NamedTuple):
    """What a search found, worst first, and how many groups that nobody named it looked at."""

    found: tuple[Finding, ...]
    searched: int


def discover(
    table: CountTable,
    policy: Policy,
    *,
    depth: int = 3,
    columns: Sequence[str] | None = None,
    named: Collection[str] = (),
) -> Discovery:
    """Return the regressions found in intersections of up to ``depth`` columns, worst first, each slice minimal.

    Of slices that overlap the one with the strongest evidence is told; another follows only if the rows outside the
    told ones prove it alone. A slice that holds the very rows of a simpler one is that one.

    Args:
        table: the counts.
        policy: metrics, margins and error rates.
        depth: most columns in an intersection.
        columns: the columns to search; default: all of the table.
        named: names of groups that are judged elsewhere: they explain slices, but are not told again.

    Raises:
        DataError: a column that the table does not have.
        ConfigError: a metric that the data cannot give, or rows with clusters or weights.
    """
    require_single_rows(table, "a search for slices")
    table = table.canonical()
    searched = judged_columns(table, columns)
    smallest = max(SMALLEST, policy.min_group)
    family = contrasts(
        table, slices_of(table, searched, depth=depth, smallest=smallest), estimands=estimands_of(table, policy)
    )
    family = family.only(np.minimum(family.n, family.n_rest) >= smallest)
    if not len(family):
        return Discovery((), 0)
    search = _search(family, policy)
    names = [family.grouping.groups[group].name for group in family.group]
    found = np.array([i for i in _minimal(family, search) if names[i] not in named], dtype=np.int64)
    findings = _findings(table, family, search, found, policy) if len(found) else ()
    return Discovery(findings, len(set(names).difference(named)))


def slices_of(table: CountTable, columns: Sequence[str], *, depth: int, smallest: int) -> Grouping:
    """Return every intersection of up to ``depth`` columns that, as its rest, has ``smallest`` rows or more.

    Membership is sparse: one entry for each product of columns and atom.
    """
    first, place = distinct(np.column_stack([column_codes(table, name) for name in columns]))
    atoms = np.column_stack([column_codes(table, name)[first] for name in columns])
    sizes = np.bincount(place, table.counts, len(first)).astype(np.int64)
    levels = [column_levels(table, name) for name in columns]
    groups: list[Group] = []
    rows, cols = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for subset, cells, of_atom, kept in _products(atoms, sizes, depth=depth, smallest=smallest):
        number = np.where(kept, len(groups) + np.cumsum(kept) - 1, -1)[of_atom]
        rows.append(number[number >= 0])
        cols.append(np.flatnonzero(number >= 0))
        names = tuple(columns[i] for i in subset)
        groups += [Group(names, tuple(levels[i][k] for i, k in zip(subset, cell, strict=True))) for cell in cells[kept]]
    at = np.concatenate(rows), np.concatenate(cols)
    member: Any = csr_array((np.ones(len(at[0]), dtype=bool), at), shape=(len(groups), len(atoms)))
    return Grouping(tuple(columns), tuple(groups), member, place)


def _products(
    atoms: IntArray, sizes: IntArray, *, depth: int, smallest: int
) -> Iterator[tuple[tuple[int, ...], IntArray, IntArray, BoolArray]]:
    """Yield each product of columns: the columns, its cells (k, width), the cell of each atom, and which to keep."""
    total = int(sizes.sum())
    known: dict[tuple[int, ...], IntArray] = {}  # rows in each atom's cell, by product
    for width in range(1, min(depth, atoms.shape[1]) + 1):
        for subset in combinations(range(atoms.shape[1]), width):
            first, of_atom = distinct(atoms[:, subset])
            n = np.bincount(of_atom, sizes).astype(np.int64)
            known[subset] = n[of_atom]
            kept = np.minimum(n, total - n) >= smallest
            for factor in combinations(subset, width - 1):
                kept &= n != (known[factor][first] if factor else total)
            yield subset, atoms[first][:, subset], of_atom, kept


@dataclass(frozen=True, eq=False)
class _Search:
    """Evidence for every slice, each array of shape (m,).

    Attributes:
        z: standardised excess.
        p: chance of as large a value anywhere in the search.
        lower: score bound at the search's critical value.
        proven: both witnesses, and the margin reached.
        critical: the value that the largest statistic exceeds by chance with what this look spends of ``alpha``.
        draws: relabellings.
    """

    z: FloatArray
    p: FloatArray
    lower: FloatArray
    proven: BoolArray
    critical: float
    draws: int


def _search(family: Family, policy: Policy) -> _Search:
    draws = min(policy.permutations, RELABELLINGS)
    maxima = np.sort(np.concatenate(list(null_maxima(family, permutations=draws, seed=policy.seed))))
    level = levels_of(np.ones(len(family), dtype=bool), policy).family
    place = int(np.ceil((1.0 - level) * (draws + 1))) - 1
    beyond = -float(ndtri(level / len(family)))  # what the draws are too few to tell
    critical = float(maxima[place]) if place < draws else max(beyond, float(maxima[-1]))
    z = studentised(*family.counts)
    p = (1 + draws - np.searchsorted(maxima, z, side="left")) / (1 + draws)
    lower = mover_lower(*family.counts, max(critical, 0.0))
    margin = np.array([policy.margin_of(e.metric) for e in family.estimands])[family.estimand]
    excess = LossRates.of(*family.counts).excess
    proven = (p <= max(level, 1 / (1 + draws))) & (lower > (margin if policy.strict else 0.0))
    return _Search(z, p, lower, proven & (excess >= margin - ROUNDING), critical, draws)


def _minimal(family: Family, search: _Search) -> Iterator[int]:
    """Yield the proven contrasts that are not explained by stronger ones, strongest first."""
    covered = {e: np.zeros(family.atoms.shape[0], dtype=bool) for e in range(len(family.estimands))}
    order = np.flatnonzero(search.proven)
    width = np.array([len(family.grouping.groups[g].columns) for g in family.group[order]])
    for i in order[np.lexsort([width, -search.z[order]])]:
        inside = _dense(family, family.group[[i]])[0]
        told = covered[int(family.estimand[i])]
        if told.any() and not _still(family, i, inside & ~told, told, search.critical):
            continue
        told |= inside
        yield int(i)


def _still(family: Family, i: int, inside: BoolArray, told: BoolArray, critical: float) -> bool:
    """Return whether the atoms ``inside`` alone lose more than those outside, all without the atoms told already."""
    effects = family.effects[:, family.estimand[i]]
    counts = []
    for atoms in (inside, ~inside & ~told):
        rows = family.atoms[atoms].sum(axis=0)
        counts += [rows[what].sum() for what in (effects == HARMED, effects == HELPED, effects != OUTSIDE)]
    b, c, n, b_rest, c_rest, n_rest = np.array(counts)[:, None]
    return bool(min(n, n_rest) >= SMALLEST and studentised(b, c, n, b_rest, c_rest, n_rest) >= critical)


def _findings(
    table: CountTable, family: Family, search: _Search, found: IntArray, policy: Policy
) -> tuple[Finding, ...]:
    groups = tuple(family.grouping.groups[g] for g in family.group[found])
    grouping = Grouping(family.grouping.columns, groups, _dense(family, family.group[found]), family.grouping.place)
    small = contrasts(table, grouping, estimands=family.estimands)
    own = [
        int(np.flatnonzero((small.group == k) & (small.estimand == family.estimand[i]))[0]) for k, i in enumerate(found)
    ]
    small = small.only(np.array(own))
    evidence = replace(
        evidence_of(small, policy),
        regressed=np.ones(len(found), dtype=bool),
        preserved=np.zeros(len(found), dtype=bool),
        lower=search.lower[found],
        p=search.p[found],
        detectable=np.full(len(found), np.nan),
        z_family=search.critical,
        draws=search.draws,
    )
    findings = findings_of(table, small, evidence, policy=policy)
    return tuple(finding.model_copy(update={"discovered": True}) for finding in findings)


def _dense(family: Family, groups: IntArray) -> BoolArray:
    """Return whether each of ``groups`` holds each atom, shape (len(groups), A)."""
    chosen: Any = family.member[groups]
    return np.asarray(chosen.toarray(), dtype=np.bool_)
