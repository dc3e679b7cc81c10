"""Parse numbers, dates and booleans from strings, identically in training and serving."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from labkit.vocabulary import DATE_LIKE, NO, YES

NUMBER_WITH_UNIT = re.compile(
    r"\s*([-+−]?)\s*([$€£¥₹]|[A-Z]{3}(?=\s))?\s*([0-9][0-9 ,.'_]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*(.*?)\s*"
)
"""Sign, currency, digits, exponent, unit."""


CODE = re.compile(r"0[0-9]+")
"""Digits with a leading zero: a code, not a number."""


NEARLY_ALL = 0.98


MOSTLY_DATES = 0.9


def read_number(string: str, decimal: str = ".", units: Mapping[str, float] | None = None) -> float | None:
    """Return the number that a string holds, or None if it holds none.

    Parameters
    ----------
    string
        The string.
    decimal
        Decimal character. The other of "." and ",", as well as spaces, apostrophes and underscores, separate thousands.
    units
        Factor by unit; a unit is a word after the number or a currency before it.

    Examples
    --------
    >>> read_number("1,234.5"), read_number("1.234,5", ","), read_number("3 kg", units={"kg": 1.0, "g": 0.001})
    (1234.5, 1234.5, 3.0)
    >>> read_number("$1,234", units={"$": 1.0})
    1234.0
    >>> read_number("12 apples")
    """
    found = NUMBER_WITH_UNIT.fullmatch(string)
    if not found:
        return None
    sign, currency, digits, exponent, after = found.groups()
    unit = f"{currency or ''}{after}"
    factor = 1.0 if not unit else (units or {}).get(unit)
    whole, mark, fraction = digits.strip().replace(" ", "").replace("'", "").replace("_", "").partition(decimal)
    separator = "," if decimal == "." else "."
    groups = whole.split(separator)
    is_grouped = len(groups) == 1 or (0 < len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:]))
    if factor is None or not is_grouped or separator in fraction or decimal in fraction:
        return None
    try:
        number = float(f"{''.join(groups)}{'.' if mark else ''}{fraction}{exponent or ''}") * factor
    except ValueError:
        return None
    return -number if sign in ("-", "−") else number


ISO_TIME = re.compile(
    r"([0-9]{4})(?:([-/. \\])([0-9]{1,2})(?:\2([0-9]{1,2})"
    r"(?:[T ](?:([0-9]{1,2}):([0-9]{1,2})(?::([0-9]{1,2})(?:\.([0-9]{1,9}))?)?|([0-9]{2})([0-9]{2})?([0-9]{2})?)"
    r"(?: ?(Z|[+-][0-9]{2}(?::?[0-9]{2})?))?)?)?)?"
)
"""Year, separator, month, day, hour, minute, second, fraction or hour, minute, second without colons, offset.

Accepts more than ISO 8601, in the same order: a year or a month alone, single digits, other separators.
"""


COMPACT_DAY = re.compile(r"^([0-9]{4})([0-9]{2})([0-9]{2})(?![0-9])")


LONG_FRACTION = re.compile(r"(\.[0-9]{6})[0-9]{1,3}")
"""Fractions of a second beyond microseconds, which are truncated."""


def read_date(string: str, form: str | None) -> datetime | None:
    """Parse a time as naive UTC; return None if the string is not a time.

    This is the rule for single values; `labkit.data.reading.times` parses whole columns by the same rule.

    Parameters
    ----------
    string
        The string; a time without an offset is UTC.
    form
        Format for `datetime.strptime`; ISO 8601 if None.

    Examples
    --------
    >>> read_date("3/1/2020", "%d/%m/%Y"), read_date("2020-01-03", None), read_date("2020-01", None)
    (datetime.datetime(2020, 1, 3, 0, 0), datetime.datetime(2020, 1, 3, 0, 0), datetime.datetime(2020, 1, 1, 0, 0))
    """
    if form is None and (usual := read_usual_time(string)) is not None:
        return usual
    try:
        time = read_iso_time(string.strip()) if form is None else read_formatted_time(string.strip(), form)
        return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def read_usual_time(string: str) -> datetime | None:
    """Parse a date with a time to the second or below, without an offset; None for any other form, and if it is wrong.

    Such a time is parsed by `read_iso_time` as well, in four times the time.

    >>> read_usual_time("2020-01-03T10:30:00Z"), read_usual_time("2020-01-03 10:30:00+01:00")
    (datetime.datetime(2020, 1, 3, 10, 30), None)
    """
    plain = string[:-1] if string[-1:] == "Z" else string
    is_usual = plain[4:5] == "-" and plain[10:11] in ("T", " ") and plain[13:14] == ":" and plain[16:17] == ":"
    if not is_usual or plain[11:13] == "24":  # the end of a day, which only some versions of Python accept
        return None
    try:
        time = datetime.fromisoformat(plain)
    except ValueError:
        return None
    return time if time.tzinfo is None else None


def read_formatted_time(string: str, form: str) -> datetime:
    """Parse a time by its format."""
    return datetime.strptime(LONG_FRACTION.sub(r"\1", string) if "%f" in form else string, form)


def read_iso_time(string: str) -> datetime:
    """Parse an ISO 8601 time."""
    found = ISO_TIME.fullmatch(COMPACT_DAY.sub(r"\1-\2-\3", string, count=1))
    if not found:
        return datetime.fromisoformat(string)
    year, _, month, day, hour, minute, second, fraction, *compact, offset = found.groups()
    clock = [int(part or 0) for part in (compact if hour is None else (hour, minute, second))]
    microsecond = int((fraction or "")[:6].ljust(6, "0"))
    time = datetime(int(year), int(month or 1), int(day or 1), clock[0], clock[1], clock[2], microsecond)
    return time if offset is None else datetime.fromisoformat(f"{time.isoformat()}{offset}")


def read_yes_no(string: str) -> float | None:
    """Return 1 for a spelling of yes, 0 for a spelling of no, None for anything else.

    >>> read_yes_no("Yes"), read_yes_no(" f "), read_yes_no("maybe")
    (1.0, 0.0, None)
    """
    word = string.strip().lower()
    return 1.0 if word in YES else 0.0 if word in NO else None


def look_like_dates(words: Iterable[str]) -> bool:
    """Return whether most strings look like dates.

    >>> look_like_dates(["3.1.2020", "4.1.2020"]), look_like_dates(["1-10", "11-50"])
    (True, False)
    """
    all_words = list(words)
    return sum(bool(DATE_LIKE.fullmatch(word.strip())) for word in all_words) >= MOSTLY_DATES * len(all_words)
