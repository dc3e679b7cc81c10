"""The files of a batch prediction: what is read, what is written, and the columns that connect both.

Checked before the model is fetched, and without heavy imports, so that a misspelt path is reported at once.
"""

import csv
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from labkit.console import make_printable
from labkit.data.reading.formats import find_ending
from labkit.errors import DataError, MissingDataError, ParamsError, find_nearest, list_briefly
from labkit.names import PROBABILITY, normalize_spaces
from labkit.params.experiment import Params

FORMATS = (".csv", ".parquet")
"""File suffixes of the formats in which predictions are written."""
ROW, PREDICTION, THRESHOLD = "row", "prediction", "threshold"
"""Names of the columns of row numbers, predictions and the threshold."""
TRUE_VALUE = "labkit:true"
"""Name of the column of true values in parts that are not finished; see `labkit.serving.batch_parts`."""


def list_carried(params: Params, keep: Iterable[str]) -> list[str]:
    """Return the columns to copy from the source beside the predictions: identifiers, then those to keep."""
    named = [*params.wrangling.list_identifiers(), *map(normalize_spaces, keep)]
    return [name for name in dict.fromkeys(named) if not is_own(name)]


def is_own(name: str) -> bool:
    """Return whether a name is that of a column that labkit writes itself."""
    return name in (ROW, PREDICTION, THRESHOLD, TRUE_VALUE) or name.startswith(PROBABILITY)


def check_batch_files(params: Params, source: Path, destination: Path, *, keep: Sequence[str], overwrite: bool) -> None:
    """Check the paths and columns that a user has named; whether the source has these columns is checked on reading.

    Parameters
    ----------
    keep
        Columns of the source to copy beside the predictions.
    overwrite
        Whether a file that labkit did not write may be replaced.

    Raises
    ------
    MissingDataError
        The source does not exist.
    DataError
        The format of the source is not supported.
    ParamsError
        The destination may not be written, or a column to keep has the name of a column that labkit writes.
    """
    if taken := [name for name in keep if is_own(normalize_spaces(name))]:
        raise ParamsError(f"--keep {taken[0]}: the predictions have a column of that name: rename it in {source}")
    list_row_files(source)
    check_destination(destination, source, overwrite=overwrite, carried=list_carried(params, keep))


def check_source(source: Path) -> None:
    """Refuse a file that does not exist or has an unsupported format."""
    if not source.is_file():
        names = [path.name for path in source.parent.glob("*") if path.exists()] if source.parent.is_dir() else []
        near = find_nearest(source.name, names)
        shown = make_printable(str(source))
        raise MissingDataError(f"{shown}: no such file" + (f": did you mean {near!r}?" if near else ""))
    find_ending(source, str(source))


def list_row_files(source: Path) -> list[Path]:
    """Return the files to read: the source itself or, of a folder, its files by name.

    Files whose names begin with `.` or `_`, such as `_SUCCESS`, are left out, as by other programs that write tables in
    parts.

    Raises
    ------
    MissingDataError
        There is no such file, the folder has none, or a link in it leads nowhere.
    DataError
        A file cannot be read, its format is not supported, the files differ in format, or the folder has folders in it.
    """
    if not source.is_dir():
        check_source(source)
        return [source]
    found = sorted(path for path in source.iterdir() if not path.name.startswith((".", "_")))
    if not found:
        raise MissingDataError(f"{make_printable(str(source))}: the folder has no files: name one with files of rows")
    if folders := [path.name for path in found if path.is_dir()]:
        where = make_printable(str(source))
        raise DataError(f"{where}: has a folder {folders[0]!r} in it: name a folder with files of rows only")
    for path in found:
        check_source(path)
    endings = [find_ending(path, str(path)) for path in found]
    if odd := [place for place, ending in enumerate(endings) if ending != endings[0]]:
        first, other = (f"{found[place].name!r} ({endings[place]})" for place in (0, odd[0]))
        raise DataError(f"{make_printable(str(source))}: {first} and {other} differ in format: give one format only")
    return found


def find_file_states(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return size and time of the last change of each file that exists, by which a change is detected."""
    states = {}
    for path in files:
        with suppress(OSError):
            state = path.stat()
            states[path] = (state.st_size, state.st_mtime_ns)
    return states


def check_destination(destination: Path, source: Path, *, overwrite: bool, carried: Sequence[str] = ()) -> None:
    """Refuse a destination that is not CSV or Parquet, cannot be written to, or would lose existing content."""
    if destination.suffix not in FORMATS:
        raise ParamsError(f"{destination}: {destination.suffix or 'no extension'}: use .csv or .parquet")
    if not destination.parent.is_dir():
        raise ParamsError(f"{destination.parent}: no such folder")
    if source.is_dir() and destination.resolve().parent == source.resolve():
        raise ParamsError(f"{destination}: is in the folder with the rows to predict, {source}: name another place")
    if not destination.exists():
        return
    if destination.samefile(source):
        raise ParamsError(f"{destination}: is the file with the rows to predict, {source}: name another one")
    if not destination.is_file():
        raise ParamsError(f"{destination}: not a regular file: name another one")
    if not overwrite and not is_written_here(destination, carried):
        raise ParamsError(
            f"{destination}: exists and was not written by labkit predict: name another one, or replace it with "
            "--overwrite"
        )


def is_written_here(path: Path, carried: Sequence[str]) -> bool:
    """Return whether a file is empty, or holds only predictions, row numbers and columns that are copied again."""
    if not path.stat().st_size:
        return True
    try:
        names = load_column_names(path)
    except (OSError, ValueError, csv.Error):
        return False
    return PREDICTION in names and all(name in carried or is_own(name) for name in names)


def load_column_names(path: Path) -> list[str]:
    """Return the names of the columns of a CSV or Parquet file."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return [str(name) for name in pq.read_schema(path).names]
    with path.open(encoding="utf-8", newline="") as stream:
        return next(csv.reader(stream), [])


def check_carried(names: Sequence[str], keep: Sequence[str], where: str) -> None:
    """Raise an error for columns to keep that the source does not have."""
    if missing := [name for name in map(normalize_spaces, keep) if name not in names]:
        near = find_nearest(missing[0], names)
        hint = f"did you mean {near!r}?" if near else f"its columns: {list_briefly(map(repr, names), most=12)}"
        raise ParamsError(f"--keep {missing[0]}: {where} has no such column: {hint}")
