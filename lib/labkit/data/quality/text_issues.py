"""Detect what the strings of a column are likely to be: numbers with units, dates, codes or prose."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from labkit.errors import list_briefly
from labkit.features.parse_text import CODE, NEARLY_ALL, NUMBER_WITH_UNIT, look_like_dates, read_date, read_number
from labkit.params.yaml_lines import quote
from labkit.units import format_share
from labkit.vocabulary import DATE_FORMATS, MISSING

LEADING_ZEROS, NUMBER_AS_TEXT = "leading zeros", "number as text"


FEWEST_WITH_UNIT = 3


MANY_AMOUNTS = 10
"""Number of distinct values above which strings that are all numbers are amounts rather than categories."""


MOST_DISTINCT = 2000


WORDS_OF_PROSE = 4


def find_string_issues(values: pd.Series) -> Iterator[tuple[str, str, str, tuple[str, str]]]:
    """Yield the issues of a string column: name, evidence, severity, and section and value of the params line.

    Parameters
    ----------
    values
        A string column, or a sample of its rows, shape (n_rows,).
    """
    counts = values.dropna().astype(str).value_counts()
    shown = sorted((str(word) for word in counts.index[:MOST_DISTINCT]), key=lambda word: (-counts[word], word))
    markers = [word for word in shown if word.strip().lower() in MISSING]
    words = [word for word in shown if word not in markers]
    if markers:
        share = float(counts[markers].sum() / max(len(values), 1))
        evidence = f"{', '.join(map(repr, markers[:3]))} in {format_share(share, 1)} of the rows"
        rule = f"{{missing: [{', '.join(map(quote, sorted({word.strip() for word in markers})))}], trim: true}}"
        yield "marker for missing", evidence, "medium", ("wrangling.rules", rule)
    if not words:
        return
    if special := guess_string_kind(words, markers):
        what, evidence, severity, line = special
        lost = find_lost(counts, guess_number(words)) if what == NUMBER_AS_TEXT else {}
        yield what, f"{evidence}{describe_lost_words(lost)}", severity, line
        return
    if is_prose(pd.Series(words)):
        evidence = f"{len(counts):,} distinct values, such as {words[0][:40]!r}"
        yield "free text", evidence, "medium", ("features.text", "{}")
        return
    spellings: dict[str, list[str]] = {}
    for word in words:
        spellings.setdefault(" ".join(word.split()).casefold(), []).append(word)
    if several := [same for same in spellings.values() if len(same) > 1]:
        evidence = f"{len(several):,} in several spellings, such as {', '.join(map(repr, several[0][:3]))}"
        yield "mixed spellings", evidence, "medium", ("wrangling.rules", "{trim: true, case: lower}")


def guess_string_kind(words: list[str], markers: list[str]) -> tuple[str, str, str, tuple[str, str]] | None:
    """Return the finding that strings are codes, numbers or dates; None if they are none of these."""
    missing = f", missing: [{', '.join(map(quote, markers))}]" if markers else ""
    if any(map(CODE.fullmatch, words)) and all(word.isdigit() for word in words):
        return LEADING_ZEROS, f"such as {words[0]!r}: codes, not numbers; kept as text", "low", ("", "")
    if number := guess_number(words):
        parts = [f"{key}: {write_rule_value(value)}" for key, value in number.items()]
        rule = ("wrangling.rules", f"{{{', '.join(parts)}{missing}}}")
        return NUMBER_AS_TEXT, f"such as {words[0]!r} and {words[-1]!r}", "medium", rule
    if forms := guess_formats(words):
        doubt = f"; also read by {forms[1]}" if len(forms) > 1 else ""
        rule = ("wrangling.rules", f"{{type: date, format: {quote(forms[0])}{missing}}}")
        return "date as text", f"such as {words[0]!r}, read by {forms[0]}{doubt}", "medium", rule
    if look_like_dates(words) and all(read_date(word, None) is not None for word in words):
        rule = ("wrangling.rules", f"{{type: date{missing}}}")
        return "date as text", f"such as {words[0]!r}, read as ISO 8601", "medium", rule
    return None


def write_rule_value(value: object) -> str:
    """Return a field of a rule for numbers as YAML."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{quote(key)}: {quote(factor)}' for key, factor in value.items())}}}"
    return f'"{value}"' if value == "," else str(value)


