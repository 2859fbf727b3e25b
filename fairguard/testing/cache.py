"""Counts kept between tests, workers and runs: a file for each key, written whole, read without running anything."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from pydantic import ValidationError

from fairguard.checking import Counted
from fairguard.files import replacing
from fairguard.inference import Comparison
from fairguard.judge.counts import CountTable
from fairguard.judge.responsibility import Confirmed
from fairguard.verdict import ModelInfo, Noise

KEPT = 64
"""Count tables that stay in the folder when a run ends, the newest."""


class CountCache:
    """Counts by key: in memory, and in a folder that the workers of one run and later runs share."""

    def __init__(self, folder: Path | None) -> None:
        """Keep counts in ``folder``; without one, in this process only."""
        self._folder = folder
        self._held: dict[str, Counted] = {}

    def get(self, key: str | None, make: Callable[[], Counted]) -> Counted:
        """Return the counts under ``key``, made only if nobody has them; ``None`` is a key of nothing.

        Workers that want the same counts wait for the first one to make them.
        """
        if key is None:
            return make()
        if key not in self._held:
            self._held[key] = make() if self._folder is None else self._shared(self._folder, key, make)
        return self._held[key]

    def _shared(self, folder: Path, key: str, make: Callable[[], Counted]) -> Counted:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{key}.npz"
        with FileLock(folder / f"{key}.lock"):
            found = load(path)
            if found is None:
                found = make()
                save(found, path)
        return found


def tidy(folder: Path) -> None:
    """Remove all but the newest count tables; a file that somebody else holds or has removed does not matter."""
    tables = sorted(folder.glob("*.npz"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in (*tables[KEPT:], *folder.glob("*.lock")):
        with suppress(OSError):
            path.unlink()


def save(counted: Counted, path: Path) -> None:
    """Write counts, and what is known of models and rows, as arrays and JSON."""
    table = counted.comparison.margins
    about = {
        "columns": table.columns,
        "levels": table.levels,
        "classes": table.classes,
        "ties": counted.comparison.ties,
        "open": counted.comparison.open,
        "confirmed": _plain(counted.comparison.confirmed),
        "models": [model.model_dump() for model in counted.models],
        "noise": [noise.model_dump() for noise in counted.noise],
        "warnings": counted.warnings,
        "record": counted.record,
    }
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, cells=table.cells, counts=table.counts, about=text)


def load(path: Path) -> Counted | None:
    """Return the counts in a file; ``None`` where there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(arrays["about"].tobytes())
            return _counted(about, arrays["cells"], arrays["counts"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, zipfile.BadZipFile, ValidationError):
        return None


def _counted(about: dict[str, Any], cells: Any, counts: Any) -> Counted:
    margins = _table(about, cells, counts)
    dense, pruned = (ModelInfo.model_validate(model) for model in about["models"])
    return Counted(
        Comparison(margins, about["ties"], _confirmed(about["confirmed"]), open=about["open"]),
        (dense, pruned),
        tuple(Noise.model_validate(noise) for noise in about["noise"]),
        tuple(about["warnings"]),
        about["record"],
    )


def _table(names: dict[str, Any], cells: Any, counts: Any) -> CountTable:
    return CountTable(
        tuple(names["columns"]), tuple(map(tuple, names["levels"])), tuple(names["classes"]), cells, counts
    )


def _plain(confirmed: Confirmed | None) -> dict[str, Any] | None:
    """Return what the seeds confirm as values for JSON."""
    if confirmed is None:
        return None
    table = confirmed.counts
    names = {"columns": table.columns, "levels": table.levels, "classes": table.classes}
    return {"flips": confirmed.flips, **names, "cells": table.cells.tolist(), "counts": table.counts.tolist()}


def _confirmed(plain: dict[str, Any] | None) -> Confirmed | None:
    if plain is None:
        return None
    cells, counts = (np.array(plain[name], dtype=np.int64) for name in ("cells", "counts"))
    return Confirmed(plain["flips"], _table(plain, cells, counts))
