"""Errors of two models or of two periods, compared group by group.

A group is a value range or a frequent value of a raw column, or of two columns together. Errors are means of one number
per row, so their totals add up over rows; areas under curves do not, and are not offered. Two models on the same rows
are compared row by row (paired t-test), two periods as independent samples (Welch), with standard errors of whole
blocks in both cases. As many groups differ by chance, what differs is decided for all groups of a comparison together;
see `labkit.model.evaluation.slice_comparison`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.timeline import TIMES
from labkit.features.outcome_rates import PREDICT_AT
from labkit.model.evaluation.blocks import Blocks
from labkit.model.evaluation.by_period import find_unit, name_periods
from labkit.model.evaluation.largest_errors import list_shown_values
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import Predictions
from labkit.model.evaluation.slice_comparison import adjust_for_selection, measure_difference
from labkit.model.evaluation.slices import (
    FEWEST_ROWS_OF_SLICE,
    Bins,
    combine,
    cut_column,
    is_listed,
    name_slice,
)
from labkit.params.subject import GENERIC, Subject
from labkit.units import format_alike, format_confidence, format_count

ALL_ROWS = "all rows"
MOST_CUT = 2
"""Maximum number of columns that groups are made of."""
COLUMNS = ("slice", "rows", "rows_second", "first", "second", "difference", "total")


def compute_brier_losses(predictions: Predictions) -> np.ndarray:
    """Return each row's squared error of the probabilities, shape (n_rows,): for two classes of one, else their sum."""
    if len(predictions.classes) == 2:
        return np.asarray((predictions.y_proba[:, 1] - predictions.y_true) ** 2)
    return np.asarray(((predictions.y_proba - np.eye(len(predictions.classes))[predictions.y_true]) ** 2).sum(axis=1))


def compute_wrong(predictions: Predictions) -> np.ndarray:
    """Return 1 for each row whose most probable class is wrong, else 0, shape (n_rows,)."""
    return (predictions.y_pred != predictions.y_true).astype(float)


def compute_squares(predictions: Predictions) -> np.ndarray:
    """Return each row's squared error, shape (n_rows,)."""
    return np.asarray((predictions.y_true - predictions.y_pred) ** 2)


