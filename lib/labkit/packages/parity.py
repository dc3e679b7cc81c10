"""The check that a package predicts what the model predicts, on real rows and on rows that may occur."""

import json
import math
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labkit import paths
from labkit.artifacts import PLACES
from labkit.data.table_files import load_table
from labkit.errors import ModelError, list_briefly
from labkit.features.table_columns import take_columns
from labkit.model.onnx.hard_rows import make_hard_rows
from labkit.model.onnx.parity import compute_differences, predict_with_pipeline
from labkit.model.release.bundle import Release
from labkit.stages.publish import load_example
from labkit.units import format_count

MOST_ROWS = 1000
"""Maximum number of real rows."""
N_SPOILT = 200
"""Number of rows with missing values and unknown categories."""
TOLERANCE = 1e-5
"""Largest accepted difference; see `labkit.model.onnx.parity.Parity`."""
Predict = Callable[[pd.DataFrame], np.ndarray]
"""Predicts rows: probabilities, shape (n_rows, n_classes), or numbers, shape (n_rows,)."""


@dataclass(frozen=True)
class Rows:
    """Rows to compare predictions on: real ones of a place, by their numbers there from 0 on, then made ones."""

    frame: pd.DataFrame
    numbers: Sequence[int]
    place: str

    @property
    def n_real(self) -> int:
        """Number of real rows, which are the first ones."""
        return len(self.numbers)

    def __str__(self) -> str:
        """Return what the rows are, in words."""
        made = len(self.frame) - self.n_real
        real = f"{format_count(self.n_real, 'row')} of {self.place}"
        return f"{real} and {made:,} with missing values, unknown categories and extremes" if made else real

    def describe(self, place: int) -> str:
        """Return the name of a row."""
        is_real = place < self.n_real
        return f"row {self.numbers[place]} of {self.place}" if is_real else f"made row {place - self.n_real}"


def load_parity_rows(experiment: str, opened: Release) -> Rows:
    """Return rows of the experiment's holdout if it is in this checkout, else the examples of the release.

    A release without a graph is the pipeline itself, which may refuse rows that were made: it gets none.
    """
    kinds, path = opened.row_features.inputs_, paths.find_data_dir(experiment) / PLACES["clean_holdout"]
    times = {name: "datetime64[us, UTC]" for name, kind in kinds.items() if kind == "time"}
    real, place = load_example(opened).astype(times), "the examples"
    if path.is_file():
        holdout = load_table(path).reset_index(drop=True)
        if {*kinds} <= {*holdout.columns}:
            real, place = holdout.sample(min(MOST_ROWS, len(holdout)), random_state=0).sort_index(), "the holdout"
    frame = real[list(kinds)].reset_index(drop=True)
    if opened.graph is not None:
        made = make_hard_rows(frame, kinds, n_rows=N_SPOILT, seed=0)
        frame = pd.concat([frame, made], ignore_index=True)
    return Rows(frame, real.index.tolist(), place)


def check_package(form: str, opened: Release, rows: Rows, predict: Predict) -> None:
    """Raise ModelError, which names the rows, if a package predicts otherwise than the model of the release."""
    with opened.code.active():
        expected = predict_with_pipeline(opened.pipeline, rows.frame)
    found = np.asarray(predict(rows.frame))
    if found.shape != expected.shape:
        raise ModelError(f"the form {form} predicts {found.shape} numbers, the model {expected.shape}: nothing written")
    differences = compute_differences(expected, found, n_real=rows.n_real)
    differing = np.flatnonzero(~(differences <= TOLERANCE))  # not a number differs, too
    if len(differing):
        shown = (f"{rows.describe(int(row))} by {differences[row]:.2g}" for row in differing)
        raise ModelError(
            f"the form {form} predicts otherwise than the model for {format_count(len(differing), 'row')} of "
            f"{len(rows.frame):,}, by more than {TOLERANCE:g}: {list_briefly(shown)}: nothing was written"
        )


def make_plain_rows(frame: pd.DataFrame, kinds: dict[str, str]) -> list[dict[str, Any]]:
    """Return rows as plain data: numbers, strings, None for missing values, times as ISO 8601 in UTC."""
    columns = take_columns(frame, kinds)
    plain = {name: list(map(make_plain_value, values.tolist())) for name, values in columns.items()}
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def make_plain_value(value: Any) -> Any:
    """Return a value of a table as plain data."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str | int | float | bool) else value.isoformat()


def encode_rows(frame: pd.DataFrame, kinds: dict[str, str]) -> str:
    """Return rows as JSON, with `Infinity` for infinite numbers."""
    return json.dumps(make_plain_rows(frame, kinds))


def decode_predictions(content: str) -> np.ndarray:
    """Return what a package of another process predicted, from the JSON of `Runtime.name_predictions`."""
    named = json.loads(content)
    found = named.get("probabilities")
    return np.array(named["predictions"] if found is None else [list(row.values()) for row in found], "float64")


def call_package(command: list[str], given: str, package: Path) -> str:
    """Return what a process prints that predicts with a package, from what it is given.

    Raises
    ------
    ModelError
        It failed.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ModelError(f"{package.name}: cannot predict: {last}")
    return done.stdout
