"""Blank rows: rows whose only values are in key columns, such as an identifier, a date or a constant."""

from collections.abc import Collection
from dataclasses import dataclass

import pandas as pd

from labkit.units import format_count

FEWEST_COLUMNS = 2


@dataclass(frozen=True)
class BlankRows:
    """How many rows are blank, the position of the first, counted from 1, and the columns that have values there."""

    n_rows: int
    first: int
    filled: tuple[str, ...]

    def describe(self) -> str:
        """Describe the rows in one sentence.

        >>> BlankRows(1, 200, ("day",)).describe()
        "1 row has no value but in 'day', first row 200"
        """
        verb = "has" if self.n_rows == 1 else "have"
        shown = " and ".join(map(repr, self.filled[:2])) + (" and others" if len(self.filled) > 2 else "")
        held = f"no value but in {shown}" if self.filled else "no value at all"
        return f"{format_count(self.n_rows, 'row')} {verb} {held}, first row {self.first:,}"


def find_blank_rows(frame: pd.DataFrame, keys: Collection[str]) -> BlankRows | None:
    """Return the rows without a value in any column except `keys`, or None if there are none.

    >>> find_blank_rows(pd.DataFrame({"day": [1, 2], "x": [1.0, None], "y": ["a", None]}), ["day"])
    BlankRows(n_rows=1, first=2, filled=('day',))
    """
    others = [name for name in frame.columns if name not in keys]
    if len(others) < FEWEST_COLUMNS:
        return None
    is_blank = frame[others].isna().all(axis=1).to_numpy()
    if not is_blank.any():
        return None
    filled = [str(name) for name in frame.columns if name in keys and frame.loc[is_blank, name].notna().any()]
    return BlankRows(int(is_blank.sum()), int(is_blank.argmax()) + 1, tuple(filled))
