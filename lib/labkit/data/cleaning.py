"""How the joined table is cleaned: rules applied, rows and columns left out.

Stateless: a row comes out the same whatever other rows there are; only where repeated rows are left out does it matter
which came first. What is learnt lives in the model; `describe_learnt` shows it. The rules themselves are in
`labkit.features.row_rules`, because live requests need them too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.computed_columns import settle_target
from labkit.errors import ParamsError, list_briefly
from labkit.features import expressions
from labkit.features.imputation import learn, learn_bounds, make_spec
from labkit.features.row_rules import RowRule, apply_rules
from labkit.features.table_columns import find_column_kind, to_array
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.params.wrangling import Rule, Wrangling

STEP = ["filter", "rows_before", "rows_after"]
OTHER = "other"
"""The class that rare classes are put together as."""


def apply_rules_to(frame: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return the table with the rules applied to their columns."""
    columns = apply_rules(
        {name: to_array(frame[name]) for name in rules},
        {name: RowRule(**rule.model_dump()) for name, rule in rules.items()},
    )
    texts = [name for name, rule in rules.items() if rule.type == "category" or is_text(frame[name], rule)]
    return frame.assign(**columns).astype(dict.fromkeys(texts, "str"))


def is_text(values: pd.Series, rule: Rule) -> bool:
    """Return whether a column holds texts and its rule reads nothing else from them."""
    return rule.type is None and pd.api.types.is_string_dtype(values)


