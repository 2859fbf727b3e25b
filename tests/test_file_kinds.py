"""A kind of file is one member, one line that recognises it and one opener; without an opener it is named, not broken.

A broken torch file is what an unknown kind was once reported as.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fairguard.errors import ModelError
from fairguard.inputs import models, recorded_files
from fairguard.inputs.detect import RECORDED, RUNS_CODE, Found, Kind, detect
from fairguard.inputs.limits import DEFAULT
from fairguard.inputs.trusted import REMEDY


def test_every_kind_has_an_opener() -> None:
    assert set(models.OPENERS) == set(Kind)
    assert set(recorded_files.OPENERS) == RECORDED
    assert set(REMEDY) == RUNS_CODE


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_without_an_opener_is_told_by_name(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez(tmp_path / "a.npz", labels=np.arange(3))
    found = replace(detect(tmp_path / "a.npz"), kind=kind)
    monkeypatch.setattr(models, "detect", lambda path, limits: found)
    monkeypatch.delitem(models.OPENERS, kind)
    with pytest.raises(ModelError, match=rf"a\.npz is {kind}, which nothing here opens"):
        models.load_model(tmp_path / "a.npz", trust=True)


def test_recorded_answers_of_a_kind_without_a_reader_are_not_called_broken(tmp_path: Path) -> None:
    found = Found(tmp_path / "x", Kind.ONNX, 1)
    with pytest.raises(KeyError, match="ONNX"):
        recorded_files.open_recorded(found, models.ModelInfo(kind="predictions"), name=None, limits=DEFAULT)


@pytest.mark.parametrize("name", ["one.csv", "one.onnx"])
def test_a_name_where_a_file_holds_one_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    if name == "one.csv":
        path.write_text("prediction\n1\n0\n")
    else:
        torch.onnx.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),), str(path), dynamo=False)
    with pytest.raises(ModelError, match="only npz files"):
        models.load_model(f"{path}::second")
