"""Batches by name, as collators of transformers give them, and labels that are not one value per row."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from fairguard import check, check_predictions
from fairguard.errors import DataError

N = 400
RNG = np.random.default_rng(0)
IDS = RNG.integers(1, 30, (N, 5))
Y = RNG.integers(0, 2, N)
RACE = RNG.choice(["a", "b"], N)
CASES = [
    {"input_ids": IDS[i], "attention_mask": IDS[i] > 9, "labels": int(Y[i]), "race": RACE[i], "who": i}
    for i in range(N)
]


class Tokens(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        states = self.embed(input_ids)
        return self.head((states if attention_mask is None else states * attention_mask[..., None]).mean(1))


class Late(Tokens):
    def forward(self, input_ids: torch.Tensor, who: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * (who[:, None] - 150)


def loader(*names: str) -> Any:
    return DataLoader([{name: case[name] for name in names} for case in CASES], batch_size=64)


@pytest.mark.parametrize("columns", [("input_ids",), ("input_ids", "attention_mask")])
def test_batches_by_name_are_what_a_tuple_would_be(columns: tuple[str, ...]) -> None:
    x: Any = {"input_ids": IDS, "attention_mask": IDS > 9}
    usual = check(Tokens(0), Tokens(1), ({name: x[name] for name in columns}, Y, {"race": RACE}))
    named = loader(*columns, "labels", "race", "who")
    verdict = check(Tokens(0), Tokens(1), named, label="labels", groups=["race"], id="who")
    assert verdict.overall.accuracy == usual.overall.accuracy
    assert [f.model_dump_json() for f in verdict.findings] == [f.model_dump_json() for f in usual.findings]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({}, "gives a dict of input_ids, labels, race; name its label with --label and its groups with --group"),
        ({"label": "label"}, "has no column 'label'; columns are: input_ids, labels, race. Did you mean 'labels'?"),
        ({"label": "labels"}, "'race' holds text and is no feature; name it with --group"),
        ({"label": "labels", "groups": "rac"}, "has no column 'rac'; columns are: input_ids, labels, race. Did you"),
    ],
)
def test_batches_by_name_need_names(how: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError) as told:
        check(Tokens(0), Tokens(1), loader("input_ids", "labels", "race"), **how)
    assert line in str(told.value)


@pytest.mark.parametrize("features", [False, True])
def test_batches_by_name_are_rows_of_recorded_answers(features: bool, tmp_path: Path) -> None:
    files = []
    for i in range(2):
        files.append(tmp_path / f"{i}.csv")
        pd.DataFrame({"prediction": RNG.integers(0, 2, N)}).to_csv(files[-1], index=False)
    usual = check(*files, (None, Y, {"race": RACE}))
    named = loader(*(["input_ids"] if features else []), "labels", "race")
    verdict = check(*files, named, label="labels", groups=["race"])
    assert [f.model_dump_json() for f in verdict.findings] == [f.model_dump_json() for f in usual.findings]


def test_features_of_batches_by_name_can_be_chosen() -> None:
    usual = check(Tokens(0), Tokens(1), (IDS, Y, {"race": RACE, "who": np.arange(N)}), groups=["race", "who:100"])
    named = loader("input_ids", "attention_mask", "labels", "race", "who")
    how: dict[str, Any] = {"label": "labels", "groups": ["race", "who:100"], "features": ["input_ids"]}
    verdict = check(Tokens(0), Tokens(1), named, **how)
    assert [f.model_dump_json() for f in verdict.findings] == [f.model_dump_json() for f in usual.findings]
    late = Late(0), Late(1)
    x = {"input_ids": IDS, "who": np.arange(N)}
    usual = check(*late, (x, Y, {"who": np.arange(N)}), groups=["who:100"])
    verdict = check(*late, named, **how | {"features": ["input_ids", "who"], "groups": ["who:100"]})
    assert [f.model_dump_json() for f in verdict.findings] == [f.model_dump_json() for f in usual.findings]


@pytest.mark.parametrize(
    ("y", "line"),
    [
        (Y[:, None], "has shape (400, 1); it must have one value per row. Give it as values.ravel()."),
        (np.eye(2)[Y], "These are one-hot: give the classes, values.argmax(1)."),
        (np.column_stack([Y, 1 - Y, Y]), "Of several labels for each row, check one at a time: values[:, 0]."),
        (np.eye(2)[Y] * 0.8 + 0.1, "These are shares of the classes: give the likeliest, values.argmax(1)."),
    ],
)
def test_labels_of_another_shape_say_how_to_flatten_them(y: np.ndarray, line: str) -> None:
    for ask in (
        lambda: check(Tokens(0), Tokens(1), (IDS, y, {"race": RACE})),
        lambda: check(Tokens(0), Tokens(1), [(IDS, torch.tensor(y), {"race": RACE})]),
        lambda: check_predictions(y, Y, Y, {"race": RACE}),
    ):
        with pytest.raises(DataError) as told:
            ask()
        assert line in str(told.value)
