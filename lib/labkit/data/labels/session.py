"""What one annotator labels in one sitting: rows, choices and the queue, all from what the notebook names."""

import getpass
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import pandas as pd

from labkit import paths
from labkit.data.labels.bulk import ErrorRate, accept_in_bulk, extract_predictions, measure_error
from labkit.data.labels.judgements import Judgement, check_person, read_judgements
from labkit.data.labels.queue import KEY, LEAST_RANDOM_SHARE, Drawn, check_keys, make_queue
from labkit.data.table_files import ROW, load_table
from labkit.errors import DataError, MissingDataError, ParamsError, list_briefly, name_nearest
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.units import format_count

HOLDOUT = Path("clean") / "holdout.parquet"


@dataclass(frozen=True)
class Session:
    """What an annotator labels in one sitting.

    Attributes
    ----------
    source
        Table and key column, such as `new.csv:id`.
    rows
        What is shown, shape (n_rows, n_columns).
    keys
        Key of each row as string.
    queue
        As `labkit.data.labels.queue.make_queue` returns it.
    predictions
        See `labkit.data.labels.bulk.measure_error`; None without a model.
    """

    params: Params
    source: str
    rows: pd.DataFrame
    keys: pd.Series
    queue: pd.DataFrame
    choices: tuple[str, ...]
    annotator: str
    predictions: pd.DataFrame | None

    def __str__(self) -> str:
        """Return what is asked in words."""
        n_random = int((self.queue["drawn"] == Drawn.RANDOM).sum())
        return (
            f"{self.annotator} labels {format_count(len(self.queue), 'row')} of {self.params.experiment}, "
            f"{n_random:,} of them drawn at random"
        )

    def show_progress(self) -> pd.DataFrame:
        """Return for each annotator the number of labels, of skipped rows, and the median seconds per row."""
        current = self.list_judgements()
        lines = []
        for name in sorted({one.annotator for one in current}):
            own = [one for one in current if one.annotator == name]
            seconds = [one.seconds for one in own if one.seconds is not None]
            n_labels = sum(one.label is not None for one in own)
            lines.append((name, n_labels, len(own) - n_labels, float(np.median(seconds)) if seconds else np.nan))
        return pd.DataFrame(lines, columns=["annotator", "labels", "skipped", "median seconds"])

    def list_judgements(self) -> list[Judgement]:
        """Return the current judgements of rows of this table."""
        return read_judgements(self.params.experiment).list_current(self.source)

    def measure_error(self, min_probability: float = 0.0) -> ErrorRate:
        """Return how often the model's predictions of at least this probability are wrong, on rows in random order.

        Raises
        ------
        ParamsError
            The session has no predictions.
        """
        judgements, predictions = self.list_judgements(), self.need_predictions()
        return measure_error(judgements, predictions, seed=self.params.seed, min_probability=min_probability)

    def accept_in_bulk(self, *, min_probability: float, max_error_rate: float, model_version: int | None = None) -> str:
        """Accept predictions of at least this probability as labels; see `labkit.data.labels.bulk.accept_in_bulk`."""
        accepted, measured = accept_in_bulk(
            self.params.experiment,
            self.list_judgements(),
            self.need_predictions(),
            source=self.source,
            seed=self.params.seed,
            min_probability=min_probability,
            max_error_rate=max_error_rate,
            model_version=model_version,
        )
        return f"{format_count(len(accepted), 'label')} accepted in bulk; {measured}"

    def need_predictions(self) -> pd.DataFrame:
        """Return the predictions; raise ParamsError if there are none."""
        if self.predictions is None:
            raise ParamsError("`predictions` names no file: write one with `labkit predict … --keep <key>`")
        return self.predictions


