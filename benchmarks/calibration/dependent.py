"""Rows of one person that share a fate, rows that count more, slices nobody named, and real predictions."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibration.sections import ALLOWED, Row, _many
from fairguard.dtypes import IntArray
from fairguard.judge.clusters import clustered_evidence
from fairguard.judge.contrasts import family_of
from fairguard.judge.counts import CountTable
from fairguard.judge.evidence import Evidence, evidence_of
from fairguard.judge.scatter import CLUSTER, WEIGHT, scatter_of, shares_of
from fairguard.judge.slices import discover
from fairguard.judge.spending import cumulative_spending
from fairguard.policy import Policy

DATA = Path(os.environ.get("FAIRGUARD_DATA", Path(__file__).parents[3] / "shared" / "data"))
PRUNED = 0.7
"""Share of the weights that is zeroed, smallest first."""


def clusters(effort: float, seed: int) -> Iterator[Row]:
    """Yield false alarms and false all-clears with several rows per person, with and without ``--cluster``."""
    cells = [(groups, persons, rows, alike) for alike in (0.0, 0.5, 1.0) for groups in (2, 10)
             for persons, rows in ((30, 8), (200, 4), (200, 20))]  # fmt: skip
    for groups, persons, rows, alike in cells if effort >= 1 else cells[::4]:
        yield _dependent(effort, seed, groups=groups, persons=persons, rows=rows, alike=alike, spread=0.0)
    for groups, persons in ((2, 500), (10, 200), (10, 1000)):
        yield _dependent(effort, seed, groups=groups, persons=persons, rows=1, alike=0.0, spread=0.7)


def _dependent(effort: float, seed: int, **world: Any) -> Row:
    rng = np.random.default_rng([seed, 60])
    policy = Policy.of(metrics="accuracy", intersections=1, margin=1e-9, permutations=999)
    margin = 0.03
    tables = _many(600, effort)
    said = np.zeros(4)
    for _ in range(tables):
        plain, whole = Persons.drawn(rng, **world, harm=0.0).tables()
        said[0] += evidence_of(family_of(plain, policy), policy).regressed.any()
        said[1] += clustered(whole, policy).regressed.any()
        plain, whole = Persons.drawn(rng, **world, harm=margin).tables()
        wide = policy.model_copy(update={"margin": margin})
        said[2] += evidence_of(family_of(plain, wide), wide).upper[-1] < margin
        said[3] += clustered(whole, wide).upper[-1] < margin
    names = ("groups", "units a group", "rows a unit", "alike", "weights")
    where = dict(zip(names, world.values(), strict=True))
    names = ("alarms, rows alone", "alarms, shipped", "false preserved, rows alone", "false preserved, shipped")
    return where | {"tables": tables} | dict(zip(names, said / tables, strict=True))


def clustered(table: CountTable, policy: Policy) -> Evidence:
    """Return what clusters or weights prove of every contrast."""
    family = family_of(table, policy, groups=["g"])
    shares = shares_of(table, family)
    return clustered_evidence(family, shares, scatter_of(table, family, shares), policy=policy)


def looks(effort: float, seed: int) -> Iterator[Row]:
    """Yield false alarms over several looks at growing numbers of persons of four rows each.

    Plans of as many persons look at the same ones: first rates that are high together are one piece of news.
    """
    for planned, groups, persons in ((2, 2, 60), (2, 2, 400), (2, 10, 200), (3, 2, 400), (5, 2, 400), (5, 10, 200)):
        yield _looked(effort, seed, planned, {"groups": groups, "persons": persons})


def _looked(effort: float, seed: int, planned: int, where: dict[str, int]) -> Row:
    usual = {"metrics": "accuracy", "intersections": 1, "margin": 1e-9, "permutations": 999, "looks": planned}
    policies = [Policy.of(**usual, look=look) for look in range(1, planned + 1)]
    rng = np.random.default_rng([seed, 65])
    first = _alarms(rng, policies, _many(600, effort), **where, harm=0.0)
    looked = [float((first[:, 1] < planned).mean())]
    if looked[0] > ALLOWED:
        first = _alarms(np.random.default_rng([seed, 66, planned]), policies, _many(1_000, effort), **where, harm=0.0)
    row: Row = {"looks": planned, "groups": where["groups"], "persons a group": where["persons"]}
    row |= {"spent at the first": cumulative_spending(policies[0].alpha, 1 / planned), "tables": len(first)}
    row["looked"] = looked
    for what, said in (("null", first), ("+8pt", _alarms(rng, policies, _many(100, effort), **where, harm=0.08))):
        row[f"rows alone, {what}"] = (said[:, 0] < planned).mean()
        row[f"first look, {what}"] = (said[:, 1] == 0).mean()
        row[f"shipped, {what}"] = (said[:, 1] < planned).mean()
    return row


def _alarms(
    rng: np.random.Generator, policies: Sequence[Policy], tables: int, *, groups: int, persons: int, harm: float
) -> IntArray:
    """Return the look of each table's first alarm, of rows and of persons, shape (tables, 2)."""
    first = np.zeros((tables, 2), dtype=np.int64)
    for k in range(tables):
        rows = Persons.drawn(rng, groups=groups, persons=persons, rows=4, alike=0.5, spread=0.0, harm=harm)
        first[k] = _first_alarms([rows.part(p.look / p.looks).tables() for p in policies], policies)
    return first


