"""`fairguard prune`: every method from the command line on real rows, the file that it writes, what it refuses."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fairguard.cli import run
from fairguard.demo import digits
from fairguard.errors import ConfigError, ModelError
from fairguard.repair.methods import METHODS
from fairguard.repair.pruning import ONE_SHOT, prune
from fairguard.repair.starting import starting_masks
from fairguard.repair.task import Status

EVERY = (ONE_SHOT, *METHODS)
State = dict[str, torch.Tensor]


@pytest.fixture
def bare(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the dense model alone, its network beside it: no rows, no configuration."""
    for name in ("dense.pt", "model.py"):
        shutil.copy(folder / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(path: str | Path) -> State:
    return torch.load(path, weights_only=True)


def matrices(state: State) -> State:
    return {name: t for name, t in state.items() if t.dim() > 1}


def sparsity(state: State) -> float:
    found = list(matrices(state).values())
    return sum(int((t == 0).sum()) for t in found) / sum(t.numel() for t in found)


@pytest.mark.parametrize("method", EVERY)
def test_every_method_on_digits(method: str, inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"digits-{method}.pt"
    quick = ["--train", "train.parquet", "--budget", "2epochs", "-o", output]
    code = run(["prune", "dense.pt", "--method", method, "--sparsity", "0.8", *quick])
    said = capsys.readouterr()
    assert code in (0, 1, 3), said.err
    told = [line for line in said.err.splitlines() if not re.match(r"fairguard: .+ \d+/\d+  loss ", line)]
    assert told == [], "nothing but how far training is, where a busy machine takes its time"
    assert f"method {method}, global" in said.out
    assert f"wrote {output}" in said.out
    assert {n: t.shape for n, t in loaded(output).items()} == {n: t.shape for n, t in loaded("dense.pt").items()}
    assert sparsity(loaded(output)) >= 0.8
    assert all(bool(t.any()) for t in matrices(loaded(output)).values()), "no layer is empty"
    assert run(["check", "dense.pt", output]) == code, "the check of the written file says the same"


def test_what_training_left_out_is_told(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--sparsity", "0.8", "--train", "train.parquet", "-o", "told.pt", "--budget", "2epochs"]
    run(["prune", "dense.pt", *how, "--method", "ceag", "--min-group", "80"])
    assert "(--min-group): trained without one" in capsys.readouterr().out
    run(["prune", "dense.pt", *how, "--method", "magnitude", "--reference", "equal"])
    assert "--reference equal changes nothing in how --method magnitude trains" in capsys.readouterr().out


def test_classes_end_more_equally_right_where_that_is_asked(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spreads = {}
    for reference in ("dense", "equal"):
        output = f"{reference}-reference.pt"
        asked = ["--sparsity", "0.8", "--reference", reference, "--train", "train.parquet", "-o", output]
        assert run(["prune", "dense.pt", *asked, "--budget", "20epochs"]) in (0, 1, 3)
        assert ("the verdict is against dense all the same" in capsys.readouterr().out) == (reference == "equal")
        table = pd.read_parquet("train.parquet")
        net = digits.build()
        net.load_state_dict(loaded(output))
        found = net(torch.tensor(table.drop(columns="digit").to_numpy(np.float32))).argmax(1).numpy()
        spreads[reference] = (found == table["digit"]).groupby(table["digit"]).mean().std()
    assert spreads["equal"] < spreads["dense"] + 0.02
    assert run(["prune", "dense.pt", "--sparsity", "0.8", "--reference", "fair"]) == 2
    assert "dense" in capsys.readouterr().err


class Applicants(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.fixture(scope="module")
def law(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Who passed the bar, by race and sex: 20,798 real people, half of them to train on."""
    made = tmp_path_factory.mktemp("law")
    table = pd.read_csv(data_dir / "law_school.csv.gz")
    features = [c for c in table.columns if c not in ("race", "sex", "label")]
    table[features] = (table[features] - table[features].mean()) / table[features].std()
    table = table.astype(dict.fromkeys(features, np.float32)).sample(frac=1, random_state=0)
    train, test = table.iloc[:10_000], table.iloc[10_000:]
    train.to_parquet(made / "train.parquet", index=False)
    test.to_parquet(made / "test.parquet", index=False)
    torch.manual_seed(0)
    net = Applicants()
    x, y = torch.tensor(train[features].to_numpy()), torch.tensor(train["label"].to_numpy(np.int64))
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(8):
        for rows in torch.randperm(len(y)).split(256):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    torch.save(net.state_dict(), made / "dense.pt")
    layers = "nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2)"
    (made / "model.py").write_text(f"from torch import nn\n\n\ndef build():\n    return nn.Sequential({layers})\n")
    (made / "fairguard.toml").write_text(
        'model = "model.py:build"\ndata = "test.parquet"\nlabel = "label"\ngroups = ["race", "sex"]\n'
    )
    return made


@pytest.mark.parametrize("method", [m for m in EVERY if m != "bias-shift"])
def test_every_method_on_law_school(
    method: str, law: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(law)
    output = f"law-{method}.pt"
    quick = ["--train", "train.parquet", "--budget", "1epochs", "-o", output, "--format", "json", "--scope", "layer"]
    code = run(["prune", "dense.pt", "--method", method, "--sparsity", "0.7", *quick])
    said = capsys.readouterr()
    assert code in (0, 1, 3), said.err
    report = json.loads(said.out)
    assert report["outcome"] == {0: "preserved", 1: "regressed", 3: "inconclusive"}[code]
    assert {row["group"] for row in report["verdict"]["groups"]} >= {"race=Non-White", "race=White", "sex=female"}
    assert report["sparsity"] == pytest.approx(sparsity(loaded(output)))
    assert report["sparsity"] >= report["asked"] == 0.7
    if method != "safecompress":  # whose threshold moves weights from layer to layer
        for name, weight in matrices(loaded(output)).items():
            assert int((weight != 0).sum()) <= round(0.3 * weight.numel()), name


def test_bias_shift_says_which_groups_it_is_for(
    law: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(law)
    assert run(["prune", "dense.pt", "--method", "bias-shift", "--sparsity", "0.7", "-o", "x.pt"]) == 2
    assert "groups that are the classes" in capsys.readouterr().err
    assert not Path("x.pt").exists()


def test_one_shot_needs_a_dense_file_alone(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--method", "one-shot", "--sparsity", "0.8", "--model", "model.py:build"]
    assert run(["prune", "dense.pt", *how]) == 0
    said = capsys.readouterr()
    assert "NOT JUDGED: no labelled rows were given" in said.out
    assert said.err == ""
    assert json.loads(Path("dense.pruned.pt.report.json").read_text())["verdict"] is None
    dense, pruned = loaded("dense.pt"), loaded("dense.pruned.pt")
    for name, weight in pruned.items():
        alive = (weight != 0) if weight.dim() > 1 else torch.ones_like(weight, dtype=torch.bool)
        assert torch.equal(weight[alive], dense[name][alive]), "what lives is dense's own"


def test_per_layer_survivors_are_each_layers_largest(bare: Path) -> None:
    prune("dense.pt", "out.pt", method=ONE_SHOT, sparsity=0.75, scope="layer", model=digits.build)
    pruned = matrices(loaded("out.pt"))
    for name, weight in matrices(loaded("dense.pt")).items():
        sizes = weight.abs().flatten().numpy()
        alive = np.sort(np.argsort(-sizes)[: round(0.25 * len(sizes))])
        assert np.array_equal(np.flatnonzero(pruned[name].flatten().numpy()), alive)


def test_global_survivors_are_the_largest_of_all_but_for_the_floor(bare: Path) -> None:
    prune("dense.pt", "out.pt", method=ONE_SHOT, sparsity=0.8, model=digits.build)
    dense, pruned = matrices(loaded("dense.pt")), matrices(loaded("out.pt"))
    alive = torch.cat([(t != 0).flatten() for t in pruned.values()])
    sizes = torch.cat([t.abs().flatten() for t in dense.values()])
    cut = sizes[~alive].max()
    out_of_turn = alive & (sizes < cut)
    assert int(alive.sum()) == int(0.2 * len(sizes))
    assert int(out_of_turn.sum()) < 0.02 * int(alive.sum())
    shares = [float((t != 0).float().mean()) for t in pruned.values()]
    assert max(shares) > 1.5 * min(shares), "layers competed"


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("asked", [0.013, 1 / 3, 0.5, 0.777, 0.9, 0.97, 0.99])
def test_never_less_sparse_than_asked_and_no_layer_dies(asked: float, scope: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(7, 33), nn.ReLU(), nn.Linear(33, 13), nn.ReLU(), nn.Linear(13, 3))
    with torch.no_grad():
        net[4].weight.mul_(1e-3)  # the smallest weights of all: alone, a global cut would empty the last layer
    masks = starting_masks(net, asked, scope)
    assert masks.sparsity >= asked - 1e-12
    assert masks.sparsity <= asked + 1.5 / masks.total * (3 if scope == "layer" else 1) + 1e-9
    assert all(bool(keep.any()) for keep in masks.keep.values())
    assert all(bool(keep.flatten(1).any(1).float().mean() > 0.3) for name, keep in masks.keep.items() if asked < 0.9)


def test_a_sparsity_that_would_empty_a_layer_is_refused() -> None:
    with pytest.raises(ModelError, match="so that no layer is empty"):
        starting_masks(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), 0.999, "global")
    with pytest.raises(ModelError, match="nothing to prune"):
        starting_masks(nn.Sequential(nn.Embedding(10, 4), nn.BatchNorm1d(4)), 0.5, "global")


class Normed(nn.Module):
    """Weight norm, a class token and a single output: vectors with dimensions of one beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.utils.parametrizations.weight_norm(nn.Linear(64, 16))
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.out = nn.Linear(16, 1)


def test_vectors_are_not_pruned_whatever_their_shape() -> None:
    masks = starting_masks(Normed(), 0.5, "global")
    assert set(masks.keep) == {"inner.parametrizations.weight.original1", "out.weight"}


def wrapped(kind: str, state: State, path: str) -> None:
    net = digits.build()
    net.load_state_dict(state)
    if kind == "checkpoint":
        torch.save({"epoch": 7, "optimizer": {"x": torch.ones(2)}, "state_dict": state}, path)
    elif kind == "half":
        torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    elif kind == "safetensors":
        save_file(state, path, metadata={"format": "pt", "made": "here"})
    elif kind == "module":
        torch.save(net, path)
    elif kind == "torchscript":
        torch.jit.save(torch.jit.script(net), path)
    else:
        rows = {0: torch.export.Dim("rows")}
        torch.export.save(torch.export.export(net, (torch.zeros(2, 64),), dynamic_shapes=(rows,)), path)


@pytest.mark.parametrize("method", [ONE_SHOT, "magnitude"])
@pytest.mark.parametrize("kind", ["checkpoint", "half", "safetensors", "module", "torchscript", "exported"])
def test_the_kind_of_file_that_dense_was(
    kind: str, method: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = {"safetensors": ".safetensors", "exported": ".pt2"}.get(kind, ".pt")
    dense, output = f"dense-{kind}{ending}", f"sparse-{kind}-{method}{ending}"
    wrapped(kind, loaded("dense.pt"), dense)
    trust = ["--trust"] if kind in ("module", "torchscript", "exported") else []
    how = ["--method", method, "--sparsity", "0.6", "--budget", "2epochs", "--train", "train.parquet", *trust]
    assert run(["prune", dense, *how, "-o", output]) in (0, 1, 3), capsys.readouterr().err
    capsys.readouterr()
    assert run(["inspect", dense, *trust, "--model", "model.py:build"]) == 0
    before = capsys.readouterr().out
    assert run(["inspect", output, *trust, "--model", "model.py:build"]) == 0
    after = capsys.readouterr().out
    kinds = [text.splitlines()[0].split(": ")[1].split(",")[0] for text in (before, after)]
    assert kinds[0] == kinds[1]
    types = [re.findall(r"(\S+weight\S*) +(\S+) +(\S+)", text) for text in (before, after)]
    assert types[0] == types[1] != [], "names, shapes and dtypes stay"
    assert "60.0 % of the weights zero" in after


def test_a_program_that_takes_no_scores_is_told_of(inside: Path) -> None:
    """By the method itself, so whoever runs it: repair told of it, prune did not."""
    wrapped("torchscript", loaded("dense.pt"), "program.pt")
    how = {"train": "train.parquet", "data": "test.parquet", "label": "digit", "groups": ("class",), "trust": True}
    said = "this kind of file takes no scores that learn"
    for method, told in (("ballot", True), ("magnitude", False)):
        report = prune("program.pt", "sparse.pt", method=method, sparsity=0.6, budget="2epochs", **how)
        assert any(said in note for note in report.notes) == told


def test_a_module_in_memory_is_left_as_it_is(inside: Path) -> None:
    net = digits.build()
    net.load_state_dict(loaded("dense.pt"))
    report = prune(
        net, "memory.pt", method=ONE_SHOT, sparsity=0.3, data="test.parquet", label="digit", groups=("class",)
    )
    assert all(torch.equal(t, net.state_dict()[name]) for name, t in loaded("dense.pt").items())
    assert report.verdict is not None
    assert report.exit_code in (0, 3)
    assert sparsity(loaded("memory.pt")) == pytest.approx(report.sparsity)


def test_more_sparsity_costs_more(inside: Path) -> None:
    how: dict[str, Any] = {"method": ONE_SHOT, "model": digits.build, "data": "test.parquet", "label": "digit"}
    reports = [
        prune("dense.pt", "cost.pt", sparsity=s, groups=("class",), margin=0.1, **how) for s in (0.01, 0.7, 0.95)
    ]
    assert [r.exit_code for r in reports] == [0, 1, 1], "the outcome is the exit code, and all of them are written"
    correct = [r.verdict.overall.accuracy.pruned for r in reports if r.verdict is not None]
    assert all(one > other for one, other in pairwise(correct))


def test_a_model_that_everybody_lost_by_is_not_called_fine(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_parquet("test.parquet")
    rows.assign(half=np.arange(len(rows)) % 2).to_parquet("halves.parquet", index=False)
    data = ["--data", "halves.parquet", "--group", "half", "--margin", "0.15", "--method", "one-shot"]
    assert run(["prune", "dense.pt", "--sparsity", "0.95", "-o", "broken.pt", *data]) == 0
    said = capsys.readouterr().out
    assert "no group lost more than the others beyond the margin, but " in said
    assert "next: overall accuracy fell from " in said
    assert "keep it so" not in said


def test_rows_for_the_verdict_are_never_trained_on(inside: Path) -> None:
    how: dict[str, Any] = {"model": digits.build, "label": "digit", "groups": ("class",), "budget": "1epochs"}
    both = prune("dense.pt", "split.pt", method="magnitude", sparsity=0.5, data="test.parquet", **how)
    assert both.verdict is not None
    parts = both.splits
    assert parts["train"] + parts["tune"] + parts["verify"] == 899
    assert both.verdict.overall.n == parts["verify"] < 300
    alone = prune("dense.pt", "split.pt", method="magnitude", sparsity=0.5, train="train.parquet", **how)
    assert alone.verdict is not None
    assert alone.verdict.overall.n == alone.splits["verify"] < 300, "with --train alone a part is held back"


def test_an_interrupted_pruning_resumed_gives_the_same_file(inside: Path) -> None:
    how: dict[str, Any] = {
        "method": "lth",
        "sparsity": 0.6,
        "budget": "14epochs",
        "model": digits.build,
        "train": "train.parquet",
        "data": "test.parquet",
        "label": "digit",
        "groups": ("class",),
        "checkpoint_seconds": 0.0,
        "device": "cpu",
    }
    prune("dense.pt", "whole.pt", **how)
    seen: list[Status] = []

    def interrupt(status: Status) -> None:
        seen.append(status)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune("dense.pt", "torn.pt", tell=interrupt, **how)
    assert not Path("torn.pt").exists()
    rest: list[Status] = []
    prune("dense.pt", "torn.pt", tell=rest.append, resume=True, **how)
    assert len(rest) < len(seen) + 8, "what was done is not done again"
    one, other = loaded("whole.pt"), loaded("torn.pt")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(inside.glob(".*.prune")), "the journal is gone"


def test_onnx_answers_as_the_weights_do(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    how = ["--method", "one-shot", "--sparsity", "0.5", "--export", "onnx", "-q"]
    assert run(["prune", "dense.pt", *how, "-o", "exported.pt"]) in (0, 1, 3)
    assert capsys.readouterr().out.rstrip().endswith("wrote exported.pt")
    assert run(["check", "exported.pt", "exported.onnx", "--format", "json"]) == 0
    overall = json.loads(capsys.readouterr().out)["overall"]
    assert overall["harmful_flips"] + overall["beneficial_flips"] + overall["other_flips"] == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--method", "one-shott", "--sparsity", "0.5"], "Did you mean 'one-shot'"),
        (["--method", "lottery", "--sparsity", "0.5"], "Methods: one-shot, ballot"),
        ([], "--sparsity"),
        (["--sparsity", "90"], "90.0 is not in the range"),
        (["--sparsity", "0.5"], "method ballot learns from labelled rows"),
        (["--sparsity", "0.5", "--train", "t.csv"], "no group to judge"),
        (["--sparsity", "0.5", "--method", "one-shot", "--data", "t.csv"], "no group to judge"),
        (["--sparsity", "0.5", "--train", "absent.csv", "--group", "class"], "absent.csv"),
        (["--sparsity", "0.5", "--method", "one-shot", "--export", "onnx"], "name some with --data"),
        (["--sparsity", "0.5", "--method", "one-shot", "-o", "dense.pt"], "is the dense input"),
        (["--sparsity", "0.5", "--method", "one-shot", "-o", "no/out.pt"], "no folder"),
        (["--sparsity", "0.99999", "--method", "one-shot"], "so that no layer is empty"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(
    arguments: list[str], text: str, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.random.default_rng(0).random((20, 64)).round(3)
    pd.DataFrame(pixels).assign(digit=range(20)).astype({"digit": int}).to_csv("t.csv", index=False)
    before = sorted(bare.iterdir())
    code = run(["prune", "dense.pt", "--model", "model.py:build", "--label", "digit", *arguments])
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("fairguard: error: ")
    assert said.err.count("\n") == 1
    assert text in said.err
    assert said.out == ""
    assert [p for p in sorted(bare.iterdir()) if p.name != "__pycache__"] == before


def test_the_sparsity_has_to_be_said(inside: Path) -> None:
    with pytest.raises(ConfigError, match="no sparsity: "):
        prune("dense.pt", "x.pt", method="one-shot")


def test_models_without_weights_cannot_be_pruned(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = pd.read_parquet("test.parquet")
    pd.DataFrame({"prediction": rows["digit"]}).to_csv("recorded.csv", index=False)
    assert run(["prune", "recorded.csv", "--sparsity", "0.5", "--method", "one-shot"]) == 2
    assert "needs its weights" in capsys.readouterr().err