OF_CLASSES: dict[str, Callable[[Predictions], np.ndarray]] = {
    "log loss": compute_losses,
    "Brier score": compute_brier_losses,
    "error rate": compute_wrong,
}
OF_NUMBERS: dict[str, Callable[[Predictions], np.ndarray]] = {
    "absolute error": compute_losses,
    "squared error": compute_squares,
}


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes
    ----------
    name
        What readers call it.
    predictions
        Predictions of all rows of the table.
    losses
        Loss of each row, shape (n_rows,).
    rows
        Positions of the rows that it is measured on, ascending.
    """

    name: str
    predictions: Predictions
    losses: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class ErrorComparison:
    """Groups of rows with the errors of both sides.

    Attributes
    ----------
    loss
        Name of the loss.
    table
        A line per group with enough rows: those that differ beyond random variation first, of them those on which the
        first has larger errors, each by the size of `total`. `slice` in words, `rows` and `rows_second`, mean loss of
        the `first` and of the `second`, `difference` (positive if the first has larger errors), `low`, `high`,
        `is_certain`, and `total`, the difference times the rows of the first.
    groups
        Positions of the rows of each line's group, of both sides.
    """

    first: Side
    second: Side
    loss: str
    confidence: float
    blocks: Blocks
    table: pd.DataFrame
    groups: Sequence[np.ndarray]

    @property
    def is_paired(self) -> bool:
        """Whether both sides are measured on the same rows."""
        return np.array_equal(self.first.rows, self.second.rows)

    def describe(self, subject: Subject = GENERIC, *, kind: str = "") -> str:
        """Return on which rows it was measured and how, in sentences."""
        counts = [subject.count_rows(len(side.rows), kind=kind) for side in self.sides]
        losses = [float(side.losses[side.rows].mean()) for side in self.sides]
        means = format_alike(min(losses), *losses, uncertainty=max(losses))[1:]
        where = f", measured on the same {counts[0]}" if self.is_paired else ""
        sides = [
            f"{mean} ({side.name if where else f'{side.name}: {count}'})"
            for mean, side, count in zip(means, self.sides, counts, strict=True)
        ]
        n_certain, rows = int(self.table["is_certain"].sum()), subject.rows
        differ = "differs" if n_certain == 1 else "differ"
        cover = format_confidence(self.confidence)
        return (
            f"Mean {self.loss}: {sides[0]} and {sides[1]}{where}. Of {format_count(len(self.table), 'group')} with at "
            f"least {FEWEST_ROWS_OF_SLICE} {rows}, {n_certain:,} {differ} beyond random variation. {cover} intervals "
            f"of the difference, adjusted for the number of groups, from {self.blocks}."
        )

    @property
    def sides(self) -> tuple[Side, Side]:
        """Both sides."""
        return self.first, self.second

    def list_rows(self, line: int, frame: pd.DataFrame, *, most: int) -> pd.DataFrame:
        """Return the rows of a group on which the first side does worst, worst first, under their index.

        Of two models on the same rows, these are the rows with the largest difference of the losses; of two periods,
        the rows of the first with the largest loss.

        Parameters
        ----------
        line
            Position of the group in `table`.
        frame
            The raw rows that were compared; later rows, of which only the losses are known, are left out.

        Returns
        -------
        pandas.DataFrame
            `true`, and of each side on these rows the prediction (for two classes the probability of the class of
            interest, for more that of the true class) and the loss.
        """
        rows = np.intersect1d(self.groups[line], self.first.rows)
        rows = rows[rows < len(frame)]
        lost = self.first.losses[rows] - (self.second.losses[rows] if self.is_paired else 0)
        rows = rows[np.argsort(-lost, kind="stable")[:most]]
        shown: dict[str, np.ndarray] = {"true": list_shown_values(self.first.predictions)[0][rows]}
        for side in self.sides if self.is_paired else (self.first,):
            shown[f"prediction, {side.name}"] = list_shown_values(side.predictions)[1][rows]
            shown[f"{self.loss}, {side.name}"] = side.losses[rows]
        return pd.DataFrame(shown, index=frame.index[rows])


@dataclass(frozen=True)
class ErrorSource:
    """Predictions of some models of the same rows, from which comparisons are made.

    Attributes
    ----------
    models
        Predictions by model.
    frame
        Raw rows, shape (n_rows, n_columns), without the target; with the time of the prediction, if there is one.
    blocks
        Blocks of rows that are not independent of each other.
    confidence
        One minus the accepted false discovery rate.
    """

    models: Mapping[str, Predictions]
    frame: pd.DataFrame
    blocks: Blocks
    confidence: float
    subject: Subject = GENERIC

    @property
    def n_rows(self) -> int:
        """Number of rows that are compared."""
        return len(self.frame)

    @property
    def losses(self) -> dict[str, Callable[[Predictions], np.ndarray]]:
        """The losses of the task, that of the training and of the other pages first."""
        return OF_CLASSES if next(iter(self.models.values())).classes else OF_NUMBERS

    @cached_property
    def bins(self) -> dict[str, Bins]:
        """The conditions of each column that groups can be made of, on all rows."""
        names = [str(name) for name in self.frame if name not in TIMES]
        bins = {name: cut_column(name, self.frame[name], self.subject) for name in names}
        return {name: one for name, one in bins.items() if len(one.conditions) > 1}

    @cached_property
    def periods(self) -> dict[str, np.ndarray]:
        """Positions of the rows of each period by its name, in their order; none without a time."""
        if PREDICT_AT not in self.frame or not len(self.frame):
            return {}
        times = self.frame[PREDICT_AT].dt.tz_convert(self.subject.zone)
        named = name_periods(times, find_unit(times))
        periods = {str(name): np.flatnonzero((named == name).to_numpy()) for name in sorted(set(named.dropna()))}
        return periods if len(periods) > 1 else {}

    def measure(self, model: str, loss: str) -> np.ndarray:
        """Return the loss of each row under a model, shape (n_rows,)."""
        return self.losses[loss](self.models[model])

    def compare(
        self,
        first: tuple[str, str],
        second: tuple[str, str],
        *,
        loss: str,
        columns: Sequence[str] = (),
    ) -> ErrorComparison | None:
        """Compare two models, or two periods, on groups of rows; None if both are the same.

        Parameters
        ----------
        first, second
            Name of a model, and of a period or `ALL_ROWS`. Beside a period, `ALL_ROWS` are all other rows.
        loss
            One of `losses`.
        columns
            One or two columns to make groups of; without any, each column by itself.
        """
        periods, every = self.periods, np.arange(self.n_rows)
        sides = []
        for (model, period), (_, beside) in ((first, second), (second, first)):
            rows, name = every, model
            if period != ALL_ROWS:
                rows, name = periods[period], f"{model}, {period}"
            elif beside != ALL_ROWS:
                rows, name = np.setdiff1d(every, periods[beside]), f"{model}, all other rows"
            sides.append(Side(name, self.models[model], self.measure(model, loss), rows))
        if first == second:
            return None
        chosen = [self.bins[name] for name in columns]
        ours, theirs = sides
        return compare_errors(
            ours,
            theirs,
            [chosen] if chosen else [[one] for one in self.bins.values()],
            loss=loss,
            confidence=self.confidence,
            blocks=self.blocks,
        )


def compare_errors(
    first: Side,
    second: Side,
    cuts: Sequence[Sequence[Bins]],
    *,
    loss: str,
    confidence: float,
    blocks: Blocks,
) -> ErrorComparison:
    """Compare the mean losses of two sides on groups of rows; what holds for all rows of both makes no group.

    On the same rows, the length of runs of days is fitted to the difference of the losses, which depends less on the
    day than the losses do.

    Parameters
    ----------
    first, second
        Both on the same rows, or without a row in common.
    cuts
        The columns, one or two, that groups are made of together; each entry makes groups of its own.
    loss
        Name of the loss.
    confidence
        One minus the accepted false discovery rate.
    blocks
        Blocks of all rows.

    Raises
    ------
    ValueError
        The sides share some of their rows only, or groups are to be made of more than two columns.
    """
    is_paired = np.array_equal(first.rows, second.rows)
    if not is_paired and len(np.intersect1d(first.rows, second.rows)):
        raise ValueError("two sides are compared on the same rows or on rows without any in common")
    if (most := max(map(len, cuts), default=0)) > MOST_CUT:
        raise ValueError(f"{most} columns were given: groups are made of at most {MOST_CUT}")
    if is_paired:
        own = blocks.take(first.rows)
        fitted = replace(own, length=1).fit_length((first.losses - second.losses)[first.rows])
        blocks = replace(blocks, length=fitted.length)
    masks = [np.isin(np.arange(len(side.losses)), side.rows) for side in (first, second)]
    lines: list[tuple[Any, ...]] = []
    groups: list[np.ndarray] = []
    for condition, group in (found for cut in cuts for found in list_slices_of(cut)):
        ours, theirs = (group[mask[group]] for mask in masks)
        is_whole = len(ours) == len(first.rows) and len(theirs) == len(second.rows)
        if is_whole or min(len(ours), len(theirs)) < FEWEST_ROWS_OF_SLICE:
            continue
        if is_paired:
            found = measure_difference(first.losses[ours] - second.losses[ours], blocks.take(ours))
        else:
            parts = first.losses[ours], second.losses[theirs]
            found = measure_apart(*parts, blocks.take(ours), blocks.take(theirs))
        if found is not None:
            means = first.losses[ours].mean(), second.losses[theirs].mean()
            lines.append((condition, len(ours), len(theirs), *means, found[0], found[0] * len(ours), *found[1:]))
            groups.append(np.union1d(ours, theirs))
    tested = pd.DataFrame(lines, columns=[*COLUMNS, "error", "freedom", "p_value"])
    tested = adjust_for_selection(tested, tested["difference"], alpha=1 - confidence)
    order = pd.DataFrame({"sure": tested["is_certain"], "worse": tested["total"] > 0, "most": tested["total"].abs()})
    tested = tested.loc[order.sort_values([*order], ascending=False, kind="stable").index]
    table = tested[[*COLUMNS, "low", "high", "is_certain"]].reset_index(drop=True)
    return ErrorComparison(first, second, loss, confidence, blocks, table, [groups[number] for number in tested.index])


def list_slices_of(cut: Sequence[Bins]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each combination of conditions of one or two columns in words, and the positions of its rows, ascending."""
    bins, place = list(cut), tuple(range(len(cut)))
    codes, size = combine(place, bins)
    order = np.argsort(codes, kind="stable")
    ends = np.searchsorted(codes[order], np.arange(size + 1))
    for code, (start, end) in enumerate(pairwise(ends)):
        if end > start and is_listed(place, code, bins):
            yield name_slice(place, code, bins), order[start:end]


def measure_apart(
    ours: np.ndarray, theirs: np.ndarray, our_blocks: Blocks, their_blocks: Blocks
) -> tuple[float, float, float, float] | None:
    """Return difference of two means, standard error, degrees of freedom and p-value; None if they have no error."""
    # As for groups that got worse in `labkit.monitoring.performance`: the smaller sample limits the freedom.
    error = float(np.hypot(our_blocks.compute_error(ours), their_blocks.compute_error(theirs)))
    freedom = min(len(np.unique(one.merge_runs())) for one in (our_blocks, their_blocks)) - 1
    if not np.isfinite(error):
        return None
    difference = float(ours.mean() - theirs.mean())
    return difference, error, freedom, 2 * float(stats.t.sf(abs(difference) / max(error, 1e-300), freedom))
