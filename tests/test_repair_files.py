"""What the user names, as repair and prune take it: one of a checkpoint's sets of weights, modules, row by row."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_repair import HOW
from torch import nn

from fairguard.cli import run
from fairguard.demo import digits
from fairguard.errors import ConfigError, OutputError
from fairguard.repair.pruning import prune
from fairguard.repair.repairing import repair
from fairguard.repair.telling.record import Result

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")
    digits.make(made)
    dense, pruned = (torch.load(made / f"{name}.pt", weights_only=True) for name in ("dense", "pruned"))
    other = {name: torch.zeros_like(tensor) for name, tensor in dense.items()}
    torch.save({"epoch": 3, "teacher": dense, "ema": {"model": pruned}, "state_dict": other}, made / "both.pt")
    torch.save({"net": dense, "critic": {"weight": torch.ones(3, 3)}}, made / "gan.pt")
    flat = {f"critic.{n}": t for n, t in other.items()} | {f"main.{n}": t for n, t in dense.items()}
    save_file(flat, made / "flat.safetensors")
    return made


def loaded(path: str) -> Any:
    return torch.load(path, weights_only=True)


def test_one_of_a_checkpoints_sets_of_weights_is_repaired_and_no_input_written_over(inside: Path) -> None:
    before = Path("both.pt").read_bytes()
    sets = ("both.pt::teacher", "both.pt::ema.model")
    with pytest.raises(OutputError, match=r"both\.pt is the dense input"):
        repair(*sets, "both.pt", **HOW)
    report = repair(*sets, None, **HOW | {"budget": "4epochs", "keep_best": True})
    assert Path("both.pt").read_bytes() == before
    assert report.output == "both.fair.pt"
    held = loaded("both.fair.pt")
    assert set(held) == {"epoch", "ema"}, "the kind of file stays; weights that are no longer the model's go"
    assert report.sparsity[1] >= report.sparsity[0] > 0.5
    assert report.settings["pruned"].endswith("::ema.model")
    assert run(["check", "dense.pt", "both.fair.pt::ema.model"]) == report.exit_code


@pytest.mark.parametrize(
    ("dense", "kept"),
    [("gan.pt::net", ["critic", "net"]), ("flat.safetensors::main", None)],
)
def test_one_of_a_checkpoints_sets_of_weights_is_pruned(dense: str, kept: list[str] | None, inside: Path) -> None:
    with pytest.raises(OutputError, match="is the dense input"):
        prune(dense, dense.partition("::")[0], method="one-shot", sparsity=0.5, model=digits.build)
    report = prune(dense, method="one-shot", sparsity=0.5, **{k: v for k, v in HOW.items() if k != "train"})
    assert report.sparsity >= 0.5
    if kept is not None:
        held = loaded(report.output)
        assert sorted(held) == kept
        assert bool((held["critic"]["weight"] == 1).all())
        assert float((held["net"]["0.weight"] == 0).float().mean()) > 0.2


def test_another_set_of_the_same_file_is_another_repair(inside: Path) -> None:
    how = HOW | {"budget": "2epochs", "keep_best": True}

    def stop(status: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair("both.pt::teacher", "both.pt::ema.model", "again.pt", tell=stop, **how)
    with pytest.raises(ConfigError, match=r"another run: another dense\."):
        repair("dense.pt", "both.pt::ema.model", "again.pt", resume=True, **how)


def test_modules_in_memory_keep_their_modes(inside: Path) -> None:
    dense, pruned = digits.build(), digits.build()
    dense.load_state_dict(loaded("dense.pt"))
    pruned.load_state_dict(loaded("pruned.pt"))
    dense.train()
    pruned.train()
    next(pruned.children()).eval()
    modes = [[part.training for part in net.modules()] for net in (dense, pruned)]
    how = HOW | {"budget": "2epochs", "keep_best": True}
    repair(dense, pruned, "memory.pt", **how)
    prune(dense, "memory-pruned.pt", sparsity=0.5, method="magnitude", **HOW | {"budget": "2epochs"})
    assert [[part.training for part in net.modules()] for net in (dense, pruned)] == modes


class Relative(nn.Module):
    """Digits, each row centred by the mean of its batch: the answer to a row depends on its neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.net = digits.build()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.net(x)
        return found - 2.0 * found.mean(0, keepdim=True) * (len(x) > 1)


def test_row_by_row_models_are_repaired_and_judged_row_by_row(inside: Path) -> None:
    for name in ("dense", "pruned"):
        net = Relative()
        net.net.load_state_dict(loaded(f"{name}.pt"))
        torch.save(net.state_dict(), f"relative-{name}.pt")
    how = HOW | {"model": Relative, "budget": "10epochs", "keep_best": True, "per_row": True, "export": "onnx"}
    report = repair("relative-dense.pt", "relative-pruned.pt", "relative-fair.pt", **how)
    assert report.result in tuple(Result)
    assert report.after is not None
    assert report.check is not None
    alone = repair("dense.pt", "pruned.pt", "plain.pt", **HOW | {"budget": "1epochs", "keep_best": True})
    assert alone.check is not None
    assert report.check.overall.accuracy == alone.check.overall.accuracy, "each row by itself is the plain network"
