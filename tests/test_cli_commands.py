"""The commands beside `check`, and its less usual options: run as a user types them, on the synthetic applicants."""

import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fairguard.cli import run
from fairguard.config import load_settings


@pytest.fixture
def said(applicants_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command in the demo's folder; give its exit code and what it said on stdout and stderr."""
    monkeypatch.chdir(applicants_dir)

    def say(*arguments: str) -> tuple[int, str, str]:
        code = run(list(arguments))
        spoken = capsys.readouterr()
        return code, spoken.out, spoken.err

    return say


def test_init_writes_what_check_then_reads(applicants_dir: Path, tmp_path: Path, said) -> None:
    target = tmp_path / "fairguard.toml"
    code, out, _ = said("init", "applicants.parquet", "--output", str(target))
    assert code == 0
    assert str(target) in out
    settings = load_settings(target)
    assert settings.label == "hired"
    assert "sex" in settings.groups
    assert Path(settings.data).resolve() == applicants_dir / "applicants.parquet"


def test_init_replaces_nothing_unasked(tmp_path: Path, said) -> None:
    target = tmp_path / "fairguard.toml"
    target.write_text("margin = 0.07\n")
    code, _, err = said("init", "applicants.parquet", "--output", str(target))
    assert code == 2
    assert "--force" in err
    assert target.read_text() == "margin = 0.07\n"
    assert said("init", "applicants.parquet", "--output", str(target), "--force")[0] == 0


OLD = """
model = "model.py:build"
margin = 0.03
label = "sex"
classes = ["no \\"x\\"", "yes"]
per_row = true
accept = [{ group = "origin=D", metric = "recall", why = "data come in May", until = 2031-05-01 }]

[margins]
recall = 0.04

[repair]
train = "train.parquet"
"""


def test_init_keeps_what_rows_cannot_tell(tmp_path: Path, said) -> None:
    target = tmp_path / "fairguard.toml"
    target.write_text(OLD)
    code, out, _ = said("init", "applicants.parquet", "--output", str(target), "--force")
    assert code == 0
    assert "(kept model, margin, classes, per_row, accept, margins, repair; data, label, groups and id are new)" in out
    assert "set `model`" not in out
    before, after = tomllib.loads(OLD), tomllib.loads(target.read_text())
    assert after == {**before, **{name: after[name] for name in ("data", "label", "groups", "id", "alpha")}}
    assert after["label"] == "hired"
    load_settings(target)
    again = target.read_text()
    assert said("init", "applicants.parquet", "--output", str(target), "--force")[0] == 0
    assert target.read_text() == again, "and a second time nothing moves"


def test_init_keeps_text_that_json_and_toml_write_otherwise(tmp_path: Path, said) -> None:
    target = tmp_path / "fairguard.toml"
    target.write_text('classes = ["a\\u007fb", "\\u0001\\n"]\n')
    assert said("init", "applicants.parquet", "--output", str(target), "--force")[0] == 0
    assert tomllib.loads(target.read_text())["classes"] == ["a\x7fb", "\x01\n"]


def test_init_replaces_what_is_no_configuration_and_never_a_project(tmp_path: Path, said) -> None:
    target = tmp_path / "fairguard.toml"
    target.write_text("= no TOML")
    code, out, _ = said("init", "applicants.parquet", "--output", str(target), "--force")
    assert code == 0
    assert "nothing of the file before could be kept: it was no TOML" in out
    load_settings(target)
    project = tmp_path / "pyproject.toml"
    project.write_text("[project]\nname = 'mine'\n")
    code, _, err = said("init", "applicants.parquet", "--output", str(project), "--force")
    assert code == 2
    assert "holds more than this" in err
    assert project.read_text() == "[project]\nname = 'mine'\n"


def test_a_check_in_the_demo_runs_after_init(applicants_dir: Path, tmp_path: Path, said, monkeypatch) -> None:
    shutil.copytree(applicants_dir, tmp_path / "demo")
    monkeypatch.chdir(tmp_path / "demo")
    assert said("init", "applicants.parquet", "--force")[0] == 0
    assert said("check", "dense.pt", "pruned_regressed.pt", "-q")[0] == 1


def test_inspect_says_what_a_file_is(said) -> None:
    code, out, _ = said("inspect", "dense.pt", "pruned_regressed.pt", "--model", "model.py:build")
    assert code == 0
    assert "state dict" in out
    assert re.search(r"parameters, 75\.0 % of the weights zero", out)


def test_plan_without_models_assumes_a_churn(said) -> None:
    code, out, _ = said("plan", "--metric", "accuracy")
    assert code == 0
    assert "origin=D" in out
    assert "rows in all" in out or "are enough" in out
    stricter = said("plan", "--metric", "accuracy", "--harmed", "0.2", "--helped", "0.1")[1]
    needed = [int(text.splitlines()[-1].split()[0].replace(",", "")) for text in (out, stricter)]
    assert needed[1] > needed[0], "more churn needs more rows"


def test_plan_from_a_pilot_and_from_sizes(said) -> None:
    assert said("plan", "dense.pt", "pruned_inconclusive.pt")[0] == 0
    code, out, _ = said("plan", "--size", "race=A=5000", "--size", "race=B=300")
    assert code == 0
    assert "race=B" in out
    code, out, _ = said("plan", "--size", "race=A=5000", "--size", "race=\x1b[31mB=300")
    assert code == 0
    assert r'"race=\x1b[31mB"' in out


@pytest.mark.parametrize(
    "arguments",
    [["dense.pt"], ["--size", "A=x"], ["--size", "A=10"], ["--size", f"A={'9' * 5_000}"], ["--effect", "0.001"]],
)
def test_impossible_plans_are_refused(arguments: list[str], said) -> None:
    code, out, err = said("plan", *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("fairguard: error: ")
    assert err.count("\n") == 1


def test_dry_run_opens_no_model(said) -> None:
    code, out, _ = said("check", "no_such.pt", "neither.pt", "--dry-run")
    assert code == 0
    assert "shows from" in out


def test_doctor_measures_false_alarms_and_power(said) -> None:
    code, out, _ = said("doctor", "dense.pt", "pruned_inconclusive.pt", "--repeats", "20", "--metric", "accuracy")
    assert code == 0
    assert "raised a false alarm" in out
    assert "planted harms found" in out


def test_discover_finds_the_group_nobody_named(said) -> None:
    usual = ["check", "dense.pt", "pruned_regressed.pt", "--group", "sex"]
    assert "origin" not in said(*usual)[1]
    _, out, _ = said(*usual, "--discover", "2", "--discover-columns", "origin")
    found = out[out.index("searched 12 groups that nobody named") :]
    assert ": 2 found\n" in found
    assert re.search(r"^origin=D .*REGRESSED", found, re.MULTILINE)
    assert "origin" not in out[: out.index("searched 12")].replace("groups sex (2)", "")


def test_discover_says_that_it_found_nothing(said) -> None:
    usual = ["check", "dense.pt", "pruned_preserved.pt", "--group", "sex"]
    _, out, _ = said(*usual, "--discover", "2", "--discover-columns", "origin")
    assert re.search(r"^searched 12 groups that nobody named .*: nothing found$", out, re.MULTILINE)


def test_what_a_check_searches_is_judged_by_no_command(applicants_dir: Path, tmp_path: Path, said) -> None:
    """The columns stand in the project's configuration, and every command reads it."""
    text = (applicants_dir / "fairguard.toml").read_text()
    config = tmp_path / "fairguard.toml"
    for file in ("applicants.parquet", "model.py"):
        text = text.replace(f'"{file}', f'"{applicants_dir / file}')
    config.write_text(re.sub(r"groups = .*", 'groups = ["sex"]\ndiscover = 2\ndiscover_columns = ["origin"]', text))
    usual = ["dense.pt", "pruned_inconclusive.pt", "--metric", "accuracy", "--config", str(config)]
    assert "searched 12 groups that nobody named" in said("check", *usual)[1]
    for command in (["plan", *usual], ["plan", *usual[2:]], ["doctor", *usual, "--repeats", "20"]):
        code, out, err = said(*command)
        assert code == 0, err
        assert "sex=F" in out
        assert "origin" not in out


def pruned_like(path: Path, count: int) -> list[str]:
    """Models pruned like the regressed one from other seeds: its weights with a little noise on what is left."""
    state = torch.load(path / "pruned_regressed.pt", weights_only=True)
    names = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        moved = {
            name: weight * (1 + 0.05 * torch.randn(weight.shape, generator=generator)) for name, weight in state.items()
        }
        torch.save(moved, path / f"seed_{seed}.pt")
        names.append(f"seed_{seed}.pt")
    return names


def test_seeds_confirm_flips(applicants_dir: Path, tmp_path: Path, said) -> None:
    seeds = pruned_like(applicants_dir, 5)
    flips = tmp_path / "flips.csv"
    code, out, _ = said("check", "dense.pt", "pruned_regressed.pt", "--seeds", *seeds, "--flips", str(flips))
    assert code == 1
    table = pd.read_csv(flips)
    confirmed = int(re.search(r"([\d,]+) harmful flips confirmed", out)[1].replace(",", ""))
    assert table["confirmed"].sum() == confirmed
    assert 0 < confirmed < (table["kind"] == "harmful").sum()
    ranked = table["responsibility"].dropna().to_numpy()
    assert len(ranked)
    assert (np.diff(ranked) <= 0).all(), "what the excess explains best comes first"


def test_limits_bound_what_is_opened(said) -> None:
    code, _, err = said("check", "dense.pt", "pruned_preserved.pt", "--limit", "0MiB")
    assert code == 2
    assert "limit" in err
    assert said("check", "dense.pt", "pruned_preserved.pt", "--limit", "1GiB")[0] == 0
    assert "64GiB" in said("check", "dense.pt", "pruned_preserved.pt", "--limit", "much")[2]


def test_too_few_seeds_confirm_nothing(applicants_dir: Path, said) -> None:
    code, _, err = said("check", "dense.pt", "pruned_regressed.pt", "--seeds", *pruned_like(applicants_dir, 2))
    assert code == 2
    assert "at least 5" in err


def test_rows_of_one_person_are_not_independent(applicants_dir: Path, tmp_path: Path, said) -> None:
    rows = pd.read_parquet(applicants_dir / "applicants.parquet").head(3_000)
    again = pd.concat([rows] * 4).assign(person=np.tile(np.arange(len(rows)), 4), applicant=np.arange(4 * len(rows)))
    again.to_parquet(tmp_path / "again.parquet")
    usual = ["check", "dense.pt", "pruned_regressed.pt", "--data", str(tmp_path / "again.parquet"), "-v"]
    naive, clustered = (said(*usual, *more)[1] for more in ([], ["--cluster", "person"]))
    assert "12,000 rows are worth about" in clustered
    wide = [
        re.search(r"^origin=D +accuracy.*\[([-+.\d]+), ([-+.\d]+)\]", out, re.MULTILINE) for out in (naive, clustered)
    ]
    spread = [float(found[2]) - float(found[1]) for found in wide]
    assert spread[1] > 1.6 * spread[0], "four copies of a row are one row: bounds twice as wide"


def test_init_without_a_label_names_what_is_missing(tmp_path: Path, said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"sex": ["F", "M"] * 100, "z1": np.linspace(0, 1, 200)}).to_csv("rows.csv", index=False)
    code, out, _ = said("init", "rows.csv")
    assert code == 0
    assert "name the true label with `label`" in out
    pd.DataFrame({"sex": ["F", "M"] * 50, "label": [0, 1] * 50}).to_csv("rows.csv", index=False)
    assert "name the true label" not in said("init", "rows.csv", "--force")[1]


def test_quiet_leaves_no_warning_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said) -> None:
    """Classes that look swapped make any verdict worthless: who sees the last line alone has to hear of it."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 4000)
    pd.DataFrame({"sex": ["F", "M"] * 2000, "y": np.array(["female", "male"])[y]}).to_csv("rows.csv", index=False)
    wrong = np.where(rng.random(4000) < 0.86, 1 - y, y)
    np.savez("dense.npz", probs=np.eye(2)[wrong])
    rows = ["--data", "rows.csv", "--label", "y", "--group", "sex"]
    code, out, err = said("check", "dense.npz", "dense.npz", *rows, "-q")
    assert (code, out) == (0, "preserved: all 6 findings preserved\n")
    assert re.fullmatch(r"fairguard: warning: dense is right on 13.* name them so: --classes male,female\n", err)
    assert said("check", "dense.npz", "dense.npz", *rows)[2] == "", "the report has it"


def test_quiet_says_that_no_label_is_named(tmp_path: Path, said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"sex": ["F", "M"] * 2000}).to_csv("rows.csv", index=False)
    pd.DataFrame({"prediction": np.arange(4000) // 2 % 2}).to_csv("a.csv", index=False)
    _, out, _ = said("check", "a.csv", "a.csv", "--data", "rows.csv", "--group", "sex", "-q")
    assert out == "preserved: all 2 findings preserved (only disagreement was judged, for no label is named)\n"


def test_no_group_names_the_option(tmp_path: Path, said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"y": [0, 1] * 2000}).to_csv("rows.csv", index=False)
    pd.DataFrame({"prediction": [0, 1] * 2000}).to_csv("a.csv", index=False)
    code, _, err = said("check", "a.csv", "a.csv", "--data", "rows.csv", "--label", "y")
    assert code == 2
    assert "name a sensitive feature with --group" in err
