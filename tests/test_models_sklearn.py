"""Graphs as exporters of scikit-learn write them: scores by class name, one input a column, text among them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper

from fairguard import check
from fairguard.errors import DataError, ModelError

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


def by_column(path: Path, number: str) -> str:
    """Write a graph of a number and a text: it answers 1 where the text is ``big`` or the number above 2."""
    nodes = [
        helper.make_node("LabelEncoder", ["size_of_it"], ["coded"], domain="ai.onnx.ml", **CODES),
        helper.make_node("Add", ["coded", number], ["sum"]),
    ]
    inputs = [value(number, None, 1), value("size_of_it", None, 1, dtype=TensorProto.STRING)]
    return saved(path, nodes, inputs, [value("sum", None, 1)])


CODES = {"keys_strings": ["big", "small"], "values_floats": [3.0, -2.0], "default_float": 0.0}


@pytest.mark.parametrize("kind", ["csv", "parquet", "category", "memory"])
def test_columns_are_fed_by_name_text_too(kind: str, tmp_path: Path) -> None:
    size = RNG.choice(["big", "small"], N)
    number = RNG.integers(-1, 4, N)
    table = pd.DataFrame({"size-of-it": size, "sex": ROWS["sex"], "other": 1.0, "number": number})
    table = table.assign(label=((size == "big") & (number > -3) | (number > 2)).astype(int))
    path = by_column(tmp_path / "columns.onnx", "number")
    data: Any = table
    if kind == "csv":
        data = tmp_path / "rows.csv"
        table.to_csv(data, index=False)
    elif kind == "parquet":
        data = tmp_path / "rows.parquet"
        table.to_parquet(data)
    elif kind == "category":
        data = table.astype({"size-of-it": "category"})
    assert check(path, path, data, label="label", groups="sex").overall.accuracy.dense == 1
    other = by_column(tmp_path / "other.onnx", "of_no_column")
    with pytest.raises(DataError, match="size-of-it holds no numbers; encode with --transform"):
        check(other, other, data, label="label", groups="sex")
