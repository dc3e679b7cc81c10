"""Checks of a release against the limits in the params, and against what the champion does for groups and clients.

Each returns a `labkit.model.evaluation.gate.Check` whose evidence names what was measured and the limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import DataError, list_briefly
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.curves import make_calibration
from labkit.model.evaluation.fairness import (
    ACCEPTED,
    FEWEST_ROWS_OF_GROUP,
    TOO_LARGE,
    Difference,
    compare_groups,
    find_rates,
    judge_differences,
    measure_groups,
)
from labkit.model.evaluation.gate import Check
from labkit.model.evaluation.metrics import GREATER_IS_BETTER, compute_metric, is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.params.evaluation import Fairness, Gate
from labkit.params.experiment import Params
from labkit.units import format_confidence, format_count, format_significant

GROUPS_DIFFER = "groups differ"
"""Beginning of the warning about a difference that may be too large."""


def check_required_value(metric: str, value: float, gate: Gate) -> list[Check]:
    """Check whether the metric reaches the required value; no check if none is required."""
    if gate.required_value is None:
        return []
    limit = gate.required_value
    passed = value >= limit if is_greater_better(metric) else value <= limit
    bound = "at least" if is_greater_better(metric) else "at most"
    evidence = (
        f"{metric} is {format_significant(value)} on the holdout; {bound} {format_significant(limit)} is required"
    )
    return [Check("reaches the required value", passed, evidence)]


def check_calibration(predictions: Predictions, gate: Gate) -> list[Check]:
    """Check whether predictions are calibrated well enough; no check if no limit is declared.

    The calibration error is the mean difference between mean prediction and mean true value in ten groups of similar
    predictions, weighted by rows (Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian
    Binning, AAAI 2015). With more than two classes, it is the mean over the classes, each against the others (Kull et
    al., Beyond Temperature Scaling, NeurIPS 2019).
    """
    if gate.most_miscalibration is None:
        return []
    n_classes = len(predictions.classes)
    each = [replace(predictions, positive=code) for code in range(n_classes)] if n_classes > 2 else [predictions]
    error = float(np.mean([compute_calibration_error(one) for one in each]))
    evidence = "in groups of similar predictions, mean prediction and mean true value differ by "
    evidence += f"{error:.3g} on average{f' over the {n_classes} classes' if n_classes > 2 else ''}; "
    evidence += f"at most {gate.most_miscalibration:g} is accepted"
    return [Check("calibrated well enough", error <= gate.most_miscalibration, evidence)]


def compute_calibration_error(predictions: Predictions) -> float:
    """Return the calibration error of the class of interest, or of the predicted numbers."""
    groups = make_calibration(predictions)
    return float(np.average((groups["prediction"] - groups["true"]).abs(), weights=groups["rows"]))


def check_speed(milliseconds: float, gate: Gate) -> list[Check]:
    """Check whether one row is predicted fast enough; no check if no limit is declared."""
    if gate.most_milliseconds is None:
        return []
    evidence = f"one row takes {milliseconds:.3g} ms from raw columns to prediction on this machine; at most "
    evidence += f"{gate.most_milliseconds:g} ms are accepted"
    return [Check("predicts fast enough", milliseconds <= gate.most_milliseconds, evidence)]


def check_fitted_rows(n_shared: int | None, n_rows: int, *, is_refitted: bool = False) -> Check:
    """Check whether no holdout row was among those that the evaluated model was fitted on.

    Parameters
    ----------
    n_shared
        Number of holdout rows that it was fitted on; None if the model does not hold which rows it was fitted on.
    n_rows
        Number of holdout rows.
    is_refitted
        Whether another model was published: the evaluated one, refitted on all rows.
    """
    name = "trained without holdout rows"
    if n_shared is None:
        return Check(
            name, False, "the model does not hold the hashes of its training rows: fit it with `fit_model`, as 04 does"
        )
    evidence = f"{n_shared:,} of {format_count(n_rows, 'holdout row')} are among "
    evidence += "the training rows of the model before it was refitted" if is_refitted else "its training rows"
    remedy = ": its metrics are not those of unseen rows; leave the holdout out of what it is fitted on"
    return Check(name, n_shared == 0, evidence + (remedy if n_shared else ""))


@dataclass(frozen=True)
class DeclaredGroups:
    """How a model treats the groups of `evaluation.gate.fairness`.

    Attributes
    ----------
    table
        As returned by `labkit.model.evaluation.fairness.measure_groups`, of all columns; empty if none are declared.
    check
        As returned by `check_declared_groups`; None if none are declared.
    differences
        As returned by `compare_declared_groups`.
    """

    table: pd.DataFrame
    check: Check | None
    differences: Sequence[Difference] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the groups and the differences between them as plain data."""
        differences = [
            {
                "column": one.column, "rate": one.rate, "highest": one.highest[0], "lowest": one.lowest[0],
                **one.difference.to_dict(), "left_out": one.n_left_out,
            }
            for one in self.differences
        ]  # fmt: skip
        return {"groups": self.table.to_dict("records"), "group_differences": differences}