def _first_alarms(tables: Sequence[tuple[CountTable, CountTable]], policies: Sequence[Policy]) -> tuple[int, int]:
    """Return the first look that says regressed, by rows alone and by persons; the number of looks where none does."""
    rows = (evidence_of(family_of(plain, p), p) for (plain, _), p in zip(tables, policies, strict=True))
    persons = (clustered(whole, p) for (_, whole), p in zip(tables, policies, strict=True))
    by_rows, by_persons = (
        next((look for look, evidence in enumerate(said) if evidence.regressed.any()), len(policies))
        for said in (rows, persons)
    )
    return by_rows, by_persons


@dataclass(frozen=True, eq=False)
class Persons:
    """Rows of persons, or rows with weights: each array of shape (n,).

    Attributes:
        groups: how many.
        persons: of each group.
        person: whose row it is; those of a group are numbered in a row.
        harmed, helped: what pruning did to it.
        weight: what it counts; ``None`` where all count alike.
    """

    groups: int
    persons: int
    person: IntArray
    harmed: NDArray[np.bool_]
    helped: NDArray[np.bool_]
    weight: NDArray[np.float64] | None

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, *, groups: int, persons: int, rows: int, alike: float, spread: float, harm: float
    ) -> Persons:
        """Return rows of which a share ``alike`` shares the person's fate; the last group loses ``harm`` more.

        ``spread`` is the standard deviation of log weights.
        """
        person = np.repeat(np.arange(groups * persons), rows)
        fate = rng.random(groups * persons)
        u = np.where(rng.random(len(person)) < alike, fate[person], rng.random(len(person)))
        harmed = u < 0.05 + harm * (person // persons == groups - 1)
        weight = np.round(np.exp(rng.normal(0, spread, len(person))), 2) if spread else None
        return cls(groups, persons, person, harmed, u > 0.97, weight)

    def part(self, share: float) -> Persons:
        """Return the rows of the first persons of each group."""
        kept = self.person % self.persons < round(share * self.persons)
        weight = None if self.weight is None else self.weight[kept]
        return replace(
            self, person=self.person[kept], harmed=self.harmed[kept], helped=self.helped[kept], weight=weight
        )

    def tables(self) -> tuple[CountTable, CountTable]:
        """Return the rows without and with what they belong to (or weigh)."""
        column, what = (CLUSTER, self.person) if self.weight is None else (WEIGHT, self.weight)
        levels, place = np.unique(what, return_inverse=True)
        names, group = [f"g{k}" for k in range(self.groups)], self.person // self.persons
        dense, pruned = np.where(self.helped, 0, 1), np.where(self.harmed, 0, 1)
        answers = {"y": np.ones(len(group), dtype=int), "dense": dense, "pruned": pruned}
        plain = CountTable.of(["g"], [names], ("0", "1"), codes=group[:, None], **answers)
        codes = np.column_stack([group, place])
        both = [names, [f"{level}" for level in levels]]
        return plain, CountTable.of(["g", column], both, ("0", "1"), codes=codes, **answers)


LEVELS = (2, 4, 3, 2, 3)
"""Values of the five columns that slices are searched in."""


def slices(effort: float, seed: int) -> Iterator[Row]:
    """Yield how often a search claims anything, and how often the first claim is the planted slice itself."""
    policy = Policy.of(metrics="accuracy", permutations=499)
    for planted, excess in (((), 0.0), (((0, 1), (1, 2)), 0.10), (((0, 0), (2, 1), (4, 2)), 0.15)):
        for depth in (2, 3):
            rng = np.random.default_rng([seed, 70])
            tables, claims, exact = _many(300, effort), 0, 0
            for _ in range(tables):
                found = discover(population(rng, 10_000, planted=planted, excess=excess), policy, depth=depth).found
                claims += bool(found)
                exact += bool(found) and found[0].group == " & ".join(f"c{c}={v}" for c, v in planted)
            name = f"+{100 * excess:.0f}pt in {len(planted)} columns" if planted else "null"
            yield {"world": name, "depth": depth, "tables": tables, "any": claims / tables, "exact": exact / tables}


def population(rng: np.random.Generator, n: int, *, planted: tuple[tuple[int, int], ...], excess: float) -> CountTable:
    """Return n rows in five columns, of which those ``planted`` lose ``excess`` more; churn is 5 and 3 %."""
    codes = np.column_stack([rng.choice(k, n, p=0.8 ** np.arange(k) / (0.8 ** np.arange(k)).sum()) for k in LEVELS])
    inside = np.all([codes[:, c] == v for c, v in planted], axis=0) if planted else np.zeros(n, dtype=bool)
    u = rng.random(n)
    harmed, helped = u < 0.05 + excess * inside, u > 0.97
    dense, pruned = np.where(helped, 0, 1), np.where(harmed, 0, 1)
    columns = [f"c{i}" for i in range(len(LEVELS))]
    levels = [[str(v) for v in range(k)] for k in LEVELS]
    return CountTable.of(columns, levels, ("0", "1"), codes=codes, y=np.ones(n, int), dense=dense, pruned=pruned)


def real(effort: float, seed: int) -> Iterator[Row]:
    """Yield false alarms on real predictions whose group labels were dealt anew: COMPAS, nets pruned by magnitude."""
    path = DATA / "compas.csv.gz"
    if not path.exists():
        return
    pairs = [_compas(path, seed + k) for k in range(_many(10, max(effort, 0.1)) if effort >= 1 else 2)]
    for columns in (("race",), ("race", "sex"), ("race", "sex", "age_cat")):
        rng = np.random.default_rng([seed, 80])
        policy = Policy.of(metrics=("accuracy", "recall", "fpr"), intersections=len(columns), margin=0.02)
        said, tables = np.zeros(3), 0
        for y, dense, pruned, groups in pairs:
            levels, codes = zip(*(np.unique(groups[c], return_inverse=True) for c in columns), strict=True)
            for _ in range(_many(60, effort)):
                dealt = np.column_stack(codes)[rng.permutation(len(y))]
                table = CountTable.of(columns, levels, ("0", "1"), codes=dealt, y=y, dense=dense, pruned=pruned)
                family = family_of(table, policy)
                evidence = evidence_of(family, policy)
                accuracy = np.array([family.estimands[e].metric == "accuracy" for e in family.estimand])
                excess = evidence.excess * family.n_rest / (family.n + family.n_rest)
                said += [evidence.regressed.any(), (excess[accuracy] > 0.02).any(), (excess[accuracy] > 0.05).any()]
                tables += 1
        names = ("shipped", "EAG > 2pt", "EAG > 5pt")
        yield {"data": f"COMPAS {' x '.join(columns)}", "contrasts": len(family), "tables": tables} | dict(
            zip(names, said / tables, strict=True)
        )


def _compas(path: Path, seed: int) -> tuple[NDArray, NDArray, NDArray, dict[str, NDArray]]:
    """Return labels, both models' answers and groups of the test half, for a small net and its pruned copy."""
    import pandas as pd
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    rows = pd.read_csv(path)
    rows = rows[rows["propublica_filter"] == 1]
    features = rows[[c for c in ("age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count",
                                 "sex", "race", "c_charge_degree") if c in rows]]  # fmt: skip
    x = StandardScaler().fit_transform(pd.get_dummies(features).astype(float))
    train, test = train_test_split(np.arange(len(rows)), test_size=0.5, random_state=seed)
    y = rows["label"].to_numpy()
    net = MLPClassifier((64, 32), max_iter=60, early_stopping=True, random_state=seed).fit(x[train], y[train])
    dense = net.predict(x[test])
    for weights in net.coefs_:
        weights[np.abs(weights) < np.quantile(np.abs(weights), PRUNED)] = 0.0
    groups = {c: rows[c].to_numpy(dtype=str)[test] for c in ("race", "sex", "age_cat")}
    return y[test], dense, net.predict(x[test]), groups
