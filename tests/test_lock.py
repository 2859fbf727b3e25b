"""fairness.lock: counts that read well in a diff, and changes that are more than noise."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fairguard import Outcome, Verdict, check_predictions, lock
from fairguard.errors import ConfigError
from fairguard.lock import Change, Entry, Record, Update

ROWS = 6_000


def judged(harm: float = 0.0, *, seed: int = 0, everybody: float = 0.04) -> Verdict:
    """The verdict on rows of which ``everybody`` is the share that flips; in group D, ``harm`` more."""
    rng = np.random.default_rng(seed)
    origin = rng.choice(["A & b=c", "B[1]::x", 'C "quoted"', "D"], size=ROWS)
    sex = rng.choice(["F", "M"], size=ROWS)
    y = rng.integers(0, 2, size=ROWS)
    dense = np.where(rng.random(ROWS) < 0.1, 1 - y, y)
    flipped = rng.random(ROWS) < everybody + harm * (origin == "D")
    groups = {"origin": origin, "sex": sex}
    return check_predictions(y, dense, np.where(flipped, 1 - dense, dense), groups, permutations=99)


@pytest.fixture(scope="module")
def fair() -> Verdict:
    return judged()


@pytest.fixture(scope="module")
def unfair() -> Verdict:
    return judged(0.15)


def changes(then: Verdict, now: Verdict) -> dict[str, Change]:
    found = lock.compare(lock.record_of(then), lock.record_of(now), alpha=0.05)
    return {difference.name: difference.change for difference in found}


def test_a_file_holds_what_was_written(fair: Verdict, unfair: Verdict, tmp_path: Path) -> None:
    records = {"tests/test_b.py::test": lock.record_of(fair), "tests/test_a.py::test_ü[1]": lock.record_of(unfair)}
    lock.write(tmp_path / lock.FILE, records)
    assert lock.read(tmp_path / lock.FILE) == records


def test_a_file_is_sorted_and_has_a_line_a_finding(fair: Verdict, unfair: Verdict, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    lock.write(first, {"b": lock.record_of(fair), "a": lock.record_of(unfair)})
    backwards = Record({}, dict(reversed(lock.record_of(fair).findings.items())))
    lock.write(second, {"b": Record(lock.record_of(fair).hashes, backwards.findings), "a": lock.record_of(unfair)})
    assert first.read_text() == second.read_text()
    lines = [line for line in first.read_text().splitlines() if '"outcome"' in line]
    assert len(lines) == len(fair.findings) + len(unfair.findings)
    assert all(line.count("{") == 1 for line in lines)


def test_a_file_holds_counts_and_hashes_only(unfair: Verdict, tmp_path: Path) -> None:
    lock.write(tmp_path / lock.FILE, {"check": lock.record_of(unfair)})
    entry = json.loads((tmp_path / lock.FILE).read_text())["checks"]["check"]
    assert set(entry) == {"dense", "pruned", "data", "findings"}
    for finding in entry["findings"].values():
        assert finding.pop("outcome") in list(Outcome)
        assert all(isinstance(count, int) for count in finding.values())


def test_counts_of_the_rest_are_those_of_everybody_else(unfair: Verdict) -> None:
    """Checked against the judge, which counted the rest from the rows."""
    record = lock.record_of(unfair)
    for finding in unfair.findings:
        entry = record.findings[lock.name_of(finding)]
        assert entry.n_rest == finding.n_rest
        assert (entry.harmed_rest - entry.helped_rest) / entry.n_rest == pytest.approx(finding.loss_rest)
        assert entry.excess == pytest.approx(finding.estimate)
    overall = unfair.overall
    for group in unfair.groups:
        entry = record.findings[f"{group.group} accuracy"]
        assert (entry.harmed + entry.harmed_rest, entry.helped + entry.helped_rest) == (
            overall.harmful_flips,
            overall.beneficial_flips,
        )


def test_no_file_is_an_empty_lock(tmp_path: Path) -> None:
    assert lock.read(tmp_path / lock.FILE) == {}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 7, "checks": {}}', '{"schema": 1, "checks": {"a": {}}}',
     '{"schema": 1, "checks": {"a": {"dense": "", "pruned": "", "data": "", "findings": {"x": {"outcome": "fine"}}}}}',
     '<<<<<<< HEAD\n{"schema": 1}', "\ufffe", "[" * 100_000,
     '{"schema": 1, "checks": {"a": {"dense": 5, "pruned": "", "data": "", "findings": {}}}}'],
)  # fmt: skip
def test_a_broken_file_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / lock.FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"fairness\.lock"):
        lock.read(tmp_path / lock.FILE)


@pytest.mark.parametrize(
    ("count", "value"),
    [*((count, value) for count in ("n", "helped_rest") for value in ('"x"', "null", "-5", "1e400", "2.5", "true")),
     ("n", "1"), ("n_rest", "1"), ("harmed", "9" * 5_000)],
)  # fmt: skip
def test_counts_that_are_none_are_one_line(count: str, value: str, tmp_path: Path) -> None:
    counts = {"n": "9", "harmed": "1", "helped": "1", "n_rest": "9", "harmed_rest": "1", "helped_rest": "1"}
    fields = ", ".join(f'"{name}": {number}' for name, number in (counts | {count: value}).items())
    finding = f'{{"x accuracy": {{"outcome": "preserved", {fields}}}}}'
    check = f'{{"dense": null, "pruned": null, "data": null, "findings": {finding}}}'
    (tmp_path / lock.FILE).write_text(f'{{"schema": 1, "checks": {{"a": {check}}}}}')
    with pytest.raises(ConfigError, match=r"fairness\.lock is no lock file"):
        lock.read(tmp_path / lock.FILE)


def test_the_same_verdict_is_the_same(unfair: Verdict) -> None:
    assert set(changes(unfair, unfair).values()) == {Change.SAME}


def test_more_harm_is_worse_and_less_is_better(fair: Verdict, unfair: Verdict) -> None:
    assert changes(fair, unfair)["origin=D accuracy"] is Change.WORSE
    assert changes(unfair, fair)["origin=D accuracy"] is Change.BETTER


def test_harm_to_one_group_makes_no_other_better_and_its_repair_no_other_worse(fair: Verdict, unfair: Verdict) -> None:
    for then, now in ((fair, unfair), (unfair, fair)):
        assert {change for name, change in changes(then, now).items() if "origin=D" not in name} == {Change.SAME}


def test_harm_to_all_groups_alike_is_not_worse(fair: Verdict) -> None:
    assert Change.WORSE not in changes(fair, judged(everybody=0.12)).values()


def test_other_rows_of_the_same_kind_are_not_worse() -> None:
    """Ten draws of the same truth, each compared with the one before, at alpha 0.05: two false alarms would be odd."""
    verdicts = [judged(0.03, seed=seed) for seed in range(10)]
    alarms = sum(Change.WORSE in changes(a, b).values() for a, b in pairwise(verdicts))
    assert alarms <= 1


def test_new_and_gone_findings_are_named(fair: Verdict) -> None:
    record = lock.record_of(fair)
    without = Record(record.hashes, {k: v for k, v in record.findings.items() if not k.startswith("origin=D ")})
    names = {d.name: d.change for d in lock.compare(without, record, alpha=0.05)}
    assert names["origin=D accuracy"] is Change.NEW
    assert {d.change for d in lock.compare(record, without, alpha=0.05)} == {Change.GONE, Change.SAME}


def test_groups_without_rows_are_never_worse() -> None:
    none = Entry(Outcome.INCONCLUSIVE, 0, 0, 0, 5000, 250, 150)
    some = Entry(Outcome.REGRESSED, 500, 400, 0, 5000, 250, 150)
    (difference,) = lock.compare(Record({}, {"g": none}), Record({}, {"g": some}), alpha=0.05)
    assert difference.change is Change.SAME


class TestUpdated:
    """What an update records, by its kinds."""

    @pytest.mark.parametrize(
        ("kinds", "recorded"),
        [
            ((Update.NEW,), False),
            ((Update.IMPROVED,), False),
            ((Update.NEW, Update.IMPROVED), False),
            ((Update.REGRESSED,), True),
            (tuple(Update), True),
        ],
    )
    def test_worse_findings(self, fair: Verdict, unfair: Verdict, kinds: tuple[Update, ...], recorded: bool) -> None:
        then, now = lock.record_of(fair), lock.record_of(unfair)
        kept = lock.updated(then, now, lock.compare(then, now, alpha=0.05), kinds)
        assert kept.findings["origin=D accuracy"] == (now if recorded else then).findings["origin=D accuracy"]

    def test_better_findings(self, fair: Verdict, unfair: Verdict) -> None:
        then, now = lock.record_of(unfair), lock.record_of(fair)
        differences = lock.compare(then, now, alpha=0.05)
        improved = lock.updated(then, now, differences, [Update.IMPROVED])
        assert improved.findings["origin=D accuracy"] == now.findings["origin=D accuracy"]
        assert lock.updated(then, now, differences, [Update.NEW]) == then

    def test_noise_keeps_the_old_counts(self) -> None:
        then, now = lock.record_of(judged(0.03, seed=1)), lock.record_of(judged(0.03, seed=2))
        differences = lock.compare(then, now, alpha=0.05)
        kept = lock.updated(then, now, differences, tuple(Update))
        for difference in differences:
            if difference.change is Change.SAME:
                assert kept.findings[difference.name] == then.findings[difference.name]

    def test_gone_findings_are_struck_with_new_ones(self, fair: Verdict) -> None:
        then = lock.record_of(fair)
        now = Record(then.hashes, {k: v for k, v in then.findings.items() if "origin=D" not in k})
        differences = lock.compare(then, now, alpha=0.05)
        assert lock.updated(then, now, differences, [Update.NEW]).findings == now.findings
        assert lock.updated(then, now, differences, [Update.IMPROVED]) == then

    def test_a_first_record_needs_new(self, fair: Verdict) -> None:
        record = lock.record_of(fair)
        assert lock.updated(None, record, (), [Update.NEW]) == record
        assert not lock.updated(None, record, (), [Update.IMPROVED, Update.REGRESSED]).findings
