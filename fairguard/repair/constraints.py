"""What the policy's metrics ask of training: per-group excess drops, and the multipliers that push them down.

Constrained retraining after Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models"
(ICLR 2024): minimise the loss subject to psi_g <= eps for every group g, where psi_g is g's accuracy drop minus the
drop overall. Multipliers rise on the drop that replay buffers of recent answers show; weights descend on the loss with
each group's rows weighted by its multiplier. Two additions: a cell's tolerance grows with what its few rows can show,
and cells may be (group, class) as well, so that recall and false positives are constrained by the same code.

Everything here lives on the training device and never waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fairguard.judge.counts import one_to_one
from fairguard.policy import Metric, Policy

BUFFER = 512
"""Answers that a replay buffer remembers; a smaller group's buffer holds each of its rows once."""
LIGHTEST, HEAVIEST = 0.5, 5.0
"""No row weighs less or more than so many others: what is left out is unlearned, and the multiplier of a small group is
bounded by what its few rows can carry."""
STRIDE = 0.1
"""An excess further than this from its tolerance moves the multiplier no faster: the first steps after pruning, when
every group is in ruins, must not decide the multipliers of the rest."""
REFILLS = 5.0
"""Times that a buffer is filled anew while its multiplier goes from zero to the ceiling at full stride: one that moves
faster than its buffer shows the effect swings from group to group."""
EVERY = 8
"""Steps after which the answers seen are written into the buffers and the multipliers move, all at once: cheaper than
after every step, and far quicker than a buffer fills."""
QUICKEST = 100
"""Steps that a multiplier takes from zero to its ceiling at least, however few rows there are: the weights need as many
to answer, and a multiplier that does not wait for them swings from one end to the other."""
HEARD = 0.1
"""Share of the way to the ceiling that one look at the tune rows may raise a multiplier."""

Reference = Literal["dense", "equal"]
"""``dense``: no group may lose more than the others, against dense. ``equal``: all groups should be equally right."""


