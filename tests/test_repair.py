"""Repair end to end, through the public door and the command: real models, real rows, real files."""

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fairguard.checking import check
from fairguard.cli import run
from fairguard.demo import digits
from fairguard.demo.making import train
from fairguard.errors import ConfigError, FairguardError, ModelError, OutputError
from fairguard.metrics import Metric
from fairguard.policy import Policy
from fairguard.repair.cells import Cells, cells_of
from fairguard.repair.repairing import repair
from fairguard.repair.task import Status
from fairguard.repair.telling.record import Result
from fairguard.verdict import Outcome, Verdict

HOW: dict[str, Any] = {
    "train": "train.parquet",
    "data": "test.parquet",
    "label": "digit",
    "groups": ("class",),
    "model": digits.build,
    "margin": 0.1,
    "device": "cpu",
}


def judged(dense: str, pruned: str, **options: Any) -> Verdict:
    return check(dense, pruned, **{k: v for k, v in HOW.items() if k != "train"}, **options)


def loaded(path: str) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)


def zeros(state: dict[str, torch.Tensor]) -> int:
    return sum(int((t == 0).sum()) for t in state.values() if t.dim() > 1)


def test_digits_end_preserved(inside: Path) -> None:
    assert judged("dense.pt", "pruned.pt").outcome is Outcome.REGRESSED
    report = repair("dense.pt", "pruned.pt", "fair.pt", **HOW)
    assert report.result is Result.REPAIRED
    assert report.exit_code == 0
    assert judged("dense.pt", "fair.pt").outcome is Outcome.PRESERVED
    assert zeros(loaded("fair.pt")) >= zeros(loaded("pruned.pt")), "never less sparse"
    assert report.sparsity[1] >= report.sparsity[0]
    written = json.loads(Path("fair.pt.report.json").read_text())
    assert written["result"] == "repaired"
    assert written["after"]["outcome"] == "preserved"
    assert len(written["trials"]) >= 8
    assert [p.name for p in inside.iterdir() if "repair" in p.name] == [], "the journal is gone"


