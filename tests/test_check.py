"""The check from Python: values in memory, pre-flight, and what one pass counts. Real networks, real rows."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import Outcome, Policy, assert_fairness_preserved, check, check_predictions
from fairguard.checking import count
from fairguard.config import Settings
from fairguard.errors import ConfigError, DataError, ModelError
from fairguard.fuzz import fuzz
from fairguard.inputs.data import open_data
from fairguard.opening import open_models
from fairguard.repair.splits import Picked


def network(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes))


def rows(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, rng.integers(0, 3, n), {"sex": rng.choice(["F", "M"], n), "race": rng.choice(["a", "b", "c"], n)}


def table() -> pd.DataFrame:
    x, y, _ = rows()
    return pd.DataFrame(x, columns=[f"f{place}" for place in range(6)]).assign(y=y)


def answers(model: nn.Module, x: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(x)).argmax(1).numpy()


def test_one_pass_counts_what_the_models_answer() -> None:
    x, y, groups = rows()
    dense, pruned = network(0), network(1)
    verdict = check(dense, pruned, (x, y, groups), batch_size=64)
    d, p = answers(dense, x), answers(pruned, x)
    assert verdict.overall.harmful_flips == ((d == y) & (p != y)).sum()
    assert verdict.overall.beneficial_flips == ((d != y) & (p == y)).sum()
    assert verdict.overall.other_flips == ((d != p) & (d != y) & (p != y)).sum()
    row = next(row for row in verdict.groups if row.group == "sex=F & race=b")
    inside = (groups["race"] == "b") & (groups["sex"] == "F")
    assert row.n == inside.sum()
    assert row.accuracy.dense == pytest.approx((d == y)[inside].mean())
    assert row.accuracy.pruned == pytest.approx((p == y)[inside].mean())


def test_arrays_and_models_give_the_same_verdict() -> None:
    x, y, groups = rows()
    dense, pruned = network(0), network(1)
    of_models = check(dense, pruned, (x, y, groups))
    of_arrays = check_predictions(y, answers(dense, x), answers(pruned, x), groups)
    assert of_models.outcome is of_arrays.outcome
    assert [f.model_dump_json() for f in of_models.findings] == [f.model_dump_json() for f in of_arrays.findings]


@pytest.mark.parametrize("batch_size", [1, 7, 600, 10_000])
def test_the_batch_size_changes_nothing(batch_size: int) -> None:
    data = rows()
    usual = check(network(0), network(1), data)
    assert check(network(0), network(1), data, batch_size=batch_size).findings == usual.findings


@pytest.mark.parametrize(
    "door",
    [
        lambda *models: check(*models, rows()),
        lambda *models: assert_fairness_preserved(*models, rows(), margin=0.9, metrics="accuracy"),
        lambda *models: fuzz(*models, table(), swap="f0", label="y", max_examples=20),
    ],
    ids=["check", "assert_fairness_preserved", "fuzz"],
)
@pytest.mark.filterwarnings("ignore::fairguard.errors.FairguardWarning")  # these nets know nothing
def test_a_model_is_left_as_it_was(door: Callable[[nn.Module, nn.Module], object]) -> None:
    models = network().train(), network(1).train()
    models[0][1].eval()
    modes = [[part.training for part in model.modules()] for model in models]
    before = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    door(*models)
    for model, weights, its in zip(models, before, modes, strict=True):
        assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
        assert [part.training for part in model.modules()] == its


def test_data_loader_with_groups() -> None:
    x, y, groups = rows()

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(y)

        def __getitem__(self, i: int) -> tuple:
            return x[i], int(y[i]), {name: values[i] for name, values in groups.items()}

    loader = torch.utils.data.DataLoader(Rows(), batch_size=50)
    of_loader = check(network(0), network(1), loader)
    assert of_loader.findings == check(network(0), network(1), (x, y, groups)).findings


def test_without_labels_divergence_is_not_called_harm() -> None:
    x, _, groups = rows()
    verdict = check(network(0), network(1), (x, None, groups))
    assert not verdict.labelled
    assert {finding.metric for finding in verdict.findings} == {"disagreement"}
    assert np.isnan(verdict.overall.accuracy.dense)


def test_a_verdict_has_no_truth_value() -> None:
    _, y, groups = rows()
    with pytest.raises(TypeError, match="outcome"):
        assert check_predictions(y, y, y, groups)


def test_frame_has_a_row_for_every_finding() -> None:
    _, y, groups = rows()
    verdict = check_predictions(y, y, np.roll(y, 1), groups)
    frame = verdict.frame()
    assert isinstance(frame, pd.DataFrame)
    assert len(frame) == len(verdict.findings)
    assert {"group", "metric", "outcome", "estimate", "lower", "upper", "n"} <= set(frame.columns)


def test_identical_models_are_preserved_where_rows_suffice_and_never_regressed() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 20_000)
    verdict = check_predictions(y, y, y, {"sex": rng.choice(["F", "M"], len(y))})
    assert verdict.outcome is Outcome.PRESERVED
    few = check_predictions(y[:60], y[:60], y[:60], {"sex": rng.choice(["F", "M"], 60)})
    assert few.outcome is Outcome.INCONCLUSIVE


def constant_nan(x: torch.Tensor) -> torch.Tensor:
    return torch.full((len(x), 3), float("nan"))


REFUSED = [
    (lambda: check(network(0), network(1, classes=4), rows()), ModelError, "dense gives 3 classes and pruned 4"),
    (lambda: check(network(0), constant_nan, rows()), ModelError, "nan or infinity"),
    (lambda: check(network(0), lambda x: torch.zeros(1, 3), rows()), ModelError, "for 256 rows"),
    (lambda: check(network(0, classes=2), network(1, classes=2), rows()), DataError, "3 classes"),
    (lambda: check(network(0, classes=2), network(1, classes=2), [rows()]), DataError, "label 2 of row"),
    (lambda: check(network(0), network(1), (rows()[0][:0], rows()[1][:0], {"sex": []})), DataError, "no rows"),
    (lambda: check(network(0), network(1), rows(), margn=0.1), ConfigError, "Did you mean 'margin'"),
    (lambda: check(network(0), network(1)), DataError, "--data"),
    (lambda: check("absent.pt", network(1), rows()), ModelError, "absent.pt"),
    (lambda: Policy.of(metrics="acuracy"), ConfigError, "accuracy"),
]


@pytest.mark.parametrize(("attempt", "error", "words"), REFUSED)
def test_what_cannot_be_judged_is_refused_in_one_line(attempt, error, words) -> None:
    with pytest.raises(error, match=words) as caught:
        attempt()
    assert "\n" not in str(caught.value)


class BatchDependent(nn.Module):
    """Answers by the batch's mean, as per-tensor dynamic quantisation does by its range."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0] - x[:, 0].mean() / 2, torch.zeros(len(x)), -torch.ones(len(x))], dim=1)


