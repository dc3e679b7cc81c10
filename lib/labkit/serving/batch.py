"""Batch prediction with the published model, from one table file to another.

This is not the service, but rows go through the same release as there.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit import paths
from labkit.data.table_files import save_table
from labkit.errors import DataError, ModelError, ParamsError, list_briefly
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import make_predictions
from labkit.model.release.bundle import load_release
from labkit.names import PROBABILITY
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.own_metrics import OWN_METRICS
from labkit.renamed import find_holdout_metric
from labkit.run.records.champion_moves import load_champion
from labkit.serving.batch_files import (
    PREDICTION,
    ROW,
    THRESHOLD,
    check_batch_files,
    list_carried,
)
from labkit.serving.batch_tables import load_joined_rows
from labkit.stages.publish import fetch_release
from labkit.storage.atomic import atomic_write
from labkit.units import format_count

MOST_REMARKS = 20


@dataclass(frozen=True)
class Score:
    """The main metric on rows whose true values are known, beside that on the holdout.

    Attributes
    ----------
    value
        None if the metric cannot be computed; `reason` then is why.
    """

    metric: str
    value: float | None
    holdout: float
    reason: str = ""

    def __str__(self) -> str:
        """Return the score, or why there is none, as a line."""
        if self.value is None:
            return f"The rows have true values that cannot be scored: {self.reason}"
        # As many decimals for the difference as for the metrics: integers from one thousand on.
        values = (self.value, self.holdout, self.value - self.holdout)
        is_large = abs(self.holdout) >= 1000
        here, there, difference = (f"{value:,.0f}" if is_large else f"{value:.4g}" for value in values)
        sign = "" if self.value < self.holdout else "+"
        return f"{self.metric} on these rows {here}, on the holdout {there}: {sign}{difference}"


@dataclass(frozen=True)
class BatchSummary:
    """What a batch prediction did.

    Attributes
    ----------
    columns
        Columns of the destination.
    positive, threshold
        The class that is predicted from this probability on, and the threshold; None without a threshold by costs.
    remarks
        What is unusual about the values of the source, one line each.
    score
        None unless all rows have a true value.
    tables
        Where the rows of each joined table came from; empty if the source has the joined columns.
    """

    experiment: str
    version: int
    n_rows: int
    destination: str
    columns: tuple[str, ...]
    positive: object
    threshold: float | None
    remarks: tuple[str, ...]
    score: Score | None
    tables: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the summary, one line per remark."""
        n_rows = format_count(self.n_rows, "row")
        lines = [f"{n_rows} predicted with {self.experiment} version {self.version} → {self.destination}"]
        if self.tables:
            joined = ", ".join(f"{table} ({origin})" for table, origin in self.tables.items())
            lines.append(f"rows of the main table, joined with {joined}")
        if self.threshold is not None:
            chosen = f"{self.positive!r} from a probability of {self.threshold:.3g} on"
            lines.append(f"prediction is {chosen}: the threshold chosen by costs")
        return "\n".join([*lines, *self.remarks, *([str(self.score)] if self.score else [])])

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as plain data."""
        return asdict(self)


def predict_file(
    experiment: str,
    source: Path,
    destination: Path,
    *,
    keep: Sequence[str] = (),
    tables: Mapping[str, Path] | None = None,
    overwrite: bool = False,
) -> BatchSummary:
    """Predict every row of a file with the champion and return a summary.

    Parameters
    ----------
    source
        A file in the format of the main table, with its columns or with the joined raw columns that the model was
        trained on. Other columns are ignored except for declared identifiers and for the target: where its true values
        are known, the predictions are scored.
    destination
        CSV or Parquet, by its suffix: the declared identifiers that the source has, or else column `row`, its number
        from 1 on; the columns to keep; column `prediction`; for classification a column `probability_<class>` for each
        class, and `threshold` if one was chosen by costs, by which `prediction` is decided.
    keep
        Columns of the source to copy.
    tables
        Files of joined tables by name, for rows of the main table; see `labkit.serving.batch_tables`.
    overwrite
        Whether a file that labkit did not write may be replaced; the source never is.

    Returns
    -------
    BatchSummary
        Number of rows predicted, remarks on the inputs, and the score where true values are known.

    Raises
    ------
    ParamsError
        The experiment is unknown or has no champion yet, a file has an unsupported format, a column to keep does not
        exist, or the destination may not be replaced.
    MissingDataError
        The source does not exist.
    DataError
        The source cannot be read in the way that the params specify for the main table, or a column is missing or of
        the wrong kind.
    """
    params = load_params(experiment)
    check_batch_files(params, source, destination, keep=keep, overwrite=overwrite)
    champion = load_champion(params.experiment)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        opened = load_release(fetch_release(champion, Path(scratch)))
        inputs, target = opened.row_features.inputs_, params.data.target.column
        labels = {**opened.row_features.categories_, target: opened.facts["classes"]}
        loaded, origins = load_joined_rows(source, params, opened, labels=labels, keep=keep, tables=tables or {})
        rows = loaded[[name for name in loaded if name in inputs or name == target]]
        predicted = opened.predict(rows)
        remarks = describe_inputs(rows, opened.row_features)
    predictions = pd.concat(
        [select_carried(loaded, params, keep), make_prediction_table(predicted, opened.facts)], axis="columns"
    )
    if destination.suffix == ".parquet":
        save_table(destination, predictions)
    else:
        with atomic_write(destination) as beside:
            predictions.to_csv(beside, index=False)
    threshold = opened.facts.get("threshold")
    return BatchSummary(
        experiment=experiment,
        version=champion.number,
        n_rows=len(predictions),
        destination=str(destination),
        columns=tuple(map(str, predictions)),
        positive=None if threshold is None else opened.facts["positive"],
        threshold=threshold,
        remarks=tuple(remarks),
        score=compute_score(rows, predicted, opened.facts, params),
        tables=origins,
    )


def select_carried(loaded: pd.DataFrame, params: Params, keep: Sequence[str]) -> pd.DataFrame:
    """Return the columns that identify the rows, or their numbers from 1 on, and the columns to keep."""
    carried = loaded[[name for name in list_carried(params, keep) if name in loaded]].reset_index(drop=True)
    if not any(name in loaded for name in params.wrangling.list_identifiers()):
        carried.insert(0, ROW, range(1, len(carried) + 1))
    return carried


def describe_inputs(rows: pd.DataFrame, row_features: RowFeatures) -> list[str]:
    """Return a line for each column that has values unseen by the model, or no values at all."""
    lines = []
    unseen = row_features.count_unseen(take_columns(rows, row_features.inputs_))
    for name in row_features.inputs_:
        n_known = int(rows[name].notna().sum())
        if not n_known and name not in row_features.learnt_["empty"]:
            lines.append(f"{name}: no value in any row")
        elif found := unseen.get(name):
            shown = list_briefly((repr(value) for value, _ in found.most_common()), most=3)
            lines.append(f"{name}: {found.total():,} of {n_known:,} values were never seen in training: {shown}")
    rest = len(lines) - MOST_REMARKS
    return [*lines[:MOST_REMARKS], *([f"… and {rest} more columns of that kind"] if rest > 0 else [])]


def make_prediction_table(predicted: np.ndarray, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return all predictions as a table: classes by the threshold chosen from costs, else the most probable class.

    The threshold, if there is one, is the last column.
    """
    classes = facts["classes"]
    if not classes:
        return pd.DataFrame({PREDICTION: predicted})
    codes = np.argmax(predicted, axis=1)
    if facts.get("threshold") is not None:
        positive = classes.index(facts["positive"])
        codes = np.where(predicted[:, positive] >= facts["threshold"], positive, 1 - positive)
    probabilities = {f"{PROBABILITY}{label}": predicted[:, code] for code, label in enumerate(classes)}
    threshold = {} if facts.get("threshold") is None else {THRESHOLD: facts["threshold"]}
    labels = np.array(classes, dtype=object)[codes]
    return pd.DataFrame({PREDICTION: labels, **probabilities, **threshold}).infer_objects()


def compute_score(rows: pd.DataFrame, predicted: np.ndarray, facts: Mapping[str, Any], params: Params) -> Score | None:
    """Return the score beside that on the holdout; None unless all rows have a true value."""
    target = params.data.target.column
    if target not in rows.columns or rows[target].isna().any():
        return None
    metric = facts["metric"]
    there = find_holdout_metric(facts["metrics"], metric)
    without = partial(Score, metric, None, there)
    OWN_METRICS.use(params.evaluation.metrics)
    if facts["classes"] and rows[target].nunique() == 1:
        return without("one class only")
    try:
        found = metrics.compute_metric(
            metric, make_predictions(rows[target], predicted, facts["classes"], params.data.target)
        )
    except (ModelError, DataError, ParamsError) as error:
        return without(str(error))
    except (ValueError, TypeError):
        found = np.nan
    if not np.isfinite(found):
        return without(f"{metric} is not defined for them")
    return Score(metric, float(found), there)
