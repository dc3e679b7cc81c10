"""Clean the joined table: apply rules, drop rows and columns.

Cleaning is stateless: the result for a row does not depend on other rows, except when duplicates are dropped, where
their order matters, and when rare classes are handled, where counts do. Anything learned from the data is part of the
model; `describe_learnt` shows it. The rules themselves are in `labkit.features.row_rules`, because live requests need
them too.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from labkit.data.computed_columns import settle_target
from labkit.errors import ParamsError, list_briefly
from labkit.features import expressions
from labkit.features.imputation import learn, learn_bounds, make_spec
from labkit.features.row_computation import OTHER
from labkit.features.row_rules import RowRule, apply_rules
from labkit.features.table_columns import find_column_kind, to_array
from labkit.params.experiment import Params
from labkit.params.tables import Target
from labkit.params.wrangling import Rule, Wrangling

STEP = ["filter", "rows before", "rows after"]


def apply_rules_to(frame: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return the table with the rules applied to their columns."""
    columns = apply_rules(
        {name: to_array(frame[name]) for name in rules},
        {name: RowRule(**rule.model_dump()) for name, rule in rules.items()},
    )
    strings = [name for name, rule in rules.items() if rule.type == "category" or is_text(frame[name], rule)]
    return frame.assign(**columns).astype(dict.fromkeys(strings, "str"))


def is_text(values: pd.Series, rule: Rule) -> bool:
    """Return whether a column holds strings and its rule does not parse them as another type."""
    return rule.type is None and pd.api.types.is_string_dtype(values)