def start_session(
    params: Params | str,
    *,
    table: str = "",
    key: str = "",
    predictions: str = "",
    choices: Sequence[str] = (),
    annotator: str = "",
    n_rows: int = 50,
    random_share: float = LEAST_RANDOM_SHARE,
) -> Session:
    """Return the rows to label next.

    Parameters
    ----------
    params
        The experiment, or its name.
    table
        CSV or Parquet file with the rows, relative to the checkout; if empty, the clean holdout rows of the experiment,
        without their target, to check the labels there are.
    key
        Column that identifies a row for good; may be empty for the holdout without predictions, whose rows have their
        number in the main table, from 0, which holds only as long as rows are added at its end.
    predictions
        File written by `labkit predict <experiment> <table> <file> --keep <key>`; if empty, all rows are drawn at
        random.
    choices
        Labels to choose from; if empty, the classes of the predictions, or those of the target in the clean holdout.
    annotator
        Who labels; if empty, `LABKIT_ANNOTATOR`, or the name of the user.
    n_rows, random_share
        See `labkit.data.labels.queue.make_queue`.

    Raises
    ------
    ParamsError, MissingDataError, DataError
        A name or file is missing or unsuitable.
    """
    params = load_params(params) if isinstance(params, str) else params
    if predictions and key in ("", ROW):
        raise ParamsError(
            f"`predictions` with `key` {key!r}: the row numbers of `labkit predict` are those of its own file: "
            "set `key` to a column that identifies a row, and predict with `--keep` and its name; if the holdout has "
            "none, set `table` to the table that was predicted"
        )
    rows, keys, classes = load_rows_to_label(params, table, key)
    source = f"{PurePath(table).as_posix() if table else HOLDOUT.stem}:{keys.name}"
    found, proba = None, None
    if predictions:
        unordered, unordered_proba, classes = extract_predictions(read_file(predictions, key), key)
        places = find_places(keys, unordered)
        found, proba = unordered.iloc[places].reset_index(drop=True), unordered_proba[places]
    chosen = tuple(map(str, choices or classes))
    if not chosen:
        raise ParamsError("`choices` is empty, and no classes are known: name the labels to choose from")
    name = check_person(annotator or get_annotator())
    # Rows accepted in bulk stay in the random order: without them, its beginning would be no random sample.
    done = {one.key for one in read_judgements(params.experiment, name).list_current(source)}
    queue = make_queue(keys, n_rows=n_rows, seed=params.seed, proba=proba, random_share=random_share, done=done)
    return Session(params, source, rows, keys, queue, chosen, name, found)


def load_rows_to_label(params: Params, table: str, key: str) -> tuple[pd.DataFrame, pd.Series, list[str]]:
    """Return rows, keys and classes; see `start_session`."""
    path, target = paths.find_data_dir(params.experiment) / HOLDOUT, params.data.target
    classes = []
    if target.task == "classification" and path.is_file():
        classes = sorted(map(str, load_table(path)[target.column].unique()))
    if table:
        if not key:
            raise ParamsError("`key` is empty: name the column that identifies a row, as positions change")
        frame = shown = read_file(table, key)
    elif path.is_file():
        frame = load_table(path)
        shown = frame.drop(columns=target.column)
    else:
        raise MissingDataError(f"{paths.show_path(path)}: not found: run `labkit run {params.experiment}`")
    if key and key not in frame:
        raise DataError(f"key {key!r} is no column of the rows: {name_nearest(key, [*map(str, frame)])}")
    keys = frame[key] if key else pd.Series(frame.index, name=ROW)
    return shown.reset_index(drop=True), check_keys(keys), classes


def read_file(name: str, key: str) -> pd.DataFrame:
    """Read a CSV or Parquet file of the checkout; keys in CSV are read as strings, so that leading zeros stay."""
    path = paths.find_root() / name
    if not path.is_file():
        raise MissingDataError(f"{name}: not found")
    if path.suffix == ".parquet":
        return load_table(path)
    if path.suffix != ".csv":
        raise ParamsError(f"{name}: rows to label are read from .csv or .parquet")
    try:
        return pd.read_csv(path, dtype={key: str})
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not CSV: {error}") from error


def find_places(keys: pd.Series, predictions: pd.DataFrame) -> np.ndarray:
    """Return the position of each key among the predictions; raise DataError if a row has no prediction."""
    places = pd.Index(predictions[KEY]).get_indexer(pd.Index(keys))
    if (places < 0).any():
        missing = keys[places < 0].tolist()
        raise DataError(
            f"the predictions lack {format_count(len(missing), 'row')}: {list_briefly(missing)}: predict again"
        )
    return places


def get_annotator() -> str:
    """Return who labels: `LABKIT_ANNOTATOR`, or the user's name in lower case; raise ParamsError without either."""
    if name := paths.get_variable("LABKIT_ANNOTATOR"):
        return name
    try:
        return re.sub(r"[^a-z0-9._-]", "-", getpass.getuser().lower())
    except (KeyError, OSError, ImportError) as error:
        raise ParamsError("the user has no name: set `annotator`, or LABKIT_ANNOTATOR") from error
