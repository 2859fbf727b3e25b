"""Kinds that need an extra: Hugging Face folders and torchao's weights. Skipped where the extra is not installed."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import model_files
import numpy as np
import pytest
import torch
from model_files import HERE, expected, rows, trained

from fairguard.checking import check
from fairguard.errors import ModelError
from fairguard.inputs.floors import require
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model

needs_transformers = pytest.mark.skipif(find_spec("transformers") is None, reason="extra [hf] is not installed")
needs_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="extra [torchao] is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=3, **sizes)
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("bert")
    transformers.BertForSequenceClassification(config).save_pretrained(place)
    return place


@needs_transformers
def test_a_folder_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    ids = np.random.default_rng(0).integers(0, 50, (6, 8))
    mask = np.ones_like(ids)
    mask[:, 6:] = 0
    model = load_model(folder)
    scores = model.scores(rows(6, x={"input_ids": ids, "attention_mask": mask}))
    with torch.no_grad():
        reference = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        wanted = reference(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
    np.testing.assert_array_equal(scores, wanted)
    assert model.info.kind == "Hugging Face folder"
    assert not model.info.runs_code


@needs_transformers
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModelForSequenceClassification": "evil.Evil"}}, "brings its own Python code"),
        ({"attn_implementation": "somebody/kernels"}, "names code from elsewhere"),
        ({"text_config": {"_attn_implementation": "somebody/kernels"}}, "names code from elsewhere"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers = 1000000000 is larger than any model's"),
        ({"vocab_size": 2**30}, "claims a model of"),
        ({"model_type": "../evil"}, "cannot be opened"),
    ],
)
def test_folders_that_are_refused(folder: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | change))
    (place / "evil.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(ModelError, match=message) as refused:
        load_model(place)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "canary").exists()


@needs_transformers
def test_a_folder_says_what_its_outputs_are(folder: Path, tmp_path: Path) -> None:
    dense = Path(shutil.copytree(folder, tmp_path / "dense"))
    config = json.loads((dense / "config.json").read_text())
    names = ["ok", "spam", "hate"]
    (dense / "config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(names))}))
    ids = np.random.default_rng(0).integers(0, 50, (400, 8))
    answers = load_model(dense).scores(rows(400, x={"input_ids": ids})).argmax(axis=1)
    label = np.array(names)[np.where(np.arange(400) < 3, np.arange(400), answers)]
    data: Any = ({"input_ids": ids}, label, {"sex": ["F", "M"] * 200})
    verdict = check(dense, dense, data)
    assert verdict.classes == tuple(names)
    assert verdict.overall.accuracy.dense > 0.98
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    (other / "config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(names[::-1]))}))
    with pytest.raises(
        ModelError, match=r"other\) names its outputs hate, spam, ok.*dense\) names them ok, spam, hate"
    ):
        check(dense, other, data)


@needs_transformers
def test_a_folder_without_safetensors(folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(ModelError, match="has no safetensors weights"):
        load_model(place)


@needs_transformers
def test_a_folder_of_an_image_classifier(tmp_path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **sizes)
    torch.manual_seed(0)
    source = transformers.ViTForImageClassification(config).eval()
    source.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32)
    scores = load_model(tmp_path).scores(rows(6, x={"pixel_values": pixels}))
    with torch.no_grad():
        np.testing.assert_array_equal(scores, source(torch.from_numpy(pixels)).logits.numpy())


@needs_transformers
@pytest.mark.parametrize("shard", ["../outside.safetensors", "evil.bin", "/etc/passwd"])
def test_an_index_leads_to_safetensors_in_the_folder_alone(folder: Path, tmp_path: Path, shard: str) -> None:
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="5KB")
    assert load_model(tmp_path / "sharded").info.parameters == sum(p.numel() for p in model.parameters())
    index = tmp_path / "sharded" / "model.safetensors.index.json"
    held = json.loads(index.read_text())
    held["weight_map"] |= {next(iter(held["weight_map"])): shard}
    index.write_text(json.dumps(held))
    with pytest.raises(ModelError, match="only safetensors in the same folder are opened"):
        load_model(tmp_path / "sharded")


@needs_transformers
def test_an_adapter_is_no_model(folder: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "copy"))
    (place / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/model"}')
    with pytest.raises(ModelError, match="is an adapter to a model elsewhere"):
        load_model(place)


def test_a_missing_extra_is_named() -> None:
    if find_spec("transformers") is None:
        with pytest.raises(ModelError, match=r"needs transformers.*pip install 'pytest-fairguard\[hf\]'"):
            require("transformers", what="the folder")
    else:
        require("transformers", what="the folder")


def int8(scheme: str) -> torch.nn.Module:
    from torchao import quantization

    model = trained()
    quantization.quantize_(model, getattr(quantization, scheme)())
    return model


@needs_torchao
@pytest.mark.parametrize("scheme", ["Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"])
def test_weights_of_torchao(tmp_path: Path, scheme: str) -> None:
    source = int8(scheme)
    path = tmp_path / "m.pt"
    torch.save(source.state_dict(), path)
    model = load_model(path, factory=f"{HERE}:net")
    np.testing.assert_array_equal(model.scores(rows()), expected(source))
    assert model.info.kind == "torchao state dict"
    assert model.info.dtype == "int8"
    assert inspect_file(path).quantisation == "int8 weights"


@needs_torchao
@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_of_torchao_are_counted(tmp_path: Path, bits: int) -> None:
    from torchao import quantization
    from torchao.quantization.granularity import PerAxis

    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    with torch.no_grad():
        model[1].weight[::2] = 0
    how = {"weight_dtype": getattr(torch, f"int{bits}"), "granularity": PerAxis(0)}
    quantization.quantize_(model, quantization.IntxWeightOnlyConfig(**how))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    seen = inspect_file(tmp_path / "m.pt")
    assert seen.quantisation == f"int{bits} weights"
    assert [layer.dtype for layer in seen.layers] == [f"int{bits}"] * 2
    assert seen.layers[0].sparsity > 0.05, "what rounding made zero"
    assert seen.layers[0].pattern == "rounded"
    assert seen.layers[1].pattern != "dense"


@needs_torchao
def test_torchao_per_row_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    model = load_model(int8("Int8DynamicActivationInt8WeightConfig"))
    whole = model.scores(rows())
    parts: Callable[[int], np.ndarray] = lambda i: model.scores(rows(4, start=i))  # noqa: E731
    np.testing.assert_allclose(np.concatenate([parts(i) for i in range(0, 60, 4)]), whole, atol=1e-6)


@needs_torchao
def test_a_program_of_pt2e(tmp_path: Path) -> None:
    model_files.pt2e(tmp_path / "int8.pt2")
    scores = load_model(tmp_path / "int8.pt2", trust=True).scores(rows())
    assert np.abs(scores - expected()).max() < 0.1
    assert inspect_file(tmp_path / "int8.pt2", trust=True).quantisation == "static int8 (PT2E)"


def test_dynamic_int8_per_tensor_depends_on_the_batch() -> None:
    model = load_model(model_files.dynamic_int8(trained()))
    whole = model.scores(rows())
    parts = np.concatenate([model.scores(rows(4, start=i)) for i in range(0, 60, 4)])
    assert np.abs(parts - whole).max() > 1e-4
