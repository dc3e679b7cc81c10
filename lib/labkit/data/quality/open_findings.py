"""Findings of the exploration that are left open: nothing is declared for them, and the clean rows still show them."""

import pandas as pd

from labkit.data.quality.issues import find_all, list_open
from labkit.data.quality.profile import profile_table
from labkit.data.split import take_explored
from labkit.data.stability import compute_drift
from labkit.params.tables import Data
from labkit.params.wrangling import Wrangling
from labkit.units import format_count

NO_PAIRS = 2.0
"""A correlation that no pair of columns reaches: redundant columns are of low severity, and those are not listed."""


def list_still_open(
    findings: pd.DataFrame, joined: pd.DataFrame, clean: pd.DataFrame, data: Data, wrangling: Wrangling, *, seed: int
) -> pd.DataFrame:
    """Return the findings that `list_open` names and that are still found among the clean rows.

    A finding is searched for in all columns, those that are dropped included, because the evidence about one column
    depends on the others.

    Parameters
    ----------
    findings
        As returned by `labkit.data.quality.issues.find_all` for the joined table.
    joined, clean
        The table before and after it is cleaned, with a common index.
    """
    left = list_open(findings, wrangling)
    if left.empty:
        return left
    table = joined.loc[clean.index].assign(**{str(name): clean[name] for name in clean.columns})
    explored = take_explored(table, data)
    drift = compute_drift(table, data, [str(name) for name in table if name != data.target.column])
    profile = profile_table(explored, data.target, seed=seed)
    again = find_all(explored, profile, data, correlation_alert=NO_PAIRS, drift=drift, every=table)
    still = set(zip(again["column"], again["what"], strict=True))
    return left[[pair in still for pair in zip(left["column"], left["what"], strict=True)]]


def describe_low(findings: pd.DataFrame) -> str:
    """Return how many findings of low severity are not listed; empty if there are none.

    >>> describe_low(pd.DataFrame({"severity": ["high", "low", "low"]}))
    'Not listed: 2 findings of low severity, which are on the page of the exploration.'
    """
    n_low = int((findings["severity"] == "low").sum())
    if not n_low:
        return ""
    which = "which is" if n_low == 1 else "which are"
    return f"Not listed: {format_count(n_low, 'finding')} of low severity, {which} on the page of the exploration."
