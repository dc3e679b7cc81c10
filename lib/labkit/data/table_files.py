"""Save and load the tables that stages exchange, as Parquet files."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.errors import DataError, MissingDataError, list_briefly
from labkit.storage.atomic import atomic_write

ROW = "row"
"""Name of the index: the row number in the main raw table, counted from 0, in every table derived from it."""


def load_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file that `save_table` wrote, verifying its page checksums.

    Raises
    ------
    MissingDataError
        The file does not exist.
    DataError
        The file is damaged.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not found: run the stage that writes it")
    try:
        # Columns are freed as they are converted: the table is not in memory twice.
        return pq.read_table(path, page_checksum_verification=True).to_pandas(self_destruct=True)
    except Exception as error:  # the exception depends on where the file is damaged
        raise DataError(f"{path}: damaged: remove it and run the stage again") from error


def save_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet with page checksums; the same table gives the same bytes.

    Raises
    ------
    DataError
        Two columns share a name, or a column mixes types that Parquet cannot hold.
    """
    twins = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if twins:
        raise DataError(f"duplicate column names: {list_briefly(twins)}: rename them before saving {path.name}")
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{path.name}: {describe_mixture(frame)}: give each column one type") from error
    with atomic_write(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)


def describe_mixture(frame: pd.DataFrame) -> str:
    """Describe which column of a table mixes types, and which types."""
    for name, values in frame.items():
        kinds = list(dict.fromkeys(type(value).__name__ for value in values.dropna().head(100_000)))
        if values.dtype == object and len(kinds) > 1:
            return f"column {name!r} holds values of the types {' and '.join(kinds[:3])}"
    return "a column mixes types"
