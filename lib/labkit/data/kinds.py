"""What each column is: a number, a category, yes or no, a date, free text, an identifier, a constant, or empty.

Told from all values (`labkit.data.celltypes.Facts`) and a sample of rows. What follows from it is decided in
`labkit.data.proposal`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labkit.data import texts
from labkit.data.celltypes import Facts
from labkit.data.choices import Choices, Kind
from labkit.data.vocabulary import DATE_FORMATS, MISSING_AMONG_NUMBERS, YES_NO
from labkit.errors import DataError

PLACEHOLDERS = (-999.0, -9999.0, -99.0, -1.0, 999.0, 9999.0, 99999.0)
CODES = (99.0, 98.0, 97.0, 88.0, 77.0, 66.0, -9.0, -8.0, -7.0)
"""Numbers by which surveys say "no answer", "does not apply" and the like, beside a scale."""
LONGEST_SCALE = 12
MANY_AMOUNTS = 10
"""Different texts above which texts that are all numbers with the same unit are amounts, and no categories."""
DATE_LIKE = re.compile(
    r"[0-9]{1,4}[-/. ][0-9]{1,2}[-/. ][0-9]{1,4}(?![0-9]).*|[0-9]{1,2}[ -][A-Za-z]{3,9}[ -][0-9]{2,4}.*"
    r"|[A-Za-z]{3,9} [0-9]{1,2}, [0-9]{4}.*"
)
ID_NAME = re.compile(
    r"(^|[_\s.-])(id|uuid|guid|key|index|nr|no|number|code)$|^(id|uuid|guid)([_\s.-]|$)|[a-z]Id$|ID$", re.I
)


@dataclass(frozen=True)
class Found:
    """One column's kind and the reason for it; `rule` says how texts are read as numbers."""

    kind: Kind
    reason: str
    rule: Mapping[str, object] | None = None


def find_dates(
    facts: Mapping[str, Facts], choices: Choices, where: str, list_texts: Callable[[str], list[str]]
) -> dict[str, str | None]:
    """Return the columns of dates with the format of each, None for ISO.

    Parameters
    ----------
    list_texts
        Gives the texts of a column in all rows, for where the first ones leave a doubt.

    Raises
    ------
    DataError
        Day and month cannot be told apart, or dates are written in several ways.
    """
    found: dict[str, str | None] = {}
    for name, column in facts.items():
        wanted = choices.kinds.get(name)
        if name in choices.formats:
            found[name] = choices.formats[name]
        elif name in choices.drop or wanted not in (None, "date"):
            continue
        elif column.dtype == "str" and column.words and (wanted or looks_like_dates(column.words)):
            style = find_style(list(column.words), f"{where}: column {name!r}", name, list_texts)
            if style is not None or wanted:
                found[name] = None if style == "ISO" else style
        elif wanted:
            found[name] = "%Y%m%d" if column.n_known and 1_900_00_00 < column.largest < 2_200_00_00 else None
        elif is_compact_day(column):
            found[name] = "%Y%m%d"
    return found


def looks_like_dates(words: Iterable[str]) -> bool:
    """Tell whether most of the texts look like dates."""
    all_words = list(words)
    return sum(bool(DATE_LIKE.fullmatch(word.strip())) for word in all_words) >= 0.9 * len(all_words)


def is_compact_day(facts: Facts) -> bool:
    """Tell whether a column of whole numbers holds days such as 20240131."""
    has_name = re.search(r"date|day|datum|fecha", facts.name, re.I) is not None
    return (
        has_name and facts.is_whole and facts.n_numbers > 0 and facts.smallest >= 19000101 and facts.largest <= 21001231
    )


def find_style(words: list[str], lead: str, name: str, list_texts: Callable[[str], list[str]]) -> str | None:
    """Return how all dates are written, `ISO`, or None if they are no dates after all.

    Raises
    ------
    DataError
        Two formats fit and differ, or none fits all.
    """
    values = pd.Series([text.strip() for text in words])
    if is_iso(values):
        return "ISO"
    fitting = {style: parsed for style in list_styles(values) if (parsed := parse(values, style)).notna().all()}
    if not fitting:
        partial = {style: parse(values, style).notna() for style in list_styles(values.iloc[:1])}
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
        rest = pd.Series([text.strip() for text in list_texts(name)])
        fitting = {style: parsed for style in styles if (parsed := parse(rest, style)).notna().all()} or fitting
        styles = list(fitting)
    if is_in_doubt(fitting):
        raise DataError(
            f"{lead}: ambiguous dates, e.g. {values.iloc[0]!r}, may be {styles[0]} or {styles[1]}: declare it with "
            f"--format '{name}={styles[0]}'"
        )
    return styles[0]


def is_in_doubt(fitting: Mapping[str, pd.Series]) -> bool:
    """Tell whether formats that all fit give different dates."""
    first = next(iter(fitting.values()))
    return any(not parsed.equals(first) for parsed in fitting.values())


def is_iso(values: pd.Series) -> bool:
    """Tell whether all texts are ISO 8601 dates or times; those of several zones are for the reader to refuse."""
    try:
        return bool(pd.to_datetime(values, errors="coerce", format="ISO8601").notna().all())
    except ValueError:
        return True


def list_styles(values: pd.Series) -> list[str]:
    """Return the formats in which the first text can be read."""
    first = values.iloc[:1]
    return [style for style in DATE_FORMATS if parse(first, style).notna().all()]


def parse(values: pd.Series, style: str) -> pd.Series:
    """Return texts as times by a format, NaT where it does not fit."""
    return pd.to_datetime(values, errors="coerce", format=style)


