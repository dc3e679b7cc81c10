"""Batch prediction with the published model, from a table file, or a folder of them, to another file.

This is not the service, but rows go through the same release as there. They are read, predicted and written in batches,
so memory does not depend on their number; see `labkit.serving.batch_parts` for how a killed prediction goes on.
"""

import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from labkit import paths
from labkit.errors import DataError, ModelError, ParamsError
from labkit.model.evaluation import metrics
from labkit.model.evaluation.predictions import make_predictions
from labkit.model.release.bundle import load_release
from labkit.names import PROBABILITY
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.own_metrics import OWN_METRICS
from labkit.renamed import find_holdout_metric
from labkit.run.records import registry
from labkit.run.records.champion_moves import load_champion
from labkit.serving.batch_files import (
    PREDICTION,
    ROW,
    TRUE_VALUE,
    check_batch_files,
    find_file_states,
    list_carried,
    list_row_files,
)
from labkit.serving.batch_parts import Parts, open_parts
from labkit.serving.batch_progress import BatchProgress
from labkit.serving.batch_remarks import InputCounts
from labkit.serving.batch_tables import JoinedBatches, open_joined_rows
from labkit.serving.batch_work import BatchWork, PartResult, Submit, open_workers
from labkit.serving.known_outcomes import count_known_outcomes, find_outcomes_path
from labkit.stages.publish import fetch_release
from labkit.storage.digests import digest
from labkit.units import format_count

PART_ROWS = 50_000
"""Rows that are read, predicted and written together."""
MOST_SCORED = 1_000_000
"""Most rows that are scored; of more, every second, third … one."""


@dataclass(frozen=True)
class Score:
    """The main metric on rows whose true values are known, beside that on the holdout.

    Attributes
    ----------
    value
        None if the metric cannot be computed; `reason` then is why.
    n_rows
        Number of rows that were scored, evenly spread; None if all were.
    """

    metric: str
    value: float | None
    holdout: float
    reason: str = ""
    n_rows: int | None = None

    def __str__(self) -> str:
        """Return the score, or why there is none, as a line."""
        if self.value is None:
            return f"The rows have true values that cannot be scored: {self.reason}"
        # As many decimals for the difference as for the metrics: integers from one thousand on.
        values = (self.value, self.holdout, self.value - self.holdout)
        is_large = abs(self.holdout) >= 1000
        here, there, difference = (f"{value:,.0f}" if is_large else f"{value:.4g}" for value in values)
        sign = "" if self.value < self.holdout else "+"
        scored = "these rows" if self.n_rows is None else f"{self.n_rows:,} of these rows"
        return f"{self.metric} on {scored} {here}, on the holdout {there}: {sign}{difference}"


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
    n_outcomes
        Outcomes that became known since the release and count in the histories.
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
    n_outcomes: int = 0

    def __str__(self) -> str:
        """Return the summary, one line per remark."""
        n_rows = format_count(self.n_rows, "row")
        lines = [f"{n_rows} predicted with {self.experiment} version {self.version} → {self.destination}"]
        if self.tables:
            joined = ", ".join(f"{table} ({origin})" for table, origin in self.tables.items())
            lines.append(f"rows of the main table, joined with {joined}")
        if self.n_outcomes:
            lines.append(f"{format_count(self.n_outcomes, 'outcome')} since the release counted in the histories")
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
    dask: str | None = None,
    show: Callable[[str], object] = lambda line: None,
) -> BatchSummary:
    """Predict every row of a file, or of all files of a folder, with the champion and return a summary.

    Parameters
    ----------
    source
        A file, or a folder of files, in the format of the main table, with its columns or with the joined raw columns
        that the model was trained on. Other columns are ignored except for declared identifiers and for the target:
        where its true values are known, the predictions are scored.
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
    dask
        The cluster whose workers predict, see `labkit.run.cluster.address.open_cluster`; None to predict here.
    show
        Called with a line on the progress every few seconds.

    Returns
    -------
    BatchSummary
        Number of rows predicted, remarks on the inputs, and the score where true values are known.

    Raises
    ------
    ParamsError
        The experiment is unknown or has no champion yet, a file has an unsupported format, a column to keep does not
        exist, the destination may not be replaced, or there is no such cluster.
    MissingDataError
        The source does not exist.
    DataError
        The source cannot be read in the way that the params specify for the main table, or a column is missing or of
        the wrong kind.
    StageError
        The cluster is gone; what is finished is kept.
    """
    params = load_params(experiment)
    check_batch_files(params, source, destination, keep=keep, overwrite=overwrite)
    champion = load_champion(params.experiment)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        opened = load_release(fetch_release(champion, Path(scratch)))
        outcomes = find_file_states([find_outcomes_path(experiment)])
        n_outcomes = count_known_outcomes(opened, experiment)
        labels = {**opened.row_features.categories_, params.data.target.column: opened.facts["classes"]}
        with open_joined_rows(source, params, opened, labels=labels, keep=keep, tables=tables or {}) as joined:
            n_rows, origins = joined.rows.n_rows, joined.origins
            plan = make_plan(params, champion, keep=keep, states={**joined.states, **outcomes})
            with open_parts(destination, plan) as parts:
                work = BatchWork(opened, joined.main_table, params.data.target.column)
                with open_workers(work, dask) as workers:
                    n_parts, counts, is_scored = predict_parts(
                        joined, parts, params, work=work, keep=keep, show=show, workers=workers
                    )
                check_unchanged(source, joined.states)
                columns = parts.join(destination, n_parts).names
                score = score_parts(parts, n_parts, n_rows, opened.facts, params) if is_scored else None
        remarks = counts.describe(opened.row_features)
    threshold = opened.facts.get("threshold")
    return BatchSummary(
        experiment=experiment,
        version=champion.number,
        n_rows=n_rows,
        destination=str(destination),
        columns=tuple(columns),
        positive=None if threshold is None else opened.facts["positive"],
        threshold=threshold,
        remarks=tuple(remarks),
        score=score,
        tables=origins,
        n_outcomes=n_outcomes,
    )


