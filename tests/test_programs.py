"""Programs of torch.export and the operators that they need, met in a process that has none of them yet."""

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from model_files import HERE, dynamic_int8, static_int8, trained
from torch import nn

from fairguard.cli import run
from fairguard.errors import ModelError
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model

MAKE = """
import sys, torch
import torch.ao.quantization.fx._decomposed
mine = torch.library.Library("of_my_own", "DEF")
mine.define("twice(Tensor x) -> Tensor")
mine.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")

class Rounded(torch.nn.Module):
    def forward(self, x):
        numbers = (0.1, 0, -128, 127, torch.int8)
        x = torch.ops.quantized_decomposed.quantize_per_tensor(x, *numbers)
        return torch.ops.quantized_decomposed.dequantize_per_tensor(x, *numbers)

class Twice(torch.nn.Module):
    def forward(self, x):
        return torch.ops.of_my_own.twice(x)

for module, path in ((Rounded(), "rounded.pt2"), (Twice(), "twice.pt2")):
    torch.export.save(torch.export.export(module, (torch.zeros(4, 2),)), path)
"""
FIRST = "import sys, fairguard.inputs.models as m; m.load_model(sys.argv[1], trust=True); print('opened')"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("programs")
    subprocess.run([sys.executable, "-c", MAKE], cwd=place, check=True, capture_output=True)
    return place


def opened(path: Path) -> tuple[str, str]:
    """What a fresh process says that opens a program."""
    done = subprocess.run([sys.executable, "-c", FIRST, str(path)], check=False, capture_output=True, text=True)
    return done.stdout, done.stderr


def test_the_operators_of_pt2e_are_registered(folder: Path) -> None:
    assert opened(folder / "rounded.pt2") == ("opened\n", "")
    assert inspect_file(folder / "rounded.pt2", trust=True).quantisation == "static int8 (PT2E)"


def test_operators_that_nobody_registers_are_named(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"registers: torch\.ops\.of_my_own\.twice\. Install the library") as told:
        load_model(folder / "twice.pt2", trust=True)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("builds", ["net", "stubbed", "prepared"])
def test_a_quantisation_that_was_prepared_and_not_converted(
    tmp_path: Path, builds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nets.py").write_text(QAT)
    net = run_path(str(tmp_path / "nets.py"))["prepared"]()
    net(torch.ones(4, 3))
    torch.save(net.state_dict(), tmp_path / "qat.pt")
    (tmp_path / "rows.csv").write_text("a,b,c,sex,label\n" + "1,2,3,F,0\n0,2,1,M,1\n" * 50)
    how = ["--model", f"{tmp_path}/nets.py:{builds}", "--data", f"{tmp_path}/rows.csv", "--label", "label"]
    assert run(["check", f"{tmp_path}/qat.pt", f"{tmp_path}/qat.pt", *how, "--group", "sex"]) == 2
    said = capsys.readouterr().err
    assert "observers of a quantisation that was prepared and not converted: convert the model" in said
    assert "structured pruning" not in said


QAT = """
import torch
from torch import nn

def net(): return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
def stubbed(): return torch.ao.quantization.QuantWrapper(net())
def prepared():
    made = stubbed().train()
    made.qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    return torch.ao.quantization.prepare_qat(made)
"""


@pytest.mark.parametrize("quantised", [dynamic_int8, static_int8])
def test_a_quantised_state_dict_beside_a_float_factory(tmp_path: Path, quantised: type[nn.Module]) -> None:
    torch.save(quantised(trained()).state_dict(), tmp_path / "int8.pt")
    with pytest.raises(ModelError, match=r"of a quantised model: .* quantises it in the same way, .* --model-pruned"):
        load_model(tmp_path / "int8.pt", factory=f"{HERE}:net")


def test_the_state_dict_of_a_program_beside_a_float_factory(tmp_path: Path) -> None:
    beside = {"_scale_0": torch.ones(1), "_zero_point_0": torch.zeros(1, dtype=torch.int64)}
    torch.save(trained().state_dict() | beside, tmp_path / "int8.pt")
    with pytest.raises(ModelError, match="of a quantised model"):
        load_model(tmp_path / "int8.pt", factory=f"{HERE}:net")
    torch.save(trained().state_dict() | {"_scale_0": torch.ones(1)}, tmp_path / "scaled.pt")
    with pytest.raises(ModelError, match=r"unexpected: _scale_0\.$"):
        load_model(tmp_path / "scaled.pt", factory=f"{HERE}:net")
