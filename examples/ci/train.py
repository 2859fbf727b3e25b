"""Train the network on SYNTHETIC applicants (no real people), prune it, and write dense.pt, pruned.pt and val.parquet.

python train.py                  a pruned model that treats all groups alike
python train.py --sparsity 0.85  one that fails the small group that needs its smallest weights
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from model import build

from fairguard.demo.making import prune, save_rows, save_state, train
from fairguard.demo.synthetic import FEATURES, applicants


def main(sparsity: float) -> None:
    rows = applicants(20_000, seed=1)
    x, y = rows[FEATURES].to_numpy(np.float32), rows["hired"].to_numpy(np.int64)
    torch.manual_seed(0)
    dense = train(build(), x, y, epochs=12, seed=0).state_dict()
    pruned = build()
    pruned.load_state_dict(prune(dense, sparsity))
    save_state(dense, Path("dense.pt"))
    epochs = 1 if sparsity > 0.5 else 0  # a light pruning needs no fine-tuning
    save_state(train(pruned, x, y, epochs=epochs, seed=0).state_dict(), Path("pruned.pt"))
    save_rows(applicants(60_000, seed=0), Path("val.parquet"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sparsity", type=float, default=0.1)
    main(parser.parse_args().sparsity)
