"""Proof that an ONNX graph makes the predictions of the pipeline that it was converted from."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import get_first_line
from labkit.features.table_columns import take_columns
from labkit.model.onnx.session import Graph


@dataclass(frozen=True)
class Parity:
    """Difference between the predictions of the graph and of the pipeline, on the same raw rows.

    Attributes
    ----------
    largest_difference
        Largest absolute difference of probabilities, or of predictions divided by the largest absolute prediction for a
        real row, or by the row's own absolute prediction if that is larger.
    reason
        Why there is no graph; empty if there is a graph and it is equal.
    """

    rows: int
    largest_difference: float | None
    tolerance: float
    reason: str

    @property
    def is_equal(self) -> bool:
        """Whether the graph may replace the pipeline."""
        return not self.reason

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain data."""
        return asdict(self)

    def describe_served(self) -> str:
        """Return in which form the model is served.

        >>> Parity(1429, 4.46e-16, 1e-05, "").describe_served()
        'served as an ONNX graph that differs from the pipeline by at most 4.5e-16 on 1,429 rows'
        >>> Parity(0, None, 1e-05, "`deploy.onnx` is off").describe_served()
        'served as scikit-learn pipeline, without an ONNX graph: `deploy.onnx` is off'
        """
        if not self.is_equal:
            return f"served as scikit-learn pipeline, without an ONNX graph: {self.reason}"
        return (
            f"served as an ONNX graph that differs from the pipeline by at most {self.largest_difference:.1e} on "
            f"{self.rows:,} rows"
        )


def prove_parity(
    model: Any, graph: Graph, frame: pd.DataFrame, *, tolerance: float, hard: pd.DataFrame | None = None
) -> Parity:
    """Compare the graph's predictions from raw columns with those of the pipeline.

    Parameters
    ----------
    frame
        Real raw rows, shape (n_rows, n_columns).
    tolerance
        Largest accepted difference; see `Parity`.
    hard
        Rows made by `labkit.model.onnx.hard_rows`.
    """
    real = frame[list(model[0].inputs_)]
    rows = real if hard is None else pd.concat([real, hard[list(real)]], ignore_index=True)
    expected = predict_with_pipeline(model, real)
    try:
        if hard is not None:
            expected = np.concatenate([expected, predict_with_pipeline(model, hard)])
        found = graph.predict(take_columns(rows, model[0].inputs_))
    except Exception as error:  # onnxruntime and the estimators raise errors of many types
        return Parity(len(rows), None, tolerance, f"fails on rows that may occur: {get_first_line(error)}")
    if found.shape != expected.shape or not (np.isfinite(found) & np.isfinite(expected)).all():
        return Parity(len(rows), None, tolerance, "the graph's predictions have another shape, or some are not finite")
    difference = float(compute_differences(expected, found, n_real=len(real)).max())
    reason = "" if difference <= tolerance else f"differs by {difference:.2g}, more than {tolerance:.2g}"
    return Parity(len(rows), float(f"{difference:.3g}"), tolerance, reason)


def compute_differences(expected: np.ndarray, found: np.ndarray, *, n_real: int) -> np.ndarray:
    """Return the difference of each row's predictions; see `Parity.largest_difference`.

    Parameters
    ----------
    expected, found
        Probabilities, shape (n_rows, n_classes), or numbers, shape (n_rows,).
    n_real
        Number of rows, the first ones, that are real.

    Returns
    -------
    numpy.ndarray
        Shape (n_rows,).
    """
    difference = np.abs(found - expected)
    if expected.ndim > 1:
        return np.asarray(difference.max(axis=1))
    return np.asarray(difference / np.maximum(np.abs(expected), max(float(np.abs(expected[:n_real]).max()), 1e-12)))


def predict_with_pipeline(model: Any, frame: pd.DataFrame) -> np.ndarray:
    """Return a pipeline's probabilities, shape (n_rows, n_classes), or predicted numbers, shape (n_rows,)."""
    is_classifier = hasattr(model[-1], "predict_proba")
    with np.errstate(all="ignore"):  # scikit-learn sums extreme numbers in its check for infinity
        return np.asarray(model.predict_proba(frame) if is_classifier else model.predict(frame))
