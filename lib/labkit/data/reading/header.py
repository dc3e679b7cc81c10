"""The header of a table: which rows hold the column names, how several rows are joined, which names are invalid.

For reading rows, see `labkit.data.reading.delimited` and `labkit.data.reading.spreadsheet`.
"""

import itertools
import re
from collections import Counter

from labkit.errors import DataError, list_briefly
from labkit.names import normalize_spaces
from labkit.params.tables import Table
from labkit.vocabulary import DATE_LIKE, USUAL_MISSING

NUMBER_LIKE = re.compile(r"[+-]?([0-9]+([.,][0-9]*)*|[.,][0-9]+)([eE][+-]?[0-9]+)?")
MOST_ROWS = 500
FEWEST_ROWS_BELOW, FEWEST_VOTES = 3, 2
MOST_HEADER_ROWS = 3
MOSTLY_MEASURED = 0.9
"""Minimum share of numbers or dates in a column for a word above them to be a name."""


def check_names(first: list[str], table: Table, where: str) -> list[str]:
    """Return the column names from the first row, rejecting invalid ones.

    Raises
    ------
    DataError
        There are too many columns, duplicate or missing names, or the first row looks like data.
    """
    if len(first) > table.max_columns:
        raise DataError(f"{where}: {len(first):,} columns: raise `max_columns` of the table ({table.max_columns:,})")
    if table.header is False:
        return [f"column_{place}" for place in range(1, len(first) + 1)]
    if table.header is None and looks_like_data(first):
        shown = list_briefly((repr(cell) for cell in first), most=3)
        raise DataError(f"{where}: header looks like data ({shown}): set `header` to true or false")
    unnamed = [place for place, name in enumerate(first, 1) if not name.strip()]
    if unnamed and not table.name_unnamed:
        raise DataError(
            f"{where}: columns without a name: {list_briefly(map(str, unnamed))}: name them in the file, or set "
            "`name_unnamed: true`"
        )
    names = [normalize_spaces(name) if name.strip() else f"column_{place}" for place, name in enumerate(first, 1)]
    twins = list(dict.fromkeys(name for name in names if names.count(name) > 1)) if len({*names}) < len(names) else []
    if twins:
        raise DataError(f"{where}: duplicate column names: {list_briefly(map(repr, twins))}: rename them in the file")
    return names


def count_header_rows(table: Table) -> int:
    """Return the number of rows that hold names rather than data."""
    return 0 if table.header is False else table.header_rows


def count_columns(names: list[str]) -> list[int]:
    """Return for each column how many columns its name in the first row spans, including blank or equal ones after it.

    >>> count_columns(["Age", "Visited", "", ""]), count_columns(["", "A", "A", "B"])
    ([1, 3, 3, 3], [1, 2, 2, 1])
    """
    owners: list[int] = []
    for place, name in enumerate(names):
        goes_on = place > 0 and (not name.strip() or name == names[place - 1])
        owners.append(owners[-1] if goes_on and names[owners[-1]].strip() else place)
    times = Counter(owners)
    return [times[owner] for owner in owners]


def join_rows(rows: list[list[str]]) -> list[str]:
    """Return the column names from one or several header rows.

    A name that spans one column is complete; below a name that spans several, the next row distinguishes the columns. A
    word that also occurs below single-column names, such as `Response`, is ignored in the first column of a span.

    >>> join_rows([["Age", "Visited", "", "Fan?", ""], ["Response", "Rome", "Oslo", "Response", "Why?"]])
    ['Age', 'Visited: Rome', 'Visited: Oslo', 'Fan?', 'Fan?: Why?']
    """
    names = rows[0]
    for row in rows[1:]:
        names = join_pair(names, [*row, *[""] * (len(names) - len(row))][: len(names)])
    return names


