"""Finished parts of a batch prediction, kept beside the destination until all rows are predicted.

A prediction that was killed goes on where it stopped. The destination appears only when it is whole, by a rename.
"""

import glob
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit.errors import DataError, LabkitError, ParamsError
from labkit.serving.batch_files import TRUE_VALUE
from labkit.serving.batch_types import cast_columns, concatenate, unify_types
from labkit.storage.atomic import atomic_write, find_writer, parse_json, write_json
from labkit.storage.locks import is_in_place, open_lock, take_lock

PLAN, LOCK, FACTS = "plan.json", "lock", b"labkit"
"""Names of the file that says what the parts belong to, of the lock, and of the facts in the metadata of a part."""


@dataclass(frozen=True)
class Parts:
    """The finished parts in a folder, numbered from 0."""

    folder: Path

    def name(self, number: int) -> Path:
        """Return the path of a part."""
        return self.folder / f"{number:06}.parquet"

    def save(self, number: int, predictions: pa.Table, facts: Mapping[str, Any]) -> None:
        """Write a part, with facts on it as plain data."""
        table = predictions.replace_schema_metadata({FACTS: json.dumps(facts).encode()})
        with atomic_write(self.name(number)) as beside:
            pq.write_table(table, beside, compression="zstd", write_page_checksum=True)

    def load(self, number: int) -> pa.Table:
        """Read a part.

        Raises
        ------
        DataError
            It does not exist, or is damaged.
        """
        try:
            return pq.read_table(self.name(number), page_checksum_verification=True, memory_map=False)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{self.name(number)}: missing or damaged: predict again") from error

    def find_facts(self, number: int, n_rows: int) -> dict[str, Any] | None:
        """Return the facts on a part that is whole and has so many rows; None if there is no such part."""
        try:
            table = self.load(number)
            facts = parse_json((table.schema.metadata or {})[FACTS])
        except (DataError, KeyError, ValueError):
            return None
        return facts if table.num_rows == n_rows and isinstance(facts, dict) else None

    def find_schema(self, n_parts: int, where: str) -> pa.Schema:
        """Return the columns of the destination, of types that hold the values of all parts."""
        schemas = [pq.read_schema(self.name(number)).remove_metadata() for number in range(n_parts)]
        shown = [pa.schema([field for field in schema if field.name != TRUE_VALUE]) for schema in schemas]
        return pa.schema(list(unify_types(shown, where).items()))

    def join(self, destination: Path, n_parts: int) -> pa.Schema:
        """Write the destination from all parts, and return its columns."""
        schema = self.find_schema(n_parts, str(destination))
        types = dict(zip(schema.names, schema.types, strict=True))
        tables = (self.load(number).select(schema.names).replace_schema_metadata() for number in range(n_parts))
        parts = (cast_columns(table, types, str(destination)) for table in tables)
        with atomic_write(destination) as beside:
            if destination.suffix == ".parquet":
                with pq.ParquetWriter(beside, schema, compression="zstd", write_page_checksum=True) as writer:
                    for part in parts:
                        writer.write_table(part)
            else:
                with beside.open("w", encoding="utf-8", newline="") as stream:
                    for number, part in enumerate(parts):
                        frame = part.to_pandas(integer_object_nulls=True)
                        write_times(frame).to_csv(stream, index=False, header=number == 0)
        return schema

    def sample(self, n_parts: int, *, every: int) -> pd.DataFrame:
        """Return every so manieth row of all parts, with true values."""
        taken, n_before = [], 0
        for number in range(n_parts):
            part = self.load(number)
            places = pa.array(np.arange(-n_before % every, part.num_rows, every))
            taken.append(part.take(places).replace_schema_metadata())
            n_before += part.num_rows
        return concatenate(taken, str(self.folder)).to_pandas()


def write_times(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with times as strings, each written alike whatever the others are."""
    frame = frame.copy(deep=False)
    for name in frame.select_dtypes(["datetime", "datetimetz"]):
        frame[name] = frame[name].map(lambda time: time.isoformat(sep=" "), na_action="ignore")
    return frame


@contextmanager
def open_parts(destination: Path, plan: Mapping[str, Any]) -> Iterator[Parts]:
    """Yield the parts of an earlier attempt at the same plan, or none; they are removed unless the attempt was killed.

    Parameters
    ----------
    plan
        All that the predictions depend on, as plain data.

    Raises
    ------
    ParamsError
        Another process is writing the destination.
    """
    folder = destination.with_name(f".{destination.name}.parts")
    with ExitStack() as held:
        while True:
            handle = held.enter_context(open_lock(folder / LOCK))
            if not take_lock(handle, is_waiting=False):
                raise ParamsError(f"{destination}: another labkit predict is writing it: wait, or name another file")
            if is_in_place(handle, folder / LOCK):
                break
        for path in destination.parent.glob(f"{glob.escape(f'.{destination.name}.')}*"):
            if find_writer(path) is not None:  # it was killed, as it had the lock
                path.unlink()
        if load_plan(folder) != plan:
            clear_parts(folder)
            write_json(folder / PLAN, plan)
        try:
            yield Parts(folder)
        except LabkitError as error:
            if error.exit_code == 2:  # the input is at fault, so the parts are of no use
                remove_parts(folder)
            raise
        remove_parts(folder)


def clear_parts(folder: Path) -> None:
    """Remove all files of a folder except for its lock."""
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink()


def remove_parts(folder: Path) -> None:
    """Remove a folder of parts: its lock at the end, as another process may take the folder from then on."""
    clear_parts(folder)
    (folder / LOCK).unlink()
    with suppress(OSError):  # the other process has its lock in it
        folder.rmdir()


def load_plan(folder: Path) -> Any:
    """Return the plan of the parts in a folder; None without a readable one."""
    try:
        return parse_json((folder / PLAN).read_bytes())
    except (OSError, ValueError):
        return None
