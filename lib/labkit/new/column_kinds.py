"""The kind of each column: number, category, boolean, date, free text, identifier, constant or empty.

Kinds are inferred from statistics of all values (`labkit.data.reading.column_types.Facts`) and a sample of rows.
`labkit.new.proposal` decides what follows from them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from labkit.data.quality import text_issues
from labkit.data.quality.identifiers import find_identifier
from labkit.data.reading.column_types import Facts
from labkit.data.reading.times import read_times
from labkit.errors import DataError
from labkit.features import parse_text
from labkit.features.parse_text import look_like_dates
from labkit.features.table_columns import find_column_kind
from labkit.new.options import Choices, Kind
from labkit.units import format_share, shorten_value
from labkit.vocabulary import COMPACT_DATE_FORMATS, DATE_FORMATS, MISSING_AMONG_NUMBERS, YES_NO, names_time

MOST_SHORT = 6
"""Most digits of a number that is read as a date only if the column's name suggests one."""


FEWEST_DATES = 10


MOSTLY_NUMBERS, FEWEST_NUMBERS, MOST_WORDS = 0.5, 3, 10
"""When to warn that a category may be a column of numbers: the least share of its values that are numbers, the fewest
distinct numbers, and the most distinct other words."""


YEARS = (1900, 2100)


@dataclass(frozen=True)
class ColumnKind:
    """The kind of one column and the reason for it.

    Attributes
    ----------
    kind
        The kind of the column.
    reason
        Why the column is of this kind, for the user.
    rule
        How its strings are read as numbers; None if they are not.
    lost
        Words that are not numbers, with the number of sampled rows that hold each. They become missing under `rule`; in
        a category without a rule, they would become missing if the column were read as numbers.
    """

    kind: Kind
    reason: str
    rule: Mapping[str, object] | None = None
    lost: Mapping[str, int] = field(default_factory=dict)


def find_dates(
    facts: Mapping[str, Facts], choices: Choices, where: str, list_strings: Callable[..., list[str]]
) -> dict[str, str | None]:
    """Return the date columns and the format of each.

    Parameters
    ----------
    facts
        Statistics of all values, by column.
    choices
        Options given by the user; they take precedence.
    where
        Name of the source, for error messages.
    list_strings
        Returns the strings of a column from all rows; called where the first rows are ambiguous.

    Returns
    -------
    dict
        `strptime` format by column, None for ISO 8601.

    Raises
    ------
    DataError
        Day and month cannot be distinguished, or dates are written in several formats.
    """
    found: dict[str, str | None] = {}
    for name, column in facts.items():
        wanted = choices.kinds.get(name)
        if name in choices.formats:
            found[name] = choices.formats[name]
        elif name in choices.drop or wanted not in (None, "date"):
            continue
        elif column.dtype == "str" and column.words and (wanted or look_like_dates(column.words)):
            style = find_date_format(list(column.words), f"{where}: column {name!r}", name, list_strings)
            if style is not None or wanted:
                found[name] = None if style == "ISO" else style
        elif style := find_compact_style(column, f"{where}: column {name!r}", list_strings, is_given=wanted == "date"):
            found[name] = style
        elif wanted:
            found[name] = None
    return found


def find_compact_style(
    facts: Facts, lead: str, list_strings: Callable[..., list[str]], *, is_given: bool
) -> str | None:
    """Return the format of dates written as digits alone, such as 20240131; None for numbers; refuse ambiguous ones."""
    has_name = is_given or names_time(facts.name) or re.search("date|datum|fecha", facts.name, re.I) is not None
    n_digits = len(str(int(facts.largest))) if facts.n_numbers and 0 <= facts.smallest <= facts.largest < 1e14 else 0
    if not facts.is_whole or facts.n_words or n_digits + 1 < min(COMPACT_DATE_FORMATS):
        return None
    # The first rows rule out most columns; only the remaining ones are read in full.
    fitting = fit_compact(list_strings(facts.name, most_rows=1), has_name)
    words = list_strings(facts.name) if fitting else []
    fitting = fit_compact(words, has_name) if fitting else {}
    if is_in_doubt(fitting) and len(words[0].strip()) > MOST_SHORT:
        if not has_name:
            return None
        first, second = list(fitting)[:2]
        raise DataError(
            f"{lead}: ambiguous dates, e.g. {words[0]!r}, may be {first} or {second}: declare it with "
            f"--format '{facts.name}={first}'"
        )
    return next(iter(fitting), None)