def join_pair(upper: list[str], lower: list[str]) -> list[str]:
    """Return the column names from two header rows."""
    widths = count_columns(upper)
    plain = {lower[place].strip() for place, width in enumerate(widths) if width == 1 and upper[place].strip()}
    joined, owner = [], ""
    for name, cell, width in zip(upper, map(str.strip, lower), widths, strict=True):
        owner = name.strip() or (owner if width > 1 else "")
        is_enough = not cell or width == 1 or (cell in plain and owner not in joined)
        joined.append(cell if not owner else owner if is_enough else f"{owner}: {cell}")
    return joined


def count_name_rows(rows: list[list[str]]) -> int:
    """Return how many of the first rows hold names, from 1 to `MOST_HEADER_ROWS`."""
    n_rows = 1
    while n_rows < MOST_HEADER_ROWS and has_second_header([join_rows(rows[:n_rows]), *rows[n_rows:]]):
        n_rows += 1
    return n_rows


def has_second_header(rows: list[list[str]]) -> bool:
    """Return whether the second row holds names too, as in survey exports and sheets with merged cells."""
    # Evidence for names: words above numbers or dates, and words below a name that spans several columns. Evidence
    # against: a value like those below it in any column. A repeated row of names is not data either.
    first, second = rows[0], rows[1] if len(rows) > 1 else []
    below = [row for row in rows[2:MOST_ROWS] if len(row) == len(first)]
    if len(second) != len(first) or len(below) < FEWEST_ROWS_BELOW:
        return False
    if first == second:
        return True
    votes = [
        rate_cell(second[place].strip(), [row[place].strip() for row in below], is_below_several=width > 1)
        for place, width in enumerate(count_columns(first))
    ]
    return -1 not in votes and sum(votes) >= FEWEST_VOTES


def rate_cell(cell: str, below: list[str], *, is_below_several: bool) -> int:
    """Return 1 if a cell of the second row is a name, -1 if it is a value, 0 if it may be either."""
    values = [value for value in below if value]
    distinct, n_measured = {*values}, sum(map(is_number_or_date, values))
    if not cell:
        return int(len(values) == len(below))
    if is_number_or_date(cell):
        return -1
    if values and n_measured >= MOSTLY_MEASURED * len(values):
        return int(cell not in USUAL_MISSING)
    if cell in distinct and not (is_below_several and len(distinct) == 1):
        return -1
    # Among strings that are all different, another one is no evidence.
    return int(is_below_several and 0 < len(distinct) <= len(values) / 2)


def is_number_or_date(cell: str) -> bool:
    """Return whether a cell holds a number or a date."""
    return NUMBER_LIKE.fullmatch(cell) is not None or DATE_LIKE.fullmatch(cell) is not None


def is_data(rows: list[list[str]]) -> bool:
    """Return whether the first row is data like the rows below it: numbers where they have numbers."""
    if not rows or looks_like_data(rows[0]):
        return bool(rows)
    first, below = rows[0], [row for row in rows[1:200] if len(row) == len(rows[0])]
    numeric = [
        place
        for place in range(len(first))
        if below and sum(bool(NUMBER_LIKE.fullmatch(row[place].strip())) for row in below) > len(below) / 2
    ]
    return (
        bool(numeric) and sum(bool(NUMBER_LIKE.fullmatch(first[place].strip())) for place in numeric) > len(numeric) / 2
    )


def looks_like_data(first: list[str]) -> bool:
    """Return whether all names are numbers, except consecutive ones such as years or positions.

    >>> looks_like_data(["5.1", "3.5"]), looks_like_data(["0", "1", "2"]), looks_like_data(["a", "1"])
    (True, False, False)
    """
    cells = [cell.strip() for cell in first]
    if not all(NUMBER_LIKE.fullmatch(cell) for cell in cells):
        return False
    if not all(cell.isdecimal() for cell in cells):
        return True
    numbers = [int(cell) for cell in cells]
    return any(after != before + 1 for before, after in itertools.pairwise(numbers)) or len(cells) == 1
