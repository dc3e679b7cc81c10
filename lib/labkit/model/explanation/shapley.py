"""Contributions of the raw columns of a row to its prediction: Shapley values, for any model; needs numpy only.

A column's contribution is how much the prediction changes when its value replaces that of a background row, on average
over background rows and over the orders in which columns are replaced (Štrumbelj and Kononenko, Explaining prediction
models and individual predictions with feature contributions, Knowledge and Information Systems 41, 2014). Each
background row has a random order and its reverse, which halves the variance or more (Mitchell et al., Sampling
permutations for Shapley value estimation, JMLR 23, 2022). The model is only called, so all kinds are explained alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Columns = Mapping[str, np.ndarray]
"""Raw columns by name, arrays of shape (n_rows,)."""
MOST_PREDICTED = 4000
"""Rows that may be predicted to explain one; with many columns, fewer background rows are used."""
FEWEST_BACKGROUND = 2


@dataclass(frozen=True)
class Explanation:
    """Why one row is predicted as it is, by output of the model: a class each, or the number.

    Attributes
    ----------
    base
        Mean prediction of the background rows used, shape (n_outputs,).
    prediction
        Prediction of the row, shape (n_outputs,).
    contributions
        Shape (n_columns, n_outputs). Their sum and `base` make `prediction`.
    errors
        Standard errors of the contributions over the background rows, of the same shape: those of other background
        rows and other orders would differ by about as much. NaN with one background row.
    n_background, n_orders
        Background rows used, and orders in which columns were replaced.
    """

    columns: tuple[str, ...]
    base: np.ndarray
    prediction: np.ndarray
    contributions: np.ndarray
    errors: np.ndarray
    n_background: int
    n_orders: int


def explain_row(
    predict: Callable[[Columns], np.ndarray], row: Columns, background: Columns, *, seed: int = 0
) -> Explanation:
    """Explain the prediction of one row.

    Parameters
    ----------
    predict
        Returns predictions of raw columns, shape (n_rows,) or (n_rows, n_outputs).
    row
        The row's columns, arrays of shape (1,).
    background
        The columns of the rows to compare with, in the same order and of the same types.

    Examples
    --------
    >>> row = {"a": np.array([3.0]), "b": np.array([1.0])}
    >>> background = {"a": np.array([0.0, 2.0]), "b": np.array([1.0, 1.0])}
    >>> found = explain_row(lambda columns: 2 * columns["a"] + columns["b"], row, background)
    >>> found.base, found.prediction, found.contributions[:, 0].tolist()
    (array([3.]), array([7.]), [4.0, 0.0])
    """
    columns = tuple(background)
    used = choose_used(len(background[columns[0]]), len(columns))
    random, n_columns = np.random.default_rng(seed), len(columns)
    places = random.permuted(np.tile(np.arange(n_columns), (len(used), 1)), axis=1)
    places = np.stack([places, n_columns - 1 - places], axis=1)
    # Which values are the row's own, by background row, order, number of columns replaced so far, and column.
    is_own = places[:, :, None, :] < np.arange(n_columns + 1)[:, None]
    mixed = {
        name: np.where(is_own[..., place], row[name], background[name][used][:, None, None]).ravel()
        for place, name in enumerate(columns)
    }
    values = np.asarray(predict(mixed), "float64").reshape(*is_own.shape[:3], -1)
    changes = np.take_along_axis(np.diff(values, axis=2), places[..., None], axis=2).mean(axis=1)
    return Explanation(
        columns,
        base=values[:, :, 0].mean(axis=(0, 1)),
        prediction=values[:, :, -1].mean(axis=(0, 1)),
        contributions=changes.mean(axis=0),
        errors=changes.std(axis=0, ddof=1) / np.sqrt(len(used)) if len(used) > 1 else changes[0] * np.nan,
        n_background=len(used),
        n_orders=2 * len(used),
    )


def explain_rows(predict: Callable[[Columns], np.ndarray], rows: Columns, background: Columns) -> list[Explanation]:
    """Explain the prediction of each of some rows; see `explain_row`.

    Parameters
    ----------
    rows
        Their columns, arrays of shape (n_rows,).
    """
    n_rows = len(next(iter(rows.values())))
    each = ({name: values[[place]] for name, values in rows.items()} for place in range(n_rows))
    return [explain_row(predict, row, background) for row in each]


def choose_output(prediction: np.ndarray, positive: int | None) -> int:
    """Return the place of the output to explain: the class of interest or, without one, the most probable class.

    Parameters
    ----------
    prediction
        Shape (n_outputs,); a number is the only output.
    positive
        Place of the class of interest; None without one.

    Examples
    --------
    >>> choose_output(np.array([0.7, 0.3]), 1), choose_output(np.array([0.7, 0.3]), None)
    (1, 0)
    """
    return int(prediction.argmax()) if positive is None else positive


def count_explaining_rows(n_background: int, n_columns: int) -> int:
    """Return how many rows are predicted to explain one.

    >>> count_explaining_rows(20, 26)
    1080
    """
    return 2 * choose_used(n_background, n_columns).size * (n_columns + 1)


def choose_used(n_background: int, n_columns: int) -> np.ndarray:
    """Return the places of the background rows to use, evenly spaced; shape (n_used,).

    >>> choose_used(20, 26).size, choose_used(20, 500).tolist()
    (20, [0, 10, 19])
    """
    affordable = max(FEWEST_BACKGROUND, MOST_PREDICTED // (2 * (n_columns + 1)))
    if n_background <= affordable:
        return np.arange(n_background)
    return np.linspace(0, n_background - 1, affordable).round().astype(int)
