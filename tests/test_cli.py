"""The command: exit codes, one line for every error, pure stdout. Real files, real runs, as a user types them."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard.cli import COMMANDS, run
from fairguard.config import Settings
from fairguard.demo import digits, synthetic
from fairguard.demo.making import make_folder


@pytest.fixture(scope="module")
def applicants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("applicants")
    synthetic.make(folder)
    return folder


@pytest.fixture
def inside(applicants: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(applicants)
    return applicants


CHECK = ["check", "dense.pt"]
PLAN = "plan --data applicants.parquet --label hired --group sex"
FAIRGUARD = [sys.executable, "-m", "fairguard"]

EXIT_CODES = [
    (0, [*CHECK, "pruned_preserved.pt"]),
    (1, [*CHECK, "pruned_regressed.pt"]),
    (3, [*CHECK, "pruned_inconclusive.pt"]),
    (0, [*CHECK, "pruned_inconclusive.pt", "--allow-inconclusive"]),
    (1, [*CHECK, "pruned_regressed.pt", "--allow-inconclusive"]),
    (0, ["--help"]),
    (0, ["--version"]),
    (0, ["check", "--help"]),
    (2, []),
    (2, ["chekc"]),
    (2, ["check"]),
    (2, [*CHECK]),
    (2, [*CHECK, "absent.pt"]),
    (2, [*CHECK, "pruned_preserved.pt", "--margin", "x"]),
    (2, [*CHECK, "pruned_preserved.pt", "--margin", "7"]),
    (2, [*CHECK, "pruned_preserved.pt", "--metric", "acuracy"]),
    (2, [*CHECK, "pruned_preserved.pt", "--alpha", "0"]),
    (2, [*CHECK, "pruned_preserved.pt", "--data", "absent.parquet"]),
    (2, [*CHECK, "pruned_preserved.pt", "--label", "hird"]),
    (2, [*CHECK, "pruned_preserved.pt", "--group", "gender"]),
    (2, [*CHECK, "pruned_preserved.pt", "--model", "model.py:biuld"]),
    (2, [*CHECK, "pruned_preserved.pt", "--config", "absent.toml"]),
    (2, [*CHECK, "pruned_preserved.pt", "--output", "no/such/folder/report.json"]),
    (2, [*CHECK, "pruned_preserved.pt", "--flips", "no/such/folder/flips.csv"]),
]


@pytest.mark.parametrize(("code", "arguments"), EXIT_CODES, ids=[" ".join(a) or "nothing" for _, a in EXIT_CODES])
def test_exit_codes(code: int, arguments: list[str], inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err + said.out
    if code == 2 and arguments:
        assert said.err.startswith("fairguard: error: ")
        assert said.err.count("\n") == 1, "an error is one line"
        assert said.out == ""


def test_interrupt_leaves_with_130(applicants: Path) -> None:
    code = (
        "import os, signal, sys, time, fairguard.checking\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in background jobs
        "fairguard.checking.check = lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), time.sleep(9))\n"
        "from fairguard.cli import main\n"
        "main(['check', 'dense.pt', 'pruned_preserved.pt'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=applicants, capture_output=True, text=True)
    assert done.returncode == 130
    assert done.stderr.strip() == "fairguard: interrupted"


SUGGESTIONS = [
    (["chekc"], "Did you mean 'check'?"),
    (["check", "dense.pt", "pruned_preserved.pt", "--label", "hird"], "Did you mean 'hired'?"),
    (["check", "dense.pt", "pruned_preserved.pt", "--model", "model.py:biuld"], "build"),
    (["check", "dense.pt", "pruned_preserved.pt", "--metric", "acuracy"], "accuracy"),
]


@pytest.mark.parametrize(("arguments", "words"), SUGGESTIONS)
def test_errors_say_what_is_possible(
    arguments: list[str], words: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert words in capsys.readouterr().err


def test_json_is_pure_and_complete(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*CHECK, "pruned_regressed.pt", "--format", "json"])
    verdict = json.loads(capsys.readouterr().out)
    assert list(verdict)[:2] == ["schema", "outcome"]
    assert verdict["outcome"] == "regressed"
    worst = verdict["findings"][0]
    assert worst["outcome"] == "regressed"
    assert "origin=D" in worst["group"]
    assert {"group", "metric", "outcome", "estimate", "interval", "n"} <= set(worst)
    assert verdict["record"]["versions"]["torch"] == torch.__version__
    assert len(verdict["record"]["dense"]["sha256"]) == 64


def test_json_is_byte_identical_but_for_the_time(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for _ in range(2):
        run([*CHECK, "pruned_regressed.pt", "--format", "json"])
        lines = capsys.readouterr().out.splitlines()
        texts.append([line for line in lines if '"created"' not in line])
    assert texts[0] == texts[1]


def test_json_fits_its_schema(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema

    from fairguard.report.json import schema

    run([*CHECK, "pruned_inconclusive.pt", "--format", "json"])
    jsonschema.validate(json.loads(capsys.readouterr().out), schema())


def test_a_failed_report_leaves_the_old_one(inside: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text("the old one")
    assert run([*CHECK, "absent.pt", "--format", "json", "--output", str(report)]) == 2
    assert report.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize("place", ["no/such/folder/report.json", "."])
def test_a_report_that_cannot_be_written_is_met_before_any_model(
    place: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*CHECK, "absent.pt", "--output", place]) == 2
    assert f"cannot write {place}" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
def test_a_full_disk_is_no_bug_of_ours(inside: Path) -> None:
    command = [sys.executable, "-m", "fairguard", *CHECK, "pruned_preserved.pt"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("fairguard: error: cannot write the report to stdout: No space left")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a device that is always full")
@pytest.mark.parametrize("typed", ["--help", "inspect pruned_preserved.pt", PLAN])
def test_a_full_disk_is_one_line_of_every_command(typed: str, inside: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*FAIRGUARD, *typed.split()], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("fairguard: error: cannot write")
    assert "No space left" in line


@pytest.mark.skipif(sys.platform == "win32", reason="a shell closes streams")
@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0)])
def test_closed_streams_are_nobody_who_reads(closed: str, code: int, inside: Path) -> None:
    typed = shlex.join([*FAIRGUARD, *CHECK, "pruned_preserved.pt"])
    done = subprocess.run(["sh", "-c", f"exec {typed} {closed}"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    typed = shlex.join([*FAIRGUARD, *CHECK, "absent.pt"])
    assert subprocess.run(["sh", "-c", f"exec {typed} {closed}"], capture_output=True, text=True).returncode == 2


@pytest.mark.parametrize("form", ["html", "json", "text"])
def test_a_terminal_that_lacks_signs_is_no_error(form: str, inside: Path) -> None:
    typed = [*FAIRGUARD, *CHECK, "pruned_preserved.pt", "--format", form]
    done = subprocess.run(typed, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("latin-1" if form == "text" else "utf-8")


@pytest.mark.skipif(sys.platform == "win32", reason="the system bounds no file there")
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_flips_that_find_no_room_are_one_line(suffix: str, inside: Path, tmp_path: Path) -> None:
    typed = [*FAIRGUARD, *CHECK, "pruned_regressed.pt", "--flips", str(tmp_path / f"f.{suffix}")]
    script = f"ulimit -f 1; exec {shlex.join(typed)}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.match(r"fairguard: error: the flips cannot wait in .*: File too large\. Make room, or name", line), line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("typed", ["--help", PLAN])
def test_a_reader_that_leaves_is_no_error(typed: str, inside: Path) -> None:
    command = [sys.executable, "-u", "-m", "fairguard", *typed.split()]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    running.stdout.close()
    assert running.stderr.read() == b""
    assert running.wait() == 2


def test_report_goes_to_a_file(inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    assert run([*CHECK, "pruned_regressed.pt", "--format", "json", "--output", str(report)]) == 1
    assert json.loads(report.read_text())["outcome"] == "regressed"
    said = capsys.readouterr()
    assert said.out == ""
    assert "regressed" in said.err


def test_flips_file_holds_every_flipped_row(inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flips = tmp_path / "flips.csv"
    run([*CHECK, "pruned_regressed.pt", "--format", "json", "--flips", str(flips)])
    overall = json.loads(capsys.readouterr().out)["overall"]
    table = pd.read_csv(flips)
    kinds = table["kind"].value_counts()
    assert kinds["harmful"] == overall["harmful_flips"]
    assert kinds["beneficial"] == overall["beneficial_flips"]
    rows = pd.read_parquet("applicants.parquet").set_index("applicant").loc[table["id"]]
    np.testing.assert_array_equal(rows["hired"].astype(str), table["label"].astype(str))
    np.testing.assert_array_equal(rows["origin"], table["origin"])
    harmed = table[table["kind"] == "harmful"]
    assert harmed.loc[harmed["origin"] == "D", "regressed_group"].notna().all()


def test_command_line_wins_over_the_file(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*CHECK, "pruned_preserved.pt", "--format", "json", "--group", "sex", "--margin", "0.04"])
    verdict = json.loads(capsys.readouterr().out)
    assert verdict["columns"] == ["sex"]
    assert verdict["policy"]["margin"] == 0.04


def test_identical_files_are_called_so(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*CHECK, "dense.pt"]) == 0
    assert "the two files hold the same weights" in capsys.readouterr().out


def test_layer_collapse_is_named(inside: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load("dense.pt", weights_only=True)
    state["2.weight"] = torch.zeros_like(state["2.weight"])
    torch.save(state, tmp_path / "collapsed.pt")
    run([*CHECK, str(tmp_path / "collapsed.pt")])
    out = capsys.readouterr().out
    assert "layer collapse: 2.weight has no weight left" in out
    assert "it has collapsed" in out


def test_text_fits_a_screen_unless_verbose(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*CHECK, "pruned_regressed.pt"])
    short = capsys.readouterr().out.splitlines()
    run([*CHECK, "pruned_regressed.pt", "-v"])
    assert len(short) <= 40 < len(capsys.readouterr().out.splitlines())
    assert short[-1].startswith("next: ")


def test_verbose_shows_expected_flips_beside_the_observed(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run([*CHECK, "pruned_regressed.pt", "-v"])
    out = capsys.readouterr().out
    table = out[out.index("flips by group") :]
    flips, expected = next(line.split()[2:4] for line in table.splitlines() if line.startswith("origin=D "))
    assert float(flips) > 1.2 * float(expected), "pruning aimed at this group"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom fairguard.cli import run\n"
        f"run({arguments!r})\n"
        "heavy = {'torch', 'fairlearn', 'sklearn', 'pandas', 'pyarrow', 'numpy', 'onnxruntime', 'scipy'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_same_demo_is_the_same_bytes(applicants: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        synthetic.make(tmp_path)
    finally:
        torch.set_num_threads(before)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (applicants / path.name).read_bytes(), path.name


def test_the_bare_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: fairguard")
    assert re.search(r"^  check +Judge", said, re.MULTILINE)
    assert run(["check"]) == 2
    assert capsys.readouterr().err == "fairguard: error: Missing argument 'DENSE'. See fairguard check --help.\n"


def test_help_of_check_has_sections_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    places = [
        out.index(title) for title in ("Rows: --data", "Models: --model", "What counts as harm: --margin", "Report:")
    ]
    assert places == sorted(places)
    assert "Options:" not in out
    for name, default in {
        "margin": 0.02,
        "alpha": 0.05,
        "min-group": 20,
        "intersections": 2,
        "batch-size": 256,
    }.items():
        assert re.search(rf"--{name} [^;]*; default {default}\b", out), name
        assert Settings.model_fields[name.replace("-", "_")].default == default


def test_a_demo_writes_over_nothing_but_a_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fairguard.toml").write_text("margin = 0.07\n")
    assert run(["demo", str(tmp_path)]) == 2
    assert "holds files that are not a demo's, such as fairguard.toml" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["fairguard.toml"]
    assert run(["demo", str(tmp_path / "fairguard.toml")]) == 2
    digits.make(tmp_path)
    make_folder(tmp_path)  # a demo may be made again


def test_digits_demo_shows_a_regression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense, pruned = digits.make(tmp_path)
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert run(["check", dense, pruned]) == 1
    finally:
        os.chdir(before)
    assert "class=1" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_a_run_that_is_ended_leaves_no_temporary_files(tmp_path: Path) -> None:
    code = """
        import pathlib, time
        def rows():
            yield [[0.0]] * 9, [0, 1, 0] * 3, {"sex": ["F", "M", "F"] * 3}
            pathlib.Path("started").touch()
            time.sleep(60)
    """
    (tmp_path / "rows.py").write_text(dedent(code))
    for name in ("dense", "pruned"):
        (tmp_path / f"{name}.csv").write_text("prediction\n" + "0\n1\n0\n" * 3)
    (tmp_path / "tmp").mkdir()
    options = ["--data", "rows.py:rows", "--group", "sex", "--flips", "flips.csv"]
    running = subprocess.Popen(
        [*FAIRGUARD, "check", "dense.csv", "pruned.csv", *options],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "started").exists() and running.poll() is None:
        time.sleep(0.05)
    assert list((tmp_path / "tmp").glob("fairguard-*"))
    running.terminate()
    assert running.communicate()[1].strip() == "fairguard: interrupted"
    assert running.returncode == 130
    assert not list((tmp_path / "tmp").glob("fairguard-*"))
