"""The user's own functions and transformers in a new process, where they must give what they give here.

Calls in one process do not show that code keeps something from its first call, such as numbers that it gives to strings
in the order in which it meets them, nor that it uses `hash`, whose values for strings differ between processes. The
service would then compute other features than the training.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from labkit import paths
from labkit.errors import DataError, LabkitError
from labkit.features import own_functions, own_transformers
from labkit.features.own_functions import count_rows, describe_place, describe_row, find_difference, take, write_value
from labkit.features.row_rules import Columns
from labkit.params.import_path import find_own_package, resolve_callable

MOST_ROWS = 1000
"""Rows that are computed once more, evenly spaced."""
HASH_SEED = "4321"
"""In kernels it is 0."""
REMEDY = (
    "keep nothing from one call to the next, and do not use hash(), whose values for strings differ between processes; "
    "what is learned from many rows belongs in features.transformers"
)

Specs = Mapping[str, Mapping[str, Any]]


def check_in_new_process(functions: Specs, transformers: Specs, columns: Columns) -> None:
    """Check that own code gives the same values in a new process, which gets half of the rows in another order.

    Transformers are fitted to the same rows in both; those of libraries are not checked.

    Parameters
    ----------
    functions, transformers
        Specs by name; see `labkit.features.own_functions` and `labkit.features.own_transformers`.
    columns
        Cleaned columns of the training rows, arrays of shape (n_rows,).

    Raises
    ------
    DataError
        It gives other values there, fails, or ends the process.
    """
    own = {name: spec for name, spec in transformers.items() if find_own_package(spec["path"].partition(".")[0])}
    if not (functions or own) or not (n_rows := count_rows(columns)):
        return
    # Half of the rows, because the mean of the same rows in another order would be the same.
    rows = np.unique(np.linspace(0, n_rows - 1, min(MOST_ROWS, (n_rows + 1) // 2)).astype(int))[::-1]
    sections = {own_functions.PLACE: functions, own_transformers.PLACE: own}
    needed = {one for specs in sections.values() for spec in specs.values() for one in spec["columns"]}
    given = take({name: columns[name] for name in needed}, rows)
    elsewhere = call_new_process(sections, given)
    for section, computed in compute_own_code(sections, given).items():
        for name, values in computed.items():
            if (place := find_difference(values, elsewhere[section][name])) is not None:
                spec = sections[section][name]
                lead = describe_place(section, name, resolve_callable(spec["path"], where=f"{section}.{name}"))
                row = describe_row({one: given[one] for one in spec["columns"]}, place)
                raise DataError(
                    f"{lead}: row {rows[place] + 1} ({row}) gives {write_value(values[place])} here and "
                    f"{write_value(elsewhere[section][name][place])} in a new process: {REMEDY}"
                )


def compute_own_code(sections: Mapping[str, Specs], columns: Columns) -> dict[str, dict[str, np.ndarray]]:
    """Return what functions give, and transformers that are fitted to the same rows, by section and name."""
    compute = {own_functions.PLACE: own_functions.compute_function, own_transformers.PLACE: fit_and_compute}
    return {
        section: {name: compute[section](name, spec, columns) for name, spec in specs.items()}
        for section, specs in sections.items()
    }


def fit_and_compute(name: str, spec: Mapping[str, Any], columns: Columns) -> np.ndarray:
    """Return what a transformer gives for the rows that it is fitted to."""
    return own_transformers.compute_block(name, spec, own_transformers.fit(name, spec, columns), columns)


def call_new_process(sections: Mapping[str, Specs], columns: Columns) -> dict[str, dict[str, np.ndarray]]:
    """Return what `compute_own_code` gives in a new process; see `check_in_new_process`."""
    asked = {
        "path": sys.path,
        "sections": sections,
        "columns": {name: write_values(values) for name, values in columns.items()},
    }
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={**paths.copy_environment(), "LABKIT_ROOT": str(paths.find_root()), "PYTHONHASHSEED": HASH_SEED},
        check=False,
    )
    if done.returncode:
        names = ", ".join(spec["path"] for specs in sections.values() for spec in specs.values())
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise DataError(f"{names}: no result in a new process, which ended with code {done.returncode}: {last}")
    found = json.loads(done.stdout)
    if "error" in found:
        raise DataError(f"in a new process, {found['error']}")
    return {section: {name: rebuild_values(values) for name, values in made.items()} for section, made in found.items()}


def write_values(values: np.ndarray) -> dict[str, Any]:
    """Return an array as plain data.

    >>> write_values(np.array(["2024-01-31"], "datetime64[us]"))
    {'type': 'datetime64[us]', 'values': [1706659200000000]}
    """
    plain = values.astype("int64") if values.dtype.kind == "M" else values
    return {"type": str(values.dtype), "values": plain.tolist()}


def rebuild_values(encoded: Mapping[str, Any]) -> np.ndarray:
    """Return an array from plain data.

    >>> rebuild_values(write_values(np.array([["a", None]], object))).tolist()
    [['a', None]]
    """
    kind = np.dtype(encoded["type"])
    return np.array(encoded["values"], "int64" if kind.kind == "M" else kind).astype(kind)


def compute_asked(content: str) -> dict[str, Any]:
    """Return what the process that started this one asks for, or the error."""
    asked = json.loads(content)
    sys.path[:] = asked["path"]
    columns = {name: rebuild_values(values) for name, values in asked["columns"].items()}
    try:
        made = compute_own_code(asked["sections"], columns)
    except LabkitError as error:
        return {"error": str(error)}
    return {section: {name: write_values(values) for name, values in some.items()} for section, some in made.items()}


def main() -> None:
    """Answer on the standard output; what own code prints goes to the standard error."""
    output = os.dup(1)
    os.dup2(2, 1)
    found = json.dumps(compute_asked(sys.stdin.read()), default=lambda value: value.item())
    rest = memoryview(found.encode())
    while rest:
        rest = rest[os.write(output, rest) :]


if __name__ == "__main__":
    main()
