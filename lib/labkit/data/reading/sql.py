"""Save the rows of a SQL query once as Parquet, so that an experiment keeps the rows it was created from.

This is the only module that uses SQLAlchemy. The database URL, which may contain a password, is never written anywhere.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from labkit.errors import DataError, ParamsError, list_briefly
from labkit.storage.atomic import atomic_write

BLOCK_ROWS = 50_000


def save_query(path: Path, *, sql: str, address: str, max_rows: int) -> int:
    """Write the rows of a query as Parquet and return their number.

    Parameters
    ----------
    path
        Parquet file to write.
    sql
        Query that returns rows.
    address
        Database URL as for SQLAlchemy.
    max_rows
        Maximum number of rows.

    Raises
    ------
    ParamsError
        The address is not a usable database URL.
    DataError
        The database cannot be reached, or the query fails, returns no rows, too many rows, or a column of mixed types.
    """
    try:
        engine = create_engine(address)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ParamsError(
            f"--database-env: {describe_database_error(error, address)}: the variable does not hold a valid address"
        ) from error
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(text(sql))
            if not result.returns_rows:
                raise DataError("--sql: the statement returns no rows: write a select")
            return write_rows(path, result, max_rows=max_rows)
    except SQLAlchemyError as error:
        remedy = "fix the query, or check that the database can be reached"
        raise DataError(f"--sql: {describe_database_error(error, address)}: {remedy}") from error
    finally:
        engine.dispose()


def write_rows(path: Path, result: Any, *, max_rows: int) -> int:
    """Write the rows of a result, fetched in blocks; column types are inferred from all rows."""
    names = list(result.keys())
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise DataError(f"--sql: duplicate column names: {list_briefly(map(repr, twins))}: name them with `as`")
    blocks, n_rows = [], 0
    while rows := result.fetchmany(BLOCK_ROWS):
        n_rows += len(rows)
        if n_rows > max_rows:
            raise DataError(f"--sql: more than {max_rows:,} rows: select fewer")
        blocks.append(make_block(names, rows))
    if not blocks:
        raise DataError("--sql: the query returns 0 rows: select more")
    try:
        table = pa.concat_tables(blocks, promote_options="permissive")
    except pa.ArrowException as error:
        mixed = {name: {str(block.schema.field(name).type) for block in blocks} - {"null"} for name in names}
        name, kinds = max(mixed.items(), key=lambda item: len(item[1]))
        raise DataError(describe_column(name, kinds)) from error
    with atomic_write(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
    return n_rows


def make_block(names: list[str], rows: list[Any]) -> pa.Table:
    """Return a block of rows as an Arrow table."""
    columns = []
    for name, values in zip(names, zip(*rows, strict=True), strict=True):
        try:
            columns.append(pa.array(values))
        except (pa.ArrowException, TypeError) as error:
            kinds = {type(value).__name__ for value in values if value is not None}
            raise DataError(describe_column(name, kinds)) from error
    return pa.Table.from_arrays(columns, names=names)


def describe_column(name: str, kinds: Collection[str]) -> str:
    """Return the message that a column has mixed types, or a type that a table cannot hold."""
    return f"--sql: column {name!r} holds values of type {' and '.join(sorted(kinds))}: cast it to one plain type"


def describe_database_error(error: Exception, address: str) -> str:
    """Return the first line of the database error, without the address, which may contain a password."""
    message = str(getattr(error, "orig", None) or error)
    return next(iter(message.splitlines()), type(error).__name__).replace(address, "…")
