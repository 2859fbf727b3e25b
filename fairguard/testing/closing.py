"""The end of a test run: lock file, reports and step summary out of all verdicts heard, and what to say about them.

Runs once, in the process that heard every test. Knows nothing of pytest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fairguard import lock
from fairguard.errors import ConfigError, FairguardError
from fairguard.files import write_text
from fairguard.lock import Change, Difference, Record, Update
from fairguard.report.declared import Declared, Unjudged
from fairguard.report.wording import points
from fairguard.testing.cache import tidy
from fairguard.testing.notes import Note, read

SHOWN = 10
"""Changes against the lock that the summary lists."""
SUFFIXES = (".html", ".json", ".sarif")
"""Reports of many checks, by the module of ``fairguard.report`` whose ``render_all`` makes them. The plugin, which may
import nothing, has a copy."""


@dataclass(frozen=True)
class Wishes:
    """What should happen with the verdicts.

    Attributes:
        root: the project's folder.
        locked: the lock file, existing or not.
        update: what to record in it; ``None``: nothing.
        held_back: why nothing is recorded in spite of ``update``.
        reports: files to write, each by its suffix.
        step_summary: file that GitHub shows; Markdown is appended to it.
    """

    root: Path
    locked: Path
    update: Collection[Update] | None = None
    held_back: str | None = None
    reports: Sequence[Path] = ()
    step_summary: Path | None = None


def close_run(
    notes: Iterable[Note],
    *,
    root: Path,
    locked: Path,
    update: Collection[str] | None,
    reports: Sequence[Path],
    cache: Path | None,
) -> list[str]:
    """Close a run in the surroundings of this process, and return the lines of its summary.

    Args:
        notes: what all items told, the last attempt of each.
        root: the project's folder.
        locked: the lock file, existing or not.
        update: kinds of changes to record in it; ``None``: nothing.
        reports: files to write.
        cache: the folder of counts, which is tidied; ``None``: there is none.
    """
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    in_ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    wishes = Wishes(
        root=root,
        locked=locked,
        update=None if update is None else [Update(kind) for kind in update],
        held_back="CI is set, and only people agree to changes" if in_ci else None,
        reports=reports,
        step_summary=Path(summary) if summary else None,
    )
    checks, unjudged = read(notes)
    lines = close(checks, wishes, unjudged)
    if cache is not None:
        tidy(cache)
    return lines


def close(checks: Iterable[Declared], wishes: Wishes, unjudged: Iterable[Unjudged] = ()) -> list[str]:
    """Write what is wished for and return the lines of the summary; a file that cannot be written is one of them.

    Reports are written without any verdict too: an old file would pass for what this run has found.
    """
    checks = sorted(checks, key=lambda check: check.name)
    unjudged = sorted(unjudged, key=lambda check: check.name)
    lines = [] if checks or unjudged else ["nothing was judged"]
    lines += [f"{check.name}: error: {check.error}" for check in unjudged]
    lines += [f"{check.name}: {check.verdict.outcome}: {check.verdict.headline}" for check in checks]
    for step in (_locked, _reported, _summarised):
        lines += _done(step, checks, unjudged, wishes)
    return lines


def _done(step: Callable[..., list[str]], *given: Any) -> list[str]:
    """Return the lines of a step, or why it could not be done: that must not take the others' files with it."""
    try:
        return step(*given)
    except (FairguardError, OSError) as error:
        return [f"error: {error}"]
    except Exception as error:
        return [f"error: internal error, please report it: {type(error).__name__}: {error}"]


def _locked(checks: Sequence[Declared], unjudged: Sequence[Unjudged], wishes: Wishes) -> list[str]:
    """Compare with the lock, record what is wished for, and say both."""
    then = lock.read(wishes.locked)
    if not checks or (not then and wishes.update is None):
        return []
    now = {check.name: lock.record_of(check.verdict) for check in checks}
    alpha = {check.name: check.verdict.policy.alpha for check in checks}
    changes = {name: _changes(then.get(name), record, alpha[name]) for name, record in now.items()}
    known = {*now, *(check.name for check in unjudged)}
    vanished = [name for name in then if name not in known and not _stands(name, now, wishes.root)]
    lines = _said(changes, vanished, not_run=len(then.keys() - now.keys()) - len(vanished))
    if wishes.update is None:
        return lines
    if wishes.held_back:
        return [*lines, f"{wishes.locked.name} not updated: {wishes.held_back}"]
    records = {
        **{name: record for name, record in then.items() if name not in vanished or Update.NEW not in wishes.update},
        **{name: lock.updated(then.get(name), now[name], changes[name], wishes.update) for name in now},
    }
    lock.write(wishes.locked, records)
    return [*lines, _recorded(changes, wishes)]


