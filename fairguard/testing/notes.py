"""What an item tells of its check to the process that hears all items: plain values, which cross with pytest's reports.

Knows nothing of pytest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairguard.report.declared import Declared, Unjudged
from fairguard.verdict import Verdict

Note = Mapping[str, Any]


def note_of(check: str, found: Verdict | str, *, file: str, line: int | None) -> dict[str, Any]:
    """Return what is told of a check: its verdict, or why there is none; undefined numbers survive.

    Args:
        check: name of the check.
        found: the verdict, or the line that says why it could not be made.
        file: the file that declares it, relative to the project's folder.
        line: the line there, from 0; ``None``: not known.
    """
    what = {"error": found} if isinstance(found, str) else {"verdict": json.dumps(found.model_dump(by_alias=True))}
    return {"name": check, "file": Path(file).as_posix(), "line": (line or 0) + 1, **what}


def read(notes: Iterable[Note]) -> tuple[list[Declared], list[Unjudged]]:
    """Return the checks that were told of, and those that nobody could judge; of one name, the last told counts."""
    told = {(note["name"], "error" in note): note for note in notes}
    declared = [
        Declared(**{**note, "verdict": Verdict.model_validate(json.loads(note["verdict"]))})
        for (_, error), note in told.items()
        if not error
    ]
    return declared, [Unjudged(**note) for (name, error), note in told.items() if error and (name, False) not in told]
