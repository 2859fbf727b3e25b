"""Training checkpoints as people keep them: the right weights are found, and what is not clear is asked for."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import CLASSES, FEATURES, HERE, expected, pruned_by_torch, rows, static_int8, trained
from torch import nn
from torch.nn.utils import parametrize, prune

from fairguard import check
from fairguard.errors import ModelError
from fairguard.inputs.detect import Kind, detect
from fairguard.inputs.inspect import inspect_file
from fairguard.inputs.models import load_model

NET = f"{HERE}:net"


def saved(path: Path, held: Any) -> str:
    torch.save(held, path)
    return str(path)


def weights(prefix: str = "", seed: int = 0) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in trained(seed).state_dict().items()}


def after_training() -> dict[str, Any]:
    """What a training loop keeps beside the weights: an optimiser that has stepped, and a scheduler with milestones."""
    model = trained()
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.zeros(2, FEATURES)).sum().backward()
    optimiser.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimiser, [3, 5])  # pickled with a Counter
    return {"optimizer_state_dict": optimiser.state_dict(), "scheduler": scheduler.state_dict(), "seen": {1, 2}}


LIGHTNING = {
    "pytorch-lightning_version": "2.5",
    "loops": {"fit_loop": {"state_dict": {}}},
    "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.9)}},
    "hyper_parameters": {"lr": 0.1},
}


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(lambda: {"model_state_dict": weights(), **after_training()}, id="optimiser and scheduler"),
        pytest.param(lambda: {"state_dict": weights("model."), **LIGHTNING}, id="Lightning"),
        pytest.param(
            lambda: {"state_dict": {**weights("net."), "criterion.weight": torch.ones(3)}, **LIGHTNING},
            id="Lightning, with the weights of a loss",
        ),
        pytest.param(lambda: {"checkpoint": {"model": {"state_dict": weights()}}}, id="nested"),
        pytest.param(lambda: {"generator": weights(), "best": torch.tensor(0.9)}, id="under a name of its own"),
        pytest.param(lambda: {"model": weights(), "class_weights": torch.ones(3)}, id="beside another tensor"),
        pytest.param(lambda: {"state_dict": weights(), "state_dict_ema": weights(seed=1)}, id="beside its average"),
        pytest.param(lambda: torch.optim.swa_utils.AveragedModel(trained()).state_dict(), id="averaged by torch"),
        pytest.param(lambda: weights("_forward_module."), id="Fabric"),
    ],
)
def test_checkpoints_of_training(tmp_path: Path, held: Callable[[], Any]) -> None:
    model = load_model(saved(tmp_path / "m.pt", held()), factory=NET)
    np.testing.assert_array_equal(model.scores(rows()), expected())


def test_masks_of_torch_prune_under_lightnings_prefix(tmp_path: Path) -> None:
    source = pruned_by_torch()
    state = {f"model.{name}": value for name, value in source.state_dict().items()}
    model = load_model(saved(tmp_path / "m.ckpt", {"state_dict": state}), factory=NET)
    np.testing.assert_array_equal(model.scores(rows()), expected(source))


def test_one_of_several_sets_of_weights(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"student": weights(), "teacher": {"model": weights(seed=1)}, "epoch": 3})
    with pytest.raises(ModelError, match=r"several sets of weights; add one as .*::NAME: student, teacher\.model"):
        load_model(path, factory=NET)
    with pytest.raises(ModelError, match=r"no weights called 'studnt'\. Did you mean 'student'\? It has: student"):
        load_model(f"{path}::studnt", factory=NET)
    for name, seed in (("student", 0), ("teacher.model", 1)):
        scores = load_model(f"{path}::{name}", factory=NET).scores(rows())
        np.testing.assert_array_equal(scores, expected(trained(seed)))
    assert "student, teacher.model" in str(inspect_file(path).holds)
    assert inspect_file(f"{path}::student").parameters == 259


def test_one_of_several_networks_in_a_flat_state_dict(tmp_path: Path) -> None:
    both = {**weights("online."), **weights("ema.", seed=1)}
    path = saved(tmp_path / "m.pt", both)
    with pytest.raises(ModelError, match=r"does not fit .*unexpected: online\.fc1\.weight"):
        load_model(path, factory=NET)
    np.testing.assert_array_equal(load_model(f"{path}::ema", factory=NET).scores(rows()), expected(trained(1)))


def test_the_average_is_judged_when_it_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.pt", {"state_dict": weights(), "state_dict_ema": weights(seed=1)})
    scores = load_model(f"{path}::state_dict_ema", factory=NET).scores(rows())
    np.testing.assert_array_equal(scores, expected(trained(1)))
    assert inspect_file(path).holds == "state_dict (judged unless ::NAME says otherwise), state_dict_ema"


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"epoch": 3, "loss": torch.tensor(0.1)}, "holds no weights by name; its keys are: epoch, loss"),
        ([weights()], "holds a list, no weights by name"),
        ({n: (t * 100).to(torch.int8) for n, t in weights().items()}, "fc1.weight int8, the model has float32"),
        ({n: t.to(torch.complex64) for n, t in weights().items()}, "fc1.weight complex64, the model has float32"),
        (
            {n: torch.quantize_per_tensor(t, 0.01, 0, torch.qint8) for n, t in weights().items()},
            "fc1.weight qint8, the model has float32",
        ),
        ({**weights(), "fc1.weight": 3}, "fc1.weight None, the model has (16, 12)"),
    ],
)
def test_checkpoints_that_cannot_be_used(tmp_path: Path, held: Any, message: str) -> None:
    """Weights of another kind of number would be copied without their scale, and judged as nonsense."""
    with pytest.raises(ModelError, match=re.escape(message)):
        load_model(saved(tmp_path / "m.pt", held), factory=NET)


def test_sparse_tensors_are_asked_for_as_dense_ones(tmp_path: Path) -> None:
    """torch would rebuild them in whatever size the file claims."""
    sparse = {name: value.to_sparse() if value.dim() > 1 else value for name, value in weights().items()}
    with pytest.raises(ModelError, match=r"Either save the sparse tensors dense, as tensor\.to_dense\(\)"):
        load_model(saved(tmp_path / "m.pt", sparse), factory=NET)


class Tied(nn.Module):
    """One matrix at two places, as language models tie their embedding to their head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, FEATURES)
        self.second.weight = self.first.weight
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x)))


