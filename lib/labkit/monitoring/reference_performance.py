"""How good a model was on the holdout, as far as monitoring compares with it once true values are known.

It is written with the release, like the reference profile. It holds no row, and of strings only categories that the
model knows, which other files of the release hold as well. Beside it are the losses of single rows; see
`labkit.monitoring.reference_losses`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit.errors import ModelError
from labkit.features.row_computation import RowComputation
from labkit.model.evaluation.blocks import Blocks, find_blocks
from labkit.model.evaluation.bootstrap import Interval
from labkit.model.evaluation.expected import Recalibration, estimate_cost, estimate_metric
from labkit.model.evaluation.metrics import compute_losses
from labkit.model.evaluation.predictions import compute_predictions
from labkit.model.evaluation.record import round_all
from labkit.model.evaluation.slices import FEWEST_ROWS_OF_SLICE, Cut, fit_cut
from labkit.model.release.runtime import PERFORMANCE
from labkit.monitoring.reference_losses import make_loss_files
from labkit.monitoring.row_batches import Coded, Column, read_frame
from labkit.params.evaluation import Costs
from labkit.params.experiment import Params
from labkit.params.subject import Subject
from labkit.storage.atomic import parse_json

VERSION = 1


@dataclass(frozen=True)
class GroupLoss:
    """Mean loss of the rows that meet one condition.

    Attributes
    ----------
    error
        Standard error of the mean, for rows that depend on each other; None with fewer than two independent blocks.
    n_runs
        Independent blocks of rows.
    """

    n_rows: int
    loss: float
    error: float | None
    n_runs: int


@dataclass(frozen=True)
class ReferencePerformance:
    """How good a model was on the holdout.

    Attributes
    ----------
    value
        The metric by which the model was chosen.
    threshold, costs, cost
        The threshold in force, the costs that it was chosen by, and the cost per row; None without costs.
    expected, expected_cost
        The metric and the cost that the probabilities alone let expect; None if that cannot be computed.
    cuts, groups
        How each column is divided, and the mean loss of the holdout rows by column and index of its condition.
    """

    metric: str
    confidence: float
    n_rows: int
    value: Interval
    threshold: float | None
    costs: Costs | None
    cost: Interval | None
    expected: float | None
    expected_cost: float | None
    recalibration: Recalibration
    cuts: Mapping[str, Cut]
    groups: Mapping[str, Mapping[int, GroupLoss]]


def make_performance_files(
    params: Params, model: Any, holdout: pd.DataFrame, evaluation: Mapping[str, Any]
) -> dict[str, bytes]:
    """Return the files of a release that hold how good it was on the holdout, by name.

    Parameters
    ----------
    model
        The fitted pipeline, whose first step are the row features.
    holdout
        Clean holdout rows with the target, shape (n_rows, n_columns).
    evaluation
        Content of `evaluation.json`.
    """
    target, metric, outcome = params.data.target, evaluation["metric"], evaluation["threshold"]
    ours = compute_predictions(holdout[target.column], model, holdout.drop(columns=target.column), target)
    losses = compute_losses(ours)
    blocks = find_blocks(holdout, params.data).fit_length(losses)
    columns = collect_columns(holdout, model[0])
    cuts = fit_cuts(columns, model[0], Subject.from_params(params))
    recalibration = Recalibration.fit(ours)
    calibrated = recalibration.apply(ours.y_proba, ours.positive)
    costs = Costs(**outcome["costs"]) if outcome else None
    content = {
        "version": VERSION, "metric": metric, "confidence": evaluation["confidence"], "rows": len(holdout),
        "value": evaluation["holdout"][metric],
        "threshold": outcome.get("threshold"), "costs": outcome.get("costs"), "cost": outcome.get("cost"),
        "expected": estimate_metric(metric, ours, calibrated),
        "expected_cost": estimate_cost(ours, calibrated, outcome["threshold"], costs) if costs else None,
        "recalibration": {"predicted": [*recalibration.predicted], "calibrated": [*recalibration.calibrated]},
        "columns": [
            {
                "column": name, "conditions": [*cut.conditions], "edges": [*cut.edges], "labels": [*cut.labels],
                "groups": [
                    [code, one.n_rows, one.loss, one.error, one.n_runs]
                    for code, one in measure_group_losses(columns[name], cut, losses, blocks).items()
                ],
            }
            for name, cut in cuts.items()
        ],
    }  # fmt: skip
    text = json.dumps(round_all(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    codes = {name: cut.assign(columns[name]) for name, cut in cuts.items()}
    beside = make_loss_files(losses, codes, blocks, most_rows=params.deploy.loss_rows, seed=params.seed)
    return {PERFORMANCE: f"{text}\n".encode(), **beside}


def collect_columns(frame: pd.DataFrame, row_features: RowComputation) -> dict[str, pd.Series]:
    """Return the columns of a table that are compared, cleaned by the rules of the model."""
    return concat_columns([batch.columns for batch in read_frame(frame, row_features)])


def concat_columns(batches: list[Mapping[str, Column]]) -> dict[str, pd.Series]:
    """Return the columns of batches as a whole; missing categories are None, missing numbers NaN."""
    names = batches[0] if batches else ()
    return {name: pd.concat([to_series(one[name]) for one in batches], ignore_index=True) for name in names}


def to_series(column: Column) -> pd.Series:
    """Return a column with its values instead of codes."""
    if isinstance(column, Coded):
        return pd.Series(np.array([*column.values, None], object)[column.codes], dtype=object)
    return pd.Series(column)


def fit_cuts(columns: Mapping[str, pd.Series], row_features: RowComputation, subject: Subject) -> dict[str, Cut]:
    """Return how each column is divided; of categories only those that the model knows are conditions."""
    cuts = {}
    for name, values in columns.items():
        known = {*row_features.categories_.get(name, ())} - {""}
        kept = values.where(values.isin(known)) if values.dtype == object else values
        cut = fit_cut(name, kept, subject) if kept.notna().any() else None
        if cut is not None and len(cut.conditions) > 2:
            cuts[name] = cut
    return cuts


def measure_group_losses(values: pd.Series, cut: Cut, losses: np.ndarray, blocks: Blocks) -> dict[int, GroupLoss]:
    """Return the mean loss of the rows that meet each condition, by its index; without conditions that few rows meet.

    Parameters
    ----------
    values, losses
        Column and loss of the same rows, shape (n_rows,).
    """
    codes, found = cut.assign(values), {}
    for code in range(len(cut.conditions)):
        rows = np.flatnonzero(codes == code)
        if len(rows) >= FEWEST_ROWS_OF_SLICE:
            own = blocks.take(rows)
            error = own.compute_error(losses[rows])
            n_runs = len(np.unique(own.merge_runs()))
            known = float(error) if np.isfinite(error) else None
            found[code] = GroupLoss(len(rows), float(losses[rows].mean()), known, n_runs)
    return found


def load_performance(release: Path) -> ReferencePerformance | None:
    """Load how good a verified release was on the holdout; None if it was made before releases held that.

    Raises
    ------
    ModelError
        The file is damaged, or of a later version of labkit.
    """
    path = release / PERFORMANCE
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_bytes())
        if content["version"] != VERSION:
            raise ModelError(f"{path}: version {content['version']} of the file, not {VERSION}: update labkit")
        columns = {one["column"]: one for one in content["columns"]}
        return ReferencePerformance(
            metric=content["metric"],
            confidence=content["confidence"],
            n_rows=content["rows"],
            value=Interval.from_dict(content["value"]),
            threshold=content["threshold"],
            costs=Costs(**content["costs"]) if content["costs"] else None,
            cost=Interval.from_dict(content["cost"]) if content["cost"] else None,
            expected=content["expected"],
            expected_cost=content["expected_cost"],
            recalibration=Recalibration.from_dict(content["recalibration"]),
            cuts=dict(load_cuts(columns)),
            groups={name: {code: GroupLoss(*rest) for code, *rest in one["groups"]} for name, one in columns.items()},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not the performance of a model ({error}): release the model again") from error


def load_cuts(columns: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Cut]]:
    """Yield how each column is divided."""
    for name, one in columns.items():
        yield name, Cut(name, tuple(one["conditions"]), tuple(one["edges"]), tuple(one["labels"]))
