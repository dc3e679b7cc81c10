"""A released model ready to serve: rows of requests in, predictions and explanations out.

Needs neither pandas nor scikit-learn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import DataError, LabkitError, ModelError, get_first_line
from labkit.features.arrays import make_times
from labkit.model.explanation.shapley import Explanation, choose_output, explain_rows
from labkit.model.release import runtime
from labkit.serving.fed_outcomes import FedOutcomes
from labkit.serving.fed_tables import FedTables, open_fed_tables
from labkit.serving.main_rows import MainRows
from labkit.serving.outcome_lines import OUTCOMES
from labkit.serving.requests import Columns, RowReader
from labkit.serving.row_forms import RowForms, make_row_forms


@dataclass(frozen=True)
class Engine:
    """A model that serves.

    Attributes
    ----------
    generation
        Number of the promotion that the service follows; it grows with each one.
    version
        Version in the registry; None for a release that was not registered.
    forms
        The readers of rows.
    background
        The rows that explanations compare with; None if the release has none.
    fed
        Rows of joined tables that were sent to the service; None without a service, or if nothing is joined.
    outcomes
        Outcomes that were sent to the service; None without a service, or if the model has no histories.
    """

    generation: int
    version: int | None
    digest: str
    folder: Path
    opened: runtime.Runtime
    forms: RowForms
    card: str
    background: Columns | None = None
    fed: FedTables | None = None
    outcomes: FedOutcomes | None = None

    @property
    def reader(self) -> RowReader:
        """Reads rows with the columns of the model."""
        return self.forms.reader

    @property
    def main_rows(self) -> MainRows | None:
        """Reads rows with the columns of the main table; None if the release takes the columns of the model only."""
        return self.forms.main_rows

    @property
    def facts(self) -> dict[str, Any]:
        """What the release says of itself."""
        return self.opened.facts

    def describe(self) -> dict[str, Any]:
        """Return which model this is, as every response names it."""
        return {"experiment": self.facts["experiment"], "version": self.version, "digest": self.digest}

    def refresh(self) -> None:
        """Use what was sent to any process since the last time: rows of joined tables, then outcomes."""
        for fed in (self.fed, self.outcomes):
            if fed is not None:
                fed.refresh()

    def read(self, body: bytes) -> list[Any]:
        """Return the rows of a request; see `labkit.serving.row_forms.RowForms.read`."""
        return self.forms.read(body)

    def convert(self, rows: Sequence[Any]) -> list[Any]:
        """Return rows given as dictionaries, otherwise as `read`; unknown columns are ignored, as MLflow does.

        Columns that may be missing may be absent.
        """
        main = self.main_rows
        if main is not None and main.has_main_columns(rows):
            return main.convert(fill_absent(rows, main.reader))
        return self.reader.convert(fill_absent(rows, self.reader))

    def predict(self, columns: Columns) -> np.ndarray:
        """Predict rows as `RowReader.make_columns` returns them.

        Returns
        -------
        numpy.ndarray
            Classification: probabilities, shape (n_rows, n_classes). Regression: shape (n_rows,).

        Raises
        ------
        DataError
            A value cannot be used, such as a string that is no number for a rule that parses numbers.
        """
        return self.opened.predict_columns(columns.values)

    def name_predictions(self, predicted: np.ndarray) -> dict[str, Any]:
        """Return predictions as a response names them; see `labkit.model.release.runtime.Runtime`."""
        return self.opened.name_predictions(predicted)

    def explain(self, columns: Columns, background: Columns) -> list[Explanation]:
        """Explain the prediction of each of some rows; parameters as `RowReader.make_columns` returns them."""
        return explain_rows(self.opened.predict_columns, self.convert_times(columns), self.convert_times(background))

    def convert_times(self, columns: Columns) -> dict[str, np.ndarray]:
        """Return columns with times in place of strings: a row is predicted a thousand times to explain it."""
        times = {name: values for name, values in columns.values.items() if self.reader.is_time(name)}
        return {**columns.values, **{name: make_times(values, name) for name, values in times.items()}}

    def name_explanation(self, found: Explanation) -> dict[str, Any]:
        """Return the explanation of one output with names, as plain data.

        The output is the number, the probability of the class of interest or, without one, of the most probable class.
        """
        classes, place, of_class = self.facts.get("classes"), 0, {}
        if classes:
            positive = self.facts.get("positive")
            place = choose_output(found.prediction, None if positive is None else classes.index(positive))
            of_class = {"class": classes[place]}
        errors = [None if np.isnan(error) else error for error in found.errors[:, place].tolist()]
        return {
            **of_class,
            "base": float(found.base[place]),
            "prediction": float(found.prediction[place]),
            "contributions": dict(zip(found.columns, found.contributions[:, place].tolist(), strict=True)),
            "standard_errors": dict(zip(found.columns, errors, strict=True)),
        }

    def load_example(self) -> list[dict[str, Any]]:
        """Return the example rows of the release, as a request takes them."""
        return self.load_rows(runtime.EXAMPLE)

    def load_rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows in a file of the release, as a request takes them."""
        content = json.loads((self.folder / name).read_text(encoding="utf-8"))
        rows = [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]
        return [{name: row.get(name) for name in self.reader.kinds} for row in rows]


