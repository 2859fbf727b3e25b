"""Tests of one run share counts where they would count the same, and only there, whatever changes within the run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save
from torch import nn

from fairguard import check
from fairguard.config import Settings, load_settings
from fairguard.testing.keys import key_of

# The runs inside these tests are users' runs: what is an error in this suite is a warning there.
pytestmark = pytest.mark.filterwarnings("always::fairguard.errors.FairguardWarning")

N = 4000
ROWS = """
    import numpy as np
    import pandas as pd

    def some():
        table = pd.read_csv("rows.csv")
        return table.iloc[np.random.permutation(len(table))[:2000]]
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """Two nets that take two features, and rows with four columns that could be some."""
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, 2, N) for name in ("g", "h", "y")}
    table = pd.DataFrame({"u": rng.normal(size=N), "v": rng.normal(size=N), **columns})
    table.to_csv(pytester.path / "rows.csv", index=False)
    for seed, name in enumerate(("dense.pt", "pruned.pt")):
        torch.manual_seed(seed)
        torch.save(nn.Linear(2, 2).state_dict(), pytester.path / name)
    pytester.makepyfile(net="from torch import nn\n\ndef build():\n    return nn.Linear(2, 2)\n", rows=ROWS)
    (pytester.path / "fairguard.toml").write_text(
        'dense = "dense.pt"\npruned = "pruned.pt"\ndata = "rows.csv"\nlabel = "y"\nmodel = "net.py:build"\n'
    )
    return pytester


def told(project: pytest.Pytester, *asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts on declared tests that ask this, of one run."""
    declared = (f"@fairness_preserved(**{options})\ndef test_{i}(): ..." for i, options in enumerate(asked))
    project.makepyfile(test_fair="from fairguard import fairness_preserved\n\n" + "\n\n".join(declared))
    result = project.runpytest_inprocess("--fairguard-report", "all.json")
    assert "errors" not in result.parseoutcomes()
    checks = json.loads((project.path / "all.json").read_text())["checks"]
    return [checks[f"test_fair.py::test_{i}"] for i in range(len(asked))]


def alone(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the verdict of a check of its own."""
    settings = load_settings()
    return json.loads(json.dumps(check(settings.dense, settings.pruned, settings=settings, **asked).to_dict()))


def assert_as_alone(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, *asked: dict[str, Any]) -> None:
    found = told(project, *asked)
    monkeypatch.chdir(project.path)
    for one, options in zip(found, asked, strict=True):
        own = alone(options)
        for part in set(own) - {"record"}:
            assert one[part] == own[part], part
        assert one["record"]["data"] == own["record"]["data"]
        assert one["record"]["flipped"] == own["record"]["flipped"]


@pytest.mark.parametrize(
    "asked",
    [
        [{"groups": ["g"], "features": ["u", "v"]}, {"groups": ["h", "g"], "features": ["u", "v"]}],
        [{"groups": ["g"], "features": ["u", "v"], "data": "rows.py:some", "seed": seed} for seed in (0, 1)],
        [{"groups": ["g", "h"], "metrics": "accuracy"}, {"groups": ["g", "h:1"], "metrics": "accuracy"}],
        [
            {"groups": ["g"], "features": ["u", "v"], "discover_columns": ["h"], "discover": depth}
            for depth in (0, 2, 0)
        ],
    ],
    ids=["other groups", "rows drawn by another seed", "other bins", "searched and not"],
)
def test_each_test_says_what_its_own_check_says(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, asked: list[dict[str, Any]]
) -> None:
    assert_as_alone(project, monkeypatch, *({"permutations": 199, **options} for options in asked))


def test_what_is_a_group_elsewhere_is_a_feature_here(project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three columns that could be features each test names one as its group, and the nets take the other two."""
    table = pd.read_csv(project.path / "rows.csv").drop(columns="v")
    table.to_csv(project.path / "rows.csv", index=False)
    assert_as_alone(
        project, monkeypatch, {"groups": ["g"], "permutations": 199}, {"groups": ["h"], "permutations": 199}
    )


def test_a_limit_that_is_raised_is_raised_for_all_that_reads_the_file(project: pytest.Pytester) -> None:
    """The counts are known by what the files hold, which is read before any of them is opened."""
    state = torch.load(project.path / "dense.pt", weights_only=True)
    torch.save({"state_dict": state, "losses": [0.1 * i for i in range(600_000)]}, project.path / "dense.pt")
    (found,) = told(project, {"groups": ["g", "h"], "limit": "32GiB"})
    assert found["models"][0]["kind"] == "state dict"


def test_weights_that_are_replaced_in_a_folder_are_other_weights(tmp_path: Path) -> None:
    """Within one process, and in place: nothing in the folder itself changes."""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "config.json").write_text("{}")
    (tmp_path / "rows.csv").write_text("y,g\n0,a\n1,b\n")
    folder = str(tmp_path / "hf")
    settings = Settings(dense=folder, pruned=folder, data=str(tmp_path / "rows.csv"), label="y")
    keys = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        (tmp_path / "hf" / "model.safetensors").write_bytes(save({"weight": torch.rand(3)}))
        keys.append(key_of(settings, root=tmp_path, run=""))
    assert keys[0] == keys[2] != keys[1]
