"""Tables on disk or in memory, a few thousand rows at a time. Knows columns and types, not what they mean.

Memory stays flat as rows grow: Parquet is read by row group through small buffers, CSV block by block.
"""

from __future__ import annotations

import codecs
import gzip
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from fairguard.errors import DataError
from fairguard.names import first_twice, shown

READ_ROWS = 16_384
"""Rows decoded at a time."""
_PARQUET_BUFFER = 1 << 20
_CSV_BLOCK = 4 << 20
"""Bytes of CSV parsed at a time; the types of columns are decided on the first block."""


class Table(Protocol):
    """Named columns, readable any number of times in the same order.

    Attributes:
        name: what to call it in errors.
        kind: what it is in the reproducibility record.
        path: where it lies, ``None`` in memory.
        schema: names and types of its columns.
    """

    name: str
    kind: str
    path: Path | None
    schema: pa.Schema

    def scan(self, columns: Sequence[str], *, widen: Collection[str] = ()) -> Iterator[pa.Table]:
        """Yield the rows in order, some at a time; whole numbers of the columns ``widen`` may come as float64."""
        ...


class ParquetTable:
    """A Parquet file."""

    kind = "Parquet"

    def __init__(self, path: Path) -> None:
        """Read names and types."""
        self.name = path.name
        self.path: Path | None = path
        self._file = path
        with readable(self.name), self._open() as file:
            self.schema = file.schema_arrow
        _require_own_names(self.name, self.schema.names)

    def scan(self, columns: Sequence[str], *, widen: Collection[str] = ()) -> Iterator[pa.Table]:
        """Yield the rows in order, some at a time."""
        with readable(self.name), self._open() as file:
            for group in range(file.num_row_groups):
                for batch in file.iter_batches(READ_ROWS, row_groups=[group], columns=list(columns), use_threads=False):
                    yield pa.Table.from_batches([batch])

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._file, pre_buffer=False, buffer_size=_PARQUET_BUFFER, memory_map=False)


class CsvTable:
    """A CSV file, plain or gzip-compressed, separated by commas, semicolons, tabs or bars."""

    kind = "CSV"

    def __init__(self, path: Path, *, compressed: bool) -> None:
        """Read names, and types from the first block."""
        self.name = path.name
        self.path: Path | None = path
        self._file = path
        self._compressed = compressed
        with readable(self.name, self._line):
            self._header = _header(path, compressed)
            with self._stream(pacsv.ConvertOptions(strings_can_be_null=True)) as reader:
                self.schema = reader.schema
            names = self.schema.names  # decoded here
        _require_own_names(self.name, names)

    def scan(self, columns: Sequence[str], *, widen: Collection[str] = ()) -> Iterator[pa.Table]:
        """Yield the rows in order, some at a time; whole numbers and empty columns of ``widen`` come as float64."""
        types = {name: self._type(name, name in widen) for name in columns}
        options = pacsv.ConvertOptions(strings_can_be_null=True, include_columns=list(columns), column_types=types)
        with readable(self.name, self._line), self._stream(options) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def _line(self) -> str:
        """Return where the first byte is that is no UTF-8, in words."""
        decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
        opened = gzip.open if self._compressed else open
        with suppress(OSError, EOFError, zlib.error), opened(self._file, "rb") as stream:
            while block := stream.read(1 << 20):
                try:
                    line += decoder.decode(block).count("\n")
                except UnicodeDecodeError as error:
                    return f" in line {line + error.object[: error.start].count(10)}"
        return ""

    def _type(self, name: str, widen: bool) -> pa.DataType:
        kind = self.schema.field(name).type
        if widen and (pa.types.is_integer(kind) or pa.types.is_null(kind)):
            return pa.float64()
        return pa.string() if pa.types.is_null(kind) or pa.types.is_binary(kind) else kind  # binary: not UTF-8

    def _stream(self, convert: pacsv.ConvertOptions) -> pacsv.CSVStreamingReader:
        source: Any = pa.OSFile(str(self._file), "r")
        if self._compressed:
            source = pa.CompressedInputStream(source, "gzip")
        first = max("\t;|,", key=self._header.count)
        return pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(block_size=_CSV_BLOCK, use_threads=False),
            parse_options=pacsv.ParseOptions(delimiter=first, newlines_in_values=True),
            convert_options=convert,
        )