def test_the_repaired_file_needs_no_fairguard(inside: Path) -> None:
    if not Path("fair.pt").exists():
        repair("dense.pt", "pruned.pt", "fair.pt", **HOW)
    code = (
        "import sys; sys.modules['fairguard'] = None\n"
        "import torch, model\n"
        "net = model.build(); net.load_state_dict(torch.load('fair.pt', weights_only=True))\n"
        "print(net(torch.zeros(1, 64)).shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=inside)
    assert done.stdout.strip() == "torch.Size([1, 10])", done.stderr


def test_tune_rows_that_dense_knows_by_heart_are_told_and_others_are_taken(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--data", "test.parquet", "--label", "digit", "--group", "class", "--model", "model:build"]
    typed += ["--margin", "0.1", "--method", "bias-shift", "--keep-best"]
    rows = pd.read_parquet("train.parquet").sample(frac=1.0, random_state=0)
    # Labels at random that dense then learns by heart: it is right on its own rows alone.
    learned, fresh = rows[:400].copy(), rows[400:800].copy()
    for part in (learned, fresh):
        part["digit"] = np.random.default_rng(len(part)).permutation(part["digit"].to_numpy())
    learned.to_parquet("learned.parquet")
    fresh.to_parquet("fresh.parquet")
    pixels = [name for name in rows if name != "digit"]
    net = digits.build()
    x, y = torch.tensor(learned[pixels].to_numpy("float32")), torch.tensor(learned["digit"].to_numpy("int64"))
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    torch.save(net.state_dict(), "heart.pt")
    told = "knows the former by heart"
    command = ["repair", "heart.pt", "pruned.pt", "--train", "learned.parquet", *typed]
    run([*command, "-o", "a.pt"])
    assert told in " ".join(capsys.readouterr().out.split())
    run([*command, "-o", "b.pt", "--tune", "fresh.parquet"])
    out = " ".join(capsys.readouterr().out.split())
    assert told not in out
    assert "tune 400" in out


def test_a_dense_that_knows_its_rows_by_heart_may_cost_accuracy_and_is_told(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_parquet("train.parquet").sample(frac=1.0, random_state=0)
    rows[:200].to_parquet("few.parquet")
    unseen = pd.read_parquet("test.parquet").sample(frac=1.0, random_state=0)
    unseen[:450].to_parquet("half.parquet")
    unseen[450:].to_parquet("other-half.parquet")
    x, y = rows[:200].drop(columns="digit").to_numpy("float32"), rows[:200]["digit"].to_numpy("int64")
    torch.manual_seed(0)
    net = digits.build()
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(200):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(torch.tensor(x)), torch.tensor(y)).backward()
        optimiser.step()
    torch.save(net.state_dict(), "few.pt")
    weights = net.state_dict()
    for tensor in (tensor for tensor in weights.values() if tensor.dim() > 1):
        tensor[tensor.abs() < tensor.abs().quantile(0.9)] = 0.0
    torch.save(weights, "few-pruned.pt")
    command = ["repair", "few.pt", "few-pruned.pt", "--data", "test.parquet", "--label", "digit", "--group", "class"]
    command += ["--model", "model:build", "--margin", "0.1", "--budget", "1epochs", "--keep-best", "-o", "held.pt"]

    def said(*more: str) -> str:
        run([*command, *more])
        out = " ".join(capsys.readouterr().out.split())
        assert "rows: train" in out
        return out

    held = "dense knows the rows to train on by heart (it is right on 100.0 % of them"
    out = said("--train", "few.parquet")
    assert held in out
    assert "fair is held to its answers: labels alone may give more accuracy, for more flips (--frontier" in out
    assert "by heart (" not in said("--train", "half.parquet", "--data", "other-half.parquet")
    assert "by heart (" not in said("--train", "few.parquet", "--frontier"), "it is shown"
    assert "by heart (" not in said("--train", "few.parquet", "--method", "magnitude"), "it is held to nothing"


def test_the_next_command_that_a_check_names_runs_as_it_stands(
    inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["--data", "test.parquet", "--label", "digit", "--group", "class", "--model", "model:build"]
    typed += ["--margin", "0.1", "--device", "cpu"]
    assert run(["check", "dense.pt", "pruned.pt", *typed, "--output", str(tmp_path / "report.txt")]) == 1
    line = (tmp_path / "report.txt").read_text().splitlines()[-1]
    command = shlex.split(line.removeprefix("next: ").split("   |   ")[0])
    free = "fair-2.pt" if Path("fair.pt").exists() else "fair.pt"
    assert command[:6] == ["fairguard", "repair", "dense.pt", "pruned.pt", "-o", free]
    assert sorted(command[6:]) == sorted(typed), "what was typed, without what means something else to a repair"
    capsys.readouterr()
    assert run([*command[1:5], str(tmp_path / "fair.pt"), *command[6:], "--budget", "2epochs"]) in (0, 1, 3)
    assert "rows: train" in capsys.readouterr().out


def test_rows_to_tune_on_alone_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--train"):
        repair("none.pt", "none.pt", tmp_path / "fair.pt", data="none.csv", tune="none.csv")


def test_what_dense_has_not_learned_yet_is_told_where_the_repaired_model_has(inside: Path) -> None:
    """Repair holds a net near dense, and to train for accuracy alone may be what such a dense needs."""
    rows = pd.read_parquet("train.parquet")
    y = rows.pop("digit").to_numpy()
    torch.manual_seed(0)
    young = train(digits.build(), rows.to_numpy(), y, epochs=2, seed=0).state_dict()
    torch.save(young, "young.pt")
    torch.save({n: t * (t.abs() > t.abs().median()) if t.dim() > 1 else t for n, t in young.items()}, "sparse.pt")
    told = "training for accuracy alone may gain more, for some groups more than for others (--frontier shows it)"
    quick = HOW | {"budget": "10epochs", "method": "ceag"}  # which has the labels alone to learn from
    report = repair("young.pt", "sparse.pt", "grown.pt", **quick)
    (note,) = [note for note in report.notes if told in note]
    assert report.after is not None
    right = report.after.overall.accuracy
    assert note.startswith(
        f"fair is right on {100 * right.pruned:.1f} % of the rows and dense on {100 * right.dense:.1f}"
    )
    others: list[dict[str, Any]] = [{"frontier": True, "budget": "2epochs"}, {"method": "magnitude"}]
    for how in others:
        assert told not in " ".join(repair("young.pt", "sparse.pt", "grown.pt", **quick | how).notes)
    assert told not in " ".join(repair("dense.pt", "pruned.pt", "grown.pt", **quick).notes)


def test_a_preserved_model_is_left_alone(inside: Path) -> None:
    before = sorted(inside.iterdir())
    report = repair("dense.pt", "dense.pt", "other.pt", **HOW)
    assert report.result is Result.NOTHING_TO_DO
    assert report.exit_code == 0
    assert sorted(inside.iterdir()) == before


def test_what_is_not_repaired_is_not_written_unless_asked(inside: Path) -> None:
    hopeless = HOW | {"method": "bias-shift", "accuracy_floor": 0.0, "margin": 0.05, "budget": "1epochs"}
    report = repair("dense.pt", "pruned.pt", "best.pt", **hopeless)
    assert report.result is Result.NOT_REPAIRED
    assert report.exit_code == 1
    assert not Path("best.pt").exists()
    report = repair("dense.pt", "pruned.pt", "best.pt", **hopeless, keep_best=True)
    assert report.exit_code == 1
    assert Path("best.pt").exists()
    assert "NOT REPAIRED: wrote best.pt" in report.to_text()


def test_inputs_are_never_written_over(inside: Path) -> None:
    before = Path("pruned.pt").read_bytes()
    with pytest.raises(OutputError, match="is the pruned input"):
        repair("dense.pt", "pruned.pt", "pruned.pt", **HOW)
    assert Path("pruned.pt").read_bytes() == before


def test_recorded_predictions_cannot_be_repaired(inside: Path) -> None:
    rows = pd.read_parquet("test.parquet")
    wrong = (rows["digit"] + (rows["digit"] == 3)) % 10
    pd.DataFrame({"prediction": rows["digit"]}).to_csv("dense.csv", index=False)
    pd.DataFrame({"prediction": wrong}).to_csv("pruned.csv", index=False)
    with pytest.raises(ModelError, match="needs its weights and their gradients"):
        repair("dense.csv", "pruned.csv", "fair2.pt", **HOW)


def wrap(kind: str, state: dict[str, torch.Tensor], path: str) -> None:
    """Write a state dict as one of the kinds of file that people have."""
    if kind == "checkpoint":
        torch.save({"epoch": 7, "optimizer": {"x": torch.ones(2)}, "state_dict": state}, path)
    elif kind == "prefixed":
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)
    elif kind == "masked":
        halves = {n: t for n, t in state.items() if t.dim() == 1}
        for name in state.keys() - halves.keys():
            halves |= {f"{name}_orig": state[name] + 0.01, f"{name}_mask": (state[name] != 0).float()}
        torch.save(halves, path)
    elif kind == "half":
        torch.save({name: tensor.half() for name, tensor in state.items()}, path)
    elif kind == "safetensors":
        save_file(state, path, metadata={"format": "pt", "made": "here"})
    else:
        net = digits.build()
        net.load_state_dict(state)
        saved = {"module": torch.save, "torchscript": lambda n, p: torch.jit.save(torch.jit.script(n), p)}
        saved[kind](net, path)


def look(kind: str, path: str) -> Any:
    """Return what must be the same of PRUNED's file and of FAIR's."""
    if kind == "safetensors":
        with safe_open(path, "pt") as file:
            return file.metadata(), set(file.keys())
    if kind == "torchscript":
        return sorted(torch.jit.load(path).state_dict())
    held = torch.load(path, weights_only=kind != "module")
    if kind == "module":
        return type(held), sorted(held.state_dict())
    kept = {k: v for k, v in held.items() if k != "optimizer"}
    return {k: (sorted(v) if isinstance(v, dict) else getattr(v, "dtype", v)) for k, v in kept.items()}


@pytest.mark.parametrize("kind", ["checkpoint", "prefixed", "masked", "half", "safetensors", "module", "torchscript"])
def test_fair_is_the_kind_of_file_that_pruned_was(kind: str, inside: Path) -> None:
    path, output = f"pruned-{kind}.pt", f"fair-{kind}.pt"
    wrap(kind, loaded("pruned.pt"), path)
    trust = kind in ("module", "torchscript")
    report = repair("dense.pt", path, output, **HOW | {"budget": "6epochs", "trust": trust, "keep_best": True})
    assert report.output == output
    assert look(kind, output) == look(kind, path)
    assert report.after is not None
    again = judged("dense.pt", output, trust=trust)
    assert again.overall.accuracy.pruned == pytest.approx(report.after.overall.accuracy.pruned)


def test_onnx_answers_as_the_weights_do(inside: Path) -> None:
    repair("dense.pt", "pruned.pt", "exported.pt", **HOW | {"budget": "6epochs", "keep_best": True, "export": "onnx"})
    both = judged("exported.pt", "exported.onnx")
    assert both.overall.harmful_flips + both.overall.beneficial_flips + both.overall.other_flips == 0


def test_the_command_repairs_and_says_so(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["repair", "dense.pt", "pruned.pt", "-o", "typed.pt", "--train", "train.parquet"]) == 0
    said = capsys.readouterr()
    assert "REGRESSED -> preserved" in said.out
    assert said.out.rstrip().endswith("REPAIRED, preserved on unseen rows: wrote typed.pt, typed.pt.report.html")
    assert "next: ship typed.pt" in said.out
    lines = said.err.splitlines()
    assert all(line.startswith("fairguard: retrain ") for line in lines), "progress, where the machine is slow"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--method", "balot"], "Did you mean 'ballot'"),
        (["--budget", "soon"], "write 1.5x"),
        (["-o", "no/such/folder/fair.pt"], "no folder"),
        (["--train", "absent.parquet"], "absent.parquet"),
        (["-o", "dense.pt"], "is the dense input"),
        (["--train", "test.parquet"], "also among the rows to verify on"),
        (["--for", "class=33"], "Did you mean 'class=3'?"),
        (["--keep-mask", "--sparsity", "0.5"], "leave out --sparsity"),
        (["--keep-mask", "--method", "lth"], "leave out --method lth"),
        (["--export", "onnx", "-o", "fair.onnx"], "another ending"),
        (["-o", "fair.onnx"], "--export onnx writes ONNX beside it"),
        (["--device", "tpu"], "give auto, cpu, cuda or a GPU by its number"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], text: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["repair", "dense.pt", "pruned.pt", "--train", "train.parquet", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("fairguard: error: ")
    assert said.err.count("\n") == 1
    assert text in said.err


def test_a_model_without_any_weight_left_is_refused_before_training_unless_it_may_get_some(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({n: t * 0 if t.dim() > 1 else t for n, t in loaded("pruned.pt").items()}, "empty.pt")
    command = ["repair", "dense.pt", "empty.pt", "--train", "train.parquet", "--budget", "2epochs", "-o", "e.pt"]
    assert run(command) == 2
    said = capsys.readouterr().err
    assert said.startswith("fairguard: error: pruned has no weight left")
    assert said.count("\n") == 1
    assert "--sparsity 0.9" in said
    assert run([*command, "--sparsity", "0.9", "--keep-best"]) in (0, 1, 3)
    share = zeros(loaded("e.pt")) / sum(t.numel() for t in loaded("e.pt").values() if t.dim() > 1)
    assert share == pytest.approx(0.9, abs=0.001)


def test_a_report_that_cannot_be_written_costs_no_repair(inside: Path) -> None:
    in_the_way = Path("told.pt.report.html")

    def meanwhile(status: Status) -> None:
        in_the_way.mkdir(exist_ok=True)

    quick = HOW | {"budget": "3epochs", "keep_best": True}
    with pytest.raises(OutputError, match=r"report.html.* The repair itself is done .* --resume writes its reports"):
        repair("dense.pt", "pruned.pt", "told.pt", **quick, tell=meanwhile)
    in_the_way.rmdir()
    seen: list[Status] = []
    report = repair("dense.pt", "pruned.pt", "told.pt", **quick, resume=True, tell=seen.append)
    assert in_the_way.read_text() == report.to_html()
    assert not seen, "nothing is trained twice"


@pytest.mark.parametrize("columns", [False, True])
def test_units_that_were_taken_out_can_be_cut_off_the_repaired_net(columns: bool, inside: Path) -> None:
    weights = loaded("dense.pt")
    layers = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")]
    for layer, after in itertools.pairwise(layers):
        gone = weights[f"{layer}.weight"].abs().sum(1).argsort()[: len(weights[f"{layer}.bias"]) // 2]
        weights[f"{layer}.weight"][gone] = weights[f"{layer}.bias"][gone] = 0
        if columns:
            weights[f"{after}.weight"][:, gone] = 0
    torch.save(weights, "units.pt")
    report = repair("dense.pt", "units.pt", "fair-units.pt", **HOW | {"budget": "6epochs", "keep_best": True})
    assert any("whole units" in note for note in report.notes) == columns
    fair, x = loaded("fair-units.pt"), torch.randn(200, weights[f"{layers[0]}.weight"].shape[1])
    whole, cut = digits.build(), digits.build()
    whole.load_state_dict(fair)
    linear = [module for module in cut.modules() if isinstance(module, torch.nn.Linear)]
    living = torch.ones(x.shape[1], dtype=torch.bool)
    for layer, module in zip(layers, linear, strict=True):
        rows = (fair[f"{layer}.weight"] != 0).any(1) | (layer == layers[-1])
        module.weight = torch.nn.Parameter(fair[f"{layer}.weight"][rows][:, living])
        module.bias = torch.nn.Parameter(fair[f"{layer}.bias"][rows])
        assert layer == layers[-1] or int(rows.sum()) == len(rows) - len(rows) // 2
        living = rows
    assert torch.allclose(whole(x), cut(x), atol=1e-5)


def test_the_reports_on_disk_tell_the_same_next_step_as_the_screen(
    inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = ["--train", "train.parquet", "--margin", "0.01", "--budget", "3epochs", "--keep-best", "-o", "typed.pt"]
    run(["repair", "dense.pt", "pruned.pt", *how, "-q"])
    capsys.readouterr()
    report = json.loads(Path("typed.pt.report.json").read_text())
    assert report["options"] == "--margin 0.01"
    assert "MORE_ROWS --margin 0.01" in Path("typed.pt.report.html").read_text()


def test_another_model_in_memory_is_not_resumed(inside: Path) -> None:
    def stop(status: Status) -> None:
        raise KeyboardInterrupt

    dense, pruned = digits.build(), digits.build()
    dense.load_state_dict(loaded("dense.pt"))
    pruned.load_state_dict(loaded("pruned.pt"))
    quick = HOW | {"budget": "3epochs", "keep_best": True, "checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        repair(dense, pruned, "memory.pt", **quick, tell=stop)
    with torch.no_grad():
        next(iter(dense.parameters())).mul_(1.01)
    with pytest.raises(ConfigError, match=r"of another run: another dense"):
        repair(dense, pruned, "memory.pt", **quick, resume=True)


def test_the_frontier_shows_every_trade_off(inside: Path) -> None:
    quick = HOW | {"budget": "3epochs", "keep_best": True, "frontier": True}
    text = repair("dense.pt", "pruned.pt", "front.pt", **quick).to_text()
    assert text.count("constraint at") == 2 + 1
    assert "accuracy alone" in text
    assert "worst excess drop, points (lower is fairer)" in text
    page = Path("front.pt.report.html").read_text()
    assert 'aria-label="worst excess drop, points by accuracy"' in page
    build = {letter: loaded(f"front.{letter}.pt") for letter in "ABCDE"}
    chosen = [line for line in text.splitlines() if line.endswith("<- chosen")]
    assert len(chosen) == 1
    point = next(p for p in json.loads(Path("front.pt.report.json").read_text())["trials"] if p.get("chosen"))
    told = json.loads(Path("front.pt.report.json").read_text())["settings"]["options"]
    assert {name: told[name] for name in ("aim", "dual", "distil")} == {n: point[n] for n in ("aim", "dual", "distil")}
    assert "chosen on the tune rows: accuracy at its floor first" in text
    best = loaded("front.pt")
    assert all(torch.equal(tensor, best[name]) for name, tensor in build[chosen[0][0]].items())


@pytest.mark.parametrize("metrics", ["recall", ("accuracy", "recall"), "accuracy"])
def test_classes_are_constrained_on_accuracy_which_is_their_recall(metrics: Any) -> None:
    y = torch.arange(300) % 3
    cells = cells_of(("class",), (("x", "y", "z"),), y[:, None], y, n_classes=3, policy=Policy(metrics=metrics))
    assert [(cell.group, cell.metric) for cell in cells] == [(f"class={k}", Metric.ACCURACY) for k in "xyz"]


def test_excess_drops_equal_a_plain_computation() -> None:
    rng = np.random.default_rng(0)
    n = 500
    codes, y = rng.integers(0, 2, size=(n, 2)), rng.integers(0, 2, size=n)
    dense, pruned = rng.integers(0, 2, size=n), rng.integers(0, 2, size=n)
    metrics = tuple(Metric)
    cells = cells_of(
        ("race", "sex"),
        (("A", "B"), ("F", "M")),
        torch.from_numpy(codes),
        torch.from_numpy(y),
        n_classes=2,
        policy=Policy(metrics=metrics, min_group=5),
    )
    assert len(cells) == len(Metric) * (4 + 4)
    over = Cells.over(cells, torch.from_numpy(codes), torch.from_numpy(y))
    labels = torch.from_numpy(y)
    before, after = (over.hits(torch.from_numpy(answers), labels) for answers in (dense, pruned))
    measured = over.measure(after, before)
    for place, cell in enumerate(cells):
        inside = np.all([codes[:, c] == v for c, v in cell.where], axis=0)
        of = {"recall": y == 1, "fpr": y != 1}.get(cell.metric, np.ones(n, dtype=bool))
        lost = {
            "selection_rate": (dense == 1).astype(int) - (pruned == 1).astype(int),
            "harmful_flips": (dense == y) & (pruned != y),
            "disagreement": dense != pruned,
        }.get(cell.metric, (dense == y).astype(int) - (pruned == y).astype(int))
        wanted = lost[inside & of].mean() - lost[~inside & of].mean()
        assert float(measured.excess[place]) == pytest.approx(wanted, abs=1e-5), cell
        rate = ((pruned == 1) if cell.metric is Metric.SELECTION_RATE else (pruned == y))[inside & of].mean()
        assert float(measured.rate[place]) == pytest.approx(rate, abs=1e-5), cell


@pytest.mark.parametrize(
    "options",
    [
        {"amp": "fp16"},
        {"export": "tflite"},
        {"sparsity": 0.0},
        {"sparsity": 1.0},
        {"accuracy_floor": -0.1},
        {"lr": 0.0},
    ],
)
def test_impossible_options_are_refused_before_anything_opens(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        repair("absent.pt", "absent-too.pt", "x.pt", **options)


def test_an_accuracy_floor_of_zero_is_taken_at_its_word(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["--train", "train.parquet", "--budget", "1epochs", "--accuracy-floor", "0", "--keep-best"]
    run(["repair", "dense.pt", "pruned.pt", "-o", "floor.pt", *typed])
    said = capsys.readouterr().out
    assert "note: method ballot trains for 2 epochs at least, more than --budget 1epochs allows (1)\n" in said
    assert json.loads(Path("floor.pt.report.json").read_text())["settings"]["plan"]["accuracy_floor"] == 0


def test_a_repair_of_other_options_is_not_resumed(inside: Path) -> None:
    journal = inside / ".resumed.pt.repair"
    how = HOW | {"budget": "2epochs", "keep_best": True}

    def stop(status: Status) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repair("dense.pt", "pruned.pt", "resumed.pt", tell=stop, **how)
    assert journal.exists()
    with pytest.raises(ConfigError, match="another run"):
        repair("dense.pt", "pruned.pt", "resumed.pt", resume=True, **how | {"margin": 0.05})
    made = journal / "purpose.json"
    whole = made.read_text()
    unnumbered = {name: value for name, value in json.loads(whole).items() if name != "fairguard"}
    for of_old in (unnumbered, unnumbered | {"fairguard": "training 0"}):
        made.write_text(json.dumps(of_old))
        with pytest.raises(ConfigError, match=r"of another run: another fairguard\. .* leave out --resume"):
            repair("dense.pt", "pruned.pt", "resumed.pt", resume=True, **how)
    made.write_text(whole)
    assert repair("dense.pt", "pruned.pt", "resumed.pt", resume=True, **how).output == "resumed.pt"
    assert not journal.exists()


def test_an_input_is_never_exported_over(inside: Path) -> None:
    shutil.copy("dense.pt", "kept.onnx")  # a name is no kind: this is a state dict
    with pytest.raises(OutputError, match=r"kept\.onnx is the dense input"):
        repair("kept.onnx", "pruned.pt", "kept.pt", export="onnx", **HOW)


def test_every_error_is_the_tools_own(inside: Path) -> None:
    with pytest.raises(FairguardError, match="unknown option"):
        repair("dense.pt", "pruned.pt", "x.pt", **HOW, budjet="1x")


def test_the_example_walks_from_regressed_to_preserved(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "examples" / "repair" / "walk.py"
    done = subprocess.run([sys.executable, str(script), str(tmp_path / "digits")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "1. pruned:   regressed" in done.stdout
    assert "2. repaired: repaired - exit code 0" in done.stdout
    assert "3. fair:     preserved" in done.stdout


KILLED = """
import sys
import time
from pathlib import Path
from fairguard.demo import digits
from fairguard.repair.repairing import repair
how = dict(label="digit", groups=("class",), model=digits.build, margin=0.1, device="cpu", budget="60epochs")
print("begun", flush=True)
repair("dense.pt", "pruned.pt", sys.argv[1], train="train.parquet", data="test.parquet", resume=True,
       checkpoint_seconds=0.0, keep_best=True, **how)
"""


def test_a_killed_repair_resumed_gives_the_same_file(inside: Path) -> None:
    def start(output: str) -> subprocess.Popen[str]:
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", KILLED, output], env=env, stdout=subprocess.PIPE, text=True)

    whole, torn = start("whole.pt"), start("torn.pt")
    journal = inside / ".torn.pt.repair"
    while torn.poll() is None and not list(journal.glob("retrain.running.pt")):
        time.sleep(0.02)
    torn.send_signal(signal.SIGKILL)
    assert torn.wait() == -signal.SIGKILL, "it ended before the kill"
    assert not Path("torn.pt").exists()
    assert start("torn.pt").wait() == 0
    assert whole.wait() == 0
    one, other = loaded("whole.pt"), loaded("torn.pt")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not journal.exists()
