"""What was asked for, of a repair or of a pruning, refused here where it is impossible."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from fairguard.errors import ConfigError, did_you_mean
from fairguard.repair.budget_text import parsed
from fairguard.repair.constraints import Reference
from fairguard.repair.methods import METHODS, method_named
from fairguard.repair.methods.names import ONE_SHOT
from fairguard.repair.task import Options

WRITES = ("keep_best", "export")
"""Options of what is written, not of how it is trained: with others of them a run goes on all the same."""


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

    @property
    def work(self) -> str:
        """Return the name of the method that runs."""
        return self.method

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


@dataclass(frozen=True, kw_only=True)
class RepairPlan(CommonPlan):
    """How to repair, beside what every plan says.

    Attributes:
        sparsity: another sparsity than PRUNED's, a fraction of the masked tensors.
        keep_mask: retrain under PRUNED's own mask.
        frontier: try several trade-offs and report them all.
        accuracy_floor: overall accuracy that may be lost against PRUNED, a fraction; against dense where PRUNED gave
            up a class for its own.
        compile: run the network through ``torch.compile``.
        keep_best: write the best candidate even if it is not repaired.
    """

    sparsity: float | None = None
    keep_mask: bool = False
    frontier: bool = False
    accuracy_floor: float = 0.005
    compile: bool = False
    keep_best: bool = False

    written = "FAIR"

    def __post_init__(self) -> None:
        """Refuse what is impossible before anything is opened."""
        if self.keep_mask and self.method not in (RepairPlan.method, "keep-mask"):
            raise ConfigError(
                f"--keep-mask retrains under PRUNED's own mask: leave it out, or leave out --method {self.method}."
            )
        if self.work == "keep-mask" and self.sparsity is not None:
            raise ConfigError("--keep-mask keeps PRUNED's sparsity too: leave out --sparsity or --keep-mask.")
        if self.work not in METHODS:
            method_named(self.work)  # says which there are
        if self.sparsity is not None and not 0 < self.sparsity < 1:
            raise ConfigError(f"sparsity {self.sparsity:g}: give a share of zeros above 0 and below 1, such as 0.9.")
        if not 0 <= self.accuracy_floor <= 1:
            raise ConfigError(f"accuracy floor {self.accuracy_floor:g}: give a share from 0 to 1, such as 0.005.")
        super().__post_init__()

    @property
    def work(self) -> str:
        """Return the name of the method that runs."""
        return "keep-mask" if self.keep_mask else self.method

    def unusual(self, sparsity: float) -> tuple[str, ...]:
        """Return the options, as typed, that train otherwise than usual, or for more zeros than PRUNED's share."""
        other = [] if self.method == RepairPlan.method else [f"--method {self.method}"]
        asked = [] if self.sparsity is None or self.sparsity <= sparsity else [f"--sparsity {self.sparsity:g}"]
        rate = [] if self.lr == RepairPlan.lr else [f"--lr {self.lr:g}"]
        return (*rate, *(["--keep-mask"] if self.keep_mask else other), *asked)


@dataclass(frozen=True, kw_only=True)
class PrunePlan(CommonPlan):
    """How to prune, beside what every plan says; ``method`` may be ``one-shot`` too.

    Attributes:
        sparsity: share of the weights (matrices and kernels; no biases, norms or embeddings) that are to be zero.
        scope: ``global`` where layers compete for weights, ``layer`` where each keeps the same share.
        reference: ``dense``: no group is to lose more than the others; ``equal``: all are to be equally right.
    """

    sparsity: float
    scope: Literal["global", "layer"] = "global"
    reference: Reference = "dense"

    written = "OUT"

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Self:
        """Return the plan that options ask for, and take its own out of them.

        Raises:
            ConfigError: no sparsity is among them, or what they ask for is impossible.
        """
        if options.get("sparsity") is None:
            raise ConfigError("no sparsity: say which share of the weights is to be zero; 0.9 zeroes nine of ten.")
        return super().taken_from(options)

    def __post_init__(self) -> None:
        """Refuse what is impossible before anything is opened."""
        if not 0 < self.sparsity < 1:
            raise ConfigError(f"sparsity {self.sparsity:g}: give a share between 0 and 1; 0.9 zeroes nine of ten.")
        if self.method not in (known := (ONE_SHOT, *METHODS)):
            hint = did_you_mean(self.method, known) or f" Methods: {', '.join(known)}."
            raise ConfigError(f"unknown method {self.method!r}.{hint}")
        if self.reference not in ("dense", "equal"):
            raise ConfigError(
                f"reference {self.reference!r}: dense (no group loses more) or equal (all equally right)."
            )
        super().__post_init__()
        if self.scope not in ("global", "layer"):
            raise ConfigError(f"scope {self.scope!r}: global (layers compete for weights) or layer.")
