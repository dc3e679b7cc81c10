"""Reading of the rows to predict, by the rules that apply to the experiment's main table, in batches.

Only the columns that the model needs are read, and the target where it is known; other columns may hold anything. See
`labkit.data.reading.raw_table` for how a file is read by these rules.
"""

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from labkit.data.computed_columns import add_column, list_computed, read_target
from labkit.data.reading.formats import DELIMITERS, find_ending, name_format
from labkit.data.reading.raw_table import RawTable, Source, open_file
from labkit.errors import DataError, list_briefly, name_nearest
from labkit.features import expressions
from labkit.features.arrays import number_to_string
from labkit.features.parse_text import read_yes_no
from labkit.features.table_columns import is_numeric
from labkit.names import normalize_spaces
from labkit.params.experiment import Params
from labkit.params.tables import Table
from labkit.serving.batch_files import check_carried, check_source, list_carried, list_row_files
from labkit.serving.batch_types import cast_columns, concatenate, find_types

LIFTED = {"max_rows": sys.maxsize, "max_bytes": sys.maxsize}
"""Limits of tables that are read in batches, of which memory never holds more than one."""


@contextmanager
def name_by_format(source: Path) -> Iterator[Path]:
    """Yield a path to the file with a suffix that shows its format, like that of a file copied by `labkit new`."""
    ending = find_ending(source, str(source))
    if source.name.lower().endswith(ending):
        yield source
        return
    with tempfile.TemporaryDirectory() as scratch:
        link = Path(scratch) / f"rows{ending}"
        link.symlink_to(source.absolute())
        yield link


def load_rows(
    source: Path,
    params: Params,
    inputs: Mapping[str, str],
    *,
    labels: Mapping[str, Sequence[object]] | None = None,
    keep: Sequence[str] = (),
) -> pd.DataFrame:
    """Read the rows to predict.

    Parameters
    ----------
    inputs
        Kind of each raw column that the model needs: `number`, `boolean`, `time` or `category`.
    labels
        Categories that the model knows by column, and its classes under the target's name. Where these are yes and no,
        the values of the column are accepted in any spelling.
    keep
        Columns to read besides, which the file must have. Those that are no inputs are read as strings, as written.

    Returns
    -------
    pandas.DataFrame
        Shape (n_rows, n_needed_columns): the inputs, and the target and the declared identifiers if the file has them.
        Computed columns that the file lacks are computed as the params specify.

    Raises
    ------
    ParamsError, MissingDataError
        The file does not exist, or its format is not supported.
    DataError
        The file cannot be read in the way that the params specify for the main table, or a column is missing.
    """
    check_source(source)
    with name_by_format(source) as path:
        spec = follow_ending(params.data.tables[params.data.main_table], path)
        opened = open_batches([Source(path, str(source))], params, spec, inputs, labels or {}, keep)
        ((rows, table),) = opened.read(sys.maxsize)
        for name in {*keep} - {*inputs, params.data.target.column}:
            # Not by pandas: with a missing value it rounds whole numbers to floats.
            if pa.types.is_integer(table.column(name).type):
                rows[name] = table.column(name).cast(pa.string()).to_numpy()
        return rows


@contextmanager
def open_rows_in_batches(
    source: Path,
    params: Params,
    inputs: Mapping[str, str],
    *,
    labels: Mapping[str, Sequence[object]],
    keep: Sequence[str],
) -> Iterator["RowBatches"]:
    """Yield the rows of a file, or of all files of a folder in the order of their names; see `load_rows`."""
    files = list_row_files(source)
    with ExitStack() as named:
        sources = [Source(named.enter_context(name_by_format(path)), str(path)) for path in files]
        spec = follow_ending(params.data.tables[params.data.main_table], sources[0].path).model_copy(update=LIFTED)
        yield open_batches(sources, params, spec, inputs, labels, keep)


def load_header(source: Path, params: Params) -> list[str]:
    """Return the names of the columns of a file with rows, read by the rules of the main table; see `load_rows`."""
    first = list_row_files(source)[0]
    with name_by_format(first) as path:
        spec = follow_ending(params.data.tables[params.data.main_table], path).model_copy(update=LIFTED)
        return open_file(Source(path, str(source)), restrict(spec, [], {})).names