@dataclass(frozen=True)
class Cell:
    """Rows whose treatment is constrained: a group, where ``label`` is given only its rows of that class.

    Attributes:
        group: ``race=Black`` or ``race=Black & sex=F``.
        metric: what the policy gates.
        where: (column, level) pairs, places in the source's columns and levels.
        label: the class that the rows have; ``None`` for all rows.
        negate: the rows are all those *not* of ``label`` (false positive rate).
        favourable: for the selection rate: the class that counts as a hit, whatever the label.
    """

    group: str
    metric: Metric
    where: tuple[tuple[int, int], ...]
    label: int | None = None
    negate: bool = False
    favourable: int | None = None

    def of_class(self, y: Tensor) -> Tensor:
        """Return which rows the cell and its rest are about, shape (n,)."""
        if self.label is None:
            return torch.ones_like(y, dtype=torch.bool)
        return (y != self.label) if self.negate else (y == self.label)

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
        selects: shape (C,), whether the cell is about the selection rate.
        favourable: the favourable class.
        about_selection: whether any cell is about the selection rate.
    """

    cells: tuple[Cell, ...]
    atom: Tensor
    member: Tensor
    base: Tensor
    n_member: Tensor
    n_base: Tensor
    selects: Tensor
    favourable: int
    about_selection: bool

    @classmethod
    def over(cls, cells: Sequence[Cell], codes: Tensor, y: Tensor, *, favourable: int = 1) -> Cells:
        """Return ``cells`` over the rows with these group ``codes`` (n, C) and labels ``y`` (n,)."""
        atoms, atom, counts = torch.unique(
            torch.cat([codes, y[:, None]], dim=1), dim=0, return_inverse=True, return_counts=True
        )
        groups, labels = atoms[:, :-1], atoms[:, -1]
        member = torch.stack([cell.members(groups, labels) for cell in cells], dim=1).float()
        base = torch.stack([cell.of_class(labels) for cell in cells], dim=1).float()
        chosen = [cell.favourable is not None for cell in cells]
        selects = torch.tensor(chosen, device=y.device)
        size = counts.float()
        return cls(tuple(cells), atom, member, base, size @ member, size @ base, selects, favourable, any(chosen))

    def twice(self, n: int) -> Cells:
        """Return the cells over their first ``n`` rows, after them these rows once more, and what is left twice."""
        first, rest = self.atom[:n], self.atom[n:]
        return replace(
            self, atom=torch.cat([first, first, rest, rest]), n_member=2 * self.n_member, n_base=2 * self.n_base
        )

    @property
    def scale(self) -> Tensor:
        """Return n_base / (n_base - n_member), shape (C,): turns drop minus overall drop into drop minus the rest's."""
        return self.n_base / (self.n_base - self.n_member).clamp_min(1.0)

    def hits(self, answers: Tensor, y: Tensor) -> Tensor:
        """Return whether each answer is right and whether it is favourable, shape (n, 2)."""
        return torch.stack([answers == y, answers == self.favourable], dim=1).float()

    def measure(self, hits: Tensor, before: Tensor) -> Measured:
        """Return the excess drops over all rows.

        Args:
            hits: shape (n, 2), from :meth:`hits`, after.
            before: the same of the dense model.
        """
        change = before - hits
        sums = torch.stack([self._sums(change), self._sums(change.square())])
        inside, over = sums[..., 0], sums[..., 1]  # (2, C): drop and churn
        rest = (self.n_base - self.n_member).clamp_min(1.0)
        n = self.n_member.clamp_min(1.0)
        drop, churn = inside[0] / n, inside[1] / n
        rest_drop, rest_churn = (over - inside)[0] / rest, (over - inside)[1] / rest
        error = ((churn - drop**2 + 1 / n) / n + (rest_churn - rest_drop**2 + 1 / rest) / rest).sqrt()
        return Measured(drop - rest_drop, error, self._sums(hits)[:, 0] / n)

    def _sums(self, values: Tensor) -> Tensor:
        """Return the sums of ``values`` (n, 2) over each cell and over its base, shape (C, 2)."""
        by_atom = torch.zeros(len(self.member), 2, device=values.device).index_add_(0, self.atom, values)
        by_cell = torch.stack([self.member.T @ by_atom, self.base.T @ by_atom], dim=1)  # (C, member or base, hit kind)
        kind = self.selects.long().view(-1, 1, 1).expand(-1, 2, 1)
        return by_cell.gather(2, kind)[..., 0]


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
    """
    metrics = policy.metrics or ((Metric.ACCURACY, Metric.RECALL, Metric.FPR) if n_classes == 2 else (Metric.ACCURACY,))
    labels = {c for c in range(len(columns)) if one_to_one(codes[:, c].numpy(), y.numpy())}
    # A class's recall is its accuracy.
    between_classes = tuple(dict.fromkeys(Metric.ACCURACY if m is Metric.RECALL else m for m in metrics))
    found = []
    for depth in range(1, min(policy.intersections, len(columns)) + 1):
        for chosen in combinations(range(len(columns)), depth):
            for values in product(*(range(len(levels[c])) for c in chosen)):
                where = tuple(zip(chosen, values, strict=True))
                name = " & ".join(f"{columns[c]}={levels[c][v]}" for c, v in where)
                if not only or name in only:
                    asked = metrics if labels.isdisjoint(chosen) else between_classes
                    found += _cells_of_group(name, where, asked, n_classes, favourable)
    return tuple(cell for cell in found if _large_enough(cell, codes, y, policy.min_group))


def _cells_of_group(
    name: str, where: tuple[tuple[int, int], ...], metrics: Sequence[Metric], n_classes: int, favourable: int
) -> list[Cell]:
    cells = []
    for metric in metrics:
        if metric in (Metric.ACCURACY, Metric.HARMFUL_FLIPS, Metric.DISAGREEMENT):
            cells.append(Cell(name, metric, where))
        elif metric is Metric.SELECTION_RATE:
            cells.append(Cell(name, metric, where, favourable=favourable))
        else:
            labels = [favourable] if n_classes == 2 else range(n_classes)
            cells += [Cell(name, metric, where, label, negate=metric is Metric.FPR) for label in labels]
    return cells


def _large_enough(cell: Cell, codes: Tensor, y: Tensor, least: int) -> bool:
    inside = int(cell.members(codes, y).sum())
    return inside >= least and int(cell.of_class(y).sum()) - inside >= least


class Constraint:
    """Multipliers of the cells, one per cell, raised by what the replay buffers show. State of one training.

    Args:
        cells: over the training rows.
        before: shape (n, 2), hits of the dense model on them (``reference="dense"``).
        y: shape (n,), their labels.
        margin: shape (C,), excess drop that is tolerated, a fraction.
        batch_size: rows a step.
        steps: steps an epoch.
        pace: how fast multipliers move, relative to their usual pace.
        reference: what a group's accuracy is compared with.
    """

    def __init__(
        self,
        cells: Cells,
        before: Tensor,
        y: Tensor,
        *,
        margin: Tensor,
        batch_size: int,
        steps: int,
        pace: float = 1.0,
        reference: Reference = "dense",
    ) -> None:
        """Start with multipliers of zero and empty buffers."""
        self.cells, self.y, self.margin = cells, y, margin
        self.heard = pace * min(HEARD, steps / QUICKEST)
        self.before = before if reference == "dense" else torch.ones_like(before)
        device, count = before.device, len(cells.cells)
        # The last place and the last line take what is no one's.
        self.size = F.pad(cells.n_member.clamp(max=BUFFER).long(), (0, 1), value=1)
        self.buffer = torch.zeros(count + 1, int(self.size.max()) + 1, device=device)
        self.seen = torch.zeros(count + 1, dtype=torch.long, device=device)
        self.overall = torch.zeros(count, device=device)  # running mean drop of the cells' bases
        self.of_atom = _listed(cells.member)
        self.inside = F.pad(cells.member.bool(), (0, 1))  # (A, C + 1)
        self.selects = F.pad(cells.selects, (0, 1))
        self.share = cells.n_member / len(cells.atom)
        self.base_share = cells.n_base / len(cells.atom)
        self.ceiling = HEAVIEST * self.share / cells.scale
        refill = self.size[:-1] / (batch_size * self.share)  # steps
        self.pace = pace * EVERY * self.ceiling / ((REFILLS * refill).clamp_min(QUICKEST) * STRIDE)
        self.waiting: list[tuple[Tensor, Tensor]] = []
        self._set(torch.zeros(count, device=device))

    def weights(self, index: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the factors of the rows' losses on their label and on the favourable class, shape (b,) each.

        The second is ``None`` where no cell is about the selection rate.

        The gradient of ``sum_g lambda_g (L_g - L)``: rows of a group weigh ``lambda_g`` over the group's share of all
        rows. A fixed share instead of the batch's own count keeps a group of one row a batch from shouting.
        """
        atoms = self.cells.atom.index_select(0, index)  # costs a third of indexing
        on_favourable = self.on_favourable.index_select(0, atoms) if self.cells.about_selection else None
        return self.on_label.index_select(0, atoms), on_favourable

    @torch.no_grad()
    def observe(self, index: Tensor, answers: Tensor) -> None:
        """Take note of a step's answers; after a few steps remember them and move the multipliers."""
        self.waiting.append((index, answers))
        if len(self.waiting) >= EVERY:
            index, answers = (torch.cat(parts) for parts in zip(*self.waiting, strict=True))
            self.waiting = []
            self._move(index, answers)

    def _move(self, index: Tensor, answers: Tensor) -> None:
        hits = self.cells.hits(answers, self.y.index_select(0, index))
        change = self.before.index_select(0, index) - hits  # (b, 2)
        atoms = self.cells.atom.index_select(0, index)
        self._remember(atoms, change)
        by_atom = torch.zeros(len(self.cells.member), 3, device=change.device)
        by_atom.index_add_(0, atoms, torch.cat([change, torch.ones_like(change[:, :1])], dim=1))
        sums = self.cells.base.T @ by_atom  # (C, 3): drop on the label, on the favourable class, and rows
        mean = torch.where(self.cells.selects, sums[:, 1], sums[:, 0]) / sums[:, 2].clamp_min(1.0)
        self.overall = torch.where(sums[:, 2] > 0, 0.85 * self.overall + 0.15 * mean, self.overall)
        excess, tolerance, full = self.shown()
        moved = self.multipliers + self.pace * (excess - tolerance).clamp(-STRIDE, STRIDE)
        self._set(torch.where(full, moved.clamp_min(0.0).minimum(self.ceiling), self.multipliers))

    def _set(self, multipliers: Tensor) -> None:
        """Keep the multipliers and the weights of rows that follow from them, one per atom."""
        self.multipliers = multipliers
        push = multipliers * self.cells.scale
        by_atom = self.cells.member * (push / self.share) - self.cells.base * (push / self.base_share)  # (A, C)
        self.on_label = (1.0 + by_atom @ (~self.cells.selects).float()).clamp(LIGHTEST, HEAVIEST)
        self.on_favourable = by_atom @ self.cells.selects.float()

    def shown(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the buffers show: excess drop, tolerance and whether the buffer is full, shape (C,) each."""
        held = self.buffer[:-1, :-1]
        size = self.size[:-1].float()
        drop = held.sum(1) / size
        error = ((held.square().sum(1) + 1.0) / size / size).sqrt()
        return (drop - self.overall) * self.cells.scale, self.margin + error, (self.seen >= self.size)[:-1]

    def hear(self, measured: Measured) -> None:
        """Raise the multipliers on rows that training did not see: memorised rows show no drop."""
        over = (measured.excess - self.margin - measured.error).clamp(0.0, STRIDE) / STRIDE
        self._set((self.multipliers + self.heard * self.ceiling * over).minimum(self.ceiling))

    def _remember(self, atoms: Tensor, change: Tensor) -> None:
        """Write each row's change into its cells' ring buffers without knowing on the host how many rows there are.

        Args:
            atoms: shape (b,), the rows' atoms.
            change: shape (b, 2), of the answer on the label and on the favourable class.
        """
        cells = self.of_atom.index_select(0, atoms)  # (b, M)
        values = change[:, :1].expand_as(cells)
        if self.cells.about_selection:
            values = torch.where(self.selects[cells], change[:, 1:], values)
        order = self.inside.index_select(0, atoms).cumsum(0, dtype=torch.int32)  # (b, C + 1): 1 for a cell's first row
        count, size = order[-1].long(), self.size
        first = self.seen - 1
        # There may be more rows than the buffer holds: those before the last ``size`` go to the place of no one.
        place, flat = order.gather(1, cells), cells.flatten()
        fresh = place > (count - size).index_select(0, flat).view_as(cells)
        place = (first.index_select(0, flat).view_as(cells) + place) % size.index_select(0, flat).view_as(cells)
        width = self.buffer.shape[1]
        place = cells * width + torch.where(fresh, place, width - 1)
        self.buffer.view(-1).scatter_(0, place.flatten(), values.flatten())
        self.seen = self.seen + count

    def state(self) -> dict[str, Tensor]:
        """Return all that changes during training."""
        kept = {name: getattr(self, name).clone() for name in ("multipliers", "buffer", "seen", "overall")}
        return kept | {f"waiting-{i:02d}": torch.stack(pair) for i, pair in enumerate(self.waiting)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up the state of :meth:`state`."""
        here = {name: value.to(self.multipliers.device).clone() for name, value in state.items()}
        self.waiting = [(here[name][0], here[name][1]) for name in sorted(here) if name.startswith("waiting")]
        self.buffer, self.seen, self.overall = here["buffer"], here["seen"], here["overall"]
        self._set(here["multipliers"])


def _listed(member: Tensor) -> Tensor:
    """Return the cells of each atom, shape (A, M), from ``member`` (A, C); C where an atom has fewer than M."""
    count = member.shape[1]
    most = max(1, int(member.sum(1).max()))
    return torch.where(member > 0, torch.arange(count, device=member.device), count).sort(1).values[:, :most]
