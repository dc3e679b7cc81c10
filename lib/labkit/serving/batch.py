"""Batch prediction with the published model, from one table file to another.

This is not the service, but rows go through the same release as there.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labkit import paths
from labkit.data.table_files import save_table
from labkit.errors import DataError, ModelError, ParamsError, list_briefly
from labkit.features.row_features import RowFeatures
from labkit.features.table_columns import take_columns
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import make_predictions
from labkit.model.release.bundle import load_release
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.run.records import mlflow_store, registry
from labkit.serving.batch_input import check_source, load_rows
from labkit.stages.publish import CHAMPION, fetch_release
from labkit.storage.atomic import atomic_write
from labkit.units import format_count

FORMATS = (".csv", ".parquet")
"""File suffixes of the formats in which predictions are written."""
PREDICTION, PROBABILITY = "prediction", "probability_"
"""Name of the prediction column, and prefix of the names of the probability columns."""
MOST_REMARKS = 20


def predict_file(experiment: str, source: Path, destination: Path, *, overwrite: bool = False) -> str:
    """Predict every row of a file with the champion and return a summary, one line per remark.

    Parameters
    ----------
    source
        A file with the joined raw columns that the model was trained on, in the format of the main table. Other columns
        are ignored except for the target: where its true values are known, the predictions are scored.
    destination
        CSV or Parquet, by its suffix: column `prediction`, and for classification a column `probability_<class>` for
        each class.
    overwrite
        Whether a file that labkit did not write may be replaced; the source never is.

    Returns
    -------
    str
        Number of rows predicted, remarks on the inputs, and the score where true values are known.

    Raises
    ------
    ParamsError
        The experiment is unknown or has no champion yet, a file has an unsupported format, or the destination may not
        be replaced.
    MissingDataError
        The source does not exist.
    DataError
        The source cannot be read in the way that the params specify for the main table, or a column is missing or of
        the wrong kind.
    """
    params = load_params(experiment)
    check_source(source)
    check_destination(destination, source, overwrite=overwrite)
    mlflow_store.check_store(paths.get_tracking_uri())
    champion = registry.find_version(params.experiment, alias=CHAMPION)
    if champion is None:
        raise ParamsError(f"{experiment} has no champion yet: run `labkit run {experiment}`")
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        opened = load_release(fetch_release(champion, Path(scratch)))
        labels = {**opened.row_features.categories_, params.data.target.column: opened.facts["classes"]}
        rows = load_rows(source, params, opened.row_features.inputs_, labels=labels)
        predicted = opened.predict(rows)
        remarks = describe_inputs(rows, opened.row_features)
    predictions = make_prediction_table(predicted, opened.facts)
    if destination.suffix == ".parquet":
        save_table(destination, predictions)
    else:
        with atomic_write(destination) as beside:
            predictions.to_csv(beside, index=False)
    done = (
        f"{format_count(len(predictions), 'row')} predicted with {experiment} version {champion.number} → {destination}"
    )
    return "\n".join([done, *remarks]) + describe_score(rows, predicted, opened.facts, params)


def check_destination(destination: Path, source: Path, *, overwrite: bool) -> None:
    """Refuse a destination that is not CSV or Parquet, cannot be written to, or would lose existing content."""
    if destination.suffix not in FORMATS:
        raise ParamsError(f"{destination}: {destination.suffix or 'no extension'}: use .csv or .parquet")
    if not destination.parent.is_dir():
        raise ParamsError(f"{destination.parent}: no such folder")
    if not destination.exists():
        return
    if destination.samefile(source):
        raise ParamsError(f"{destination}: is the file with the rows to predict, {source}: name another one")
    if not destination.is_file():
        raise ParamsError(f"{destination}: not a regular file: name another one")
    if not overwrite and not is_written_here(destination):
        raise ParamsError(
            f"{destination}: exists and was not written by labkit predict: name another one, or replace it with "
            "--overwrite"
        )


def is_written_here(path: Path) -> bool:
    """Return whether a file holds only predictions or is empty."""
    if not path.stat().st_size:
        return True
    try:
        if path.suffix == ".parquet":
            names = [str(name) for name in pq.read_schema(path).names]
        else:
            names = list(pd.read_csv(path, nrows=0).columns)
    except (OSError, ValueError, pa.ArrowException):
        return False
    return names[:1] == [PREDICTION] and all(name.startswith(PROBABILITY) for name in names[1:])


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
    """Return all predictions as a table: classes by the threshold chosen from costs, else the most probable class."""
    classes = facts["classes"]
    if not classes:
        return pd.DataFrame({PREDICTION: predicted})
    codes = np.argmax(predicted, axis=1)
    if facts.get("threshold") is not None:
        positive = classes.index(facts["positive"])
        codes = np.where(predicted[:, positive] >= facts["threshold"], positive, 1 - positive)
    probabilities = {f"{PROBABILITY}{label}": predicted[:, code] for code, label in enumerate(classes)}
    return pd.DataFrame({PREDICTION: np.array(classes, dtype=object)[codes], **probabilities}).infer_objects()


def describe_score(rows: pd.DataFrame, predicted: np.ndarray, facts: Mapping[str, Any], params: Params) -> str:
    """Describe the score beside that on the holdout; empty unless all rows have a true value."""
    target = params.data.target.column
    if target not in rows.columns or rows[target].isna().any():
        return ""
    metric = facts["metric"]
    if facts["classes"] and rows[target].nunique() == 1:
        return "\nThe rows have true values that cannot be scored: one class only"
    try:
        found = metrics.compute_metric(
            metric, make_predictions(rows[target], predicted, facts["classes"], params.data.target)
        )
    except (ModelError, DataError) as error:
        return f"\nThe rows have true values that cannot be scored: {error}"
    except (ValueError, TypeError):
        found = np.nan
    if not np.isfinite(found):
        return f"\nThe rows have true values that cannot be scored: {metric} is not defined for them"
    then = facts["metrics"][metric]
    # From one thousand on, numbers are rounded to integers: 190,912 rather than 1.909e+05.
    here, there, difference = (
        f"{value:,.0f}" if abs(then) >= 1000 else f"{value:.4g}" for value in (found, then, found - then)
    )
    return f"\n{metric} on these rows {here}, on the holdout {there}: {'' if found < then else '+'}{difference}"
