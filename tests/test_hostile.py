"""Hostile and broken files: refused with one line, nothing executed, little memory, soon.

All of the hostile files and a sample of the broken ones; with FAIRGUARD_HOSTILE=full all of both (cut at every
hundredth of their length, 200 seeds of flipped bits a kind).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile_files
import pytest

from fairguard.errors import ModelError
from fairguard.inputs.limits import Limits, raised_to
from fairguard.inputs.models import load_model

FULL = os.environ.get("FAIRGUARD_HOSTILE") == "full"
SECONDS, MEGABYTES = 10, 150
"""Bounds on what one file may take: CPU time, so that a busy machine changes nothing, and memory at its peak."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What became of every file, opened in one process apart, so that a crash of a reader would be seen."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory can be read on Linux only")
    folder = tmp_path_factory.mktemp("hostile")
    cuts, seeds = ("100", "200") if FULL else ("10", "5")
    judge = Path(__file__).parent / "hostile_judge.py"
    done = subprocess.run(
        [sys.executable, judge, folder, cuts, seeds],
        env={**os.environ, "FAIRGUARD_CANARY": str(folder / "canary"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not (folder / "canary").exists(), "a payload was run"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def results(judged: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(case["name"], result) for case in judged for result in case["results"]]


def test_the_corpus_is_complete(judged: list[dict[str, Any]]) -> None:
    kinds = len(hostile_files.MAKERS)
    assert len(judged) > 200 + kinds * (300 if FULL else 15)


def test_no_reader_crashes(judged: list[dict[str, Any]]) -> None:
    crashed = {name: result["message"] for name, result in results(judged) if result["outcome"] == "crashed"}
    assert not crashed


def test_hostile_files_are_refused(judged: list[dict[str, Any]]) -> None:
    opened = [case["name"] for case in judged if case["refused"] and case["results"][0]["outcome"] == "opened"]
    assert not opened


def test_every_refusal_is_one_line(judged: list[dict[str, Any]]) -> None:
    messages = {name: result["message"] for name, result in results(judged) if result["outcome"] == "refused"}
    assert messages
    bad = {
        name: message
        for name, message in messages.items()
        if len(message.splitlines()) != 1 or not message.isprintable() or "Traceback" in message
    }
    assert not bad


def test_nothing_else_is_printed(judged: list[dict[str, Any]]) -> None:
    said = {name: result["said"] for name, result in results(judged) if result["said"]}
    assert not said


def test_memory_and_time_stay_bounded(judged: list[dict[str, Any]]) -> None:
    costly = {
        name: (result["seconds"], result["megabytes"])
        for name, result in results(judged)
        if result["megabytes"] > MEGABYTES or result["seconds"] > SECONDS
    }
    assert not costly


def test_the_payloads_would_run_if_they_were_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The canary is alive: without this, a broken payload would prove nothing."""
    import pickle

    canary = tmp_path / "canary"
    monkeypatch.setenv("FAIRGUARD_CANARY", str(canary))
    files = [
        hostile.path for hostile in hostile_files.payloads(tmp_path) if hostile.name.startswith("payload_protocol")
    ]
    for path in files:
        pickle.loads(path.read_bytes())
        assert canary.exists()
        canary.unlink()
    import torch

    torch.load(tmp_path / "payload_in_checkpoint.pt", weights_only=False)
    assert canary.exists()


def test_trust_is_what_runs_a_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    monkeypatch.setenv("FAIRGUARD_CANARY", str(canary))
    list(hostile_files.payloads(tmp_path))
    with pytest.raises(ModelError, match=r"would import (posix|nt)\.system"):
        load_model(tmp_path / "payload_in_checkpoint.pt", factory="model_files:net")
    assert not canary.exists()
    load_model(tmp_path / "payload_in_checkpoint.pt", factory="model_files:net", trust=True)
    assert canary.exists()


def test_limits_can_be_raised(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "zeros.pt"
    torch.save({"w": torch.zeros(1).expand(1 << 25)}, path)
    with pytest.raises(ModelError, match=r"claims tensors of 134\.2 MB"):
        load_model(path, factory="model_files:net")
    with pytest.raises(ModelError, match="does not fit"):
        load_model(path, factory="model_files:net", limits=Limits(free_bytes=1 << 28))


def test_a_model_of_very_many_tensors_opens_with_a_higher_limit(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "many.pt"
    torch.save({f"w{i}": torch.zeros(1) for i in range(20_000)}, path)
    with pytest.raises(ModelError, match=r"a pickle of more than 500,000 steps .*raise --limit"):
        load_model(path, factory="model_files:net")
    with pytest.raises(ModelError, match="does not fit"):
        load_model(path, factory="model_files:net", limits=raised_to("64GiB"))
