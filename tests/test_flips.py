"""The file of flipped samples, and the record of how a check was made: through whole checks of real models."""

import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard import Verdict, check
from fairguard.errors import FairguardError, OutputError
from fairguard.inputs.data import open_data
from fairguard.provenance import CREATED

N = 6000


def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "a": rng.normal(size=N),
            "b": rng.normal(size=N),
            "is_f": rng.random(N) < 0.3,
            "race": rng.choice(["=1+1", "B", None], N),
            "id": [f"-{i}" for i in range(N)],
        }
    )
    frame["sex"] = np.where(frame.is_f, "F", "M")
    noise = rng.random(N) < 0.1
    frame["label"] = np.where((frame.a > 0) ^ noise, "yes", "no")
    return frame


def dense_and_pruned() -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a net that looks at the sign of `a`, and one that says no to a third of the women it said yes to."""
    dense = torch.nn.Linear(3, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
        dense.bias.zero_()
    pruned = copy.deepcopy(dense)
    with torch.no_grad():
        pruned.weight[1] = torch.tensor([1.0, 0.05, -0.5])
    return dense, pruned


HOW: dict[str, Any] = {
    "label": "label",
    "groups": ["sex", "race"],
    "id": "id",
    "features": ["a", "b", "is_f"],
    "metrics": ["accuracy"],
}


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Verdict, Path]:
    folder = tmp_path_factory.mktemp("flips")
    verdict = check(*dense_and_pruned(), rows(), **HOW, flips=folder / "flips.parquet")
    return verdict, folder / "flips.parquet"


def answers(net: torch.nn.Module, frame: pd.DataFrame) -> np.ndarray:
    with torch.inference_mode():
        x = torch.from_numpy(frame[["a", "b", "is_f"]].to_numpy(dtype=np.float32))
        return np.array(["no", "yes"])[net(x).argmax(1).numpy()]


def test_one_row_for_every_flip(checked: tuple[Verdict, Path]) -> None:
    found = pd.read_parquet(checked[1])
    frame = rows()
    dense, pruned = (answers(net, frame) for net in dense_and_pruned())
    flipped = frame[dense != pruned].assign(dense=dense[dense != pruned], pruned=pruned[dense != pruned])
    assert len(flipped) > 100
    flipped["race"] = flipped.race.fillna("(missing)")
    flipped["kind"] = np.where(flipped.dense == flipped.label, "harmful", "beneficial")
    assert found.responsibility.dropna().is_monotonic_decreasing  # what the excess explains best comes first
    found, flipped = found.sort_values("id"), flipped.sort_values("id")
    for name in ("id", "sex", "race", "label", "dense", "pruned", "kind"):
        assert list(found[name]) == list(flipped[name]), name
    assert found.dense_confidence.between(0.5, 1).all()
    assert found.pruned_confidence.between(0.5, 1).all()


def test_regressed_groups_and_their_responsibility(checked: tuple[Verdict, Path]) -> None:
    verdict, path = checked
    found = pd.read_parquet(path)
    regressed = {finding.group for finding in verdict.regressed}
    assert "sex=F" in regressed
    assert not any(group.startswith("sex=M") for group in regressed)
    women = found[found.sex == "F"]
    for column, group in (("sex", "sex=F"), ("race", "race=B")):
        inside = found[column] == group.split("=")[1]
        named = found.regressed_group.fillna("").str.split("; ").map(lambda names, group=group: group in names)
        assert (named == (inside & (group in regressed))).all()
    harmful = women[women.kind == "harmful"]
    assert harmful.responsibility.between(0, 1).all()
    assert harmful.responsibility.mean() > 0.5  # hardly a man flips, so that nearly all of it is excess
    assert women[women.kind != "harmful"].responsibility.isna().all()


def test_csv_says_the_same_and_runs_no_formula(checked: tuple[Verdict, Path], tmp_path: Path) -> None:
    file = tmp_path / "flips.csv"
    check(
        *dense_and_pruned(), rows().rename(columns={"race": "=race"}), **{**HOW, "groups": ["sex", "=race"]}, flips=file
    )
    with file.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    expected = pd.read_parquet(checked[1])
    assert [line["id"] for line in lines] == [f"'{name}" for name in expected.id]
    assert {line["'=race"] for line in lines} == {"'=1+1", "B", "(missing)"}
    assert [line["kind"] for line in lines] == list(expected.kind)
    np.testing.assert_allclose([float(line["dense_confidence"]) for line in lines], expected.dense_confidence)


def test_no_flip_gives_a_file_without_rows(tmp_path: Path) -> None:
    dense, _ = dense_and_pruned()
    file = tmp_path / "flips.csv"
    check(dense, copy.deepcopy(dense), rows(), **HOW, flips=file)
    assert file.read_text().startswith('"id","sex","race","label"')
    assert len(pd.read_csv(file)) == 0


def test_without_labels_every_flip_is_other(tmp_path: Path) -> None:
    file = tmp_path / "flips.parquet"
    check(*dense_and_pruned(), rows(), **{**HOW, "label": None, "metrics": []}, classes=["no", "yes"], flips=file)
    found = pd.read_parquet(file)
    assert set(found.kind) == {"other"}
    assert found.label.isna().all()


def test_a_group_may_be_called_like_one_of_the_columns(tmp_path: Path) -> None:
    file = tmp_path / "flips.parquet"
    check(*dense_and_pruned(), rows().rename(columns={"sex": "kind"}), **{**HOW, "groups": ["kind"]}, flips=file)
    found = pd.read_parquet(file)
    assert set(found.group_kind) == {"F", "M"}
    assert set(found.kind) <= {"harmful", "beneficial"}


@pytest.mark.parametrize("name", ["flips.txt", "flips", "no/folder/flips.csv"])
def test_a_file_that_cannot_be_written_is_told_before_any_model_runs(tmp_path: Path, name: str) -> None:
    ran: list[int] = []
    dense, pruned = dense_and_pruned()
    dense.register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(OutputError, match=r"end the name in|is no folder that can be written to"):
        check(dense, pruned, rows(), **HOW, flips=tmp_path / name)
    assert not ran


def test_flips_replace_nothing_that_is_read(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows().to_csv(file, index=False)
    before = file.read_bytes()
    with pytest.raises(OutputError, match=r"rows\.csv is the data input"):
        check(*dense_and_pruned(), file, **HOW, flips=file)
    assert file.read_bytes() == before


def test_no_model_is_opened_for_flips_that_cannot_be_written(tmp_path: Path) -> None:
    for model in ("dense.pt", "pruned.pt"):
        (tmp_path / model).write_bytes(b"no model")
    with pytest.raises(OutputError, match="end the name in"):
        check(tmp_path / "dense.pt", tmp_path / "pruned.pt", rows(), **HOW, flips=tmp_path / "flips.txt")


def test_a_failed_check_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "flips.csv"
    file.write_text("precious")
    dense, pruned = dense_and_pruned()
    with torch.no_grad():
        pruned.weight.fill_(float("nan"))
    with pytest.raises(FairguardError):
        check(dense, pruned, rows(), **HOW, flips=file)
    assert file.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [file]


def test_the_record_is_the_same_but_for_the_time(tmp_path: Path) -> None:
    rows().to_parquet(tmp_path / "val.parquet")
    records = [
        check(*dense_and_pruned(), tmp_path / "val.parquet", **HOW, batch_size=512).to_dict()["record"]
        for _ in range(2)
    ]
    for record in records:
        assert record.pop(CREATED).endswith("+00:00")
    assert json.dumps(records[0]) == json.dumps(records[1])
    record = records[0]
    assert record["data"]["kind"] == "Parquet"
    assert record["data"]["sha256"] == open_data(tmp_path / "val.parquet", **_data_options()).record.sha256
    assert record["data"]["options"]["groups"] == ["sex", "race"]
    assert record["batch_size"] == 512
    assert record["settings"]["features"] == ["a", "b", "is_f"]
    assert record["versions"]["torch"] == torch.__version__
    assert {"seed", "threads", "command", "python", "dense", "pruned"} <= set(record)


def _data_options() -> dict[str, Any]:
    return {name: value for name, value in HOW.items() if name != "metrics"}
