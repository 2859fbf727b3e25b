"""Rows from the user's own loaders, which crop, flip or noise at random: repeatable, resumable, and told."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, WeightedRandomSampler

from fairguard.checking import check
from fairguard.demo import digits
from fairguard.errors import DataError
from fairguard.inputs.data import open_data
from fairguard.repair.pruning import prune
from fairguard.repair.repairing import repair

HOW: dict[str, Any] = {
    "data": "test.parquet",
    "label": "digit",
    "groups": ("class",),
    "model": digits.build,
    "margin": 0.1,
    "device": "cpu",
    "budget": "2epochs",
}
OWN = np.random.default_rng(0)
DRAWS: dict[str, Callable[[], float]] = {
    "torch": lambda: float(torch.rand(())),
    "numpy": lambda: float(np.random.rand()),
    "python": random.random,
}


class Digits(Dataset[Any]):
    """Handwritten digits from a file, each a bit darker or lighter at random."""

    def __init__(self, file: str, draw: Callable[[], float]) -> None:
        table = pd.read_parquet(file)
        self.y = table.pop("digit").to_numpy()
        self.x, self.draw = torch.tensor(table.to_numpy(), dtype=torch.float32), draw

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> Any:
        return self.x[i] * (1 + 0.1 * self.draw()), int(self.y[i]), {"half": i % 2}


def train(draw: Callable[[], float] = DRAWS["torch"]) -> DataLoader[Any]:
    return DataLoader(Digits("train.parquet", draw), batch_size=64, shuffle=True)


class Stream(IterableDataset[Any]):
    """Rows in an order of their own, whatever the loader."""

    def __iter__(self) -> Iterator[Any]:
        rows = Digits("train.parquet", lambda: 0.0)
        return (rows[i] for i in torch.randperm(len(rows)).tolist())


class Shuffled(Sampler[int]):
    """Rows in an order that torch does not know of."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(len(pd.read_parquet("train.parquet"))).tolist())


def read(source: Any) -> torch.Tensor:
    return torch.cat([torch.as_tensor(batch.x) for batch in source.batches(100)])


@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.usefixtures("inside")
def test_every_reading_draws_alike_and_nobody_else_is_disturbed(kind: str) -> None:
    source = open_data(train(DRAWS[kind]), groups=["class"])
    assert source.drawn == "by seed"
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    expected = [draw() for draw in DRAWS.values()]
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    first = read(source)
    assert [draw() for draw in DRAWS.values()] == expected
    assert torch.equal(first, read(source))
    assert not torch.equal(first, read(open_data(train(DRAWS[kind]), groups=["class"], seed=7)))


@pytest.mark.usefixtures("inside")
def test_rows_that_a_sampler_or_a_stream_chooses_are_the_same_in_every_reading() -> None:
    """Which row is the fifth must not change: by its number it is trained on, or kept for the proof."""
    data = Digits("train.parquet", lambda: 0.0)
    for loader in (DataLoader(data, 64, sampler=Shuffled()), DataLoader(Stream(), 64)):
        source: Any = open_data(loader, groups=["class"])
        assert source.drawn == "by seed"
        assert torch.equal(read(source), read(source))


@pytest.mark.usefixtures("inside")
def test_a_sampler_that_balances_a_training_set_repeats_no_row() -> None:
    data = Digits("train.parquet", lambda: 0.0)
    balanced = WeightedRandomSampler(1.0 / np.bincount(data.y)[data.y], len(data))
    source = open_data(DataLoader(data, 64, sampler=balanced), groups=["class"])
    assert source.drawn == ""
    assert torch.equal(read(source), data.x)


@pytest.mark.usefixtures("inside")
def test_rows_without_chance_are_not_suspected() -> None:
    for loader in (train(lambda: 0.0), Digits("train.parquet", lambda: 0.0), [([[float("nan")]], [1], {"g": ["a"]})]):
        assert open_data(loader, groups=["class"]).drawn == ""
    assert open_data("train.parquet", label="digit", groups=["class"]).drawn == ""


