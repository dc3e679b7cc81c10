"""Checks of explanations: whether they are of the evaluated model, precise, and free of columns of groups."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.checks import CheckResult, make_check
from labkit.model.explanation.shapley import Explanation
from labkit.params.experiment import Params
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_count, format_share, format_significant

MOST_APART = 1e-6
"""Largest accepted difference between a prediction and the sum that explains it, relative to its scale."""
SURE_ERRORS, FEWEST_SURE = 2.0, 0.5
"""Standard errors by which a contribution must differ from zero, and share of the rows in which the largest must."""


def list_explanation_checks(
    params: Params, explanations: Sequence[Explanation], expected: np.ndarray, importance: pd.DataFrame
) -> list[CheckResult]:
    """Check the explanations of holdout rows.

    Parameters
    ----------
    expected
        Predictions of the same rows by the model that was evaluated or, with `deploy.refit`, by that model refitted on
        all rows; shape (n_rows, n_outputs).
    importance
        As `labkit.model.explanation.contributions.summarize_contributions` returns it.
    """
    subject, tolerance = Subject.from_params(params), params.deploy.tolerance
    target = params.data.target.column if params.data.target.task == "regression" else ""
    which = "refitted pipeline's" if params.deploy.refit else "evaluated one"
    return [
        check_explained_predictions(
            explanations, expected, tolerance=tolerance, subject=subject, target=target, which=which
        ),
        check_precision(explanations),
        check_group_columns(params, importance, subject=subject),
    ]


def check_explained_predictions(
    explanations: Sequence[Explanation],
    evaluated: np.ndarray,
    *,
    tolerance: float,
    subject: Subject = GENERIC,
    target: str = "",
    which: str = "evaluated one",
) -> CheckResult:
    """Check whether base value and contributions add up to the prediction that was evaluated.

    Parameters
    ----------
    tolerance
        Largest accepted difference from the evaluated prediction; of numbers beyond 1, relative to the largest.
    target
        Column of the number that is predicted; empty for probabilities.
    which
        Name of the evaluated prediction in the evidence.
    """
    predicted = np.array([one.prediction for one in explanations])
    sums = np.array([one.base + one.contributions.sum(axis=0) for one in explanations])
    scale = max(1.0, float(np.abs(evaluated).max()))
    apart, changed = (float(np.abs(one - predicted).max()) for one in (sums, evaluated))
    within, by, largest = (
        subject.add_unit(words, target)
        for words in (f"{apart:.0e}" if apart else "0", f"{changed:.0e}" if changed else "0", format_significant(scale))
    )
    evidence = (
        f"{format_count(len(explanations), 'row')}: base value and contributions add up to the prediction within "
        f"{within}, and it differs from the {which} by at most {by}"
    )
    if scale > 1:
        evidence += f", where the largest is {largest}"
    is_same = apart <= MOST_APART * scale and changed <= tolerance * scale
    return make_check("LK901", is_same, evidence, failed="issue")


def check_precision(explanations: Sequence[Explanation]) -> CheckResult:
    """Check whether the largest contribution to most predictions is well above its standard error."""
    if np.isnan(explanations[0].errors).any():
        return CheckResult("LK902", "skipped", "one background row gives no standard errors")
    is_sure = []
    for one in explanations:
        sizes = np.abs(one.contributions)
        place = np.unravel_index(sizes.argmax(), sizes.shape)
        is_sure.append(sizes[place] >= SURE_ERRORS * one.errors[place])
    share = float(np.mean(is_sure))
    evidence = (
        f"the largest contribution is at least {SURE_ERRORS:g} standard errors from zero in {format_share(share)} of "
        f"{format_count(len(explanations), 'explained row')}, compared with "
        f"{format_count(explanations[0].n_background, 'background row')}"
    )
    return make_check("LK902", share >= FEWEST_SURE, evidence)


def check_group_columns(params: Params, importance: pd.DataFrame, *, subject: Subject = GENERIC) -> CheckResult:
    """Check whether the model takes columns as inputs whose groups it has to treat alike."""
    fairness = params.evaluation.gate.fairness
    if fairness is None:
        return make_check("LK903", None, "no columns are declared in `evaluation.gate.fairness`")
    used = importance[importance["column"].isin(fairness.columns)]
    if used.empty:
        names = ", ".join(subject.name_column(name) for name in fairness.columns)
        return make_check("LK903", True, f"{names}: no input of the model; related columns may stand in for it")
    named = [
        f"{subject.name_column(line['column'])} contributes {format_significant(line['size'])} on average"
        + (f", {format_share(line['share'])} of all contributions" if np.isfinite(line["share"]) else "")
        for line in used.to_dict("records")
    ]
    return make_check("LK903", False, "; ".join(named))