def evaluate_groups(
    params: Params, holdout: pd.DataFrame, ours: Predictions, threshold: float | None, *, blocks: Blocks
) -> DeclaredGroups:
    """Measure the declared groups one by one, and check the differences between them."""
    limits, evaluation = params.evaluation.gate.fairness, params.evaluation
    differences = compare_declared_groups(params, holdout, ours, threshold, blocks=blocks)
    if limits is None or differences is None:
        return DeclaredGroups(pd.DataFrame(), None)
    check = check_differences(params, differences, ours)
    decided, drawn = apply_threshold(ours, threshold), {"n_samples": evaluation.bootstrap_samples, "seed": params.seed}
    tables = [
        measure_groups(holdout[name], decided, confidence=evaluation.confidence, blocks=blocks, **drawn)
        for name in limits.columns
    ]
    return DeclaredGroups(pd.concat(tables, ignore_index=True), check, differences)


def apply_threshold(ours: Predictions, threshold: float | None) -> Predictions:
    """Return predictions by the threshold in force, if there is one."""
    return ours if threshold is None or len(ours.classes) != 2 else ours.decide(threshold)


def check_declared_groups(
    params: Params, holdout: pd.DataFrame, ours: Predictions, threshold: float | None, *, blocks: Blocks
) -> Check | None:
    """Check the differences between the groups of `evaluation.gate.fairness`; None if none are declared.

    Raises
    ------
    DataError
        The holdout does not have a declared column.
    """
    found = compare_declared_groups(params, holdout, ours, threshold, blocks=blocks)
    return None if found is None else check_differences(params, found, ours)


def compare_declared_groups(
    params: Params, holdout: pd.DataFrame, ours: Predictions, threshold: float | None, *, blocks: Blocks
) -> list[Difference] | None:
    """Return the largest differences between the groups of each declared column; None if none are declared.

    Raises
    ------
    DataError
        The holdout does not have a declared column.
    """
    limits, evaluation = params.evaluation.gate.fairness, params.evaluation
    if limits is None:
        return None
    if missing := [name for name in limits.columns if name not in holdout]:
        raise DataError(
            f"evaluation.gate.fairness.columns: the clean rows have no column {missing[0]!r}: "
            "do not drop it in `wrangling.drop`, or leave it out"
        )
    decided = apply_threshold(ours, threshold)
    return [
        one
        for name in limits.columns
        for one in compare_groups(
            holdout[name], decided, rates=limits.rates, n_samples=evaluation.bootstrap_samples,
            confidence=evaluation.confidence, seed=params.seed, blocks=blocks,
        )
    ]  # fmt: skip


def check_differences(params: Params, found: Sequence[Difference], ours: Predictions) -> Check | None:
    """Check the differences that `compare_declared_groups` returns; None if no columns are declared."""
    limits = params.evaluation.gate.fairness
    if limits is None:
        return None
    compared = {(one.column, one.rate) for one in found}
    asked = [(name, rate) for name in limits.columns for rate in find_rates(ours, limits.rates)]
    left_out = [f"{rate} by {name}" for name, rate in asked if (name, rate) not in compared]
    return check_fairness(found, limits, confidence=params.evaluation.confidence, left_out=left_out)


def check_fairness(
    differences: Sequence[Difference], limits: Fairness, *, confidence: float, left_out: Sequence[str] = ()
) -> Check:
    """Check whether no difference between groups is shown to exceed the limit.

    A difference beyond the limit whose interval includes the limit could be chance: the check passes with a warning.

    Parameters
    ----------
    differences
        As returned by `labkit.model.evaluation.fairness.compare_groups`, of all columns.
    left_out
        What could not be compared, in words.
    """
    name, limit, sure = "treats groups alike", limits.most_difference, format_confidence(confidence)
    small = f"fewer than two groups have {FEWEST_ROWS_OF_GROUP} rows that count"
    if not differences:
        columns = ", ".join(limits.columns)
        evidence, warning = f"{columns}: {small}, so nothing was compared", "groups too small to compare"
        return Check(name, True, evidence, warning=warning)
    judged = judge_differences([one.difference for one in differences], limit)
    shown = [differences[place] for place, verdict in judged if verdict == TOO_LARGE]
    beyond = [differences[place] for place, verdict in judged if verdict != ACCEPTED]
    worst = shown or beyond or [differences[place] for place, _ in judged]
    lines = [
        f"{one.rate} {one.highest[1]:.3g} where {one.column} is {one.highest[0]}, {one.lowest[1]:.3g} where it is "
        f"{one.lowest[0]}: a difference of {one.difference.value:.3g} ({describe_interval(one.difference, sure)})"
        for one in worst
    ]
    evidence = f"{list_briefly(lines, 3)}; at most {limit:g} is accepted"
    if n_small := max(one.n_left_out for one in differences):
        evidence += f"; {format_count(n_small, 'group')} with fewer than {FEWEST_ROWS_OF_GROUP} rows left out"
    if left_out:
        evidence += f"; not compared, as {small}: {list_briefly(left_out)}"
    warnings = [f"{GROUPS_DIFFER} by {worst[0].column}, {judged[0][1]}"] if beyond and not shown else []
    warnings += ["some groups too small to compare"] if left_out else []
    return Check(name, not shown, evidence, warning="; ".join(warnings))


