"""Sources of raw tables, and the stage `source`, which puts the tables in place.

Opens the tables that `data.tables` of the params names. See `labkit.data.reading.locate` for how files are found,
`labkit.data.reading.raw_table` for how they are read, `labkit.data.column_references` for the check that the columns
named by the params exist, and `labkit.data.joins` for how tables are joined.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit import paths
from labkit.artifacts import PLACES
from labkit.data import contract
from labkit.data.column_references import check_columns, require
from labkit.data.reading.locate import check_pointer, find_files, name_path
from labkit.data.reading.raw_table import Note, RawTable, Source, has_huge_gaps
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.params.experiment import Params
from labkit.params.load import locate_message
from labkit.params.tables import Data, Table
from labkit.storage.atomic import atomic_folder, atomic_write, write_text
from labkit.units import format_count

FEWEST_MAIN_ROWS = 2
NOTES = "notes.json"
"""File next to the raw tables that holds the notes made while reading them."""


class Readable(Protocol):
    """A raw table that can be read in batches, any number of times."""

    columns: list[str]
    n_rows: int

    @property
    def notes(self) -> list[Note]:
        """Notes made while reading."""

    def read(self) -> Iterator[pa.Table]:
        """Yield the rows in batches that share the same columns and types."""


class BundledTable:
    """One of scikit-learn's bundled datasets, with the interface of `RawTable`."""

    def __init__(self, name: str, table: Table) -> None:
        self.name, self.table = name, table
        frame = load_bundled(name, str(table.dataset))
        require(table.times, frame.columns, f"data.tables.{name}.times")
        self.rows = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
        self.columns, self.n_rows = list(self.rows.column_names), len(frame)
        self.notes: list[Note] = []

    def read(self) -> Iterator[pa.Table]:
        """Yield all rows."""
        yield self.rows


def load_tables(data: Data) -> dict[str, pd.DataFrame]:
    """Read all raw tables into memory.

    Raises
    ------
    MissingDataError
        A file or package is missing.
    DataError
        A file is not a table, or a value does not have its column's type.
    """
    opened = open_tables(data)
    return {name: pa.concat_tables(raw.read()).combine_chunks().to_pandas() for name, raw in opened.items()}


def open_tables(data: Data) -> dict[str, Readable]:
    """Open all raw tables; see `load_tables`."""
    return {name: open_table(name, table) for name, table in data.tables.items()}


def open_table(name: str, table: Table) -> Readable:
    """Open one raw table from the location that its params give."""
    if table.dataset:
        return BundledTable(name, table)
    files = find_files(name, table)
    for path in files:
        check_pointer(path)
    return RawTable(name, table, [Source(path, f"data.tables.{name}: {name_path(path)}") for path in files]).check()


def load_bundled(name: str, dataset: str) -> pd.DataFrame:
    """Read one of scikit-learn's bundled datasets in its original units, with class names as labels."""
    import sklearn.datasets

    bundled = {
        "breast_cancer": sklearn.datasets.load_breast_cancer,
        "diabetes": lambda **options: sklearn.datasets.load_diabetes(scaled=False, **options),
        "digits": sklearn.datasets.load_digits,
        "iris": sklearn.datasets.load_iris,
        "wine": sklearn.datasets.load_wine,
    }
    if dataset not in bundled:
        raise ParamsError(f"data.tables.{name}.dataset: no {dataset!r}: {name_nearest(dataset, bundled)}")
    bunch = bundled[dataset](as_frame=True)
    names = getattr(bunch, "target_names", None)
    if names is None:
        return bunch.frame
    return bunch.frame.assign(target=[str(names[code]) for code in bunch.target])


