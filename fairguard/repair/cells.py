"""What the policy's metrics ask of training: cells of rows, and how much more each of them loses than its rest.

A cell is a group, or its rows of one class, so that accuracy, recall, false positives, the selection rate and flips are
constrained by the same code. Everything here lives on the training device and never waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import torch
from torch import Tensor

from fairguard.errors import ConfigError
from fairguard.judge.counts import one_to_one
from fairguard.metrics import METRICS, About, Metric, default_metrics
from fairguard.policy import Policy

RIGHT, FAVOURABLE, HARM, FLIP, SPARED = range(5)
"""What of an answer a cell is about: whether it is right, whether it is favourable, whether it is no longer right,
whether it is right or wrong otherwise than dense's, whether it is another class than the cell's."""
KINDS = {
    Metric.ACCURACY: RIGHT,
    Metric.HARMFUL_FLIPS: HARM,
    Metric.RECALL: RIGHT,
    Metric.FPR: SPARED,
    Metric.SELECTION_RATE: FAVOURABLE,
    Metric.DISAGREEMENT: FLIP,
}
"""What of an answer a metric is about, in the rows that count for it."""


@dataclass(frozen=True)
class Cell:
    """Rows whose treatment is constrained: a group's in the metric's denominator, such as those of one class.

    Attributes:
        group: ``race=Black`` or ``race=Black & sex=F``.
        metric: what the policy gates.
        where: (column, level) pairs, places in the source's columns and levels.
        label: the class that the metric is about; ``None`` for one that is about none.
    """

    group: str
    metric: Metric
    where: tuple[tuple[int, int], ...]
    label: int | None = None

    @property
    def kind(self) -> int:
        """Return what of an answer the cell is about."""
        return KINDS[self.metric]

    def of_class(self, y: Tensor) -> Tensor:
        """Return which rows the cell and its rest are about, shape (n,)."""
        rows: Tensor = METRICS[self.metric].inside(y, self.label)
        return rows

    def members(self, codes: Tensor, y: Tensor) -> Tensor:
        """Return which rows are in the cell, shape (n,)."""
        inside = self.of_class(y)
        for column, level in self.where:
            inside = inside & (codes[:, column] == level)
        return inside


@dataclass(frozen=True, eq=False)
class Cells:
    """The constrained cells over some rows, by atom: rows with equal groups and label are in the same cells.

    Attributes:
        cells: the C cells.
        atom: shape (n,), each row's atom.
        member: shape (A, C), which atoms are in which cell.
        base: shape (A, C), which atoms the cell is compared over: the cell and its rest.
        n_member: shape (C,), rows in each cell.
        n_base: shape (C,), rows in each cell and its rest.
        column: shape (C,), what of an answer each cell is about, a column of :meth:`changes`.
        favourable: the favourable class.
        spared: shape (F,), classes that rows of other classes are to be spared: those of false positives.
    """

    cells: tuple[Cell, ...]
    atom: Tensor
    member: Tensor
    base: Tensor
    n_member: Tensor
    n_base: Tensor
    column: Tensor
    favourable: int
    spared: Tensor

    @classmethod
    def over(cls, cells: Sequence[Cell], codes: Tensor, y: Tensor, *, favourable: int = 1) -> Cells:
        """Return ``cells`` over the rows with these group ``codes`` (n, C) and labels ``y`` (n,)."""
        atoms, atom, counts = torch.unique(
            torch.cat([codes, y[:, None]], dim=1), dim=0, return_inverse=True, return_counts=True
        )
        groups, labels = atoms[:, :-1], atoms[:, -1]
        member = torch.stack([cell.members(groups, labels) for cell in cells], dim=1).float()
        base = torch.stack([cell.of_class(labels) for cell in cells], dim=1).float()
        spared = list(dict.fromkeys(cell.label for cell in cells if cell.kind == SPARED))
        at = {RIGHT: RIGHT, FAVOURABLE: FAVOURABLE, HARM: 2 + len(spared), FLIP: 3 + len(spared)}
        column = [2 + spared.index(cell.label) if cell.kind == SPARED else at[cell.kind] for cell in cells]
        size = counts.float()
        return cls(
            cells=tuple(cells),
            atom=atom,
            member=member,
            base=base,
            n_member=size @ member,
            n_base=size @ base,
            column=torch.tensor(column, device=y.device),
            favourable=favourable,
            spared=torch.tensor(spared, dtype=y.dtype, device=y.device),
        )

    def twice(self, n: int) -> Cells:
        """Return the cells over their first ``n`` rows, after them these rows once more, and what is left twice."""
        first, rest = self.atom[:n], self.atom[n:]
        return replace(
            self, atom=torch.cat([first, first, rest, rest]), n_member=2 * self.n_member, n_base=2 * self.n_base
        )

    @cached_property
    def kinds(self) -> frozenset[int]:
        """Return all kinds that there are, without asking the device."""
        return frozenset(cell.kind for cell in self.cells)

    @property
    def about_selection(self) -> bool:
        """Return whether any cell is about the selection rate."""
        return FAVOURABLE in self.kinds

    @property
    def several(self) -> bool:
        """Return whether any cell is about something else than right answers."""
        return self.kinds != {RIGHT}

    @property
    def scale(self) -> Tensor:
        """Return n_base / (n_base - n_member), shape (C,): turns drop minus overall drop into drop minus the rest's."""
        return self.n_base / (self.n_base - self.n_member).clamp_min(1.0)

    def hits(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return whether each answer is right, is favourable, and is another class than each spared, (n, 2 + F)."""
        two = torch.stack([answers == y, answers == self.favourable], dim=1)
        return torch.cat([two, answers[:, None] != self.spared], dim=1).float()

    def changes(self, before: Tensor, hits: Tensor) -> Tensor:
        """Return what became of answers, of every kind that cells are about.

        Shape (n, 2 + F): less right, less favourable, and newly called each class to be spared. With cells about flips
        two more: no longer right, and right or wrong otherwise than before; with more than two classes a wrong answer
        that becomes another wrong one goes unseen.

        Args:
            before: shape (n, 2 + F), from :meth:`hits`, of dense.
            hits: the same of the net that is trained.
        """
        change = before - hits
        if self.kinds.isdisjoint((HARM, FLIP)):
            return change
        right = change[:, :1]
        return torch.cat([change, right.clamp_min(0.0), right.abs()], dim=1)

    def measure(self, hits: Tensor, before: Tensor) -> Measured:
        """Return the excess drops over all rows.

        Args:
            hits: shape (n, 2 + F), from :meth:`hits`, after.
            before: the same of the dense model.
        """
        change = self.changes(before, hits)
        sums = torch.stack([self._sums(change), self._sums(change.square())])
        inside, over = sums[..., 0], sums[..., 1]  # (2, C): drop and churn
        rest = (self.n_base - self.n_member).clamp_min(1.0)
        n = self.n_member.clamp_min(1.0)
        drop, churn = inside[0] / n, inside[1] / n
        rest_drop, rest_churn = (over - inside)[0] / rest, (over - inside)[1] / rest
        error = ((churn - drop**2 + 1 / n) / n + (rest_churn - rest_drop**2 + 1 / rest) / rest).sqrt()
        return Measured(drop - rest_drop, error, self._sums(self.changes(hits, torch.zeros_like(hits)))[:, 0] / n)

    def _sums(self, values: Tensor) -> Tensor:
        """Return the sums of ``values`` (n, kinds) over each cell and over its base, shape (C, 2)."""
        by_atom = torch.zeros(len(self.member), values.shape[1], device=values.device)
        by_atom.index_add_(0, self.atom, values)
        by_cell = torch.stack([self.member.T @ by_atom, self.base.T @ by_atom], dim=1)  # (C, member or base, hit kind)
        return by_cell.gather(2, self.column.view(-1, 1, 1).expand(-1, 2, 1))[..., 0]


@dataclass(frozen=True, eq=False)
class Measured:
    """Excess drop of each cell over its rest, shape (C,), its standard error, and the cell's hit rate."""

    excess: Tensor
    error: Tensor
    rate: Tensor


def cells_of(
    columns: Sequence[str],
    levels: Sequence[Sequence[str]],
    codes: Tensor,
    y: Tensor,
    *,
    n_classes: int,
    policy: Policy,
    favourable: int = 1,
    only: Sequence[str] = (),
) -> tuple[Cell, ...]:
    """Return the cells that the policy's metrics constrain, with at least ``policy.min_group`` rows on each side.

    Args:
        columns: names of the sensitive features.
        levels: names of their values.
        codes: shape (n, C), the training rows' level codes.
        y: shape (n,), their class codes.
        n_classes: number of classes.
        policy: which metrics and intersections are gated.
        favourable: code of the class that is good to receive.
        only: names of the groups to constrain, such as ``race=Black``; all where empty.

    Raises:
        ConfigError: training cannot constrain a metric that the policy gates.
    """
    metrics = policy.metrics or default_metrics(n_classes)
    for metric in metrics:
        if metric not in KINDS:
            raise ConfigError(f"training cannot constrain {metric}: it knows {', '.join(KINDS)}. Name some of these.")
    labels = {c for c in range(len(columns)) if one_to_one(codes[:, c].numpy(), y.numpy())}
    between_classes = tuple(dict.fromkeys(METRICS[metric].between_classes or metric for metric in metrics))
    # Rows with equal groups and label are in the same cells: counted once, and only large enough products looked at.
    kinds, counts = torch.unique(torch.cat([codes, y[:, None]], dim=1), dim=0, return_counts=True)
    groups, classes = kinds[:, :-1], kinds[:, -1]
    found = []
    for depth in range(1, min(policy.intersections, len(columns)) + 1):
        for chosen in combinations(range(len(columns)), depth):
            occurring, place = torch.unique(groups[:, list(chosen)], dim=0, return_inverse=True)
            size = torch.zeros(len(occurring), dtype=counts.dtype).index_add_(0, place, counts)
            for values in occurring[size >= policy.min_group].tolist():
                where = tuple(zip(chosen, values, strict=True))
                name = " & ".join(f"{columns[c]}={levels[c][v]}" for c, v in where)
                if not only or name in only:
                    asked = metrics if labels.isdisjoint(chosen) else between_classes
                    found += _cells_of_group(name, where, asked, n_classes, favourable)
    return tuple(cell for cell in found if _large_enough(cell, groups, classes, counts, policy.min_group))


def _cells_of_group(
    name: str, where: tuple[tuple[int, int], ...], metrics: Sequence[Metric], n_classes: int, favourable: int
) -> list[Cell]:
    cells = []
    for metric in metrics:
        labels: Sequence[int | None] = [None]
        if METRICS[metric].about is About.EACH_CLASS:
            labels = [favourable] if n_classes == 2 else range(n_classes)
        cells += [Cell(name, metric, where, label) for label in labels]
    return cells


def _large_enough(cell: Cell, codes: Tensor, y: Tensor, counts: Tensor, least: int) -> bool:
    inside = int(counts[cell.members(codes, y)].sum())
    return inside >= least and int(counts[cell.of_class(y)].sum()) - inside >= least
