"""How tables are read, written and joined.

Not what they should hold: that is `labkit.data.contract`. Read next: `labkit.data.sources`.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.errors import DataError, MissingDataError, list_briefly
from labkit.files import atomic_write
from labkit.params import Data, Join

ROW = "row"
"""Name of the index that leads back from any table to the row of the main raw table, counted from 0."""


def load_table(path: Path) -> pd.DataFrame:
    """Read a Parquet file that `save_table` wrote, verifying its page checksums.

    Raises
    ------
    MissingDataError
        There is no such file.
    DataError
        The file is damaged.
    """
    if not path.is_file():
        raise MissingDataError(f"{path}: not there: run the stage that writes it")
    try:
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: damaged ({str(error).splitlines()[0]}): remove it and run the stage again") from error


def save_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table as Parquet with page checksums; the same table gives the same bytes.

    Raises
    ------
    DataError
        Two columns share a name, or a column mixes types that Parquet cannot hold.
    """
    twins = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
    if twins:
        raise DataError(f"columns named twice: {list_briefly(twins)}: rename them before saving {path.name}")
    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise DataError(f"{path.name}: {'; '.join(map(str, error.args))}: give the column one type") from error
    with atomic_write(path) as beside:
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)


def join_tables(tables: Mapping[str, pd.DataFrame], data: Data) -> pd.DataFrame:
    """Join the raw tables as declared; every row of the main table stays exactly once.

    Returns
    -------
    pandas.DataFrame
        Shape (rows of the main table, joined columns), indexed by `ROW`.

    Raises
    ------
    DataError
        A join would multiply rows or bring a column that is already there.
    """
    frame = tables[data.main_table].reset_index(drop=True).rename_axis(index=ROW)
    for join in data.joins:
        frame = join_table(frame, tables[join.table], join)
    return frame


def join_table(frame: pd.DataFrame, other: pd.DataFrame, join: Join) -> pd.DataFrame:
    """Left-join one table whose keys must be unique."""
    keys = list(join.keys.values())
    check_unique(other, keys, join.table)
    if join.cardinality == "one_to_one":
        check_unique(frame.dropna(subset=list(join.keys)), list(join.keys), "the rows so far")
    renamed = {name: join.prefix + name for name in other.columns if name not in keys}
    clash = sorted(set(renamed.values()) & set(frame.columns))
    if clash:
        raise DataError(f"join with {join.table}: already there: {list_briefly(clash)}: give the join a `prefix`")
    right = other.rename(columns=renamed).dropna(subset=keys).set_index(keys)
    joined = frame.join(right, on=list(join.keys))
    return joined.rename_axis(index=ROW)


def check_unique(frame: pd.DataFrame, keys: list[str], name: str) -> None:
    """Refuse a table in which two rows share a join key."""
    repeated = frame.dropna(subset=keys)
    repeated = repeated[repeated.duplicated(keys, keep=False)]
    if len(repeated):
        first = dict(zip(keys, repeated[keys].iloc[0], strict=True))
        raise DataError(
            f"join with {name}: {len(repeated):,} rows share their key, first {first}: the join would multiply rows; "
            "make the key unique or name more columns in `keys`"
        )
