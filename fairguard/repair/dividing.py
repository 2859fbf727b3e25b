"""The rows that the user named, opened and divided, so that no row to verify on is ever trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fairguard.config import Settings
from fairguard.errors import ConfigError, DataError, did_you_mean
from fairguard.inputs.rows import Source
from fairguard.inputs.tensors import to_device
from fairguard.names import clean
from fairguard.opening import open_source
from fairguard.repair.rows import Rows, read_rows
from fairguard.repair.splits import Picked, apart, split
from fairguard.report.wording import percent


@dataclass(frozen=True, eq=False)
class Parts:
    """The rows, divided.

    Attributes:
        train: rows to train on.
        tune: rows to choose by.
        verify: rows for the verdict.
        columns: names of the sensitive features.
        levels: names of their values in ``train`` and ``tune``.
        how: rows of each split, and a sentence on where they come from.
        notes: what the user should know of them, one sentence each.
    """

    train: Rows
    tune: Rows
    verify: Source
    columns: tuple[str, ...]
    levels: Sequence[Sequence[str]]
    how: dict[str, Any]
    notes: tuple[str, ...] = ()


MANY = 0.1
"""Share of the training rows that may be left out, or equal others by chance, without a note."""


def divided(
    source: Source,
    settings: Settings,
    *,
    train: Any,
    verify: Any,
    classes: tuple[str, ...],
    tune: Any = None,
) -> Parts:
    """Return the rows of the one to four sources given.

    Args:
        source: the rows of ``--data``.
        settings: how to open the others; their seed divides.
        train: other rows to train and tune on, or ``None``.
        verify: other rows for the verdict, or ``None``; with neither, ``source`` is divided in three.
        classes: names of the models' classes.
        tune: other rows to choose by, beside ``train`` or ``verify``; ``None``: a part of the rows to train on.

    Raises:
        DataError: too few rows, or sources with other groups or labels.
    """
    if train is None and verify is None:
        return _in_three(source, classes, settings.seed)
    taught = source if train is None else _opened_like(source, train, settings)
    proof = source if verify is None else _opened_like(source, verify, settings)
    learning, proving = _rows(taught, classes, "training"), _rows_like(taught, proof, classes, "verify")
    by_id = settings.id is not None or settings.cluster is not None
    fresh, by_chance, named = apart(learning, proving, by_id=by_id)
    kept, left_out = learning.take(fresh), len(learning) - len(fresh)
    who = f"{settings.cluster or settings.id or 'id'} (--{'cluster' if settings.cluster else 'id'})"
    if not len(fresh):
        raise DataError(_none_left(len(learning), named, who))
    notes = _random_notes(taught, "train on") + (_random_notes(proof, "verify on") if proof is not source else ())
    notes += _left_out_notes(left_out - named, named, len(learning), who) + _unseen_notes(taught, proof)
    notes += () if by_id else _alike_notes(by_chance, len(learning))
    if tune is None:
        parts = split(kept, seed=settings.seed, verify=False)
        pair = kept.take(parts.train), kept.take(parts.tune)
        sentence = "train and tune from the training rows"
    else:
        others = _opened_like(source, tune, settings)
        choosing = _rows_like(taught, others, classes, "tune")
        notes += _random_notes(others, "tune on")
        pair = _tuned_apart(kept, choosing, proving, by_id=by_id)
        sentence = "train and tune from the rows named for each"
        notes += _tune_notes(taught, pair[1], train=len(kept) - len(pair[0]), tune=len(choosing) - len(pair[1]))
    sentence += _kept_apart(left_out, named, by_chance, who)
    how = {"train": len(pair[0]), "tune": len(pair[1]), "verify": len(proving), "left_out": left_out, "how": sentence}
    return Parts(*pair, proof, taught.columns, _levels(taught), how, notes)


def _kept_apart(left_out: int, named: int, by_chance: int, who: str) -> str:
    """Return what a report says of training rows that are among the rows to verify on too, or equal one of them."""
    sentence = ""
    if left_out:
        whose = "that are also" if named < left_out else "whose " + who + " is also"
        sentence += f", without {left_out:,} {whose} among the rows to verify on"
    if by_chance:
        sentence += f"; {by_chance:,} that equal one of those only by chance stay"
    return sentence


def _opened_like(source: Source, data: Any, settings: Settings) -> Source:
    """Return the rows of ``data``, its features found by name as ``source``'s, its classes in that order.

    Without names they would be the columns that are nothing else, in the order of this file: in another order, or
    beside a column that the other file has not, a net would take one feature for another.

    Raises:
        DataError: a column of ``source`` is missing.
    """
    if source.reordered:  # the model says in which order its classes are
        settings = settings.model_copy(update={"classes": source.classes})
    other = open_source(data, settings, double=source.double)
    wanted, found = source.features, other.features
    if settings.features is None and wanted and found and wanted != found:
        return open_source(data, settings.model_copy(update={"features": wanted}), double=source.double)
    return other


def _rows_like(taught: Source, other: Source, classes: tuple[str, ...], part: str) -> Rows:
    """Return the rows of another source, their groups coded as the training rows' are.

    Raises:
        DataError: it has other groups.
    """
    if taught.columns != other.columns:
        raise DataError(f"the training rows have groups {taught.columns}, the {part} rows {other.columns}.")
    return _coded_as(taught, other, _rows(other, classes, part))


def _tuned_apart(learning: Rows, choosing: Rows, proving: Rows, *, by_id: bool) -> tuple[Rows, Rows]:
    """Return the rows to train and to tune on, without what is also among the rows to tune or to verify on.

    Raises:
        DataError: that leaves none.
    """
    choosing = choosing.take(apart(choosing, proving, by_id=by_id).fresh)
    if not len(choosing):
        raise DataError(
            "all rows to tune on (--tune) are also among the rows to verify on: name others, or leave it out."
        )
    learning = learning.take(apart(learning, choosing, by_id=by_id).fresh)
    if not len(learning):
        raise DataError("all training rows are also among the rows to tune on (--tune): name others, or leave it out.")
    return learning, choosing


def _tune_notes(taught: Source, rows: Rows, *, train: int, tune: int) -> tuple[str, ...]:
    """Return what the user should know of the rows to tune on, one sentence each.

    Args:
        taught: the training rows, which name the groups.
        rows: those to tune on.
        train: how many rows to train on were left out for them.
        tune: how many of them were left out themselves.
    """
    notes = []
    if tune:
        notes.append(f"{tune:,} rows to tune on are also among the rows to verify on and were left out")
    if train:
        notes.append(f"{train:,} training rows are also among the rows to tune on and were left out")
    missing = [
        f"{column}={name}"
        for place, (column, names) in enumerate(zip(taught.columns, taught.levels, strict=True))
        for code, name in enumerate(names)
        if not bool((rows.codes[:, place] == code).any())
    ]
    if missing:
        notes.append(f"no row to tune on has {', '.join(missing[:5])}: nothing was chosen for them")
    return tuple(notes)


def _none_left(rows: int, named: int, who: str) -> str:
    """Return what is wrong where no training row is left; ``named`` of them for their id or cluster alone."""
    if named:
        return (
            f"each of the {rows:,} training rows shares its {who} with a row to verify on: name a column that "
            "tells the rows of both files apart, or leave it out if each file counts anew."
        )
    return (
        f"all {rows:,} training rows are also among the rows to verify on: give --train and --data (or --verify) "
        "different rows, or --data alone, which is then divided."
    )


def _left_out_notes(equal: int, named: int, rows: int, who: str) -> tuple[str, ...]:
    """Return sentences on many rows that were left out: for what they consist of, and for whose they are alone."""
    reasons = (
        (equal, "equal a row to verify on in features, label and groups"),
        (named, f"share their {who} with a row to verify on"),
    )
    return tuple(
        f"{left_out:,} of {rows:,} training rows ({percent(left_out / rows, 0)}) {reason} and were left out, so that "
        "the proof is on rows that nothing saw"
        for left_out, reason in reasons
        if left_out > MANY * rows
    )


def _alike_notes(by_chance: int, rows: int) -> tuple[str, ...]:
    if by_chance <= MANY * rows:
        return ()
    return (
        f"{by_chance:,} of {rows:,} training rows ({percent(by_chance / rows, 0)}) equal a row to verify on, as people "
        "do in so few and coarse columns, and stay; a column that tells people apart (--id) leaves no doubt",
    )


def _unseen_notes(taught: Source, proof: Source) -> tuple[str, ...]:
    """Return a sentence for each group value that only the verify rows have: nothing can be learned for it."""
    found = [
        f"{column}={name}"
        for column, known, names in zip(taught.columns, taught.levels, proof.levels, strict=True)
        for name in names
        if name not in known
    ]
    return (f"no training row has {', '.join(found[:5])}: nothing was learned for them",) if found else ()


def _coded_as(taught: Source, proof: Source, rows: Rows) -> Rows:
    """Return the rows of ``proof`` with their groups coded as the training rows' are."""
    codes = rows.codes.clone()
    for place, (known, names) in enumerate(zip(taught.levels, proof.levels, strict=True)):
        place_of = {name: i for i, name in enumerate(known)}
        places = [place_of.get(name, len(known) + i) for i, name in enumerate(names)]
        codes[:, place] = torch.tensor(places, dtype=codes.dtype)[rows.codes[:, place]]
    return replace(rows, codes=codes)


