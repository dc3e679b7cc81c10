"""MLflow's scoring protocol, `POST /invocations`, so that clients of MLflow and SageMaker work unchanged."""

import csv
import io
import json
import math
from collections.abc import Mapping
from typing import Any

from labkit.features.parse_text import read_yes_no
from labkit.serving.engine import Engine
from labkit.serving.requests import Fault, RequestError, RowReader, refuse_constant

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
"""Forms of a body in JSON; `params` may stand beside one of them and is accepted but has no effect."""


def read_invocation(body: bytes, content_type: str, engine: Engine) -> list[Any]:
    """Return the rows of a request in MLflow's protocol.

    Parameters
    ----------
    content_type
        `application/json` or `text/csv`.
    engine
        Checks the rows; columns that the model does not take are ignored, as MLflow does, and absent ones are missing
        values if they may be.

    Raises
    ------
    RequestError
        415 for another type, 400 for what cannot be read or is not as the release declares, 413 for too many rows.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/csv":
        rows = read_csv(body, engine)
    elif kind == "application/json":
        rows = read_json(body)
    else:
        raise RequestError(415, Fault("send application/json or text/csv"))
    try:
        return engine.convert(rows)
    except RequestError as error:
        raise RequestError(400 if error.status == 422 else error.status, *error.faults) from error


def read_json(body: bytes) -> list[Any]:
    """Return the rows of a JSON body, as dictionaries."""
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=read_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, Fault("the body is not JSON in UTF-8")) from error
    found = [form for form in FORMS if form in content] if isinstance(content, dict) else []
    if len(found) != 1 or {*content} - {found[0], "params"}:
        raise RequestError(400, Fault(f"the body is not an object with one of {', '.join(FORMS)}"))
    given = content[found[0]]
    if found[0] == "dataframe_split":
        return read_split_form(given)
    if isinstance(given, dict):
        return read_column_form(given)
    if not isinstance(given, list) or not all(isinstance(row, dict) for row in given):
        raise RequestError(400, Fault(f"{found[0]}: not a list of rows with the columns as names"))
    return given


def read_constant(name: str) -> None:
    """Return a missing value for NaN, as which MLflow's client sends those of a table; refuse infinities."""
    if name != "NaN":
        refuse_constant(name)


def read_split_form(given: Any) -> list[dict[str, Any]]:
    """Return the rows of the form that pandas calls `split`."""
    columns = given.get("columns") if isinstance(given, dict) else None
    data = given.get("data") if isinstance(given, dict) else None
    if not isinstance(columns, list) or not isinstance(data, list) or not all(isinstance(c, str) for c in columns):
        raise RequestError(400, Fault("dataframe_split: not an object with the lists columns and data"))
    if len({*columns}) < len(columns):
        raise RequestError(400, Fault("dataframe_split: a column is named twice"))
    for number, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(columns):
            raise RequestError(400, Fault(f"row {number}: not a list of {len(columns)} values", number))
    return [dict(zip(columns, row, strict=True)) for row in data]


def read_column_form(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a dictionary of columns: lists of one length, or single values for one row."""
    columns = {name: values if isinstance(values, list) else [values] for name, values in given.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) != 1:
        raise RequestError(400, Fault("inputs: its columns are not of one length"))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def read_csv(body: bytes, engine: Engine) -> list[dict[str, Any]]:
    """Return the rows of a CSV body with a header; an empty cell is a missing value."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8")), strict=True))
    except (ValueError, csv.Error) as error:
        raise RequestError(400, Fault("the body is not CSV in UTF-8")) from error
    header, rows = (lines[0] if lines else []), [line for line in lines[1:] if line]
    if len({*header}) < len(header):
        raise RequestError(400, Fault("a column is named twice"))
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise RequestError(400, Fault(f"row {number}: {len(row)} cells, the header has {len(header)}", number))
    main = engine.main_rows
    reader = main.reader if main is not None and main.main_table.fits(header) else engine.reader
    return [
        {name: convert_cell(cell, name, reader) for name, cell in zip(header, row, strict=True)} for row in rows
    ]  # fmt: skip


def convert_cell(cell: str, name: str, reader: RowReader) -> Any:
    """Return the value of a cell, a number where the column takes one; what cannot be read stays a string."""
    if cell == "":
        return None
    kind = reader.kinds.get(name)
    if kind == "boolean":
        found = read_yes_no(cell)
        return cell if found is None else bool(found)
    if kind != "number" or name in reader.parsed:
        return cell
    try:
        number = float(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) else cell
