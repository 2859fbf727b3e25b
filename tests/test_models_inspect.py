"""``inspect_file``: what a file is, what opening it needs and what its weights look like, without running it."""

from pathlib import Path

import model_files
import numpy as np
import onnx
import pytest
import torch
from model_files import HERE, trained

from fairguard.cli import run
from fairguard.errors import ModelError
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model

NET = f"{HERE}:net"


def saved(path: Path, held: object) -> Path:
    torch.save(held, path)
    return path


def test_a_state_dict_without_and_with_its_factory(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", model_files.pruned_by_torch(0.5).state_dict())
    alone = inspect_file(path)
    assert (alone.kind, alone.parameters, alone.runs_code) == ("state dict", 259, False)
    assert alone.needs == "the function that builds the architecture: --model pkg.module:build"
    assert [(layer.name, layer.sparsity, layer.pattern) for layer in alone.layers] == [
        ("fc1.weight", 0.5, "unstructured"),
        ("fc2.weight", 0.0, "dense"),
    ]
    fitting = inspect_file(path, factory=NET)
    assert fitting.needs is None
    assert fitting.architecture == "Linear x2"
    other = inspect_file(path, factory=f"{HERE}:narrow")
    assert other.needs is not None
    assert "fc1.weight (16, 12), the model has (8, 12)" in other.needs


def test_code_is_named_and_not_run(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", trained())
    seen = inspect_file(path)
    assert seen.runs_code
    assert "model_files.Net" in seen.imports
    assert seen.parameters is None
    assert "--trust" in str(seen.needs)
    assert inspect_file(path, trust=True).parameters == 259


def test_patterns_of_every_layer(tmp_path: Path) -> None:
    model = torch.nn.Sequential(*(torch.nn.Linear(32, 32) for _ in range(5)))
    with torch.no_grad():
        model[0].weight[::2] = 0
        model[1].weight[:, ::2] = 0
        model[2].weight.zero_()
        model[3].weight.copy_(torch.randn(32, 3) @ torch.randn(3, 32))
    seen = inspect_file(saved(tmp_path / "m.pt", model.state_dict()))
    assert [layer.pattern for layer in seen.layers] == ["filters", "2:4", "empty", "low-rank", "dense"]


@pytest.mark.parametrize(
    ("form", "quantisation"),
    [
        ("dynamic", "dynamic int8 per tensor: answers depend on the other rows of the batch"),
        ("static QDQ", "static int8 (QDQ)"),
        ("static QOperator", "static int8 (QOperator)"),
    ],
)
def test_quantised_graphs(tmp_path: Path, form: str, quantisation: str) -> None:
    net = model_files.to_onnx(trained(), tmp_path / "net.onnx")
    path = model_files.onnx_int8(net, tmp_path / "int8.onnx", static=form != "dynamic", operators="Op" in form)
    assert inspect_file(path).quantisation == quantisation
    assert inspect_file(net).quantisation is None


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_graphs_with_weights_packed_into_blocks(tmp_path: Path, bits: int, symmetric: bool) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    net = torch.nn.Sequential(torch.nn.Linear(12, 40), torch.nn.ReLU(), torch.nn.Linear(40, 3))
    with torch.no_grad():
        net[0].weight[::2] = 0  # half of the outputs are dead, in any number of bits
    model = onnx.load(model_files.to_onnx(net, tmp_path / "net.onnx"))
    for node in [node for node in model.graph.node if node.op_type == "Gemm"]:  # which it leaves alone
        as_matmul(model.graph, node)
    quantiser = MatMulNBitsQuantizer(model, bits=bits, block_size=16, is_symmetric=symmetric)
    quantiser.process()
    onnx.save(quantiser.model.model, tmp_path / "blocks.onnx")
    seen = inspect_file(tmp_path / "blocks.onnx")
    assert seen.quantisation == f"int{bits} weights (MatMulNBits)"
    assert seen.parameters == inspect_file(tmp_path / "net.onnx").parameters == 12 * 40 + 40 + 40 * 3 + 3
    first, last = seen.layers
    assert (first.shape, first.dtype, first.pattern) == ((40, 12), f"int{bits}", "filters")
    assert (last.shape, last.sparsity < 0.3, last.pattern in ("dense", "rounded")) == ((3, 40), True, True)
    load_model(tmp_path / "blocks.onnx").scores(model_files.rows())


def as_matmul(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Put a MatMul and an Add in the place of a Gemm that transposes its weights."""
    at = next(i for i, tensor in enumerate(graph.initializer) if tensor.name == node.input[1])
    weights = onnx.numpy_helper.to_array(graph.initializer[at]).T.copy()
    graph.initializer[at].CopyFrom(onnx.numpy_helper.from_array(weights, node.input[1]))
    product = f"{node.output[0]}_product"
    parts = [
        onnx.helper.make_node("MatMul", list(node.input[:2]), [product]),
        onnx.helper.make_node("Add", [product, node.input[2]], list(node.output)),
    ]
    place = list(graph.node).index(node)
    nodes = [*graph.node[:place], *parts, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)


def test_blocks_that_do_not_fit_are_passed_over_or_refused(tmp_path: Path) -> None:
    def graph(outputs: int, zero_points: int, block: int = 16) -> Path:
        held = {"w": np.zeros((4, 1, 8) if block > 1 else 0, np.uint8), "s": np.ones((4, 1), np.float32)}
        held["z"] = np.zeros(zero_points, np.uint8)
        sizes = {"N": outputs, "K": 12, "bits": 4, "block_size": block}
        node = onnx.helper.make_node("MatMulNBits", ["x", "w", "s", "z"], ["y"], domain="com.microsoft", **sizes)
        x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy")
        tensors = [onnx.numpy_helper.from_array(array, name) for name, array in held.items()]
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], tensors)), tmp_path / "g.onnx")
        return tmp_path / "g.onnx"

    (layer,) = inspect_file(graph(4, 4)).layers
    assert (layer.shape, layer.sparsity) == ((4, 12), 1.0)
    assert inspect_file(graph(10**9, 4)).layers == (), "sizes that the file does not have"
    nothing = inspect_file(graph(10**9, 4, block=1))
    assert (nothing.layers, nothing.parameters) == ((), 8), "blocks of half a byte"
    with pytest.raises(ModelError, match=r"zero points of weight 'w' do not fit it\. Export it again"):
        inspect_file(graph(4, 3))


def test_weights_alone_that_are_dequantised(tmp_path: Path) -> None:
    net = onnx.load(model_files.to_onnx(trained(), tmp_path / "net.onnx"))
    tensor = next(tensor for tensor in net.graph.initializer if len(tensor.dims) == 2)
    integers = np.ones(tuple(tensor.dims), np.int8)
    scale = onnx.numpy_helper.from_array(np.float32(0.1), "scale")
    net.graph.node.insert(0, onnx.helper.make_node("DequantizeLinear", ["integers", "scale"], [tensor.name]))
    net.graph.initializer.remove(tensor)
    net.graph.initializer.extend([onnx.numpy_helper.from_array(integers, "integers"), scale])
    onnx.save(net, tmp_path / "only.onnx")
    assert inspect_file(tmp_path / "only.onnx").quantisation == "int8 weights (QDQ)"


def test_quantised_modules(tmp_path: Path) -> None:
    dynamic = model_files.dynamic_int8(trained())
    state = inspect_file(saved(tmp_path / "state.pt", dynamic.state_dict()))
    assert state.quantisation == "qint8 weights"
    assert [layer.shape for layer in state.layers] == [(16, 12), (3, 16)]
    whole = inspect_file(saved(tmp_path / "whole.pt", dynamic), trust=True)
    assert whole.quantisation == "qint8 weights, dynamic activations"


def test_recorded_answers(tmp_path: Path) -> None:
    model_files.MAKERS["answers.parquet"](tmp_path / "a")
    assert inspect_file(tmp_path / "a").answers == "60 answers (labels), joined by id, classes a, b, c"
    np.savez(tmp_path / "b.npz", logits=np.zeros((2, 5, 3)), models=np.array(["dense", "pruned"]))
    assert (
        inspect_file(f"{tmp_path / 'b.npz'}::pruned").answers
        == "5 answers (scores of 3 outputs), joined by the row's number"
    )


def test_the_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", model_files.pruned_by_torch(0.5).state_dict())
    seen = inspect_file(path)
    assert seen.lines() == [
        f"{path}: state dict, {path.stat().st_size / 1000:.1f} kB",
        f"  sha256        {seen.sha256}",
        "  runs code     no",
        "  needs         the function that builds the architecture: --model pkg.module:build",
        "  weights       259 parameters, 40.0 % of the weights zero",
        "    fc1.weight  16x12  float32  50.0 %  unstructured",
        "    fc2.weight  3x16   float32   0.0 %  dense",
    ]


def test_a_file_of_no_known_kind(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"\x89HDF\r\n" + bytes(100))
    with pytest.raises(ModelError, match="an HDF5 file"):
        inspect_file(tmp_path / "m.pt")


def test_the_command_goes_on_after_a_file_that_it_cannot_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = saved(tmp_path / "a.pt", trained().state_dict()), saved(tmp_path / "c.pt", trained(1).state_dict())
    assert run(["inspect", str(first), str(tmp_path / "b.pt"), str(last)]) == 2
    said = capsys.readouterr()
    assert f"{first}: state dict" in said.out
    assert f"{last}: state dict" in said.out
    assert said.err.startswith(f"fairguard: error: {tmp_path / 'b.pt'} does not exist.")
    assert len(said.err.splitlines()) == 1
    assert run(["inspect", str(first), "--limit", "1MiB"]) == 0
    assert run(["inspect", str(first), "--limit", "lots"]) == 2
