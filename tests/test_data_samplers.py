"""The rows that a DataLoader's samplers choose: each once, whatever they are named by and whoever asks for them."""

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from test_data_loaders import SEXES, N, People, rows, told
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from fairguard.checking import check
from fairguard.inputs.data import open_data

RESAMPLING = {
    "weights": WeightedRandomSampler([0.9, 0.1] * (N // 2), N),
    "replacement": RandomSampler(People(), replacement=True),
    "a few": RandomSampler(People(), num_samples=10),
    "a share": DistributedSampler(People(), num_replicas=4, rank=1),
}


@pytest.mark.parametrize("sampler", RESAMPLING.values(), ids=RESAMPLING)
@pytest.mark.parametrize("batched", [False, True])
def test_rows_that_a_sampler_repeats_or_leaves_out_are_judged_once(sampler: Any, batched: bool) -> None:
    how: Any = {"batch_sampler": BatchSampler(sampler, 8, True)} if batched else {"batch_size": 8, "sampler": sampler}
    loader = DataLoader(People(), **how)
    x, _, groups = rows(open_data(loader, groups=["sex"]))
    np.testing.assert_array_equal(x[:, 0], np.arange(N))
    assert groups == SEXES
    verdict = check(scores, scores, loader, groups=["sex"])
    assert verdict.overall.n == N
    said = f"the {type(sampler).__name__} of the data repeats rows or leaves rows out: it was not followed"
    assert any(warning.startswith(said) and f"each of the {N} rows" in warning for warning in verdict.warnings)


def scores(x: torch.Tensor) -> torch.Tensor:
    """Answers every row with its label."""
    return -((x % 3 - torch.arange(3.0)) ** 2) + x / 100


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        (SubsetRandomSampler([9, 3, 4]), [3, 4, 9]),
        (SubsetRandomSampler(torch.tensor([9, 3, 4])), [3, 4, 9]),  # type: ignore[arg-type]
        (WeightedRandomSampler([0, 0, 1, 2, 3] + [0] * (N - 5), N), [2, 3, 4]),
        (RandomSampler(range(4)), [0, 1, 2, 3]),
        ([5, 2, 8], [5, 2, 8]),
    ],
    ids=["subset", "tensor", "weights", "source", "own"],
)
def test_a_sampler_that_chooses_rows_is_obeyed(sampler: Any, expected: list[int]) -> None:
    source = open_data(DataLoader(People(), batch_size=2, sampler=sampler, drop_last=True), groups=["sex"])
    for _ in range(2):
        assert rows(source)[0][:, 0].tolist() == expected
    verdict = check(scores, scores, DataLoader(People(), batch_size=2, sampler=SubsetRandomSampler([9, 3, 4])))
    assert not any("sampler" in warning.lower() for warning in verdict.warnings)


def test_a_sampler_of_ones_own_that_repeats_rows_is_refused() -> None:
    line = "the sampler of the data gives row 3 of the data set twice, and a row counts once; give the data set itself"
    assert line in told(DataLoader(People(), batch_size=2, sampler=[1, 3, 4, 3]))
    assert line in told(DataLoader(People(), batch_sampler=[[1, 3], [4, 3]]))
    assert line in told(DataLoader(People(), batch_sampler=torch.tensor([[1, 3], [4, 3]])))  # type: ignore[arg-type]
    assert line in told(DataLoader(People(), batch_size=2, sampler=[1, 3, 4, 3], num_workers=1))


class Sliced(Dataset[Any]):
    """Gives the rows of a slice, a mask or a list at once."""

    def __len__(self) -> int:
        return N

    def __getitem__(self, at: Any) -> Any:
        return (
            torch.arange(N).float()[at][:, None].expand(-1, 3),
            (np.arange(N) % 3)[at],
            {"sex": np.array(SEXES)[at, 0]},
        )


class Keyed(People):
    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key["row"] if isinstance(key, dict) else key[0] * 10 + key[1])


