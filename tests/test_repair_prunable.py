"""What pruning from scratch masks, and what methods need: a network that can be reset or opened, and epochs enough."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fairguard.cli import run
from fairguard.demo import digits
from fairguard.errors import ModelError
from fairguard.repair.masks import prunable
from fairguard.repair.methods.lth import fresh
from fairguard.repair.starting import left_dense_notes, starting_masks


class Transformer(nn.Module):
    """Tokens in: embedding tables, positions that are learned, a class token, attention, norms, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(50, 16)
        self.positional_embedding = nn.Parameter(torch.randn(1, 13, 16))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.relative_position_bias_table = nn.Parameter(torch.randn(25, 2))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.norm = nn.LayerNorm((13, 16))
        self.out = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), self.tokens(x)], dim=1)
        found: torch.Tensor = self.out(self.norm(self.block(tokens + self.positional_embedding))[:, 0])
        return found


LAYERS = {
    "block.self_attn.in_proj_weight",
    "block.self_attn.out_proj.weight",
    "block.linear1.weight",
    "block.linear2.weight",
    "out.weight",
}


def test_a_transformers_layers_are_pruned_and_its_positions_and_tables_are_not() -> None:
    net = Transformer().eval()
    rows = (torch.randint(0, 50, (4, 12)),)
    assert set(prunable(net)) == LAYERS
    assert set(prunable(torch.jit.trace(net, rows, check_trace=False))) == LAYERS
    exported = torch.export.export(net, rows).module()
    assert set(prunable(exported)) == LAYERS


def test_recurrent_bilinear_and_parametrised_weights_are_pruned() -> None:
    assert set(prunable(nn.LSTM(4, 8))) == {"weight_ih_l0", "weight_hh_l0"}
    assert set(prunable(nn.MultiheadAttention(8, 2, kdim=4, vdim=4))) == {
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight",
    }  # fmt: skip
    normed = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    assert set(prunable(normed)) == {"parametrizations.weight.original"}


class Mixer(nn.Module):
    """A layer of somebody's own, whose matrix has a name of its own, in front of a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.Parameter(torch.randn(64, 16))
        self.scale = nn.Parameter(torch.ones(1, 16))
        self.shared_bias = nn.Parameter(torch.zeros(4, 4))
        self.out = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out((x.flatten(1) @ self.mixing).relu() * self.scale + self.shared_bias.flatten())
        return found


def test_a_matrix_that_is_not_called_weight_is_told_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    torch.save(Mixer().state_dict(), "mixer.pt")
    how = ["--sparsity", "0.5", "--method", "one-shot", "-o", "mixed.pt"]
    assert run(["prune", "mixer.pt", "--model", f"{__file__}:Mixer", *how]) in (0, 1, 3)
    told = "note: 1,024 entries left dense, in matrices that are not called weight: mixing; a parameter with weight"
    assert told in (said := capsys.readouterr().out)
    assert "of 160 weights in 1 tensors" in said
    assert torch.load("mixed.pt", weights_only=True)["mixing"].count_nonzero() == 1024
    assert left_dense_notes(digits.build()) == left_dense_notes(nn.LSTM(4, 8)) == []
    assert left_dense_notes(Transformer()) == [], "positions, tables and norms are left on purpose"


def test_a_model_of_such_matrices_alone_says_why_there_is_nothing_to_prune() -> None:
    net = nn.ParameterDict({"core": torch.randn(3, 4), "pos_embedding": torch.randn(3, 4)})
    with pytest.raises(ModelError, match=r"nothing to prune\. It has 12 entries left dense, .* weight: core;"):
        starting_masks(net, 0.5, "global")


def test_a_net_that_cannot_be_reset_is_no_ticket() -> None:
    with pytest.raises(ModelError, match="--model"):
        fresh(torch.jit.script(digits.build()), 0)
    net = digits.build()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fresh(net, 7)
    assert not any(torch.equal(p, before[name]) for name, p in prunable(net).items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("digits")
    digits.make(made)
    for name in ("dense", "pruned"):
        net = digits.build()
        net.load_state_dict(torch.load(made / f"{name}.pt", weights_only=True))
        torch.jit.save(torch.jit.script(net), made / f"{name}-script.pt")
    return made


@pytest.mark.parametrize("method", ["lth", "fairscratch", "bilevel"])
def test_methods_that_torchscript_has_no_place_for_say_what_to_give_instead(
    method: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    how = ["--trust", "--train", "train.parquet", "--budget", "2epochs", "--method", method]
    for words in (
        ["prune", "dense-script.pt", "--sparsity", "0.5", "-o", "out.pt"],
        ["repair", "dense-script.pt", "pruned-script.pt", "-o", "out.pt"],
    ):
        assert run([*words, *how]) == 2
        said = capsys.readouterr()
        assert said.err.startswith("fairguard: error: ")
        assert said.err.count("\n") == 1
        assert "--model" in said.err
        assert "--method ballot" in said.err
        assert not Path("out.pt").exists()


def test_a_budget_below_a_methods_least_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    how = ["--train", "train.parquet", "--sparsity", "0.5", "-o", "few.pt", "--method", "lth"]
    told = "note: method lth trains for 3 epochs at least, more than --budget"
    run(["prune", "dense.pt", *how, "--budget", "1epochs"])
    assert f"{told} 1epochs allows (1)\n" in (said := capsys.readouterr().out)
    assert "3 epochs," in said
    run(["prune", "dense.pt", *how, "--budget", "3epochs"])
    assert told not in capsys.readouterr().out
