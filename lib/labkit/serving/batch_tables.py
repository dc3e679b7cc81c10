"""Rows to predict from a file, with the joined columns: the file has them, or has those of the main table.

Rows of the main table are joined as in training, with the rows that the release carries, with files that the user
names, and else with the raw tables of the checkout.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa

from labkit import paths
from labkit.data.reading.raw_table import RawTable, Source, open_file
from labkit.data.table_files import load_table
from labkit.errors import DataError, ParamsError, list_briefly, name_nearest
from labkit.features.main_table import MainTable
from labkit.features.table_columns import take_columns
from labkit.model.release.bundle import Release
from labkit.params.experiment import Params
from labkit.serving.batch_files import check_source, find_file_states, list_row_files
from labkit.serving.batch_input import (
    RowBatches,
    check_numbers,
    follow_ending,
    load_header,
    name_by_format,
    open_rows_in_batches,
    restrict,
)
from labkit.stages.source import find_raw_file

ONLY_JOINED = (
    "the release takes joined columns only, as it was made before releases could take rows of the main table: run the "
    "experiment again for one that does"
)
RELEASE = "release"
"""What a table that the release carries is said to come from."""


def read_table_options(options: Iterable[str]) -> dict[str, Path]:
    """Return files by the name of the table, given as `TABLE=FILE`.

    Raises
    ------
    ParamsError
        An option has another form, or names a table twice.
    """
    found: dict[str, Path] = {}
    for option in options:
        name, equals, path = option.partition("=")
        if not (name and equals and path):
            raise ParamsError(f"--table {option}: write the name of a table and a file, e.g. --table weather=today.csv")
        if name in found:
            raise ParamsError(f"--table {option}: a file of {name} is named twice: name one")
        found[name] = Path(path)
    return found


@dataclass(frozen=True)
class JoinedBatches:
    """Rows to predict, which have to be joined if they are rows of the main table.

    Attributes
    ----------
    main_table
        How they are joined; None if they have the joined columns.
    origins
        Where the rows of each joined table came from; empty if none is joined here.
    states
        State of each file with rows when it was opened; see `find_file_states`.
    """

    rows: RowBatches
    main_table: MainTable | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    states: Mapping[Path, tuple[int, int]] = field(default_factory=dict)


def join_main_rows(rows: pd.DataFrame, main_table: MainTable | None) -> pd.DataFrame:
    """Return rows with the columns of the model: joined if they are rows of the main table, else as they are."""
    if main_table is None:
        return rows
    made = main_table.join(take_columns(rows, main_table.columns))
    added = pd.DataFrame({name: made[name] for name in made if name not in rows}, index=rows.index)
    return rows.join(added)


@contextmanager
def open_joined_rows(
    source: Path,
    params: Params,
    opened: Release,
    *,
    labels: Mapping[str, Sequence[object]],
    keep: Sequence[str],
    tables: Mapping[str, Path],
) -> Iterator[JoinedBatches]:
    """Open the rows to predict, with the tables that rows of the main table are joined with.

    Parameters
    ----------
    labels, keep
        See `labkit.serving.batch_input.load_rows`.
    tables
        Files of joined tables by name, which take the place of the rows that the release carries.

    Raises
    ------
    ParamsError
        A table is named that the model does not need, or there is no file of one that it does.
    DataError
        As `load_rows`; the source mixes columns of both forms; or rows of a table share their key.
    """
    inputs, main_table, row_files = opened.row_features.inputs_, opened.main_table, list_row_files(source)
    needed = () if main_table is None else main_table.tables
    near = {name: path for name in needed if (path := tables.get(name) or find_raw_file(params.experiment, name))}
    states = find_file_states([*row_files, *near.values()])  # before anything is read of them
    names = load_header(source, params)
    if main_table is not None and (mixture := main_table.describe_mixture(names)):
        raise DataError(f"{source}: {mixture}")
    if main_table is None or not main_table.fits(names):
        if tables:
            why = "the release takes joined columns only" if main_table is None else f"{source} has the joined columns"
            raise ParamsError(f"--table {min(tables)}: {why}: leave the option out")
        joined, origins = None, dict[str, str]()
    else:
        joined, origins = add_tables(main_table, params, tables)
    files = [*row_files, *(near[name] for name, origin in origins.items() if origin != RELEASE)]
    taken = inputs if joined is None else joined.columns
    with ExitStack() as opening:
        try:
            rows = opening.enter_context(open_rows_in_batches(source, params, taken, labels=labels, keep=keep))
        except DataError as error:
            if main_table is None and params.data.joins and {*inputs} - {*names}:
                raise DataError(f"{error}; {ONLY_JOINED}") from error
            raise
        yield JoinedBatches(rows, joined, origins, {path: states[path] for path in files if path in states})


def add_tables(main_table: MainTable, params: Params, files: Mapping[str, Path]) -> tuple[MainTable, dict[str, str]]:
    """Return the main table with the rows of all joined tables, and where they came from; see `load_joined_rows`."""
    for name in files:
        if name not in main_table.tables:
            raise ParamsError(f"--table {name}: the model needs no such table: {name_nearest(name, main_table.tables)}")
    origins = dict.fromkeys(main_table.rows, RELEASE)
    for name in main_table.tables:
        if name in files:
            rows, origins[name] = load_table_file(name, files[name], params, main_table.tables[name]), str(files[name])
        elif name in main_table.rows:
            continue
        elif path := find_raw_file(params.experiment, name):
            rows, origins[name] = load_table(path), paths.show_path(path)
        else:
            raise ParamsError(f"the rows of the table {name} are needed: give a file of them, --table {name}=FILE")
        main_table = main_table.with_rows(name, take_columns(rows, main_table.tables[name]))
    return main_table, {name: origins[name] for name in main_table.tables}


def load_table_file(name: str, path: Path, params: Params, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Read the needed columns of a joined table from a file, by the rules that the params declare for the table."""
    check_source(path)
    with name_by_format(path) as named:
        source, spec = Source(named, str(path)), follow_ending(params.data.tables[name], named)
        names = open_file(source, restrict(spec, [], {})).names
        if missing := [column for column in kinds if column not in names]:
            raise DataError(f"{path}: missing columns {list_briefly(map(repr, missing))} of the table {name}")
        skip = [column for column in names if column not in kinds]
        table = restrict(spec, [*kinds], kinds, skip=skip)
        rows = pa.concat_tables(list(RawTable(name, table, [source]).read())).to_pandas()
        check_numbers(rows, kinds, source.where)
    return rows