class Iterators:
    """A batch sampler whose batches can be read once."""

    def __iter__(self) -> Iterator[Iterator[int]]:
        return (iter(range(i, i + 10)) for i in range(0, N, 10))


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Sliced(), batch_size=None, sampler=[slice(0, 20), slice(20, 40), slice(40, None)]),  # type: ignore[list-item]
        DataLoader(Sliced(), batch_size=None, sampler=[np.arange(N) < 20, np.arange(N) >= 20]),  # type: ignore[list-item]
        DataLoader(Sliced(), batch_size=None, sampler=[range(20), list(range(20, N))]),  # type: ignore[list-item]
        DataLoader(Keyed(), batch_size=7, sampler=[{"row": i} for i in range(N)]),  # type: ignore[list-item]
        DataLoader(Keyed(), batch_size=7, sampler=[(i // 10, i % 10) for i in range(N)]),  # type: ignore[list-item]
        DataLoader(Keyed(), batch_sampler=[({"row": i}, {"row": i + 1}) for i in range(0, N, 2)]),  # type: ignore[list-item]
        DataLoader(People(), batch_sampler=Iterators()),  # type: ignore[arg-type]
    ],
    ids=["slices", "masks", "ranges", "dicts", "tuples", "batches of dicts", "iterators"],
)
def test_whatever_a_sampler_names_rows_by_is_followed(loader: Any) -> None:
    source = open_data(loader, groups=["sex"])
    for _ in range(2):
        x, _, groups = rows(source)
        assert x[:, 0].tolist() == list(range(N))
        assert groups == SEXES


def test_rows_given_twice_are_found_in_slices_and_tuples() -> None:
    line = "gives row 3 of the data set twice"
    for chosen in ([slice(0, 4), slice(3, 9)], [slice(0, 4), [3, 9]], [np.arange(N) < 4, np.arange(N) == 3]):
        assert line in told(DataLoader(Sliced(), batch_size=None, sampler=chosen))  # type: ignore[arg-type]
    assert line in told(DataLoader(People(), batch_sampler=[(1, 3, 3)]))  # type: ignore[list-item]
    assert line in told(DataLoader(People(), batch_sampler=[(1, 3), (4, 3)]))  # type: ignore[list-item]


class Endlessly:
    """Repeats a sampler, as loaders do that keep their workers between epochs."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from iter(self.sampler)


class KeepsWorkers(DataLoader[Any]):
    """Counts on what its own batch sampler is, and on its parts."""

    def __init__(self, data: Any, **how: Any) -> None:
        super().__init__(data, **how)
        object.__setattr__(self, "batch_sampler", Endlessly(self.batch_sampler))
        self.kept = super().__iter__()

    def __len__(self) -> int:
        return len(self.batch_sampler.sampler)  # type: ignore[union-attr,attr-defined]

    def __iter__(self) -> Any:
        return (next(self.kept) for _ in range(len(self)))


class Counted(DataLoader[Any]):
    """Gives as many batches as its batch sampler says that it has, which is one that can be copied and sent."""

    def __iter__(self) -> Any:
        sampler: Any = pickle.loads(pickle.dumps(copy.deepcopy(self.batch_sampler)))
        assert sampler.colour == "red"
        return itertools.islice(super().__iter__(), len(sampler))


class Red(BatchSampler):
    colour = "red"


class RedOfOnesOwn(Red):
    def __iter__(self) -> Any:
        return iter(list(super().__iter__()))


@pytest.mark.parametrize("how", [{}, {"num_workers": 1}, {"shuffle": True, "drop_last": True}])
def test_a_loader_that_draws_on_its_own_is_refused(how: dict[str, Any]) -> None:
    assert "draws its rows with an iterator of its own" in told(KeepsWorkers(People(), batch_size=8, **how))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_of_ones_own_finds_its_batch_sampler(workers: int) -> None:
    for kind in (Red, RedOfOnesOwn):
        loader = Counted(People(), batch_sampler=kind(SequentialSampler(People()), 8, False), num_workers=workers)
        assert rows(open_data(loader, groups=["sex"]))[0][:, 0].tolist() == list(range(N))
