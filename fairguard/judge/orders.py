"""The order of classes in which answers fit labels best. Knows numbers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def best_assignment(worth: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column of each row, shape (K,), every column once, whose entries in ``worth`` (K, K) sum highest."""
    _, columns = linear_sum_assignment(worth, maximize=True)
    return np.asarray(columns, dtype=np.int64)
