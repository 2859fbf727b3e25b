"""Weights that onnxruntime packs into blocks of few bits (``MatMulNBits``), as language models are shipped."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPERATOR = "MatMulNBits"
BITS = (2, 4, 8)


def sizes_of(node: Any, packed: Any) -> tuple[int, int, int, int] | None:
    """Return what a node says of its weights: outputs, inputs, bits, block; ``None`` where its tensor is another."""
    said = {attribute.name: int(attribute.i) for attribute in node.attribute}
    outputs, inputs, bits, block = (said.get(name, 0) for name in ("N", "K", "bits", "block_size"))
    bits = bits or 4
    if bits not in BITS or min(outputs, inputs, block) < 1 or block * bits % 8:
        return None
    fits = math.prod(packed.dims) == outputs * -(-inputs // block) * (block * bits // 8)
    return (outputs, inputs, bits, block) if fits and packed.data_type == packed.UINT8 else None


def unpacked(bytes_: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return the numbers in the last dimension's bytes, the lowest bits first."""
    places = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (bytes_[..., None] >> places) & np.uint8(2**bits - 1)
    return np.asarray(numbers.reshape(*bytes_.shape[:-1], -1), dtype=np.uint8)


def integers_of(sizes: tuple[int, int, int, int], packed: NDArray[Any], zeros: NDArray[Any] | None) -> NDArray[Any]:
    """Return the integers that are multiplied by a scale each, shape (outputs, inputs): 0 is a weight of zero.

    Args:
        sizes: as :func:`sizes_of` gives them.
        packed: the bytes, of any shape.
        zeros: what stands for zero in each block, packed as they are, or as plain numbers; the middle if not given.
    """
    outputs, inputs, bits, block = sizes
    blocks = -(-inputs // block)
    values = unpacked(packed.reshape(outputs, blocks, -1), bits).astype(np.float32)
    zero: Any = 2 ** (bits - 1)
    if zeros is not None and zeros.dtype == np.uint8:
        zero = unpacked(zeros.reshape(outputs, -1), bits)[:, :blocks, None]
    elif zeros is not None:
        zero = zeros.reshape(outputs, blocks, 1).astype(np.float32)
    return np.asarray((values - zero).reshape(outputs, -1)[:, :inputs])
