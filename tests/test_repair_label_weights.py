"""What labels counted when dense was trained: read off dense's answers, and told and kept to by a repair."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from fairguard.cli import run
from fairguard.repair.heads import Head
from fairguard.repair.label_weights import label_notes, label_weights

FEATURES = 9
MODEL = """
import torch
from torch import nn

def build():
    return nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))
"""


@pytest.fixture(scope="module")
def law(data_dir: Path) -> pd.DataFrame:
    """Who passed the bar, by race and sex: 20,798 real people, 11 % of whom did not."""
    table = pd.read_csv(data_dir / "law_school.csv.gz")
    features = [c for c in table.columns if c not in ("race", "sex", "label")]
    table[features] = (table[features] - table[features].mean()) / table[features].std()
    return table.astype(dict.fromkeys(features, np.float32)).sample(frac=1, random_state=0)


def of(table: pd.DataFrame) -> tuple[Tensor, Tensor]:
    x = table.drop(columns=["race", "sex", "label"]).to_numpy(np.float32)
    return torch.tensor(x), torch.tensor(table["label"].to_numpy(np.int64))


def learned(x: Tensor, y: Tensor, weight: list[float] | None, *, smoothing: float = 0.0) -> nn.Sequential:
    """A small network trained on labels that count so much, by class."""
    torch.manual_seed(0)
    classes = int(y.max()) + 1
    net = nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, classes))
    loss = nn.CrossEntropyLoss(None if weight is None else torch.tensor(weight), label_smoothing=smoothing)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(8):
        for rows in torch.randperm(len(y)).split(128):
            optimiser.zero_grad()
            loss(net(x[rows]), y[rows]).backward()
            optimiser.step()
    return net.eval()


@torch.no_grad()
def found(net: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
    return label_weights(net(x), y)


@pytest.mark.parametrize("times", [4.0, 8.0])
def test_what_labels_counted_is_read_off_the_answers(law: pd.DataFrame, times: float) -> None:
    x, y = of(law)
    weights = found(learned(x, y, [times, 1.0]), x, y)
    assert weights is not None
    assert float(weights[0] / weights[1]) == pytest.approx(times, rel=0.25)
    assert float(weights[y].mean()) == pytest.approx(1.0, abs=1e-4)


def test_rows_drawn_evenly_are_weights_too(law: pd.DataFrame) -> None:
    x, y = of(law)
    drawn = torch.multinomial(
        1.0 / torch.bincount(y)[y].float(), len(y), True, generator=torch.Generator().manual_seed(0)
    )
    weights = found(learned(x[drawn], y[drawn], None), x, y)
    assert weights is not None
    assert float(weights[0] / weights[1]) == pytest.approx(float((y == 1).sum() / (y == 0).sum()), rel=0.25)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_that_count_alike_stay_so(law: pd.DataFrame, smoothing: float) -> None:
    x, y = of(law)
    assert found(learned(x, y, None, smoothing=smoothing), x, y) is None


def test_what_is_known_by_heart_tells_nothing() -> None:
    y = torch.arange(1000) % 2
    sure = 40.0 * nn.functional.one_hot(y, 2).float()
    assert label_weights(sure, y) is None
    assert label_weights(sure, torch.zeros_like(y)) is None, "one class alone"


def test_another_threshold_counts_as_weights_do(law: pd.DataFrame) -> None:
    x, y = of(law)
    probability = learned(x, 1 - y, None)(x).detach().softmax(1)[:, 1]  # class 1: did not pass
    assert label_weights(Head(single=True, probabilities=True, threshold=0.5)(probability), 1 - y) is None
    weights = label_weights(Head(single=True, probabilities=True, threshold=0.15)(probability), 1 - y)
    assert weights is not None
    assert float(weights[1] / weights[0]) == pytest.approx(0.85 / 0.15, rel=0.25)


def test_many_classes_weigh_by_a_power_of_how_rare_they_are(law: pd.DataFrame) -> None:
    x, _ = of(law)
    y = torch.from_numpy(np.digitize(law["zgpa"], (-1.8, -1.0, 1.2)))
    x = x + 0.4 * torch.randn(
        x.shape, generator=torch.Generator().manual_seed(0)
    )  # grades that cannot be told for sure
    share = torch.bincount(y) / len(y)
    assert found(learned(x, y, None), x, y) is None
    weights = found(learned(x, y, (1 / share).tolist()), x, y)
    assert weights is not None
    power = float(weights.log().std() / share.log().std())
    assert 0.75 <= power <= 1.0
    assert weights.argsort().tolist() == share.argsort(descending=True).tolist()


def test_a_sentence_names_the_classes() -> None:
    assert label_notes(None, ["rejected", "hired"]) == []
    (sentence,) = label_notes(torch.tensor([0.5, 2.0]), ["rejected", "hired"])
    assert "a label of hired counted 4.0 times one of rejected" in sentence


@pytest.fixture
def collapsed(law: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a net that was taught to find who does not pass, pruned until it says that nearly all do."""
    train, test = law.iloc[:12_000], law.iloc[12_000:]
    net = learned(*of(train), [8.0, 1.0])
    train.to_parquet(tmp_path / "train.parquet", index=False)
    test.to_parquet(tmp_path / "test.parquet", index=False)
    torch.save(net.state_dict(), tmp_path / "dense.pt")
    with torch.no_grad():
        for weight in (p for p in net.parameters() if p.dim() > 1):
            weight[weight.abs() <= weight.abs().flatten().kthvalue(int(0.88 * weight.numel())).values] = 0
        net[-1].bias += torch.tensor([0.0, 1.5])  # type: ignore[operator]
    torch.save(net.state_dict(), tmp_path / "pruned.pt")
    (tmp_path / "model.py").write_text(MODEL)
    settings = 'model = "model.py:build"\ndata = "test.parquet"\nlabel = "label"\ngroups = ["race", "sex"]\n'
    (tmp_path / "fairguard.toml").write_text(settings)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("collapsed")
def test_a_net_that_gave_up_the_rarer_class_is_repaired(capsys: pytest.CaptureFixture[str]) -> None:
    """It was the more accurate for that: no fair model is as accurate, and labels that count alike would forbid one."""
    assert run(["check", "dense.pt", "pruned.pt", "-q"]) == 1
    capsys.readouterr()
    code = run(["repair", "dense.pt", "pruned.pt", "-o", "fair.pt", "--train", "train.parquet", "--budget", "20epochs"])
    said = capsys.readouterr()
    assert code in (0, 3), said.out + said.err
    report = json.loads(Path("fair.pt.report.json").read_text())
    before, after = (report[when]["overall"]["accuracy"] for when in ("before", "after"))
    assert before["pruned"] > before["dense"] + 0.03
    assert before["dense"] - 0.005 <= after["pruned"] < before["pruned"] - 0.005
    assert not [f for f in report["after"]["findings"] if f["outcome"] == "regressed"]
    told_of = " ".join(said.out.split())
    assert "dense decides as if a label of 0 counted" in told_of
    assert "held to dense's accuracy" in told_of


def test_a_class_of_hardly_any_rows_says_nothing_of_its_labels() -> None:
    y = torch.zeros(3000, dtype=torch.long)
    y[:5] = 1
    logits = torch.zeros(3000, 2)
    logits[:, 1] = torch.where(torch.arange(3000) % 10 == 0, 3.0, -3.0)  # a tenth is given to a class of five rows
    assert label_weights(logits, y) is None
    y[:60] = 1
    assert label_weights(logits, y) is not None
