"""Small real models, and a file of every kind that fairguard opens; a factory module too: ``model_files.py:net``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from fairguard.inputs.rows import Batch

ROWS, FEATURES, CLASSES = 60, 12, 3
HERE = f"{Path(__file__)}"


class Net(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.fc1 = nn.Linear(FEATURES, width)
        self.fc2 = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(torch.relu(self.fc1(x)))


class Conv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.conv(x)).mean((2, 3)))


class Tokens(nn.Module):
    """Two inputs, several outputs, as language models have."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, torch.Tensor]:
        states = self.embed(ids) * mask[..., None]
        pooled = states.sum(1) / mask.sum(1, keepdim=True)
        return {"states": states, "scores": self.head(pooled)}


class Stubbed(nn.Module):
    """A net between the stubs that static quantisation of torch.ao needs."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.net = Net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dequant(self.net(self.quant(x)))


def net() -> Net:
    return Net()


def narrow() -> Net:
    return Net(8)


def half() -> nn.Module:
    return Net().half()


def needs_arguments(width: int, *, depth: int) -> Net:
    return Net(width * depth)


def fails() -> Net:
    raise ValueError("no\nweights today")


def not_a_module() -> dict[str, int]:
    return {}


NOT_CALLABLE = 3


def trained(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval()


def rows(n: int = ROWS, *, start: int = 0, x: Any = None, ids: Any = None) -> Batch:
    """Return a batch of ``n`` rows; the features are the same for the same rows."""
    features = np.random.default_rng(1).normal(size=(ROWS, FEATURES)).astype(np.float32)
    numbers = np.arange(start, start + n)
    return Batch(
        features[start : start + n] if x is None else x,
        None,
        np.zeros((n, 1), dtype=np.int64),
        numbers if ids is None else np.asarray(ids),
        start,
    )


def expected(model: nn.Module | None = None) -> np.ndarray:
    """Return the scores of :func:`trained` on :func:`rows`, computed by torch itself."""
    with torch.no_grad():
        return (model or trained())(torch.from_numpy(rows().x)).numpy()


def to_onnx(model: nn.Module, path: Path, *, batch: int | None = None, external: bool = False) -> Path:
    """Export with torch's own exporter; ``batch`` fixes the number of rows."""
    example = (torch.zeros(batch or 4, FEATURES),)
    shapes = None if batch else ({0: torch.export.Dim("rows")},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, example, path, dynamic_shapes=shapes, external_data=external, verbose=False, dynamo=True
        )
    return path


def without_shapes(path: Path) -> Path:
    """Return a copy without the exporter's intermediate shapes, which onnxruntime's quantisers stumble over."""
    import onnx

    model = onnx.load(path)
    del model.graph.value_info[:]
    target = path.with_name(f"plain_{path.name}")
    onnx.save(model, target)
    return target


def onnx_int8(source: Path, target: Path, *, static: bool, operators: bool = False) -> Path:
    """Quantise with onnxruntime: dynamic per tensor, or static with the rows as calibration.

    Weights get seven bits: with eight, onnxruntime's sums overflow on processors without VNNI.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter([{"x": rows().x}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    if static:
        form = QuantFormat.QOperator if operators else QuantFormat.QDQ
        quantize_static(without_shapes(source), target, Reader(), quant_format=form, reduce_range=True)
    else:
        quantize_dynamic(without_shapes(source), target, reduce_range=True)
    return target


def dynamic_int8(model: nn.Module | None = None) -> nn.Module:
    """Return torch.ao's dynamic int8 version of a net, which is a factory for its state dict too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: nn.Module = torch.ao.quantization.quantize_dynamic(model or Net(), {nn.Linear}, dtype=torch.qint8)
    return found


def static_int8(model: Net | None = None) -> nn.Module:
    """Return torch.ao's static int8 version of a net."""
    stubbed = Stubbed().eval()
    stubbed.net.load_state_dict((model or Net()).state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stubbed.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        torch.ao.quantization.prepare(stubbed, inplace=True)
        stubbed(torch.from_numpy(rows().x))
        torch.ao.quantization.convert(stubbed, inplace=True)
    return stubbed


def pruned_by_torch(amount: float = 0.5) -> Net:
    """Return the net with torch.nn.utils.prune's masks still on."""
    from torch.nn.utils import prune

    model = trained()
    prune.l1_unstructured(model.fc1, "weight", amount)
    return model


def _answers(path: Path, *, text: bool = False) -> pd.DataFrame:
    answers: Any = expected().argmax(1)
    frame = pd.DataFrame({"id": np.arange(ROWS), "prediction": np.array(list("abc"))[answers] if text else answers})
    return frame.sample(frac=1, random_state=0)


def _torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(trained()), path)


def _exported(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shapes = ({0: torch.export.Dim("rows")},)
        program = torch.export.export(trained(), (torch.zeros(4, FEATURES),), dynamic_shapes=shapes)
        torch.export.save(program, path)


def pt2e(path: Path) -> None:
    """Write a program in int8, as torchao quantises what torch.export gives."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    shapes = ({0: torch.export.Dim("rows", max=1_000_000)},)
    example = (torch.from_numpy(rows().x),)
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(trained(), example, dynamic_shapes=shapes)
        observed = prepare_pt2e(program.module(), quantizer)
        observed(*example)
        torch.export.save(torch.export.export(convert_pt2e(observed), example, dynamic_shapes=shapes), path)


def _safetensors(path: Path) -> None:
    from safetensors.torch import save_file

    save_file(trained().state_dict(), path)


def _saved(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(make(), path)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "plain.pt": _saved(lambda: trained().state_dict()),
    "legacy.pt": lambda path: torch.save(trained().state_dict(), path, _use_new_zipfile_serialization=False),
    "safetensors.pt": _safetensors,
    "net.onnx": lambda path: to_onnx(trained(), path),
    "answers.csv": lambda path: _answers(path).to_csv(path, index=False),
    "answers.parquet": lambda path: _answers(path, text=True).to_parquet(path),
    "scores.npz": lambda path: np.savez(path, scores=expected()),
    "whole.pt": _saved(trained),
    "script.pt": _torchscript,
    "program.pt2": _exported,
}
"""One file of every kind, smallest first opened without trust, then those that run code."""

NEED_TRUST = ("whole.pt", "script.pt", "program.pt2")


def make_all(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write a file of every kind into ``folder``."""
    for name, make in MAKERS.items():
        make(folder / name)
        yield name, folder / name