@pytest.mark.usefixtures("inside")
def test_a_generator_of_its_own_is_told_apart() -> None:
    assert open_data(train(OWN.random), groups=["class"]).drawn == "anew"


def weights(file: str) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)


@pytest.mark.usefixtures("inside")
def test_one_seed_gives_one_model_and_a_kill_loses_nothing() -> None:
    how = HOW | {"train": train, "keep_best": True, "checkpoint_seconds": 0.0}
    once = repair("dense.pt", "pruned.pt", "once.pt", **how)
    assert any("loader of the rows to train on changes them at random" in note for note in once.notes)
    assert not any("to resume" in note or "generator of its own" in note for note in once.notes)

    def stop(status: object) -> None:
        raise KeyboardInterrupt

    torch.rand(3)  # another process begins with other numbers
    with pytest.raises(KeyboardInterrupt):
        repair("dense.pt", "pruned.pt", "again.pt", tell=stop, **how)
    torch.rand(3)
    repair("dense.pt", "pruned.pt", "again.pt", resume=True, **how)
    assert all(torch.equal(tensor, weights("again.pt")[name]) for name, tensor in weights("once.pt").items())


@pytest.mark.usefixtures("inside")
def test_pruning_on_a_random_loader_is_repeatable_and_told() -> None:
    how = {key: value for key, value in HOW.items() if key != "data"} | {"sparsity": 0.5, "method": "magnitude"}
    for name in ("first.pt", "second.pt"):
        report = prune("dense.pt", name, train=train(), data="test.parquet", **how)
        assert any("rows to train on changes them at random" in note for note in report.notes)
    assert all(torch.equal(tensor, weights("second.pt")[name]) for name, tensor in weights("first.pt").items())


@pytest.mark.usefixtures("inside")
def test_a_sampler_that_training_does_not_follow_is_told_once() -> None:
    data = Digits("train.parquet", lambda: 0.0)
    balanced = DataLoader(data, 64, sampler=WeightedRandomSampler(1.0 / np.bincount(data.y)[data.y], len(data)))
    told = "WeightedRandomSampler of the data repeats rows or leaves rows out: it was not followed"
    given: list[dict[str, Any]] = [{"train": balanced}, {"data": balanced, "train": None}]
    for rows in given:
        report = repair("dense.pt", "pruned.pt", "b.pt", **HOW | {"method": "bias-shift"} | rows)
        assert len([note for note in report.notes if told in note]) == 1
    how = {key: value for key, value in HOW.items() if key != "data"} | {"sparsity": 0.5, "method": "magnitude"}
    assert told in " ".join(prune("dense.pt", "p.pt", train=balanced, data="test.parquet", **how).notes)


@pytest.mark.usefixtures("inside")
def test_a_check_on_random_rows_warns_and_is_repeatable() -> None:
    how = {key: value for key, value in HOW.items() if key not in ("data", "label", "budget")}
    rows = Digits("test.parquet", DRAWS["torch"])
    first, second = (check("dense.pt", "pruned.pt", rows, **how) for _ in range(2))
    assert any("changes them at random" in warning for warning in first.warnings)
    assert first.findings == second.findings
    plain = check("dense.pt", "pruned.pt", Digits("test.parquet", lambda: 0.0), **how)
    assert not any("at random" in warning for warning in plain.warnings)


@pytest.mark.usefixtures("inside")
def test_a_function_that_chooses_rows_at_random_chooses_the_same() -> None:
    """In the next process too, or no run could be gone on with."""
    Path("chosen.py").write_text(
        "import random, numpy as np, pandas as pd, torch\n"
        "def rows():\n"
        "    table = pd.read_parquet('test.parquet').sample(800, random_state=np.random.randint(1000))\n"
        "    table = table.iloc[random.sample(range(800), 700)].iloc[torch.randperm(700)[:600].numpy()]\n"
        "    return table\n"
    )
    how = {key: value for key, value in HOW.items() if key not in ("data", "budget")}
    first = check("dense.pt", "pruned.pt", "chosen.py:rows", **how)
    for draw in DRAWS.values():
        draw()
    assert check("dense.pt", "pruned.pt", "chosen.py:rows", **how).findings == first.findings
    assert check("dense.pt", "pruned.pt", "chosen.py:rows", seed=1, **how).findings != first.findings


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))


