"""The multipliers that push per-group excess drops down while a net trains.

Constrained retraining after Hashemizadeh et al., "Balancing Act: Constraining Disparate Impact in Sparse Models"
(ICLR 2024): minimise the loss subject to psi_g <= eps for every group g, where psi_g is g's accuracy drop minus the
drop overall. Multipliers rise on the drop that replay buffers of recent answers show; weights descend on the loss with
each group's rows weighted by its multiplier. Two additions: a cell's tolerance grows with what its few rows can show,
and cells may be (group, class) as well, so that recall and false positives are constrained by the same code.

Everything here lives on the training device and never waits for it.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fairguard.repair.cells import FAVOURABLE, Cells, Measured

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

AT_ONCE = 4_096
"""Atoms whose cells are listed at a time."""

Reference = Literal["dense", "equal"]
"""``dense``: no group may lose more than the others, against dense. ``equal``: all groups should be equally right."""


class Constraint:
    """Multipliers of the cells, one per cell, raised by what the replay buffers show. State of one training.

    Args:
        cells: over the training rows.
        before: shape (n, 2 + F), hits of the dense model on them (``reference="dense"``).
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
        self.column = F.pad(cells.column, (0, 1))
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
        change = self.cells.changes(self.before.index_select(0, index), hits)  # (b, kinds)
        atoms = self.cells.atom.index_select(0, index)
        self._remember(atoms, change)
        by_atom = torch.zeros(len(self.cells.member), change.shape[1] + 1, device=change.device)
        by_atom.index_add_(0, atoms, torch.cat([change, torch.ones_like(change[:, :1])], dim=1))
        sums = self.cells.base.T @ by_atom  # (C, kinds + 1): drops of every kind, and rows
        mean = sums.gather(1, self.cells.column[:, None])[:, 0] / sums[:, -1].clamp_min(1.0)
        self.overall = torch.where(sums[:, -1] > 0, 0.85 * self.overall + 0.15 * mean, self.overall)
        excess, tolerance, full = self.shown()
        moved = self.multipliers + self.pace * (excess - tolerance).clamp(-STRIDE, STRIDE)
        self._set(torch.where(full, moved.clamp_min(0.0).minimum(self.ceiling), self.multipliers))

    def _set(self, multipliers: Tensor) -> None:
        """Keep the multipliers and the weights of rows that follow from them, one per atom."""
        self.multipliers = multipliers
        push = multipliers * self.cells.scale
        by_atom = self.cells.member * (push / self.share) - self.cells.base * (push / self.base_share)  # (A, C)
        selects = self.cells.column == FAVOURABLE
        self.on_label = (1.0 + by_atom @ (~selects).float()).clamp(LIGHTEST, HEAVIEST)
        self.on_favourable = (by_atom @ selects.float()).clamp(-HEAVIEST, HEAVIEST)

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
            change: shape (b, kinds), from :meth:`Cells.changes`.
        """
        cells = self.of_atom.index_select(0, atoms)  # (b, M)
        values = change[:, :1].expand_as(cells)
        if self.cells.several:
            values = change.gather(1, self.column[cells])
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
    cells = torch.arange(count, device=member.device)
    parts = torch.split(member, AT_ONCE)  # whole numbers for all atoms at once would take several times the memory
    return torch.cat([torch.where(part > 0, cells, count).sort(1).values[:, :most].clone() for part in parts])
