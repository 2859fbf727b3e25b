"""What came of a hunt, as lines for a screen."""

from __future__ import annotations

from typing import Any

from fairguard.aligned import aligned
from fairguard.fuzz.asking import BothAnswers, Said
from fairguard.fuzz.hunt import Hunt, TippedPair
from fairguard.inputs.groups import name_of
from fairguard.report.wording import percent

SHOWN = 12
"""Columns shown that are alike in both rows and in the real one."""


def render(hunt: Hunt, *, data: str, hint: str) -> str:
    """Return the simplest pair with both models' scores, or that there was none.

    Args:
        hunt: what came of it.
        data: the data's name.
        hint: what to do next.
    """
    if hunt.pair is None:
        return (
            f"{hunt.swap}: no such pair in {hunt.candidates:,} candidates. That is no proof: others may exist.\n"
            f"(wanted: two rows that differ only in {hunt.swap}, alike to dense and not to pruned)\n"
        )
    pair, answers = hunt.pair, hunt.pair.answers
    said = [*_said("dense", answers.dense, answers), *_said("pruned", answers.pruned, answers)]
    share = f"{hunt.tipped:,} of {hunt.candidates:,} candidates ({percent(hunt.tipped / hunt.candidates)})"
    lines = [
        f"{hunt.swap}: dense treats these two alike, pruned does not",
        _origin(pair, data),
        "",
        *(line.rstrip() for line in aligned([*_rows(pair), *said])),
        "",
        f"FAIL such a pair was found in {share}; this is the simplest",
        f"next: {hint}",
    ]
    return "\n".join(lines) + "\n"


def _origin(pair: TippedPair, data: str) -> str:
    start = f"the first is row {pair.row:,} of {data} (from 0)"
    if not pair.changed:
        return f"{start}; {pair.swap} is the only difference to the second"
    many = "one more column" if len(pair.changed) == 1 else f"{len(pair.changed)} more columns"
    return f"{start} with {many} changed, and {pair.swap} is the only difference to the second"


def _rows(pair: TippedPair) -> list[tuple[str, ...]]:
    """Return name, both values and a remark for each column: the swapped one first, then the changed ones."""
    first, second = pair.first, pair.second
    rest = [name for name in first if name != pair.swap and name not in pair.changed]
    rows = [("", "first", "second", ""), _row(pair.swap, first, second, "swapped")]
    rows += [_row(name, first, second, f"was {_value(was)}") for name, was in pair.changed.items()]
    rows += [_row(name, first, second, "") for name in rest[:SHOWN]]
    if len(rest) > SHOWN:
        rows.append((f"... and {len(rest) - SHOWN} more columns, alike in both",))
    return rows


def _row(name: str, first: dict[str, Any], second: dict[str, Any], remark: str) -> tuple[str, ...]:
    return name, _value(first[name]), _value(second[name]), remark


def _value(value: Any) -> str:
    """Return a value to read; the file of rows holds all its digits."""
    return f"{value:.7g}" if isinstance(value, float) else name_of(value)


def _said(who: str, said: Said, answers: BothAnswers) -> list[tuple[str, ...]]:
    """Return one line for a model's answers and one for each score that decided one."""
    names = [answers.classes[code] for code in said.codes]
    lines = [("",), (f"{who} answers", *names, "" if names[0] == names[1] else "differs")]
    scores = said.scores.reshape(2, -1)
    if scores.shape[1] == 1:
        return [*lines, ("  score", *(f"{score:.4f}" for score in scores[:, 0]), "")]
    shown = sorted({*answers.dense.codes.tolist(), *answers.pruned.codes.tolist()})
    lines += [(f"  score of {answers.classes[k]}", *(f"{score:.4f}" for score in scores[:, k]), "") for k in shown]
    return lines
