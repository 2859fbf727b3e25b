"""What is written replaces nothing that is read, is found out early, and is never written by two runs at once."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import onnx
import pytest
import torch
from filelock import FileLock
from torch import nn
from torch.nn.utils import prune

from fairguard.checking import check
from fairguard.cli import run
from fairguard.demo import digits
from fairguard.errors import ConfigError, DataError, ModelError, OutputError
from fairguard.files import typed, write_text
from fairguard.inputs.parts import refuse_read
from fairguard.repair.journal import Journal
from fairguard.repair.repairing import repair

CHECK = ["check", "dense.pt", "pruned.pt"]
PRUNE = ["prune", "dense.pt", "--method", "one-shot", "--sparsity", "0.97"]
REPAIR = ["repair", "dense.pt", "pruned.pt", "--train", "train.parquet"]


@pytest.mark.parametrize(
    ("arguments", "kept", "role"),
    [
        ([*CHECK, "--output", "pruned.pt", "--format", "json"], "pruned.pt", "pruned"),
        ([*CHECK, "--output", "fairguard.toml"], "fairguard.toml", "config"),
        ([*CHECK, "--flips", "test.parquet"], "test.parquet", "data"),
        ([*CHECK, "--flips", "train.parquet", "--seeds", "pruned.pt", "train.parquet"], "train.parquet", "seed 2"),
        ([*CHECK, "--output", "train.parquet", "--seeds", "train.parquet"], "train.parquet", "seed 1"),
        ([*REPAIR, "-o", "fairguard.toml"], "fairguard.toml", "config"),
        ([*REPAIR, "-o", "model.py"], "model.py", "model"),
        ([*REPAIR, "-o", "train.parquet"], "train.parquet", "train"),
        ([*PRUNE, "-o", "model.py"], "model.py", "model"),
        (["init", "test.parquet", "--output", "test.parquet", "--force"], "test.parquet", "data"),
        (["fuzz", "dense.pt", "pruned.pt", "--swap", "digit", "--save", "model.py"], "model.py", "model"),
    ],
)
def test_nothing_that_is_read_is_written_over(
    arguments: list[str], kept: str, role: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path(kept).read_bytes()
    assert run(arguments) == 2
    assert f"{kept} is the {role} input, which would be lost" in capsys.readouterr().err
    assert Path(kept).read_bytes() == before


@pytest.mark.parametrize(("kind", "refused"), [("html", False), ("json", True)])
def test_a_folder_is_in_the_way_of_what_is_written_alone(
    kind: str, refused: bool, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prune writes no page."""
    (folder := Path(f"{kind}.pt.report.{kind}")).mkdir()
    code = run([*PRUNE, "-o", f"{kind}.pt"])
    folder.rmdir()
    said = capsys.readouterr()
    assert (code == 2) == refused, said.err
    assert (f"cannot write {folder}" in said.err) == refused


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "net.onnx", "net.onnx", "--output", "net.onnx.data"],
        ["fuzz", "net.onnx", "pruned.pt", "--swap", "digit", "--save", "net.onnx.data"],
        ["repair", "net.onnx", "pruned.pt", "--train", "train.parquet", "-o", "net.onnx.data"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_weights_beside_a_graph_are_not_written_over(
    arguments: list[str], inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported("net.onnx")
    before = Path("net.onnx.data").read_bytes()
    assert run(arguments) == 2
    assert "net.onnx.data holds weights of the dense input, which would be lost" in capsys.readouterr().err
    assert Path("net.onnx.data").read_bytes() == before


def test_what_a_graph_names_holds_its_weights_whatever_the_name(inside: Path) -> None:
    exported("plain.onnx")
    graph = onnx.load("plain.onnx")
    onnx.save(graph, "named.onnx", save_as_external_data=True, location="weights.csv", size_threshold=0)
    with pytest.raises(OutputError, match=r"weights\.csv holds weights of the pruned input"):
        check("dense.pt", "named.onnx", data="test.parquet", label="digit", groups=("class",), flips="weights.csv")


def exported(name: str) -> None:
    """Write a network as ONNX with its weights in a file beside it."""
    torch.onnx.export(
        digits.build().eval(), (torch.zeros(2, 64),), name, dynamo=True, external_data=True, verbose=False
    )


def test_nothing_is_written_into_a_model_of_many_files(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("hf").mkdir(exist_ok=True)
    Path("hf/model.safetensors").write_bytes(b"weights")
    for name in ("hf/model.safetensors", "hf/tokenizer.json"):
        assert run(["check", "dense.pt", "hf", "--output", name]) == 2
        assert f"{name} lies in the pruned input, the folder hf; name a file outside it" in capsys.readouterr().err
    assert Path("hf/model.safetensors").read_bytes() == b"weights"
    for name in ("hf/new.json", "hf/flips.csv", "hf/pruned.fair"):  # beside the model, where one may well work
        refuse_read(name, {"pruned": "hf"})


def test_several_reports_of_one_check_look_as_their_names_say(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = {"v.html": "<!doctype html>", "v.json": "{", "v.sarif": "{", "v.xml": "<?xml", "v.txt": "899 rows"}
    assert run([*CHECK, *(part for name in begin for part in ("--output", name))]) == 1
    told = capsys.readouterr()
    assert not told.out
    assert "reports: v.html, v.json, v.sarif, v.xml, v.txt" in told.err
    for name, text in begin.items():
        assert Path(name).read_text().lower().startswith(text), name
    assert "schema" in json.loads(Path("v.json").read_text())
    assert "runs" in json.loads(Path("v.sarif").read_text())
    assert run([*CHECK, "--format", "json", "--output", "v.html"]) == 1
    assert Path("v.html").read_bytes()[:1] == b"{", "what is typed wins"
    assert run([*CHECK, "--output", "v.html", "--output", "./v.html"]) == 2
    assert "--output and --output are both ./v.html" in capsys.readouterr().err


def test_report_and_flips_are_two_files(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*CHECK, "--output", "flips.csv", "--flips", "./flips.csv"]) == 2
    assert "--output and --flips are both ./flips.csv" in capsys.readouterr().err
    assert not Path("flips.csv").exists()


@pytest.mark.parametrize(
    ("output", "text"),
    [("", "it is a folder"), (".", "it is a folder"), ("n" * 250 + ".pt", "over 200 bytes"), ("pipe.pt", "no regular")],
)
def test_what_cannot_be_written_is_found_out_before_training(
    output: str, text: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if output == "pipe.pt" and not Path(output).exists():
        os.mkfifo(output)
    for command in (REPAIR, PRUNE):
        assert run([*command, "-o", output]) == 2
        said = capsys.readouterr().err
        assert text in said
        assert "internal" not in said
    assert run([*CHECK, "--output", output or "."]) == 2
    if output == "pipe.pt":
        assert stat.S_ISFIFO(Path(output).stat().st_mode)


def test_a_link_to_where_nothing_can_be_written_is_met_before_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("away.pt").symlink_to(tmp_path / "absent" / "fair.pt")
    Path("circle.json").symlink_to("circle.json")
    for arguments in ([*REPAIR, "-o", "away.pt"], [*CHECK, "--output", "away.pt"], [*CHECK, "--flips", "away.csv"]):
        Path("away.csv").unlink(missing_ok=True)
        Path("away.csv").symlink_to(tmp_path / "absent" / "flips.csv")
        assert run(arguments) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert "absent is no folder that can be written to" in told
    assert run([*CHECK, "--output", "circle.json", "--flips", "flips.csv"]) == 2
    assert "internal" not in capsys.readouterr().err


def test_a_link_stays_one_and_its_target_is_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "run42.json").write_text("old")
    (tmp_path / "latest.json").symlink_to("run42.json")
    write_text(tmp_path / "latest.json", "new")
    assert (tmp_path / "latest.json").is_symlink()
    assert (tmp_path / "run42.json").read_text() == "new"


def test_two_runs_never_share_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path / "j", purpose={"a": 1})
    first.save("stage.done", {"x": torch.ones(2)})
    with pytest.raises(ConfigError, match="another run is at work"):
        Journal(tmp_path / "j", purpose={"a": 1})
    assert first.load("stage.done") is not None
    first.close()
    assert not (tmp_path / "j").exists()
    second = Journal(tmp_path / "j", purpose={"a": 1})
    second.save("stage.running", {"x": torch.ones(2)})
    del second
    assert Journal(tmp_path / "j", purpose={"a": 1}).dropped, "a run that has died holds nothing"


def test_a_journal_lets_go_of_its_folder_however_the_work_ends(tmp_path: Path) -> None:
    def work(*, resume: bool) -> None:
        with Journal(tmp_path / "j", purpose={"a": 1}, resume=resume) as journal:
            if resume:
                assert journal.load("stage.running") is not None
                journal.forget("stage.running")
            else:
                journal.save("stage.running", {"x": torch.ones(2)})
            raise ValueError("the work failed")

    for resume in (False, True):
        with pytest.raises(ValueError, match="the work failed") as kept:
            work(resume=resume)
        assert kept.tb, "whoever keeps the error keeps the journal alive"
        assert (tmp_path / "j").exists() != resume, "a folder without a stage is of no use"


def test_a_damaged_checkpoint_is_done_anew_and_told(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", purpose={"a": 1}) as journal:
        journal.save("stage.running", {"x": torch.ones(2)})
        journal.save("stage.done", {"x": torch.ones(2)})
    for name, size in (("stage.running.pt", 100), ("stage.done.pt", 0)):
        (tmp_path / "j" / name).write_bytes((tmp_path / "j" / name).read_bytes()[:size])
    with Journal(tmp_path / "j", purpose={"a": 1}, resume=True) as journal:
        assert journal.load("stage.running") is None
        assert journal.stage("stage", lambda: {"x": torch.zeros(1)})["x"].item() == 0
        assert [note.split(" could")[0] for note in journal.notes] == ["stage.running.pt", "stage.done.pt"]


def test_a_resumed_run_says_what_is_other(tmp_path: Path) -> None:
    Journal(tmp_path / "j", purpose={"data": 1, "plan": {"lr": 0.1, "budget": "1x"}})
    with pytest.raises(ConfigError, match=r"another run: --lr \S+ there, \S+ here, another data\."):
        Journal(tmp_path / "j", purpose={"data": 2, "plan": {"lr": 0.2, "budget": "1x"}}, resume=True)


@pytest.mark.parametrize("purpose", [None, '{"a":', "3", "\udcff"])
def test_stages_of_nobody_knows_which_run_are_not_gone_on_with(tmp_path: Path, purpose: str | None) -> None:
    """A kill while the folder was emptied for another run leaves such."""
    with Journal(tmp_path / "j", purpose={"a": 1}) as journal:
        journal.save("stage.done", {"x": torch.ones(2)})
    file = tmp_path / "j" / "purpose.json"
    file.unlink() if purpose is None else file.write_bytes(purpose.encode(errors="surrogateescape"))
    with Journal(tmp_path / "j", purpose={"a": 2}, resume=True) as journal:
        assert journal.load("stage.done") is None
        assert journal.notes == ("purpose.json could not be read and its work was done anew",)
    with Journal(tmp_path / "j", purpose={"a": 2}, resume=True) as journal:
        assert journal.notes == ()


def test_a_run_in_another_process_holds_its_journal(tmp_path: Path) -> None:
    work = "import sys; from fairguard.repair.journal import Journal; Journal(__import__('pathlib').Path(sys.argv[1]))"
    with Journal(tmp_path / "j", purpose={"a": 1}):
        other = subprocess.run([sys.executable, "-c", work, str(tmp_path / "j")], capture_output=True, text=True)
        assert "another run is at work" in other.stderr
    assert subprocess.run([sys.executable, "-c", work, str(tmp_path / "j")]).returncode == 0


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "no locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_worked_on_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(FileLock, "acquire", Mock(side_effect=error))
    with Journal(tmp_path / "j", purpose={"a": 1}) as journal:
        journal.save("stage.done", {"x": torch.ones(2)})
        assert journal.load("stage.done") is not None


LOCKLESS = """
import errno, fcntl, os, pathlib, sys, warnings
from fairguard.repair.journal import Journal
def flock(*_):
    raise OSError(getattr(errno, sys.argv[2]), os.strerror(getattr(errno, sys.argv[2])))
fcntl.flock = flock
warnings.simplefilter("error")
with Journal(pathlib.Path(sys.argv[1]), purpose={"a": 1}, resume=sys.argv[3] == "resume") as journal:
    print(journal.load("x.running") is not None, flush=True)
    journal.save("x.running", {})
    os._exit(7)  # as a kill ends it
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks otherwise")
@pytest.mark.parametrize("error", ["ENOSYS", "EIO"])
def test_a_run_killed_on_a_file_system_without_locks_is_gone_on_with_or_done_anew(tmp_path: Path, error: str) -> None:
    def life(how: str) -> tuple[int, str, str]:
        command = [sys.executable, "-c", LOCKLESS, str(tmp_path / "j"), error, how]
        done = subprocess.run(command, capture_output=True, text=True)
        lock = tmp_path / "j" / "lock"  # what a lock tells of its process is judged by whoever runs on its host
        lock.write_text(lock.read_text().replace(socket.gethostname(), "another-host"))
        return done.returncode, done.stdout.strip(), done.stderr

    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "lock").touch()  # as a run of old left it
    assert [life(how) for how in ("new", "resume", "new")] == [
        (7, str(gone_on), "") for gone_on in (False, True, False)
    ]


def test_a_folder_that_takes_no_file_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "j" / "lock").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"cannot write .*j: .+\. Name another file with -o"):
        Journal(tmp_path / "j", purpose={"a": 1})


def test_names_are_shown_as_one_would_type_them() -> None:
    assert typed("a b.pt") == "'a b.pt'"
    assert typed("-lead.pt") == "./-lead.pt"
    assert typed("plain.pt") == "plain.pt"


def test_the_next_command_has_the_options_that_were_typed(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*PRUNE, "-o", "far off.pt", "--margin", "0.04"]) == 1
    text = capsys.readouterr().out
    assert "next: fairguard repair dense.pt 'far off.pt' --margin 0.04 -o fair.pt" in text


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_that_cannot_be_trained_are_refused_in_words(inside: Path) -> None:
    how = {"train": "train.parquet", "data": "test.parquet", "label": "digit", "groups": ("class",), "margin": 0.1}
    dense = digits.build()
    dense.load_state_dict(torch.load("dense.pt", weights_only=True))
    masked = digits.build()
    masked.load_state_dict(torch.load("pruned.pt", weights_only=True))
    for layer in masked.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            prune.l1_unstructured(layer, "weight", amount=0.9)
    with pytest.raises(ModelError, match=r"kept apart from its mask. Make masks permanent"):
        repair(dense, masked, "never.pt", **how)
    packed = torch.ao.quantization.quantize_dynamic(masked_removed(masked), {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ModelError, match="weights are quantised"):
        repair(dense, packed, "never.pt", **how)
    assert not Path("never.pt").exists()


def masked_removed(net: nn.Module) -> nn.Module:
    for layer in net.modules():
        if hasattr(layer, "weight_mask"):
            prune.remove(layer, "weight")
    return net


def test_rows_that_prove_nothing_are_refused_before_training(inside: Path) -> None:
    how = {
        "train": "train.parquet",
        "data": "test.parquet",
        "label": "digit",
        "groups": ("class",),
        "model": digits.build,
    }
    with pytest.raises(DataError, match=r"nothing could be tested .* could prove no repair"):
        repair("dense.pt", "pruned.pt", "never.pt", min_group=5000, **how)
    assert not Path("never.pt").exists()


@pytest.mark.parametrize("form", ["json", "html", "sarif", "junit", "github", "text"])
def test_a_report_goes_to_a_name_that_is_no_text(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, last in (("dense.csv", 1), ("pruned.csv", 0)):
        Path(name).write_text("prediction\n" + "0\n1\n" * 50 + f"{last}\n")
    Path("rows.csv").write_text("y,sex\n" + "0,F\n1,M\n" * 50 + "1,M\n")
    name = f"n\udcff.{form}"
    arguments = ["check", "dense.csv", "pruned.csv", "--data", "rows.csv", "--label", "y", "--group", "sex"]
    monkeypatch.setattr("sys.argv", ["fairguard", *arguments, "--output", name])
    assert run([*arguments, "--output", name, "--format", form]) == 3
    assert "sex=F" in Path(name).read_text(encoding="utf-8") or form == "junit"


@pytest.mark.parametrize("option", ["--output", "--flips", "--model", "--transform", "--config", "--data"])
def test_a_name_longer_than_any_files_is_one_line(
    option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suffix = {"--model": ".py:net", "--transform": ".py:encode", "--flips": ".csv"}.get(option, "")
    for folder in ("", "n" * 300 + "/"):
        arguments = {"--data": "rows.csv", "--label": "y", "--group": "sex", option: f"{folder}{'d' * 300}{suffix}"}
        Path("rows.csv").write_text("a,y,sex\n1,0,F\n2,1,M\n")
        torch.save({"weight": torch.ones(2, 1), "bias": torch.ones(2)}, "net.pt")
        assert run(["check", "net.pt", "net.pt", *(word for pair in arguments.items() for word in pair)]) == 2
        (told,) = capsys.readouterr().err.splitlines()
        assert "internal" not in told