def _in_three(source: Source, classes: tuple[str, ...], seed: int) -> Parts:
    rows = _rows(source, classes, "training")
    parts = split(rows, seed=seed)
    how = {**parts.sizes, "how": "the rows given were divided in three, each alike in groups and labels"}
    train, tune = rows.take(parts.train), rows.take(parts.tune)
    notes = _random_notes(source, "train on")
    return Parts(train, tune, Picked(source, parts.verify), source.columns, _levels(source), how, notes)


def _random_notes(rows: Source, use: str) -> tuple[str, ...]:
    """Return sentences on a loader's rows that training sees otherwise than the loader gives them.

    Of rows that are not the same in every reading it sees one, and of a sampler that repeats rows each of them once.
    """
    notes, how = tuple(filter(None, [rows.note])), rows.drawn
    if not how:
        return notes
    meaning = "the proof is on one draw" if use == "verify on" else "they were read once, and every epoch sees one draw"
    again = "" if how == "by seed" else ", from a generator of its own: no run can be repeated or resumed"
    return (
        *notes,
        f"the loader of the rows to {use} changes them at random (crops?){again}; {meaning}. Give rows without random "
        "changes, or accept it",
    )


def need_groups(only: Sequence[str], parts: Parts) -> None:
    """Raise :class:`ConfigError` if a group to constrain is the name of a value alone: it says how to write it."""
    names = [f"{column}={name}" for column, known in zip(parts.columns, parts.levels, strict=True) for name in known]
    for group in only:
        if "=" in group or group in names:
            continue
        values = (group.strip().lower(), clean(group).lower())
        meant = [name for name in names if name.split("=", 1)[1].lower() in values]
        hint = f" Did you mean {' or '.join(map(repr, meant))}?" if meant else did_you_mean(group, names)
        if hint:
            raise ConfigError(f"--for {group!r}: a group is written COLUMN=VALUE.{hint}")


def _rows(source: Source, classes: tuple[str, ...], part: str) -> Rows:
    """Return a source's rows in memory, their labels as places in ``classes``; without names a label is its place.

    Raises:
        DataError: a row's label is none of ``classes``. Names that no row has are nobody's label.
    """
    rows = read_rows(source, lambda x: to_device(x, device=torch.device("cpu"), dtype=torch.float32))
    names = source.classes or classes
    places = {code: classes.index(name) for code, name in enumerate(names) if name in classes}
    codes, first, inverse = np.unique(rows.y.numpy(), return_index=True, return_inverse=True)
    for code, row in zip(codes.tolist(), first.tolist(), strict=True):
        if code not in places:
            label = repr(names[code]) if source.classes and 0 <= code < len(names) else code
            raise DataError(
                f"the {part} rows have label {label} (row {row}); the models' classes are {', '.join(classes[:10])}."
            )
    return replace(rows, y=torch.tensor([places[code] for code in codes.tolist()])[torch.from_numpy(inverse)])


def _levels(source: Source) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names) for names in source.levels)
