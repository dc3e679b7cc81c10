"""Infer column types from strings: numbers, booleans or strings, judged by every value, never by the first few.

A column has one type from its first row to its last; otherwise the first value that does not fit raises an error.
For the parsing of times, see `labkit.data.reading.times`; for the role of a column, see `labkit.new.column_kinds`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from labkit.errors import DataError, list_briefly
from labkit.params.tables import Table
from labkit.units import format_count
from labkit.vocabulary import YES_NO

BOOLEANS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
LARGEST_WHOLE = 2**53
"""Largest number up to which a float represents every integer exactly."""
FEW_WORDS = 0.01
"""Maximum share of other strings for a column to be numeric with errors rather than a string column."""
KEPT_WORDS, MOST_WORDS = 200, 20
SPELLED = {word for pair in YES_NO for word in pair if word.isalpha()}
LOOKED_AT = 20_000
PLAIN_NUMBER = r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?"
DECIMAL_COMMA = re.compile(r"[+-]?([0-9]+|[0-9]{1,3}([. '\u00a0\u202f][0-9]{3})+)(,[0-9]+)?")
DECIMAL_POINT = re.compile(r"[+-]?([0-9]+|[0-9]{1,3}([, '\u00a0\u202f][0-9]{3})+)([.][0-9]+)?")


@dataclass
class Facts:
    """Summary of all values of one column.

    `first_*` are a row, counted from 1, and its string; `words` are the first strings that are not numbers.
    """

    name: str
    n_known: int = 0
    n_missing: int = 0
    n_numbers: int = 0
    n_words: int = 0
    n_leading_zeros: int = 0
    n_infinite: int = 0
    is_whole: bool = True
    is_boolean: bool = True
    is_hopeless: bool = False
    is_checkbox: bool = False
    smallest: float = np.inf
    largest: float = -np.inf
    markers: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    first_word: tuple[int, str] | None = None
    first_huge: tuple[int, str] | None = None
    first_infinite: tuple[int, str] | None = None

    @property
    def dtype(self) -> str:
        """The type that can hold all values: `float64`, `int64`, `bool` or `str`."""
        if self.is_checkbox:
            return "bool"
        if not self.n_known:
            return "float64"
        if not self.n_words and not self.is_hopeless:
            return "int64" if self.is_whole and not self.n_missing and not self.n_infinite else "float64"
        return "bool" if self.is_boolean and not self.n_numbers else "str"

    @property
    def has_few_words(self) -> bool:
        """Whether the column is numeric except for a few strings."""
        few = max(1.0, FEW_WORDS * self.n_known)
        return not self.is_hopeless and 0 < self.n_words <= few and self.n_numbers >= 10


def find_facts(batches: Iterable[pa.RecordBatch], names: list[str], table: Table) -> dict[str, Facts]:
    """Scan all rows and return the facts of every column that is not skipped."""
    facts = {name: Facts(name) for name in names if name not in table.skip}
    places = {name: place for place, name in enumerate(names)}
    as_strings = {*table.texts, *table.times}
    n_rows = 0
    for batch in batches:
        for name, found in facts.items():
            if name in as_strings:
                found.is_whole = found.is_boolean = False
                found.is_hopeless = True
            found.is_checkbox = name in table.checkboxes
            add_values(found, batch.column(places[name]), table, n_rows)
        n_rows += batch.num_rows
        check_n_rows(n_rows, table)
    return facts


def check_n_rows(n_rows: int, table: Table) -> None:
    """Raise an error if there are more rows than the table allows."""
    if n_rows > table.max_rows:
        raise DataError(f"more than {table.max_rows:,} rows: raise `max_rows` of the table if that is expected")


def find_missing_cells(trimmed: pa.StringArray, table: Table, name: str) -> pa.BooleanArray:
    """Return where a column has missing values, as a mask: blanks, or strings that mark a missing value there."""
    kept = table.not_missing.get(name, ())
    return pc.is_in(
        trimmed, value_set=pa.array(["", *(word for word in table.missing if word not in kept)], pa.string())
    )


def add_values(facts: Facts, values: pa.StringArray, table: Table, n_before: int) -> None:
    """Add the values of one batch to a column's facts."""
    trimmed = pc.utf8_trim_whitespace(values)
    if facts.is_checkbox:
        add_ticks(facts, trimmed, n_before)
        return
    is_missing = find_missing_cells(trimmed, table, facts.name)
    n_missing_cells = pc.sum(is_missing).as_py() or 0
    facts.n_missing += n_missing_cells
    facts.n_known += len(values) - n_missing_cells
    if n_missing_cells:
        counts = pc.value_counts(trimmed.filter(is_missing)).to_pylist()
        facts.markers.update({count["values"]: count["counts"] for count in counts if count["values"]})
    known = trimmed.filter(pc.invert(is_missing)) if n_missing_cells else trimmed
    if not len(known):
        return
    if facts.is_boolean:
        facts.is_boolean = bool(pc.all(pc.is_in(known, value_set=pa.array(list(BOOLEANS)))).as_py())
    if facts.is_hopeless:
        keep_words(facts, known)
        return
    numbers = to_numbers(known, table)
    rows = np.flatnonzero(~is_missing.to_numpy(zero_copy_only=False)) if n_missing_cells else np.arange(len(values))
    if numbers is None:
        known, rows = split_words(facts, known, rows + n_before, table)
        numbers = to_numbers(known, table) if len(known) else None
    else:
        rows = rows + n_before
    if numbers is not None:
        add_numbers(facts, known, numbers, rows, table)


