"""Columns that give the answer away: copies of it, near-perfect predictors, columns filled only where it is known.

Suspicion, not proof: what is found is left out of a new experiment with the reason, and can be taken back.
"""

import numpy as np
import pandas as pd

from labkit.data.profile import LEAK_SCORE, score_column

MOST_ROWS = 5_000
MOST_SCORED = 300
ALIKE, ABLE = 0.9999, 0.7
"""Correlations from which a column is a copy of the target, and from which it may explain it."""


def find_leaks(frame: pd.DataFrame, inputs: list[str], target: str, task: str, *, seed: int) -> dict[str, str]:
    """Return the suspicious columns, each with the reason; never all of them for predicting well.

    Parameters
    ----------
    frame
        A sample of the table, shape (n_rows, n_columns).
    inputs
        Columns to look at.
    """
    rows = frame if len(frame) <= MOST_ROWS else frame.sample(MOST_ROWS, random_state=seed).sort_index()
    has_answer = rows[target].notna()
    known, answers = rows[has_answer], rows.loc[has_answer, target]
    if answers.nunique() < 2:
        return {}
    found: dict[str, str] = {}
    scores: dict[str, float] = {}
    for column in inputs:
        if reason := find_gap_leak(rows[column], has_answer, answers, task):
            found[column] = reason
        elif is_copy(known[column], answers, task):
            found[column] = "the target under another name: each of its values goes with one answer"
    others = [column for column in inputs if column not in found]
    for column in choose_telling(known, others, answers, task):
        score = screen(known[column], answers, task, seed=seed)
        if score >= LEAK_SCORE:
            scores[column] = score
    # Where nothing else is left, an honest strong predictor is more likely than a leak.
    if len(found) + len(scores) < len(inputs):
        found |= {column: f"alone explains {score:.0%} of the target" for column, score in scores.items()}
    return found


def find_gap_leak(values: pd.Series, has_answer: pd.Series, answers: pd.Series, task: str) -> str | None:
    """Return why the gaps of a column give the answer away, or None."""
    filled = values.notna()
    if filled.all() or not filled.any():
        return None
    if not has_answer.all() and (filled == has_answer).all():
        return "filled only where the target is known"
    if task != "classification":
        return None
    shares = filled[has_answer].groupby(answers.astype(str)).mean()
    n_filled = filled[has_answer].groupby(answers.astype(str)).sum()
    if ((shares > 0.99) | (shares < 0.01)).all() and (shares > 0.99).any() and n_filled.max() >= 5:
        label = shares.idxmax()
        return f"filled only where the target is {label!r}"
    return None


def is_copy(values: pd.Series, answers: pd.Series, task: str) -> bool:
    """Tell whether a column and the target say the same."""
    if task == "regression":
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values) or values.isna().any():
            return False
        return correlate(values.to_numpy(dtype="float64"), answers.to_numpy(dtype="float64")) > ALIKE
    codes, labels = pd.factorize(values)
    truth, classes = pd.factorize(answers)
    if len(labels) != len(classes) or (codes < 0).any():
        return False
    return len(np.unique(codes * len(classes) + truth)) == len(classes)


def correlate(first: np.ndarray, second: np.ndarray) -> float:
    """Return the absolute correlation of two columns without gaps; 0 where one is constant."""
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return abs(float(np.corrcoef(first, second)[0, 1]))


def screen(values: pd.Series, answers: pd.Series, task: str, *, seed: int) -> float:
    """Return how much a column alone explains of the target."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return 0.0
    score = score_column(values, answers, task, seed=seed)
    return 0.0 if np.isnan(score) else score


def choose_telling(frame: pd.DataFrame, inputs: list[str], answers: pd.Series, task: str) -> list[str]:
    """Return the columns worth scoring: all of a few, of many only those whose ranks go with the target's."""
    if len(inputs) <= MOST_SCORED:
        return inputs
    truth = rank(answers.to_numpy(dtype="float64") if task == "regression" else pd.factorize(answers)[0])
    numbers = [name for name in inputs if pd.api.types.is_numeric_dtype(frame[name])]
    columns = (frame[name].to_numpy(dtype="float64", na_value=np.nan) for name in numbers)
    return [name for name, column in zip(numbers, columns, strict=True) if correlate(rank(column), truth) >= ABLE]


def rank(values: np.ndarray) -> np.ndarray:
    """Return the ranks of values, gaps last."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
