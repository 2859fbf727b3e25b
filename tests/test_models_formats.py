"""The page on formats says what really happens, and what is not opened is called what it is."""

import pickle
from pathlib import Path

import formats_table
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from fairguard.errors import ModelError
from fairguard.inputs.models import load_model


def test_the_page_on_formats_is_what_comes_out() -> None:
    page = formats_table.PAGE.read_text()
    assert formats_table.page() == page, "python tests/formats_table.py > docs/formats.md"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"learner":{"attributes":{},"feature_names":[]}}', "is an XGBoost model"),
        (b"tree\nversion=v4\nnum_class=1\n", "is a LightGBM model"),
        (b'<?xml version="1.0"?>\n<net name="x" version="11">', "is an XML file (OpenVINO?)"),
    ],
)
def test_models_of_other_tools_are_called_what_they_are(content: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ModelError) as told:
        load_model(path)
    assert f"{what}; that is not opened here. Give" in str(told.value)


def test_neighbouring_files_say_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "tree.pkl").write_bytes(pickle.dumps(DecisionTreeClassifier().fit([[0], [1]], [0, 1])))
    with pytest.raises(ModelError, match=r"Either export it to ONNX \(skl2onnx\), or record its answers in a file"):
        load_model(tmp_path / "tree.pkl")
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    torch.save(model.state_dict(), tmp_path / "normed.pt")
    with pytest.raises(ModelError, match="keeps weights with their parametrisation: let the function apply the same"):
        load_model(tmp_path / "normed.pt", factory=lambda: nn.Sequential(nn.Linear(2, 2)))
    pytest.importorskip("transformers")
    (tmp_path / "optimum").mkdir()
    (tmp_path / "optimum" / "config.json").write_text("{}")
    (tmp_path / "optimum" / "model.onnx").write_bytes(b"graph")
    with pytest.raises(ModelError, match=r"holds an ONNX export: give the file itself, .*model\.onnx"):
        load_model(tmp_path / "optimum")
