"""Batch prediction with the published model: a table in, a table out.

Not a service; rows go through the same release as there.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit import paths
from labkit.counts import format_count
from labkit.data.tables import save_table
from labkit.errors import DataError, ModelError, ParamsError
from labkit.files import atomic_write
from labkit.live.publish import CHAMPION, fetch_release, make_answers
from labkit.live.rows import check_source, load_rows
from labkit.model import metrics
from labkit.model.release import load_release
from labkit.params import Params
from labkit.params_file import load_params
from labkit.run import registry, store

FORMATS = (".csv", ".parquet")
"""Endings of files that predictions are written to."""


def predict_file(experiment: str, source: Path, destination: Path) -> str:
    """Predict every row of a file with the champion and return a sentence on it.

    Parameters
    ----------
    source
        A file with the joined raw columns the model was trained on, written as the main table is; more columns are
        passed over, but for the answers: where they are known, the predictions are scored.
    destination
        CSV or Parquet by its ending: `prediction`, and for classes the `probability_<class>` of each.

    Raises
    ------
    ParamsError
        Unknown experiment, no champion yet, or a file of another kind.
    MissingDataError
        There is no such file.
    DataError
        It is not as the params say that the main table is read, or a column is missing or not of its kind.
    """
    params = load_params(experiment)
    check_source(source)
    if destination.suffix not in FORMATS:
        raise ParamsError(f"{destination}: {destination.suffix or 'no ending'}: use .csv or .parquet")
    if not destination.parent.is_dir():
        raise ParamsError(f"{destination.parent}: no such folder to write to")
    store.check_store(paths.get_tracking_uri())
    champion = registry.find_version(params.experiment, alias=CHAMPION)
    if champion is None:
        raise ParamsError(f"{experiment} has no champion yet: run `labkit run {experiment}`")
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        opened = load_release(fetch_release(champion, Path(scratch)))
        rows = load_rows(source, params, opened.row_features.inputs_)
        predicted = opened.predict(rows)
    predictions = make_predictions(predicted, opened.facts)
    if destination.suffix == ".parquet":
        save_table(destination, predictions)
    else:
        with atomic_write(destination) as beside:
            predictions.to_csv(beside, index=False)
    score = describe_score(rows, predicted, opened.facts, params)
    rows_predicted = format_count(len(predictions), "row")
    return f"{rows_predicted} predicted with {experiment} version {champion.number} → {destination}{score}"


def make_predictions(predicted: np.ndarray, facts: Mapping[str, Any]) -> pd.DataFrame:
    """Return the predictions of all rows as a table.

    Where a threshold was chosen by costs, it decides between the two classes; else the likeliest class is named.
    """
    classes = facts["classes"]
    if not classes:
        return pd.DataFrame({"prediction": predicted})
    codes = np.argmax(predicted, axis=1)
    if facts.get("threshold") is not None:
        positive = classes.index(facts["positive"])
        codes = np.where(predicted[:, positive] >= facts["threshold"], positive, 1 - positive)
    chances = {f"probability_{label}": predicted[:, code] for code, label in enumerate(classes)}
    return pd.DataFrame({"prediction": np.array(classes, dtype=object)[codes], **chances}).infer_objects()


def describe_score(rows: pd.DataFrame, predicted: np.ndarray, facts: Mapping[str, Any], params: Params) -> str:
    """Say how good predictions are where the rows hold the answers, beside the holdout; empty where they do not."""
    target = params.data.target.column
    if target not in rows.columns or rows[target].isna().any():
        return ""
    metric = facts["metric"]
    try:
        found = metrics.compute_metric(metric, make_answers(rows[target], predicted, facts, params))
    except (ModelError, DataError, ValueError) as error:
        return f"\nThe rows hold answers that cannot be scored: {error}"
    then = facts["metrics"][metric]
    # Whole numbers from a thousand on: 190,912 and not 1.909e+05.
    here, there, gap = (
        f"{value:,.0f}" if abs(then) >= 1000 else f"{value:.4g}" for value in (found, then, found - then)
    )
    return f"\n{metric} on these rows {here}, on the holdout {there}: {'' if found < then else '+'}{gap}"
