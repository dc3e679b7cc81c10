"""Read a raw table of any format as declared in the params, in batches of typed columns.

Reading is strict: anything that differs from the declaration raises an error with file, column, row and fix. Nothing is
guessed here; `labkit.new.dialect` does that once, when an experiment is created. For where the files are, see
`labkit.data.reading.locate`.
"""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from labkit.console import make_printable
from labkit.data.reading import column_types
from labkit.data.reading.columnar import TypedTable
from labkit.data.reading.delimited import DelimitedFile
from labkit.data.reading.formats import JSON, SPREADSHEETS, TYPED, find_format
from labkit.data.reading.json_file import JsonFile
from labkit.data.reading.spreadsheet import Spreadsheet
from labkit.data.reading.times import read_times
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.params.tables import Table

MOST_TEXTS = 100_000
OFFSET = re.compile(r"[T ][0-9]{2}.*(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$")
"""End of a time that includes its offset from UTC."""
TextTable = DelimitedFile | Spreadsheet | JsonFile
"""A file whose cells are read as strings; types are inferred once all of them have been seen."""


@dataclass(frozen=True)
class Source:
    """A file to read, and its name in messages."""

    path: Path
    where: str


@dataclass(frozen=True)
class Note:
    """A remark made while reading, to be shown in the EDA."""

    table: str
    column: str
    finding: str
    evidence: str
    remedy: str

    def to_json(self) -> dict[str, str]:
        """Return the note as plain data."""
        return asdict(self)


def frame_notes(notes: list[dict[str, str]]) -> pd.DataFrame:
    """Return notes as a table: `column` (name made printable), `finding`, `evidence`, `remedy`."""
    columns = ["column", "finding", "evidence", "remedy"]
    frame = pd.DataFrame(notes, columns=columns)
    return frame.assign(column=[make_printable(name) for name in frame["column"]])


