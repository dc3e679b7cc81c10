"""The data up to now: checked as a whole before anything of the checkout changes.

The tables are read and checked against the contract, joined, cleaned and split as the stages will do it, in a scratch
folder. A split by time moves on with the rows: its first days move by as many days as the latest row is later than that
of the last run, so the training rows only ever become more.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from labkit import paths
from labkit.artifacts import CONTRACT, PLACES, load_json
from labkit.data.cleaning import clean_table
from labkit.data.joins import join_tables
from labkit.data.reading.locate import check_pointer, find_files, name_path
from labkit.data.split import list_days, split_rows
from labkit.data.table_files import load_table
from labkit.errors import DataError, MissingDataError, ParamsError
from labkit.features.outcome_rates import PREDICT_AT
from labkit.params.experiment import Params
from labkit.params.tables import Data
from labkit.stages.source import place_tables
from labkit.storage.atomic import copy_file
from labkit.storage.digests import compute_digest
from labkit.units import format_count

SPLIT_FIELDS = {"validation": "validation_from", "holdout": "holdout_from", "aside": "aside_from"}


@dataclass(frozen=True)
class NewData:
    """The main table up to now.

    Attributes
    ----------
    path
        Its file, relative to the root of the checkout; empty if it comes with a package.
    digest
        SHA-256 of the new file; empty without one.
    rows_before, rows_after
        Raw rows of the last run, and now.
    settings, settings_before
        Days of the split that move, now and before, each `data.split.field=day`.
    """

    path: str
    digest: str
    rows_before: int
    rows_after: int
    settings: tuple[str, ...]
    settings_before: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self) | {"settings": [*self.settings], "settings_before": [*self.settings_before]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "NewData":
        """Return what `to_dict` wrote."""
        return cls(**{**content, **{name: tuple(content[name]) for name in ("settings", "settings_before")}})


def find_replaced_file(params: Params) -> Path:
    """Return the file of the main table that a newer one can replace.

    Raises
    ------
    ParamsError
        The table is not one file in the checkout.
    """
    name = params.data.main_table
    table = params.data.tables[name]
    if table.path is None or table.package is not None:
        has = "several files" if table.paths else f"the package {table.package}" if table.package else "scikit-learn"
        remedy = (
            f"add the new one to its `paths`, and run `labkit retrain {params.experiment}` without --data"
            if table.paths
            else "write it to a file of the checkout, track that with `dvc add`, and name it as `path`"
        )
        raise ParamsError(f"data.tables.{name} comes from {has}, so --data cannot replace it: {remedy}")
    return find_files(name, table)[0]


def check_new_data(params: Params, source: Path | None, folder: Path) -> NewData:
    """Check the data up to now as a whole; nothing is changed outside of `folder`.

    Parameters
    ----------
    source
        File with the main table up to now, read like the one that the params name; None for that one as it is.
    folder
        Folder below the root of the checkout; the source is copied there under the name of the file that it replaces.

    Raises
    ------
    ParamsError, MissingDataError, DataError, ContractError
        The data cannot be used: the pipeline would refuse them, or they lack rows of the last run.
    """
    name, data_dir = params.data.main_table, paths.find_data_dir(params.experiment)
    last, split_path = data_dir / PLACES["raw"] / f"{name}.parquet", data_dir / PLACES["split"]
    if not last.is_file() or not split_path.is_file():
        raise MissingDataError(
            f"{params.experiment}: no finished run to continue: run `labkit run {params.experiment}`"
        )
    raw, digest, data = "", "", params.data
    if source is not None:
        path = find_replaced_file(params)
        check_replacement(source)
        # What DVC does not have would be lost.
        check_pointer(path)
        copied = folder / path.name
        copy_file(source, copied)
        raw, digest = name_path(path), compute_digest(copied)
        table = data.tables[name].model_copy(update={"path": name_path(copied.resolve())})
        data = data.model_copy(update={"tables": {**data.tables, name: table}})
    rows_before = pq.read_metadata(last).num_rows
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        tables = read_tables(params.model_copy(update={"data": data}), Path(scratch))
    rows_after = len(tables[name])
    if rows_after < rows_before:
        what = f"{source.name if source else f'data.tables.{name}'} has {format_count(rows_after, 'row')}"
        raise DataError(
            f"{what}, the last run had {rows_before:,}: give the whole table up to now, not only the rows added to it"
        )
    clean, _ = clean_table(join_tables(tables, data), params.wrangling, data.target)
    moved = move_split(data, clean, load_json(split_path))
    split_rows(clean, moved, seed=params.seed)
    before, after = list_days(data), list_days(moved)
    now, then = (
        tuple(
            f'data.split.{SPLIT_FIELDS[part]}="{days[part].isoformat()}"'
            for part in after
            if after[part] != before[part]
        )
        for days in (after, before)
    )
    return NewData(raw, digest, rows_before, rows_after, now, then)


def check_replacement(source: Path) -> None:
    """Refuse a file of new data that does not exist.

    Raises
    ------
    MissingDataError
        There is no such file.
    """
    if not source.is_file():
        raise MissingDataError(f"--data {source}: no such file: name the file of the table up to now")


def read_tables(params: Params, folder: Path) -> dict[str, pd.DataFrame]:
    """Return the raw tables as the stage `source` reads them, checked against a copy of the contract."""
    contract = paths.find_data_dir(params.experiment) / CONTRACT
    if contract.is_file():
        copy_file(contract, folder / CONTRACT)
    place_tables(params, folder / "raw", folder / CONTRACT)
    return {name: load_table(folder / "raw" / f"{name}.parquet") for name in params.data.tables}


def move_split(data: Data, clean: pd.DataFrame, last_split: Mapping[str, Any]) -> Data:
    """Return the data section with the days of a split by time moved on with the latest row.

    Parameters
    ----------
    clean
        The clean rows up to now.
    last_split
        Description of the split of the last run; see `labkit.data.split.describe_split`.
    """
    lasts = [pd.Timestamp(part["last"]) for part in last_split["parts"].values() if "last" in part]
    if data.split.method != "time" or data.time is None or not lasts:
        return data
    latest = (max(lasts), clean[PREDICT_AT].max())
    before, after = (pd.Timestamp(one).tz_convert(data.time.zone).date() for one in latest)
    shift = max(after - before, timedelta(0))
    days = {SPLIT_FIELDS[part]: day + shift for part, day in list_days(data).items()}
    return data.model_copy(update={"split": data.split.model_copy(update=days)})
