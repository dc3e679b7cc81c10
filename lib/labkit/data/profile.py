"""What a table is like, column by column, and what looks wrong with it.

Finds; changes nothing. Pictures of it are in `labkit.view.plots`.
"""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, r2_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from labkit.data.tables import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.params import Target

MOST_ROWS = 20_000
LEAK_SCORE = 0.95
MANY_MISSING = 0.3


def find_kind(values: pd.Series) -> str:
    """Return `number`, `boolean`, `time` or `category`.

    >>> find_kind(pd.Series([1.5, 2.0]))
    'number'
    """
    if pd.api.types.is_bool_dtype(values):
        return "boolean"
    if pd.api.types.is_numeric_dtype(values):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "time"
    return "category"


def profile_table(frame: pd.DataFrame, target: Target, *, seed: int) -> pd.DataFrame:
    """Describe every column of a joined table.

    Returns
    -------
    pandas.DataFrame
        One row per column: `column`, `kind`, `missing_share`, `distinct`, `smallest`, `largest` (texts), `mean`,
        `most_common`, `score` (see `score_column`; missing for the target itself).
    """
    sample = frame if len(frame) <= MOST_ROWS else frame.sample(MOST_ROWS, random_state=seed).sort_index()
    lines = [describe_column(frame[name]) for name in frame.columns]
    profile = pd.DataFrame(lines)
    answers = sample[target.column]
    known = answers.notna()
    profile["score"] = [
        np.nan
        if name == target.column
        else score_column(sample.loc[known, name], answers[known], target.task, seed=seed)
        for name in frame.columns
    ]
    profile.attrs["target"] = target.column
    return profile


def describe_column(values: pd.Series) -> dict[str, Any]:
    """Describe one column without regard to the target."""
    kind, known = find_kind(values), values.dropna()
    ordered = kind in ("number", "time") and len(known) > 0
    common = known.mode()
    return {
        "column": str(values.name),
        "kind": kind,
        "missing_share": float(values.isna().mean()) if len(values) else 0.0,
        "distinct": int(known.nunique()),
        "smallest": str(known.min()) if ordered else "",
        "largest": str(known.max()) if ordered else "",
        "mean": float(known.mean()) if kind == "number" and len(known) else np.nan,
        "most_common": str(common.iloc[0]) if len(common) else "",
    }


def score_column(values: pd.Series, answers: pd.Series, task: str, *, seed: int) -> float:
    """Return the share of the answers' uncertainty that one column alone explains, on rows it was not fitted on.

    A small decision tree on that column, cross-validated in three folds: the share of variance explained (R²) for
    regression, of log loss below that of the classes' shares for classification (McFadden's R²). At least 0.
    """
    codes = values.astype("float64") if find_kind(values) == "number" else pd.Series(pd.factorize(values)[0])
    # Trees compute in float32 and take gaps, but nothing infinite.
    with np.errstate(over="ignore"):
        column = codes.to_numpy(dtype="float64", na_value=np.nan).astype("float32").reshape(-1, 1)
    column[np.isinf(column)] = np.nan
    leaf = max(5, len(column) // 20)
    if task == "regression":
        tree = DecisionTreeRegressor(max_depth=4, min_samples_leaf=leaf, random_state=seed)
        folds = KFold(3, shuffle=True, random_state=seed)
        return max(0.0, float(r2_score(answers, cross_val_predict(tree, column, answers, cv=folds))))
    labels, classes = pd.factorize(answers, sort=True)
    if len(classes) < 2 or np.bincount(labels).min() < 3:
        return np.nan
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=leaf, random_state=seed)
    folds = StratifiedKFold(3, shuffle=True, random_state=seed)
    chances = cross_val_predict(tree, column, labels, cv=folds, method="predict_proba")
    shares = np.bincount(labels) / len(labels)
    uncertainty = -float((shares * np.log(shares)).sum())
    # A leaf of few rows is not as sure as it looks: its chances are drawn a little towards the classes' shares.
    chances = np.clip(0.95 * chances + 0.05 * shares, 1e-3, 1)
    loss = log_loss(labels, chances / chances.sum(axis=1, keepdims=True), labels=range(len(classes)))
    return max(0.0, 1 - loss / uncertainty)


def find_suspects(frame: pd.DataFrame, profile: pd.DataFrame, *, correlation_alert: float) -> pd.DataFrame:
    """List what looks wrong: constants, identifiers, gaps, near-copies of the target and of each other.

    The target itself is what the others are held against, never a finding: it cannot be dropped.

    Returns
    -------
    pandas.DataFrame
        `column`, `finding`, `evidence`, `remedy` (a line for the params file), worst first.
    """
    findings: list[tuple[int, str, str, str, str]] = []
    never = {profile.attrs.get("target"), PREDICT_AT, OUTCOME_KNOWN_AT}
    inputs = frame.drop(columns=[name for name in frame if name in never])
    for line in profile[profile["column"].isin(inputs.columns)].to_dict("records"):
        name = line["column"]
        drop = f"wrangling.drop: {{{name}: …}}"
        if line["score"] >= LEAK_SCORE:
            evidence = f"alone explains {line['score']:.0%} of the target"
            findings.append((0, name, "may be the answer in disguise", evidence, drop))
        if line["distinct"] <= 1:
            findings.append((1, name, "constant", f"{line['distinct']} distinct values", drop))
        elif line["distinct"] == len(frame) and line["kind"] != "time" and is_label(frame[name]):
            findings.append((1, name, "identifier", "every value is different", drop))
        if line["missing_share"] >= MANY_MISSING:
            findings.append((2, name, "many gaps", f"{line['missing_share']:.0%} missing", drop))
    for first, second, correlation in find_pairs(inputs, correlation_alert):
        evidence = f"correlation {correlation:.3f} with {first}"
        findings.append((3, second, "says the same as another column", evidence, f"wrangling.drop: {{{second}: …}}"))
    rows = [line[1:] for line in sorted(findings)]
    return pd.DataFrame(rows, columns=["column", "finding", "evidence", "remedy"])


def is_label(values: pd.Series) -> bool:
    """Tell whether values are whole numbers or texts, as identifiers are."""
    return pd.api.types.is_integer_dtype(values) or find_kind(values) == "category"


def find_pairs(frame: pd.DataFrame, least: float) -> list[tuple[str, str, float]]:
    """Return the pairs of number columns whose absolute rank correlation is at least `least`, strongest first."""
    numbers = frame.select_dtypes("number")
    sample = numbers if len(numbers) <= MOST_ROWS else numbers.iloc[:: len(numbers) // MOST_ROWS + 1]
    matrix = sample.corr(method="spearman").to_numpy()
    first, second = np.where(np.triu(np.abs(matrix) >= least, k=1))
    names = list(numbers.columns)
    pairs = [(str(names[a]), str(names[b]), float(matrix[a, b])) for a, b in zip(first, second, strict=True)]
    return sorted(pairs, key=lambda pair: -abs(pair[2]))
