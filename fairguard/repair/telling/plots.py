"""What a repair's page draws, as places in pixels: points with letters in a plane, and a curve over the epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, NamedTuple

from fairguard.repair.telling.text import span

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 32, 46
"""Pixels of a plot's rims, which hold the words."""
LETTER, LINE = 9, 13
"""Pixels that a letter takes."""
BESIDE = ((8, 4, "start"), (-8, 4, "end"), (0, -8, "middle"), (0, 17, "middle"), (8, -8, "start"), (8, 17, "start"))
"""Where a point's letter may stand: the first place that is free."""


class Axis(NamedTuple):
    """What an axis shows, and how its values are written."""

    name: str
    written: Callable[[float], str]


class Point(NamedTuple):
    """One point: its values (``None`` or not finite: not drawn), its letter, and whether it was chosen."""

    x: float
    y: Any
    letter: str = ""
    chosen: bool = False


class Word(NamedTuple):
    """A text and its place."""

    x: float
    y: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Plot:
    """Points and words as places in pixels.

    Attributes:
        name: what is drawn, for who does not see it.
        marks: places of the points, and whether each was chosen.
        words: the axes' names and ends, and the points' letters.
        line: the points as a line through them.
        bottom: where the axis across lies.
    """

    name: str
    marks: tuple[tuple[float, float, bool], ...]
    words: tuple[Word, ...]
    line: str
    bottom: int = HEIGHT - BOTTOM


def plot(found: Sequence[Point], across: Axis, up: Axis) -> Plot | None:
    """Return the points that exist, on axes that just hold them; ``None`` where there are fewer than two."""
    there = [point for point in found if point.y is not None and isfinite(point.x) and isfinite(point.y)]
    if len(there) < 2:
        return None
    (left, right), (low, high) = span([p.x for p in there]), span([p.y for p in there])
    wide, tall, bottom = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM, HEIGHT - BOTTOM
    marks = tuple(
        (
            round(LEFT + wide * (p.x - left) / (right - left), 1),
            round(bottom - tall * (p.y - low) / (high - low), 1),
            p.chosen,
        )
        for p in there
    )
    axes = (
        Word(LEFT, bottom + 18, "start", across.written(left)),
        Word(WIDTH - RIGHT, bottom + 18, "end", across.written(right)),
        Word(LEFT + wide / 2, bottom + 34, "middle", across.name),
        Word(LEFT - 6, bottom, "end", up.written(low)),
        Word(LEFT - 6, TOP + 4, "end", up.written(high)),
        Word(LEFT, TOP - 14, "start", up.name),
    )
    letters = _letters([(x, y, p.letter) for (x, y, _), p in zip(marks, there, strict=True) if p.letter])
    return Plot(f"{up.name} by {across.name}", marks, (*axes, *letters), " ".join(f"{x},{y}" for x, y, _ in marks))


def _letters(marks: Sequence[tuple[float, float, str]]) -> list[Word]:
    """Return each point's letter beside it: on no point, letter or axis, where there is such a place."""
    axis = (LEFT, HEIGHT - BOTTOM - 1, WIDTH, HEIGHT - BOTTOM + 1)
    taken: list[tuple[float, float, float, float]] = [axis, *((x - 5, y - 5, x + 5, y + 5) for x, y, _ in marks)]
    words = []
    for x, y, letter in marks:
        places = [Word(x + right, y + down, anchor, letter) for right, down, anchor in BESIDE]
        word = next((place for place in places if not _meets(_box(place), taken)), places[0])
        taken.append(_box(word))
        words.append(word)
    return words


def _box(word: Word) -> tuple[float, float, float, float]:
    wide = LETTER * len(word.text)
    left = word.x - {"start": 0.0, "middle": wide / 2, "end": float(wide)}[word.anchor]
    return left, word.y - LINE + 2, left + wide, word.y + 1


def _meets(box: tuple[float, float, float, float], others: Sequence[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    return any(left < r and right > l_ and top < b and bottom > t for l_, t, r, b in others)
