"""What repair cannot help: quantised weights, other networks, nothing pruned. No check advises it then.

A network with a large and a small weight: eight bits for both leave nothing of the small one, which one group needs.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard.cli import run
from fairguard.inputs.quantised import quantised_weight

needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="extra [torchao] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

NETS = """
import torch
from torch import nn

def build(): return nn.Sequential(nn.Linear(2, 2))
def dynamic(): return torch.ao.quantization.quantize_dynamic(build().eval(), {nn.Linear}, dtype=torch.qint8)
def factored(): return nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2))
"""


def dense() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2))
    net.load_state_dict({"0.weight": torch.tensor([[0.0, 0.0], [10.0, 0.02]]), "0.bias": torch.tensor([0.0, 0.0])})
    return net.eval()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """A folder with rows, of which women are told apart by the small weights alone, and the dense network."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    sex = rng.choice(["F", "M"], 4_000)
    rows = pd.DataFrame({"a": np.where(sex == "F", 0.0, rng.choice([-1.0, 1.0], 4_000)), "b": rng.normal(size=4_000)})
    rows = rows.astype(np.float32)
    x = torch.tensor(rows.to_numpy())
    with torch.no_grad():
        rows.assign(sex=sex, label=dense()(x).argmax(1).numpy()).to_csv("rows.csv", index=False)
    Path("nets.py").write_text(NETS)
    torch.save(dense().state_dict(), "dense.pt")
    return x


def dynamic(x: torch.Tensor) -> list[str]:
    net = torch.ao.quantization.quantize_dynamic(dense(), {nn.Linear}, dtype=torch.qint8)
    torch.save(net.state_dict(), "pruned.pt")
    return ["--model-pruned", "nets.py:dynamic"]


def script(x: torch.Tensor) -> list[str]:
    net = torch.ao.quantization.quantize_dynamic(dense(), {nn.Linear}, dtype=torch.qint8)
    torch.jit.save(torch.jit.trace(net, x[:4]), "pruned.pt")
    return ["--trust"]


def static(x: torch.Tensor) -> list[str]:
    net = torch.ao.quantization.QuantWrapper(dense()).eval()
    net.qconfig = torch.ao.quantization.default_qconfig
    net = torch.ao.quantization.prepare(net)
    net(x)
    torch.save(torch.ao.quantization.convert(net), "pruned.pt")
    return ["--trust"]


def torchao(x: torch.Tensor) -> list[str]:
    from torchao import quantization

    net = dense()
    quantization.quantize_(net, quantization.Int8WeightOnlyConfig())
    torch.save(net.state_dict(), "pruned.pt")
    return []


def of_another_shape(x: torch.Tensor) -> list[str]:
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 2))
    net.load_state_dict(
        {"0.weight": torch.tensor([[1.0, 0.0]])} | {"1.weight": torch.tensor([[0.0], [10.0]]), "1.bias": torch.zeros(2)}
    )
    torch.save(net.state_dict(), "pruned.pt")
    return ["--model-pruned", "nets.py:factored"]


def not_pruned(x: torch.Tensor) -> list[str]:
    net = dense()
    net[0].bias.data[1] = 0.02
    torch.save(net.state_dict(), "pruned.pt")
    return []


QUANTISED = "next: quantise it otherwise (calibrate on rows of every group, a scale per channel"