def fit_compact(words: list[str], has_name: bool) -> dict[str, pd.Series]:
    """Return the formats in which strings of digits, all of one length, are plausible dates, with the parsed dates."""
    digits = [word.strip() for word in words]
    styles = COMPACT_DATE_FORMATS.get(len(digits[0])) if digits and len({*map(len, digits)}) == 1 else None
    if styles is None or not all(map(str.isdecimal, digits)) or (len(digits[0]) <= MOST_SHORT and not has_name):
        return {}
    read = {style: parse_dates(pd.Series(digits), style) for style in styles}
    return {style: times for style, times in read.items() if is_plausible(times, has_name)}


def is_plausible(times: pd.Series, has_name: bool) -> bool:
    """Return whether digits parsed as dates are plausible: all valid, within `YEARS`, not one day in many years."""
    if times.isna().any() or not times.dt.year.between(*YEARS).all():
        return False
    days = times.dt.month * 100 + times.dt.day
    return has_name or (len(times) >= FEWEST_DATES and days.nunique() >= times.dt.year.nunique())


def find_date_format(words: list[str], lead: str, name: str, list_strings: Callable[..., list[str]]) -> str | None:
    """Return the format of all dates, `ISO`, or None if they are not dates; refuse ambiguous and mixed formats."""
    values = pd.Series([word.strip() for word in words])
    if is_iso(values):
        return "ISO"
    fitting = {style: parsed for style in list_styles(values) if (parsed := parse_dates(values, style)).notna().all()}
    if not fitting:
        partial = {style: parse_dates(values, style).notna() for style in list_styles(values.iloc[:1])}
        if partial and pd.concat(partial, axis=1).any(axis=1).mean() > 0.5:
            style, mask = max(partial.items(), key=lambda item: item[1].sum())
            odd = values[~mask].iloc[0]
            raise DataError(
                f"{lead}: {values.iloc[0]!r} is written as {style}, {odd!r} is not: write all dates in one way, or "
                f"add --kind {name}=category"
            )
        return None
    styles = list(fitting)
    if is_in_doubt(fitting):
        rest = pd.Series([word.strip() for word in list_strings(name)])
        fitting = {style: parsed for style in styles if (parsed := parse_dates(rest, style)).notna().all()} or fitting
        styles = list(fitting)
    if is_in_doubt(fitting):
        raise DataError(
            f"{lead}: ambiguous dates, e.g. {values.iloc[0]!r}, may be {styles[0]} or {styles[1]}: declare it with "
            f"--format '{name}={styles[0]}'"
        )
    return styles[0]


def is_in_doubt(fitting: Mapping[str, pd.Series]) -> bool:
    """Return whether the formats that fit disagree on the dates."""
    first = next(iter(fitting.values()), pd.Series())
    return any(not parsed.equals(first) for parsed in fitting.values())


def is_iso(values: pd.Series) -> bool:
    """Return whether all strings are ISO 8601 dates or times; UTC offsets may differ, the reader checks them."""
    return bool(read_times(values, None, utc=True).notna().all())


def list_styles(values: pd.Series) -> list[str]:
    """Return the formats that fit the first string."""
    first = values.iloc[:1]
    return [style for style in DATE_FORMATS if parse_dates(first, style).notna().all()]


def parse_dates(values: pd.Series, style: str) -> pd.Series:
    """Parse strings with a format; NaT where it does not fit."""
    return read_times(values, style, utc="%z" in style)


def find_markers(facts: Mapping[str, Facts]) -> list[str]:
    """Return the words that stand for a missing value in numeric columns.

    Parameters
    ----------
    facts
        Statistics of all values, by column.

    Returns
    -------
    list of str
        Words, sorted, from columns whose only words are known markers.
    """
    found = [
        word
        for column in facts.values()
        if column.n_numbers and not column.is_hopeless and column.n_words
        for word in (column.words if all(word.lower() in MISSING_AMONG_NUMBERS for word in column.words) else ())
    ]
    return sorted(set(found))