def add_ticks(facts: Facts, trimmed: pa.StringArray, n_before: int) -> None:
    """Add the values of one batch to the facts of a checkbox column, where a blank is a value too."""
    facts.n_known += len(trimmed)
    facts.is_hopeless = True
    ticks = trimmed.filter(pc.not_equal(trimmed, ""))
    facts.words.update(pc.unique(ticks).slice(0, KEPT_WORDS).to_pylist())
    if facts.first_word is None and len(facts.words) > 1:
        is_other = pc.and_(pc.not_equal(trimmed, ""), pc.not_equal(trimmed, next(iter(facts.words))))
        place = pc.index(is_other, True).as_py()
        facts.first_word = (n_before + place + 1, str(trimmed[place].as_py()))


def keep_words(facts: Facts, known: pa.StringArray) -> None:
    """Count the values that are strings, and keep some of them."""
    facts.n_words += len(known)
    if len(facts.words) < KEPT_WORDS:
        # Distinct ones: the first rows of a table in order of time may all be from one day.
        facts.words.update(pc.unique(known.slice(0, LOOKED_AT)).slice(0, KEPT_WORDS).to_pylist())


def split_words(
    facts: Facts, known: pa.StringArray, rows: np.ndarray, table: Table
) -> tuple[pa.StringArray, np.ndarray]:
    """Count the values that are not numbers, and return the numbers with their rows."""
    is_number = pc.match_substring_regex(known, f"^(?:{make_number_pattern(table)})$")
    mask = is_number.to_numpy(zero_copy_only=False)
    words = known.filter(pc.invert(is_number))
    if facts.first_word is None and len(words):
        place = int(np.argmin(mask))
        facts.first_word = (int(rows[place]) + 1, str(known[place].as_py()))
    keep_words(facts, words)
    # Clearly a string column: numbers in it no longer need to be counted.
    facts.is_hopeless = len(words) > max(20, len(known) / 2)
    return known.filter(is_number), rows[mask]


def make_number_pattern(table: Table) -> str:
    """Return the regular expression of a number in the notation of a table."""
    named = "[+-]?(?i:inf|infinity|nan)"
    if table.decimal == "." and not table.thousands:
        return f"{PLAIN_NUMBER}|{named}"
    point = re.escape(table.decimal)
    groups = f"|[0-9]{{1,3}}(?:{re.escape(table.thousands)}[0-9]{{3}})+" if table.thousands else ""
    return f"[+-]?(?:[0-9]+{groups})?(?:{point}[0-9]*)?(?:[eE][+-]?[0-9]+)?|{named}"


def to_numbers(values: pa.StringArray, table: Table) -> pa.DoubleArray | None:
    """Return strings as floats, or None if one of them is not a number."""
    if table.decimal != "." or table.thousands:
        if not pc.all(pc.match_substring_regex(values, f"^(?:{make_number_pattern(table)})$")).as_py():
            return None
        values = strip_separators(values, table)
    try:
        return pc.cast(values, pa.float64())
    except pa.ArrowInvalid:
        return None


def strip_separators(values: pa.StringArray, table: Table) -> pa.StringArray:
    """Return numbers in the notation of a table as strings that Arrow can parse."""
    if table.thousands:
        values = pc.replace_substring(values, table.thousands, "")
    return pc.replace_substring(values, ",", ".") if table.decimal == "," else values


