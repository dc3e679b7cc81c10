"""Search for the worst slices: groups of rows on which the model has larger errors than elsewhere.

Every value range of every raw column and every pair of ranges is tested; of very many columns, only pairs of those that
stand out individually. With so many tests some slices look bad at random, so only slices that remain significant after
the Benjamini-Hochberg correction (JRSS B, 1995) are reported, with intervals adjusted for the selection (Benjamini and
Yekutieli, JASA 2005). Where rows of one day or group are not independent, standard errors of means are computed from
whole blocks (Liang and Zeger, Biometrika 1986). A slice may be hard to predict without any fault of the model: compare
its predictions with the true values.
"""

from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from labkit.errors import ModelError
from labkit.features.table_columns import find_column_kind
from labkit.model.evaluation.blocks import ROW, Blocks
from labkit.model.evaluation.bootstrap import compute_means
from labkit.model.evaluation.metrics import compute_losses, compute_metric
from labkit.model.evaluation.predictions import Predictions
from labkit.params.subject import GENERIC, Subject

MOST_VALUE_BINS = 6
MOST_PAIRED = 40
"""Maximum number of columns whose pairs are tested; if there are more, those that stand out most individually."""
MOST_CATEGORIES = 25
FEWEST_ROWS_OF_SLICE = 25
SMALLEST_SHARE = 0.01
MOST_BLOCKS = 200
"""Maximum number of blocks to distinguish; if there are more, neighbours are merged, which is slightly conservative."""
MOST_SHARED, SEARCHES_PER_SLICE = 0.5, 2
"""Largest share of a slice's rows that may be in better slices, and the most searches for each slice to return."""
NONE_FOUND = "No group of rows stands out beyond random variation."


@dataclass(frozen=True)
class Bins:
    """One raw column divided into conditions.

    Attributes
    ----------
    codes
        Index of the condition that each row meets, or the number of conditions if it meets none; shape (n_rows,).
    conditions
        The conditions in words.
    """

    codes: np.ndarray
    conditions: list[str]


@dataclass(frozen=True)
class Cut:
    """How one raw column is divided into conditions, which rows of another table may meet as well.

    Attributes
    ----------
    conditions
        The conditions in words; the last is that the value is missing.
    edges
        Lower ends of all ranges but the first; empty if the conditions are values.
    labels
        The value of each condition but the last; empty if the conditions are ranges.
    """

    name: str
    conditions: tuple[str, ...]
    edges: tuple[float, ...] = ()
    labels: tuple[Any, ...] = ()

    def assign(self, values: pd.Series) -> np.ndarray:
        """Return the index of the condition that each row meets, their number if it meets none, shape (n_rows,)."""
        if self.edges:
            codes = np.searchsorted(self.edges, take_numbers(values), side="right")
        else:
            labels = values.astype(object).where(~values.isna(), None)
            codes = pd.Categorical(labels, categories=pd.Index(self.labels, dtype=object)).codes.astype(np.int64)
            codes = np.where(codes < 0, len(self.conditions), codes)
        return np.where(values.isna().to_numpy(), len(self.conditions) - 1, codes)


