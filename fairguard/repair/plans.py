"""What was asked for: what repair's plan and prune's have in common, refused here where it is impossible."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self

from fairguard.errors import ConfigError
from fairguard.repair.budget_text import parsed
from fairguard.repair.task import Options


@dataclass(frozen=True, kw_only=True)
class CommonPlan:
    """How to train, and what to write.

    Attributes:
        method: how to select and train; see :data:`fairguard.repair.methods.METHODS`.
        budget: ``1.5x`` of a plain retraining, ``20epochs`` or ``10min``.
        only: groups to constrain, such as ``race=Black``; all where empty.
        amp: ``auto`` (bfloat16 on a GPU that has it), ``bf16`` or ``off``.
        lr: highest learning rate (AdamW).
        resume: continue what was killed, or what was trained for a repair that failed.
        export: ``onnx`` to write that beside it.
        checkpoint_seconds: at most so much work is lost to a kill.
    """

    method: str = "ballot"
    budget: str = "1.5x"
    only: tuple[str, ...] = ()
    amp: str = "auto"
    lr: float = Options.lr
    resume: bool = False
    export: str | None = None
    checkpoint_seconds: float = 20.0

    written: ClassVar[str]
    """What the command calls the file that it writes."""

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Return the plan that options ask for, and take its own out of them."""
        return cls(**{f.name: options.pop(f.name) for f in fields(cls) if f.name in options})

    def __post_init__(self) -> None:
        """Refuse what is impossible before anything is opened."""
        parsed(self.budget)
        if not self.lr > 0:
            raise ConfigError(f"learning rate {self.lr:g}: give a number above 0, such as {Options.lr:g}.")
        if self.amp not in ("auto", "bf16", "off"):
            raise ConfigError(f"amp {self.amp!r}: give auto, bf16 or off.")
        if self.export not in (None, "onnx"):
            raise ConfigError(
                f"export {self.export!r}: onnx is the only kind that can be written beside {self.written}."
            )
