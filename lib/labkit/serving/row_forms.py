"""Rows in the two forms that a model takes: with its own columns, or with those of the main table."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.features.main_table import MainTable
from labkit.features.row_computation import RowComputation
from labkit.model.release.runtime import CONTRACT
from labkit.serving.main_rows import MainRows, decode_rows
from labkit.serving.requests import Fault, RequestError, RowReader

ONLY_JOINED = "this release takes rows with the columns of the model only: see /model"


@dataclass(frozen=True)
class RowForms:
    """The readers of both forms.

    Attributes
    ----------
    main_rows
        Reads rows with the columns of the main table; None if the release takes the columns of the model only.
    """

    reader: RowReader
    main_rows: MainRows | None

    def read(self, body: bytes) -> list[Any]:
        """Return the rows of a request, whose columns are those of the model or those of the main table.

        Raises
        ------
        RequestError
            See `RowReader.read` and `MainRows.read`.
        """
        main = self.main_rows
        if main is not None and main.is_likely(body) and (rows := main.find_rows(body)) is not None:
            return main.read(body, rows)
        try:
            return self.reader.read(body)
        except RequestError as error:
            # A value may look like the name of a joined column.
            if main is not None and not main.is_likely(body) and (rows := main.find_rows(body)) is not None:
                return main.read(body, rows)
            if main is not None and (mixture := main.find_mixture(body)):
                raise RequestError(error.status, mixture, *error.faults) from error
            if main is None and self.has_other_columns(body):
                raise RequestError(error.status, *error.faults, Fault(ONLY_JOINED)) from error
            raise

    def has_other_columns(self, body: bytes) -> bool:
        """Return whether the first row lacks columns of the model and has others."""
        rows = decode_rows(body)
        names = {*rows[0]} if rows and isinstance(rows[0], Mapping) else set()
        return bool(names - {*self.reader.kinds}) and bool({*self.reader.kinds} - names)


def make_row_forms(folder: Path, row_features: RowComputation, main_table: MainTable | None) -> RowForms:
    """Return the readers of the rows that a release takes.

    Parameters
    ----------
    folder
        Folder of the release, which has been verified.
    main_table
        How rows of the main table become rows with the columns of the model; None if the release does not say.
    """
    contract = json.loads((folder / CONTRACT).read_text(encoding="utf-8"))
    agreed = (contract if isinstance(contract, Mapping) else {}).get("columns") or {}
    reader = RowReader(row_features.inputs_, agreed, row_features.rules)
    return RowForms(reader, MainRows(main_table, reader, row_features.rules) if main_table else None)