def people(n: int, seed: int, *, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Rows of two classes in two groups; a ``shift`` of the features is what another normalisation does."""
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=chance)
    y = (x[:, :4].sum(1) + torch.randn(n, generator=chance) > 0).long()
    return x + shift, y, {"group": ["ab"[i % 2] for i in range(n)]}


@pytest.fixture
def two_classes() -> tuple[nn.Module, nn.Module]:
    """A net that was taught plainly, and its half with the smallest weights gone."""
    torch.manual_seed(0)
    dense, (x, y, _) = small(), people(4000, 0)
    optimiser = torch.optim.Adam(dense.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(dense(x), y).backward()
        optimiser.step()
    pruned = small()
    pruned.load_state_dict(dense.state_dict())
    with torch.no_grad():
        for weight in (p for p in pruned.parameters() if p.dim() > 1):
            weight[weight.abs() < weight.abs().median()] = 0
    return dense, pruned


@pytest.mark.parametrize("door", ["repair", "prune"])
def test_rows_that_dense_does_not_know_are_told(
    door: str, two_classes: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    dense, pruned = two_classes
    for shift, told in ((0.6, True), (0.0, False)):
        rows = {"train": people(3000, 1, shift=shift), "data": people(2000, 2)}
        how = rows | {"groups": ("group",), "budget": "1epochs", "margin": 0.001, "device": "cpu"}
        if door == "repair":
            notes = repair(dense, pruned, tmp_path / "fair.pt", method="keep-mask", keep_best=True, **how).notes
        else:
            notes = prune(dense, tmp_path / "out.pt", method="magnitude", sparsity=0.5, **how).notes
        assert any("are not as dense knows them" in note for note in notes) is told


def in_batches(rows: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Return rows as a loader gives them, whose labels have no names."""
    x, y, groups = rows
    return [(x[i : i + 250], y[i : i + 250], {"group": groups["group"][i : i + 250]}) for i in range(0, len(y), 250)]


@pytest.mark.parametrize(
    ("door", "part", "kind", "shown"),
    [
        ("repair", "train", in_batches, "5"),
        ("repair", "tune", in_batches, "5"),
        ("repair", "train", tuple, "'5'"),
        ("prune", "train", in_batches, "5"),
    ],
)
def test_a_label_that_no_model_knows_is_refused_with_its_row(
    door: str,
    part: str,
    kind: Callable[..., Any],
    shown: str,
    two_classes: tuple[nn.Module, nn.Module],
    tmp_path: Path,
) -> None:
    dense, pruned = two_classes
    rows = {"train": people(3000, 1), "data": people(2000, 2), "tune": people(1000, 3)}
    rows[part][1][7] = 5
    given = {name: kind(some) for name, some in rows.items() if door == "repair" or name != "tune"}
    how = given | {"groups": ("group",), "budget": "1epochs", "margin": 0.001, "device": "cpu"}
    said = rf"the {'training' if part == 'train' else part} rows have label {shown} \(row 7\); the models' .* 0, 1\."
    work: Callable[..., Any] = repair if door == "repair" else prune
    models = (dense, pruned) if door == "repair" else (dense,)
    how |= {} if door == "repair" else {"sparsity": 0.5}
    with pytest.raises(DataError, match=said):
        work(*models, tmp_path / "fair.pt", **how)


def test_labels_of_the_verify_rows_change_nothing_of_what_is_written(
    two_classes: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    dense, pruned = two_classes
    train, verify = people(3000, 1, shift=0.6), people(2000, 2)
    other = (verify[0], np.roll(verify[1], 1), *verify[2:])
    how = {"groups": ("group",), "budget": "1epochs", "margin": 0.001, "device": "cpu", "keep_best": True}
    found = []
    for place, rows in enumerate((verify, other)):
        repair(dense, pruned, tmp_path / f"{place}.pt", method="keep-mask", train=train, data=rows, **how)
        found.append(torch.load(tmp_path / f"{place}.pt", weights_only=True))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
