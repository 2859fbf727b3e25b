"""Make a model and its quantised versions, and leave them for `fairguard check`. All rows are SYNTHETIC: generated.

    python examples/quantised/quantise.py OUT

OUT gets dense.pt (torch), dense.onnx (the same, exported), static_int8.onnx and dynamic_int8.onnx (onnxruntime's two
ways of quantising it), rows to check on and a fairguard.toml, so that `cd OUT && fairguard check dense.pt dense.onnx`
works.
"""

import argparse
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, quantize_dynamic, quantize_static

from fairguard.demo import synthetic


class Calibration(CalibrationDataReader):
    """Rows that training never saw and the check does not use, from which static quantisation takes its scales."""

    def __init__(self, name: str) -> None:
        rows = synthetic.applicants(2_000, seed=7)[synthetic.FEATURES].to_numpy(np.float32)
        self.batches: Iterator[dict[str, np.ndarray]] = iter([{name: part} for part in np.array_split(rows, 8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def export(folder: Path) -> Path:
    """Export dense.pt, with a batch size that may vary."""
    model = synthetic.build()
    model.load_state_dict(torch.load(folder / "dense.pt", weights_only=True))
    example = (torch.zeros(2, len(synthetic.FEATURES)),)
    rows = ({0: torch.export.Dim("rows")},)
    target = folder / "dense.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), example, target, dynamic_shapes=rows, external_data=False, dynamo=True, verbose=False
        )
    return target


def quantise(source: Path) -> None:
    """Write both int8 versions beside ``source``."""
    model = onnx.load(source)
    del model.graph.value_info[:]  # the exporter's shapes, which the quantisers stumble over
    plain = source.with_name("plain.onnx")
    onnx.save(model, plain)
    quantize_static(plain, source.with_name("static_int8.onnx"), Calibration(model.graph.input[0].name))
    quantize_dynamic(plain, source.with_name("dynamic_int8.onnx"))
    plain.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    synthetic.make(out)
    quantise(export(out))
    print(f"wrote {', '.join(sorted(path.name for path in out.glob('*.onnx')))} to {out}")