class MemoryTable:
    """A pandas DataFrame, or anything else that became an Arrow table."""

    def __init__(
        self, table: pa.Table, *, name: str = "the table", path: Path | None = None, kind: str = "in memory"
    ) -> None:
        """Keep the table."""
        self.name, self.path, self.kind = name, path, kind
        self.schema = table.schema
        self._table = table

    @classmethod
    def of_frame(cls, frame: Any) -> MemoryTable:
        """Return the table of a pandas DataFrame, without its index."""
        named = frame.rename(columns=str)
        _require_own_names("the table", named.columns)
        with readable("the table"):
            return cls(pa.Table.from_pandas(named, preserve_index=False).replace_schema_metadata(None))

    def scan(self, columns: Sequence[str], *, widen: Collection[str] = ()) -> Iterator[pa.Table]:
        """Yield the rows in order, some at a time."""
        table = self._table.select(list(columns))
        for start in range(0, table.num_rows, READ_ROWS):
            yield table.slice(start, READ_ROWS)


def _require_own_names(name: str, columns: Iterable[str]) -> None:
    """Raise :class:`DataError` where two columns of a table have one name."""
    if (twice := first_twice(columns)) is not None:
        raise DataError(f"{name} has two columns {shown(twice)!r}; give each column its own name.")


def rechunk(tables: Iterator[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Yield the same rows in tables of exactly ``rows`` rows, the last one perhaps shorter."""
    waiting: list[pa.Table] = []
    have = 0
    for table in tables:
        waiting.append(table)
        have += table.num_rows
        while have >= rows:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, rows)
            rest = joined.slice(rows)
            waiting, have = [rest], rest.num_rows
    if have:
        yield pa.concat_tables(waiting)


def index_columns(schema: pa.Schema) -> set[str]:
    """Return the columns that are a pandas index saved along: they number rows and are no features."""
    try:
        told = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return {name for name in told.get("index_columns", ()) if isinstance(name, str)}
    except (ValueError, AttributeError, TypeError, RecursionError):  # whatever a file says there
        return set()


@contextmanager
def readable(name: str, line: Callable[[], str] = str) -> Iterator[None]:
    """Turn whatever reading ``name`` raises into a :class:`DataError`: its bytes may be hostile.

    Args:
        name: what is read.
        line: tells where the first byte is that is no text.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(_explained(name, str(error), line)) from None


def _explained(name: str, message: str, line: Callable[[], str]) -> str:
    rules: list[tuple[str, Callable[[], str]]] = [
        ("invalid UTF8", lambda: f"{name} is not UTF-8 text{line()}; save it as UTF-8."),
        ("conversion error", lambda: f"a column of {name} mixes types: {message}; correct it, or give Parquet."),
        ("Conversion failed", lambda: f"a column of {name} mixes types: {message}; give numbers only, or text only."),
        ("Expected bytes", lambda: f"a column of {name} mixes types: {message}; give numbers only, or text only."),
        ("utf-8", lambda: f"{name} is not UTF-8 text{line()}; save it as UTF-8."),
        ("Expected", lambda: f"{name} is no proper CSV: {message}"),
        ("CSV parse error", lambda: f"{name} is no proper CSV: {message}; data is CSV, Parquet or npz."),
    ]
    return next((text() for sign, text in rules if sign in message), f"{name} cannot be read: {message}")


def _header(path: Path, compressed: bool) -> str:
    """Return the first line without what is quoted, line breaks too: it tells what separates columns."""
    with (gzip.open if compressed else open)(path, "rb") as stream:
        return re.sub('"[^"]*"', "", stream.read(1 << 20).decode("utf-8", "replace")).partition("\n")[0]