@dataclass(frozen=True)
class RowBatches:
    """Opened rows to predict.

    Attributes
    ----------
    kinds
        Kind of each raw column, and of a target with classes. Columns that a rule converts to another type are left
        out, as the model applies the rule.
    labels
        See `load_rows`.
    types
        Type of each column that holds the values of all files.
    """

    table: RawTable
    params: Params
    kinds: Mapping[str, str]
    labels: Mapping[str, Sequence[object]]
    types: Mapping[str, pa.DataType]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self.table.n_rows

    def read(self, n_rows: int) -> Iterator[tuple[pd.DataFrame, pa.Table]]:
        """Yield the rows in batches of `n_rows`, the last one smaller; the index counts all rows from 0.

        Yields
        ------
        tuple of pandas.DataFrame and pyarrow.Table
            The rows as the model takes them, and as they are in the files.

        Raises
        ------
        DataError
            A value does not have the type of its column.
        """
        n_before = 0
        tables = (cast_columns(table, self.types, self.table.where) for table in self.table.read())
        for batch in rebatch(tables, n_rows, self.table.where):
            rows = self.prepare(batch.to_pandas())
            yield rows.set_axis(pd.RangeIndex(n_before, n_before + len(rows))), batch
            n_before += len(rows)

    def prepare(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return rows with computed columns that the file lacks, spelled as the model knows the values."""
        where = self.table.where
        for name, expression in list_computed(self.params.data).items():
            if name not in rows and {*expressions.find_names(expression)} <= {*rows.columns}:
                rows = add_column(rows, name, expression)
        for name, kind in self.kinds.items():
            if name in rows:
                rows[name] = match_spelling(rows[name], kind, self.labels.get(name, ()), f"{where}: column {name!r}")
        check_numbers(rows, self.kinds, where)
        return read_target(rows, self.params.data.target)


def rebatch(tables: Iterable[pa.Table], n_rows: int, where: str) -> Iterator[pa.Table]:
    """Yield the rows of tables in tables of `n_rows`, the last one smaller."""
    held: list[pa.Table] = []
    n_held = 0
    for table in tables:
        start = 0
        while start < table.num_rows:
            held.append(table.slice(start, n_rows - n_held))
            start, n_held = start + held[-1].num_rows, n_held + held[-1].num_rows
            if n_held == n_rows:
                yield concatenate(held, where)
                held, n_held = [], 0
    if held:
        yield concatenate(held, where)


def open_batches(
    sources: list[Source],
    params: Params,
    spec: Table,
    inputs: Mapping[str, str],
    labels: Mapping[str, Sequence[object]],
    keep: Sequence[str],
) -> RowBatches:
    """Return the rows of files, ready to be read; see `load_rows`."""
    source = sources[0]
    # Columns that a rule converts to another type are read as written: the model itself applies the rules first.
    typed = {name for name, rule in params.wrangling.rules.items() if rule.type is not None}
    as_read = {name: kind for name, kind in inputs.items() if name not in typed}
    names = open_file(source, restrict(spec, [], {})).names
    needed = list_needed(params, inputs, names)
    if missing := [name for name in needed if name not in names]:
        hint = describe_delimiter(names, spec) or name_nearest(missing[0], names)
        raise DataError(
            f"{source.where}: missing columns {list_briefly(map(repr, missing))}: for {missing[0]!r}, "
            f"{hint}{describe_reading(source, params, spec)}"
        )
    check_carried(names, keep, source.where)
    target = params.data.target.column
    besides = dict.fromkeys([*list_carried(params, keep), *map(normalize_spaces, keep)])
    carried = [name for name in besides if name in names and name not in (*needed, target)]
    kept = [name for name in names if name in {*needed, target, *carried}]
    as_written = {**as_read, **dict.fromkeys(carried, "category")}
    table = restrict(spec, kept, as_written, skip=[name for name in names if name not in kept])
    wanted = {**as_read, **({target: "category"} if target in labels and target not in typed else {})}
    raw = RawTable(params.data.main_table, table, sources)
    return RowBatches(raw, params, wanted, labels, find_types(raw))


def list_needed(params: Params, inputs: Mapping[str, str], names: list[str]) -> list[str]:
    """Return the columns that the file must have; a computed column that it lacks is computed from other columns."""
    needed = list(inputs)
    for name, expression in reversed(list_computed(params.data).items()):
        if name in needed and name not in names:
            needed.remove(name)
            needed += [other for other in expressions.find_names(expression) if other not in needed]
    return needed


def restrict(table: Table, names: list[str], inputs: Mapping[str, str], *, skip: list[str] | None = None) -> Table:
    """Return the reading rules of a table restricted to the named columns."""
    # The model's text columns are read as text and its times as times, whatever the values in a few new rows look like.
    fields = table.model_dump(exclude={"dataset", "path", "paths", "package"})
    times = [name for name in names if name in table.times or inputs.get(name) == "time"]
    strings = [name for name in names if name in table.texts or inputs.get(name) == "category"]
    fields |= {
        "path": "rows",
        "times": tuple(times),
        "texts": tuple(name for name in strings if name not in times),
        "codes": tuple(name for name in table.codes if not names or name in names),
        "checkboxes": tuple(name for name in names if name in table.checkboxes),
        "formats": {name: style for name, style in table.formats.items() if name in times},
        "not_missing": {name: kept for name, kept in table.not_missing.items() if name in names},
        "skip": tuple(skip or ()),
    }
    return Table.model_validate(fields)


def follow_ending(table: Table, source: Path) -> Table:
    """Return the reading rules of a table, tab-separated if the file name has such an extension, as .tsv."""
    if not {".tsv", ".tab"} & {suffix.lower() for suffix in source.suffixes}:
        return table
    return table.model_copy(update={"delimiter": "\t"})


def describe_delimiter(names: list[str], table: Table) -> str:
    """Describe which other character separates the cells of the first row; empty if none does."""
    found = [mark for mark in DELIMITERS if mark != table.delimiter and mark in names[0]] if len(names) == 1 else []
    if not found:
        return ""
    best = max(found, key=names[0].count)
    return f"its cells are separated by {best!r}, and not by {table.delimiter!r}"


def describe_reading(source: Source, params: Params, spec: Table) -> str:
    """Describe how a text file was read, where that differs from the defaults; empty if it does not."""
    fields = {name: getattr(spec, name) for name in ("encoding", "delimiter", "header", "skip_lines")}
    unusual = [f"{name} {value!r}" for name, value in fields.items() if value != Table.model_fields[name].default]
    if name_format(source.path) or not unusual:
        return ""
    return f" (read with {', '.join(unusual)}, as declared in data.tables.{params.data.main_table})"


def match_spelling(values: pd.Series, kind: str, labels: Sequence[object], where: str) -> pd.Series:
    """Return yes and no in the spelling that the model knows, and numeric categories as they were written."""
    # DataError: the column holds True and False, and the model knows other categories.
    if kind == "boolean" and not is_numeric(values):
        booleans = values.map(lambda value: read_yes_no(str(value)), na_action="ignore")
        return booleans if booleans.notna().equals(values.notna()) else values
    if kind != "category" or not all(isinstance(label, str) for label in labels):
        return values
    spelled = {read_yes_no(str(label)): str(label) for label in labels if label}
    is_yes_no = {*spelled} == {0.0, 1.0} and len(spelled) == len([label for label in labels if label])
    # Not by the type of the column: with missing values it is another in batches that have some.
    if pd.api.types.infer_dtype(values, skipna=True) == "boolean" and not is_yes_no:
        shown = list_briefly(map(repr, labels), most=3) or "no categories"
        raise DataError(f"{where} holds True and False, the model knows {shown}: write it as in the training data")
    if not is_yes_no:
        return values.map(number_to_string, na_action="ignore") if is_numeric(values) else values
    known = {*map(str, labels)}

    def spell(value: object) -> object:
        string = str(number_to_string(value))
        return string if string in known else spelled.get(read_yes_no(string), string)

    return values.map(spell, na_action="ignore")


def check_numbers(rows: pd.DataFrame, inputs: Mapping[str, str], where: str) -> None:
    """Refuse non-numeric values where the model needs numbers."""
    for name in (name for name, kind in inputs.items() if kind in ("number", "boolean")):
        values = rows[name].dropna()
        if len(values) and not is_numeric(values.infer_objects()):
            raise DataError(f"{where}: column {name!r} holds {values.iloc[0]!r}: give numbers, as in the training data")
