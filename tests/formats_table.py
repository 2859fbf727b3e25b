"""Writes ``docs/formats.md`` from what really happens when a file of every kind is opened.

    python tests/formats_table.py > docs/formats.md

Rows of kinds whose extra is not installed are taken over from the page as it stands.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import model_files as made
import numpy as np
import pandas as pd
import torch

from fairguard.errors import FairguardError
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model

PAGE = Path(__file__).parent.parent / "docs" / "formats.md"

HEAD = """# Model files

What a file is gets decided by its content, never by its name, and without running it. This page is written by
`tests/formats_table.py`, which makes a file of every kind, opens it and compares its answers with those of the model
that it was made from; a test compares the page with what comes out.

| file | is found to be | opens | runs code | quantisation | answers |
|---|---|---|---|---|---|
"""

TAIL = """
*opens*: `--model` names the function that builds the architecture, `--trust` lets the file run its own code.
*quantisation*: as `fairguard inspect` tells it with these options; weights alone do not say that activations are
quantised. *answers*: the same scores as the model that the file was made from, within 0.00001; or rounded, as eight and
sixteen bits do.

- A checkpoint may keep its weights under `state_dict`, `model_state_dict`, `model`, `net` and the like, or under any
  one key; where there are several sets (a moving average, a teacher), `file.pt::ema.model` takes one, and `inspect`
  lists them. Where that is not said and the same network stands there twice, the verdict warns of it. A whole module
  may stand under such a key too (with `--trust`). The prefixes `module.` and `_orig_mod.`, and any one under which
  the whole network stands (Lightning's `model.`), are dropped; pairs of `weight_orig` and `weight_mask` become their
  product. Every name, every shape and every kind of number must fit the architecture.
- `--model` names a function or class without arguments, or a module, which is copied.
- A model runs in the floating type that its weights are stored in, and float64 features keep their digits for one that
  computes in float64 (an ONNX graph: that takes float64 or integers); all others get float32, functions too. numpy's
  booleans are numbers where they are all features there are; beside others, in a dict or
  tuple, they stay a mask, unless a torch module takes them only as numbers.
- Graphs and programs that were exported for one batch size are fed in blocks of it.
- A model may give scores (rows, classes), one score a row (a logit, or a probability if all are between 0 and 1), or
  whole numbers: the answers themselves, as after an argmax. Of several outputs, `--output-key` names one; a model
  with one output needs none. Scores by class name for each row (scikit-learn's ZipMap) are scores, the classes
  sorted.
- Several inputs are matched by name or by order: rows that are a dict (or what a tokenizer gives) or a tuple. Where
  each input of a graph is one column (rows, 1), as exporters of scikit-learn write them, a table's columns are fed by
  name, text too, and `education-num` is `education_num`.
- What outputs mean: without `--classes` the sorted labels, but where the `id2label` of a transformers model's own
  configuration holds exactly the labels, its order. Two models whose orders differ are not compared, nor is a pruned
  one of several outputs that would win back most of what it lost if they stood in another order.
- Labels that are whole numbers count classes from 0, whether each has rows or not. Where the labels are just two
  numbers (1 and 2, 0 and 255), there are two classes, and the second is the favourable one; another answer is an error
  until `--classes` names it.
- A structurally pruned model has other shapes, so it needs its own factory: `--model-pruned`.
- Recorded answers are joined by `id`, or the column that `--id` names, where the file has such a column or array, else
  by the number of the row. Answers stand in `prediction` (or `label`), in one `score`, or in `score_<class>` for every
  class; in an npz in `labels`, `scores` or `logits`. `file.npz::name` takes one of several models.
- Dynamic int8 with one scale for the whole batch is not a function of the row: who else is in the batch changes the
  answer. `check` says so and stops; use static or per-row quantisation, or judge row by row with `--per-row`.
- Eight-bit sums of onnxruntime overflow on processors without VNNI, and then the same file gives other answers: check
  on the kind of processor that will run it (the record names it), or quantise with `reduce_range=True`.
- 2:4 semi-structured tensors can be neither made nor opened on a CPU: exchange dense weights with zeros.
- Not opened: Keras and HDF5, TensorFlow Lite, GGUF, onnxruntime's own format, pickles of anything but torch. Export to
  ONNX, or record the answers.
- Large files: `Limits` in `fairguard.inputs.limits` bounds what a file may claim; see SECURITY.md.
"""


@dataclass(frozen=True)
class Kind:
    """One row: what the file is called, how it is made, and the model whose answers it should give."""

    title: str
    make: Callable[[Path], Any]
    factory: str | None = None
    extra: str | None = None
    reference: Callable[[], np.ndarray] = made.expected
    rows: Callable[[], Any] = made.rows


def _saved(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda path: torch.save(make(), path)


def _state(change: Callable[[str], str] = str, wrap: Callable[[Any], Any] = dict) -> Callable[[Path], None]:
    def held() -> Any:
        return wrap({change(name): value for name, value in made.trained().state_dict().items()})

    return _saved(held)


def _int8(static: bool, operators: bool = False) -> Callable[[Path], Any]:
    def make(path: Path) -> None:
        source = made.to_onnx(made.trained(), path.with_name("float.onnx"))
        made.onnx_int8(source, path, static=static, operators=operators)

    return make


def _torchao() -> torch.nn.Module:
    from torchao import quantization

    model = made.trained()
    quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
    return model


def _bert() -> Any:
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **sizes)
    return transformers.BertForSequenceClassification(config).eval()


def _tokens() -> Any:
    return made.rows(x={"input_ids": np.random.default_rng(0).integers(0, 50, (made.ROWS, 8))})


def _bert_scores() -> np.ndarray:
    with torch.no_grad():
        return _bert()(torch.from_numpy(_tokens().x["input_ids"])).logits.numpy()


def _vit() -> Any:
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)
    return transformers.ViTForImageClassification(config).eval()


def _pixels() -> Any:
    images = np.random.default_rng(0).normal(size=(made.ROWS, 3, 8, 8)).astype(np.float32)
    return made.rows(x={"pixel_values": images})


def _vit_scores() -> np.ndarray:
    with torch.no_grad():
        return _vit()(torch.from_numpy(_pixels().x["pixel_values"])).logits.numpy()


def _fixed_program(path: Path) -> None:
    program = torch.export.export(made.trained(), (torch.zeros(7, made.FEATURES),))
    torch.export.save(program, path)


def _scores(write: Callable[[pd.DataFrame, Path], Any]) -> Callable[[Path], None]:
    columns = {f"score_{name}": made.expected()[:, k] for k, name in enumerate("abc")}
    return lambda path: write(pd.DataFrame({"id": np.arange(made.ROWS), **columns}), path)


NET = f"{made.HERE}:net"
KINDS = (
    Kind("state dict", _state(), NET),
    Kind("state dict, saved before torch 1.6", made.MAKERS["legacy.pt"], NET),
    Kind("checkpoint with optimizer", _state(wrap=lambda s: {"state_dict": s, "epoch": 1, "optimizer": {}}), NET),
    Kind("state dict of a parallel, compiled model", _state(lambda name: f"module._orig_mod.{name}"), NET),
    Kind("Lightning checkpoint", _state(lambda name: f"model.{name}",
         lambda s: {"state_dict": s, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.5"}), NET),
    Kind("checkpoint of a moving average, nested", _state(wrap=lambda s: {"ema": {"decay": 0.9, "model": s}}), NET),
    Kind("state dict with masks of `torch.nn.utils.prune`", _saved(lambda: made.pruned_by_torch().state_dict()), NET,
         reference=lambda: made.expected(made.pruned_by_torch())),
    Kind("state dict in float16", _saved(lambda: made.trained().half().state_dict()), NET),
    Kind("state dict in bfloat16", _saved(lambda: made.trained().bfloat16().state_dict()), NET),
    Kind("safetensors", made.MAKERS["safetensors.pt"], NET),
    Kind("torch.ao dynamic int8, state dict", _saved(lambda: made.dynamic_int8(made.trained()).state_dict()),
         f"{made.HERE}:dynamic_int8"),
    Kind("torch.ao static int8, state dict", _saved(lambda: made.static_int8(made.trained()).state_dict()),
         f"{made.HERE}:static_int8"),
    Kind("torchao int8, state dict (extra `torchao`)", _saved(lambda: _torchao().state_dict()), NET, extra="torchao"),
    Kind("Hugging Face folder (extra `hf`)", lambda path: _bert().save_pretrained(path), extra="transformers",
         reference=_bert_scores, rows=_tokens),
    Kind("Hugging Face folder of an image classifier (extra `hf`)", lambda path: _vit().save_pretrained(path),
         extra="transformers", reference=_vit_scores, rows=_pixels),
    Kind("ONNX", lambda path: made.to_onnx(made.trained(), path)),
    Kind("ONNX, fixed batch size", lambda path: made.to_onnx(made.trained(), path, batch=7)),
    Kind("ONNX, weights in a second file", lambda path: made.to_onnx(made.trained(), path, external=True)),
    Kind("ONNX, static int8 (QDQ)", _int8(static=True)),
    Kind("ONNX, static int8 (QOperator)", _int8(static=True, operators=True)),
    Kind("ONNX, dynamic int8", _int8(static=False)),
    Kind("CSV of scores", _scores(lambda table, path: table.to_csv(path, index=False))),
    Kind("Parquet of scores", _scores(lambda table, path: table.to_parquet(path))),
    Kind("npz of scores", lambda path: np.savez(path.open("wb"), scores=made.expected())),
    Kind("whole pickled module", made.MAKERS["whole.pt"]),
    Kind("torch.ao dynamic int8, whole module", _saved(lambda: made.dynamic_int8(made.trained()))),
    Kind("TorchScript", made.MAKERS["script.pt"]),
    Kind("torch.export `.pt2`", made.MAKERS["program.pt2"]),
    Kind("torch.export `.pt2`, fixed batch size", _fixed_program),
    Kind("torch.export `.pt2`, static int8 of PT2E (extra `torchao`)", made.pt2e, extra="torchao"),
)  # fmt: skip


def page() -> str:
    """Return the whole page."""
    with tempfile.TemporaryDirectory() as folder:
        return HEAD + "".join(_rows(Path(folder))) + TAIL


def _rows(folder: Path) -> Iterator[str]:
    for number, kind in enumerate(KINDS):
        if kind.extra is not None and find_spec(kind.extra) is None:
            yield next(line + "\n" for line in PAGE.read_text().splitlines() if line.startswith(f"| {kind.title} |"))
            continue
        place = folder / str(number)
        place.mkdir()
        path = place / "model.onnx"  # one name for all: it must not matter
        kind.make(path)
        yield _row(kind, path)


def _row(kind: Kind, path: Path) -> str:
    opens, model = _opened(kind, path)
    seen = inspect_file(path, factory=kind.factory, trust=model.info.runs_code)
    difference = np.abs(model.scores(kind.rows()) - kind.reference()).max()
    answers = "the same" if difference < 1e-5 else "rounded"
    assert difference < 0.1, f"{kind.title}: answers differ by {difference}"
    code = "yes" if model.info.runs_code else "no"
    return f"| {kind.title} | {seen.kind} | {opens} | {code} | {seen.quantisation or ''} | {answers} |\n"


def _opened(kind: Kind, path: Path) -> tuple[str, Any]:
    """Return the least that opens the file, and the model."""
    for said, options in (
        ("at once", {}),
        ("with `--model`", {"factory": kind.factory}),
        ("with `--trust`", {"trust": True}),
    ):
        try:
            return said, load_model(path, **options)
        except FairguardError as error:
            refused = error
    raise refused


if __name__ == "__main__":
    print(page(), end="")
