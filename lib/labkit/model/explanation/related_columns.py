"""Raw columns that are related: those that determine each other, and those that are correlated."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.data.quality.profile import find_pairs

STRONG = 0.8
"""Absolute rank correlation from which the effects of two columns can hardly be told apart: a convention."""
MOST_ROWS = 5000
MOST_COLUMNS = 100
FEWEST_VALUES = 3


@dataclass(frozen=True)
class RelatedColumns:
    """Relations between the raw columns of some rows.

    Attributes
    ----------
    determined
        Groups of columns of which one determines the others in every row: times at a fixed distance, and numbers that
        follow from the time of day.
    correlated
        Pairs of numbers with their rank correlation, the strongest first.
    """

    determined: tuple[tuple[str, ...], ...]
    correlated: tuple[tuple[str, str, float], ...]


def find_related(rows: pd.DataFrame, kinds: Mapping[str, str], zone: str) -> RelatedColumns:
    """Find the columns that determine each other or are correlated.

    Parameters
    ----------
    rows
        Raw columns; of more than `MOST_ROWS`, rows at equal distances are used.
    kinds
        Kind of each raw column, see `labkit.features.table_columns.find_column_kind`; the first `MOST_COLUMNS` count.
    zone
        Time zone of the time of day.
    """
    few, times, numbers = take_some(rows, kinds)
    return RelatedColumns(find_determined(few, times, numbers, zone), tuple(find_pairs(few[numbers], STRONG)))


def take_some(rows: pd.DataFrame, kinds: Mapping[str, str]) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Return the rows and columns that are compared, and which of the columns are times and which are numbers."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).round().astype(int))
    names = [*kinds][:MOST_COLUMNS]
    times, numbers = ([name for name in names if kinds[name] == kind] for kind in ("time", "number"))
    return rows.iloc[places][names], times, numbers


def make_determined_facts(rows: pd.DataFrame, kinds: Mapping[str, str], zone: str) -> dict[str, list[list[str]]]:
    """Return what a release says of its columns that determine each other; nothing if none do.

    Parameters
    ----------
    rows, kinds, zone
        As in `find_related`.

    Returns
    -------
    dict
        `determined`: groups of columns, as in `RelatedColumns`.
    """
    found = find_determined(*take_some(rows, kinds), zone)
    return {"determined": [list(group) for group in found]} if found else {}


def find_determined(rows: pd.DataFrame, times: list[str], numbers: list[str], zone: str) -> tuple[tuple[str, ...], ...]:
    """Return groups of columns that follow from one time column, that column first."""
    groups: list[tuple[str, ...]] = []
    for name in times:
        if any(name in group for group in groups):
            continue
        local = pd.to_datetime(rows[name], utc=True).dt.tz_convert(zone)
        minutes = local.dt.hour * 60 + local.dt.minute
        shifted = [one for one in times if one != name and is_fixed((rows[one] - rows[name]), FEWEST_VALUES)]
        of_day = [one for one in numbers if follows(rows[one], minutes)]
        if shifted or of_day:
            groups.append((name, *shifted, *of_day))
    return tuple(groups)


def is_fixed(distances: pd.Series, fewest: int) -> bool:
    """Return whether a distance is the same in all rows where it is known."""
    known = distances.dropna()
    return len(known) >= fewest and known.nunique() == 1


def follows(values: pd.Series, minutes: pd.Series) -> bool:
    """Return whether each minute of the day has one value, and neither is constant; rows must repeat minutes."""
    known = values.notna() & minutes.notna()
    if values[known].nunique() < FEWEST_VALUES or minutes[known].nunique() == known.sum():
        return False
    return bool((values[known].groupby(minutes[known]).nunique() == 1).all())
