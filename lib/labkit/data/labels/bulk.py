"""How often a model is wrong on labelled rows, and labels accepted in bulk where it seldom is.

Measured on the rows at the beginning of the random order only, up to the first that nobody has judged: on rows chosen
because the model was unsure, it errs more often than elsewhere, and on the rows that are left after them, less often.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from labkit.data.labels.agreement import resolve_labels
from labkit.data.labels.judgements import MODEL, Judgement, add_judgement, make_judgement
from labkit.data.labels.queue import KEY, Drawn, check_keys, order_at_random
from labkit.errors import DataError, ParamsError, list_briefly
from labkit.names import PROBABILITY
from labkit.units import format_confidence, format_count

CONFIDENCE = 0.95
MAX_UNRESOLVED_SHARE = 0.05
"""Largest share of rows without a label, skipped or in conflict: they may well be those on which the model errs."""


@dataclass(frozen=True)
class ErrorRate:
    """How often predictions were wrong on labelled rows in random order.

    Attributes
    ----------
    n_rows, n_wrong
        Labelled rows with at least the required probability, and how many of them were predicted wrongly.
    n_unresolved
        Rows that were skipped, or whose annotators disagree; not among `n_rows`.
    low, high
        95 % interval of the rate (Wilson, JASA 22, 1927); from 0 to 1 without rows.
    """

    n_rows: int
    n_wrong: int
    n_unresolved: int
    low: float
    high: float

    def __str__(self) -> str:
        """Return the rate in words."""
        left_out = f"; {format_count(self.n_unresolved, 'row')} skipped or in conflict" if self.n_unresolved else ""
        if not self.n_rows:
            return f"not measured: no row drawn at random has a label{left_out}"
        rate, confidence = self.n_wrong / self.n_rows, format_confidence(CONFIDENCE)
        return (
            f"{self.n_wrong:,} of {self.n_rows:,} rows in random order wrong: {rate:.1%} "
            f"({confidence} interval {self.low:.1%} to {self.high:.1%}){left_out}"
        )


def measure_error(
    judgements: Sequence[Judgement], predictions: pd.DataFrame, *, seed: int, min_probability: float = 0.0
) -> ErrorRate:
    """Return how often predictions are wrong where their probability is at least `min_probability`.

    Parameters
    ----------
    judgements
        Current judgements of rows of the source.
    predictions
        Columns `key` and `prediction`, both strings, and `probability`, that of the predicted class; all rows of the
        source.
    seed
        Seed with which the queues were made.

    Raises
    ------
    ParamsError
        The probability is not between 0 and 1.
    """
    check_fraction("min_probability", min_probability)
    first = predictions.iloc[find_first_judged(predictions[KEY], judgements, seed)]
    sure = first[first["probability"] >= min_probability]
    labels, _ = resolve_labels([one for one in judgements if one.annotator != MODEL])
    both = labels.merge(sure, on=KEY)
    n_wrong, n_unresolved = int((both["label"] != both["prediction"]).sum()), len(sure) - len(both)
    if not len(both):
        return ErrorRate(0, 0, n_unresolved, 0.0, 1.0)
    interval = stats.binomtest(n_wrong, len(both)).proportion_ci(CONFIDENCE, method="wilson")
    return ErrorRate(len(both), n_wrong, n_unresolved, float(interval.low), float(interval.high))


def find_first_judged(keys: pd.Series, judgements: Sequence[Judgement], seed: int) -> np.ndarray:
    """Return the positions of the rows at the beginning of the random order, up to the first that nobody has judged.

    They are like all rows, however some of them were drawn.

    Parameters
    ----------
    keys
        Key of each row as string, shape (n_rows,).
    judgements, seed
        See `measure_error`.
    """
    in_order = order_at_random(keys, seed)
    is_judged = keys.iloc[in_order].isin({one.key for one in judgements if one.annotator != MODEL}).to_numpy()
    return in_order[np.logical_and.accumulate(is_judged)]


def accept_in_bulk(
    experiment: str,
    judgements: Sequence[Judgement],
    predictions: pd.DataFrame,
    *,
    source: str,
    seed: int,
    min_probability: float,
    max_error_rate: float,
    model_version: int | None,
) -> tuple[list[Judgement], ErrorRate]:
    """Accept predictions of at least a probability as labels of the rows that have no judgement, and return them.

    They are stored as the model's, drawn in bulk, with its version; a person's label of the same row counts instead.

    Parameters
    ----------
    judgements, predictions, seed
        See `measure_error`.
    source
        Table and key column.
    max_error_rate
        Largest accepted error rate, for the upper end of its interval.

    Raises
    ------
    ParamsError
        A rate or probability is not between 0 and 1.
    DataError
        The error rate is not shown to be small enough, or too many rows have no label; nothing is accepted.
    """
    check_fraction("max_error_rate", max_error_rate)
    measured = measure_error(judgements, predictions, seed=seed, min_probability=min_probability)
    lead = f"at a probability of {min_probability:g} or more, {measured}"
    if measured.high > max_error_rate:
        raise DataError(
            f"{lead}; the upper end may be at most {max_error_rate:.1%}: "
            "label more rows drawn at random, or require a higher probability"
        )
    if measured.n_unresolved > MAX_UNRESOLVED_SHARE * (measured.n_rows + measured.n_unresolved):
        raise DataError(
            f"{lead}, more than {MAX_UNRESOLVED_SHARE:.0%}: have them labelled by one more annotator, as the model may "
            "err on these rows"
        )
    is_judged = predictions[KEY].isin({one.key for one in judgements})
    is_chosen = (predictions["probability"] >= min_probability) & ~is_judged
    accepted = [
        make_judgement(source, key, label, annotator=MODEL, drawn=Drawn.BULK.value, model_version=model_version)
        for key, label in predictions.loc[is_chosen, [KEY, "prediction"]].itertuples(index=False)
    ]
    for one in accepted:
        add_judgement(experiment, one)
    return accepted, measured


def check_fraction(name: str, value: float) -> None:
    """Raise ParamsError unless a value lies between 0 and 1."""
    if not 0 <= value <= 1:
        raise ParamsError(f"{name}: {value:g} is not between 0 and 1")


def extract_predictions(table: pd.DataFrame, key: str) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
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
        The table has no such key, a key is missing or not unique, or the probabilities are missing or not numbers.
    """
    if key not in table:
        raise DataError(f"the predictions have no column {key!r}: predict with `labkit predict … --keep {key}`")
    columns = [str(name) for name in table if str(name).startswith(PROBABILITY)]
    if len(columns) < 2:
        raise DataError(
            "the predictions have no probabilities of two classes or more: rows of a regression cannot be ordered"
        )
    proba = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    if invalid := [name for name, values in zip(columns, proba.T, strict=True) if not np.isfinite(values).all()]:
        raise DataError(f"the predictions have values that are not finite numbers in {list_briefly(invalid)}")
    classes, best = [name.removeprefix(PROBABILITY) for name in columns], proba.argmax(axis=1)
    found = pd.DataFrame(
        {
            KEY: check_keys(table[key]).to_numpy(),
            "prediction": [classes[code] for code in best],
            "probability": proba[np.arange(len(best)), best],
        }
    )
    return found, proba, classes
