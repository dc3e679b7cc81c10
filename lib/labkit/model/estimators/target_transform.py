"""Regressors that learn a skewed target on a transformed scale and predict in the target's own unit.

`log` is log(1 + y), for targets above -1; `yeo_johnson` is a power transform that makes any target approximately
normal (Yeo and Johnson, A new family of power transformations, Biometrika 2000). The regressor learns the mean on the
transformed scale; transformed back to the target's unit, it is closer to the median than to the mean.
"""

from typing import Any

import numpy as np
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin

from labkit.errors import ModelError

SMALLEST_POWER = 1e-6
"""Lower bound of the base of a power, and of the absolute exponent below which the logarithmic limit is used."""


class OnScale(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor fitted to a transformed target.

    Parameters
    ----------
    estimator
        The regressor, fitted in place.
    kind
        `log` or `yeo_johnson`.

    Attributes
    ----------
    power_
        Exponent of `yeo_johnson`; 0 for `log`, because with 0 the two are the same for targets above 0.
    center_, spread_
        Mean and standard deviation of the transformed target.
    low_, high_
        Limits of predictions on the transformed scale: half the range of the training target beyond its ends.
    """

    def __init__(self, estimator: Any, kind: str = "log") -> None:
        self.estimator = estimator
        self.kind = kind

    def fit(self, X: Any, y: Any) -> "OnScale":
        """Fit the inner estimator in place.

        Raises
        ------
        ModelError
            The transform is `log` and a target value is not above -1.
        """
        values = np.asarray(y, dtype="float64")
        if self.kind == "log" and values.min() <= -1:
            least = f"{values.min():g}"
            raise ModelError(
                f"training.target_transform: log needs target values above -1, not {least}: use yeo_johnson"
            )
        is_flat = np.ptp(values) == 0
        self.power_ = 0.0 if self.kind == "log" or is_flat else float(stats.yeojohnson_normmax(values))
        scaled = stats.yeojohnson(values, self.power_) if self.kind != "log" else np.log1p(values)
        self.center_, self.spread_ = float(scaled.mean()), float(scaled.std()) or 1.0
        span = float(np.ptp(scaled))
        self.low_, self.high_ = float(scaled.min() - span / 2), float(scaled.max() + span / 2)
        self.estimator.fit(X, (scaled - self.center_) / self.spread_)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return predictions in the target's unit, shape (n_rows,)."""
        scaled = np.asarray(self.estimator.predict(X), dtype="float64") * self.spread_ + self.center_
        return self.invert(np.clip(scaled, self.low_, self.high_))

    def invert(self, scaled: np.ndarray) -> np.ndarray:
        """Transform numbers back to the target's unit, shape (n_rows,)."""
        if self.kind == "log":
            return np.expm1(scaled)
        power, other = self.power_, 2 - self.power_
        up, down = np.maximum(scaled, 0), np.maximum(-scaled, 0)
        above = (
            np.expm1(up)
            if abs(power) < SMALLEST_POWER
            else np.maximum(power * up + 1, SMALLEST_POWER) ** (1 / power) - 1
        )
        below = (
            np.expm1(down)
            if abs(other) < SMALLEST_POWER
            else np.maximum(other * down + 1, SMALLEST_POWER) ** (1 / other) - 1
        )
        return np.where(scaled >= 0, above, -below)


def find_core(estimator: Any) -> Any:
    """Return the inner estimator, which has the hyperparameters; the estimator itself if it wraps none."""
    return estimator.estimator if isinstance(estimator, OnScale) else estimator
