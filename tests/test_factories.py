"""Objects that a user names, ``path.py:name``: what they import is found beside them, when it is and not before."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fairguard.checking import check
from fairguard.fuzz.asking import replay
from fairguard.inputs.data import open_data
from fairguard.schema import Schema

CODE = '''"""What imports its neighbour only when it runs."""


def net():
    import torch
    from {beside} import WIDTH

    return torch.nn.Linear(WIDTH, 2)


def halved(table):
    from {beside} import WIDTH

    return table[["f0", "f1"]].to_numpy("float32") / WIDTH


def generated():
    from {beside} import rows

    yield from rows()


class Lazy:
    def __len__(self):
        return 40

    def __getitem__(self, i):
        from {beside} import rows

        return [*rows()][i // 10][0][i % 10], i % 2, {{"sex": "FM"[i % 2]}}


def dataset():
    from torch.utils.data import Dataset

    return type("Rows", (Lazy, Dataset), {{}})()


def table():
    import pandas
    from {beside} import WIDTH

    return pandas.DataFrame({{"f0": [WIDTH, 2.0] * 20, "f1": [1.0, 4.0] * 20, "y": [0, 1] * 20, "sex": [*"FM"] * 20}})


def leaves():
    import sys

    found = [*generated()]
    sys.path.pop(0)
    return found
'''
NET = {"weight": torch.eye(2), "bias": torch.zeros(2)}
BESIDE = """import numpy

WIDTH = 2


def rows():
    for start in range(0, 40, 10):
        numbers = numpy.arange(start, start + 10)
        yield numpy.ones((10, 2), "float32") * numbers[:, None], numbers % 2, {"sex": numpy.array([*"FM"] * 5)}
"""


@pytest.fixture
def code(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the file with the code, with a neighbour that no other test has imported."""
    beside = f"beside_{request.node.name.translate(str.maketrans('[].', '___'))}"
    (tmp_path / f"{beside}.py").write_text(BESIDE)
    (tmp_path / "code.py").write_text(CODE.format(beside=beside))
    return str(tmp_path / "code.py")


@pytest.mark.parametrize("name", ["generated", "dataset", "leaves"])
def test_rows_may_import_when_they_are_read(code: str, name: str) -> None:
    before = [*sys.path]
    source = open_data(f"{code}:{name}", groups=["sex"])
    if name != "leaves":
        assert sys.path == before, "only while the user's code runs"
    x = np.concatenate([np.asarray(batch.x) for batch in source.batches(7)])
    np.testing.assert_array_equal(x[:, 0], np.arange(40))


def test_a_factory_and_a_transform_may_import_when_they_are_called(code: str, tmp_path: Path) -> None:
    before = [*sys.path]
    torch.save(NET, tmp_path / "net.pt")
    how = {"label": "y", "groups": ["sex"], "transform": f"{code}:halved", "model": f"{code}:net"}
    verdict = check(tmp_path / "net.pt", tmp_path / "net.pt", f"{code}:table", **how)
    assert verdict.overall.n == 40
    assert sys.path == before
    assert sys.modules[f"beside_{test_a_factory_and_a_transform_may_import_when_they_are_called.__name__}"]


def test_what_varies_rows_and_replays_them_calls_so_too(code: str, tmp_path: Path) -> None:
    assert len(Schema.of(f"{code}:table", label="y", groups=["sex"], transform=f"{code}:halved")) == 40
    torch.save(NET, file := tmp_path / "net.pt")
    how = {"types": {"f0": "double", "f1": "double"}, "classes": ("0", "1"), "model": f"{code}:net"}
    said = replay(file, file, [{"f0": 1.0, "f1": 2.0}], transform=f"{code}:halved", **how)
    assert said.dense.codes.shape == (1,)