class RawTable:
    """A raw table: its `columns`, `n_rows`, `notes`, and its rows in batches.

    Raises
    ------
    DataError
        A file is not a table or has no rows, or the files differ in format or columns.
    ParamsError
        The params name a column or sheet that does not exist.
    """

    def __init__(self, name: str, table: Table, sources: list[Source]) -> None:
        self.name, self.table = name, table
        self.where = sources[0].where
        self.files = [open_file(source, table) for source in sources]
        if len({isinstance(file, TypedTable) for file in self.files}) > 1:
            raise DataError(f"{self.where}: all files of a table must have the same format")
        self.names = self.check_names()
        self.columns = [column for column in self.names if column not in table.skip]
        self.facts: dict[str, column_types.Facts] = {}
        if isinstance(self.files[0], TypedTable):
            self.n_rows = sum(file.n_rows for file in self.files if isinstance(file, TypedTable))
        else:
            self.facts = column_types.find_facts(self.read_texts(), self.names, table)
            self.n_rows = next((found.n_known + found.n_missing for found in self.facts.values()), 0)
        if not self.n_rows:
            raise DataError(f"{self.where}: 0 data rows below the header: is it the right file?")

    def check_names(self) -> list[str]:
        """Return the column names; reject files that differ and declarations of columns that do not exist."""
        names = list(self.files[0].names)
        for file in self.files[1:]:
            if file.names != names:
                pairs = itertools.zip_longest(names, file.names)
                place, (first, other) = next((n, pair) for n, pair in enumerate(pairs, 1) if pair[0] != pair[1])
                raise DataError(
                    f"{file.where}: column {place} is {other!r}, in {self.where} {first!r}: all files of a table "
                    "must have the same columns in the same order"
                )
        known = [*names, *(self.files[0].skipped if isinstance(self.files[0], TypedTable) else [])]
        for field in ("skip", "times", "texts", "codes", "checkboxes", "not_missing"):
            for column in getattr(self.table, field):
                if column not in (known if field == "skip" else names):
                    raise ParamsError(
                        f"data.tables.{self.name}.{field}: no column {column!r}: {name_nearest(column, known)}"
                    )
        return names

    def read_texts(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of untyped files as strings."""
        for file in self.files:
            if not isinstance(file, TypedTable):
                yield from file.read_batches()

    def reopen(self, **fields: object) -> "RawTable":
        """Return the table with some fields of its `Table` replaced; header, encoding and delimiter are not reread.

        Parameters
        ----------
        fields
            Fields of `Table` and their new values.
        """
        again = copy.copy(self)
        # Validated like a params file: `model_copy` would accept anything.
        again.table = Table.model_validate({**self.table.model_dump(), **fields})
        again.facts = column_types.find_facts(self.read_texts(), self.names, again.table) if self.facts else {}
        return again

    def list_strings(self, column: str, *, most_rows: int | None = None) -> list[str]:
        """Return the distinct strings of a column, without blanks and markers for missing values.

        Reading stops once more than `MOST_TEXTS` strings have been found.

        Parameters
        ----------
        most_rows
            Number of rows to read, rounded up to whole batches; all if None.
        """
        found: dict[str, None] = {}
        n_rows = 0
        for rows in self.read_texts() if self.facts else self.read_typed():
            values = rows.column(self.names.index(column) if self.facts else column)
            trimmed = pc.utf8_trim_whitespace(pc.unique(values).cast(pa.string()).drop_null())
            missing = (
                column_types.find_missing_cells(trimmed, self.table, column) if self.facts else pc.equal(trimmed, "")
            )
            found |= dict.fromkeys(trimmed.filter(pc.invert(missing)).to_pylist())
            n_rows += rows.num_rows
            if len(found) > MOST_TEXTS or (most_rows is not None and n_rows >= most_rows):
                break
        return list(found)

    def find_type(self, column: str) -> pa.DataType:
        """Return the type of a column in the file; string for files without types."""
        file = self.files[0]
        return file.schema.field(file.stored[column]).type if isinstance(file, TypedTable) else pa.string()

    def list_zones(self) -> dict[str, str]:
        """Return the time zone of each column that the file stores as zoned timestamps."""
        kinds = {column: self.find_type(column) for column in self.columns}
        return {column: kind.tz for column, kind in kinds.items() if pa.types.is_timestamp(kind) and kind.tz}

    def check(self) -> "RawTable":
        """Return the table if every column read from strings has a single type.

        Raises
        ------
        DataError
            It has not; names column, row, value and fix.
        """
        column_types.check_facts(self.facts, self.table, self.where)
        return self

    def read(self) -> Iterator[pa.Table]:
        """Yield the rows in batches, with typed columns and parsed times.

        Raises
        ------
        DataError
            A value does not have the type of its column.
        """
        self.check()
        n_before = 0
        zones = {column: is_zoned(self.facts[column]) for column in self.table.times if self.facts}
        for rows in self.read_typed():
            for column in self.table.times:
                place = rows.schema.get_field_index(column)
                times = parse_times(rows.column(column), column, self, n_before, zones)
                rows = rows.set_column(place, column, times)
            n_before += rows.num_rows
            yield rows

    def read_typed(self) -> Iterator[pa.Table]:
        """Yield the rows in batches with typed columns; columns of times read from strings are not parsed yet."""
        for file in self.files:
            if isinstance(file, TypedTable):
                yield from file.read_frames()
        if self.facts:
            places = {name: place for place, name in enumerate(self.names)}
            for batch in self.read_texts():
                yield column_types.convert_batch(batch, places, self.facts, self.table)

    @property
    def notes(self) -> list[Note]:
        """Remarks on files, names and values."""
        found = []
        for file in self.files:
            if isinstance(file, DelimitedFile) and file.is_last_row_short:
                evidence = f"the last row of {Path(file.path).name} has too few cells and no newline"
                found.append(Note(self.name, "", "perhaps truncated", evidence, "compare it with its origin"))
            if isinstance(file, Spreadsheet) and file.n_errors:
                finding, evidence = "cells with an error, read as missing", f"{file.n_errors:,}, such as #DIV/0!"
                found.append(Note(self.name, "", finding, evidence, "correct the formulas"))
            if isinstance(file, TypedTable):
                found += [Note(self.name, *remark) for remark in file.remarks if remark[0] in self.columns]
        for name in self.columns:
            if not name.isprintable():
                found.append(Note(self.name, name, "invisible characters in the name", ascii(name), "rename it"))
        for column, finding, evidence, remedy in column_types.describe_facts(self.facts, self.table):
            found.append(Note(self.name, column, finding, evidence, remedy.replace("….", f"{self.name}.")))
        return found


def open_file(source: Source, table: Table) -> TextTable | TypedTable:
    """Open a file with the reader for its extension."""
    ending = find_format(source.path)
    if ending in TYPED:
        return TypedTable(source.path, table, source.where)
    kind = Spreadsheet if ending in SPREADSHEETS else JsonFile if ending in JSON else DelimitedFile
    return kind(source.path, table, source.where)


def parse_times(
    values: pa.ChunkedArray, column: str, raw: RawTable, n_before: int, zones: dict[str, bool]
) -> pa.Array | pa.ChunkedArray:
    """Parse a column as times, in UTC if they include an offset; raise an error for the first invalid value."""
    # `n_before` counts the rows before this batch; `zones`, whether times include an offset, is updated by batch.
    if pa.types.is_timestamp(values.type):
        return values
    where = f"{raw.where}: column {column}"
    strings = values.cast(pa.string()).to_pandas().str.strip()
    style = raw.table.formats.get(column)
    names_offset = strings.str.contains(OFFSET) & strings.notna()
    check_offsets(strings, names_offset, where, n_before, zones.get(column))
    parsed = read_times(strings, style, utc=bool(names_offset.any()))
    bad = strings.index[parsed.isna() & strings.notna()]
    if len(bad):
        what = f"a time written as {style}" if style else "an ISO time"
        raise DataError(
            f"{where}, row {n_before + bad[0] + 1}: {strings[bad[0]]!r} is not {what} ({len(bad):,} such rows): "
            "correct the file or take the column out of `times`"
        )
    if strings.notna().any():
        zones.setdefault(column, bool(names_offset.any()))
    if zones.get(column, False):
        moments = parsed.dt.tz_convert(None) if names_offset.any() else parsed
        return pa.array(moments.dt.as_unit("us"), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    return pa.array(parsed.dt.as_unit("us"), pa.timestamp("us"))


def check_offsets(
    strings: pd.Series, names_offset: pd.Series, where: str, n_before: int, is_zoned: bool | None
) -> None:
    """Reject times of which only some include an offset from UTC, in this batch or compared with earlier ones."""
    known = strings[strings.notna()]
    if not len(known):
        return
    wanted = bool(names_offset[known.index[0]]) if is_zoned is None else is_zoned
    odd = known.index[names_offset[known.index] != wanted]
    if len(odd):
        other = f", {known.iloc[0]!r} {'does' if wanted else 'does not'}" if odd[0] != known.index[0] else ""
        raise DataError(
            f"{where}, row {n_before + odd[0] + 1}: {strings[odd[0]]!r} has {'no' if wanted else 'an'} offset from "
            f"UTC{other}: write all times in one way, or take the column out of `times`"
        )


def is_zoned(facts: column_types.Facts) -> bool:
    """Return whether the first value of a time column includes an offset from UTC."""
    return OFFSET.search(next(iter(facts.words), "").strip()) is not None


def has_huge_gaps(values: pa.ChunkedArray) -> bool:
    """Return whether an integer column has missing values, which make it float, and numbers too large for a float."""
    if not pa.types.is_integer(values.type) or not values.null_count:
        return False
    extremes = pc.min_max(values).as_py()
    return max(abs(extremes["min"] or 0), abs(extremes["max"] or 0)) > column_types.LARGEST_WHOLE
