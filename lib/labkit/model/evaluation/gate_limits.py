"""Checks of a release against the limits in the params, and against what the champion does for groups and clients.

Each returns a `labkit.model.evaluation.gate.Check` whose evidence names what was measured and the limit.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from labkit.errors import list_briefly
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.curves import make_calibration
from labkit.model.evaluation.fairness import FEWEST_ROWS_OF_GROUP, Difference
from labkit.model.evaluation.gate import Check, format_metric
from labkit.model.evaluation.metrics import GREATER_IS_BETTER, compute_metric, is_greater_better
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slice_comparison import compare_slices
from labkit.params.evaluation import Fairness, Gate
from labkit.units import format_confidence, format_count


def check_required_value(metric: str, value: float, gate: Gate) -> list[Check]:
    """Check whether the metric reaches the required value; no check if none is required."""
    if gate.worst_value is None:
        return []
    limit = gate.worst_value
    passed = value >= limit if is_greater_better(metric) else value <= limit
    bound = "at least" if is_greater_better(metric) else "at most"
    evidence = f"{metric} is {format_metric(value)} on the holdout; {bound} {format_metric(limit)} is required"
    return [Check("reaches the required value", passed, evidence)]


def check_calibration(predictions: Predictions, gate: Gate) -> list[Check]:
    """Check whether predictions are calibrated well enough; no check if no limit is declared.

    The calibration error is the mean difference between mean prediction and mean true value in ten groups of similar
    predictions, weighted by rows (Naeini, Cooper and Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian
    Binning, AAAI 2015); for more than two classes, of the last one.
    """
    if gate.most_miscalibration is None:
        return []
    groups = make_calibration(predictions)
    error = float(np.average((groups["prediction"] - groups["true"]).abs(), weights=groups["rows"]))
    evidence = f"in {format_count(len(groups), 'group')} of similar predictions, mean prediction and mean true value "
    evidence += f"differ by {error:.3g} on average; at most {gate.most_miscalibration:g} is accepted"
    return [Check("calibrated well enough", error <= gate.most_miscalibration, evidence)]


def check_speed(milliseconds: float, gate: Gate) -> list[Check]:
    """Check whether one row is predicted fast enough; no check if no limit is declared."""
    if gate.most_milliseconds is None:
        return []
    evidence = f"one row takes {milliseconds:.3g} ms from raw columns to prediction on this machine; at most "
    evidence += f"{gate.most_milliseconds:g} ms are accepted"
    return [Check("predicts fast enough", milliseconds <= gate.most_milliseconds, evidence)]


def check_fitted_rows(n_shared: int | None, n_rows: int) -> Check:
    """Check whether no holdout row was among those that the model was fitted on.

    Parameters
    ----------
    n_shared
        Number of holdout rows that it was fitted on; None if the model does not hold which rows it was fitted on.
    n_rows
        Number of holdout rows.
    """
    name = "trained without holdout rows"
    if n_shared is None:
        return Check(
            name, False, "the model does not hold the hashes of its training rows: fit it with `fit_model`, as 04 does"
        )
    evidence = f"{n_shared:,} of {format_count(n_rows, 'holdout row')} are among its training rows"
    remedy = ": its metrics are not those of unseen rows; leave the holdout out of what it is fitted on"
    return Check(name, n_shared == 0, evidence + (remedy if n_shared else ""))


def check_fairness(differences: Sequence[Difference], limits: Fairness, *, confidence: float) -> Check:
    """Check whether no difference between groups is shown to exceed the limit.

    A difference beyond the limit whose interval includes the limit could be chance: the check passes with a warning.

    Parameters
    ----------
    differences
        As returned by `labkit.model.evaluation.fairness.compare_groups`, of all columns.
    """
    name, limit, sure = "treats groups alike", limits.most_difference, format_confidence(confidence)
    if not differences:
        columns = ", ".join(limits.columns)
        return Check(
            name,
            True,
            f"{columns}: fewer than two groups have {FEWEST_ROWS_OF_GROUP} rows that count, so nothing was compared",
            warning="groups too small to compare",
        )
    shown = [one for one in differences if one.difference.low > limit]
    beyond = [one for one in differences if one.difference.value > limit]
    worst = sorted(shown or beyond or differences, key=lambda one: -one.difference.value)
    lines = [
        f"{one.rate} {one.highest[1]:.3g} where {one.column} is {one.highest[0]}, {one.lowest[1]:.3g} where it is "
        f"{one.lowest[0]}: a difference of {one.difference.value:.3g} ({sure} interval {one.difference.low:.3g} to "
        f"{one.difference.high:.3g})"
        for one in worst
    ]
    evidence = f"{list_briefly(lines, 3)}; at most {limit:g} is accepted"
    if left_out := max(one.n_left_out for one in differences):
        evidence += f"; {format_count(left_out, 'group')} with fewer than {FEWEST_ROWS_OF_GROUP} rows left out"
    warning = f"groups differ by {worst[0].column}, perhaps by chance" if beyond and not shown else ""
    return Check(name, not shown, evidence, warning=warning)


def check_slices(
    rows: pd.DataFrame,
    ours: Predictions,
    theirs: Predictions,
    gate: Gate,
    *,
    metric: str,
    confidence: float,
    blocks: Blocks,
    champion: str,
) -> Check:
    """Check whether the model is not much worse than the champion on any group of rows.

    Groups are the value ranges and frequent values of all raw columns with at least 50 rows. One counts if the losses
    of its rows are larger beyond random variation, see `labkit.model.evaluation.slice_comparison`, and if the metric is
    worse by more than the accepted loss.

    Parameters
    ----------
    rows
        Raw columns of the holdout.
    ours, theirs
        Predictions of the model and of the champion for these rows.
    champion
        Name of the champion in the evidence.
    """
    found = compare_slices(rows, ours, theirs, confidence=confidence, blocks=blocks, fewest=FEWEST_ROWS_OF_GROUP)
    lost: list[tuple[str, str, float, float, float]] = []
    for line in found[found["gain"] < 0].to_dict("records"):
        places = np.asarray(line["places"])
        named, own, their, loss = measure_loss(metric, ours.take(places), theirs.take(places))
        lost.append((f"{line['slice']} ({format_count(len(places), 'row')})", named, own, their, loss))
    bad = sorted((line for line in lost if line[4] > gate.slice_tolerance), key=lambda line: -line[4])
    name, unit = "no group of rows much worse than before", "" if metric in GREATER_IS_BETTER else " of its value"
    if not bad:
        evidence = f"on no group of at least {FEWEST_ROWS_OF_GROUP} rows it is shown to lose more than "
        return Check(name, True, f"{evidence}{gate.slice_tolerance:g}{unit} in {metric} against {champion}")
    lines = [
        f"where {slice_} {named} is {format_metric(own)}, {format_metric(their)} with {champion}"
        for slice_, named, own, their, _ in bad
    ]
    return Check(name, False, f"{list_briefly(lines, 3)}; a loss of at most {gate.slice_tolerance:g}{unit} is accepted")


def measure_loss(metric: str, ours: Predictions, theirs: Predictions) -> tuple[str, float, float, float]:
    """Return the metric used, its value for both, and how much worse ours is: in points, or as a share of theirs.

    Accuracy replaces a metric that is undefined on the rows, as the area under a curve is where one class occurs.
    """
    named = metric if ours.classes == () or len(np.unique(ours.y_true)) > 1 else "accuracy"
    own, their = (compute_metric(named, one) for one in (ours, theirs))
    if named in GREATER_IS_BETTER:
        return named, own, their, their - own
    worse = their - own if is_greater_better(named) else own - their
    return named, own, their, worse / max(abs(their), 1e-12)


def check_contract(refusals: Sequence[str], *, champion: str) -> Check:
    """Check whether the model accepts every request that the champion accepts.

    Parameters
    ----------
    refusals
        As returned by `labkit.model.release.contract_changes.list_refusals`.
    """
    name = "accepts what the champion accepts"
    if not refusals:
        return Check(name, True, f"no request that {champion} accepts would be refused")
    evidence = f"requests that {champion} accepts would be refused: {list_briefly(refusals)}: tell the clients, then "
    return Check(name, False, f"{evidence}promote it by hand")
