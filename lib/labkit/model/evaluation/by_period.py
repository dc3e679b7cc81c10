"""Model performance by period, where rows have a time.

It does not measure drift of the columns: it considers only predictions and true values.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import ModelError, list_briefly
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.bootstrap import Interval, compute_means, draw_weights, make_interval
from labkit.model.evaluation.metrics import compute_metric, make_score
from labkit.model.evaluation.predictions import Predictions
from labkit.units import format_column, format_count

UNITS = {"year": "Y", "quarter": "Q", "month": "M", "week": "W", "day": "D"}
MOST_PERIODS = 14
FEWEST_ROWS_OF_PERIOD = 30


def find_unit(times: pd.Series, *, fewest: int = 2) -> str:
    """Return the calendar unit that divides the times into `fewest` to `MOST_PERIODS` periods.

    This is `month` if possible, otherwise the largest suitable unit. If no unit is suitable, it is `year` if even the
    years are too many, else `day`.

    >>> find_unit(pd.Series(pd.to_datetime(["2013-09-03", "2013-09-09", "2013-09-30"])))
    'week'
    """
    units = ["month", *UNITS]
    sizes = {unit: times.dt.tz_localize(None).dt.to_period(UNITS[unit]).nunique() for unit in UNITS}
    fitting = [unit for unit in units if fewest <= sizes[unit] <= MOST_PERIODS]
    return fitting[0] if fitting else "year" if sizes["year"] > MOST_PERIODS else "day"


def name_periods(times: pd.Series, unit: str = "month") -> pd.Series:
    """Return the name of each row's period in the times' own zone, such as `2013-09`; names sort chronologically.

    The first and the last period are named with their number of days if the times do not reach to both ends of it.

    >>> name_periods(pd.Series(pd.to_datetime(["2013-09-01", "2013-10-04"]))).tolist()
    ['2013-09', '2013-10 (4 days)']
    """
    local = times.dt.tz_localize(None)
    starts = local.dt.to_period(UNITS[unit])
    named = starts.dt.start_time.dt.strftime("%Y-%m-%d") if unit in ("week", "day") else starts.astype(str)
    for edge in {starts.min(), starts.max()} if len(times) else ():
        first, last = edge.start_time, edge.end_time.normalize()
        reached = max(first, local.min().normalize()), min(last, local.max().normalize())
        if reached != (first, last):
            named += np.where(starts == edge, f" ({format_count((reached[1] - reached[0]).days + 1, 'day')})", "")
    return named


def summarise_spread(periods: pd.DataFrame, unit: str, *, n_classes: int = 0) -> dict[str, Any]:
    """Return the best and the worst period by the metric, and those in which predictions were most off on average.

    Parameters
    ----------
    periods
        As `compute_by_period` returns it, its first model named `model`.
    n_classes
        Number of classes; 0 for regression.

    Returns
    -------
    dict
        `unit`, `n_classes`, and `metric` and `bias` (mean prediction minus mean true value, as
        `labkit.model.evaluation.bootstrap.compute_means` defines them), each with the `low` and the `high` end as value
        and name of the period. Empty if fewer than two periods have both.
    """
    known = periods[np.isfinite(periods["model"])] if len(periods) else periods
    if len(known) < 2:
        return {}
    spread: dict[str, Any] = {"unit": unit, "n_classes": n_classes}
    for name, values in (("metric", known["model"]), ("bias", known["prediction"] - known["true"])):
        ends = {"low": values.to_numpy().argmin(), "high": values.to_numpy().argmax()}
        spread[name] = {end: [float(values.iloc[at]), str(known["period"].iloc[at])] for end, at in ends.items()}
    return spread


def describe_spread(spread: Mapping[str, Any], metric: str) -> str:
    """Return what `summarise_spread` found as a sentence; empty if it found nothing.

    Examples
    --------
    >>> ends = {"low": [0.58, "2013-09"], "high": [0.7, "2013-10"]}
    >>> describe_spread({"unit": "month", "metric": ends, "bias": ends}, "f1").split(", its mean")[0]
    'By month, its f1 is between 0.580 in 2013-09 and 0.700 in 2013-10'
    """
    if not spread:
        return ""
    spans = []
    for name, sign in (("metric", ""), ("bias", "+")):
        values, periods = zip(*(spread[name][end] for end in ("low", "high")), strict=True)
        shown = [sign * (value > 0) + text for value, text in zip(values, format_column(values), strict=True)]
        spans.append(" and ".join(f"{value} in {period}" for value, period in zip(shown, periods, strict=True)))
    many = spread.get("n_classes", 0) > 2
    bias = "mean confidence minus the fraction that is right" if many else "mean prediction minus the mean outcome"
    return f"By {spread['unit']}, its {metric} is between {spans[0]}, its {bias} between {spans[1]}."


def compute_by_period(
    name: str,
    predictions: Mapping[str, Predictions],
    periods: pd.Series,
    *,
    n_samples: int,
    confidence: float,
    seed: int,
    blocks: Blocks,
) -> pd.DataFrame:
    """Compute one metric of several models in each period.

    Parameters
    ----------
    predictions
        Predictions of each model for the same rows; the interval is computed for the first model.
    periods
        Name of each row's period, shape (n_rows,).
    blocks
        Blocks to resample for the interval. A period of a single block has no interval.

    Returns
    -------
    pandas.DataFrame
        One row per period that has enough rows and, for classification, at least two classes: `period`, `rows`, `true`
        and `prediction` as in `labkit.model.evaluation.bootstrap.compute_means`, `low` and `high` (of the first model),
        and the metric of each model under its name. Without columns if there is no such period. A metric of the user's
        own that fails on the rows of a period is NaN there, and so are the limits if it fails on a draw of them.
    """
    lines = []
    for period in sorted(set(periods)):
        place = np.flatnonzero((periods == period).to_numpy())
        part = {model: found.take(place) for model, found in predictions.items()}
        first = next(iter(part.values()))
        if len(place) < FEWEST_ROWS_OF_PERIOD or (first.classes and len(np.unique(first.y_true)) < 2):
            continue
        values = {model: compute_known(name, found) for model, found in part.items()}
        own = blocks.take(place)
        interval = Interval(next(iter(values.values())), np.nan, np.nan)
        with suppress(ModelError):
            score = make_score(name, first)
            draws = [score(weights) for weights in draw_weights(first, n_samples, seed=seed, blocks=own)]
            interval = make_interval(interval.value, draws, confidence, own)
        line = {
            "period": period,
            "rows": len(place),
            **compute_means(first),
            "low": interval.low,
            "high": interval.high,
        }
        lines.append(line | values)
    return pd.DataFrame(lines)


def compute_known(name: str, predictions: Predictions) -> float:
    """Return a metric; NaN where one of the user's own fails on these rows."""
    with suppress(ModelError):
        return compute_metric(name, predictions)
    return np.nan


def describe_uncomputed(periods: pd.DataFrame, metric: str, unit: str) -> str:
    """Return the periods in which a metric could not be computed as a sentence; empty if there are none.

    Parameters
    ----------
    periods
        As `compute_by_period` returns it, its first model named `model`.

    Examples
    --------
    >>> describe_uncomputed(pd.DataFrame({"period": ["2013-09", "2013-10"], "model": [0.7, np.nan]}), "profit", "month")
    'profit is not computed in 1 month, on whose rows it fails or is undefined: 2013-10.'
    """
    failed = periods.loc[periods["model"].isna(), "period"].tolist() if len(periods) else []
    if not failed:
        return ""
    where = f"{format_count(len(failed), unit)}, on whose rows it fails or is undefined"
    return f"{metric} is not computed in {where}: {list_briefly(failed)}."
