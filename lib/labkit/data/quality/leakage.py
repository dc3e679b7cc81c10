"""Detect columns that leak the target: filled only once it is known, the target in another form, or close to it.

This is the only leakage detector: `labkit new` leaves such columns out, and notebook 01 lists them. A finding is
reported only if it holds for the rows examined, and a column counts as a sure leak only if there are enough rows to
rule out coincidence. A pattern that a legitimate column could also show is only a suspicion, and the column stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import KFold, cross_val_predict

from labkit.data.quality import text_issues
from labkit.data.quality.copies import COVERED, EXPLAINS, FINER, correlate, find_target_copy, has_fractions, is_counter
from labkit.data.quality.evidence import FEW_ERRORS, Leak, Rows, bound_errors, floor_percent, make_target_rows
from labkit.data.quality.missingness import find_missing_leak
from labkit.data.quality.placeholders import Placeholder, find_placeholders, mask_placeholders
from labkit.data.quality.profile import LEAK_SCORE, N_FOLDS, predict_held_out, score_column
from labkit.features.row_rules import RowRule, apply_rule
from labkit.features.table_columns import find_column_kind, is_numeric, to_array

MOST_LOOKED_AT, MOST_ROWS = 50_000, 5_000
"""Maximum number of rows examined, and of rows used for the predictions from a single column."""
MOST_SCORED = 300
MOSTLY_CONSTANT = 0.5
"""Minimum fraction of repeated values that are constant in another column, for rows to describe one entity."""
SEPARABLE = 1 / 12
"""Largest error rate of all other columns together, relative to always predicting the largest class, at which a
legitimate column may separate the classes as well."""
N_TREES = 50
TARGET_CODES = "the codes of the target"
ABLE = 0.7
"""Minimum rank correlation with the target for a column to be scored when there are many columns."""


def find_leaks(
    frame: pd.DataFrame,
    inputs: Sequence[str],
    target: str,
    task: str,
    *,
    seed: int,
    scores: Mapping[str, float] | None = None,
    n_rows: int | None = None,
    placeholders: Mapping[str, list[Placeholder]] | None = None,
) -> dict[str, Leak]:
    """Return the columns that leak the target, or may leak it, each with the reason.

    Parameters
    ----------
    frame
        The table or a sample of it, shape (n_rows, n_columns).
    inputs
        Columns to examine.
    scores
        Score of each column alone, if `labkit.data.quality.profile.profile_table` has already computed it.
    n_rows
        Number of rows of the table that `frame` is a sample of; defaults to `len(frame)`.
    placeholders
        Numbers that stand for a missing value, by column, if already known.

    Returns
    -------
    dict
        Leaks and suspicions by column; empty if the target has fewer than two distinct values.
    """
    n_rows = n_rows or len(frame)
    if len(frame) > MOST_LOOKED_AT:
        frame = frame.iloc[:: -(-len(frame) // MOST_LOOKED_AT)]
    frame = frame[[*inputs, target]]
    frame = read_numbers(mask_placeholders(frame, find_placeholders(frame) if placeholders is None else placeholders))
    rows = make_target_rows(frame[target], task, len(inputs))
    if len(np.unique(rows.values)) < 2:
        return {}
    is_filled = frame[list(inputs)].notna().to_numpy()
    is_blank = is_filled.sum(axis=1) * 2 <= len(inputs)
    found: dict[str, Leak] = {}
    for place, column in enumerate(inputs):
        leaks = [find_missing_leak(is_filled[:, place], is_blank, rows), find_target_copy(frame[column], rows)]
        if present := [leak for leak in leaks if leak]:
            found[column] = max(present, key=lambda leak: leak.is_sure)
    others = [column for column in inputs if not (column in found and found[column].is_sure)]
    strong = find_strong_predictors(frame, others, target, rows, seed=seed, scores=scores)
    found |= {column: leak for column, leak in strong.items() if leak.is_sure or column not in found}
    found = doubt_groups(found, frame, inputs, rows)
    found = doubt_separable(found, frame, inputs, rows, seed=seed)
    # If no other column would be left, a legitimate strong predictor is more likely than a leak.
    if all(column in found and found[column].is_sure for column in inputs):
        found = {name: replace(leak, is_sure=leak.kind != EXPLAINS) for name, leak in found.items()}
    if len(frame) == n_rows:
        return found
    looked_at = f" (of {len(frame):,} rows examined)"
    return {name: replace(leak, evidence=f"{leak.evidence}{looked_at}") for name, leak in found.items()}


def doubt_groups(found: Mapping[str, Leak], frame: pd.DataFrame, inputs: Sequence[str], rows: Rows) -> dict[str, Leak]:
    """Downgrade finer classes to a suspicion if rows with the same value also agree in another column."""
    # Such rows may describe one entity, such as a patient with one diagnosis, and count only once. Other columns found
    # to leak are not evidence against it unless they are measurements: a code and its label agree as well.
    finer = [name for name, leak in found.items() if leak.kind == FINER and leak.is_sure]
    if not finer:
        return dict(found)
    known = frame[rows.is_known]
    codes = {name: pd.factorize(known[name], use_na_sentinel=False)[0] for name in inputs}
    distinct = known.loc[~known.duplicated(), finer]
    doubted = {}
    for name in finer:
        others = [other for other in inputs if other != name and (other not in found or has_fractions_of(known[other]))]
        is_grouped = any(is_shared(codes[name], codes[other]) for other in others)
        is_repeated = distinct[name].duplicated(keep=False)[distinct[name].notna()]
        if is_grouped or is_repeated.mean() < COVERED:
            doubted[name] = replace(found[name], is_sure=False)
    return {**found, **doubted}


def has_fractions_of(values: pd.Series) -> bool:
    """Return whether a column is numeric and has non-integer values."""
    return find_column_kind(values) == "number" and has_fractions(values)


def is_shared(codes: np.ndarray, others: np.ndarray) -> bool:
    """Return whether rows with the same value share a value of another column more often than by coincidence."""
    sizes, shares = np.bincount(codes), np.bincount(others) / len(others)
    pairs = np.unique(codes * np.int64(len(shares)) + others)
    is_constant = (np.bincount(pairs // len(shares), minlength=len(sizes)) == 1)[sizes > 1]
    expected = (shares[:, None] ** sizes[sizes > 1]).sum(axis=0)
    excess = is_constant.sum() - expected.sum()
    return bool(is_constant.mean() >= MOSTLY_CONSTANT and excess > 3 * np.sqrt((expected * (1 - expected)).sum()) + 1)


def doubt_separable(
    found: Mapping[str, Leak], frame: pd.DataFrame, inputs: Sequence[str], rows: Rows, *, seed: int
) -> dict[str, Leak]:
    """Downgrade columns that explain the classes to a suspicion if all others together predict them about as well."""
    others = [name for name in inputs if not (name in found and found[name].is_sure)]
    doubted = {name: replace(leak, is_sure=False) for name, leak in found.items() if leak.kind == EXPLAINS}
    if not (rows.classes and others and any(found[name].is_sure for name in doubted)):
        return dict(found)
    known = frame.loc[rows.is_known, others].assign(**{TARGET_CODES: rows.values})
    known = known.sample(min(len(known), MOST_ROWS), random_state=seed)
    codes = known.pop(TARGET_CODES).to_numpy()
    n_wrong = count_forest_errors(known, codes, seed=seed)
    guessing = len(codes) - np.bincount(codes).max()
    return {**found, **doubted} if n_wrong <= SEPARABLE * guessing else dict(found)


def count_forest_errors(frame: pd.DataFrame, codes: np.ndarray, *, seed: int) -> int:
    """Return the number of rows that a cross-validated random forest misclassifies."""
    columns = [
        frame[name] if is_numeric(frame[name]) else pd.factorize(frame[name], sort=True)[0] for name in frame.columns
    ]
    with np.errstate(over="ignore"):
        matrix = np.column_stack([np.asarray(column, dtype="float64").astype("float32") for column in columns])
    matrix[np.isinf(matrix)] = np.nan
    model = RandomForestClassifier(N_TREES, random_state=seed)
    folds = KFold(N_FOLDS, shuffle=True, random_state=seed)
    return int((cross_val_predict(model, matrix, codes, cv=folds) != codes).sum())


def read_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the table with string columns of numbers, such as amounts in dollars, converted to numbers."""
    read = {}
    for name in frame.columns:
        if pd.api.types.is_string_dtype(frame[name]) and frame[name].nunique() > text_issues.MANY_AMOUNTS:
            words = frame[name].dropna().unique()[: text_issues.MOST_DISTINCT]
            if rule := text_issues.guess_number(list(map(str, words))):
                read[name] = pd.Series(apply_rule(to_array(frame[name]), RowRule(**rule)), index=frame.index)
    return frame.assign(**read) if read else frame