def describe_interval(difference: Interval, confidence: str) -> str:
    """Describe the interval of a difference, or why there is none."""
    if np.isnan([difference.low, difference.high]).any():
        return "no interval: too few independent rows"
    return f"{confidence} interval {difference.low:.3g} to {difference.high:.3g}"


def check_slices(
    compared: pd.DataFrame, ours: Predictions, theirs: Predictions, gate: Gate, *, metric: str, champion: str
) -> Check:
    """Check whether the model is not much worse than the champion on any group of rows.

    A group counts if the losses of its rows are larger beyond random variation, and if the metric is worse by more than
    the accepted loss.

    Parameters
    ----------
    compared
        As returned by `labkit.model.evaluation.slice_comparison.compare_slices`, of groups of at least 50 rows.
    ours, theirs
        Predictions of the model and of the champion.
    champion
        Name of the champion in the evidence.
    """
    lost: list[tuple[str, str, float, float, float]] = []
    for line in compared[compared["gain"] < 0].to_dict("records"):
        places = np.asarray(line["places"])
        named, own, their, loss = measure_loss(metric, ours.take(places), theirs.take(places))
        lost.append((f"{line['slice']} ({format_count(len(places), 'row')})", named, own, their, loss))
    bad = sorted((line for line in lost if line[4] > gate.slice_tolerance), key=lambda line: -line[4])
    name = "no group of rows much worse than before"
    if not bad:
        evidence = f"no group of at least {FEWEST_ROWS_OF_GROUP} rows is shown to lose more than "
        return Check(name, True, f"{evidence}{describe_loss(metric, gate.slice_tolerance)} against {champion}")
    lines = [
        f"where {slice_} {named} is {format_significant(own)}, {format_significant(their)} with {champion}"
        for slice_, named, own, their, _ in bad
    ]
    accepted = " or ".join(describe_loss(one, gate.slice_tolerance) for one in dict.fromkeys(line[1] for line in bad))
    return Check(name, False, f"{list_briefly(lines, 3)}; a loss of at most {accepted} is accepted")


def describe_loss(metric: str, tolerance: float) -> str:
    """Return an accepted loss with its unit.

    >>> describe_loss("roc_auc", 0.05), describe_loss("mae", 0.05)
    ('0.05 in roc_auc', '5 % of the value in mae')
    """
    amount = f"{tolerance:g}" if metric in GREATER_IS_BETTER else f"{100 * tolerance:g} % of the value"
    return f"{amount} in {metric}"


def measure_loss(metric: str, ours: Predictions, theirs: Predictions) -> tuple[str, float, float, float]:
    """Return the metric used, its value for both, and how much worse ours is: in points, or as a share of theirs.

    Accuracy replaces a metric that is undefined on the rows, as the area under a curve is where one class occurs.
    """
    named = metric
    own, their = (compute_metric(named, one) for one in (ours, theirs))
    if ours.classes and np.isnan([own, their]).any():
        named = "accuracy"
        own, their = (compute_metric(named, one) for one in (ours, theirs))
    if named in GREATER_IS_BETTER:
        return named, own, their, their - own
    worse = their - own if is_greater_better(named) else own - their
    return named, own, their, worse / max(abs(their), 1e-12)


def check_contract(refusals: Sequence[str] | None, *, champion: str) -> Check:
    """Check whether the model accepts every request that the champion accepts.

    Parameters
    ----------
    refusals
        As returned by `labkit.model.release.contract_changes.list_refusals`; None if nothing could be compared.
    """
    name = "accepts what the champion accepts"
    if refusals is None:
        return Check(name, True, f"{champion} has no contract, so it is not known which requests it accepts")
    if not refusals:
        return Check(name, True, f"no request that {champion} accepts would be refused")
    evidence = f"requests that {champion} accepts would be refused: {list_briefly(refusals)}: tell the clients, then "
    return Check(name, False, f"{evidence}promote it by hand")
