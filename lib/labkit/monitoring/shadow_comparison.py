"""How a challenger in the shadow predicts beside the champion, on the rows that the service logged.

Rows of one request may be alike, so intervals treat requests, not rows, as independent (Cochran, Sampling Techniques,
3rd ed., 6.3: the variance of a ratio estimate from clusters).
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from labkit import paths
from labkit.errors import ParamsError
from labkit.monitoring.current_rows import to_floats
from labkit.params.experiment import Params
from labkit.serving.prediction_log import CANARY, iterate_lines
from labkit.serving.settings import FEEDBACK, LOG, SHADOW
from labkit.units import format_count, format_difference, format_number, format_share

MOST_ROWS = 500_000
"""Latest rows that are compared."""
CRITICAL = 1.959964
"""Quantile of the normal distribution for 95 % intervals."""
FEWEST_REQUESTS = 2


@dataclass(frozen=True)
class Mean:
    """A mean over rows, with its 95 % interval; NaN for the interval of fewer than two requests."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ShadowComparison:
    """A champion and its challenger on the same rows.

    Attributes
    ----------
    champion, challenger
        Versions; of several, the pair of the latest row.
    first, last
        Times of the first and the last row, as logged.
    n_other
        Rows of other pairs, not compared.
    agreement
        Share of rows with the same predicted class; None for a regression.
    of
        What `difference` is of: the prediction, or the probability of a class; empty with more than two classes.
    difference
        Challenger less champion.
    n_true
        Rows with a true value reported to the service.
    champion_error, challenger_error, error_difference
        Share of these that is wrong, or mean absolute error; the last is the challenger's less the champion's.
    n_canary
        Logged rows that the challenger itself answered.
    """

    experiment: str
    champion: int | None
    challenger: int | None
    n_rows: int
    n_requests: int
    first: str
    last: str
    n_other: int
    agreement: Mean | None
    of: str
    difference: Mean | None
    n_true: int
    champion_error: float | None
    challenger_error: float | None
    error_difference: Mean | None
    n_canary: int

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)

    def describe(self) -> list[tuple[str, str]]:
        """Return the comparison as pairs of a heading and a text."""
        requests = format_count(self.n_requests, "request")
        rows = f"{format_count(self.n_rows, 'row')} of {requests}, {self.first} to {self.last}"
        lines = [("champion", f"version {self.champion}"), ("challenger", f"version {self.challenger}"), ("rows", rows)]
        if self.n_other:
            lines.append(("left out", f"{format_count(self.n_other, 'row')} of other versions"))
        if self.agreement is not None:
            ends = f"95 % interval {format_share(self.agreement.low, 1)} to {format_share(self.agreement.high, 1)}"
            known = ends if np.isfinite(self.agreement.low) else "no interval for one request"
            lines.append(("same class", f"{format_share(self.agreement.value, 1)} ({known})"))
        if self.difference is not None:
            lines.append((f"difference of the {self.of}", show_difference(self.difference)))
        lines += self.describe_errors()
        if self.n_canary:
            lines.append(("canary", f"{format_count(self.n_canary, 'row')} answered by the challenger itself"))
        return lines

    def describe_errors(self) -> list[tuple[str, str]]:
        """Return what is known from true values."""
        if self.champion_error is None or self.challenger_error is None or self.error_difference is None:
            return [("true values", "none yet for these rows: POST /feedback")]
        name = "mean absolute error" if self.agreement is None else "share of wrong classes"
        values = f"champion {format_number(self.champion_error)}, challenger {format_number(self.challenger_error)}"
        return [
            ("true values", f"for {format_count(self.n_true, 'row')}"),
            (name, f"{values}: {show_difference(self.error_difference)}"),
        ]


def show_difference(mean: Mean) -> str:
    """Return the mean of a difference for people."""
    return f"{format_difference(mean.value, mean.low, mean.high)} (challenger less champion)"


