"""Features computed by scikit-learn transformers that the user names, fitted to the training rows only.

A transformer gets its columns as one array of shape (n_rows, n_columns): float64 if all are numbers or booleans, else
objects; missing values are NaN, NaT or None. It never gets the target: what learns from the target belongs in a
candidate, which is fitted again in every fold. A fitted transformer must compute each row by itself. Functions without
anything to learn are in `labkit.features.own_functions`.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from labkit.errors import DataError, HiddenRowsError, ParamsError, get_first_line
from labkit.features.own_functions import (
    call_locked,
    check_row_by_row,
    check_values,
    count_rows,
    describe_place,
    find_difference,
    lock,
)
from labkit.features.row_rules import Columns
from labkit.params.import_path import resolve_callable
from labkit.params.own_calls import find_own_line, find_raising_line, own_code

PLACE = "features.transformers"
REACH = 3.0
"""How many times their range the numbers of perturbed rows are moved."""


def make_transformer(name: str, spec: Mapping[str, Any]) -> Any:
    """Return an unfitted transformer.

    Parameters
    ----------
    name
        Name under which it is declared.
    spec
        Fields of `labkit.params.features.Transformer`, as plain data.

    Raises
    ------
    ParamsError
        It is not a class, cannot be imported or made, or has no `fit` and `transform`.
    """
    kind = resolve_callable(spec["path"], where=f"{PLACE}.{name}")
    lead = partial(describe_place, PLACE, name, kind)
    if not isinstance(kind, type):
        raise ParamsError(f"{lead()}: {spec['path']} is not a class: name the class of a scikit-learn transformer")
    try:
        with own_code():
            made = kind(**spec["options"])
    except Exception as error:  # whatever the user's code raises
        at = f", at {own}" if (own := find_own_line(error)) else ""
        fault = f"{type(error).__name__}: {get_first_line(error)}{at}"
        raise ParamsError(f"{lead()}: cannot be made with the options {spec['options']}: {fault}") from error
    for method in ("fit", "transform"):
        if not callable(getattr(made, method, None)):
            raise ParamsError(f"{lead()}: has no method {method}: give a scikit-learn transformer")
    return made


def list_types(specs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the classes of the transformers, sorted, e.g. `churn.steps.Levels`: a model may contain these types."""
    kinds = {resolve_callable(spec["path"], where=f"{PLACE}.{name}") for name, spec in specs.items()}
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)


def fit_transformers(specs: Mapping[str, Mapping[str, Any]], columns: Columns) -> dict[str, Any]:
    """Return the transformers fitted to the training rows.

    Parameters
    ----------
    specs
        Spec by name; see `make_transformer`.
    columns
        Cleaned columns of the training rows, arrays of shape (n_rows,).

    Raises
    ------
    DataError
        A transformer cannot be fitted, or fails `check_leaks`.
    """
    fitted = {name: fit(name, spec, columns) for name, spec in specs.items()}
    for name, spec in specs.items():
        check_leaks(name, spec, columns)
    return fitted


def fit(name: str, spec: Mapping[str, Any], columns: Columns) -> Any:
    """Return one transformer, fitted."""
    made = make_transformer(name, spec)
    lead = partial(describe_place, PLACE, name, type(made))
    given = stack(lock({column: columns[column] for column in spec["columns"]}))
    given.flags.writeable = False
    try:
        with own_code():
            made.fit(given)
    except HiddenRowsError as error:
        raise DataError(f"{lead()}: {error}") from error
    except Exception as error:  # whatever the user's code raises
        if isinstance(error, ValueError) and "read-only" in str(error):
            raise DataError(
                f"{lead()}: fit changes its input, at {find_raising_line(error)}: work on a copy"
            ) from error
        fault = f"{type(error).__name__}: {get_first_line(error)}, at {find_raising_line(error)}"
        raise DataError(
            f"{lead()}: cannot be fitted to {', '.join(spec['columns'])}: {fault}; it is fitted without a target: "
            "what needs one belongs in a candidate of training.models"
        ) from error
    return made