def test_a_model_that_looks_at_its_neighbours_cannot_be_judged() -> None:
    data = rows(3_000)
    with pytest.raises(ModelError, match=r"not a function of its row.*--per-row"):
        check(BatchDependent(), BatchDependent(), data, batch_size=64)


def test_per_row_judges_it_all_the_same() -> None:
    verdict = check(BatchDependent(), BatchDependent(), rows(300), per_row=True)
    assert verdict.overall.harmful_flips == 0


def test_warnings_name_bad_preprocessing_and_collapse() -> None:
    x, y, groups = rows()
    y = np.where(y == 2, 0, y)  # class 0 is now two thirds of the rows
    collapsed = network(0)
    with torch.no_grad():
        collapsed[4].weight.zero_()
    verdict = check(network(0), collapsed, (x, y, groups), classes=("a", "b", "c"))
    text = " | ".join(verdict.warnings)
    assert "is the preprocessing right?" in text
    assert "layer collapse: 4.weight has no weight left" in text
    assert "it has collapsed" in text


def test_noise_floor_of_plain_networks_is_zero() -> None:
    verdict = check(network(0), network(1), rows(2_000))
    assert [(noise.model, noise.changed) for noise in verdict.noise] == [("dense", 0), ("pruned", 0)]


def test_rows_picked_from_others_keep_their_numbers() -> None:
    x, y, groups = rows()
    picked = np.array([5, 17, 300, 599])
    source = Picked(open_data((x, y, groups), groups=["sex"]), picked)
    for batch_size in (1, 64, 600):
        batches = list(source.batches(batch_size))
        assert [batch.row(i) for batch in batches for i in range(len(batch))] == picked.tolist()
        assert np.array_equal(np.concatenate([batch.rows for batch in batches]), picked)

    def fails(given: np.ndarray) -> np.ndarray:
        return np.where(given[:, :1] == x[300, 0], np.nan, given[:, :3])

    models = open_models(network(0).eval(), fails, Settings())
    with pytest.raises(ModelError, match="row 300"):
        count(*models, source, settings=Settings(batch_size=64))


def test_rows_that_flip_are_known_by_their_numbers() -> None:
    """Other rows of one source are other flips, even if they flip alike."""
    x, y, groups = (np.zeros((400, 6), np.float32), np.arange(400) % 2, {"sex": np.array(["F", "M"] * 200)})
    x[:, 0] = np.arange(400)
    models = open_models(lambda t: t[:, :1] % 2 - 0.5, lambda t: t[:, :1] % 4 - 0.5, Settings())
    source = open_data((x, y, groups), groups=["sex"])
    told = []
    for low in (0, 100):
        part = Picked(source, np.arange(low, low + 100))
        told.append(count(*models, part, settings=Settings()).comparison)
    assert np.array_equal(told[0].counts.counts, told[1].counts.counts)
    assert told[0].flipped != told[1].flipped


@pytest.mark.parametrize(
    ("data", "told"),
    [("pictures", "pictures is no file; .* name them in a column"), ("rows.csv", "there is no file rows.csv")],
)
def test_rows_that_are_no_file_are_told_before_a_model_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    with pytest.raises(DataError, match=told):
        check("dense.pt", "pruned.pt", data, groups=["sex"])


def test_an_accepted_regression_leaves_tiny_groups_as_they_were() -> None:
    """A group too small to certify forbids no all-clear: neither of harmless pruning, nor of harm that is accepted."""
    group = np.repeat(["A", "B", "C"], [6_000, 6_000, 25])
    y = np.random.default_rng(0).integers(0, 2, len(group))
    harm = y.copy()
    harm[6_000:6_600] = 1 - y[6_000:6_600]
    rows = (y[:, None], y, {"g": group})
    accept = [{"group": "g=B", "until": "2999-01-01", "why": "known"}]
    harmless, regressed = (check(y, pruned, rows, metrics="accuracy") for pruned in (y, harm))
    accepted = check(y, harm, rows, metrics="accuracy", accept=accept)
    assert [v.outcome for v in (harmless, regressed, accepted)] == ["preserved", "regressed", "preserved"]
    for verdict in (harmless, accepted):
        assert "1 group too small to certify: g=C" in verdict.headline
