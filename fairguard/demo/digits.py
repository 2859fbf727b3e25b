"""scikit-learn's handwritten digits: pruned so hard that some digits suffer far more than others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from fairguard.demo.making import prune, save_rows, save_sources, save_state, train

SPARSITY = 0.65

NETWORK = '''
    """The network of dense.pt and pruned.pt."""

    from torch import nn


    def build():
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
'''

SETTINGS = """
    # Read by `fairguard check dense.pt pruned.pt` in this folder.
    model = "model.py:build"
    data = "test.parquet"
    label = "digit"
    groups = ["class"]   # each digit is a group: the class-wise fairness of the Ballot paper

    # Some 90 test rows a digit cannot certify the usual margin of 2 points, whatever the model: even without one flip
    # they leave drops of 3 points possible. 10 points is what these rows can carry.
    margin = 0.10
"""


def build() -> nn.Module:
    """Return the untrained network; ``model.py`` holds the same lines."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def make(folder: Path, *, seed: int = 0) -> tuple[str, str]:
    """Write the demo into ``folder`` and return the names of the dense and the pruned model file.

    Half of the 1,797 digits are for training (``train.parquet``), half for the check (``test.parquet``).
    """
    from sklearn.datasets import load_digits

    save_sources(folder, network=NETWORK, settings=SETTINGS)  # first: the folder is a demo's from now on
    images, digits = load_digits(return_X_y=True)
    x, y = (images / 16).astype(np.float32), digits.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(y))
    half = len(y) // 2
    for name, rows in (("train", order[:half]), ("test", order[half:])):
        table = pd.DataFrame(x[rows], columns=[f"pixel_{i:02d}" for i in range(64)])
        save_rows(table.assign(digit=y[rows]), folder / f"{name}.parquet")
    torch.manual_seed(seed)
    dense = train(build(), x[order[:half]], y[order[:half]], epochs=60, seed=seed)
    save_state(dense.state_dict(), folder / "dense.pt")
    save_state(prune(dense.state_dict(), SPARSITY), folder / "pruned.pt")
    return "dense.pt", "pruned.pt"