def find_worst_slices(
    frame: pd.DataFrame,
    predictions: Predictions,
    *,
    most: int,
    confidence: float,
    blocks: Blocks,
    columns: list[str] | None = None,
    subject: Subject = GENERIC,
    metric: str | None = None,
) -> pd.DataFrame:
    """Find the groups of rows whose loss exceeds that of the other rows most, beyond random variation.

    After each slice the search continues among the rows that are in no slice yet, so that one problem is not reported
    several times. A slice is left out if more than half of all rows that meet its conditions are in better slices.

    Parameters
    ----------
    frame
        Raw rows, shape (n_rows, n_columns); time columns are ignored.
    predictions
        True values and predictions of the same rows.
    most
        Maximum number of slices to return.
    confidence
        One minus the accepted false discovery rate.
    blocks
        Blocks of rows that are not independent of each other.
    columns
        Raw columns to search; all if None.
    subject
        Units of the columns: times of a day are shown as such.
    metric
        Metric to compute in each slice and in the other rows; none if None.

    Returns
    -------
    pandas.DataFrame
        Worst first: `slice` in words, number of `rows` (those in no slice above), `loss` and `elsewhere` (mean loss
        inside the slice and in the other rows), `low` and `high` (interval of the difference), `true` and
        `prediction` as in `labkit.model.evaluation.bootstrap.compute_means`; `metric` and `metric_elsewhere`, as
        `compute_beside` returns them.
    """
    losses, runs = compute_losses(predictions), number_runs(blocks)
    bins = [cut_column(name, frame[name], subject) for name in columns or list(frame.columns)]
    bins = [one for one in bins if len(one.conditions) > 1]
    fewest = max(FEWEST_ROWS_OF_SLICE, int(np.ceil(SMALLEST_SHARE * len(losses))))
    rest = np.arange(len(losses))
    lines: list[dict[str, Any]] = []
    is_listed_yet, n_searches = np.zeros(len(losses), dtype=bool), 0
    while bins and len(lines) < most and n_searches < SEARCHES_PER_SLICE * most:
        n_searches += 1
        left = [Bins(one.codes[rest], one.conditions) for one in bins]
        shared = None if runs is None else runs[rest]
        found = [measure((place,), left, losses[rest], fewest, shared) for place in range(len(bins))]
        paired = choose_paired(found)
        pairs = [measure(place, left, losses[rest], fewest, shared) for place in combinations(paired, 2)]
        # The pairs to test were selected on the same rows, so the correction has to count the untested pairs too.
        share = comb(len(bins), 2) / max(comb(len(paired), 2), 1)
        n_untried = round((share - 1) * sum(map(len, pairs))) if pairs else 0
        tried = pd.concat([*found, *pairs], ignore_index=True)
        worst = choose_worst(tried, left, alpha=1 - confidence, n_untried=n_untried)
        if worst is None:
            break
        mask, is_met = find_rows(worst, left), find_rows(worst, bins)
        if is_listed_yet[is_met].mean() <= MOST_SHARED:
            measured = compute_beside(metric, predictions, rest[mask], rest[~mask]) if metric else {}
            lines.append(describe(worst, left, predictions.take(rest[mask])) | measured)
            is_listed_yet |= is_met
        rest = rest[~mask]
    return pd.DataFrame(lines)