@pytest.mark.parametrize(
    ("compress", "step", "refusal"),
    [
        (dynamic, QUANTISED, "are quantised (0.weight): nothing can be trained in them"),
        (static, QUANTISED, "are quantised (module.0.weight): nothing can be trained in them"),
        (script, QUANTISED, "are quantised (0.weight): nothing can be trained in them"),
        pytest.param(
            torchao, QUANTISED, "are quantised (0.weight): nothing can be trained in them", marks=needs_torchao
        ),
        (of_another_shape, "next: compress it less, or train it further: repair moves zeros between", "structurally"),
        (not_pruned, "next: compress it less, or train it further: no weight was pruned", "no mask to repair"),
    ],
)
def test_no_repair_is_advised_that_would_be_refused(
    compress: Callable[[torch.Tensor], list[str]],
    step: str,
    refusal: str,
    project: torch.Tensor,
    capsys: pytest.CaptureFixture[str],
) -> None:
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex", *compress(project)]
    assert run(["check", "dense.pt", "pruned.pt", *how]) == 1
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert told.startswith(step), told
    assert "fairguard repair" not in told
    assert run(["repair", "dense.pt", "pruned.pt", "-o", "fair.pt", *how]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert refusal in said
    assert ("quantise it otherwise" in said) is ("are quantised" in said)


def test_what_was_pruned_is_repaired_as_ever(project: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    net = dense()
    net[0].weight.data[1, 1] = 0
    torch.save(net.state_dict(), "pruned.pt")
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    assert run(["check", "dense.pt", "pruned.pt", *how]) == 1
    assert "next: fairguard repair dense.pt pruned.pt" in capsys.readouterr().out


def test_the_repair_advised_writes_over_nothing(project: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither over PRUNED, which would be refused, nor over what another repair has made."""
    net = dense()
    net[0].weight.data[1, 1] = 0
    torch.save(net.state_dict(), "fair.pt")
    Path("fair-2.pt").touch()
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    assert run(["check", "dense.pt", "fair.pt", *how]) == 1
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert told.startswith("next: fairguard repair dense.pt fair.pt -o fair-3.pt ")
    torch.save({"ema": net.state_dict()}, "both.bin")
    assert run(["check", "dense.pt", "both.bin::ema", *how]) == 1
    assert "next: fairguard repair dense.pt both.bin::ema -o fair.bin " in capsys.readouterr().out


def test_an_export_is_repaired_before_it(project: torch.Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    net = dense()
    net[0].weight.data[1, 1] = 0
    torch.onnx.export(net, (project[:4],), "pruned.onnx", dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), dynamo=True)
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    assert run(["check", "dense.pt", "pruned.onnx", *how]) == 1
    assert "next: repair the network that was exported, from its weights: fairguard repair" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("scale", "bias", "step"),
    [
        (1.0, 0.02, "next: compress it less, or train it further: no weight was pruned to zero"),
        (1e-4, -1.0, "next: see whether both models want the same inputs (preprocessing)   |   "),  # never multiplied
    ],
)
def test_an_export_without_zeros_is_not_repaired(
    scale: float, bias: float, step: str, project: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    net = dense()
    net[0].weight.data *= scale
    net[0].bias.data[1] = bias
    torch.onnx.export(net, (project[:4],), "pruned.onnx", dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), dynamo=True)
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    run(["check", "dense.pt", "pruned.onnx", *how])
    (told,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
    assert told.startswith(step), told
    assert "fairguard repair" not in told


@needs_torchao
def test_weights_of_torchao_that_lost_nothing_need_no_repair(
    project: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchao import quantization

    net = dense()
    net[0].weight.data = torch.tensor([[-1.0, -0.5], [1.0, 0.5]])
    torch.save(net.state_dict(), "dense.pt")
    quantization.quantize_(net, quantization.Int8WeightOnlyConfig())
    torch.save(net.state_dict(), "pruned.pt")
    how = ["--model", "nets.py:build", "--data", "rows.csv", "--label", "label", "--group", "sex"]
    assert run(["repair", "dense.pt", "pruned.pt", "-o", "fair.pt", *how]) == 0
    assert "nothing" in capsys.readouterr().out
    assert run(["prune", "pruned.pt", "-o", "less.pt", "--sparsity", "0.5", "--method", "one-shot", *how]) == 2
    assert "the dense model's weights are quantised (0.weight)" in capsys.readouterr().err


class Marked(nn.Parameter):
    """A parameter that only carries a mark of its owner's, as wrappers of training do."""


def test_a_parameter_of_ones_own_class_is_no_quantised_weight() -> None:
    net = dense()
    net[0].weight = Marked(net[0].weight.detach())
    assert quantised_weight(net) is None
    assert quantised_weight(torch.ao.quantization.quantize_dynamic(dense(), {nn.Linear}, dtype=torch.qint8))