def find_markers(facts: Mapping[str, Facts]) -> list[str]:
    """Return words that stand for a missing value in columns of numbers."""
    found = [
        word
        for column in facts.values()
        if column.n_numbers and not column.is_hopeless and column.n_words
        for word in (column.words if all(word.lower() in MISSING_AMONG_NUMBERS for word in column.words) else ())
    ]
    return sorted(set(found))


def find_kind(values: pd.Series, facts: Facts | None, choices: Choices) -> Found:
    """Return what one column is.

    Parameters
    ----------
    values
        A sample of the column, shape (n_rows,).
    facts
        What all its values are like; None if the file tells types itself.
    """
    name = str(values.name)
    known = values.dropna()
    if not len(known) and not (facts and facts.n_known):
        return Found("empty", "no value in any row")
    n_distinct = int(known.nunique())
    has_gaps = bool(values.isna().any())
    if n_distinct == 1 and not has_gaps:
        return Found("constant", f"{shorten(known.iloc[0])} in every row")
    if name in choices.kinds:
        return find_given_kind(known, choices.kinds[name])
    if pd.api.types.is_datetime64_any_dtype(values):
        return Found("date", f"from {known.min():%Y-%m-%d} to {known.max():%Y-%m-%d}")
    if pd.api.types.is_bool_dtype(values) or is_yes_no(known):
        return Found("boolean", f"{' and '.join(sorted(map(shorten, known.unique())))}")
    if pd.api.types.is_numeric_dtype(values):
        return find_number_kind(known, name, n_distinct)
    return find_text_kind(known.astype(str), name, n_distinct)


def find_given_kind(known: pd.Series, kind: str) -> Found:
    """Return a kind that was given, and for numbers written as texts the rule that reads them.

    Raises
    ------
    DataError
        The texts of a column that was given as one of numbers are none.
    """
    if kind != "number" or pd.api.types.is_numeric_dtype(known) or pd.api.types.is_bool_dtype(known):
        return Found(kind, "given")  # type: ignore[arg-type]
    words = [str(word) for word in known.unique()[: texts.MOST_DISTINCT]]
    rule = texts.guess_number(words)
    if rule is None:
        odd = next((word for word in words if texts.read_number(word) is None), words[0])
        raise DataError(f"--kind {known.name}=number: {odd!r} is not a number: name a unit once per value, or mend it")
    return Found("number", "given", rule)


def is_yes_no(known: pd.Series) -> bool:
    """Tell whether values are yes and no in one of their many spellings."""
    words = {str(value).strip().lower() for value in known.unique()[:20]}
    return len(words) == 2 and any(words <= {*pair} for pair in YES_NO)


def find_number_kind(known: pd.Series, name: str, n_distinct: int) -> Found:
    """Tell identifiers from other numbers: whole, all different, and counting up or called so."""
    is_whole = bool((known % 1 == 0).all())
    if is_whole and n_distinct == len(known) and len(known) >= 20:
        steps = known.sort_values().diff().dropna()
        if (steps.max() == steps.min() and known.is_monotonic_increasing) or ID_NAME.search(name):
            why = "named like one" if ID_NAME.search(name) else "they count up row by row"
            return Found("identifier", f"whole numbers, all different, and {why}")
    return Found("number", f"from {known.min():g} to {known.max():g}, {n_distinct:,} different")


def find_text_kind(known: pd.Series, name: str, n_distinct: int) -> Found:
    """Tell identifiers and free text from categories."""
    if n_distinct > MANY_AMOUNTS and (
        rule := texts.guess_number(list(map(str, known.unique()[: texts.MOST_DISTINCT])))
    ):
        return Found("number", f"numbers written as {shorten(known.iloc[0])}", rule)
    share, n_words = n_distinct / len(known), float(known.str.count(r"\s+").mean()) + 1
    if len(known) >= 20 and share > 0.5 and n_words >= 4:
        return Found("text", f"{n_words:.0f} words on average, {share:.0%} of them all different")
    if len(known) >= 20 and (share > 0.95 or (share > 0.8 and ID_NAME.search(name))):
        return Found("identifier", f"texts, {share:.0%} of them different")
    common = known.value_counts()
    return Found("category", f"{n_distinct:,} different, most often {shorten(common.index[0])}")


def find_placeholders(known: pd.Series) -> list[int]:
    """Return the numbers such as -999 that stand apart from all others and come again and again.

    Two digits are enough only beside a scale of a few whole numbers, as surveys have them.

    >>> find_placeholders(pd.Series([1.0, 2, 3, -999, 2, 5, -999, 1, 4, -999]))
    [-999]
    >>> find_placeholders(pd.Series([1, 2, 3, 4, 5, 99, -9] * 3))
    [99, -9]
    >>> find_placeholders(pd.Series([*range(18, 90), 99, 99, 99]))
    []
    """
    values, counts = np.unique(known.to_numpy(dtype="float64"), return_counts=True)
    found: list[int] = []
    for marker in (*PLACEHOLDERS, *CODES):
        place = int(np.searchsorted(values, marker))
        if place == len(values) or values[place] != marker or counts[place] < 3 or len(values) < 4:
            continue
        others = np.delete(values, place)
        rest = others[~np.isin(others, CODES)] if marker in CODES else others
        is_scale = (
            3 <= len(rest) <= LONGEST_SCALE and bool((rest % 1 == 0).all()) and rest[-1] - rest[0] < LONGEST_SCALE
        )
        if marker in CODES and not is_scale:
            continue
        span = max(rest[-1] - rest[0], 1.0)
        is_apart = marker < rest[0] - span or marker > rest[-1] + span
        if is_apart and (marker != -1 or (others[0] >= 0 and counts[place] >= 10)):
            found.append(int(marker))
            values, counts = others, np.delete(counts, place)
    return found


def shorten(value: object) -> str:
    """Return a value as short text on one line."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 40 else text[:37] + "…" + text[-1]
