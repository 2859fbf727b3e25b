"""What every model is to the rest of the house: something that gives scores for a batch. Knows no file format."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from fairguard.inputs.rows import Batch
from fairguard.verdict import ModelInfo


class ScoreKind(StrEnum):
    """What a model's numbers are."""

    SCORES = "scores"
    """Logits or probabilities, shape (n, K), or (n, 1) for the favourable class of two."""
    LABELS = "labels"
    """Class codes, shape (n,): a file of recorded answers without scores."""


@runtime_checkable
class Predictor(Protocol):
    """A model opened for prediction: in eval mode, without gradients, on its device.

    Attributes:
        info: what the file is.
        kind: what :meth:`scores` returns.
        classes: class names that the file itself fixes (recorded predictions with text labels), else ``None``.
        rows: how many rows the data must have (recorded predictions in the rows' order), else ``None``.
    """

    @property
    def info(self) -> ModelInfo: ...  # noqa: D102

    @property
    def kind(self) -> ScoreKind: ...  # noqa: D102

    @property
    def classes(self) -> tuple[str, ...] | None: ...  # noqa: D102

    @property
    def rows(self) -> int | None: ...  # noqa: D102

    def scores(self, batch: Batch) -> NDArray[Any]:
        """Return the scores of the batch's rows in their order, shape (n, K), (n, 1) or (n,).

        Raises:
            ModelError: the model does not take such rows, or gives something of another shape.
        """
        ...
