"""How each number of a row follows from the others, and how far windows of rows depart from that.

Each standardized number is predicted by ridge regression from the other numbers, their squares and products. The mean
residual of a window then only needs the window's sums of these terms: no row is predicted. It reveals what no single
column can: 18 °C in a column of °F looks like an ordinary day in winter, but not beside the dew point and the hour.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labkit.monitoring.window_counts import FURTHEST, list_terms

PENALTY = 1e-3
"""Penalty of the ridge regression, per row: the standardized terms have a variance of about 1."""
MOST_FITTED = 50_000


@dataclass(frozen=True)
class Relations:
    """Prediction of each number from the others.

    Attributes
    ----------
    names
        Numeric columns.
    weights
        Intercept and weights of the terms, shape (n_numbers, n_terms + 1); 0 for terms of the number itself.
    explained
        Share of the variance of each number that the others explain, shape (n_numbers,).
    """

    names: tuple[str, ...]
    weights: np.ndarray
    explained: np.ndarray

    def predict_means(self, moments: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the mean that the others predict for each number, standardized, shape (n_windows, n_numbers).

        Parameters
        ----------
        moments
            Sums of the terms, shape (n_windows, n_terms).
        rows
            Rows of each window, shape (n_windows,).
        """
        means = moments / np.maximum(rows, 1)[:, None]
        return np.asarray(self.weights[:, 0] + means @ self.weights[:, 1:].T)

    def compute_residuals(self, moments: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the mean residual of each number in standard deviations, shape (n_windows, n_numbers)."""
        actual = moments[:, : len(self.names)] / np.maximum(rows, 1)[:, None]
        return np.asarray(actual - self.predict_means(moments, rows))


def fit_relations(standardized: Mapping[str, np.ndarray]) -> Relations:
    """Fit the relations on rows of the reference.

    Parameters
    ----------
    standardized
        Standardized numbers by column, shape (n_rows,); missing ones, NaN, count as the mean.
    """
    names = tuple(standardized)
    terms = list_terms(len(names))
    if not names:
        return Relations((), np.zeros((0, 1)), np.zeros(0))
    step = max(1, len(standardized[names[0]]) // MOST_FITTED)
    rows = np.column_stack([np.clip(np.nan_to_num(standardized[name][::step]), -FURTHEST, FURTHEST) for name in names])
    design = np.column_stack([np.ones(len(rows)), *(rows[:, list(term)].prod(axis=1) for term in terms)])
    gram = design.T @ design
    weights, explained = np.zeros((len(names), len(terms) + 1)), np.zeros(len(names))
    for place in range(len(names)):
        others = list_others(terms, place)
        within = gram[np.ix_(others, others)] + PENALTY * len(rows) * np.eye(len(others))
        within[0, 0] -= PENALTY * len(rows)
        found = np.linalg.solve(within, gram[others, 1 + place])
        weights[place, others] = found
        left = rows[:, place] - design[:, others] @ found
        total = rows[:, place].var()
        explained[place] = max(0.0, 1 - left.var() / total) if total > 0 else 0.0
    return Relations(names, weights, explained)


def list_others(terms: Sequence[tuple[int, ...]], place: int) -> list[int]:
    """Return the columns of the design, the intercept first, without those that hold a number itself."""
    return [0, *(1 + number for number, term in enumerate(terms) if place not in term)]
