"""Read SPSS, Stata and SAS files: codes become their labels, and codes for missing values become missing.

This is the only module that uses pyreadstat. Columns named in `codes` stay numeric, such as a scale with labels at its
ends only.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from labkit.data.reading.column_types import LARGEST_WHOLE
from labkit.data.reading.formats import LABELLED, name_file
from labkit.data.reading.reader import Remark
from labkit.errors import DataError, list_briefly
from labkit.features.table_columns import is_numeric
from labkit.names import normalize_spaces
from labkit.params.tables import Table
from labkit.params.yaml_lines import quote, write_line

BLOCK_ROWS = 50_000


class LabelledReader:
    """A file of a statistics program, scanned once to find the codes that occur.

    Attributes
    ----------
    labels
        Label by code, for each column that has labels and is not read as codes.
    unlabelled
        Codes without a label in these columns.
    partial
        Remark on each column whose codes are only partly labelled.

    Raises
    ------
    DataError
        The file is not in its format, truncated, or in another encoding.
    """

    def __init__(self, path: Path, table: Table, where: str) -> None:
        self.path, self.where, self.ending = path, where, path.suffix.lower()
        # UTF-8 is only the default of a table; the file declares its own encoding.
        self.encoding = None if table.encoding == "utf-8" else table.encoding
        metadata = self.load(metadataonly=True)[1]
        self.names = [str(name) for name in metadata.column_names]
        labels = {name: tell_apart(found) for name, found in metadata.variable_value_labels.items() if found}
        found: dict[str, set[float]] = {name: set() for name in labels}
        kinds: dict[str, str] = {}
        self.n_rows, self.n_bytes = 0, 0
        for frame in self.read_frames(BLOCK_ROWS):
            self.n_rows += len(frame)
            for name in self.names:
                kind = find_kind(frame[name])
                kinds[name] = find_common_kind(kinds.get(name, kind), kind)
                if name in found:
                    found[name] |= {*frame[name].dropna().tolist()}
        self.partial = {
            name: describe_partial(name, codes, labels[name])
            for name, codes in found.items()
            if not codes <= {*labels[name]}
        }
        others = {*table.codes, *table.skip}
        self.labels = {name: label for name, label in labels.items() if normalize_spaces(name) not in others}
        self.unlabelled = {name: sorted(found[name] - {*label}) for name, label in self.labels.items()}
        self.schema = pa.schema(
            [(name, ARROW_TYPES["string" if name in self.labels else kinds.get(name, "")]) for name in self.names]
        )
        self.remarks = [
            self.partial[name] for name in table.codes if name in self.partial and found[name] & {*labels[name]}
        ]

    def check_codes(self) -> None:
        """Reject codes without a label in a column that has labels.

        Raises
        ------
        DataError
            A code has no label; names the column, the code and the fix.
        """
        for name, codes in self.unlabelled.items():
            if codes:
                raise DataError(
                    f"{self.where}: column {name!r}: code {codes[0]:g} has no label ({len(codes):,} such codes): add a "
                    "label in the file, or name the column in `codes` to read it as numbers"
                )

    def load(self, **options: Any) -> tuple[pd.DataFrame, Any]:
        """Return rows and metadata as read by pyreadstat, which receives the options."""
        import pyreadstat

        readers: Mapping[str, Callable[..., Any]] = {
            ".dta": pyreadstat.read_dta,
            ".sav": pyreadstat.read_sav,
            ".zsav": pyreadstat.read_sav,
            ".por": pyreadstat.read_por,
            ".sas7bdat": pyreadstat.read_sas7bdat,
            ".xpt": pyreadstat.read_xport,
        }
        if self.ending not in (".por", ".xpt") and self.encoding:
            options["encoding"] = self.encoding
        with explain_pyreadstat_errors(self.where, self.ending):
            loaded: tuple[pd.DataFrame, Any] = readers[self.ending](self.path, dates_as_pandas_datetime=True, **options)
        return loaded

    def read_frames(self, n_rows: int) -> Iterator[pd.DataFrame]:
        """Yield all rows as stored in the file, in batches of at most `n_rows`."""
        n_before = 0
        while True:
            frame, _ = self.load(row_offset=n_before, row_limit=n_rows)
            if len(frame):
                yield frame
            n_before += len(frame)
            if len(frame) < n_rows:
                return

    def read_batches(self, n_rows: int) -> Iterator[pa.Table]:
        """Yield all rows in batches of at most `n_rows`, codes replaced by their labels.

        Raises
        ------
        DataError
            A code has no label, or the file cannot be read.
        """
        self.check_codes()
        for frame in self.read_frames(n_rows):
            columns = [
                make_label_array(frame[name], self.schema.field(name).type, self.labels.get(name))
                for name in self.names
            ]
            yield pa.Table.from_arrays(columns, schema=self.schema)


ARROW_TYPES = {
    "": pa.float64(), "whole": pa.int64(), "number": pa.float64(), "string": pa.string(), "time": pa.timestamp("us"),
}  # fmt: skip
"""Column types by kind of content; a column without any value is float."""


@contextmanager
def explain_pyreadstat_errors(where: str, ending: str) -> Iterator[None]:
    """Convert errors of pyreadstat into a DataError with a message of our own."""
    import pyreadstat

    try:
        yield
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, UnicodeDecodeError) or "encoding" in str(error):
            raise DataError(
                f"{where}: its strings are not in the encoding that it declares: set `encoding`, e.g. `encoding: "
                "cp1252`"
            ) from error
        raise DataError(
            f"{where}: not {name_file(LABELLED[ending])} ({ending}), or truncated: copy it again"
        ) from error


def find_kind(values: pd.Series) -> str:
    """Return the kind of content of one batch of a column: a key of `ARROW_TYPES`."""
    known = values.dropna().infer_objects()
    if pd.api.types.is_datetime64_any_dtype(values):
        return "time"
    if not len(known):
        return ""
    if not is_numeric(known):
        return "string"
    numbers = known.to_numpy(dtype="float64")
    is_whole = bool((np.abs(numbers) < LARGEST_WHOLE).all() and (numbers % 1 == 0).all())
    return "whole" if is_whole and len(known) == len(values) else "number"


def find_common_kind(one: str, other: str) -> str:
    """Return the kind that covers two batches of a column."""
    if one == other:
        return one
    if {one, other} <= {"", "whole", "number"}:
        return "number"
    return one or other if not (one and other) else "string"


def make_label_array(values: pd.Series, kind: pa.DataType, labels: Mapping[float, str] | None) -> pa.Array:
    """Return a batch of a column in its type; empty strings are missing values, as in these programs."""
    if labels is not None:
        values = values.map(labels)
    if pa.types.is_string(kind):
        strings = [None if pd.isna(value) or value == "" else str(value) for value in values]
        return pa.array(strings, kind)
    return pa.array(values, kind, from_pandas=True)


def tell_apart(labels: Mapping[float, str]) -> dict[float, str]:
    """Return the labels without blank ones, with the code appended where several codes share a label.

    >>> tell_apart({1: "yes", 2: "no", 3: "no", 4: " "})
    {1: 'yes', 2: 'no (2)', 3: 'no (3)'}
    """
    named = {code: label.strip() for code, label in labels.items() if label.strip()}
    times = Counter(named.values())
    return {code: label if times[label] == 1 else f"{label} ({code:g})" for code, label in named.items()}


def describe_partial(name: str, codes: set[float], labels: Mapping[float, str]) -> Remark:
    """Return the remark that some codes of a numeric column have labels."""
    labelled = sorted(codes & {*labels})
    shown = list_briefly(f"{code:g} is {labels[code]!r}" for code in labelled)
    last = quote(int(labelled[-1]) if labelled[-1] % 1 == 0 else labelled[-1]) if labelled else ""
    remedy = f"{write_line('wrangling.rules', name, f'{{missing: [{last}]}}')}, if it is not a number"
    return name, "labels for some of its numbers", shown, remedy
