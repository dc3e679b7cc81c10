"""Words and spellings shared by tables: of missing values, of yes and no, and of dates.

There is one list of each; what a word means in a column is decided by the code that inspects the column.
"""

import re

USUAL_MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip


MISSING = {word.lower() for word in USUAL_MISSING} | {
    "?", "-", "--", ".", "nil", "missing", "unknown", "not available",
}  # fmt: skip
"""Words for a missing value in any column, in lower case, including the empty string."""


MISSING_AMONG_NUMBERS = MISSING | {
    "*", "n.a.", "#div/0!", "#value!", "#ref!", "#num!", "#name?", "not applicable", "no answer", "refused",
    "don't know", "k.a.", "k. a.", "keine angabe", "ohne angabe", "unbekannt", "weiß nicht", "entfällt", "n.v.", "n.b.",
    "n/v", "n/d", "s/d", "nc", "inconnu", "desconocido", "sconosciuto",
}  # fmt: skip
"""Words for a missing value in a column of numbers, in lower case; in a column of words they may be a category."""


LEVELS = {"None", "NA", "N/A", "n/a"}
"""Words read as missing that people also use for a class, such as no damage or not applicable; the others, such as
`#N/A` and `NULL`, are written by programs only."""


YES_NO = (
    ("yes", "no"), ("y", "n"), ("true", "false"), ("t", "f"), ("1", "0"), ("1.0", "0.0"), ("on", "off"),
    ("ja", "nein"), ("oui", "non"), ("si", "no"), ("sí", "no"),
)  # fmt: skip
"""Spellings of yes and no, in lower case."""


YES = tuple(yes for yes, _ in YES_NO)


NO = tuple(dict.fromkeys(no for _, no in YES_NO))


OF_INTEREST = {*YES, "positive", "pos", "malignant", "bad", "default", "fraud", "churned", "churn"}
"""Words for the class of interest of two, in lower case."""


DAYS = (
    "%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%y", "%d/%m/%y",
    "%m/%d/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%Y.%m.%d",
)  # fmt: skip


CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", "T%H:%M:%S")


OFFSETS = (" %H:%M %z", " %H:%M:%S %z", " %H:%M:%S.%f %z")


DATE_FORMATS = tuple(day + clock for day in DAYS for clock in (*CLOCKS, *OFFSETS))
"""Formats of dates and times, for `datetime.strptime`."""


COMPACT_DATE_FORMATS = {
    6: ("%Y%m", "%y%m%d", "%m%d%y", "%d%m%y"),
    8: ("%Y%m%d", "%m%d%Y", "%d%m%Y"),
    10: ("%Y%m%d%H",),
    12: ("%Y%m%d%H%M",),
    14: ("%Y%m%d%H%M%S",),
}
"""Date formats by number of digits, the most likely first; in other tables such digits are numbers."""


DATE_LIKE = re.compile(
    r"[0-9]{1,4}[-/. ][0-9]{1,2}[-/. ][0-9]{1,4}(?![0-9]).*|[0-9]{1,2}[ -][A-Za-z]{3,9}[ -][0-9]{2,4}.*"
    r"|[A-Za-z]{3,9} [0-9]{1,2}, [0-9]{4}.*"
)
"""Pattern of a date with separators between day, month and year, and of anything after it."""


TIME_WORDS = {
    "date", "datetime", "day", "month", "period", "quarter", "time", "timestamp", "week", "year", "yr", "datum", "jahr",
    "monat", "tag", "fecha", "año", "mes",
}  # fmt: skip
"""Words in the name of a column of times, in lower case."""


def list_words(name: str) -> list[str]:
    """Return the words of a column's name, in lower case.

    Parameters
    ----------
    name
        Name of a column, with words separated by case, spaces or punctuation.

    Examples
    --------
    >>> list_words("orderDate"), list_words("Order Date"), list_words("order_date2"), list_words("PatientID")
    (['order', 'date'], ['order', 'date'], ['order', 'date'], ['patient', 'id'])
    """
    return [word.lower() for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])", name)]


def names_time(name: str) -> bool:
    """Return whether the name of a column suggests times."""
    return not TIME_WORDS.isdisjoint(list_words(name))


def tidy(string: str, *, trim: bool, case: str | None) -> str:
    """Return a string trimmed and in lower or upper case, as a column's rule specifies.

    Parameters
    ----------
    string
        Any string.
    trim
        Whether to remove whitespace at both ends.
    case
        `lower`, `upper` or None.

    Examples
    --------
    >>> tidy(" Yes ", trim=True, case="lower")
    'yes'
    """
    trimmed = string.strip() if trim else string
    return trimmed.lower() if case == "lower" else trimmed.upper() if case == "upper" else trimmed
