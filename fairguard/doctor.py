"""The check checked on the user's own rows: how often it cries wolf, and how often it finds a harm that is known.

Groups are dealt to rows at random, so that whatever is found is a false alarm; then harm is planted in one group after
the other, so that whatever is not found is a miss. Knows counts and policies, no models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from fairguard.dtypes import IntArray
from fairguard.errors import ConfigError, DataError
from fairguard.judge.contrasts import Family, family_of
from fairguard.judge.counts import CountTable, distinct
from fairguard.judge.estimands import OUTSIDE, Estimand
from fairguard.judge.evidence import evidence_of, testable
from fairguard.judge.judge import outcome_of
from fairguard.judge.permutation import deal
from fairguard.judge.scatter import require_single_rows
from fairguard.names import first_few
from fairguard.policy import Policy
from fairguard.progress import Progress
from fairguard.verdict import NAN, Outcome


@dataclass(frozen=True)
class Found:
    """How often harm planted in one group was found there."""

    group: str
    tries: int
    found: int

    @property
    def power(self) -> float:
        """Return the share found."""
        return self.found / self.tries


@dataclass(frozen=True)
class Diagnosis:
    """How the check errs on these rows.

    Attributes:
        alpha: the error rate promised.
        excess: the harm planted, as a fraction.
        repeats: data sets with groups dealt at random.
        alarms: how many of them regressed: false alarms.
        cleared: how many of them were preserved.
        groups: how often planted harm was found, by group, least first.
        hopeless: groups in which no harm can be found, or planted, on data of this size.
    """

    alpha: float
    excess: float
    repeats: int
    alarms: int
    cleared: int
    groups: tuple[Found, ...]
    hopeless: tuple[str, ...]

    @property
    def false_alarm_rate(self) -> float:
        """Return the share of harmless data sets that regressed."""
        return self.alarms / self.repeats

    @property
    def standard_error(self) -> float:
        """Return the Monte-Carlo error of the false-alarm rate if it is the promised one."""
        return float(np.sqrt(self.alpha * (1.0 - self.alpha) / self.repeats))

    @property
    def power(self) -> float:
        """Return the share of planted harms that was found, ``nan`` if none could be planted."""
        tries = sum(group.tries for group in self.groups)
        return sum(group.found for group in self.groups) / tries if tries else NAN

    @property
    def sound(self) -> bool:
        """Return whether the false alarms keep the promise, within three Monte-Carlo errors."""
        return self.false_alarm_rate <= self.alpha + 3.0 * self.standard_error

    @property
    def sentence(self) -> str:
        """Return the result in plain words."""
        rate = f"{100 * self.false_alarm_rate:.1f} % of {self.repeats} data sets raised a false alarm"
        alarms = (
            f"With groups dealt at random, {rate} (promised: {100 * self.alpha:g} %{'' if self.sound else ', broken'})"
        )
        if not self.groups:
            return f"{alarms}; no group is large enough to find anything in."
        least = self.groups[0]
        where = f" (least in {least.group}: {100 * least.power:.0f} %)" if len(self.groups) > 1 else ""
        none = f"; nothing can be found in {first_few(self.hopeless, most=3)}" if self.hopeless else ""
        power = f"a planted excess of {100 * self.excess:g} points was found in {100 * self.power:.0f} %{where}"
        return f"{alarms}; {power}{none}."


def examine(
    table: CountTable,
    policy: Policy,
    *,
    excess: float | None = None,
    repeats: int = 200,
    progress: Progress | None = None,
) -> Diagnosis:
    """Return how often the policy errs on rows like those of ``table``.

    Args:
        table: counts of the user's rows.
        policy: the policy to be tried; its seed fixes everything random.
        excess: harm to plant, as a fraction; default: twice the margin.
        repeats: data sets to judge, for false alarms and again for planted harm.
        progress: called after every data set.

    Raises:
        DataError: no rows.
        ConfigError: fewer than 20 repeats, an excess within the margin, or rows with clusters or weights.
    """
    if not table.n:
        raise DataError("the data has no rows: nothing to examine.")
    require_single_rows(table, "the doctor")
    if repeats < 20:
        raise ConfigError(f"{repeats} repeats tell nothing: ask for 20 or more.")
    family = family_of(table.canonical(), policy)
    margin = policy.margin_of(family.estimands[0].metric)
    excess = 2.0 * margin if excess is None else excess
    if not margin < excess < 1:
        raise ConfigError(
            f"an excess of {excess:g} cannot be planted: it is a fraction above the margin of {margin:g} and below 1, "
            f"as 0.05 for five points."
        )
    rng = np.random.default_rng([policy.seed, 4])
    step = _Steps(progress, 2 * repeats)
    outcomes = []
    for dealt in _dealt(table, rng, repeats):
        outcomes.append(outcome_of(evidence_of(family_of(dealt, policy), policy), policy))
        step()
    found, hopeless = _plant(table, family, policy, excess=excess, repeats=repeats, rng=rng, step=step)
    alarms, cleared = (
        sum(outcome is which for outcome in outcomes) for which in (Outcome.REGRESSED, Outcome.PRESERVED)
    )
    return Diagnosis(policy.alpha, excess, repeats, alarms, cleared, found, hopeless)


def _plant(
    table: CountTable,
    family: Family,
    policy: Policy,
    *,
    excess: float,
    repeats: int,
    rng: np.random.Generator,
    step: Callable[[], None],
) -> tuple[tuple[Found, ...], tuple[str, ...]]:
    """Return how often harm was found in each single group, and the groups where it cannot be."""
    estimand = family.estimands[0]
    tested = {family.group[i] for i in np.flatnonzero(testable(family, policy) & (family.estimand == 0))}
    single = [g for g, group in enumerate(family.grouping.groups) if group.columns in {(c,) for c in table.columns}]
    places = [g for g in single if g in tested]
    tries, hits = dict.fromkeys(places, 0), dict.fromkeys(places, 0)
    for k, dealt in enumerate(_dealt(table, rng, repeats if places else 0)):
        g = places[k % len(places)]
        group = family.grouping.groups[g]
        planted = planted_in(dealt, group.columns[0], group.values[0], estimand, excess=excess, rng=rng)
        step()
        if planted is None:
            continue
        judged = family_of(planted, policy)
        regressed = evidence_of(judged, policy).regressed
        tries[g] += 1
        hits[g] += any(judged.grouping.groups[judged.group[i]].name == group.name for i in np.flatnonzero(regressed))
    found = [Found(family.grouping.groups[g].name, tries[g], hits[g]) for g in places if tries[g]]
    hopeless = tuple(family.grouping.groups[g].name for g in single if not tries.get(g))
    return tuple(sorted(found, key=lambda f: (f.power, f.group))), hopeless


def _dealt(table: CountTable, rng: np.random.Generator, repeats: int) -> Iterator[CountTable]:
    """Yield tables of the same rows and the same groups, dealt to each other at random."""
    answers, groups_at = table.cells[:, -3:], table.cells[:, :-3]
    (kind_at, kind), (atom_at, atom) = distinct(answers), distinct(groups_at)
    sizes, totals = (np.bincount(place, table.counts).astype(np.int64) for place in (atom, kind))
    for _ in range(repeats):
        changed = deal(rng, sizes, totals[:-1], 1)[:, :, 0]  # (kinds - 1, atoms)
        rows = np.concatenate([changed, (sizes - changed.sum(axis=0))[None]])
        k, a = np.nonzero(rows)
        cells = np.column_stack([groups_at[atom_at[a]], answers[kind_at[k]]])
        order = np.lexsort(cells.T[::-1])
        yield replace(table, cells=cells[order], counts=rows[k, a][order])


def planted_in(
    table: CountTable, column: str, value: str, estimand: Estimand, *, excess: float, rng: np.random.Generator
) -> CountTable | None:
    """Return the table with so many of a group's rows harmed that its loss rises by ``excess``; ``None`` if it cannot.

    Rows are harmed by changing the pruned model's answer to the one that hurts most.
    """
    now = estimand.effects(table).astype(np.int64)
    options = np.stack([estimand.effects(_answering(table, k)) for k in range(len(table.classes))]).astype(np.int64)
    worst, gain = options.argmax(axis=0), options.max(axis=0) - now
    inside = (table.codes(column) == table.levels[table.columns.index(column)].index(value)) & (now != OUTSIDE)
    able = inside & (gain > 0)
    room = float((gain * table.counts)[able].sum())
    wanted = excess * float(table.counts[inside].sum())
    if not 0 < wanted <= room:
        return None
    moved = np.where(able, rng.binomial(table.counts, wanted / room), 0)
    return _merged(table, moved, worst)


def _answering(table: CountTable, label: int) -> CountTable:
    cells = table.cells.copy()
    cells[:, -1] = label
    return replace(table, cells=cells)


def _merged(table: CountTable, moved: IntArray, worst: IntArray) -> CountTable:
    cells = np.concatenate([table.cells, table.cells])
    cells[len(moved) :, -1] = worst
    counts = np.concatenate([table.counts - moved, moved])
    some = counts > 0
    answers = cells[some, -3:].T
    return CountTable.of(
        table.columns,
        table.levels,
        table.classes,
        codes=cells[some, :-3],
        y=answers[0],
        dense=answers[1],
        pruned=answers[2],
        counts=counts[some],
    )


class _Steps:
    """Counts data sets for the progress bar."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
