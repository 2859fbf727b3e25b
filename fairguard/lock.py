"""fairness.lock: what a project's checks found when somebody last agreed to it, as counts and hashes.

A later check is compared with it by the same statistics as groups are with the rest: it is worse only beyond noise.
Knows verdicts and one text file; nothing of tests, models or rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from math import hypot, isnan
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from fairguard.errors import ConfigError
from fairguard.files import write_text
from fairguard.judge.intervals import mover, tango
from fairguard.policy import validation_line
from fairguard.verdict import NAN, Finding, Outcome, Verdict, columns_in

Limits = tuple[float, float]
_Count = Annotated[int, Field(ge=0, strict=True)]

FILE = "fairness.lock"
SCHEMA = 1


class Change(StrEnum):
    """How a finding stands to the lock."""

    NEW = "new"
    BETTER = "better"
    WORSE = "worse"
    GONE = "gone"
    SAME = "same"


class Update(StrEnum):
    """What ``--fairguard-update`` may record; ``new`` also strikes out what is gone."""

    NEW = "new"
    IMPROVED = "improved"
    REGRESSED = "regressed"


RECORDS = {
    Update.NEW: {Change.NEW, Change.GONE},
    Update.IMPROVED: {Change.BETTER},
    Update.REGRESSED: {Change.WORSE},
}


@dataclass(frozen=True)
class Entry:
    """The counts behind one finding: of the group's rows and of everybody else's, how many changed which way."""

    __pydantic_config__: ClassVar = ConfigDict(extra="forbid")

    outcome: Outcome
    n: _Count
    harmed: _Count
    helped: _Count
    n_rest: _Count
    harmed_rest: _Count
    helped_rest: _Count

    @property
    def excess(self) -> float:
        """Return the group's loss minus the rest's; ``nan`` where either has no rows."""
        return self.loss - (self.harmed_rest - self.helped_rest) / self.n_rest if self.n_rest else NAN

    @property
    def loss(self) -> float:
        """Return the group's own loss; ``nan`` where it has no rows."""
        return (self.harmed - self.helped) / self.n if self.n else NAN

    def excess_limits(self, z: float) -> Limits:
        """Return lower and upper score limits of :attr:`excess`, each one-sided at critical value ``z``."""
        rest = (self.harmed_rest, self.helped_rest, self.n_rest)
        lower, upper = mover(self.harmed, self.helped, self.n, *rest, z)
        return float(lower), float(upper)

    def loss_limits(self, z: float) -> Limits:
        """Return lower and upper score limits of :attr:`loss`, each one-sided at critical value ``z``."""
        lower, upper = tango(self.harmed, self.helped, self.n, z)
        return float(lower), float(upper)


@dataclass(frozen=True)
class Record:
    """One check in the lock: what was compared, and its findings by name."""

    hashes: dict[str, str | None]
    """``dense``, ``pruned`` and ``data``; ``None`` for what was held in memory."""
    findings: dict[str, Entry]


_RECORD = TypeAdapter(Record)


@dataclass(frozen=True)
class Difference:
    """One finding, then and now."""

    name: str
    change: Change
    then: Entry | None
    now: Entry | None
    shift: float = NAN
    """Excess now minus excess then."""
    limits: Limits = (NAN, NAN)
    """Bounds of the shift, each one-sided at the level shared by the whole check."""


def name_of(finding: Finding) -> str:
    """Return the name of a finding in the lock: ``race=Black recall of 1``."""
    return f"{finding.group} {finding.metric}" + (f" of {finding.label}" if finding.label is not None else "")


def record_of(verdict: Verdict) -> Record:
    """Return what the lock keeps of a verdict."""
    shas = [model.sha256 for model in verdict.models] or [None, None]
    hashes = dict(zip(("dense", "pruned"), shas, strict=True)) | {"data": _data_hash(verdict)}
    return Record(hashes, {name_of(finding): _entry(finding, verdict) for finding in verdict.findings})


def compare(then: Record, now: Record, *, alpha: float) -> tuple[Difference, ...]:
    """Return every finding of either record with how it changed, sorted by name.

    Worse is a group whose excess rose and whose own loss rose too, both beyond noise; better, if both fell. For when
    one group is harmed, the excess of all others falls though nothing happened to them, and rises when it is repaired.

    Then and now count as independent samples and are compared by MOVER at ``alpha`` shared by all common findings. On
    the very same rows that is cautious: their common noise cancels and is counted all the same.
    """
    common = then.findings.keys() & now.findings.keys()
    z = NormalDist().inv_cdf(1 - alpha / max(1, len(common)))
    names = sorted(then.findings.keys() | now.findings.keys())
    return tuple(_difference(name, then.findings.get(name), now.findings.get(name), z) for name in names)