def to_whole(values: pa.StringArray, table: Table) -> pa.Int64Array | None:
    """Return strings that are numbers as integers, or None if one is not an integer or does not fit in 64 bits."""
    plain = pc.utf8_ltrim(strip_separators(values, table), characters="+")
    try:
        return pc.cast(plain, pa.int64())
    except pa.ArrowInvalid:
        return None


def add_numbers(facts: Facts, known: pa.StringArray, numbers: pa.DoubleArray, rows: np.ndarray, table: Table) -> None:
    """Add the numbers of one batch to a column's facts."""
    facts.n_numbers += len(numbers)
    array = numbers.to_numpy(zero_copy_only=False)
    is_finite = np.isfinite(array)
    if not is_finite.all():
        facts.n_infinite += int((~is_finite).sum())
        place = int(np.argmin(is_finite))
        facts.first_infinite = facts.first_infinite or (int(rows[place]) + 1, str(known[place].as_py()))
        array = np.where(is_finite, array, 0.0)
    facts.smallest, facts.largest = min(facts.smallest, array.min()), max(facts.largest, array.max())
    facts.is_whole = facts.is_whole and bool(is_finite.all()) and to_whole(known, table) is not None
    if facts.first_huge is None and np.abs(array).max() >= LARGEST_WHOLE:
        is_huge = pc.match_substring_regex(known, "^[+-]?[0-9]{16,}$").to_numpy(zero_copy_only=False)
        is_huge &= np.abs(array) >= LARGEST_WHOLE
        if is_huge.any():
            place = int(np.argmax(is_huge))
            facts.first_huge = (int(rows[place]) + 1, str(known[place].as_py()))
    zeros = pc.and_(pc.starts_with(known, "0"), pc.greater(pc.binary_length(known), 1))
    if facts.is_whole and pc.any(zeros).as_py():
        facts.n_leading_zeros += pc.sum(zeros).as_py()


def check_facts(facts: Mapping[str, Facts], table: Table, where: str) -> None:
    """Reject columns of mixed type: the first one, or all those with a few strings among numbers.

    Raises
    ------
    DataError
        A column has no single type; names column, row, value and fix.
    """
    mixed = []
    for found in facts.values():
        if found.name in table.texts or found.name in table.times or not found.n_known:
            continue
        lead = f"{where}: column {found.name!r}"
        if found.is_checkbox:
            check_ticks(found, lead)
            continue
        if found.first_infinite and not table.allow_infinite and found.dtype != "str":
            row, cell = found.first_infinite
            raise DataError(
                f"{lead}, row {row:,}: {cell!r} is not a finite number ({found.n_infinite:,} such rows): fix the "
                "file, or set `allow_infinite: true`, which takes them as missing"
            )
        if separators := find_separators(found, table):
            decimal, thousands = separators
            what = f"thousands: {thousands!r}" if decimal == "." else f"decimal: {decimal!r}"
            raise DataError(
                f"{lead}: 100 % look like numbers with {describe_separators(decimal, thousands)}, first "
                f"{next(iter(found.words))!r}: set `{what}`, or name the column in `texts`"
            )
        if found.has_few_words and found.first_word:
            mixed.append(found)
        if found.first_huge and found.dtype == "float64":
            row, cell = found.first_huge
            raise DataError(
                f"{lead}, row {row:,}: {cell} is too large to be kept to the last digit: name the column in `texts`"
            )
    if mixed:
        raise DataError(f"{where}: {describe_words(mixed)}")


def describe_words(mixed: list[Facts]) -> str:
    """Return the message that lists the strings in numeric columns, all at once, and how to fix them."""
    parts = []
    for found in mixed:
        row, first = found.first_word or (0, "")
        others = [word for word in found.words if word != first]
        more = (
            f", nor {'is' if len(others) == 1 else 'are'} {list_briefly(map(repr, others), MOST_WORDS)}"
            if others
            else ""
        )
        rows = f"{format_count(found.n_words, 'such row')} of {found.n_known:,}"
        parts.append(f"column {found.name!r}, row {row:,}: {first!r} is not a number{more} ({rows})")
    words = list(dict.fromkeys(word for found in mixed for word in found.words))
    named = f"add {list_briefly(map(repr, words), MOST_WORDS)} to `missing`"
    columns = "the column" if len(mixed) == 1 else "the columns"
    return f"{'; '.join(parts)}: fix the file, {named}, or name {columns} in `texts`"


def check_ticks(facts: Facts, lead: str) -> None:
    """Reject a checkbox column with more than one distinct string."""
    if facts.first_word:
        row, cell = facts.first_word
        raise DataError(
            f"{lead}, row {row:,}: {cell!r} beside {next(iter(facts.words))!r}: a checkbox holds one word or nothing: "
            "take the column out of `checkboxes`"
        )


