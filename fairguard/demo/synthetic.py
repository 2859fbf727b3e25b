"""Generated applicants with protected groups: not real people, made so that pruning can show all three outcomes.

For most applicants the decision follows the skill columns. For the small group D it follows two columns that mean
nothing for anybody else; a network spends small weights on them, and pruning by magnitude takes those first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairguard.checking import check_predictions
from fairguard.demo.making import prune, save_rows, save_sources, save_state, train
from fairguard.verdict import Outcome

ROWS = 30_000
FEATURES = ["skill_a", "skill_b", "skill_c", "years", "test_score", "referral", "late_skill", "second_degree"]
PRUNED = {"preserved": (0.10, 0), "inconclusive": (0.20, 0), "regressed": (0.75, 1)}
"""Sparsity and epochs of fine-tuning, by the outcome that the usual policy reaches.

The second is where a search begins: how much is too much to clear and too little to condemn differs between trainings.
"""

NETWORK = '''
    """The network of dense.pt and of the pruned files."""

    from torch import nn


    def build():
        return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 2))
'''

SETTINGS = f"""
    # Read by `fairguard check dense.pt pruned_regressed.pt` in this folder. The rows are SYNTHETIC: no real people.
    model = "model.py:build"
    data = "applicants.parquet"
    label = "hired"
    groups = ["sex", "origin"]
    features = {FEATURES}
    id = "applicant"
"""


def build() -> nn.Module:
    """Return the untrained network; ``model.py`` holds the same lines."""
    return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 2))


def applicants(n: int, *, seed: int) -> pd.DataFrame:
    """Return ``n`` generated applicants: features, protected groups and the label ``hired``."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(FEATURES))).astype(np.float32)
    origin = rng.choice(["A", "B", "C", "D"], size=n, p=[0.5, 0.25, 0.17, 0.08])
    usual = 1.5 * x[:, 0] + x[:, 1] + 0.8 * x[:, 2] + 0.6 * x[:, 3] * x[:, 4]
    late = 1.5 * x[:, 6] + 1.2 * x[:, 7]
    x[:, 5] = np.where(origin == "D", 1, -1) * np.abs(x[:, 5])
    x[:, 5:] *= 6  # wide columns need only small weights
    score = np.where(origin == "D", late, usual) + rng.normal(scale=0.5, size=n)
    table = pd.DataFrame(x.astype(np.float32), columns=FEATURES)
    return table.assign(
        applicant=np.arange(n), sex=rng.choice(["F", "M"], size=n), origin=origin, hired=(score > 0.3).astype(np.int64)
    )


def make(folder: Path, *, seed: int = 0) -> tuple[str, list[str]]:
    """Write the demo into ``folder`` and return the names of the dense file and of the pruned ones."""
    save_sources(folder, network=NETWORK, settings=SETTINGS)  # first: the folder is a demo's from now on
    rows = applicants(20_000, seed=seed + 1)
    torch.manual_seed(seed)
    x, y = rows[FEATURES].to_numpy(np.float32), rows["hired"].to_numpy(np.int64)
    dense = train(build(), x, y, epochs=12, seed=seed).state_dict()
    save_state(dense, folder / "dense.pt")
    judged = applicants(ROWS, seed=seed)
    for name, (sparsity, epochs) in PRUNED.items():
        pruned = build()
        pruned.load_state_dict(_undecided(dense, judged) if name == "inconclusive" else prune(dense, sparsity))
        save_state(train(pruned, x, y, epochs=epochs, seed=seed).state_dict(), folder / f"pruned_{name}.pt")
    save_rows(judged, folder / "applicants.parquet")
    return "dense.pt", [f"pruned_{name}.pt" for name in PRUNED]


def _undecided(dense: dict[str, Tensor], rows: pd.DataFrame) -> dict[str, Tensor]:
    """Return ``dense`` pruned by as little as leaves ``rows`` unable to decide; if nothing does, by the most tried."""
    first = PRUNED["inconclusive"][0]
    before, groups = _answers(dense, rows), {name: rows[name] for name in ("sex", "origin")}
    for sparsity in np.arange(first, 0.6, 0.04):
        state = prune(dense, float(sparsity))
        if check_predictions(rows["hired"], before, _answers(state, rows), groups).outcome is Outcome.INCONCLUSIVE:
            break
    return state


def _answers(state: dict[str, Tensor], rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return the class of each row, shape (n,)."""
    network = build()
    network.load_state_dict(state)
    with torch.inference_mode():
        found: NDArray[np.int64] = network(torch.tensor(rows[FEATURES].to_numpy(np.float32))).argmax(1).numpy()
    return found
