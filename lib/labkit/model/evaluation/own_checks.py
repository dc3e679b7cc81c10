"""Checks of the user's own: plain functions, named in `evaluation.checks`, shown and muted like labkit's.

A function takes by name what it needs of `rows`, the clean holdout rows with the target, and of the arrays that metrics
of the user's own take (see `labkit.params.own_metrics`). It returns whether the check passed, None if it does not
apply, and the evidence in a few words.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd

from labkit.checks import CheckResult, Definition, Status, make_check
from labkit.errors import LabkitError, get_first_line
from labkit.model.evaluation.predictions import Predictions
from labkit.params.import_path import choose_arguments, locate_code
from labkit.params.named_columns import ROWS
from labkit.params.own_calls import find_raising_line, without_exits
from labkit.params.own_metrics import OFFERED, offer_arrays, protect
from labkit.params.own_plots import OFFERED_TO_CHECKS, load_function

WARNING: Status = "warning"
SECTION = "The gate"
"""Heading of the section that has the results of all checks of the page."""

CheckFunction = TypeVar("CheckFunction", bound=Callable[..., Any])


def check(
    title: str, *, consequence: str, remedy: str, failed: Literal["issue", "warning"] = "warning"
) -> Callable[[CheckFunction], CheckFunction]:
    """Declare the words of a check; the function remains as it is.

    Parameters
    ----------
    title, consequence, remedy
        What is checked, what follows if it does not pass, and what to do then; see
        `labkit.checks.Definition`.
    failed
        Status if it does not pass.
    """

    def declare(function: CheckFunction) -> CheckFunction:
        function.labkit_check = Definition(title, SECTION, consequence, remedy), failed  # type: ignore[attr-defined]
        return function

    return declare


def run_checks(checks: Mapping[str, str], predictions: Predictions, rows: pd.DataFrame) -> list[CheckResult]:
    """Run the checks of the user's own; one that cannot be run is an issue with file and line.

    Parameters
    ----------
    checks
        Import path by code: `evaluation.checks` of the params.
    predictions
        Predictions of the model for the holdout.
    rows
        Its clean rows with the target, in the same order.
    """
    return [run_check(code, path, predictions, rows) for code, path in sorted(checks.items())]


def run_check(code: str, path: str, predictions: Predictions, rows: pd.DataFrame) -> CheckResult:
    """Run one check."""
    where = f"evaluation.checks.{code}"
    try:
        function = load_function(path, where=where, offered=OFFERED_TO_CHECKS)
        words, failed = getattr(function, "labkit_check", None) or (describe_undeclared(path, function), WARNING)
    except LabkitError as error:
        return CheckResult(code, "issue", f"it cannot be run: {error}", describe_undeclared(path, None))
    fault = partial(CheckResult, code, "issue", own=words)
    offered = offer_predictions(predictions, rows)
    try:
        with without_exits():
            found = function(**choose_arguments(function, offered, where=path))
    except Exception as error:  # whatever the user's code raises
        return fault(f"it failed: {type(error).__name__}: {get_first_line(error)}, at {find_raising_line(error)}")
    if not is_result(found):
        return fault(
            f"it returned {found!r:.60}: return whether it passed and the evidence, at {locate_code(function)}"
        )
    passed, evidence = found
    result = None if passed is None else bool(passed)
    return make_check(code, result, " ".join(evidence.split()).rstrip("."), failed=failed, own=words)


def offer_predictions(predictions: Predictions, rows: pd.DataFrame) -> dict[str, Any]:
    """Return what checks and plots are offered: a copy of the rows, and arrays that cannot be written to."""
    arrays = offer_arrays(
        predictions.y_true, predictions.y_pred, predictions.y_proba, predictions.classes, predictions.positive
    )
    return {ROWS: rows.copy(), **{name: protect(one) for name, one in zip(OFFERED, arrays, strict=True)}}


def is_result(found: Any) -> bool:
    """Return whether what a check returned is a boolean or None, and evidence."""
    if not isinstance(found, tuple) or len(found) != 2:
        return False
    passed, evidence = found
    return (passed is None or isinstance(passed, bool | np.bool_)) and isinstance(evidence, str) and bool(evidence)


def describe_undeclared(path: str, function: Any) -> Definition:
    """Return the words of a check that declares none: its name, and where it is."""
    title = path.rpartition(":")[2].replace("_", " ").strip().capitalize()
    where = f"`{path}`" if function is None else f"`{path}`, {locate_code(function)}"
    return Definition(title, SECTION, "What follows is not declared.", f"Read {where}.")
