"""The network of dense.pt and pruned.pt."""

from torch import nn


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 2))
