"""Several processes that share the rows of one check, as ``torchrun`` starts them, on one machine or on many.

Every process reads all rows and asks its models about every so many-th batch; the counts of all come to all, so that
each reaches the same verdict. Only the first one shows it. The command ``fairguard check`` alone shares rows so: who
calls ``check()`` in a script of several processes may do it in one of them. Knows no model and no statistics.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from fairguard.errors import FairguardError

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long the processes wait for the slowest one; torchrun ends all of them where one dies."""


@dataclass(frozen=True)
class Ranks:
    """One of ``size`` processes.

    Attributes:
        rank: its number, from 0.
        size: how many there are; 1 without torchrun.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """Return what torchrun says that this process is; what a shell or another launcher says is no word of it."""
        if not all(os.environ.get(name) for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR")):
            return cls()
        rank, size = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE"))
        return cls(int(rank), int(size)) if rank.isdigit() and size.isdigit() and int(size) > 1 else cls()

    @property
    def first(self) -> bool:
        """Return whether this process is the one that shows what all have found."""
        return self.rank == 0

    def shared(self, batches: Iterable[T]) -> Iterator[tuple[T, bool]]:
        """Yield all batches, each with whether it is this process's to answer."""
        for number, batch in enumerate(batches):
            yield batch, number % self.size == self.rank

    def gathered(self, work: Callable[[], T]) -> list[T]:
        """Return what ``work`` gives in every process, by rank, in all of them.

        Raises:
            FairguardError: what it raised in one of them, in all of them.
        """
        if self.size == 1:
            return [work()]
        together = _together()
        mine: T | FairguardError
        try:
            mine = work()
        except FairguardError as error:
            mine = error
        everywhere: list[Any] = [None] * self.size
        together.all_gather_object(everywhere, mine)
        for found in everywhere:
            if isinstance(found, FairguardError):
                raise found
        return everywhere

    def at_first(self, mine: T) -> list[T]:
        """Return in the first process what all of them hand over, by rank; in the others nothing."""
        if self.size == 1:
            return [mine]
        everywhere: list[Any] | None = [None] * self.size if self.first else None
        _together().gather_object(mine, everywhere)
        return everywhere or []


ALONE = Ranks()
"""The one process that shares with nobody."""


def own_gpu() -> int | None:
    """Return the number of the GPU that is this process's under torchrun, by its place on its machine.

    ``None`` without torchrun: the usual one. Where torch sees no GPU, it cannot say how many another library has.
    """
    here = os.environ.get("LOCAL_RANK", "")
    if Ranks.here().size == 1 or not here.isdigit():
        return None
    import torch

    return int(here) % (torch.cuda.device_count() or int(here) + 1)


def _together() -> Any:
    """Return torch's way of talking among the processes, ready to be used."""
    import torch.distributed as together

    if not together.is_initialized():
        together.init_process_group("gloo", timeout=PATIENCE)
    return together