def apply_filters(frame: pd.DataFrame, filters: tuple[str, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop the rows for which a filter is false or undefined.

    A filter is undefined where a column that it uses is missing, unless it contains `missing(column)`.

    Returns
    -------
    tuple of pandas.DataFrame
        The remaining rows, and one row per filter: `filter`, `rows before`, `rows after`.

    Raises
    ------
    ParamsError
        A filter is not a boolean expression, or leaves no rows.
    """
    steps = []
    for expression in filters:
        names = expressions.find_names(expression)
        keep = np.asarray(expressions.compute(expression, {name: to_array(frame[name]) for name in names}))
        if keep.dtype != bool:
            raise ParamsError(
                f"wrangling.filters: {expression!r} gives {keep.dtype}, not true or false: use a comparison"
            )
        if "missing" not in expressions.find_functions(expression):
            keep = keep & frame[names].notna().all(axis=1).to_numpy()
        kept = frame[np.broadcast_to(keep, len(frame))]
        if not len(kept):
            raise ParamsError(f"wrangling.filters: {expression!r} leaves none of {len(frame):,} rows")
        steps.append({"filter": expression, "rows before": len(frame), "rows after": len(kept)})
        frame = kept
    return frame, pd.DataFrame(steps, columns=STEP)


def clean_table(
    frame: pd.DataFrame, wrangling: Wrangling, target: Target | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the rules to a joined table, then drop rows and columns.

    Rows are dropped in this order: duplicates, rows for which a filter is false or undefined, rows without a required
    value, rows with too many missing values, rows of rare classes.

    Parameters
    ----------
    target
        If given, rows without a computed target are dropped and its integer class codes become integers (see
        `settle_target`), and rare classes are dropped or merged as declared.

    Returns
    -------
    tuple of pandas.DataFrame
        The clean table, and one row per step that drops rows: `filter`, `rows before`, `rows after`.

    Raises
    ------
    ParamsError
        A step leaves no rows, a filter is not a boolean expression, or classes to be merged are not strings.
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
        missing = count_missing(filtered, wrangling, target)
        step = f"most_missing.rows: {wrangling.most_missing.rows:g}"
        filtered, more = leave_out(filtered, missing > wrangling.most_missing.rows, step)
        lines += more
    if target is not None:
        filtered, more = settle_rare_classes(settle_target(filtered, target), target)
        lines += more
    return filtered.drop(columns=list(wrangling.drop)), pd.DataFrame(lines, columns=STEP)


def leave_out(frame: pd.DataFrame, is_out: pd.Series, step: str) -> tuple[pd.DataFrame, list[dict[Any, Any]]]:
    """Return the remaining rows, and the row that reports the step."""
    kept = frame[~is_out]
    if not len(kept):
        place = "" if step.startswith("data.") else "wrangling."
        raise ParamsError(f"{place}{step} leaves none of {len(frame):,} rows")
    return kept, [{"filter": step, "rows before": len(frame), "rows after": len(kept)}]


def settle_rare_classes(frame: pd.DataFrame, target: Target) -> tuple[pd.DataFrame, list[dict[Any, Any]]]:
    """Return the rows with rare classes dropped or merged, and the row that reports the step."""
    if target.rare is None:
        return frame, []
    classes, fewest = frame[target.column], target.rare.fewest_rows
    rare = list_rare_classes(classes, fewest)
    if not rare:
        return frame, []
    lead, named = f"data.target.rare: {target.rare.action}", list_briefly(map(repr, rare))
    if target.rare.action == "other":
        if not pd.api.types.is_string_dtype(classes):
            raise ParamsError(f"{lead}: the classes of {target.column!r} are not strings: use drop")
        frame = frame.assign(**{target.column: classes.mask(classes.isin(rare), OTHER)})
        step = f"{lead}, fewer than {fewest} rows: {named}"
        line = {"filter": step, "rows before": len(frame), "rows after": len(frame)}
        if (frame[target.column] == OTHER).sum() >= fewest:
            return frame, [line]
        rare = [OTHER]
    return leave_out(frame, frame[target.column].isin(rare), f"{lead}, fewer than {fewest} rows: {named}")


def list_rare_classes(classes: pd.Series, fewest_rows: int) -> list[Any]:
    """Return the classes with fewer than `fewest_rows` rows, sorted by name.

    >>> list_rare_classes(pd.Series(["a", "b", "b", "c"]), 2)
    ['a', 'c']
    """
    counts = classes.value_counts()
    return sorted(counts.index[counts < fewest_rows].tolist(), key=str)


def count_missing(frame: pd.DataFrame, wrangling: Wrangling, target: Target | None) -> pd.Series:
    """Return the fraction of missing values in each row, shape (n_rows,), over the columns that are kept."""
    left_out = {*wrangling.drop, *([target.column] if target else [])}
    return frame[[name for name in frame.columns if name not in left_out]].isna().mean(axis=1)


def drop_outliers(training: pd.DataFrame, wrangling: Wrangling) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop training rows with outliers where declared; live rows are never dropped and always get a prediction.

    Returns
    -------
    tuple of pandas.DataFrame
        The remaining rows, and one row per column: `filter`, `rows before`, `rows after`.
    """
    lines: list[dict[Any, Any]] = []
    for name, rule in wrangling.outliers.items():
        if rule.action == "drop":
            values = to_array(training[name])
            low, high = learn_bounds(values, rule.model_dump(), name)
            is_far = pd.Series((values < low) | (values > high), index=training.index)
            step = f"outliers.{name}: outside of {low:.4g} to {high:.4g}"
            training, more = leave_out(training, is_far, step)
            lines += more
    return training, pd.DataFrame(lines, columns=STEP)


def describe_learnt(training: pd.DataFrame, params: Params) -> pd.DataFrame:
    """Return what is learned from the training rows about outliers, missing values and empty columns.

    The model learns the same again; this table makes it visible, with the number of training rows concerned.

    Returns
    -------
    pandas.DataFrame
        One row per outlier rule, fill and mostly missing column: `column`, `choice`, `learnt`, `rows`.
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
        lines.append(
            [name, f"missing: {params.wrangling.fill[name].strategy}", shown, int(training[name].isna().sum())]
        )
    for name in found["empty"]:
        lines.append([name, "left out: mostly missing", "", int(training[name].isna().sum())])
    return pd.DataFrame(lines, columns=["column", "choice", "learnt", "rows"])


def to_plain(values: pd.Series) -> np.ndarray:
    """Return a column in the form that row features use: missing strings as None, other types unchanged."""
    array = to_array(values)
    if array.dtype != object:
        return array
    missing = expressions.is_missing(array)
    return np.array([None if is_absent else value for value, is_absent in zip(array, missing, strict=True)], object)


def describe_rules(before: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return how many values each rule changed, parsed as another type, or turned into missing values.

    Returns
    -------
    pandas.DataFrame
        One row per rule: `column`, `rule`, `changed` (to another value of the same type), `read` (parsed as another
        type), `lost` (now missing), `missing before`, `missing after`.
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
        counts |= {"missing before": was.isna(), "missing after": now.isna()}
        lines.append({"column": name, "rule": stated, **{key: int(mask.sum()) for key, mask in counts.items()}})
    names = ["column", "rule", "changed", "read", "lost", "missing before", "missing after"]
    return pd.DataFrame(lines, columns=names)