def find_strong_predictors(
    frame: pd.DataFrame,
    inputs: Sequence[str],
    target: str,
    rows: Rows,
    *,
    seed: int,
    scores: Mapping[str, float] | None,
) -> dict[str, Leak]:
    """Return the columns that explain nearly all of the target by themselves, except times."""
    # A legitimate column rarely separates classes this well unless others do too. For a numeric target it may explain
    # nearly everything, as the opening price explains the closing price, so there it is only a suspicion.
    task = "classification" if rows.classes else "regression"
    known = frame[rows.is_known]
    if len(known) > MOST_ROWS:
        known = known.sample(MOST_ROWS, random_state=seed).sort_index()
    known = drop_copies(known)
    found = {}
    for column in choose_scored(known, inputs, target, task):
        if find_column_kind(known[column]) == "time":
            continue
        given = None if scores is None else scores.get(column)
        score = score_column(known[column], known[target], task, seed=seed) if given is None else given
        if score >= LEAK_SCORE:
            is_sure = task == "classification" and is_surely_predictive(known[column], known[target], rows.alpha, seed)
            found[column] = Leak(EXPLAINS, f"{floor_percent(score)} of it, on rows held out", is_sure)
    return found


def drop_copies(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop duplicated rows, which leak between folds; keep rows that are equal by coincidence."""
    # They are duplicates if some column has a different value in most of the distinct rows.
    distinct = frame[~frame.duplicated()]
    if len(distinct) == len(frame):
        return frame
    is_telling_rows_apart = any(frame[name].nunique() > len(distinct) / 2 for name in frame.columns)
    return distinct if is_telling_rows_apart else frame


def is_surely_predictive(values: pd.Series, classes: pd.Series, alpha: float, seed: int) -> bool:
    """Return whether a column surely makes few errors compared with always predicting the largest class."""
    held_out = predict_held_out(values, classes, "classification", seed=seed)
    if held_out is None:
        return False
    if is_numeric(values) and is_counter(values.to_numpy(), pd.factorize(classes)[0]):
        return False
    y_true, probabilities = held_out
    n_wrong = int((probabilities.argmax(axis=1) != y_true).sum())
    return bound_errors(n_wrong, y_true, alpha) <= FEW_ERRORS


def choose_scored(frame: pd.DataFrame, inputs: Sequence[str], target: str, task: str) -> Sequence[str]:
    """Return the columns to score: all if there are few, else numeric ones rank-correlated with the target."""
    if len(inputs) <= MOST_SCORED:
        return inputs
    outcomes = frame[target]
    y_true = compute_ranks(outcomes.to_numpy(dtype="float64") if task == "regression" else pd.factorize(outcomes)[0])
    numbers = [name for name in inputs if is_numeric(frame[name])]
    columns = (frame[name].to_numpy(dtype="float64", na_value=np.nan) for name in numbers)
    return [
        name for name, column in zip(numbers, columns, strict=True) if correlate(compute_ranks(column), y_true) >= ABLE
    ]


def compute_ranks(values: np.ndarray) -> np.ndarray:
    """Return the ranks of the values, missing values last."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return ranks
