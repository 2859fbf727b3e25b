"""Names that somebody wrote, as a report shows them or as the data has them, mean what they say."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fairguard import Outcome, check
from fairguard.config import Settings
from fairguard.errors import ConfigError, DataError, ModelError
from fairguard.inputs.groups import parse_groups
from fairguard.inputs.labelled import Layout
from fairguard.names import clean
from fairguard.opening import open_source
from fairguard.repair import preparing
from fairguard.repair.repairing import repair

RAW = ["yes\r", "yes, with all my heart, and to every one of my friends, my family and my colleagues, too"]
LONG = "People who " + "x" * 90
ROWS = 4_000


def nets() -> tuple[nn.Module, nn.Module]:
    """A net that answers the second class where feature ``a`` is above 0, and one with some noise."""
    dense, pruned = nn.Linear(2, 2), nn.Linear(2, 2)
    for net, noise in ((dense, 0.0), (pruned, 1.0)):
        net.weight.data = torch.tensor([[-5.0, 0.0], [5.0, noise]])
        net.bias.data.zero_()
    return dense, pruned


def frame(yes: str, group: str = LONG) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2)).astype("float32")
    groups = np.where(rng.random(ROWS) < 0.5, group, "B")
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": np.where(x[:, 0] > 0, yes, "no"), "g": groups})


def columns(**more: object) -> dict[str, Any]:
    return {"label": "y", "groups": ["g"], "features": ["a", "b"], **more}


@pytest.mark.parametrize("yes", RAW)
def test_classes_are_in_the_order_of_what_the_data_says(yes: str) -> None:
    verdict = check(*nets(), frame(yes), **columns())
    assert verdict.classes == ("no", clean(yes))
    assert verdict.overall.accuracy.dense == 1.0


def test_answers_without_labels_keep_the_second_class_favourable() -> None:
    table = frame("yes\r", "A")
    answers = table["y"].to_numpy().astype(str)
    assert check(answers, answers, table[["g"]], groups=["g"]).classes == ("no", clean("yes\r"))


def test_groups_are_in_the_order_of_what_the_data_says() -> None:
    rows = pd.DataFrame({"g": ["b\n", "a", "c"] * 4, "y": [0, 1] * 6, "a": range(12)})
    assert [*map(list, open_source(rows, Settings(label="y", groups=("g",))).levels)] == [["a", clean("b\n"), "c"]]


@pytest.mark.parametrize("yes", RAW)
@pytest.mark.parametrize("written", [str, clean])
def test_classes_and_the_favourable_one(yes: str, written: Callable[[str], str]) -> None:
    how = columns(classes=("no", written(yes)), favourable=written(yes), metrics=["selection_rate"])
    verdict = check(*nets(), frame(yes), **how)
    assert verdict.classes == ("no", clean(yes))
    assert verdict.overall.accuracy.dense == 1.0
    assert {finding.label for finding in verdict.findings} == {clean(yes)}


def test_a_class_that_is_none_is_still_refused() -> None:
    with pytest.raises(ConfigError, match="no class 'maybe"):
        check(*nets(), frame("yes\r"), **columns(favourable="maybe\r"))


@pytest.mark.parametrize("written", [str, clean])
def test_classes_of_a_loader(written: Callable[[str], str]) -> None:
    y = np.array(["no", "yes\r"] * 50)
    batches = [(np.zeros((100, 2), "float32"), y, {"g": np.array(["a", "b"] * 50)})]
    source = open_source(batches, Settings(classes=("no", written("yes\r"))))
    assert source.classes == ("no", clean("yes\r"))
    assert next(iter(source.batches(100))).y.tolist() == [0, 1] * 50


def judged(group: str, column: str = "g", **more: Any) -> Any:
    """The verdict where the group loses much, and the women in it too."""
    rng = np.random.default_rng(0)
    y, chosen, sex = rng.integers(0, 2, ROWS), rng.random(ROWS) < 0.4, rng.choice(["F", "M"], ROWS)
    pruned = np.where(rng.random(ROWS) < np.where(chosen, 0.3, 0.02), 1 - y, y)
    table = pd.DataFrame({column: np.where(chosen, group, "B"), "sex": sex, "y": y})
    return check(y, pruned, table, label="y", metrics=["accuracy"], **{"groups": [column], **more})


@pytest.mark.parametrize("group", [LONG, "a\tb", "x=y\n"])
@pytest.mark.parametrize("written", [str, clean])
def test_what_is_accepted(group: str, written: Callable[[str], str]) -> None:
    entry = {"group": f"{written('g=')}{written(group)}", "why": "known", "until": "2999-01-01"}
    verdict = judged(group, accept=[entry])
    assert [finding.accepted is not None for finding in verdict.findings if finding.group != "g=B"] == [True]
    assert verdict.outcome is not Outcome.REGRESSED
    assert not any("accept names" in line for line in verdict.warnings)


def test_what_is_accepted_of_an_intersection_and_of_a_column() -> None:
    entries = [f"c\t=a\tb{sex}" for sex in ("", " & sex=F", " & sex=M")]
    accept = [{"group": group, "why": "known", "until": "2999-01-01"} for group in entries]
    verdict = judged("a\tb", "c\t", groups=["c\t", "sex"], intersections=2, accept=accept)
    assert not any("accept names" in line for line in verdict.warnings)
    assert sum(finding.accepted is not None for finding in verdict.findings) >= 2


def test_another_group_is_not_accepted() -> None:
    verdict = judged(LONG, accept=[{"group": f"g={LONG}y", "why": "known", "until": "2999-01-01"}])
    assert verdict.outcome is Outcome.REGRESSED
    assert any("accept names" in line for line in verdict.warnings)


@pytest.mark.parametrize("written", [str, clean])
def test_the_group_and_the_class_that_a_repair_is_for(
    written: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, Any] = {}

    def taken(*_: Any, **how: Any) -> Any:
        given.update(how)
        raise DataError("enough")

    monkeypatch.setattr(preparing, "make_task", taken)
    how = columns(only=[f"g={written(LONG)}"], favourable=written("a\r"))
    with pytest.raises(DataError, match="enough"):
        repair(*nets(), tmp_path / "fair.pt", data=frame("a\r"), **how)
    assert given["only"] == (f"g={clean(LONG)}",)
    assert given["favourable"] == 0


def test_a_group_to_repair_without_its_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'g=People"):
        repair(*nets(), tmp_path / "fair.pt", data=frame("yes"), **columns(only=[LONG]))


def test_many_columns_take_little_time() -> None:
    names = [f"f{place}" for place in range(40_000)]
    layout = Layout(label="f0", groups=parse_groups(["f1"]), features=tuple(names[2:]))
    started = time.perf_counter()
    layout.completed(names).check("the table", names)
    assert time.perf_counter() - started < 2


def test_a_csv_of_many_columns_takes_little_time(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("\n".join(",".join(row) for row in (["y", *(f"f{i}" for i in range(20_000))], ["1"] * 20_001)))
    started = time.perf_counter()
    open_source(path, Settings(label="y"))
    assert time.perf_counter() - started < 5


def batches(*keys: str) -> Any:
    return [(np.zeros((100, 2), "float32"), np.array([0, 1] * 50), {key: np.array(["red", "b"] * 50) for key in keys})]


def test_columns_of_a_loader_can_be_shown() -> None:
    column = "ra\x1b[31mce"
    source = open_source(batches(column), Settings())
    assert source.columns == (clean(column),)
    assert next(iter(source.batches(100))).codes[:2, 0].tolist() == [0, 1]
    assert source.levels == [["red", "b"]]


@pytest.mark.parametrize("later", [("g",), ("g", "h", "i")])
def test_a_loader_with_other_groups_in_another_reading(later: tuple[str, ...]) -> None:
    readings = iter([("g", "h"), ("g", "h"), later, ("g", "h")])

    class Changing:
        def __iter__(self) -> Iterator[Any]:
            return iter(batches(*next(readings)))

    assert open_source(Changing(), Settings()).drawn == "by seed"


def configured(order: tuple[str, ...]) -> tuple[nn.Module, nn.Module]:
    """The nets as transformers has them: their first output means the first of ``order``."""
    pair = nets()
    for net in pair:
        net.config = SimpleNamespace(id2label=dict(enumerate(order)))  # type: ignore[assignment]
    return pair


@pytest.mark.parametrize("labels", [("no", "yes"), ("yes", "no"), ("yes\r", "no")])
def test_classes_are_in_the_order_of_the_models_configuration(labels: tuple[str, str]) -> None:
    first, second = labels
    rows = frame("x", "A").assign(y=lambda t: np.where(t["y"] == "x", second, first))
    verdict = check(*configured(labels), rows, **columns())
    assert verdict.classes == tuple(map(clean, labels))
    assert verdict.overall.accuracy.dense == 1.0
    told = [line for line in verdict.warnings if "id2label" in line]
    assert told == ([] if first == "no" else [line for line in told if f"id2label: {clean(first)}, no;" in line][:1])
    assert bool(told) == (first != "no")


@pytest.mark.parametrize("names", [("LABEL_0", "LABEL_1"), ("hate", "ok"), ("no", "yes", "maybe"), ("yes", "yes"), ()])
def test_names_that_are_not_the_labels_mean_nothing(names: tuple[str, ...]) -> None:
    verdict = check(*configured(names), frame("yes"), **columns())
    assert verdict.classes == ("no", "yes")
    assert not any("id2label" in line for line in verdict.warnings)


def test_the_users_order_is_stronger_than_the_models() -> None:
    models = configured(("yes", "no"))
    verdict = check(*models, frame("yes"), **columns(classes=("no", "yes")))
    assert verdict.classes == ("no", "yes")
    assert verdict.overall.accuracy.dense == 1.0
    assert not any("id2label" in line for line in verdict.warnings)


def test_models_of_two_orders_are_not_compared() -> None:
    dense, pruned = configured(("yes", "no"))[0], configured(("no", "yes"))[1]
    with pytest.raises(
        ModelError, match=r"pruned names its outputs no, yes \(id2label\), and dense .* yes, no: .* --classes"
    ):
        check(dense, pruned, frame("yes"), **columns())
    assert check(dense, pruned, frame("yes"), **columns(classes=("no", "yes"))).overall.accuracy.dense == 1.0


def test_a_repair_and_its_other_rows_have_the_models_order(tmp_path: Path) -> None:
    dense, pruned = configured(("yes", "no"))
    pruned.weight.data = torch.tensor([[0.0, 0.0], [0.0, 5.0]])
    rows = frame("x").assign(y=lambda t: np.where(t["y"] == "x", "no", "yes"))
    how: dict[str, Any] = columns(groups=["class"], budget="1epochs", metrics=["accuracy"])
    report = repair(dense, pruned, tmp_path / "fair.pt", data=rows[:3000], verify=rows[3000:], **how)
    for verdict in (report.check, report.before, report.after):
        assert verdict is not None
        assert verdict.classes == ("yes", "no")
        assert verdict.overall.accuracy.dense == 1.0