def test_safetensors_store_tied_weights_once(tmp_path: Path) -> None:
    from safetensors.torch import save_model

    torch.manual_seed(0)
    source = Tied()
    save_model(source, str(tmp_path / "m.safetensors"))
    model = load_model(tmp_path / "m.safetensors", factory=Tied)
    np.testing.assert_array_equal(model.scores(rows()), expected(source))


class Masked(nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * self.mask


def by_parametrisation() -> nn.Module:
    model = trained()
    half = (torch.arange(192).reshape(16, 12) % 2).float()
    parametrize.register_parametrization(model.fc1, "weight", Masked(half))
    return model


def by_torch_prune() -> nn.Module:
    model = trained()
    prune.l1_unstructured(model.fc1, "weight", 0.5)
    return model


@pytest.mark.parametrize("build", [by_parametrisation, by_torch_prune])
def test_sparsity_is_that_of_the_weights_that_are_computed_with(tmp_path: Path, build: Callable[[], Any]) -> None:
    path = saved(tmp_path / "m.pt", build().state_dict())
    for model in (load_model(build()), load_model(path, factory=build)):
        assert {layer.name: layer.sparsity for layer in model.info.layers} == {"fc1.weight": 0.5, "fc2.weight": 0.0}
        assert model.info.parameters == 259
        np.testing.assert_array_equal(model.scores(rows()), expected(build()))


A_MODULE = trained(1)


def test_a_module_instead_of_a_factory(tmp_path: Path) -> None:
    """It is copied, since dense and pruned may both be built from it."""
    path = saved(tmp_path / "m.pt", weights())
    spec = f"{Path(__file__)}:A_MODULE"
    first, second = load_model(path, factory=spec), load_model(saved(tmp_path / "n.pt", weights(seed=2)), factory=spec)
    np.testing.assert_array_equal(first.scores(rows()), expected())
    np.testing.assert_array_equal(second.scores(rows()), expected(trained(2)))


def test_rows_in_double_precision_for_models_that_hide_their_weights(tmp_path: Path) -> None:
    double = rows(x=rows().x.astype(np.float64))
    quantised = static_int8(trained())
    np.testing.assert_array_equal(load_model(quantised).scores(double), expected(quantised))
    frozen = torch.jit.freeze(torch.jit.script(trained()))
    frozen.save(tmp_path / "frozen.pt")
    model = load_model(tmp_path / "frozen.pt", trust=True)
    np.testing.assert_allclose(model.scores(double), expected(), atol=1e-6)
    with pytest.raises(ModelError, match=r"cannot run on these rows: RuntimeError: mat1 and mat2 shapes"):
        model.scores(rows(x=rows().x[:, :5]))


@pytest.mark.parametrize("batch", [4, 7, 100])
def test_programs_exported_for_one_batch_size(tmp_path: Path, batch: int) -> None:
    """The usual export: an example and no dynamic shapes."""
    program = torch.export.export(trained(), (torch.zeros(batch, FEATURES),))
    torch.export.save(program, tmp_path / "m.pt2")
    model = load_model(tmp_path / "m.pt2", trust=True)
    np.testing.assert_allclose(model.scores(rows()), expected(), atol=1e-6)


def test_statistics_of_batch_norm_are_no_parameters(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    path = saved(tmp_path / "m.pt", build().state_dict())
    assert inspect_file(path).parameters == inspect_file(path, factory=build).parameters


def test_the_versions_of_modules_come_along(tmp_path: Path) -> None:
    """Batch normalisation of an older version has no count of its batches."""
    source = nn.ModuleDict({"model": nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3))}).eval()
    state = source.state_dict()
    del state["model.1.num_batches_tracked"]
    state._metadata["model.1"]["version"] = 1
    model = load_model(
        saved(tmp_path / "m.pt", {"state_dict": state}),
        factory=lambda: nn.Sequential(nn.Linear(12, 3), nn.BatchNorm1d(3)),
    )
    np.testing.assert_array_equal(model.scores(rows()), expected(source["model"]))


