"""The predictions of two runs on the same holdout rows: paired gains, curves, and groups of rows won and lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.timeline import TIMES
from labkit.model.evaluation.blocks import Blocks, find_blocks
from labkit.model.evaluation.bootstrap import Interval, compare_models
from labkit.model.evaluation.curves import make_calibration, make_precision_recall, make_roc
from labkit.model.evaluation.error_comparison import ErrorSource
from labkit.model.evaluation.metrics import compute_losses, list_metrics
from labkit.model.evaluation.predictions import Predictions, make_predictions
from labkit.model.evaluation.record import round_all
from labkit.model.evaluation.slice_comparison import compare_slices
from labkit.names import PROBABILITY
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.params.tables import Target
from labkit.run.reports.line_plot import LinePlot, Series
from labkit.units import format_count

SIDES = ("first", "second")
N_BINS = 24
"""Bins of the histogram of residuals."""


@dataclass(frozen=True)
class PredictionPair:
    """Predictions of two models of the same rows.

    Attributes
    ----------
    params
        Params of the first run: its metric, blocks and number of draws are used.
    first, second
        The predictions.
    rows
        The clean holdout rows, in the same order.
    """

    params: Params
    first: Predictions
    second: Predictions
    rows: pd.DataFrame

    @property
    def blocks(self) -> Blocks:
        """Blocks of rows that are resampled together."""
        return find_blocks(self.rows, self.params.data).fit_length(compute_losses(self.first))

    def compute_gains(self, names: Sequence[str] = ()) -> dict[str, Interval]:
        """Return the paired gain of the first over the second in some metrics, or in all; positive is better."""
        names = names or list_metrics(self.first)
        models = {side: dict.fromkeys(names, one) for side, one in zip(SIDES, (self.first, self.second), strict=True)}
        evaluation = self.params.evaluation
        _, gains = compare_models(
            models,
            n_samples=evaluation.bootstrap_samples,
            confidence=evaluation.confidence,
            seed=self.params.seed,
            blocks=self.blocks,
        )
        return gains["second"]

    @property
    def inputs(self) -> pd.DataFrame:
        """The holdout rows without the target."""
        return self.rows.drop(columns=self.params.data.target.column, errors="ignore")

    def make_error_source(self) -> ErrorSource:
        """Return both as models whose errors can be compared on groups of rows."""
        models = dict(zip(SIDES, (self.first, self.second), strict=True))
        confidence = self.params.evaluation.confidence
        return ErrorSource(models, self.inputs, self.blocks, confidence, Subject.from_params(self.params))

    def list_slices(self) -> list[dict[str, Any]]:
        """Return the groups of rows that the first wins or loses, as plain data; see `compare_slices`."""
        found = compare_slices(
            self.inputs.drop(columns=TIMES, errors="ignore"),
            self.first,
            self.second,
            confidence=self.params.evaluation.confidence,
            blocks=self.blocks,
            subject=Subject.from_params(self.params),
        )
        lines: list[dict[str, Any]] = round_all(found.drop(columns="places").to_dict("records"))
        return [line | {"better": "first" if line["gain"] > 0 else "second"} for line in lines]

    def make_plots(self) -> list[LinePlot]:
        """Return the curves of both, overlaid: ROC, precision and recall, calibration; residuals for a regression."""
        subject = Subject.from_params(self.params)
        name = self.params.data.target.column
        calibration = self.overlay(
            make_calibration, "prediction", "true", title="Calibration", has_diagonal=True, has_marks=True,
            fact="Mean prediction and mean true value in ten groups; on the dashed line they agree.",
            labels=("mean prediction", "mean true value"),
        )  # fmt: skip
        if not self.first.classes:
            return [self.plot_residuals(subject.name_column(name)), *calibration]
        named = subject.name_class(self.first.classes[self.first.positive])
        rates = ("false_positive_rate", "true_positive_rate")
        roc = self.overlay(
            make_roc, *rates, title="ROC curve", has_diagonal=True, fact=f"Class of interest: {named}.",
            labels=("false positive rate", "true positive rate"),
        )  # fmt: skip
        precision = self.overlay(
            make_precision_recall, "recall", "precision", title="Precision and recall", fact="Higher is better.",
            labels=("recall", "precision"),
        )  # fmt: skip
        return [*roc, *precision, *(calibration if len(self.first.classes) == 2 else [])]

    def overlay(
        self,
        make: Callable[[Predictions], pd.DataFrame],
        x: str,
        y: str,
        *,
        title: str,
        fact: str,
        labels: tuple[str, str],
        has_diagonal: bool = False,
        has_marks: bool = False,
    ) -> list[LinePlot]:
        """Return the plot of one curve of both models; none if a curve does not apply."""
        tables = [make(one) for one in (self.first, self.second)]
        if not all(map(len, tables)):
            return []
        series = [
            Series(side, table[x].tolist(), table[y].tolist(), has_marks=has_marks)
            for side, table in zip(SIDES, tables, strict=True)
        ]
        return [LinePlot(title, fact, *labels, series, has_diagonal)]

    def plot_residuals(self, target: str) -> LinePlot:
        """Return the histogram of the residuals of both models, with the same bins."""
        residuals = [one.y_true - one.y_pred for one in (self.first, self.second)]
        edges = np.histogram_bin_edges(np.concatenate([part[np.isfinite(part)] for part in residuals]), N_BINS)
        middles = ((edges[1:] + edges[:-1]) / 2).tolist()
        series = [
            Series(side, middles, np.histogram(part, edges)[0].astype(float).tolist())
            for side, part in zip(SIDES, residuals, strict=True)
        ]
        spread = [f"{side} {np.abs(part).mean():.3g}" for side, part in zip(SIDES, residuals, strict=True)]
        fact = f"A residual is the true value minus the prediction. Mean absolute residual: {', '.join(spread)}."
        return LinePlot("Residuals", fact, f"residual of {target}", "rows", series)


def pair_predictions(
    params: Params, ours: pd.DataFrame, theirs: pd.DataFrame, holdout: pd.DataFrame
) -> tuple[PredictionPair | None, str]:
    """Return two tables of predictions as a pair, or None and why they cannot be compared row by row."""
    if not has_same_rows(ours, theirs):
        counts = f"{format_count(len(ours), 'row')} and {format_count(len(theirs), 'row')}"
        return None, f"no paired gain: the two were evaluated on different rows ({counts})"
    if list(ours) != list(theirs):
        return None, "no paired gain: the two predict different classes"
    first, second = (restore_predictions(one, params.data.target) for one in (ours, theirs))
    return PredictionPair(params, first, second, holdout.loc[ours.index]), ""


def has_same_rows(first: pd.DataFrame, second: pd.DataFrame) -> bool:
    """Return whether two tables of predictions are of the same rows with the same true values."""
    return first.index.equals(second.index) and first["true"].equals(second["true"])


def restore_predictions(table: pd.DataFrame, target: Target) -> Predictions:
    """Return the predictions in the artifact `predictions`, whose column names hold the classes as strings."""
    columns = [name for name in table if str(name).startswith(PROBABILITY)]
    if target.task == "regression":
        return make_predictions(table["true"], table["prediction"].to_numpy("float64"), (), target)
    classes = tuple(str(name).removeprefix(PROBABILITY) for name in columns)
    named = target.model_copy(update={"positive": None if target.positive is None else str(target.positive)})
    return make_predictions(table["true"].map(str), table[columns].to_numpy("float64"), classes, named)


def count_won(slices: Sequence[Mapping[str, Any]]) -> str:
    """Return how many groups of rows each run wins, as a phrase.

    >>> count_won([{"better": "first"}, {"better": "first"}]), count_won([])
    ('the first is better on 2 groups, the second on 0', 'none differs beyond random variation')
    """
    if not slices:
        return "none differs beyond random variation"
    first = sum(line["better"] == "first" for line in slices)
    return f"the first is better on {format_count(first, 'group')}, the second on {len(slices) - first}"
