"""Train a network on COMPAS or Adult, prune it, and leave files for `fairguard check`.

    python examples/tabular/train.py compas --sparsity 0.7 OUT

The data's folder is taken from FAIRGUARD_DATA. OUT gets dense.pt, pruned.pt, test.parquet (rows that training never
saw) and a fairguard.toml, so that `cd OUT && fairguard check dense.pt pruned.pt` works.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import tables
import torch
from torch import nn

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FAIRGUARD_DATA", HERE.parents[2] / "shared" / "data"))
BUILD = {"compas": tables.build_compas, "adult": tables.build_adult}
ENCODE = {"compas": tables.encode_compas, "adult": tables.encode_adult}


def rows_of(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test rows."""
    table = pd.read_csv(DATA / f"{name}.csv.gz")
    if name == "compas":
        table = table[table["propublica_filter"] == 1].drop(columns=["decile_score", "score_text", "v_decile_score"])
        train = np.random.default_rng(0).random(len(table)) < 0.5
    else:
        train = (table["split"] == "train").to_numpy()
        table = table.drop(columns=["split", "fnlwgt"])
    return table[train], table[~train]


def trained(model: nn.Module, x: np.ndarray, y: np.ndarray, *, epochs: int) -> nn.Module:
    features, labels = torch.tensor(x), torch.tensor(y)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(features[rows]), labels[rows]).backward()
            optimiser.step()
    return model.eval()


def pruned(state: dict[str, torch.Tensor], sparsity: float) -> dict[str, torch.Tensor]:
    """Zero the smallest weights of each matrix: one-shot, per layer, as many tools do."""
    result = {}
    for name, weight in state.items():
        size = weight.abs().flatten()
        cut = size.kthvalue(max(1, int(sparsity * len(size)))).values
        result[name] = weight * (weight.abs() > cut) if weight.dim() > 1 else weight
    return result


SETTINGS = """\
model = "tables.py:build_{name}"
transform = "tables.py:encode_{name}"
data = "test.parquet"
label = "label"
groups = ["race", "sex"]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=list(BUILD))
    parser.add_argument("out", type=Path)
    parser.add_argument("--sparsity", type=float, default=0.7)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    train, test = rows_of(options.name)
    model = trained(BUILD[options.name](), ENCODE[options.name](train), train["label"].to_numpy(np.int64), epochs=15)
    torch.save(model.state_dict(), options.out / "dense.pt")
    torch.save(pruned(model.state_dict(), options.sparsity), options.out / "pruned.pt")
    test.to_parquet(options.out / "test.parquet", index=False)
    shutil.copy(HERE / "tables.py", options.out / "tables.py")
    (options.out / "fairguard.toml").write_text(SETTINGS.format(name=options.name))
    print(f"{len(train):,} training and {len(test):,} test rows")
    print(f"now: cd {options.out} && fairguard check dense.pt pruned.pt")


if __name__ == "__main__":
    main()