def guess_number(words: list[str], *, fewest: float = NEARLY_ALL) -> dict[str, Any] | None:
    """Return the rule that parses strings as numbers, all with the same unit or currency if any; None if they are not.

    At least the fraction `fewest` of the distinct strings has to be numbers.

    >>> guess_number(["$1,200", "$950", "$7"]), guess_number(["1.200 €", "950 €", "7 €"])
    ({'type': 'number', 'units': {'$': 1.0}}, {'type': 'number', 'decimal': ',', 'units': {'€': 1.0}})
    >>> guess_number(["1-10", "11-50", ">50"]), guess_number(["0040", "0039", "1200"])
    (None, None)
    """
    found = [match for match in map(NUMBER_WITH_UNIT.fullmatch, words) if match]
    if not words or len(found) < fewest * len(words) or any(map(CODE.fullmatch, words)):
        return None
    named = {f"{match[2] or ''}{match[5]}" for match in found} - {""}
    units = {unit: 1.0 for unit in named if len(named) == 1 and len(words) >= FEWEST_WITH_UNIT}
    # With a unit, a point that always precedes three digits separates thousands: 1.200 € is 1200, not 1.2.
    pointed = [match[3].strip() for match in found if "." in match[3]]
    is_grouped = bool(units and pointed) and all(
        re.fullmatch(r"[1-9][0-9]{0,2}(\.[0-9]{3})+", word) for word in pointed
    )
    for decimal in (",", ".") if is_grouped else (".", ","):
        read = [read_number(word, decimal, units) for word in words]
        if sum(number is not None for number in read) >= fewest * len(words):
            rule: dict[str, Any] = {"type": "number"} | ({"decimal": ","} if decimal == "," else {})
            return rule | ({"units": units} if units else {})
    return None


def find_lost(counts: pd.Series, rule: Mapping[str, Any] | None) -> dict[str, int]:
    """Return the number of rows by string that a number rule cannot parse, except markers for missing values.

    >>> find_lost(pd.Series({"0.2": 5, "T": 3, "n/a": 1}), {"type": "number"})
    {'T': 3}
    """
    if not rule:
        return {}
    how = (rule.get("decimal", "."), rule.get("units", {}))
    lost = [word for word in counts.index if word.strip().lower() not in MISSING and read_number(word, *how) is None]
    return {word: int(counts[word]) for word in lost}


def describe_lost_words(lost: Mapping[str, int]) -> str:
    """Return the end of a sentence listing the words that become missing; empty if there are none.

    >>> describe_lost_words({"T": 3})
    "; 3 × 'T' would become missing"
    """
    shown = list_briefly(f"{times:,} × {word!r}" for word, times in lost.items())
    return f"; {shown} would become missing" if lost else ""


def guess_formats(words: list[str]) -> list[str]:
    """Return the date formats that parse all strings.

    >>> guess_formats(["31/12/2020", "01/02/2021"]), guess_formats(["01/02/2021"]), guess_formats(["red"])
    (['%d/%m/%Y'], ['%d/%m/%Y', '%m/%d/%Y'], [])
    """
    return [form for form in DATE_FORMATS if all(read_date(word, form) is not None for word in words)]


def is_prose(values: pd.Series) -> bool:
    """Return whether strings are prose rather than names.

    True if the median value has at least four words, at least half of the values are distinct, and more than 20 are.
    """
    known = values.dropna()
    if not len(known) or not all(isinstance(value, str) for value in known.head(20)):
        return False
    n_words = known.map(lambda value: len(str(value).split()))
    return bool(n_words.median() >= WORDS_OF_PROSE and known.nunique() >= 0.5 * len(known) and known.nunique() > 20)
