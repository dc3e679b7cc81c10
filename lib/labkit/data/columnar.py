"""A Parquet file as batches of plain columns: numbers, texts, times, yes and no.

Not files that labkit wrote itself: those are read by `labkit.data.tables`.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labkit.errors import DataError, list_briefly
from labkit.params import Table

BLOCK_CELLS = 2_000_000


class ParquetTable:
    """One Parquet file, its columns checked, ready to be read as often as needed.

    Raises
    ------
    DataError
        It is no Parquet file, too large, or holds columns that no table has.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.table, self.where = path, table, where
        if not path.stat().st_size:
            raise DataError(f"{where} is empty (0 bytes): is it the right file?")
        try:
            with pq.ParquetFile(path) as file:
                self.schema, self.n_rows = file.schema_arrow, file.metadata.num_rows
                n_bytes = sum(file.metadata.row_group(k).total_byte_size for k in range(file.metadata.num_row_groups))
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0][:160]
            raise DataError(f"{where}: not a Parquet file, or cut short ({reason}): copy it again") from error
        self.check_size(n_bytes)
        # What pandas keeps for the index of a table, not a column of it.
        stored = [name for name in self.schema.names if not name.startswith("__index_level_")]
        twins = sorted({name for name in stored if stored.count(name) > 1}) if len({*stored}) < len(stored) else []
        if twins:
            raise DataError(f"{where}: columns named twice: {list_briefly(map(repr, twins))}: rename them in the file")
        self.names = [name for name in stored if name not in table.skip]
        self.check_types()

    def check_size(self, n_bytes: int) -> None:
        """Refuse a table above its limits."""
        for name, found in {"rows": self.n_rows, "bytes": n_bytes, "columns": len(self.schema.names)}.items():
            most = getattr(self.table, f"max_{name}")
            if found > most:
                raise DataError(f"{self.where}: {found:,} {name}: raise `max_{name}` of the table ({most:,})")

    def check_types(self) -> None:
        """Refuse columns of lists, bytes and the like."""
        for name in self.names:
            kind = self.schema.field(name).type
            if to_plain_type(kind) is None:
                raise DataError(f"{self.where}: column {name!r} holds {kind}, no plain values: name it in `skip`")

    def read_frames(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, columns of plain types."""
        try:
            with pq.ParquetFile(self.path) as file:
                size = max(1, BLOCK_CELLS // max(1, len(self.names)))
                # All columns: a selection would take the dot in a name for a level of nesting.
                for batch in file.iter_batches(batch_size=size):
                    yield self.make_plain(pa.Table.from_batches([batch]))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.where}: damaged ({str(error).splitlines()[0][:160]}): copy it again") from error

    def make_plain(self, rows: pa.Table) -> pa.Table:
        """Return rows with every column in its plain type, infinite numbers refused or taken as missing."""
        columns = []
        for name in self.names:
            column = rows.column(name).cast(to_plain_type(self.schema.field(name).type))
            if pa.types.is_floating(column.type) and pc.any(pc.is_inf(column)).as_py():
                if not self.table.allow_infinite:
                    raise DataError(f"{self.where}: column {name!r} holds infinite numbers: set `allow_infinite: true`")
                column = pc.if_else(pc.is_inf(column), pa.scalar(None, pa.float64()), column)
            columns.append(column)
        return pa.Table.from_arrays(columns, names=self.names)


def to_plain_type(kind: pa.DataType) -> pa.DataType | None:
    """Return the type as which a column is read, or None if there is none.

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