def compute_block(name: str, spec: Mapping[str, Any], transformer: Any, columns: Columns) -> np.ndarray:
    """Return the new columns of a fitted transformer.

    Parameters
    ----------
    name, spec
        See `make_transformer`.
    transformer
        The fitted transformer.
    columns
        Cleaned columns, arrays of shape (n_rows,).

    Returns
    -------
    numpy.ndarray
        Shape (n_rows, n_names): numbers or strings.

    Raises
    ------
    DataError
        It fails, changes its input, or gives something else than one number or string per row and name.
    """
    lead = partial(describe_place, PLACE, name, type(transformer))

    def transform(some: Columns) -> np.ndarray:
        given = stack(some)
        given.flags.writeable = False
        made = transformer.transform(given)
        block = np.asarray(made.toarray() if hasattr(made, "toarray") else made)
        block = block.reshape(-1, 1) if block.ndim == 1 else block
        if block.shape != (count_rows(some), len(spec["names"])):
            raise DataError(
                f"{lead()}: transform gives the shape {block.shape} for {count_rows(some)} rows and "
                f"{len(spec['names'])} names: list one name per new column in {PLACE}.{name}.names"
            )
        parts = [check_values(block[:, place], len(block), lead) for place in range(block.shape[1])]
        return np.stack(parts, axis=1)

    return call_locked(transform, {column: columns[column] for column in spec["columns"]}, lead)


def compute_transformed(name: str, spec: Mapping[str, Any], transformer: Any, columns: Columns) -> Columns:
    """Return the new columns of a fitted transformer by name, each of shape (n_rows,); see `compute_block`."""
    block = compute_block(name, spec, transformer, columns)
    return {new: block[:, place] for place, new in enumerate(spec["names"])}


def check_transformer(name: str, spec: Mapping[str, Any], transformer: Any, columns: Columns) -> None:
    """Raise DataError unless a fitted transformer computes each row by itself, the same whenever it is called."""
    given = {column: columns[column] for column in spec["columns"]}
    lead = partial(describe_place, PLACE, name, type(transformer))
    check_row_by_row(partial(compute_block, name, spec, transformer), given, lead)


def check_leaks(name: str, spec: Mapping[str, Any], columns: Columns) -> None:
    """Check that rows which are only transformed, such as those of the holdout, change nothing that was learned.

    Perturbed rows stand for them: moved out of the range of the training rows. The transformer is fitted, transforms
    them, and must then give the training rows as before; so must one that is fitted afterwards.

    Raises
    ------
    DataError
        It does not.
    """
    given = {column: columns[column] for column in spec["columns"]}
    first = fit(name, spec, given)
    lead = partial(describe_place, PLACE, name, type(first))
    before = compute_block(name, spec, first, given)
    compute_block(name, spec, first, perturb(given))
    trials = {"after other rows were transformed": first, "when it is fitted again": fit(name, spec, given)}
    for when, transformer in trials.items():
        if find_difference(before, compute_block(name, spec, transformer, given)) is not None:
            raise DataError(
                f"{lead()}: gives other values for the training rows {when}: learn in fit only, from the rows given "
                "there, and without randomness that has no fixed seed"
            )


def perturb(columns: Columns) -> Columns:
    """Return rows with other values: numbers and times moved out of their range, strings in reverse order."""
    return {name: perturb_values(values) for name, values in columns.items()}


def perturb_values(values: np.ndarray) -> np.ndarray:
    """Return one column with other values; missing values stay missing."""
    if values.dtype.kind == "M":
        return values + np.timedelta64(3650, "D")
    if values.dtype.kind not in "biuf":
        return values[::-1]
    numbers = values.astype("float64")
    known = numbers[np.isfinite(numbers)]
    return numbers + REACH * (float(np.ptp(known)) + 1.0 if len(known) else 1.0)


def stack(columns: Columns) -> np.ndarray:
    """Return columns as one array of shape (n_rows, n_columns), float64 if all are numbers."""
    arrays = list(columns.values())
    if all(values.dtype.kind in "biuf" for values in arrays):
        return np.stack([values.astype("float64") for values in arrays], axis=1)
    return np.stack([values.astype(object) for values in arrays], axis=1)
