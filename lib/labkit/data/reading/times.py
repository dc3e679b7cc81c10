"""Parse columns of strings as times, in the same way everywhere: in a new table, in the EDA and in every later run.

Single strings are parsed by `labkit.features.parse_text`, which also serves single requests. Whole columns are parsed
by pandas, and only strings that pandas cannot parse are parsed one by one.
"""

import pandas as pd

from labkit.features.parse_text import read_date


def read_times(strings: pd.Series, style: str | None, *, utc: bool = False) -> pd.Series:
    """Parse a column of strings as times.

    Parameters
    ----------
    strings
        Strings without surrounding whitespace, shape (n_rows,).
    style
        Format as for `datetime.strptime`; ISO 8601 if None.
    utc
        Whether the times include their offset from UTC.

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
    # pandas also parses words such as "today", with a result that changes every day.
    is_plain = strings.str.match("[0-9]").fillna(False).astype(bool)
    parsed = pd.to_datetime(strings.where(is_plain), errors="coerce", format="ISO8601", utc=utc)
    rest = strings[strings.notna() & parsed.isna()]
    if not len(rest):
        return parsed
    read = pd.to_datetime(rest.map(lambda string: read_date(string, None)), utc=utc).dt.as_unit("us")
    return parsed.dt.as_unit("us").where(~parsed.index.isin(rest.index), read.reindex(parsed.index))