def classify_column(
    values: pd.Series, facts: Facts | None, choices: Choices, *, is_unnamed: bool = False
) -> ColumnKind:
    """Return the kind of one column.

    Parameters
    ----------
    values
        A sample of the column, shape (n_rows,).
    facts
        Statistics of all its values; None if the file format declares its own types.
    choices
        Options given by the user; they take precedence.
    is_unnamed
        Whether the column had no name in the file.

    Raises
    ------
    DataError
        The column was declared as a number, and too few of its values are numbers.
    """
    name = str(values.name)
    known = values.dropna()
    if not len(known) and not (facts and facts.n_known):
        return ColumnKind("empty", "no value in any row")
    n_distinct = int(known.nunique())
    has_gaps = bool(values.isna().any())
    if n_distinct == 1 and not has_gaps:
        return ColumnKind("constant", f"{shorten_value(known.iloc[0])} in every row")
    if name in choices.kinds:
        return classify_as_given(known, choices.kinds[name])
    stored = find_column_kind(values)
    if stored == "time":
        return ColumnKind("date", f"from {known.min():%Y-%m-%d} to {known.max():%Y-%m-%d}")
    if stored == "boolean" or is_yes_no(known):
        return ColumnKind("boolean", f"{' and '.join(sorted(map(shorten_value, known.unique())))}")
    if stored == "number":
        if identifier := find_identifier(values, is_unnamed=is_unnamed):
            return ColumnKind("identifier", identifier.reason)
        return ColumnKind("number", f"from {known.min():g} to {known.max():g}, {n_distinct:,} different")
    return classify_strings(known.astype(str), n_distinct)


def classify_as_given(known: pd.Series, kind: str) -> ColumnKind:
    """Return the kind given by the user, with the rule that reads strings as numbers; refuse strings that are not."""
    if kind != "number" or find_column_kind(known) in ("number", "boolean"):
        return ColumnKind(kind, "given")  # type: ignore[arg-type]
    words = [str(word) for word in known.unique()[: text_issues.MOST_DISTINCT]]
    rule = text_issues.guess_number(words, fewest=MOSTLY_NUMBERS)
    if rule is None:
        odd = next((word for word in words if parse_text.read_number(word) is None), words[0])
        raise DataError(
            f"--kind {known.name}=number: {odd!r} is not a number, and too few of its values are: name a unit once per "
            "value, or fix the file"
        )
    return ColumnKind("number", "given", rule, text_issues.find_lost(known.astype(str).value_counts(), rule))


def is_yes_no(known: pd.Series) -> bool:
    """Return whether the values are yes and no in one of their many spellings.

    Parameters
    ----------
    known
        Values without missing ones, shape (n_rows,).
    """
    words = {str(value).strip().lower() for value in known.unique()[:20]}
    return len(words) == 2 and any(words <= {*pair} for pair in YES_NO)


def classify_strings(known: pd.Series, n_distinct: int) -> ColumnKind:
    """Distinguish numbers, free text and identifiers from categories."""
    if n_distinct > text_issues.MANY_AMOUNTS and (
        rule := text_issues.guess_number(list(map(str, known.unique()[: text_issues.MOST_DISTINCT])))
    ):
        lost = text_issues.find_lost(known.value_counts(), rule)
        first = next(word for word in known if word not in lost)
        return ColumnKind("number", f"numbers written as {shorten_value(first)}", rule, lost)
    share, n_words = n_distinct / len(known), float(known.str.count(r"\s+").mean()) + 1
    if len(known) >= 20 and share > 0.5 and n_words >= 4:
        return ColumnKind("text", f"{n_words:.0f} words on average, {format_share(share)} of them all different")
    if identifier := find_identifier(known):
        return ColumnKind("identifier", identifier.reason)
    common = known.value_counts()
    lost = find_words_among_numbers(common)
    return ColumnKind("category", f"{n_distinct:,} different, most often {shorten_value(common.index[0])}", lost=lost)


def find_words_among_numbers(counts: pd.Series) -> dict[str, int]:
    """Return the few words of a category whose values are mostly numbers, with the rows of each; empty for others.

    Parameters
    ----------
    counts
        Rows by value, shape (n_distinct,).
    """
    rule = text_issues.guess_number(
        [str(word) for word in counts.index[: text_issues.MOST_DISTINCT]], fewest=MOSTLY_NUMBERS
    )
    lost = text_issues.find_lost(counts, rule)
    n_numbers = len(counts) - len(lost)
    is_mostly = n_numbers >= FEWEST_NUMBERS and len(lost) <= MOST_WORDS
    return lost if is_mostly and sum(lost.values()) <= (1 - MOSTLY_NUMBERS) * counts.sum() else {}
