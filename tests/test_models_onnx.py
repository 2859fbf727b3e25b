"""The door for models, ONNX: onnxruntime's scores equal torch's; quantised, fixed-batch and external graphs open."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_files
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from model_files import expected, rows, trained
from onnx import TensorProto, helper

from fairguard.checking import check
from fairguard.errors import ModelError
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.limits import Limits
from fairguard.inputs.models import load_model
from fairguard.inputs.onnx_models import provider_options, threads


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_files.to_onnx(trained(), tmp_path_factory.mktemp("onnx") / "net.onnx")


def graph(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any] = ()) -> Path:
    made = helper.make_graph(nodes, "g", inputs, outputs, list(weights))
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def value(name: str, *shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def test_scores_equal_torch(net: Path) -> None:
    model = load_model(net)
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-6)
    assert (model.info.kind, model.info.parameters, model.info.dtype) == ("ONNX", 259, "float32")
    assert model.info.provider == "CPUExecutionProvider"


def test_any_name_will_do(net: Path, tmp_path: Path) -> None:
    shutil.copy(net, tmp_path / "net.pt")
    assert load_model(tmp_path / "net.pt").info.kind == "ONNX"


@pytest.mark.parametrize("batch", [1, 7, 60, 64])
def test_a_fixed_batch_size_is_filled_up(tmp_path: Path, batch: int) -> None:
    model = load_model(model_files.to_onnx(trained(), tmp_path / "fixed.onnx", batch=batch))
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-6)
    np.testing.assert_allclose(model.scores(rows(3, start=50)), expected()[50:53], atol=1e-6)


def test_weights_in_a_file_beside_the_graph(tmp_path: Path) -> None:
    path = model_files.to_onnx(trained(), tmp_path / "net.onnx", external=True)
    assert (tmp_path / "net.onnx.data").exists()
    model = load_model(path)
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-6)
    assert model.info.parameters == 259
    os.rename(tmp_path / "net.onnx.data", tmp_path / "elsewhere")
    with pytest.raises(ModelError, match=r"needs the data file net\.onnx\.data beside it"):
        load_model(path)
    (tmp_path / "net.onnx.data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="outside the model's folder or behind a link"):
        load_model(path)


@pytest.mark.parametrize("form", ["dynamic", "static QDQ", "static QOperator"])
def test_int8_of_onnxruntime(net: Path, tmp_path: Path, form: str) -> None:
    path = model_files.onnx_int8(net, tmp_path / "int8.onnx", static=form != "dynamic", operators="Op" in form)
    model = load_model(path)
    assert {layer.dtype for layer in model.info.layers} == {"int8"}
    assert {layer.shape for layer in model.info.layers} == {(16, 12), (3, 16)}
    assert np.abs(model.scores(rows()) - expected()).max() < 0.1


def test_half_precision_graphs(tmp_path: Path) -> None:
    weights = helper.make_tensor("w", TensorProto.FLOAT16, [12, 3], np.ones((12, 3), dtype=np.float16))
    half = TensorProto.FLOAT16
    path = graph(
        tmp_path / "half.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "n", 12, dtype=half)],
        [value("y", "n", 3, dtype=half)],
        [weights],
    )
    scores = load_model(path).scores(rows())
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, rows().x.sum(1, keepdims=True).repeat(3, 1), atol=0.05)


@pytest.fixture
def two_inputs(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["logits"], keepdims=0),
    ]
    table = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    weights = [
        helper.make_tensor("table", TensorProto.FLOAT, [20, 3], table),
        helper.make_tensor("last", TensorProto.INT64, [1], [2]),
        helper.make_tensor("middle", TensorProto.INT64, [1], [1]),
    ]
    inputs = [value("ids", "n", "t", dtype=TensorProto.INT64), value("mask", "n", "t")]
    return graph(tmp_path / "two.onnx", nodes, inputs, [value("logits", "n", 3), value("kept", "n", "t", 3)], weights)


def test_several_inputs_and_outputs(two_inputs: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 20, (7, 5))
    mask = np.ones((7, 5), dtype=np.int64)
    model = load_model(two_inputs)
    by_name = model.scores(rows(7, x={"mask": mask, "ids": ids.astype(np.int32)}))
    np.testing.assert_array_equal(by_name, model.scores(rows(7, x=(ids, mask))))
    np.testing.assert_array_equal(by_name, model.scores(rows(7, x=(ids.astype(float), mask))))
    with pytest.raises(ModelError, match=r"takes ids, mask; the rows give ids, masks\. Did you mean 'masks'"):
        model.scores(rows(7, x={"ids": ids, "masks": mask}))
    with pytest.raises(ModelError, match="takes 2 inputs"):
        model.scores(rows(7, x=ids))
    with pytest.raises(ModelError, match="input 'ids' takes int64, the rows do not fit"):
        model.scores(rows(7, x=(ids + 0.5, mask)))
    assert load_model(two_inputs, output_key="kept").scores(rows(7, x=(ids, mask))).shape == (7, 5, 3)
    with pytest.raises(ModelError, match="has no output 'logit'; choose one with --output-key: logits, kept"):
        load_model(two_inputs, output_key="logit")


def test_an_output_may_be_named_by_its_number(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["good"]), helper.make_node("Neg", ["x"], ["bad"])]
    outputs = [value("good", "n", 2), value("bad", "n", 2)]
    path = graph(tmp_path / "two.onnx", nodes, [value("x", "n", 2)], outputs)
    y = np.arange(100) % 2
    x = np.eye(2, dtype=np.float32)[y]
    for model in (path, lambda batch: (batch, -batch)):
        for key, accuracy in ((0, 1.0), (1, 0.0), ("1", 0.0)):
            verdict = check(model, model, (x, y, {"g": np.arange(100) // 50}), output_key=key)
            assert verdict.overall.accuracy.dense == accuracy
    with pytest.raises(ModelError, match="has no output '2'"):
        check(path, path, (x, y, {"g": y}), output_key=2)


def test_a_single_input_needs_no_name(net: Path) -> None:
    named = load_model(net).scores(rows(x={"features": rows().x}))
    np.testing.assert_allclose(named, expected(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:, :9], "input 'x' takes rows of shape (12), these have (9,)"),
        (lambda x: (x * 9).astype(np.uint8), "the rows are uint8 (images not yet scaled?)"),
        (lambda x: x.astype(object), "not numbers"),
        (lambda x: x[:, None], "takes rows of shape (12)"),
    ],
)
def test_rows_that_do_not_fit(net: Path, change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(net).scores(rows(x=change(rows().x)))


def test_whole_numbers_become_what_the_graph_takes(net: Path) -> None:
    x = np.arange(60 * 12).reshape(60, 12)
    np.testing.assert_array_equal(
        load_model(net).scores(rows(x=x)), load_model(net).scores(rows(x=x.astype(np.float32)))
    )


def test_an_output_of_unexpected_shape(tmp_path: Path) -> None:
    path = graph(
        tmp_path / "sum.onnx",
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
        [value("x", "n", 12)],
        [value("y")],
    )
    with pytest.raises(ModelError, match=r"gives an output of shape \(\) for 60 rows"):
        load_model(path).scores(rows())


def test_the_provider_is_the_one_asked_for(net: Path) -> None:
    assert load_model(net, provider="CPUExecutionProvider").info.provider == "CPUExecutionProvider"
    with pytest.raises(ModelError, match=r"--provider cpuu: onnxruntime has .*cpu.* here\. Did you mean 'cpu'"):
        load_model(net, provider="cpuu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ModelError, match="--provider cuda: onnxruntime has"):
            load_model(net, provider="cuda")


def test_a_loop_without_end_is_stopped(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c_out"]), helper.make_node("Identity", ["v"], ["v_out"])],
        "body",
        [value("i", dtype=TensorProto.INT64), value("c", dtype=TensorProto.BOOL), value("v", "n", 12)],
        [value("c_out", dtype=TensorProto.BOOL), value("v_out", "n", 12)],
    )
    count = helper.make_tensor("n", TensorProto.INT64, [], [2**62])
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    path = graph(
        tmp_path / "loop.onnx",
        [helper.make_node("Loop", ["n", "yes", "x"], ["y"], body=body)],
        [value("x", "n", 12)],
        [value("y", "n", 12)],
        [count, yes],
    )
    with pytest.raises(ModelError, match="its loop took longer than allowed"):
        load_model(path, limits=Limits(run_seconds=0.2)).scores(rows())


def test_pruned_graphs_show_their_zeros(tmp_path: Path) -> None:
    pruned = trained()
    pruned.fc1.weight.data[:8] = 0
    model = load_model(model_files.to_onnx(pruned, tmp_path / "net.onnx"))
    layers = {layer.name: layer for layer in model.info.layers}
    assert layers["fc1.weight"].pattern == "filters"
    assert layers["fc1.weight"].sparsity == 0.5
    assert model.info.sparsity == pytest.approx(0.4)


def test_models_that_share_a_graph_and_differ_in_the_file_beside_it(tmp_path: Path) -> None:
    """Pruning a model with external data may leave the graph as it is: only the other file changes."""
    for name in ("dense", "pruned"):
        (tmp_path / name).mkdir()
    model_files.to_onnx(trained(), tmp_path / "dense" / "net.onnx", external=True)
    for name in ("net.onnx", "net.onnx.data"):
        shutil.copy(tmp_path / "dense" / name, tmp_path / "pruned" / name)
    pruned_data = bytearray((tmp_path / "pruned" / "net.onnx.data").read_bytes())
    pruned_data[:400] = bytes(400)
    (tmp_path / "pruned" / "net.onnx.data").write_bytes(pruned_data)
    dense, pruned = (load_model(tmp_path / name / "net.onnx").info for name in ("dense", "pruned"))
    assert dense.sha256 != pruned.sha256
    assert dense.size == sum(file.stat().st_size for file in (tmp_path / "dense").iterdir())
    seen = inspect_file(tmp_path / "pruned" / "net.onnx")
    assert (seen.sha256, seen.size) == (pruned.sha256, pruned.size)


def test_weights_in_constant_nodes_are_seen(net: Path, tmp_path: Path) -> None:
    model = onnx.load(net)
    constants = [helper.make_node("Constant", [], [held.name], value=held) for held in model.graph.initializer]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "constants.onnx")
    found, reference = load_model(tmp_path / "constants.onnx"), load_model(net)
    assert found.info.layers == reference.info.layers
    assert found.info.parameters == reference.info.parameters
    np.testing.assert_array_equal(found.scores(rows()), reference.scores(rows()))


def test_graphs_say_what_they_take_and_give(two_inputs: Path, net: Path) -> None:
    seen = inspect_file(two_inputs)
    assert (seen.takes, seen.gives) == (
        "ids int64 (n, t), mask float32 (n, t)",
        "logits float32 (n, 3), kept float32 (n, t, 3)",
    )
    assert seen.needs is None  # `logits` is clear
    assert inspect_file(net).takes == "x float32 (rows, 12)"


def test_types_that_the_provider_lacks_are_named_with_a_way_out(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [12, 3], [1.0] * 36)
    kind = TensorProto.BFLOAT16
    path = graph(
        tmp_path / "bf16.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", "n", 12, dtype=kind)],
        [value("y", "n", 3, dtype=kind)],
        [weight],
    )
    with pytest.raises(ModelError, match=r"Could not find an implementation .*\. Export the model in float32"):
        load_model(path)


def test_one_thread_where_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    assert threads() == os.cpu_count()


TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "MASTER_ADDR": "here", "WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "0"}


@pytest.mark.parametrize("provider", ["CUDAExecutionProvider", "TensorrtExecutionProvider"])
def test_a_numbered_gpu_is_the_one_that_runs(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def number(device: str) -> str | None:
        return provider_options(provider, device).get("device_id")

    assert [number(device) for device in ("auto", "cuda", "cuda:1")] == [None, None, "1"]
    for name, text in TORCHRUN.items():
        monkeypatch.setenv(name, text)
    for local in range(2 * max(torch.cuda.device_count(), 1)):
        monkeypatch.setenv("LOCAL_RANK", str(local))
        own = str(local % (torch.cuda.device_count() or 99))
        assert [number(device) for device in ("auto", "cuda", "cuda:1")] == [own, own, "1"]
    assert provider_options("CPUExecutionProvider", "cuda:1") == {}


@pytest.mark.skipif("CUDAExecutionProvider" not in onnxruntime.get_available_providers(), reason="needs a GPU")
def test_the_session_is_on_that_gpu(net: Path) -> None:
    session = load_model(net, device=f"cuda:{torch.cuda.device_count() - 1}").session
    known = session.get_provider_options()["CUDAExecutionProvider"]
    assert (known["device_id"], known["use_tf32"]) == (str(torch.cuda.device_count() - 1), "0")
    with pytest.raises(ModelError, match="onnxruntime cannot open it"):
        load_model(net, device="cuda:99")