def compute_beside(metric: str, predictions: Predictions, inside: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """Return a metric of the rows of a slice, and of the others; NaN for a part in which it cannot be computed.

    That is a part with a single class, or one that a metric of the user's own fails on: it may need more rows.
    """
    beside = {"metric": np.nan, "metric_elsewhere": np.nan}
    for name, rows in zip(beside, (inside, outside), strict=True):
        part = predictions.take(rows)
        if not part.classes or len(np.unique(part.y_true)) > 1:
            with suppress(ModelError):
                beside[name] = compute_metric(metric, part)
    return beside


def choose_paired(found: list[pd.DataFrame]) -> list[int]:
    """Return the positions of the columns whose pairs are tested: all, or those with the smallest p-values alone."""
    p_values = [float(one["p_value"].min()) if len(one) else 1.0 for one in found]
    return sorted(np.argsort(p_values, kind="stable")[:MOST_PAIRED].tolist())


def cut_column(name: str, values: pd.Series, subject: Subject = GENERIC) -> Bins:
    """Divide one raw column into conditions; see `fit_cut`. Times have none."""
    cut = fit_cut(name, values, subject)
    if cut is None:
        return Bins(np.zeros(len(values), dtype=np.int64), [])
    return Bins(cut.assign(values), list(cut.conditions))


def fit_cut(name: str, values: pd.Series, subject: Subject = GENERIC) -> Cut | None:
    """Return conditions on one column: ranges with about the same number of rows, or the most frequent values.

    None for a column of times.
    """
    kind = find_column_kind(values)
    if kind == "time":
        return None
    missing = f"{name} missing"
    if kind == "number" and values.nunique() > MOST_VALUE_BINS:
        numbers = take_numbers(values)
        inner = np.nanquantile(
            np.where(np.isfinite(numbers), numbers, np.nan), np.arange(1, MOST_VALUE_BINS) / MOST_VALUE_BINS
        )
        # Edges are rounded first, so that the printed conditions describe exactly the rows that they select.
        edges = np.unique([float(f"{edge:.3g}") for edge in inner])
        edges = np.unique(edges.round()) if subject.is_clock(name) else edges
        shown = [subject.format_value(name, edge) for edge in edges]
        between = [f"{name} from {low} to below {high}" for low, high in pairwise(shown)]
        conditions = (f"{name} < {shown[0]}", *between, f"{name} ≥ {shown[-1]}", missing)
        return Cut(name, conditions, edges=tuple(edges.tolist()))
    labels = values.astype(object).where(~values.isna(), None)
    kept = labels.value_counts().index[:MOST_CATEGORIES].tolist()
    shown = [subject.format_value(name, label) if kind == "number" else str(label) for label in kept]
    return Cut(name, (*(f"{name} = {label}" for label in shown), missing), labels=tuple(kept))


def take_numbers(values: pd.Series) -> np.ndarray:
    """Return a column as numbers, NaN for missing values, shape (n_rows,)."""
    return pd.to_numeric(values).to_numpy(dtype="float64", na_value=np.nan)


def combine(place: tuple[int, ...], bins: list[Bins]) -> tuple[np.ndarray, int]:
    """Return a code per row for the combined conditions of one or two columns, and the number of codes."""
    codes, size = bins[place[0]].codes, len(bins[place[0]].conditions) + 1
    if len(place) > 1:
        other = len(bins[place[1]].conditions) + 1
        codes, size = codes * other + bins[place[1]].codes, size * other
    return codes, size


def split_code(place: tuple[int, ...], code: int, bins: list[Bins]) -> tuple[int, ...]:
    """Return the number of the condition in each column of a combined code."""
    return (code,) if len(place) == 1 else divmod(code, len(bins[place[1]].conditions) + 1)


def number_runs(blocks: Blocks) -> np.ndarray | None:
    """Return the number of each row's run of blocks, shape (n_rows,); None if all rows are independent."""
    if blocks.unit == ROW:
        return None
    runs = blocks.merge_runs()
    n_runs = int(runs.max()) + 1
    return runs * MOST_BLOCKS // n_runs if n_runs > MOST_BLOCKS else runs


def measure(
    place: tuple[int, ...], bins: list[Bins], losses: np.ndarray, fewest: int, runs: np.ndarray | None
) -> pd.DataFrame:
    """Return the size, excess loss, standard error and p-value of each condition with enough rows."""
    # A one-sided t-test of the slice's mean against that of all other rows: Welch's, or with standard errors by runs.
    codes, size = combine(place, bins)
    rows = np.bincount(codes, minlength=size).astype(float)
    sums, squares = np.bincount(codes, losses, size), np.bincount(codes, losses**2, size)
    kept = np.flatnonzero((rows >= fewest) & (len(losses) - rows >= fewest))
    kept = kept[[is_listed(place, int(code), bins) for code in kept]] if len(kept) else kept
    rows, sums, squares = rows[kept], sums[kept], squares[kept]
    others = len(losses) - rows
    inside, outside = sums / rows, (losses.sum() - sums) / others
    if runs is None:
        inside_variance = np.maximum(squares / rows - inside**2, 0) * rows / (rows - 1) / rows
        rest = ((losses**2).sum() - squares) / others - outside**2
        outside_variance = np.maximum(rest, 0) * others / (others - 1) / others
        variance = np.maximum(inside_variance + outside_variance, 1e-300)
        freedom = variance**2 / np.maximum(inside_variance**2 / (rows - 1) + outside_variance**2 / (others - 1), 1e-300)
    else:
        variance, freedom = measure_by_runs(codes, size, losses, runs, kept)
    excess, error = inside - outside, np.sqrt(variance)
    return pd.DataFrame(
        {
            "place": [place] * len(kept), "code": kept, "rows": rows, "loss": inside, "elsewhere": outside,
            "excess": excess, "error": error, "freedom": freedom, "p_value": stats.t.sf(excess / error, freedom),
        }
    )  # fmt: skip


def measure_by_runs(
    codes: np.ndarray, size: int, losses: np.ndarray, runs: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each slice's excess and its degrees of freedom if rows of one run are not independent."""
    # Each run's contribution to the difference of the two means is one observation. If a few runs dominate, there are
    # few degrees of freedom (Satterthwaite): a slice of a single day is no evidence about other days.
    n_runs = int(runs.max()) + 1
    cells = codes * n_runs + runs
    rows = np.bincount(cells, minlength=size * n_runs).reshape(size, n_runs)[kept].astype(float)
    sums = np.bincount(cells, losses, size * n_runs).reshape(size, n_runs)[kept]
    all_rows, all_sums = np.bincount(runs, minlength=n_runs), np.bincount(runs, losses, n_runs)
    n_inside = rows.sum(axis=1, keepdims=True)
    n_outside = len(losses) - n_inside
    inside = sums.sum(axis=1, keepdims=True) / n_inside
    outside = (losses.sum() - sums.sum(axis=1, keepdims=True)) / n_outside
    parts = (sums - inside * rows) / n_inside - (all_sums - sums - outside * (all_rows - rows)) / n_outside
    n_present = np.count_nonzero(all_rows)
    squares = (parts**2).sum(axis=1)
    variance = np.maximum(squares * n_present / max(n_present - 1, 1), 1e-300)
    freedom = squares**2 / np.maximum((parts**4).sum(axis=1), 1e-300) - 1
    return variance, np.maximum(freedom, 1e-3)


def is_listed(place: tuple[int, ...], code: int, bins: list[Bins]) -> bool:
    """Return whether the code stands for a condition in every column."""
    return all(part < len(bins[one].conditions) for one, part in zip(place, split_code(place, code, bins), strict=True))


def choose_worst(found: pd.DataFrame, bins: list[Bins], *, alpha: float, n_untried: int = 0) -> Any:
    """Return the significant slice with the largest lower bound of its excess loss, or None if none is significant."""
    # The lower bound of a pair of conditions must exceed the excess of either alone, else the simpler slice suffices.
    ordered = found.sort_values("p_value", kind="stable").reset_index(drop=True)
    n_tests = max(len(ordered) + n_untried, 1)
    passed = np.flatnonzero(ordered["p_value"] <= alpha * np.arange(1, len(ordered) + 1) / n_tests)
    if not len(passed):
        return None
    kept = ordered.head(int(passed[-1]) + 1)
    reach = kept["error"] * stats.t.isf(alpha * len(kept) / n_tests / 2, kept["freedom"])
    kept = kept.assign(low=kept["excess"] - reach, high=kept["excess"] + reach)
    kept = kept.sort_values(["low", "rows"], ascending=False, kind="stable")
    lines: list[Any] = list(kept.itertuples())
    singles = {(line.place[0], line.code): line.excess for line in lines if len(line.place) == 1}
    for line in lines:
        alone = [singles.get(part, 0.0) for part in list_conditions(line, bins)]
        if len(line.place) == 1 or line.low > max(alone):
            return line
    return None


def list_conditions(line: Any, bins: list[Bins]) -> list[tuple[int, int]]:
    """Return the column and the number of each condition of a slice."""
    return list(zip(line.place, split_code(line.place, line.code, bins), strict=True))


def name_slice(place: tuple[int, ...], code: int, bins: list[Bins]) -> str:
    """Return the conditions of a slice in words."""
    return " and ".join(
        bins[one].conditions[part] for one, part in zip(place, split_code(place, code, bins), strict=True)
    )


def find_rows(line: Any, bins: list[Bins]) -> np.ndarray:
    """Return which rows are in a slice, shape (n_rows,)."""
    codes, _ = combine(line.place, bins)
    return np.asarray(codes == line.code)


def describe(line: Any, bins: list[Bins], predictions: Predictions) -> dict[str, Any]:
    """Return the description and statistics of one slice, from the predictions of its rows."""
    return {
        "slice": name_slice(line.place, line.code, bins),
        "rows": int(line.rows),
        "loss": float(line.loss),
        "elsewhere": float(line.elsewhere),
        "low": float(line.low),
        "high": float(line.high),
        **compute_means(predictions),
    }