def updated(then: Record | None, now: Record, differences: Iterable[Difference], which: Collection[Update]) -> Record:
    """Return the record with the changes of the kinds ``which``; hashes are those of the last run that changed it.

    What is the same up to noise keeps its old counts, so that many small steps down add up to a visible one.
    """
    if then is None:
        return now if Update.NEW in which else Record({}, {})
    kinds = set().union(*(RECORDS[update] for update in which))
    changed = [difference for difference in differences if difference.change in kinds]
    if not changed:
        return then
    findings = dict(then.findings)
    for difference in changed:
        if difference.now is None:
            del findings[difference.name]
        else:
            findings[difference.name] = difference.now
    return replace(now, findings=findings)


def read(path: str | Path) -> dict[str, Record]:
    """Return the records of a lock file by check; none where there is no file.

    Raises:
        ConfigError: the file is no lock of this version.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}. Restore it, or write a new one: --fairguard-update.") from None
    try:
        plain = json.loads(text)
        if plain["schema"] != SCHEMA:
            raise ConfigError(f"{path} has schema {plain['schema']!r}; this version reads {SCHEMA}. Update fairguard.")
        return {check: _parse(fields) for check, fields in plain["checks"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = validation_line(error) if isinstance(error, ValidationError) else f"{type(error).__name__}: {error}"
        raise ConfigError(
            f"{path} is no lock file ({why.rstrip('.')}); resolve merge conflicts in it, or delete "
            f"it and write a new one: --fairguard-update."
        ) from None


def write(path: str | Path, records: Mapping[str, Record]) -> None:
    """Write a lock file: sorted, a line a finding, so that a diff reads well."""
    checks = [_check_text(check, records[check]) for check in sorted(records) if records[check].findings]
    body = ",\n".join(checks)
    write_text(path, f'{{\n  "schema": {SCHEMA},\n  "checks": {{\n{body}\n  }}\n}}\n')


def _check_text(check: str, record: Record) -> str:
    lines = [f"      {_text(name)}: {_text(asdict(record.findings[name]))}" for name in sorted(record.findings)]
    hashes = "".join(f"      {_text(name)}: {_text(sha)},\n" for name, sha in record.hashes.items())
    return f'    {_text(check)}: {{\n{hashes}      "findings": {{\n  ' + ",\n  ".join(lines) + "\n      }\n    }"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _parse(fields: dict[str, Any]) -> Record:
    hashes = {name: fields[name] for name in ("dense", "pruned", "data")}
    record = _RECORD.validate_python({"hashes": hashes, "findings": fields["findings"]})
    for name, found in record.findings.items():
        if found.harmed + found.helped > found.n or found.harmed_rest + found.helped_rest > found.n_rest:
            raise ValueError(f"more rows of {name!r} changed than there are")
    return record


def _difference(name: str, then: Entry | None, now: Entry | None, z: float) -> Difference:
    if then is None:
        return Difference(name, Change.NEW, then, now)
    if now is None:
        return Difference(name, Change.GONE, then, now)
    shift = now.excess - then.excess
    limits = _shift_limits((then.excess, *then.excess_limits(z)), (now.excess, *now.excess_limits(z)))
    own = _shift_limits((then.loss, *then.loss_limits(z)), (now.loss, *now.loss_limits(z)))
    worse, better = limits[0] > 0 and own[0] > 0, limits[1] < 0 and own[1] < 0
    change = Change.WORSE if worse else Change.BETTER if better else Change.SAME
    return Difference(name, change, then, now, shift, limits)


def _shift_limits(then: tuple[float, float, float], now: tuple[float, float, float]) -> Limits:
    """Return the limits of ``now - then`` by MOVER, out of (estimate, lower limit, upper limit) of both."""
    shift = now[0] - then[0]
    return shift - hypot(now[0] - now[1], then[2] - then[0]), shift + hypot(now[2] - now[0], then[0] - then[1])


def _entry(finding: Finding, verdict: Verdict) -> Entry:
    harmed, helped = _rest(finding, verdict)
    return Entry(finding.outcome, finding.n, finding.harmed, finding.helped, finding.n_rest, harmed, helped)


def _rest(finding: Finding, verdict: Verdict) -> tuple[int, int]:
    """Return how many rows of everybody else were harmed and helped.

    The groups of one column have every row once, so their sums are everybody's. Where no column adds up to everybody,
    only the difference of the two is known, from the rest's loss.
    """
    peers = [f for f in verdict.findings if (f.metric, f.label) == (finding.metric, finding.label)]
    for column in verdict.columns:
        groups = [f for f in peers if columns_in(f.group, verdict.columns) == [column]]
        if sum(f.n for f in groups) == finding.n + finding.n_rest:
            return sum(f.harmed for f in groups) - finding.harmed, sum(f.helped for f in groups) - finding.helped
    net = 0 if isnan(finding.loss_rest) else round(finding.loss_rest * finding.n_rest)
    return max(net, 0), max(-net, 0)


def _data_hash(verdict: Verdict) -> str | None:
    data = verdict.record.get("data") or {}
    sha: str | None = data.get("sha256")
    return sha
