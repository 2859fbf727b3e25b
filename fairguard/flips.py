"""The file of flipped samples: gathered while the models run, written when the verdict is known.

Memory is bounded: flips wait in a temporary file. Knows no model and no statistics but the share of each harmful flip
that its group's excess is responsible for.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fairguard.dtypes import FloatArray, IntArray
from fairguard.errors import OutputError
from fairguard.files import check_writable, replacing
from fairguard.inputs.groups import CLASS
from fairguard.inputs.parts import refuse_read
from fairguard.inputs.rows import Source
from fairguard.judge.counts import CountTable
from fairguard.judge.responsibility import responsibility
from fairguard.verdict import Verdict

if TYPE_CHECKING:
    from fairguard.inference import Flips


AND = " & "
"""Between the parts of an intersection's name, as in ``race=Black & sex=F``."""
SUFFIXES = (".parquet", ".csv")
MOST_RANKED = 1_000_000
"""More flips than this are written in the order of their rows."""


class FlipsFile:
    """Takes flipped rows as they are found, and writes one row for each; see :class:`fairguard.inference.FlipSink`."""

    _source: Source

    def __init__(self, path: Path | None, *, spool: Path) -> None:
        """Keep flips in the file ``spool`` until :meth:`write`; without a path, forget them."""
        self._path, self._spool = path, spool
        self._writer: pq.ParquetWriter | None = None
        self._count = 0

    @classmethod
    @contextmanager
    def collecting(cls, path: str | Path | None) -> Iterator[FlipsFile]:
        """Yield the collector for ``path``; one that forgets everything where no file is wanted."""
        if path is None:
            yield cls(None, spool=Path())
            return
        with _room("any folder of temporary files"):
            folder = tempfile.mkdtemp(prefix="fairguard-")
        collector = cls(Path(path), spool=Path(folder) / "flips.parquet")
        try:
            yield collector
        finally:
            with suppress(OutputError):
                collector._close()
            shutil.rmtree(folder, ignore_errors=True)

    def of(self, source: Source) -> FlipsFile:
        """Return the collector, which takes the flips of these rows from now on."""
        self._source = source
        return self

    def add(self, flips: Flips) -> None:
        """Note flipped rows."""
        if self._path is None:
            return
        columns = {
            "id": pa.array(flips.ids),
            **{f"code {i}": pa.array(flips.codes[:, i]) for i in range(flips.codes.shape[1])},
            "y": pa.array(np.full(len(flips.dense), -1) if flips.y is None else flips.y),
            "dense": pa.array(flips.dense),
            "pruned": pa.array(flips.pruned),
            "dense_confidence": pa.array(np.asarray(flips.dense_confidence, dtype=np.float64)),
            "pruned_confidence": pa.array(np.asarray(flips.pruned_confidence, dtype=np.float64)),
            "bin": pa.array(flips.margin_bin),
            **({} if flips.confirmed is None else {"confirmed": pa.array(flips.confirmed)}),
        }
        table = pa.table(columns)
        with _room(self._spool):
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._spool, table.schema)
            self._writer.write_table(table)
        self._count += table.num_rows

    def write(self, verdict: Verdict, margins: CountTable) -> None:
        """Write the file as a whole or not at all.

        Args:
            verdict: says which groups regressed.
            margins: the counts of all rows by group, bin of the dense margin, label and answers.

        Raises:
            OutputError: it cannot be written; what stood there before still stands.
        """
        self._close()
        if self._path is None:
            return
        conflicts = _conflicts(verdict, self._source, margins)
        with replacing(self._path) as temporary:
            tables = self._ranked(self._named(raw, margins.classes, conflicts) for raw in self._spooled())
            if self._path.suffix == ".csv":
                _write(map(_escaped, tables), lambda schema: pacsv.CSVWriter(temporary, schema))
            else:
                _write(tables, lambda schema: pq.ParquetWriter(temporary, schema))

    def _close(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            with _room(self._spool):
                writer.close()

    def _spooled(self) -> Iterator[pa.Table]:
        """Yield the flips as they were added; an empty table where there was none."""
        if not self._spool.exists():
            nothing: IntArray = np.empty(0, dtype=np.int64)
            names = ["id", *(f"code {i}" for i in range(len(self._source.columns))), "y", "dense", "pruned", "bin"]
            confidences = {f"{model}_confidence": nothing.astype(np.float64) for model in ("dense", "pruned")}
            empty: dict[str, Any] = dict.fromkeys(names, nothing) | confidences
            yield pa.table(empty)
            return
        with pq.ParquetFile(self._spool) as file:
            for batch in file.iter_batches():
                yield pa.Table.from_batches([batch])

    def _ranked(self, tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Return the flips that a group's excess explains first; too many to sort in memory stay in the rows' order."""
        if self._count > MOST_RANKED:
            return tables
        order = [("responsibility", "descending"), ("pruned_confidence", "descending")]
        return iter([pa.concat_tables(tables).sort_by(order)])

    def _named(self, raw: pa.Table, classes: tuple[str, ...], conflicts: list[_Conflict]) -> pa.Table:
        """Return the rows for the reader: names instead of codes, the kind of each flip, and the regressed groups."""
        columns, levels = self._source.columns, self._source.levels
        codes = [raw.column(f"code {i}").to_numpy() for i in range(len(columns))]
        y, dense, pruned = (raw.column(name).to_numpy() for name in ("y", "dense", "pruned"))
        harmful, labelled = (y >= 0) & (dense == y), y >= 0
        kind = np.where(harmful, "harmful", np.where(labelled & (pruned == y), "beneficial", "other"))
        regressed, share = _regressed(conflicts, codes, y, raw.column("bin").to_numpy(), harmful)
        answers: dict[str, Any] = {
            "label": pa.array(_names(y, classes), mask=~labelled, type=pa.string()),
            "dense": pa.array(_names(dense, classes), type=pa.string()),
            "pruned": pa.array(_names(pruned, classes), type=pa.string()),
            "dense_confidence": raw.column("dense_confidence"),
            "pruned_confidence": raw.column("pruned_confidence"),
            "kind": pa.array(kind, type=pa.string()),
            "regressed_group": pa.array(regressed, mask=regressed == "", type=pa.string()),
            "responsibility": pa.array(share),
        }
        named: dict[str, Any] = {"id": raw.column("id")}
        named |= {
            f"group_{column}" if column in {"id", *answers} else column: pa.array(_names(code, names), type=pa.string())
            for column, code, names in zip(columns, codes, levels, strict=True)
        }
        confirmed = {name: raw.column(name) for name in raw.column_names if name == "confirmed"}
        return pa.table(named | answers | confirmed)


@dataclass(frozen=True)
class _Conflict:
    """A regressed group.

    Attributes:
        name: as its finding has it.
        condition: the level code that its rows have in some of the columns.
        shares: shape (K, B), by label and bin of the dense margin the share of a harmful flip that the group's excess
            is responsible for; rows alike in both are equally likely to flip without any unfairness.
    """

    name: str
    condition: dict[int, int]
    shares: FloatArray

    def holds(self, codes: list[IntArray]) -> NDArray[np.bool_]:
        """Return which rows are in the group."""
        return np.asarray(np.all([codes[i] == code for i, code in self.condition.items()], axis=0))


@contextmanager
def _room(where: str | Path) -> Iterator[None]:
    """Turn what the system says where flips cannot wait in its folder of temporary files into an OutputError."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else error
        raise OutputError(
            f"the flips cannot wait in {where}: {why}. Make room, or name another folder in TMPDIR."
        ) from None


def _conflicts(verdict: Verdict, source: Source, margins: CountTable) -> list[_Conflict]:
    if not verdict.labelled:
        return []
    groups = dict.fromkeys(finding.group for finding in verdict.regressed)
    return [_conflict(group, source, margins) for group in groups]


def _conflict(group: str, source: Source, margins: CountTable) -> _Conflict:
    condition = condition_of(group, source.columns, source.levels)
    if condition is None:
        raise OutputError(f"group {group!r} is none of the data's; the flips cannot be written.")
    inside = np.ones(len(margins.cells), dtype=bool)
    for i, code in condition.items():
        place = margins.columns.index(source.columns[i])
        inside &= margins.cells[:, place] == margins.levels[place].index(source.levels[i][code])
    names = margins.levels[-1]  # the hidden last column: bins of the dense margin, named by their number
    numbers = np.array([int(name) for name in names], dtype=np.int64)[margins.codes(margins.columns[-1])]
    right = margins.dense == margins.y
    shape = (len(margins.classes), int(numbers.max(initial=0)) + 1)
    # Within a class all labels are one, and rows alike have to be found in other classes.
    labels = np.zeros_like(margins.y) if _is_class(condition, source) else margins.y
    strata = np.ravel_multi_index((labels, numbers), shape)
    found = responsibility(
        strata, member=inside, harmed=right & (margins.pruned != margins.y), at_risk=right, counts=margins.counts
    )
    shares = np.zeros(shape)
    np.maximum.at(shares, (margins.y, numbers), found)
    return _Conflict(group, condition, shares)


def _is_class(condition: dict[int, int], source: Source) -> bool:
    return CLASS in {source.columns[i] for i in condition}


def condition_of(group: str, columns: Sequence[str], levels: Sequence[Sequence[str]]) -> dict[int, int] | None:
    """Return the level code in each column that a group's name speaks of; ``None`` if it is no such name."""
    if not group:
        return {}
    for i, column in enumerate(columns):
        for code, level in enumerate(levels[i]):
            part = f"{column}={level}"
            if group == part or group.startswith(part + AND):
                rest = condition_of(group[len(part) :].removeprefix(AND), columns, levels)
                if rest is not None:
                    return {i: code, **rest}
    return None


def _regressed(
    conflicts: list[_Conflict], codes: list[IntArray], y: IntArray, bins: IntArray, harmful: NDArray[np.bool_]
) -> tuple[NDArray[Any], FloatArray]:
    """Return the regressed groups that each row is in, and the largest share one of them has in its harmful flip."""
    names = np.full(len(y), "", dtype=object)
    share = np.full(len(y), np.nan)
    for conflict in conflicts:
        inside = conflict.holds(codes)
        names[inside] = [f"{name}; {conflict.name}" if name else conflict.name for name in names[inside]]
        at = inside & harmful
        share[at] = np.fmax(share[at], conflict.shares[y[at], bins[at]])
    return names, share


def _write(tables: Iterator[pa.Table], writer_for: Callable[[pa.Schema], Any]) -> None:
    """Write at least one table."""
    first = next(tables)
    with writer_for(first.schema) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def _names(codes: IntArray, names: Sequence[str]) -> NDArray[Any]:
    """Return the name of each code, shape (n,); of -1 some name, to be masked."""
    return np.array([*names, ""], dtype=object)[codes]


def _escaped(table: pa.Table) -> pa.Table:
    """Return the table with text that a spreadsheet would run as a formula made plain by an apostrophe before it."""
    for i, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            plain = pc.replace_substring_regex(table.column(i), r"\A([=+\-@\t\r])", r"'\1")
            table = table.set_column(i, field.name, plain)
    return table.rename_columns([re.sub(r"\A([=+\-@\t\r])", r"'\1", name) for name in table.column_names])


def check_flips(path: str | Path, read: Mapping[str, Any]) -> None:
    """Check that a file of flips may be written to ``path``, before any model is opened.

    Args:
        path: where the file is to be.
        read: what is read, by role; see :func:`fairguard.inputs.parts.refuse_read`.

    Raises:
        OutputError: the suffix is neither .parquet nor .csv, the folder is missing or not writable, or what stands
            there is read.
    """
    if Path(path).suffix not in SUFFIXES:
        raise OutputError(f"--flips {path}: end the name in {' or '.join(SUFFIXES)}.")
    check_writable(path)
    refuse_read(path, read)
