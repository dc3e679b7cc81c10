"""Read files with typed columns, in batches of plain types: numbers, strings, times and booleans.

Files that labkit wrote itself are read by `labkit.data.table_files`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labkit.data.reading.formats import name_file, name_format
from labkit.data.reading.reader import Reader, Remark
from labkit.errors import DataError, list_briefly
from labkit.names import normalize_spaces
from labkit.params.tables import Table

ARROW_BLOCK_CELLS = 2_000_000


class TypedTable:
    """A file with typed, checked columns, ready to be read repeatedly.

    Raises
    ------
    DataError
        The file is empty, not of the format of its extension, too large, or has duplicate or unsupported columns.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        if not path.stat().st_size:
            raise DataError(f"{where} is empty (0 bytes): is it the right file?")
        self.reader = open_reader(path, table, where)
        self.schema, self.n_rows, self.remarks = self.reader.schema, self.reader.n_rows, self.reader.remarks
        self.check_size(self.reader.n_bytes)
        # pandas stores the index of a table in such columns; they are not data.
        stored = [name for name in self.schema.names if not name.startswith("__index_level_")]
        names = [normalize_spaces(name) for name in stored]
        twins = sorted({name for name in names if names.count(name) > 1}) if len({*names}) < len(names) else []
        if twins:
            raise DataError(
                f"{where}: duplicate column names: {list_briefly(map(repr, twins))}: rename them in the file"
            )
        self.skipped = [name for name in names if name in table.skip]
        self.stored = {name: key for name, key in zip(names, stored, strict=True) if name not in table.skip}
        self.names = list(self.stored)
        self.check_types()

    def check_size(self, n_bytes: int) -> None:
        """Reject a table that exceeds its limits."""
        for name, found in {"rows": self.n_rows, "bytes": n_bytes, "columns": len(self.schema.names)}.items():
            most = getattr(self.table, f"max_{name}")
            if found > most:
                raise DataError(f"{self.where}: {found:,} {name}: raise `max_{name}` of the table ({most:,})")

    def check_types(self) -> None:
        """Reject columns of lists, bytes and other nested or binary types."""
        for name, key in self.stored.items():
            kind = self.schema.field(key).type
            if to_plain_type(kind) is None:
                raise DataError(f"{self.where}: column {name!r} holds {kind}, not plain values: name it in `skip`")

    def read_frames(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, with columns of plain types."""
        for rows in self.reader.read_batches(max(1, ARROW_BLOCK_CELLS // max(1, len(self.names)))):
            yield self.make_plain(rows)

    def make_plain(self, rows: pa.RecordBatch | pa.Table) -> pa.Table:
        """Convert every column to its plain type; infinite numbers are rejected or become missing."""
        columns = []
        for name, key in self.stored.items():
            column = self.cast(rows.column(key), name)
            if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
                if not self.table.allow_infinite:
                    raise DataError(f"{self.where}: column {name!r} holds infinite numbers: set `allow_infinite: true`")
                column = pc.if_else(pc.is_inf(column), pa.scalar(None, pa.float64()), column)
            columns.append(column)
        return pa.Table.from_arrays(columns, names=self.names)

    def cast(self, column: pa.Array | pa.ChunkedArray, name: str) -> pa.Array | pa.ChunkedArray:
        """Convert a column to its plain type."""
        kind = self.schema.field(self.stored[name]).type
        try:
            # Times are truncated to microseconds.
            return column.cast(to_plain_type(kind), safe=not (pa.types.is_timestamp(kind) and kind.unit == "ns"))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.where}: column {name!r} holds {kind} that no plain number or time represents exactly: write "
                "it as another type, or name it in `skip`"
            ) from error


def open_reader(path: Path, table: Table, where: str) -> Reader:
    """Open a file with the reader for its extension; readers of rare formats are imported only when needed."""
    format_name = name_format(path)
    if format_name == "ARFF":
        from labkit.data.reading.arff_file import ArffReader

        return ArffReader(path, table, where)
    if format_name in READERS:
        return ArrowReader(path, where, format_name)
    from labkit.data.reading.labelled import LabelledReader

    return LabelledReader(path, table, where)


class ArrowReader:
    """A Parquet, Arrow or ORC file.

    Raises
    ------
    DataError
        The file is not of its format, or truncated.
    """

    def __init__(self, path: Path, where: str, format_name: str) -> None:
        self.path, self.where, self.format_name = path, where, format_name
        self.remarks: list[Remark] = []
        try:
            with READERS[format_name](path) as opened:
                self.schema, self.n_rows, self.n_bytes = opened.schema, opened.n_rows, opened.n_bytes
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{where}: not {name_file(format_name)}, or truncated: copy it again") from error

    def read_batches(self, n_rows: int) -> Iterator[pa.RecordBatch | pa.Table]:
        """Yield all rows in batches of about `n_rows`, or as the file stores them.

        Raises
        ------
        DataError
            The file is damaged.
        """
        try:
            with READERS[self.format_name](self.path) as opened:
                yield from opened.read(n_rows)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.where}: damaged: copy it again") from error


class OpenedParquet(AbstractContextManager["OpenedParquet"]):
    """An open Parquet file."""

    def __init__(self, path: Path) -> None:
        self.file = pq.ParquetFile(path)
        metadata = self.file.metadata
        self.schema, self.n_rows = self.file.schema_arrow, metadata.num_rows
        self.n_bytes = sum(metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups))

    def read(self, n_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        # All columns: a selection would interpret a dot in a name as a nested field.
        yield from self.file.iter_batches(batch_size=n_rows)

    def __exit__(self, *error: object) -> None:
        self.file.close()


class OpenedArrow(AbstractContextManager["OpenedArrow"]):
    """An open Arrow (Feather) file."""

    def __init__(self, path: Path) -> None:
        self.source = pa.memory_map(str(path))
        self.file = pa.ipc.open_file(self.source)
        self.schema, self.n_rows, self.n_bytes = self.file.schema, 0, 0
        for batch in self.read(0):
            self.n_rows += batch.num_rows
            self.n_bytes += batch.nbytes

    def read(self, n_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all rows in the batches of the file."""
        for place in range(self.file.num_record_batches):
            yield self.file.get_batch(place)

    def __exit__(self, *error: object) -> None:
        self.source.close()


class OpenedOrc(AbstractContextManager["OpenedOrc"]):
    """An open ORC file."""

    def __init__(self, path: Path) -> None:
        self.source = path.open("rb")
        self.file = pa.orc.ORCFile(self.source)
        self.schema, self.n_rows, self.n_bytes = self.file.schema, self.file.nrows, self.file.content_length

    def read(self, n_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield all rows in the stripes of the file."""
        for place in range(self.file.nstripes):
            yield self.file.read_stripe(place)

    def __exit__(self, *error: object) -> None:
        self.source.close()


READERS: dict[str, Any] = {"Parquet": OpenedParquet, "Arrow": OpenedArrow, "ORC": OpenedOrc}


def to_plain_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the plain type to which a column is converted, or None if it cannot be.

    >>> to_plain_type(pa.int8()), to_plain_type(pa.date32()), to_plain_type(pa.list_(pa.int8())) is None
    (DataType(int64), TimestampType(timestamp[us]), True)
    """
    types = pa.types
    if types.is_dictionary(kind):
        return to_plain_type(kind.value_type)
    if types.is_boolean(kind):
        return pa.bool_()
    if types.is_integer(kind):
        return pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind):
        return pa.float64()
    if types.is_date(kind):
        return pa.timestamp("us")
    if types.is_timestamp(kind):
        return pa.timestamp("us", kind.tz and "UTC")
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    return None
