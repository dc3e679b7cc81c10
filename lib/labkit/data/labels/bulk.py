"""How often a model is right on labelled rows, and labels accepted in bulk where it is right often enough.

Measured on the rows that were drawn at random only: on rows chosen because the model was unsure, it errs more often
than elsewhere.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from labkit.data.labels.judgements import MODEL, Judgement, add_judgement, make_judgement
from labkit.data.labels.queue import KEY, Drawn
from labkit.errors import DataError
from labkit.units import format_confidence

CONFIDENCE = 0.95
PREFIX = "probability_"
"""How columns with the probability of a class begin in what `labkit predict` writes."""


@dataclass(frozen=True)
class ErrorRate:
    """How often predictions were wrong on labelled rows drawn at random.

    Attributes
    ----------
    n_rows, n_wrong
        Labelled rows drawn at random with at least the required probability, and how many of them were wrong.
    low, high
        95 % interval of the rate (Wilson, JASA 22, 1927); from 0 to 1 without rows.
    """

    n_rows: int
    n_wrong: int
    low: float
    high: float

    def __str__(self) -> str:
        """Return the rate in words."""
        if not self.n_rows:
            return "not measured: no labelled row was drawn at random"
        rate, sure = self.n_wrong / self.n_rows, format_confidence(CONFIDENCE)
        return (
            f"{self.n_wrong:,} of {self.n_rows:,} rows drawn at random wrong: {rate:.1%} "
            f"({sure} interval {self.low:.1%} to {self.high:.1%})"
        )


def measure_error(labels: pd.DataFrame, predictions: pd.DataFrame, *, least: float = 0.0) -> ErrorRate:
    """Return how often predictions are wrong where their probability is at least `least`.

    Parameters
    ----------
    labels
        As `labkit.data.labels.agreement.resolve_labels` returns them.
    predictions
        Columns `key` as text, `prediction` as text and `probability`, that of the predicted class.
    """
    is_random = labels["drawn"] == Drawn.RANDOM
    both = labels[is_random].merge(predictions[predictions["probability"] >= least], on=KEY)
    n_wrong = int((both["label"] != both["prediction"]).sum())
    if not len(both):
        return ErrorRate(0, 0, 0.0, 1.0)
    low, high = proportion_confint(n_wrong, len(both), alpha=1 - CONFIDENCE, method="wilson")
    return ErrorRate(len(both), n_wrong, float(low), float(high))


def accept_in_bulk(
    experiment: str,
    labels: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    least: float,
    most_errors: float,
    model_version: int | None,
    done: Collection[str] = (),
) -> tuple[list[Judgement], ErrorRate]:
    """Accept the model's predictions as labels where their probability is at least `least`, and return them.

    They are stored as the model's, drawn in bulk, with its version; a person's label of the same row counts instead.

    Parameters
    ----------
    labels, predictions
        See `measure_error`.
    most_errors
        Largest accepted error rate, for the upper end of its interval.
    done
        Keys that are left out, such as those labelled already.

    Raises
    ------
    DataError
        The error rate is not shown to be small enough; nothing is accepted.
    """
    measured = measure_error(labels, predictions, least=least)
    if measured.high > most_errors:
        raise DataError(
            f"at a probability of {least:g} or more, {measured}; the upper end may be at most {most_errors:.1%}: "
            "label more rows drawn at random, or require a higher probability"
        )
    is_chosen = (predictions["probability"] >= least) & ~predictions[KEY].isin({*map(str, done)})
    accepted = [
        make_judgement(key, label, MODEL, drawn=Drawn.BULK.value, model_version=model_version)
        for key, label in predictions.loc[is_chosen, [KEY, "prediction"]].itertuples(index=False)
    ]
    for one in accepted:
        add_judgement(experiment, one)
    return accepted, measured


def take_predictions(table: pd.DataFrame, key: str) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return the predictions of a table written by `labkit predict` in the form that `measure_error` takes.

    Returns
    -------
    predictions : pandas.DataFrame
        See `measure_error`; the class of the highest probability is the predicted one.
    proba : numpy.ndarray
        Probabilities, shape (n_rows, n_classes).
    classes : list of str
        Their classes.

    Raises
    ------
    DataError
        The table has no such key, or no probabilities.
    """
    if key not in table:
        raise DataError(f"the predictions have no column {key!r}: predict with `labkit predict … --keep {key}`")
    columns = [str(name) for name in table if str(name).startswith(PREFIX)]
    if not columns:
        raise DataError("the predictions have no probabilities: a regression cannot order rows by uncertainty")
    proba, classes = table[columns].to_numpy(dtype="float64"), [name.removeprefix(PREFIX) for name in columns]
    best = proba.argmax(axis=1)
    found = pd.DataFrame(
        {
            KEY: table[key].map(str),
            "prediction": [classes[code] for code in best],
            "probability": proba[np.arange(len(best)), best],
        }
    )
    return found, proba, classes
