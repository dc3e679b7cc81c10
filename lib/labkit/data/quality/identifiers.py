"""Detect columns that identify rows or entities: an index, a key, a patient or customer number.

A model can only memorise such a column. Rows of the same patient belong in the same part of a split.
"""

import re
from dataclasses import dataclass

import pandas as pd

from labkit.data.quality import text_issues
from labkit.data.quality.evidence import FEWEST_ROWS
from labkit.features.table_columns import find_column_kind
from labkit.params.tables import Table
from labkit.units import format_share
from labkit.vocabulary import list_words, names_time

FIRST_COUNTED, DEEP_WITHIN = 1, 1000
"""Row numbers start at 0 or 1, or deep within a larger table; in between, doses and wavelengths count up too."""
MOSTLY_DIFFERENT, OFTEN_DIFFERENT, HALF_DIFFERENT = 0.95, 0.8, 0.5
FEWEST_NUMBERS = 10
"""Minimum number of distinct values for a numeric column named like a patient or customer number to be one."""
MANY_NAMES, MOST_ROWS_EACH = 50, 100
FEWEST_NAMES, FEW_ROWS_EACH = 20, 5
"""Minimum number of distinct strings that name entities, and maximum rows for each; otherwise they are categories."""
UNNAMED = re.compile(r"unnamed: ?[0-9]+|__index_level_[0-9]+__|index|row[ _.]?(name|number|num|no|nr|id)s?", re.I)
"""Names that programs give to unnamed columns and to row numbers."""
ID_WORDS = {"id", "uid", "pid", "uuid", "guid"}
NUMBER_WORDS = {*ID_WORDS, "key", "nr", "no", "number", "num", "code"}
WHOM = ("patient", "subject", "participant", "respondent", "person", "customer", "client", "proband", "kunde")
"""Words for entities whose identifier may be named by the word alone."""
WHOSE = ("user", "member", "student", "pupil", "employee", "household", "account", "policy", "mitarbeiter")
"""Words for entities that need an identifier word in the name: `employees` alone is a count."""
WHAT = (
    *WHOM, *WHOSE, "case", "order", "item", "ticket", "record", "unit", "visit", "trip", "session", "event",
    "transaction", "invoice", "product", "sample", "obs", "kunden", "auftrag", "rechnung", "fall",
)  # fmt: skip
"""Words for entities that rows may be numbered by."""
WORDS_LOOKED_AT = 1000


@dataclass(frozen=True)
class Identifier:
    """Why a column is an identifier; `is_repeated` if several rows share a value."""

    reason: str
    is_repeated: bool = False


def find_identifier(values: pd.Series, *, is_unnamed: bool = False) -> Identifier | None:
    """Return why a column is an identifier, or None if it is not one.

    Parameters
    ----------
    values
        All values of the column or a sample of them, including missing values, shape (n_rows,).
    is_unnamed
        Whether the column had no name in the file.
    """
    known, name = values.dropna(), str(values.name)
    if len(known) < FEWEST_ROWS:
        return None
    if find_column_kind(known) in ("boolean", "time"):
        return None
    if find_column_kind(known) == "number":
        return find_numeric_identifier(known, name, is_unnamed=is_unnamed or UNNAMED.fullmatch(name) is not None)
    return find_string_identifier(known.astype(str), name)


def find_numeric_identifier(known: pd.Series, name: str, *, is_unnamed: bool) -> Identifier | None:
    """Return why integers are an identifier, or None: an index, a matching name, or repeated entity numbers."""
    if not (known % 1 == 0).all():
        return None
    n_distinct = known.nunique()
    if n_distinct == len(known):
        steps = known.diff().dropna()
        if is_unnamed:
            return Identifier("whole numbers, all distinct, in an unnamed column: an index")
        if (steps == 1).all() and not names_time(name) and not FIRST_COUNTED < known.iloc[0] < DEEP_WITHIN:
            return Identifier("whole numbers, all distinct, that increase by one per row")
        if names_number(name):
            return Identifier("whole numbers, all distinct, and named like an identifier")
    elif is_unnamed and n_distinct > HALF_DIFFERENT * len(known):
        return Identifier(
            f"whole numbers, {format_share(n_distinct / len(known))} distinct, in an unnamed column: an index"
        )
    return find_repeated(known, name, n_distinct)