def load_engine(
    folder: Path, *, digest: str | None, version: int | None, generation: int = 0, state_dir: Path | None = None
) -> Engine:
    """Verify and open a release, and let it predict its example rows.

    Parameters
    ----------
    digest
        Digest of the release's manifest; None if the folder itself is trusted.
    state_dir
        Folder of what was sent to the service: `tables` and `outcomes.jsonl`; None outside of a service.

    Raises
    ------
    ModelError
        The release fails its checks, has no graph, or cannot predict its own example rows.
    """
    opened = runtime.load_runtime(folder, digest=digest)
    forms = make_row_forms(folder, opened.row_features, opened.main_table)
    card = (folder / runtime.CARD).read_text(encoding="utf-8")
    found = digest or runtime.compute_release_digest(folder)
    fed = open_fed_tables(forms, state_dir) if state_dir else None
    engine = Engine(generation, version, found, folder, opened, forms, card, fed=fed)
    try:
        columns = engine.reader.make_columns(engine.reader.convert(engine.load_example()))
        opened.check_features(columns.values)
        predicted = engine.predict(columns)
    except Exception as error:  # onnxruntime raises errors of many types
        raise ModelError(f"{folder}: cannot predict its example rows: {get_first_line(error)}") from error
    if not np.isfinite(predicted).all():
        raise ModelError(f"{folder}: predicts numbers that are not finite for its example rows")
    if state_dir is not None and opened.row_features.histories:
        engine = replace(engine, outcomes=FedOutcomes(state_dir / OUTCOMES, opened, forms))
    engine.refresh()
    return add_background(engine, columns) if (folder / runtime.BACKGROUND).is_file() else engine


def add_background(engine: Engine, example: Columns) -> Engine:
    """Return an engine with the background of its release, by which its example rows have been explained."""
    try:
        background = engine.reader.make_columns(engine.reader.convert(engine.load_rows(runtime.BACKGROUND)))
        engine.explain(example, background)
    except Exception as error:  # onnxruntime raises errors of many types
        problem = f"cannot explain its example rows by its background: {get_first_line(error)}"
        raise ModelError(f"{engine.folder}: {problem}") from error
    return replace(engine, background=background)


def fill_absent(rows: Sequence[Any], reader: RowReader) -> list[Any]:
    """Return rows with missing values for absent columns that may be missing."""
    optional = {name: None for name, nullable in reader.nullable.items() if nullable}
    return [{**optional, **row} if isinstance(row, Mapping) else row for row in rows]


def predict_each(engine: Engine, batches: Sequence[Sequence[Any]]) -> tuple[list[np.ndarray | LabkitError], Columns]:
    """Predict the rows of several requests at once; where that fails, one by one, so that each fails for itself."""
    columns = engine.reader.make_columns([row for rows in batches for row in rows])
    try:
        predicted = engine.predict(columns)
    except DataError as error:
        alone = [error] if len(batches) == 1 else [predict_each(engine, [rows])[0][0] for rows in batches]
        return list(alone), columns
    ends = accumulate(map(len, batches))
    return [predicted[end - len(rows) : end] for rows, end in zip(batches, ends, strict=True)], columns


def name_each(engine: Engine, predicted: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return the predictions of several requests, each as `Engine.name_predictions` returns it."""
    if len(predicted) < 2:
        return [engine.name_predictions(one) for one in predicted]
    named = engine.name_predictions(np.concatenate(predicted))
    ends = [*accumulate(map(len, predicted))]
    return [
        {key: value[end - len(one) : end] if isinstance(value, list) else value for key, value in named.items()}
        for one, end in zip(predicted, ends, strict=True)
    ]