def make_plan(
    params: Params, champion: registry.Version, *, keep: Sequence[str], states: Mapping[Path, tuple[int, int]]
) -> dict[str, Any]:
    """Return what the predictions depend on, as plain data; files by size and time of their last change."""
    return {
        "release": champion.digest,
        "params": digest([params.model_dump_json()]),
        "keep": list(keep),
        "files": [[str(path.absolute()), *state] for path, state in states.items()],
        "part_rows": PART_ROWS,
        "labkit": version("labkit"),
    }


def check_unchanged(source: Path, states: Mapping[Path, tuple[int, int]]) -> None:
    """Refuse rows of files that changed since they were opened."""
    found = find_file_states([*states, *list_row_files(source)])
    if changed := [path for path in {**states, **found} if found.get(path) != states.get(path)]:
        raise DataError(f"{changed[0]}: changed while it was read: predict again when it is complete")


@dataclass(frozen=True)
class PendingPart:
    """A part whose result is awaited.

    Attributes
    ----------
    facts
        Of a part that an earlier attempt finished; None for others, whose result `take` waits for.
    carried
        Columns of the destination that are not predicted.
    """

    number: int
    n_rows: int
    facts: Mapping[str, Any] | None
    take: Callable[[], PartResult] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


def predict_parts(
    joined: JoinedBatches,
    parts: Parts,
    params: Params,
    *,
    work: BatchWork,
    keep: Sequence[str],
    show: Callable[[str], object],
    workers: tuple[Submit, int],
) -> tuple[int, InputCounts, bool]:
    """Predict the parts that are not finished.

    Parameters
    ----------
    workers
        See `labkit.serving.batch_work.open_workers`.

    Returns
    -------
    tuple of int, InputCounts and bool
        Number of parts, counts of all rows, and whether all rows have a true value.
    """
    (submit, n_ahead), columns = workers, work.columns
    progress, counts, flags = BatchProgress(show), InputCounts(), [True]
    waiting: deque[PendingPart] = deque()
    n_read = n_done = n_parts = 0

    def finish(part: PendingPart) -> int:
        facts = part.facts
        if part.take is not None:
            made, facts = part.take()
            columns = {**part.carried, **dict(zip(made.column_names, made.columns, strict=True))}
            parts.save(part.number, pa.table(columns), facts)
        assert facts is not None
        counts.add(InputCounts.from_dict(facts["counts"]))
        flags.append(facts["is_known"])
        progress(n_done + part.n_rows, joined.rows.n_rows, is_kept=part.take is None)
        return part.n_rows

    for number, (loaded, given) in enumerate(joined.rows.read(PART_ROWS)):
        facts = parts.find_facts(number, len(loaded))
        if facts is not None:
            waiting.append(PendingPart(number, len(loaded), facts))
        else:
            take = submit(loaded[[name for name in loaded if name in columns]])
            carried = select_carried(given, params, keep, n_before=n_read)
            waiting.append(PendingPart(number, len(loaded), None, take, carried))
        n_read, n_parts = n_read + len(loaded), number + 1
        while len(waiting) > n_ahead:
            n_done += finish(waiting.popleft())
    while waiting:
        n_done += finish(waiting.popleft())
    return n_parts, counts, all(flags)


def score_parts(parts: Parts, n_parts: int, n_rows: int, facts: Mapping[str, Any], params: Params) -> Score | None:
    """Return the score of finished parts with true values, on as many rows as fit into memory."""
    every = -(-n_rows // MOST_SCORED)
    rows = parts.sample(n_parts, every=every)
    names = [f"{PROBABILITY}{label}" for label in facts["classes"]]
    predicted = rows[names].to_numpy() if names else rows[PREDICTION].to_numpy()
    true = pd.DataFrame({params.data.target.column: rows[TRUE_VALUE]})
    score = compute_score(true, predicted, facts, params)
    return score if score is None or every == 1 else replace(score, n_rows=len(rows))


def select_carried(given: pa.Table, params: Params, keep: Sequence[str], *, n_before: int) -> dict[str, Any]:
    """Return the columns that identify the rows, or their numbers from 1 on, and the columns to keep."""
    carried = {name: given.column(name) for name in list_carried(params, keep) if name in given.column_names}
    if any(name in given.column_names for name in params.wrangling.list_identifiers()):
        return carried
    return {ROW: pa.array(np.arange(n_before + 1, n_before + 1 + given.num_rows)), **carried}


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
