"""How the joined table is cleaned: columns dropped, rules applied, rows filtered.

Everything here is stateless: a row comes out the same whatever other rows there are. What is fitted lives in the
model. The rules themselves are in `labkit.data.rules`, because live requests need them too.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from labkit.data import expressions
from labkit.data.rules import apply_rules
from labkit.data.tables import settle_target
from labkit.errors import ParamsError
from labkit.params import Rule, Target, Wrangling


def apply_rules_to(frame: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return the table with the rules applied to their columns."""
    columns = apply_rules({name: expressions.to_array(frame[name]) for name in rules}, rules)
    texts = {name: "str" for name in rules if pd.api.types.is_string_dtype(frame[name])}
    return frame.assign(**columns).astype(texts)


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
        keep = np.asarray(expressions.compute(text, {name: expressions.to_array(frame[name]) for name in names}))
        if keep.dtype != bool:
            raise ParamsError(f"wrangling.filters: {text!r} gives {keep.dtype}, not true or false: compare something")
        if "missing" not in expressions.find_functions(text):
            keep = keep & frame[names].notna().all(axis=1).to_numpy()
        kept = frame[np.broadcast_to(keep, len(frame))]
        if not len(kept):
            raise ParamsError(f"wrangling.filters: {text!r} leaves no row of {len(frame):,}")
        steps.append({"filter": text, "rows_before": len(frame), "rows_after": len(kept)})
        frame = kept
    return frame, pd.DataFrame(steps, columns=["filter", "rows_before", "rows_after"])


def clean_table(
    frame: pd.DataFrame, wrangling: Wrangling, target: Target | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Drop columns, apply the rules and filter the rows of a joined table.

    Parameters
    ----------
    target
        If given, answers without gaps and fractions become whole numbers.

    Returns
    -------
    tuple of pandas.DataFrame
        The clean table, and what each filter left.
    """
    filtered, steps = apply_filters(apply_rules_to(frame, wrangling.rules), wrangling.filters)
    if target is not None:
        filtered = settle_target(filtered, target)
    return filtered.drop(columns=list(wrangling.drop)), steps


def describe_rules(before: pd.DataFrame, rules: Mapping[str, Rule]) -> pd.DataFrame:
    """Return one line per rule: `column`, `rule`, `values_changed`, `missing_before`, `missing_after`."""
    after = apply_rules_to(before, rules)
    lines = []
    for name, rule in rules.items():
        was, now = before[name], after[name]
        changed = ~((was == now) | (was.isna() & now.isna()))
        stated = ", ".join(f"{key} {value}" for key, value in rule.model_dump(exclude_defaults=True).items())
        lines.append(
            {
                "column": name,
                "rule": stated,
                "values_changed": int(changed.sum()),
                "missing_before": int(was.isna().sum()),
                "missing_after": int(now.isna().sum()),
            }
        )
    return pd.DataFrame(lines, columns=["column", "rule", "values_changed", "missing_before", "missing_after"])
