"""Graphs as exporters of scikit-learn write them: scores by class name, one input a column, text among them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from fairguard import check
from fairguard.errors import ModelError

N = 300
RNG = np.random.default_rng(0)
ROWS = pd.DataFrame({"x": RNG.normal(size=N), "sex": RNG.choice(["F", "M"], N)})
ROWS = ROWS.assign(label=(ROWS["x"] > 0).astype(int))
HOW: dict[str, Any] = {"data": ROWS, "label": "label", "groups": "sex", "features": ["x"]}


def saved(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> str:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return str(path)


def value(name: str, *shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def zipped(path: Path, **names: Any) -> str:
    """Write a graph that gives the scores -x and x by the names of their classes."""
    nodes = [
        helper.make_node("Neg", ["x"], ["minus"]),
        helper.make_node("Concat", ["minus", "x"], ["scores"], axis=1),
        helper.make_node("ArgMax", ["scores"], ["output_label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["scores"], ["output_probability"], domain="ai.onnx.ml", **names),
    ]
    key = TensorProto.STRING if "classlabels_strings" in names else TensorProto.INT64
    row = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    scores = helper.make_value_info("output_probability", helper.make_sequence_type_proto(row))
    label = value("output_label", None, dtype=TensorProto.INT64)
    return saved(path, nodes, [value("x", None, 1)], [label, scores])


@pytest.mark.parametrize("names", [{"classlabels_int64s": [0, 1]}, {"classlabels_strings": ["no", "yes"]}])
def test_scores_by_class_name_are_scores(names: dict[str, Any], tmp_path: Path) -> None:
    path = zipped(tmp_path / "zipmap.onnx", **names)
    assert check(path, path, **HOW, output_key="output_probability").overall.accuracy.dense == 1
    assert check(path, path, **HOW, output_key="output_label").overall.accuracy.dense == 1
    with pytest.raises(ModelError, match="several outputs; choose one with --output-key: output_label, output_prob"):
        check(path, path, **HOW)


def test_a_key_is_for_the_model_that_has_several_outputs(tmp_path: Path) -> None:
    several = zipped(tmp_path / "several.onnx", classlabels_int64s=[0, 1])
    one = saved(
        tmp_path / "one.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", None, 1)],
        [value("y", None, 1)],
    )
    accuracy = check(several, one, **HOW, output_key="output_label").overall.accuracy
    assert (accuracy.dense, accuracy.pruned) == (1, 1)