SCRIPT = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(12, 16), nn.Linear(16, 3)
    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))
if __name__ == "__main__":
    torch.manual_seed(0)
    torch.save(Net(), "m.pt")
"""


def test_a_module_that_a_script_saved_finds_its_class_there(tmp_path: Path) -> None:
    """Its class is called ``__main__.Net``: that was the script, and is pytest or fairguard now."""
    (tmp_path / "train.py").write_text(SCRIPT)
    subprocess.run([sys.executable, "train.py"], cwd=tmp_path, check=True)
    path = tmp_path / "m.pt"
    with pytest.raises(ModelError, match=r"would import __main__\.Net"):
        load_model(path, factory=f"{tmp_path / 'train.py'}:Net")
    with pytest.raises(ModelError, match=r"needs Net from the script that saved it.*--model script\.py:Net"):
        load_model(path, trust=True)
    model = load_model(path, factory=f"{tmp_path / 'train.py'}:Net", trust=True)
    np.testing.assert_array_equal(model.scores(rows()), expected())
    assert not hasattr(sys.modules["__main__"], "Net")


def by_check(first: str, second: str, **how: Any) -> str:
    x, y = rows().x, expected(trained()).argmax(1)
    verdict = check(first, second, (x, y, {"half": np.arange(len(x)) % 2}), model=NET, **how)
    assert verdict.overall.accuracy.dense == 1
    return " ".join(verdict.warnings)


def test_a_moving_average_that_is_not_judged_is_told(tmp_path: Path) -> None:
    plain = saved(tmp_path / "plain.pt", weights())
    path = saved(tmp_path / "ema.pt", {"state_dict": weights(), "state_dict_ema": weights("module.", seed=1)})
    warned = by_check(plain, path)
    assert f"state_dict of {path} is judged; the same network stands under state_dict_ema too, which" in warned
    assert "same network" not in by_check(plain, f"{path}::state_dict")
    other = saved(tmp_path / "loss.pt", {"state_dict": weights(), "criterion": {"weight": torch.ones(3)}})
    assert "same network" not in by_check(plain, other), "a loss has weights of its own"


def test_a_whole_module_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    held = {"model": trained(), "epoch": 3}
    plain, path = saved(tmp_path / "plain.pt", weights()), saved(tmp_path / "yolo.pt", held)
    assert "same network" not in by_check(path, plain, trust=True)
    both = saved(tmp_path / "both.pt", held | {"ema": trained(1)})
    assert "the same network stands under ema too" in by_check(both, plain, trust=True)
    assert "same network" not in by_check(plain, f"{both}::ema", trust=True)
    unclear = saved(tmp_path / "unclear.pt", {"student": trained(), "teacher": trained()})
    with pytest.raises(ModelError, match=r"several modules; add one as .*::NAME: student, teacher"):
        load_model(unclear, trust=True)
    assert by_check(f"{unclear}::student", plain, trust=True) is not None


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_module_that_torch_restores_in_part_is_refused_in_one_line(tmp_path: Path) -> None:
    model = nn.Sequential(torch.ao.quantization.QuantStub(), nn.Conv2d(1, 2, 3), nn.ReLU()).eval()
    torch.ao.quantization.fuse_modules(model, [["1", "2"]], inplace=True)
    model.qconfig = torch.ao.quantization.default_qconfig
    torch.ao.quantization.prepare(model, inplace=True)(torch.zeros(2, 1, 8, 8))
    path = saved(tmp_path / "static.pt", torch.ao.quantization.convert(model))
    with pytest.raises(ModelError, match=r"torch cannot restore this quantised module from a pickle\. Save its state"):
        load_model(path, trust=True)
    assert "torch cannot restore" in str(inspect_file(path, trust=True))


def test_a_type_of_a_few_bits_runs_no_code(tmp_path: Path) -> None:
    held = {"weight": torch.ones(2, 2), "kinds": [torch.int4, torch.uint2, torch.int1]}
    assert detect(saved(tmp_path / "int4.pt", held)).kind is Kind.STATE_DICT