def compare_shadow(params: Params, folder: Path | None = None) -> ShadowComparison:
    """Compare the logged predictions of the champion with those of its challenger for the same rows.

    Parameters
    ----------
    folder
        What `labkit serve` keeps; None for its usual folder.

    Raises
    ------
    ParamsError
        No challenger has predicted anything.
    """
    folder = folder or paths.find_serving_dir(params.experiment)
    pairs, n_canary = load_pairs(folder)
    if pairs.empty:
        what = f"{paths.show_path(folder)}: no row was predicted by a challenger as well"
        raise ParamsError(f"{what}: `labkit serve {params.experiment} --shadow VERSION`, then send requests")
    latest = pairs.iloc[-1]
    is_pair = (pairs[["digest", "digest_shadow"]] == latest[["digest", "digest_shadow"]]).all(axis="columns")
    chosen = pairs[is_pair]
    requests = chosen["id"].str.rpartition("-")[0].to_numpy()
    is_class = bool(chosen["probabilities"].notna().any())
    of, difference = find_compared(chosen, params.data.target.positive)
    true = load_true_values(folder, chosen["id"])
    errors = [compute_errors(chosen[name], true, is_class=is_class) for name in ("prediction", "prediction_shadow")]
    known = ~np.isnan(errors[0]) & ~np.isnan(errors[1])
    has_true = bool(known.any())
    same = (chosen["prediction"] == chosen["prediction_shadow"]).to_numpy("float64")
    return ShadowComparison(
        experiment=params.experiment,
        champion=None if latest["version"] is None else int(latest["version"]),
        challenger=None if latest["version_shadow"] is None else int(latest["version_shadow"]),
        n_rows=len(chosen),
        n_requests=len({*requests}),
        first=str(chosen["time"].min()),
        last=str(chosen["time"].max()),
        n_other=len(pairs) - len(chosen),
        agreement=measure_mean(same, requests) if is_class else None,
        of=of,
        difference=None if difference is None else measure_mean(difference, requests),
        n_true=int(known.sum()),
        champion_error=float(errors[0][known].mean()) if has_true else None,
        challenger_error=float(errors[1][known].mean()) if has_true else None,
        error_difference=measure_mean((errors[1] - errors[0])[known], requests[known]) if has_true else None,
        n_canary=n_canary,
    )


def load_pairs(folder: Path) -> tuple[pd.DataFrame, int]:
    """Return the rows of both logs by id, in the order of time, and how many rows the challenger answered itself."""
    columns = ["id", "time", "version", "digest", "prediction", "probabilities"]
    shadow = deque(([line.get(name) for name in columns] for line in iterate_lines(folder / SHADOW, {})), MOST_ROWS)
    wanted, n_canary = {row[0] for row in shadow}, 0
    logged = []
    for line in iterate_lines(folder / LOG, {}) if wanted else ():
        n_canary += line.get("role") == CANARY
        if line.get("id") in wanted:
            logged.append([line.get(name) for name in columns])
    # As objects, or versions of which one is unknown would be floats.
    tables = [pd.DataFrame(rows, columns=columns, dtype=object) for rows in (logged, list(shadow))]
    pairs = tables[0].merge(tables[1].drop(columns="time"), on="id", suffixes=("", "_shadow"))
    return pairs.sort_values("time", kind="stable", ignore_index=True), n_canary


def load_true_values(folder: Path, ids: pd.Series) -> list[Any]:
    """Return the true values of rows, the latest reported of each; None where none is known."""
    path, known = folder / FEEDBACK, {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
        except ValueError:  # a line that is still being written
            continue
        known[found.get("id")] = found.get("true")
    return [known.get(id) for id in ids]


def find_compared(pairs: pd.DataFrame, positive: object) -> tuple[str, np.ndarray | None]:
    """Return what is compared as a number, and the challenger's less the champion's, shape (n_rows,)."""
    if pairs["probabilities"].isna().all():
        return "prediction", to_floats([*pairs["prediction_shadow"]]) - to_floats([*pairs["prediction"]])
    classes = [*pairs["probabilities"].iloc[-1]]
    if len(classes) != 2 or [*pairs["probabilities_shadow"].iloc[-1]] != classes:
        return "", None
    label = str(positive) if str(positive) in classes else classes[1]
    shares = [
        to_floats([share.get(label) if isinstance(share, Mapping) else None for share in pairs[name]])
        for name in ("probabilities", "probabilities_shadow")
    ]
    return f"probability of {label}", shares[1] - shares[0]


def compute_errors(predictions: pd.Series, true: list[Any], *, is_class: bool) -> np.ndarray:
    """Return the error of each row, 0 or 1 for classes; NaN without a true value, shape (n_rows,)."""
    if not is_class:
        return np.abs(to_floats([*predictions]) - to_floats(true))
    return np.array(
        [np.nan if one is None else float(str(one) != str(said)) for said, one in zip(predictions, true, strict=True)]
    )


def measure_mean(values: np.ndarray, requests: np.ndarray) -> Mean:
    """Return the mean of the rows that have a value, with an interval by requests.

    Parameters
    ----------
    values, requests
        Value and request of each row, shape (n_rows,).
    """
    frame = pd.DataFrame({"value": values, "request": requests}).dropna()
    mean = float(frame["value"].mean())
    sums = (frame["value"] - mean).groupby(frame["request"]).sum().to_numpy()
    if len(sums) < FEWEST_REQUESTS:
        return Mean(mean, float("nan"), float("nan"))
    error = np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(frame)
    return Mean(mean, mean - CRITICAL * error, mean + CRITICAL * error)
