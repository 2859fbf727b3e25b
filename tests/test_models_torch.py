"""The door for models, torch: every kind of file gives the scores that torch itself gives; bad input gives one line."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_files
import numpy as np
import pytest
import torch
from model_files import HERE, expected, rows, trained
from torch import nn

from fairguard.errors import ConfigError, FairguardError, FeaturesError, ModelError
from fairguard.inputs.floors import too_old
from fairguard.inputs.models import load_model

NET = f"{HERE}:net"


def saved(path: Path, held: Any) -> str:
    torch.save(held, path)
    return str(path)


def weights(prefix: str = "") -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in trained().state_dict().items()}


def optimiser() -> dict[str, Any]:
    return torch.optim.Adam(trained().parameters()).state_dict()


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(weights, id="plain"),
        pytest.param(lambda: {"model": weights(), "epoch": 3, "optimizer": optimiser()}, id="checkpoint under model"),
        pytest.param(lambda: {"state_dict": weights(), "loss": 0.5}, id="checkpoint under state_dict"),
        pytest.param(lambda: {"state_dict": weights("module.")}, id="data parallel checkpoint"),
        pytest.param(lambda: weights("module."), id="data parallel"),
        pytest.param(lambda: weights("_orig_mod."), id="compiled"),
        pytest.param(lambda: weights("module._orig_mod."), id="compiled and data parallel"),
        pytest.param(lambda: nn.DataParallel(trained()).state_dict(), id="wrapped by torch"),
    ],
)
def test_state_dicts_in_their_usual_wrappings(tmp_path: Path, held: Callable[[], Any]) -> None:
    model = load_model(saved(tmp_path / "m.pt", held()), factory=NET)
    np.testing.assert_array_equal(model.scores(rows()), expected())
    assert (model.info.kind, model.info.parameters, model.info.dtype) == ("state dict", 259, "float32")


def test_a_model_whose_own_part_is_called_module_keeps_its_names(tmp_path: Path) -> None:
    inner = nn.DataParallel(trained())
    model = load_model(saved(tmp_path / "m.pt", inner.state_dict()), factory=lambda: nn.DataParallel(model_files.net()))
    np.testing.assert_array_equal(model.scores(rows()), expected())


def test_masks_of_torch_prune_are_folded_into_the_weights(tmp_path: Path) -> None:
    pruned = model_files.pruned_by_torch(0.5)
    reference = expected(pruned)
    model = load_model(saved(tmp_path / "m.pt", pruned.state_dict()), factory=NET)
    np.testing.assert_array_equal(model.scores(rows()), reference)
    layers = {layer.name: layer for layer in model.info.layers}
    assert layers["fc1.weight"].sparsity == 0.5
    assert layers["fc1.weight"].pattern == "unstructured"
    assert model.info.sparsity == pytest.approx(96 / 240)


def test_the_format_before_torch_1_6_opens_too(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=False)
    np.testing.assert_array_equal(load_model(path, factory=NET).scores(rows()), expected())


def test_batch_norm_statistics_come_along(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    torch.manual_seed(0)
    source = build()
    source(torch.randn(50, 12))
    reference = expected(source.eval())
    model = load_model(saved(tmp_path / "m.pt", source.state_dict()), factory=build)
    np.testing.assert_array_equal(model.scores(rows()), reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_run_in_the_type_they_are_stored_in(tmp_path: Path, dtype: torch.dtype) -> None:
    source = trained().to(dtype)
    model = load_model(saved(tmp_path / "m.pt", source.state_dict()), factory=NET)
    with torch.no_grad():
        reference = source(torch.from_numpy(rows().x).to(dtype)).double().numpy()
    assert model.info.dtype == str(dtype).removeprefix("torch.")
    np.testing.assert_array_equal(model.scores(rows()).astype(float), reference)


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m"])
def test_safetensors_under_any_name(tmp_path: Path, name: str) -> None:
    model_files.MAKERS["safetensors.pt"](tmp_path / name)
    model = load_model(tmp_path / name, factory=NET)
    assert model.info.kind == "safetensors"
    np.testing.assert_array_equal(model.scores(rows()), expected())


@pytest.mark.parametrize("name", model_files.NEED_TRUST)
def test_files_that_run_code_need_trust(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    model_files.MAKERS[name](path)
    with pytest.raises(ModelError, match="opening it runs its code") as refused:
        load_model(path, factory=NET)
    assert "--trust" in str(refused.value)
    assert "--model" in str(refused.value)
    model = load_model(path, trust=True)
    assert model.info.runs_code
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-6)


def test_the_refusal_names_the_classes_of_a_pickled_module(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"would import model_files\.Net"):
        load_model(saved(tmp_path / "m.pt", trained()))


def test_a_checkpoint_with_objects_opens_with_trust_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"state_dict": weights(), "args": re.compile("x"), "best": np.float64(0.9)})
    with pytest.raises(ModelError, match=r"would import .*re\._compile"):
        load_model(path, factory=NET)
    np.testing.assert_array_equal(load_model(path, factory=NET, trust=True).scores(rows()), expected())


def test_dynamic_int8_of_torch_ao(tmp_path: Path) -> None:
    source = model_files.dynamic_int8(trained())
    reference = expected(source)
    state = load_model(saved(tmp_path / "state.pt", source.state_dict()), factory=f"{HERE}:dynamic_int8")
    whole = load_model(saved(tmp_path / "whole.pt", source), trust=True)
    for model in (state, whole):
        np.testing.assert_array_equal(model.scores(rows()), reference)
        assert model.info.dtype == "qint8"
    with pytest.raises(ModelError, match="opening it runs its code"):
        load_model(tmp_path / "whole.pt")


def test_static_int8_of_torch_ao(tmp_path: Path) -> None:
    source = model_files.static_int8(trained())
    reference = expected(source)
    state = load_model(saved(tmp_path / "state.pt", source.state_dict()), factory=f"{HERE}:static_int8")
    whole = load_model(saved(tmp_path / "whole.pt", source), trust=True)
    np.testing.assert_array_equal(state.scores(rows()), reference)
    np.testing.assert_array_equal(whole.scores(rows()), reference)


def test_structured_pruning_has_its_own_factory(tmp_path: Path) -> None:
    path = saved(tmp_path / "narrow.pt", model_files.narrow().state_dict())
    with pytest.raises(ModelError) as refused:
        load_model(path, factory=NET)
    assert "fc1.weight (8, 12), the model has (16, 12)" in str(refused.value)
    assert "--model-pruned" in str(refused.value)
    assert load_model(path, factory=f"{HERE}:narrow").scores(rows()).shape == (60, 3)


def test_missing_and_unexpected_weights_are_named(tmp_path: Path) -> None:
    held = weights()
    held["fc9.weight"] = held.pop("fc2.weight")
    with pytest.raises(ModelError, match=r"missing: fc2\.weight; unexpected: fc9\.weight"):
        load_model(saved(tmp_path / "m.pt", held), factory=NET)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (None, "weights without their architecture"),
        (f"{HERE}:nett", "has no 'nett'. Did you mean 'net'?"),
        (f"{HERE[:-3]}z.py:net", "Did you mean 'model_files.py'?"),
        ("model_filez:net", "there is no module 'model_filez'"),
        ("net", "names no Python object; write pkg.module:name"),
        (f"{HERE}:needs_arguments", "needs arguments (width, depth)"),
        (f"{HERE}:fails", "failed: ValueError: no weights today"),
        (f"{HERE}:not_a_module", "gives a dict, not a torch.nn.Module"),
        (f"{HERE}:NOT_CALLABLE", "is a int, not a function or class"),
    ],
)
def test_a_factory_that_cannot_be_used(tmp_path: Path, factory: str | None, message: str) -> None:
    with pytest.raises(FairguardError, match=re.escape(message)) as refused:
        load_model(saved(tmp_path / "m.pt", weights()), factory=factory)
    assert "\n" not in str(refused.value)


def test_a_factory_file_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text("import nowhere_to_be_found\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "m.pt", weights())
    for spec in ("broken.py:net", "broken:net"):
        with pytest.raises(ConfigError, match=r"importing it failed: ModuleNotFoundError: .*nowhere_to_be_found"):
            load_model(path, factory=spec)
    with pytest.raises(ConfigError, match="importing it failed: SystemExit"):
        load_model(path, factory="leaving.py:net")


def test_a_factory_beside_its_own_modules(tmp_path: Path) -> None:
    (tmp_path / "widths_of_this_test.py").write_text("WIDTH = 16\n")
    (tmp_path / "build.py").write_text(
        "import torch\nfrom widths_of_this_test import WIDTH\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.fc1, self.fc2 = torch.nn.Linear(12, WIDTH), torch.nn.Linear(WIDTH, 3)\n"
        "    def forward(self, x):\n        return self.fc2(self.fc1(x).relu())\n"
    )
    model = load_model(saved(tmp_path / "m.pt", weights()), factory=f"{tmp_path / 'build.py'}:Net")
    np.testing.assert_array_equal(model.scores(rows()), expected())


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (rows().x[:, :9], "fc1 takes 12 features, the rows have 9"),
        ((rows().x * 100).astype(np.uint8), "the rows are uint8 (images not yet scaled?)"),
        (rows().x.astype(object), "not numbers; turn them into numbers with --transform"),
        (None, "no features for the model"),
        ({"y": rows().x}, "unexpected keyword argument 'y'"),
    ],
)
def test_rows_that_do_not_fit(x: Any, message: str) -> None:
    batch = rows()
    object.__setattr__(batch, "x", x)
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(trained()).scores(batch)


class Fails(nn.Module):
    """A network whose own forward raises."""

    def __init__(self, fault: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.fault = fault

    def forward(self, x: torch.Tensor) -> Any:
        return self.fault(x)

    def open_file(self, x: torch.Tensor) -> Any:
        raise FileNotFoundError("no vocabulary.txt")

    def two(self, x: torch.Tensor, y: torch.Tensor) -> Any:
        return x + y


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (lambda x: Fails.open_file(None, x), "FileNotFoundError: no vocabulary.txt, raised in open_file ("),
        (lambda x: {}["size"], "KeyError: 'size', raised in <lambda> ("),
        (lambda x: x.mean() / (1 // 0), "ZeroDivisionError: integer division or modulo by zero, raised in <lambda> ("),
        (lambda x: Fails.two(None, x), "TypeError: Fails.two() missing 1 required positional argument: 'y', raised in"),
        (lambda x: ["a", "b"][len(x)], "IndexError: list index out of range, raised in <lambda> ("),
    ],
)
def test_a_fault_of_the_models_own_code_is_told_as_one(fault: Any, what: str) -> None:
    """And where it is: that the features do not fit would send the user to the wrong place."""
    with pytest.raises(ModelError, match=re.escape(f"failed in its own code: {what}")) as told:
        load_model(Fails(fault)).scores(rows())
    assert not isinstance(told.value, FeaturesError)
    assert re.search(r"test_models_torch\.py, line \d+\)", str(told.value))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x.view(-1, 7),
        lambda x: x @ x,
        lambda x: x[:, 99],
        lambda x: x.mean(dim=3),
        lambda x: torch.zeros(4, dtype=torch.float64) @ x.T,
        lambda x: nn.Embedding(4, 2)(x.long() + 99),
        nn.Embedding(4, 2),
        nn.LSTM(3, 2),
        lambda x: nn.MultiheadAttention(8, 2)(x, x, x),
        lambda x: nn.functional.max_pool2d(x, 2),
        lambda x: x.shape[5],
    ],
)
def test_shapes_and_types_that_do_not_fit_are_the_features(fault: Any) -> None:
    with pytest.raises(FeaturesError, match="cannot run on these rows"):
        load_model(Fails(fault)).scores(rows())


def test_images_of_other_channels_name_the_layer() -> None:
    model = load_model(model_files.Conv())
    with pytest.raises(ModelError, match="conv takes 3 channels, the rows have 1"):
        model.scores(rows(5, x=np.zeros((5, 1, 8, 8), dtype=np.float32)))
    assert model.scores(rows(5, x=np.zeros((5, 3, 8, 8), dtype=np.float64))).shape == (5, 3)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda x: x[::-1][::-1], lambda x: x.astype(">f4"), np.float64])
def test_rows_in_any_layout_of_memory(change: Callable[[np.ndarray], np.ndarray]) -> None:
    x = change(rows().x)
    x.flags.writeable = False
    np.testing.assert_allclose(load_model(trained()).scores(rows(x=x)), expected(), atol=1e-6)


def test_several_inputs_and_outputs() -> None:
    model, ids = model_files.Tokens(), np.random.default_rng(0).integers(0, 20, (7, 5))
    mask = np.ones((7, 5), dtype=np.float32)
    by_name = load_model(model, output_key="scores").scores(rows(7, x={"ids": ids, "mask": mask}))
    in_order = load_model(model, output_key="scores").scores(rows(7, x=(ids, mask)))
    assert by_name.shape == (7, 3)
    np.testing.assert_array_equal(by_name, in_order)
    with pytest.raises(ModelError, match="several outputs; choose one with --output-key: states, scores"):
        load_model(model).scores(rows(7, x=(ids, mask)))
    with pytest.raises(ModelError, match="has no output 'score'; choose one"):
        load_model(model, output_key="score").scores(rows(7, x=(ids, mask)))


class Returns(nn.Module):
    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> Any:
        return self.value(x)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x.sum(), "gives an output of shape () for 60 rows"),
        (lambda x: x[:10], "gives an output of shape (10, 12) for 60 rows"),
        (lambda x: (x, x), "choose one with --output-key: 0, 1"),
        (lambda x: {}, "choose one with --output-key: none"),
        (lambda x: "yes", "returns a str, not a tensor of scores"),
    ],
)
def test_outputs_of_unexpected_shape(value: Callable[[torch.Tensor], Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(Returns(value)).scores(rows())


def test_modules_and_callables_in_memory() -> None:
    np.testing.assert_array_equal(load_model(trained()).scores(rows()), expected())
    np.testing.assert_array_equal(load_model(lambda x: x[:, :3]).scores(rows()), rows().x[:, :3])
    with pytest.raises(ModelError, match="failed on these rows: ZeroDivisionError"):
        load_model(lambda x: 1 / 0).scores(rows())
    with pytest.raises(ModelError, match="a int is no model"):
        load_model(3)


def test_one_row_at_a_time() -> None:
    seen = []
    model = load_model(lambda x: (seen.append(len(x)), x[:, :3])[1], per_row=True)
    np.testing.assert_array_equal(model.scores(rows(5)), rows(5).x[:, :3])
    assert seen == [1] * 5


def test_devices_that_are_not_there() -> None:
    with pytest.raises(ModelError, match="--device gpu is none of auto, cpu, cuda"):
        load_model(trained(), device="gpu")
    with pytest.raises(ModelError, match=r"torch sees \d+ GPUs here"):
        load_model(trained(), device="cuda:99")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_answers_without_tf32(tmp_path: Path) -> None:
    model = load_model(saved(tmp_path / "m.pt", weights()), factory=NET, device="cuda")
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-5)
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    ("package", "old", "new"),
    [("torch", "2.9.1", "2.10.0"), ("onnxruntime", "1.24.3", "1.24.4"), ("onnx", "1.20.1", "1.21.0")],
)
def test_unsafe_releases_are_named(package: str, old: str, new: str) -> None:
    assert f"{package} {old} is installed" in str(too_old(package, old))
    assert too_old(package, new) is None
    assert too_old(package, f"{new}+cpu") is None
