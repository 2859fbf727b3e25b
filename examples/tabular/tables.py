"""The two tables: which columns the network sees, how they become numbers, and the network itself.

`fairguard check` imports this file for `--model tables.py:build_compas` and `--transform tables.py:encode_compas`.
"""

import numpy as np
import pandas as pd
from torch import nn

COMPAS_NUMBERS = ["age", "priors_count", "juv_fel_count", "juv_misd_count", "juv_other_count"]
ADULT_NUMBERS = ["age", "education-num", "capital-gain", "capital-loss", "hours-per-week"]
ADULT_CATEGORIES = {
    "workclass": ["Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov"],
    "marital-status": ["Married-civ-spouse", "Never-married", "Divorced", "Separated", "Widowed"],
    "occupation": ["Tech-support", "Craft-repair", "Sales", "Exec-managerial", "Prof-specialty", "Adm-clerical"],
    "relationship": ["Husband", "Wife", "Own-child", "Not-in-family", "Unmarried"],
}


def encode_compas(table: pd.DataFrame) -> np.ndarray:
    """Return the features of COMPAS rows, shape (n, 6)."""
    numbers = table[COMPAS_NUMBERS].to_numpy(np.float32)
    felony = (table["c_charge_degree"] == "F").to_numpy(np.float32)
    return np.column_stack([numbers / np.array([50, 10, 1, 1, 1], np.float32), felony]).astype(np.float32)


def encode_adult(table: pd.DataFrame) -> np.ndarray:
    """Return the features of Adult rows, shape (n, 27): scaled numbers and one column per category."""
    numbers = table[ADULT_NUMBERS].fillna(0).to_numpy(np.float32, copy=True)
    numbers[:, 2:4] = np.log1p(numbers[:, 2:4])
    scaled = numbers / np.array([50, 10, 10, 10, 40], np.float32)
    flags = [table[column] == value for column, values in ADULT_CATEGORIES.items() for value in values]
    return np.column_stack([scaled, *flags]).astype(np.float32)


def build_compas() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))


def build_adult() -> nn.Module:
    return nn.Sequential(nn.Linear(27, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 2))