def apply_filters(frame: pd.DataFrame, filters: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out the rows for which a filter is false or cannot be told.

    It cannot be told where a column that it names is missing, unless it asks for just that by `missing(column)`.

    Returns
    -------
    tuple of pandas.DataFrame
        The rows that stay, and one line per filter: `filter`, `rows_before`, `rows_after`.

    Raises
    ------
    ParamsError
        A filter does not say yes or no, or leaves no row.
    """
    steps = []
    for text in filters:
        names = expressions.find_names(text)
        keep = np.asarray(expressions.compute(text, {name: to_array(frame[name]) for name in names}))
        if keep.dtype != bool:
            raise ParamsError(f"wrangling.filters: {text!r} gives {keep.dtype}, not true or false: compare something")
        if "missing" not in expressions.find_functions(text):
            keep = keep & frame[names].notna().all(axis=1).to_numpy()
        kept = frame[np.broadcast_to(keep, len(frame))]
        if not len(kept):
            raise ParamsError(f"wrangling.filters: {text!r} leaves no row of {len(frame):,}")
        steps.append({"filter": text, "rows_before": len(frame), "rows_after": len(kept)})
        frame = kept
    return frame, pd.DataFrame(steps, columns=STEP)


def clean_table(
    frame: pd.DataFrame, wrangling: Wrangling, target: Target | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the rules to a joined table, leave rows and columns out.

    Rows go in this order: repeated ones, those that a filter is false for, those without a value that must be there,
    those with too many gaps, those of rare classes.

    Parameters
    ----------
    target
        If given, classes without missing values and fractions become whole numbers, and rare ones are left out or put
        together as declared.

    Returns
    -------
    tuple of pandas.DataFrame
        The clean table, and one line per step that leaves rows out: `filter`, `rows_before`, `rows_after`.

    Raises
    ------
    ParamsError
        A step leaves no row.
    """
    cleaned = apply_rules_to(frame, wrangling.rules)
    lines: list[dict[Any, Any]] = []
    if wrangling.duplicates == "drop":
        is_repeated = cleaned.duplicated(list(wrangling.duplicates_by) or None)
        cleaned, lines = leave_out(cleaned, is_repeated, "duplicates: drop")
    filtered, filters = apply_filters(cleaned, wrangling.filters)
    lines += filters.to_dict("records")
    for name, fill in wrangling.fill.items():
        if fill.strategy == "drop":
            filtered, more = leave_out(filtered, filtered[name].isna(), f"fill.{name}: drop")
            lines += more
    if wrangling.most_missing.rows is not None:
        gaps = count_gaps(filtered, wrangling, target)
        text = f"most_missing.rows: {wrangling.most_missing.rows:g}"
        filtered, more = leave_out(filtered, gaps > wrangling.most_missing.rows, text)
        lines += more
    if target is not None:
        filtered, more = settle_rare_classes(settle_target(filtered, target), target)
        lines += more
    return filtered.drop(columns=list(wrangling.drop)), pd.DataFrame(lines, columns=STEP)


def leave_out(frame: pd.DataFrame, is_out: pd.Series, text: str) -> tuple[pd.DataFrame, list[dict[Any, Any]]]:
    """Return the rows that stay, and the line that tells of it."""
    kept = frame[~is_out]
    if not len(kept):
        place = "" if text.startswith("data.") else "wrangling."
        raise ParamsError(f"{place}{text} leaves no row of {len(frame):,}")
    return kept, [{"filter": text, "rows_before": len(frame), "rows_after": len(kept)}]


def settle_rare_classes(frame: pd.DataFrame, target: Target) -> tuple[pd.DataFrame, list[dict[Any, Any]]]:
    """Return the rows with rare classes left out or put together, and the line that tells of it."""
    if target.rare is None:
        return frame, []
    classes, fewest = frame[target.column], target.rare.fewest_rows
    rare = list_rare_classes(classes, fewest)
    if not rare:
        return frame, []
    lead, named = f"data.target.rare: {target.rare.action}", list_briefly(map(repr, rare))
    if target.rare.action == "other":
        if not pd.api.types.is_string_dtype(classes):
            raise ParamsError(f"{lead}: the classes of {target.column!r} are no words: use drop")
        frame = frame.assign(**{target.column: classes.mask(classes.isin(rare), OTHER)})
        text = f"{lead}, fewer than {fewest} rows: {named}"
        line = {"filter": text, "rows_before": len(frame), "rows_after": len(frame)}
        if (frame[target.column] == OTHER).sum() >= fewest:
            return frame, [line]
        rare = [OTHER]
    return leave_out(frame, frame[target.column].isin(rare), f"{lead}, fewer than {fewest} rows: {named}")


def list_rare_classes(classes: pd.Series, fewest_rows: int) -> list[Any]:
    """Return the classes with fewer rows than that, in the order of their names.

    >>> list_rare_classes(pd.Series(["a", "b", "b", "c"]), 2)
    ['a', 'c']
    """
    counts = classes.value_counts()
    return sorted(counts.index[counts < fewest_rows].tolist(), key=str)


def count_gaps(frame: pd.DataFrame, wrangling: Wrangling, target: Target | None) -> pd.Series:
    """Return the share of missing values of each row, shape (n_rows,), over the columns that stay."""
    left_out = {*wrangling.drop, *([target.column] if target else [])}
    return frame[[name for name in frame.columns if name not in left_out]].isna().mean(axis=1)


def drop_outliers(training: pd.DataFrame, wrangling: Wrangling) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Leave out training rows with a number too far out, where that is declared; a live row always gets its answer.

    Returns
    -------
    tuple of pandas.DataFrame
        The rows that stay, and one line per column: `filter`, `rows_before`, `rows_after`.
    """
    lines: list[dict[Any, Any]] = []
    for name, rule in wrangling.outliers.items():
        if rule.action == "drop":
            values = to_array(training[name])
            low, high = learn_bounds(values, rule.model_dump(), name)
            is_far = pd.Series((values < low) | (values > high), index=training.index)
            text = f"outliers.{name}: outside of {low:.4g} to {high:.4g}"
            training, more = leave_out(training, is_far, text)
            lines += more
    return training, pd.DataFrame(lines, columns=STEP)


def describe_learnt(training: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return what the training rows teach of outliers, gaps and empty columns: `column`, `choice`, `learnt`, `rows`.

    The model learns the same again; here it can be seen, with the training rows that it concerns.
    """
    spec = {**make_spec(params), "text": {}}
    names = [name for name in training.columns if name != params.data.target.column]
    columns = {str(name): to_plain(training[name]) for name in names}
    found = learn(columns, spec)
    lines = []
    for name, (low, high) in found["bounds"].items():
        rows = int(((columns[name] < low) | (columns[name] > high)).sum())
        action = params.wrangling.outliers[name].action
        lines.append([name, f"outliers: {action}", f"{low:.4g} to {high:.4g}", rows])
    for name, value in found["fills"].items():
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        lines.append([name, f"gaps: {params.wrangling.fill[name].strategy}", shown, int(training[name].isna().sum())])
    for name in found["empty"]:
        lines.append([name, "left out: mostly missing", "", int(training[name].isna().sum())])
    return pd.DataFrame(lines, columns=["column", "choice", "learnt", "rows"])


def to_plain(values: pd.Series) -> np.ndarray:
    """Return a column as row features have it: texts with None, others as they are."""
    array = to_array(values)
    if array.dtype != object:
        return array
    gaps = expressions.is_missing(array)
    return np.array([None if gap else value for value, gap in zip(array, gaps, strict=True)], object)


def describe_rules(before: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return how many values each rule changed, read as another type, or lost.

    Returns
    -------
    pandas.DataFrame
        One row per rule: `column`, `rule`, `changed` (to another value of the same type), `read` (the same value as
        another type), `lost` (now missing), `missing_before`, `missing_after`.
    """
    after = apply_rules_to(before, rules)
    lines = []
    for name, rule in rules.items():
        was, now = before[name], after[name]
        is_lost = was.notna() & now.isna()
        differs = was.notna() & now.notna() & (was.astype(object) != now.astype(object))
        is_read = differs & (find_column_kind(was) != find_column_kind(now))
        stated = ", ".join(f"{key} {value}" for key, value in rule.model_dump(exclude_defaults=True).items())
        counts = {"changed": differs & ~is_read, "read": is_read, "lost": is_lost}
        counts |= {"missing_before": was.isna(), "missing_after": now.isna()}
        lines.append({"column": name, "rule": stated, **{key: int(mask.sum()) for key, mask in counts.items()}})
    names = ["column", "rule", "changed", "read", "lost", "missing_before", "missing_after"]
    return pd.DataFrame(lines, columns=names)
