"""Names that data chose, in every report: nothing a terminal acts on, nothing overlong, no two that become one."""

import re
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

from fairguard import Verdict, check
from fairguard.cli import run
from fairguard.config import FORMATS
from fairguard.names import LONGEST, clean
from fairguard.report.text import render

EVIL = [
    "plain",
    "a\nb\nPASS",
    "a\\nb\\nPASS",
    '"a\\nb\\nPASS"',
    "\x1b[31mred\x1b[0m",
    "r\u202ednatsni",
    "x" * 300 + "1",
    "x" * 300 + "2",
]
COLUMN = "g\n\x1b[1mPASS"
ACTED_ON = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e]")


def rows(classes: tuple[str, str] = ("0", "1")) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    n = 400 * len(EVIL)
    group = np.arange(n) % len(EVIL)
    y = rng.integers(0, 2, n)
    pruned = np.where((group % 2 == 1) & (rng.random(n) < 0.3), 1 - y, y)
    names = np.array(classes, dtype=object)
    return pd.DataFrame({COLUMN: np.array(EVIL, dtype=object)[group], "y": names[y]}), names[y], names[pruned]


def judged(**more: object) -> Verdict:
    frame, dense, pruned = rows(("no\x1b[2J", "yes\nPASS"))
    how = {"label": "y", "groups": [COLUMN], "favourable": clean("yes\nPASS"), **more}
    return check(dense.astype(str), pruned.astype(str), frame, **how)


def test_every_value_stays_a_group_of_its_own() -> None:
    verdict = judged()
    assert len({row.group for row in verdict.groups}) == len(EVIL)
    assert {row.n for row in verdict.groups} == {400}


@pytest.mark.parametrize("form", FORMATS)
def test_no_report_acts_on_the_terminal(form: str) -> None:
    text = import_module(f"fairguard.report.{form}").render(judged())
    assert not ACTED_ON.search(text)
    assert "x" * LONGEST not in text
    assert not any(line.strip() == "PASS" for line in text.splitlines())


def test_names_are_shown_as_one_would_write_them() -> None:
    text = render(judged(), verbose=True)
    assert '"a\\nb\\nPASS"' in text
    assert '"\\x1b[31mred\\x1b[0m"' in text
    assert 'recall of "yes\\nPASS"' in text


def test_a_column_is_asked_for_as_it_is_shown(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    frame, dense, pruned = rows()
    frame.to_parquet("rows.parquet")
    for name, answers in (("dense.csv", dense), ("pruned.csv", pruned)):
        pd.DataFrame({"prediction": answers}).to_csv(name, index=False)
    for asked in (COLUMN, clean(COLUMN)):
        assert (
            run(["check", "dense.csv", "pruned.csv", "--data", "rows.parquet", "--label", "y", "--group", asked]) == 1
        )
        out, err = capsys.readouterr()
        assert not ACTED_ON.search(out + err)
        assert f"{clean(COLUMN)}=" in out


@pytest.mark.parametrize(
    "name", ["Ünïcødé 名前", "می‌خواهم", "a\u00a0b", "=cmd|' /C calc'!A0", "a, b & c", 'say "hi"', "A\\B"]
)
def test_what_can_be_shown_stands_as_it_is(name: str) -> None:
    assert clean(name) == name


def test_no_two_names_become_one() -> None:
    names = [*EVIL, *map(clean, EVIL), "x" * 79, "x" * 80, clean("x" * 80), clean(clean("x" * 80))]
    found = {clean(name) for name in dict.fromkeys(names)}
    assert len(found) == len(dict.fromkeys(names))
    assert all(len(name) <= LONGEST for name in found)