def find_string_identifier(known: pd.Series, name: str) -> Identifier | None:
    """Return why strings are an identifier, or None: mostly distinct (not prose, numbers or dates) or entity names."""
    n_distinct = known.nunique()
    share = n_distinct / len(known)
    if share > MOSTLY_DIFFERENT or (share > OFTEN_DIFFERENT and names_number(name)):
        words = known.drop_duplicates().head(WORDS_LOOKED_AT)
        special = text_issues.guess_string_kind(words.tolist(), [])
        is_other = text_issues.is_prose(words) or (special is not None and special[0] != text_issues.LEADING_ZEROS)
        return None if is_other else Identifier(f"strings, {format_share(share)} of them distinct")
    return find_repeated(known, name, n_distinct)


def find_repeated(known: pd.Series, name: str, n_distinct: int) -> Identifier | None:
    """Return an identifier of repeated entities, judged by the name and the number of distinct values, or None."""
    each = len(known) / max(n_distinct, 1)
    if find_column_kind(known) == "number":
        is_enough = n_distinct >= FEWEST_NUMBERS
    else:
        is_many = n_distinct > MANY_NAMES and each <= MOST_ROWS_EACH
        is_enough = is_many or (n_distinct >= FEWEST_NAMES and each <= FEW_ROWS_EACH)
    if not is_enough or n_distinct == len(known) or not names_whom(name):
        return None
    return Identifier(
        f"{n_distinct:,} distinct values, each in {each:.1f} rows, and named like an identifier", is_repeated=True
    )


def names_number(name: str) -> bool:
    """Return whether a column is named like an identifier of rows or entities.

    >>> [names_number(name) for name in ("order_no", "ticketId", "caseid", "paid", "bid", "price index")]
    [True, True, True, False, False, False]
    """
    words = list_words(name)
    return bool(words) and (words[-1] in NUMBER_WORDS or words[0] in ID_WORDS or is_compound(words[-1], WHAT))


def is_compound(word: str, stems: tuple[str, ...]) -> bool:
    """Return whether a word is a stem followed by an identifier word, such as patientid or kundennummer."""
    return re.fullmatch(rf"({'|'.join(stems)})n?(id|no|nr|num|number|nummer|key|code)", word) is not None


def names_thing(name: str) -> bool:
    """Return whether a column is named like the identifier of any kind of entity.

    >>> names_thing("store_id"), names_thing("postal code"), names_thing("altitude")
    (True, False, False)
    """
    words = list_words(name)
    return bool(words) and (words[-1] in ID_WORDS or words[0] in ID_WORDS or names_whom(name))


def names_whom(name: str) -> bool:
    """Return whether a column is named like the number or the name of the entities that rows describe.

    >>> [names_whom(name) for name in ("patient_id", "CustomerNumber", "id", "Subject", "kundennummer")]
    [True, True, True, True, True]
    >>> [names_whom(name) for name in ("postal code", "customer age", "visit number", "students", "store_id")]
    [False, False, False, False, False]
    """
    words = list_words(name)
    if not words or all(word in ID_WORDS for word in words):
        return bool(words)
    if len(words) == 1:
        return words[0] in WHOM or is_compound(words[0], WHOM + WHOSE)
    return words[-1] in NUMBER_WORDS and words[-2] in WHOM + WHOSE


def list_unnamed(columns: list[str], table: Table) -> set[str]:
    """Return the columns that had no name in the file and are named by their position."""
    return {name for name in columns if re.fullmatch(r"column_[0-9]+", name)} if table.name_unnamed else set()
