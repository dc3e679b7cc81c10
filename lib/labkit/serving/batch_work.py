"""What is done with each part of a batch prediction: here, or by the workers of a Dask cluster.

Each worker is sent the rows of joined tables and the known outcomes once, and reads the release from the checkout. It
is sent the rows of a part, and returns its predictions. Results are the same bytes wherever they are made.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from labkit.features.main_table import MainTable
from labkit.model.release.bundle import Release, load_release
from labkit.names import PROBABILITY
from labkit.run.capacity import count_cores
from labkit.run.cluster.address import open_cluster
from labkit.serving.batch_files import PREDICTION, THRESHOLD, TRUE_VALUE
from labkit.serving.batch_remarks import InputCounts
from labkit.serving.batch_tables import join_main_rows

PartResult = tuple[pa.Table, dict[str, Any]]
"""Predictions of a part, with the true values if all are known, and facts on its rows as plain data."""
Submit = Callable[[pd.DataFrame], Callable[[], PartResult]]
"""Starts the prediction of rows, and returns what waits for it."""
LOCK = threading.Lock()


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


@dataclass(frozen=True)
class BatchWork:
    """What the prediction of a part needs besides its rows.

    Attributes
    ----------
    opened
        The release, with the outcomes that are known.
    main_table
        How rows are joined; None if they have the joined columns.
    target
        Column of the true values, which rows may have.
    """

    opened: Release
    main_table: MainTable | None
    target: str

    @property
    def columns(self) -> set[str]:
        """The columns of rows that are needed."""
        inputs = self.opened.row_features.inputs_ if self.main_table is None else self.main_table.columns
        return {*inputs, self.target}

    def predict(self, rows: pd.DataFrame) -> PartResult:
        """Predict rows that have not been joined yet."""
        rows = join_main_rows(rows, self.main_table)
        inputs = self.opened.row_features.inputs_
        rows = rows[[name for name in rows if name in inputs or name == self.target]]
        predictions = make_prediction_table(self.opened.predict(rows), self.opened.facts)
        is_known = self.target in rows and not rows[self.target].isna().any()
        true = {TRUE_VALUE: rows[self.target].to_numpy()} if is_known else {}
        made = pa.Table.from_pandas(predictions.assign(**true), preserve_index=False)
        counts = InputCounts.count(rows, self.opened.row_features).to_dict()
        return made, {"counts": counts, "is_known": bool(is_known)}


@dataclass(frozen=True)
class SharedWork:
    """A `BatchWork` as workers are sent it.

    Attributes
    ----------
    folder
        The release.
    state
        Outcomes that the histories count.
    """

    folder: Path
    state: Any
    main_table: MainTable | None
    target: str

    @cached_property
    def work(self) -> BatchWork:
        """The work with its release open."""
        opened = load_release(self.folder)
        opened.replace_outcomes(self.state)
        return BatchWork(opened, self.main_table, self.target)


def predict_part(shared: SharedWork, rows: pd.DataFrame) -> PartResult:
    """Predict the rows of a part on a worker, one part at a time: the release has one state."""
    with LOCK:
        return shared.work.predict(rows)


def predict_here(work: BatchWork, rows: pd.DataFrame) -> Callable[[], PartResult]:
    """Predict rows in this process, and return what gives the result."""
    made = work.predict(rows)
    return lambda: made


@contextmanager
def open_workers(work: BatchWork, address: str | None) -> Iterator[tuple[Submit, int]]:
    """Yield what predicts parts, and how many to start before the first has to be done.

    Parameters
    ----------
    address
        See `labkit.run.cluster.address.open_cluster`; None to predict here.

    Raises
    ------
    ParamsError
        There is no such cluster.
    """
    if address is None:
        yield partial(predict_here, work), 0
        return
    shared = SharedWork(work.opened.folder, work.opened.row_features.state_, work.main_table, work.target)
    with open_cluster(address, n_workers=count_cores()) as cluster:
        from labkit.run.cluster.ordered_calls import OrderedCalls

        calls = OrderedCalls(cluster, predict_part, shared, unit="part", kept="finished parts")
        yield calls.submit, calls.n_ahead
