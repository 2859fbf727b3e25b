"""An exported graph takes any number of rows, or the export is refused before time is spent on training."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fairguard.cli import run
from fairguard.config import Settings
from fairguard.demo import digits
from fairguard.errors import ModelError, OutputError
from fairguard.inputs.data import open_data
from fairguard.inputs.models import load_model
from fairguard.repair.publishing import differing
from fairguard.repair.repairing import repair
from fairguard.repair.writing import export_onnx


class Counting(nn.Module):
    """Puts a learned token before every row's own, once for each of ``len(x)`` rows."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.out = nn.Parameter(torch.zeros(1, 1, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x[:, None]], 1)
        found: Tensor = self.out(x).sum(1)
        return found


class Fixed(nn.Module):
    """Makes the number of rows a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.net = digits.build()

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.net(x.reshape(int(str(len(x))), -1))
        return found


@pytest.mark.parametrize("build", [Counting, lambda: nn.Linear(6, 3)], ids=["counting", "plain"])
def test_a_graph_takes_any_number_of_rows(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    net, x = build().eval(), torch.randn(100, 6)
    export_onnx(net, x[:2], tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"))
    (given,) = session.get_inputs()
    assert not isinstance(given.shape[0], int)
    (found,) = session.run(None, {given.name: x.numpy()})
    np.testing.assert_allclose(found, net(x).detach().numpy(), atol=1e-5)


def test_a_graph_of_two_rows_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="2 rows at a time and no other number"):
        export_onnx(Fixed().eval(), torch.randn(2, 64), tmp_path / "net.onnx")


@pytest.mark.usefixtures("inside")
def test_it_is_refused_before_any_training(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("dense", "pruned"):
        net = Fixed()
        net.net.load_state_dict(torch.load(f"{name}.pt", weights_only=True))
        torch.save(net.state_dict(), f"fixed-{name}.pt")
    trained: list[object] = []
    how = {"data": "test.parquet", "label": "digit", "groups": ("class",), "model": Fixed, "margin": 0.1}
    with pytest.raises(OutputError, match="2 rows at a time"):
        repair("fixed-dense.pt", "fixed-pruned.pt", "f.pt", export="onnx", tell=trained.append, **how)
    assert trained == []
    words = ["prune", "fixed-dense.pt", "--model", f"{__file__}:Fixed", "--data", "test.parquet", "--label", "digit"]
    words += ["--group", "class", "--sparsity", "0.5", "--export", "onnx", "-o", "p.pt", "--method", "one-shot"]
    assert run(words) == 2
    assert "2 rows at a time" in capsys.readouterr().err
    assert not Path("p.pt").exists()


EXPORT = """
import sys
import torch
missing = sys.argv[1]  # "onnxscript", or the part of it that is for this torch, which older ones lack
names = [missing, *(f"{missing}{number}" for number in range(30))]
sys.modules.update(dict.fromkeys(names, None))
from fairguard.repair.writing import export_onnx
export_onnx(torch.nn.Linear(4, 2), torch.zeros(2, 4), "net.onnx")
"""


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("onnxscript", "pip install onnxscript"), ("onnxscript._framework_apis.torch_2_", "pip install -U onnxscript")],
    ids=["missing", "too old"],
)
def test_an_exporter_that_is_missing_or_too_old_is_named(missing: str, remedy: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", EXPORT, missing], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr.splitlines()[-1].startswith("fairguard.errors.OutputError: cannot export to ONNX: ")
    assert done.stderr.rstrip().endswith(f". {remedy}")


def test_an_exported_graph_is_opened_within_the_limits_of_the_run(tmp_path: Path) -> None:
    net = nn.Linear(64, 5_000)
    export_onnx(net, torch.randn(2, 64), tmp_path / "net.onnx")
    rows = open_data((np.zeros((4, 64), np.float32), [0, 1, 0, 1], {"g": [0, 0, 1, 1]}))
    with pytest.raises(ModelError, match="--limit"):
        differing(load_model(net), tmp_path / "net.onnx", rows, Settings(limit="1MiB"))
