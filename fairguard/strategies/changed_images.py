"""Real images under small changes that leave their label as it is. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from numpy.typing import ArrayLike, NDArray

from fairguard.errors import ConfigError, DataError

Channels = Literal["first", "last"]


@dataclass(frozen=True)
class ChangedImage:
    """A real image and what was done to it; prints as the change, not as its pixels.

    Attributes:
        row: which of the images.
        original: the image as it is, of the shape and dtype of the images.
        down: pixels that it was moved down; negative: up.
        right: pixels that it was moved to the right; negative: to the left.
        brightness: what was added, as a share of the images' range.
        contrast: 0.1 stretches by a tenth around the image's own mean.
        noise: standard deviation of the noise added, as a share of the images' range.
        seed: seed of that noise.
    """

    row: int
    original: NDArray[Any] = field(repr=False, compare=False)
    limits: tuple[float, float] = field(repr=False, compare=False)
    channels: Channels = field(repr=False, compare=False)
    down: int = 0
    right: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @property
    def pixels(self) -> NDArray[Any]:
        """Return the changed image, of the original's shape and dtype and within the images' range."""
        low, high = self.limits
        moved = _moved(self.original, self.down, self.right, self.channels).astype(np.float64)
        mean = moved.mean()
        changed = (moved - mean) * (1 + self.contrast) + mean + self.brightness * (high - low)
        if self.noise:
            changed += np.random.default_rng(self.seed).normal(0, self.noise * (high - low), changed.shape)
        if np.issubdtype(self.original.dtype, np.integer):
            changed = changed.round()
        pixels: NDArray[Any] = changed.clip(low, high).astype(self.original.dtype)
        return pixels


def images(
    pictures: ArrayLike,
    *,
    max_shift: int = 2,
    max_brightness: float = 0.1,
    max_contrast: float = 0.1,
    max_noise: float = 0.02,
    channels: Channels = "last",
) -> SearchStrategy[ChangedImage]:
    """Return a strategy of real images, each moved, brightened, stretched in contrast and with noise.

    Every change is bounded, so that the label stays what it was; the bounds that are right depend on the task. A
    changed image shrinks toward the real one, one change after the other.

    Args:
        pictures: shape (n, H, W) or (n, H, W, C), or (n, C, H, W) with ``channels="first"``; uint8 or floats.
        max_shift: pixels in each direction; the border is repeated.
        max_brightness: share of the images' range (255 for uint8, highest less lowest for floats).
        max_contrast: 0.1 stretches or flattens by a tenth.
        max_noise: standard deviation, as a share of the images' range.
        channels: where the channels are.

    Raises:
        DataError: there are no images, or they are of another shape.
        ConfigError: a bound is negative.
    """
    array = np.asarray(pictures)
    if array.ndim not in (3, 4) or not len(array):
        raise DataError(f"images of shape {array.shape}; give (n, H, W), (n, H, W, C) or (n, C, H, W), n at least 1.")
    bounds = (max_shift, max_brightness, max_contrast, max_noise)
    if min(bounds) < 0:
        raise ConfigError(f"the bounds of changes are {bounds}; none can be negative.")
    limits = (0.0, 255.0) if array.dtype == np.uint8 else (float(array.min()), float(array.max()))
    return _changed(array, limits, channels, bounds)


@st.composite
def _changed(
    draw: DrawFn,
    array: NDArray[Any],
    limits: tuple[float, float],
    channels: Channels,
    bounds: tuple[int, float, float, float],
) -> ChangedImage:
    row = draw(st.integers(0, len(array) - 1))
    shift, brightness, contrast, noise = bounds
    return ChangedImage(
        row=row,
        original=array[row],
        limits=limits,
        channels=channels,
        down=draw(st.integers(-shift, shift)),
        right=draw(st.integers(-shift, shift)),
        brightness=draw(st.floats(-brightness, brightness)),
        contrast=draw(st.floats(-contrast, contrast)),
        noise=draw(st.floats(0, noise)),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def _moved(image: NDArray[Any], down: int, right: int, channels: Channels) -> NDArray[Any]:
    """Return the image moved, its border repeated where nothing was."""
    rows = 1 if channels == "first" and image.ndim == 3 else 0
    height, width = image.shape[rows], image.shape[rows + 1]
    at_rows = np.clip(np.arange(height) - down, 0, height - 1)
    at_columns = np.clip(np.arange(width) - right, 0, width - 1)
    return image.take(at_rows, axis=rows).take(at_columns, axis=rows + 1)