def place_tables(params: Params, folder: Path, contract_path: Path, *, sample_rows: int | None = None) -> str:
    """Read the raw tables, check them against the contract, and write them as Parquet: the stage `source`.

    Parameters
    ----------
    folder
        Destination of one Parquet file per table, and of `NOTES`.
    contract_path
        Path of the contract; tables that it does not describe yet are added to it.

    Returns
    -------
    str
        A headline, e.g. `442 rows, 11 columns`.

    Raises
    ------
    ParamsError, MissingDataError, DataError, ContractError
        A table, file or column is missing, cannot be read, or violates the contract.
    """
    states = find_states(params.data)
    opened = open_tables(params.data)
    try:
        check_columns(params, {name: pd.DataFrame(columns=raw.columns) for name, raw in opened.items()})
    except ParamsError as error:
        raise ParamsError(locate_message(params.experiment, str(error))) from error
    main = params.data.main_table
    if opened[main].n_rows < FEWEST_MAIN_ROWS:
        raise DataError(f"data.tables.{main}: 1 row: cannot be split into training, validation and holdout")
    agreed = contract.load_contract(contract_path) if contract_path.is_file() else {}
    seen: dict[str, contract.Inference] = {}
    n_rows = opened[main].n_rows if sample_rows is None else min(sample_rows, opened[main].n_rows)
    # The folder is put in place at the end, either complete or not at all.
    with atomic_folder(folder) as beside:
        for name, raw in opened.items():
            chosen = draw_rows(raw.n_rows, n_rows, params.seed) if name == main and n_rows < raw.n_rows else None
            seen[name] = write_table(beside / f"{name}.parquet", name, raw, agreed.get(name), chosen=chosen)
        if find_states(params.data) != states:
            raise DataError("a file of data.tables changed while it was read: run again when it is complete")
        check_usable(params, seen)
        notes = [note.to_json() for raw in opened.values() for note in raw.notes]
        write_text(beside / NOTES, json.dumps(notes, indent=1))
    inferred = {name: inference.make_schema() for name, inference in seen.items() if name not in agreed}
    if inferred or set(agreed) - set(opened):
        kept = {name: schema for name, schema in agreed.items() if name in opened}
        contract.save_contract(contract_path, kept | inferred)
    n_columns = sum(len(raw.columns) for raw in opened.values())
    counts = (format_count(n_rows, "row"), format_count(n_columns, "column"), format_count(len(opened), "table"))
    return "{}, {} in {}".format(*counts)


def find_raw_file(experiment: str, table: str) -> Path | None:
    """Return the file of a raw table that the stage wrote in this checkout, if there is one."""
    path = paths.find_data_dir(experiment) / PLACES["raw"] / f"{table}.parquet"
    return path if path.is_file() else None


def find_states(data: Data) -> list[tuple[int, ...]]:
    """Return the state of each file, by which a change while it is being read is detected."""
    found = [path.stat() for name, table in data.tables.items() for path in find_files(name, table)]
    return [(state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns) for state in found]


def draw_rows(n_rows: int, n_chosen: int, seed: int) -> np.ndarray:
    """Return a mask of the rows in a random sample of `n_chosen` rows, shape (n_rows,)."""
    chosen = np.zeros(n_rows, bool)
    chosen[pd.Series(range(n_rows)).sample(n_chosen, random_state=seed).to_numpy()] = True
    return chosen


def write_table(
    path: Path, name: str, raw: Readable, agreed: contract.Schema | None, *, chosen: np.ndarray | None
) -> contract.Inference:
    """Write one raw table batch by batch, each checked against the contract, and return the inferred contract."""
    inference, n_before = contract.Inference(), 0
    with atomic_write(path) as beside, ExitStack() as files:
        writer: pq.ParquetWriter | None = None
        for rows in raw.read():
            if agreed is not None:
                frame = rows.to_pandas()
                frame.index += n_before
                contract.check_table(frame, agreed, f"raw table {name}")
            check_gaps(rows, name)
            inference.add(rows)
            kept = rows if chosen is None else rows.filter(pa.array(chosen[n_before : n_before + rows.num_rows]))
            n_before += rows.num_rows
            writer = writer or files.enter_context(
                pq.ParquetWriter(beside, rows.schema, compression="zstd", write_page_checksum=True)
            )
            writer.write_table(kept)
    return inference


def check_usable(params: Params, seen: Mapping[str, contract.Inference]) -> None:
    """Raise DataError if every column that is not left out holds a single value."""
    main, target = params.data.main_table, params.data.target.column
    left = [name for name in seen[main].list_varied() if name != target and name not in params.wrangling.drop]
    joined = [name for join in params.data.joins for name in seen[join.table].list_varied()]
    if not left and not joined:
        raise DataError(
            f"data.tables.{main}: no column is left to predict {target!r} from: those that wrangling.drop does not "
            "leave out hold one value in every row: keep some of them, or add other columns"
        )


def check_gaps(rows: pa.Table, name: str) -> None:
    """Refuse integers that missing values would turn into floats too imprecise to hold them."""
    for column in rows.column_names:
        if has_huge_gaps(rows.column(column)):
            raise DataError(
                f"data.tables.{name}: column {column!r} has missing values and whole numbers above 2^53, which would "
                "lose digits: write it as text"
            )
