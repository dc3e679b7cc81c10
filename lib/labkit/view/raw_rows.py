"""Rows of a table as a person writes them: numbers in full, times in the zone of the experiment."""

import math
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_scalar

from labkit.params.subject import GENERIC, Subject


def format_rows(frame: pd.DataFrame, subject: Subject = GENERIC) -> pd.DataFrame:
    """Return rows as strings for readers: whole numbers in full, times in the zone of the experiment, "–" if missing.

    >>> format_rows(pd.DataFrame({"id": [123456789.0, None], "at": [pd.Timestamp("2013-01-01 10:15"), pd.NaT]}))
              id                at
    0  123456789  2013-01-01 10:15
    1          –                 –
    """

    def write(name: str, value: Any) -> str:
        if is_scalar(value) and pd.isna(value):
            return "–"
        if isinstance(value, datetime):
            return subject.format_time(value)
        # Integers are exact as they are.
        kinds = int | float | np.number if subject.is_clock(name) else float | np.floating
        is_number = isinstance(value, kinds) and math.isfinite(value)
        return subject.format_value(name, float(value)) if is_number else str(value)

    return pd.DataFrame({name: [write(str(name), value) for value in frame[name]] for name in frame}, index=frame.index)
