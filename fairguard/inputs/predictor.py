"""What every model is to the rest of the house: something that gives scores for a batch. Knows no file format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from fairguard.inputs.rows import Batch
from fairguard.verdict import ModelInfo


class ScoreKind(StrEnum):
    """What a model's numbers are."""

    SCORES = "scores"
    """Logits or probabilities, shape (n, K), or (n, 1) for the favourable class of two."""
    LABELS = "labels"
    """Class codes, shape (n,): a file of recorded answers without scores."""


class Predictor(ABC):
    """A model opened for prediction: in eval mode, without gradients, on its device.

    What has a body is what some models know of themselves, and what it is where nobody knows.
    """

    info: ModelInfo
    """What the file is."""
    kind: ScoreKind
    """What :meth:`scores` returns."""

    @abstractmethod
    def scores(self, batch: Batch) -> NDArray[Any]:
        """Return the scores of the batch's rows in their order, shape (n, K), (n, 1) or (n,).

        Raises:
            ModelError: the model does not take such rows, or gives something of another shape.
        """

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Return class names that the file itself fixes (recorded predictions with text labels)."""
        return None

    @property
    def rows(self) -> int | None:
        """Return how many rows the data must have (recorded predictions in the rows' order)."""
        return None

    @property
    def double(self) -> bool:
        """Return whether the model takes numbers with more digits than float32 has."""
        return False

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the inputs, if each is one column of a table; nothing for a matrix."""
        return ()

    @property
    def order(self) -> tuple[str, ...] | None:
        """Return what the model itself calls its outputs, in their order: a proposal, not fixed as ``classes``."""
        return None

    @property
    def net(self) -> Any:
        """Return the ``torch.nn.Module`` behind the scores, where there is one."""
        return None

    @property
    def note(self) -> str:
        """Return what the reader of a verdict should know of the file; mostly nothing."""
        return ""