def _changes(then: Record | None, now: Record, alpha: float) -> tuple[Difference, ...]:
    return lock.compare(then if then is not None else Record({}, {}), now, alpha=alpha)


def _said(changes: Mapping[str, Sequence[Difference]], vanished: Sequence[str], *, not_run: int) -> list[str]:
    """Return how all findings stand to the lock, and those that moved, worse ones first."""
    moved = [(d.change, name, d) for name, found in changes.items() for d in found if d.change is not Change.SAME]
    moved.sort(key=lambda entry: (_ORDER.index(entry[0]), entry[1], entry[2].name))
    counts = {change: sum(entry[0] is change for entry in moved) for change in _ORDER}
    same = sum(len(found) for found in changes.values()) - len(moved)
    head = f"{lock.FILE}: " + ", ".join([*(f"{count} {change}" for change, count in counts.items()), f"{same} same"])
    listed = [_line(name, difference) for change, name, difference in moved if change is not Change.NEW]
    more = [f"  and {len(listed) - SHOWN} more"] if len(listed) > SHOWN else []
    gone = [f"  gone: {name}" for name in vanished]
    return [head + (f"; not run: {not_run}" if not_run else ""), *listed[:SHOWN], *more, *gone]


_ORDER = (Change.WORSE, Change.NEW, Change.BETTER, Change.GONE)


def _line(check: str, difference: Difference) -> str:
    then, now = difference.then, difference.now
    if now is None:
        return f"  gone: {check}: {difference.name}"
    before = "" if then is None else f"{points(then.excess)} ({then.outcome}) -> "
    return f"  {difference.change}: {check}: {difference.name}: {before}{points(now.excess)} points ({now.outcome})"


def _recorded(changes: Mapping[str, Sequence[Difference]], wishes: Wishes) -> str:
    update = wishes.update or ()
    kinds = set().union(*(lock.RECORDS[which] for which in update))
    found = [difference.change for differences in changes.values() for difference in differences]
    recorded = sum(change in kinds for change in found)
    left = sum(change not in kinds and change is not Change.SAME for change in found)
    more = f"; {left} left as they were (recorded with --fairguard-update=new,improved,regressed)" if left else ""
    return f"recorded {recorded} in {wishes.locked.name}{more}"


def _stands(check: str, heard: Iterable[str], root: Path) -> bool:
    """Return whether a check that was not heard may be heard in another run.

    The test that it is named after still stands in its file, and was not ``heard`` with parameters in its name where
    the check has none: of one test, all checks have them or none. Other parameters may be those of another run.
    """
    file, test, parameters = _split(check)
    if not parameters and any(_split(name)[:2] == (file, test) and _split(name)[2] for name in heard):
        return False
    try:
        text = (root / file).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # a lock file may name what is no file
        return False
    return f"def {test.rpartition('::')[2]}(" in text


def _split(check: str) -> tuple[str, str, str]:
    """Return the file of a check, its test, and the parameters with their bracket; the call's number is left out."""
    file, _, name = check.partition("::")
    test, bracket, parameters = name.partition("[")
    return file, test.partition("#")[0], bracket + parameters


def _reported(checks: Sequence[Declared], unjudged: Sequence[Unjudged], wishes: Wishes) -> list[str]:
    return [line for path in wishes.reports for line in _done(_written, checks, unjudged, path)]


def _written(checks: Sequence[Declared], unjudged: Sequence[Unjudged], path: Path) -> list[str]:
    write_text(path, _report(checks, unjudged, path.suffix))
    return [f"report: {os.path.relpath(path)}"]


def _report(checks: Sequence[Declared], unjudged: Sequence[Unjudged], suffix: str) -> str:
    if suffix not in SUFFIXES:
        raise ConfigError(f"no report of many checks is called {suffix!r}; end the name in {', '.join(SUFFIXES)}.")
    text: str = import_module(f"fairguard.report.{suffix[1:]}").render_all(checks, unjudged)
    return text


def _summarised(checks: Sequence[Declared], unjudged: Sequence[Unjudged], wishes: Wishes) -> list[str]:
    if wishes.step_summary is None or not (checks or unjudged):
        return []
    from fairguard.report.github import summary

    with wishes.step_summary.open("a", encoding="utf-8") as stream:
        stream.write(summary(checks, unjudged) + "\n")
    return []
