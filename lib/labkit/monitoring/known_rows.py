"""Rows of a file whose outcomes are known by now, as the pipeline joins and cleans them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from labkit import paths
from labkit.artifacts import CONTRACT
from labkit.data.cleaning import clean_table
from labkit.data.computed_columns import settle_target
from labkit.errors import DataError, MissingDataError, ParamsError, name_nearest
from labkit.features.arrays import make_times, number_to_string
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT
from labkit.features.table_columns import take_columns
from labkit.monitoring.data_check import check_contract_of_table, join_last_tables, read_raw_file
from labkit.params.experiment import Params
from labkit.serving.batch_files import check_source
from labkit.serving.outcome_lines import LONGEST_ID
from labkit.units import format_count


@dataclass(frozen=True)
class KnownRows:
    """Rows of a file with their outcomes.

    Attributes
    ----------
    rows
        Clean rows with known outcomes, shape (n_known, n_columns); the index is the position in the file.
    keys
        The column that identifies rows, shape (n_known,); None without one.
    n_pending
        Other rows of the file whose outcome is not known yet.
    n_left_out
        Rows that cleaning drops, such as by a filter.
    """

    source: Path
    rows: pd.DataFrame
    keys: pd.Series | None
    n_pending: int = 0
    n_left_out: int = 0

    def name_row(self, place: int) -> str:
        """Return the file and number of a row, given by its position among `rows`."""
        return f"{paths.make_printable_name(str(self.source))}: row {self.rows.index[place] + 1}"

    def find_times(self) -> np.ndarray:
        """Return when the outcomes became known, `datetime64[us]`, shape (n_known,)."""
        return make_times(take_columns(self.rows, {OUTCOME_KNOWN_AT: "time"})[OUTCOME_KNOWN_AT], OUTCOME_KNOWN_AT)

    def take(self, is_wanted: np.ndarray) -> "KnownRows":
        """Return some of the rows, given by a mask, shape (n_known,)."""
        keys = None if self.keys is None else self.keys[is_wanted]
        return replace(self, rows=self.rows[is_wanted], keys=keys)


def load_known_rows(
    params: Params, source: Path, *, now: datetime, tables: Mapping[str, Path] | None = None, key: str = ""
) -> KnownRows:
    """Return the rows of a file whose outcomes are known, as the pipeline cleans and joins them.

    Parameters
    ----------
    source
        Rows of the main table with what is needed to compute the target and when it was known.
    now
        Time in UTC.
    tables
        Files of joined tables by name, instead of those of the last run.
    key
        Column of the main table that identifies rows; empty for none.

    Raises
    ------
    ParamsError
        A table or column is not known.
    MissingDataError, DataError, ContractError
        A file does not exist or cannot be read, its columns are not as agreed, or an outcome is later than `now`.
    """
    check_source(source)
    contract, target = paths.find_data_dir(params.experiment) / CONTRACT, params.data.target
    if not contract.is_file():
        name = params.experiment
        raise MissingDataError(f"{name}: no contract yet: `labkit pull {name}` or `labkit run {name}` first")
    table = read_raw_file(params, params.data.main_table, source)
    shown = paths.make_printable_name(str(source))
    if target.expression is None and target.column not in table:
        raise DataError(f"{shown}: no column {target.column!r}: {name_nearest(target.column, table.columns)}")
    check_contract_of_table(params, table, source, contract)
    joined = join_last_tables(params, table, load_given_tables(params, tables or {}))
    if key and key not in joined:
        raise ParamsError(f"--key {key}: {shown} has no such column: {name_nearest(key, joined.columns)}")
    try:
        clean = settle_target(clean_table(joined, params.wrangling)[0], target)
    except ParamsError as error:
        raise DataError(f"{shown}: {error}") from error
    is_known = clean[target.column].notna() & clean[OUTCOME_KNOWN_AT].notna()
    rows = clean[is_known]
    known = KnownRows(
        source,
        rows,
        joined.loc[rows.index, key].map(number_to_string) if key else None,
        n_pending=int((~is_known).sum()),
        n_left_out=len(joined) - len(clean),
    )
    check_past(known, now)
    check_row_keys(known, key)
    return known


def load_given_tables(params: Params, files: Mapping[str, Path]) -> dict[str, pd.DataFrame]:
    """Return the joined tables that files are given of."""
    others = [name for name in params.data.tables if name != params.data.main_table]
    for name, path in files.items():
        if name not in others:
            raise ParamsError(f"--table {name}: no such joined table: {name_nearest(name, others)}")
        check_source(path)
    return {name: read_raw_file(params, name, path) for name, path in files.items()}


def check_past(known: KnownRows, now: datetime) -> None:
    """Refuse outcomes that are known later than now."""
    at = known.find_times()
    future = np.flatnonzero(at > np.datetime64(now.replace(tzinfo=None), "us"))
    if len(future):
        raise DataError(
            f"{known.name_row(future[0])}: its outcome becomes known at {at[future[0]].astype('datetime64[s]')}Z, "
            f"later than now, as it does of {format_count(len(future), 'row')} in all: observe them then"
        )


def check_row_keys(known: KnownRows, key: str) -> None:
    """Refuse keys that are missing, or longer than an id may be."""
    keys = [] if known.keys is None else known.keys.tolist()
    for place, value in enumerate(keys):
        if pd.isna(value) or not 0 < len(str(value)) <= LONGEST_ID:
            raise DataError(f"{known.name_row(place)}: {key!r} identifies no row: empty, or longer than {LONGEST_ID}")
