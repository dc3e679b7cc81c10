"""Columns of strings as times, read alike wherever they are read: in a new table, in the EDA and in every later run.

What one string stands for is decided in `labkit.features.parse_text`, which serves single requests; whole columns are
parsed by pandas, and only what pandas does not know is read one by one.
"""

import pandas as pd

from labkit.features.parse_text import read_date


def read_times(strings: pd.Series, style: str | None, *, utc: bool = False) -> pd.Series:
    """Return a column of strings as times.

    Parameters
    ----------
    strings
        Without blanks at their ends, shape (n_rows,).
    style
        As `datetime.strptime` takes it; ISO 8601 if None.
    utc
        Whether the times name their offset from UTC.

    Returns
    -------
    pandas.Series
        Times, in UTC if `utc`, shape (n_rows,); NaT where a string is not a time.

    Examples
    --------
    >>> read_times(pd.Series(["2020-01-03", "today"]), None).tolist()
    [Timestamp('2020-01-03 00:00:00'), NaT]
    """
    if style is not None:
        return pd.to_datetime(strings, errors="coerce", format=style, utc=utc)
    # pandas also reads words such as "today", as another time on every day.
    is_plain = strings.str.match("[0-9]").fillna(False).astype(bool)
    parsed = pd.to_datetime(strings.where(is_plain), errors="coerce", format="ISO8601", utc=utc)
    rest = strings[strings.notna() & parsed.isna()]
    if not len(rest):
        return parsed
    read = pd.to_datetime(rest.map(lambda string: read_date(string, None)), utc=utc).dt.as_unit("us")
    return parsed.dt.as_unit("us").where(~parsed.index.isin(rest.index), read.reindex(parsed.index))
