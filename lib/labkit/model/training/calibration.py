"""Calibration of binary classifiers whose probabilities are systematically too high or too low.

The method is Platt's sigmoid (Probabilistic outputs for support vector machines, 1999) on the log odds. Its two
parameters are learned on rows later than those that the model was fitted on, and kept only if they help on rows that
are later still. Isotonic regression is not offered: its steps amplify differences in the last digits of float32, so the
ONNX graph would not agree with the model.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline

from labkit.data.timeline import Timeline
from labkit.features.row_features import RowFeatures
from labkit.model.estimators.calibrated import Calibrated, calibrate, compute_log_odds
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions, compute_predictions
from labkit.params.tables import Target
from labkit.units import format_with_difference

FEWEST_ROWS_TO_CHECK = 100


@dataclass(frozen=True)
class Calibration:
    """Whether probabilities are calibrated, and why.

    Attributes
    ----------
    reason
        Explanation in one sentence.
    log_loss_before, log_loss_after
        Log loss on the second half of the validation rows; None if calibration was not tried.
    before, after
        Predictions for these rows without and with calibration, for plots.
    """

    is_used: bool
    reason: str
    slope: float = 1.0
    intercept: float = 0.0
    log_loss_before: float | None = None
    log_loss_after: float | None = None
    before: Predictions | None = None
    after: Predictions | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data, without the predictions."""
        return {name: value for name, value in asdict(self).items() if name not in ("before", "after")}

    def apply(self, candidate: Pipeline) -> Pipeline:
        """Return a candidate with the calibration around its estimator if calibration is used."""
        if not self.is_used:
            return candidate
        wrapped = Calibrated(clone(candidate[-1]), self.slope, self.intercept)
        return Pipeline([*clone(candidate).steps[:-1], ("estimator", wrapped)])


def try_calibration(
    fitted: Pipeline,
    check: tuple[pd.DataFrame, pd.Series],
    *,
    target: Target,
    seed: int,
    blocks: Blocks,
    timeline: Timeline | None = None,
    is_wanted: bool = True,
) -> Calibration:
    """Learn the calibration on one half of the validation rows and evaluate it on the other, the later half in time.

    It is used if the mean log loss falls by more than one standard error of that decrease (paired over rows, computed
    from blocks of rows), if it preserves the order of the rows, and if its ONNX graph agrees with it.

    Parameters
    ----------
    fitted
        Preprocessing and estimator, fitted on training rows only.
    check
        Features and true values of the validation rows.
    blocks
        Blocks of validation rows that are not independent of each other.
    timeline
        Timeline of the validation rows, if they have times.
    is_wanted
        Value of `training.calibrate`.
    """
    if not is_wanted:
        return Calibration(is_used=False, reason="training.calibrate is off")
    if target.task != "classification" or len(fitted.classes_) != 2:
        return Calibration(is_used=False, reason="only probabilities of two classes are calibrated")
    n_rows = len(check[1])
    rows = np.random.default_rng(seed).permutation(n_rows) if timeline is None else np.arange(n_rows)
    first, second = rows[: n_rows // 2], rows[n_rows // 2 :]
    if timeline is not None:
        first = timeline.apply_embargo(first, second)
    if len(first) < FEWEST_ROWS_TO_CHECK or check[1].iloc[first].nunique() < 2:
        return Calibration(
            is_used=False, reason=f"half the validation rows are fewer than {FEWEST_ROWS_TO_CHECK}, or all of one class"
        )
    predictions = compute_predictions(check[1], fitted, check[0], target)
    slope, intercept = fit_sigmoid(predictions.y_proba[first, 1], predictions.y_true[first])
    before = predictions.take(second)
    y_proba = calibrate(before.y_proba[:, 1], slope, intercept)
    after = Predictions.from_proba(
        before.y_true, np.column_stack([1 - y_proba, y_proba]), before.classes, before.positive
    )
    losses = compute_losses(before), compute_losses(after)
    fall = losses[0] - losses[1]
    gain, error = float(fall.mean()), blocks.take(second).compute_error(fall)
    loss = float(losses[0].mean()), float(losses[1].mean())
    reason = describe_fall(*loss, error=error)
    is_used = gain > error and slope > 0
    if is_used and (fault := find_fault(fitted, check[0].iloc[second], slope, intercept)):
        is_used, reason = False, f"{reason}, but as an ONNX graph it {fault}"
    return Calibration(is_used, reason, slope, intercept, *loss, before, after)


def describe_fall(before: float, after: float, *, error: float) -> str:
    """Return how log loss changes and how uncertain that is.

    >>> describe_fall(0.43115191, 0.43991455, error=0.004)
    'log loss rises from 0.43115 to 0.43991, by 0.00876, with a standard error of 0.004'
    """
    first, last, fall = format_with_difference(before, after, error=error)
    verb = "falls" if before > after else "rises"
    return f"log loss {verb} from {first} to {last}, by {fall.removeprefix('-')}, with a standard error of {error:.1g}"


def fit_sigmoid(y_proba: np.ndarray, y_true: np.ndarray) -> tuple[float, float]:
    """Return the maximum-likelihood slope and intercept for the log odds."""
    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(compute_log_odds(y_proba)[:, None], y_true)
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def find_fault(fitted: Pipeline, features: pd.DataFrame, slope: float, intercept: float) -> str:
    """Return what is wrong with the ONNX graph of the calibrated model; empty if it agrees."""
    # It is also empty if the graph of the uncalibrated model does not agree either: then calibration is not the cause.
    from labkit.model.onnx.graph import make_graph

    rows = features.head(1000)
    start = ("row_features", RowFeatures().fit(rows))
    wrapped = Calibrated(fitted[-1], slope, intercept)
    wrapped.classes_ = fitted[-1].classes_
    plain = make_graph(Pipeline([start, *fitted.steps]), rows, tolerance=1e-5)[1]
    fixed = make_graph(Pipeline([start, *fitted.steps[:-1], ("estimator", wrapped)]), rows, tolerance=1e-5)[1]
    return fixed.reason if plain.is_equal else ""