def find_separators(facts: Facts, table: Table) -> tuple[str, str] | None:
    """Return decimal and thousands separator with which a string column would be numeric, or None."""
    if facts.dtype != "str" or not facts.words or facts.n_words + facts.n_numbers < 3:
        return None
    found = guess_separators(facts.words)
    return found if found and found != (table.decimal, table.thousands) else None


def guess_separators(strings: Iterable[str]) -> tuple[str, str] | None:
    """Return decimal and thousands separator of strings that are all numbers, or None if one is not.

    >>> guess_separators(["1,5", "12,25"]), guess_separators(["1,234", "1,234,567"]), guess_separators(["1.234,5"])
    ((',', ''), ('.', ','), (',', '.'))
    >>> guess_separators(["3", "4"]), guess_separators(["a,5"])
    (None, None)
    """
    values = [string.strip() for string in strings]
    if not any(re.search(r"[0-9][,. '\u00a0\u202f][0-9]", value) for value in values):
        return None
    is_point = all(DECIMAL_POINT.fullmatch(value) for value in values)
    is_comma = all(DECIMAL_COMMA.fullmatch(value) for value in values)
    if not (is_point or is_comma):
        return None
    # 1,234 alone is ambiguous; a comma that always precedes three digits is taken as a thousands separator.
    decimal = "." if is_point else ","
    pattern = r"[0-9]([, '\u00a0\u202f])[0-9]{3}" if is_point else r"[0-9]([. '\u00a0\u202f])[0-9]{3}"
    groups = next((found[1] for value in values if (found := re.search(pattern, value))), "")
    return (decimal, groups) if (decimal, groups) != (".", "") else None


def describe_separators(decimal: str, thousands: str) -> str:
    """Describe the number notation in words."""
    parts = [f"{thousands!r} between thousands"] if thousands else []
    return " and ".join([*(["a decimal comma"] if decimal == "," else []), *parts])


def convert_batch(
    batch: pa.RecordBatch, places: Mapping[str, int], facts: Mapping[str, Facts], table: Table
) -> pa.Table:
    """Convert one batch of strings to the columns' types."""
    columns = [convert_column(batch.column(places[name]), found, table) for name, found in facts.items()]
    return pa.Table.from_arrays(columns, names=list(facts))


def convert_column(values: pa.StringArray, facts: Facts, table: Table) -> pa.Array:
    """Convert one column of a batch to its type."""
    trimmed = pc.utf8_trim_whitespace(values)
    if facts.is_checkbox:
        return pc.not_equal(trimmed, "")
    is_missing = find_missing_cells(trimmed, table, facts.name)
    missing = pa.scalar(None, pa.string())
    if facts.dtype == "str":
        return pc.if_else(is_missing, missing, values)
    known = pc.if_else(is_missing, missing, trimmed)
    if facts.dtype == "bool":
        return pc.equal(pc.utf8_lower(known), "true")
    if facts.dtype == "int64":
        return to_whole(known, table)
    numbers = pc.cast(strip_separators(known, table), pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def describe_facts(facts: Mapping[str, Facts], table: Table) -> Iterator[tuple[str, str, str, str]]:
    """Yield remarks for the EDA: column, finding, evidence and fix."""
    for name, found in facts.items():
        if not found.n_known:
            yield name, "empty", "no value in any row", f"wrangling.drop: {{{name}: …}}"
            continue
        is_text = found.dtype == "str" or name in table.texts
        if is_text and found.markers:
            counts = list_briefly(f"{count:,} × {word!r}" for word, count in found.markers.most_common())
            yield name, "words taken as missing", counts, "if they are values: data.tables.….missing: ['']"
        if found.n_leading_zeros and name not in table.texts:
            evidence = f"{found.n_leading_zeros:,} numbers begin with 0"
            yield name, "codes with leading zeros", evidence, f"data.tables.….texts: [{name}]"
        if found.n_infinite and not is_text:
            yield name, "infinite numbers taken as missing", f"{found.n_infinite:,} rows", "fix the file"
        if spellings := list_spellings(found):
            yield name, "yes and no in several spellings", list_briefly(spellings, most=8), "fix the file"


def list_spellings(facts: Facts) -> list[str]:
    """Return the values of a yes/no column if there are more than two spellings, else an empty list."""
    words = [word for word in facts.words if word.lower() in SPELLED]
    if len(words) < len(facts.words) or len(words) < 3:
        return []
    return sorted(words)
