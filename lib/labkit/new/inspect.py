"""Survey of a user's table: everything that is known about it before decisions are made.

The table is opened leniently to find out how to read it, then opened strictly, and all rows are read once. What follows
is decided in `labkit.new.proposal`.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_origin

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from labkit.data.quality import text_issues
from labkit.data.quality.identifiers import list_unnamed
from labkit.data.reading.column_types import KEPT_WORDS, Facts
from labkit.data.reading.raw_table import RawTable, Source
from labkit.errors import DataError, ParamsError, list_briefly, name_nearest
from labkit.features.outcome_rates import OUTCOME_KNOWN_AT, PREDICT_AT
from labkit.features.parse_text import read_yes_no
from labkit.names import normalize_spaces
from labkit.new import column_kinds, dialect
from labkit.new.options import Choices, ParamsDecision
from labkit.new.time_zones import find_zones
from labkit.params.tables import FEWEST_OF_CLASS, Table
from labkit.params.validation_messages import describe_remedy
from labkit.units import format_count
from labkit.vocabulary import LEVELS

TICK_MARKS = {"x", "✓", "✔", "☑", "checked", "selected", "ticked"}
"""Values of ticked boxes besides the spellings of yes, in lower case."""
MOST_CELLS = 4_000_000
MOST_CLASSES = 5_000


@dataclass(frozen=True)
class Survey:
    """Findings about a table.

    Attributes
    ----------
    raw
        The table, opened strictly.
    kinds
        Kind of each column but the target.
    sample
        Rows spread evenly over the table, typed, shape (n_sample, n_columns).
    counts
        Rows by value of the target, of all rows; None if there are more than `MOST_CLASSES` values.
    n_target_missing
        Rows without a target, of all rows.
    decisions
        Decisions about reading, each with its reason.
    zones
        Time zone of each column of times with UTC offsets, where it is known.
    """

    raw: RawTable
    kinds: Mapping[str, column_kinds.ColumnKind]
    sample: pd.DataFrame
    counts: Mapping[Any, int] | None
    n_target_missing: int
    decisions: tuple[ParamsDecision, ...]
    zones: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the sample holds every row."""
        return len(self.sample) == self.raw.n_rows


def survey_table(name: str, sources: list[Source], files: tuple[str, ...], target: str, choices: Choices) -> Survey:
    """Survey a table of one or several files.

    Parameters
    ----------
    name
        Name of the table.
    sources
        Its files.
    files
        Their paths in the checkout, for the params.
    target
        Column to predict.
    choices
        Options given by the user; they take precedence.

    Raises
    ------
    DataError
        The files cannot be read as a table.
    ParamsError
        An option names a column that does not exist, or is not valid.
    """
    target = normalize_spaces(target)
    origin = {"path": files[0]} if len(files) == 1 else {"paths": files}
    given = [ParamsDecision(f"reading: {key}", str(value), "given", (key,)) for key, value in choices.reading.items()]
    try:
        fields, decisions = dialect.find_reading(sources[0].path, sources[0].where, target, choices)
        raw = RawTable(name, make_declaration({**origin, **fields, **choices.reading}), sources)
        check_named(raw, target, choices)
        raw, more = settle_types(raw, choices)
        zones, zone_decisions = find_zones(raw, choices)
        sample, counts, n_missing = read_table_sample(raw, target)
        if levels := find_levels(raw, counts, target, choices):
            raw = raw.reopen(not_missing={target: levels})
            sample, counts, n_missing = read_table_sample(raw, target)
            more.append(describe_levels(levels, counts or {}, target))
    except (DataError, ParamsError) as error:
        raise type(error)(f"{error}{name_options(str(error))}") from error
    unnamed = list_unnamed(raw.columns, raw.table)
    found = {
        column: column_kinds.classify_column(
            sample[column], raw.facts.get(column), choices, is_unnamed=column in unnamed
        )
        for column in sample.columns
        if column != target
    }
    return Survey(raw, found, sample, counts, n_missing, (*decisions, *given, *more, *zone_decisions), zones)


def make_declaration(fields: Mapping[str, Any]) -> Table:
    """Return the declaration of a table, validated like a params file; refuse unknown fields and invalid values."""
    for name in fields:
        if name not in Table.model_fields:
            raise ParamsError(f"--read {name}=…: no such field: {name_nearest(name, Table.model_fields)}")
    try:
        return Table.model_validate_json(json.dumps({name: wrap(name, value) for name, value in fields.items()}))
    except ValueError as error:
        faults: list[dict[str, Any]] = error.errors(include_url=False) if hasattr(error, "errors") else []
        raise ParamsError("; ".join(map(describe_field, faults)) or f"--read: {error}") from error


def wrap(name: str, value: Any) -> Any:
    """Return a field's value from the command line; a single value becomes a list where the field is a list."""
    if get_origin(Table.model_fields[name].annotation) is not tuple:
        return value
    values = value if isinstance(value, list | tuple) else [value]
    return [item if isinstance(item, str) else json.dumps(item) for item in values]


def describe_field(fault: Mapping[str, Any]) -> str:
    """Return the error message for a field given with --read."""
    if fault["type"] == "value_error":
        return f"--read: {fault['ctx']['error']}"
    return f"--read {fault['loc'][0]}={fault['input']}: {describe_remedy(fault)}"


def name_options(message: str) -> str:
    """Return the command-line options for the params fields that an error message of strict reading names.

    >>> name_options("row 3: 'x' is not a number: add 'x' to `missing`, or name the column in `texts`")
    ' (by option: --missing COLUMN=VALUE, --kind COLUMN=category)'
    """
    known = {"missing": "--missing COLUMN=VALUE", "texts": "--kind COLUMN=category", "skip": "--read skip=COLUMN"}
    known |= {"sheet": "--sheet NAME", "times": "--kind COLUMN=category", "header": "--no-header"}
    known |= {name: f"--{name} …" for name in ("encoding", "delimiter", "decimal")}
    options = [
        known.get(name) or f"--read {name}={value.strip() or 'VALUE'}"
        for name, value in re.findall(r"`([a-z_]+)(?:: ?([^`]*))?`", message)
        if name in Table.model_fields
    ]
    return f" (by option: {', '.join(dict.fromkeys(options))})" if options else ""


def check_named(raw: RawTable, target: str, choices: Choices) -> None:
    """Refuse options that name missing columns or the target, reserved column names, and tables of one column."""
    for option in ("--drop", "--time", "--group"):
        if target in choices.name_columns().get(option, ()):
            raise ParamsError(f"{option} {target}: that is the target: name another column")
    for option, columns in {"--target": [target], **choices.name_columns()}.items():
        for column in columns:
            if column not in raw.columns:
                blank = next((name for name in raw.columns if name.strip() == column.strip()), None)
                hint = f"there is {blank!r}, with a space" if blank else name_nearest(column, raw.columns)
                raise ParamsError(f"{raw.where}: {option}: no column {column!r}: {hint}")
    for name in (PREDICT_AT, OUTCOME_KNOWN_AT):
        if name in raw.columns:
            raise DataError(
                f"{raw.where}: column {name!r} has the name of a column that is computed here: rename it in the "
                "file, or leave it out by `skip`"
            )
    if len(raw.columns) == 1:
        raise DataError(
            f"{raw.where}: one column found, {raw.columns[0]!r}: nothing to predict from; if there are more, name "
            "their delimiter with --delimiter"
        )


def settle_types(raw: RawTable, choices: Choices) -> tuple[RawTable, list[ParamsDecision]]:
    """Return the strictly opened table, with times, strings, missing markers and separators declared."""
    if not raw.facts:
        return settle_times(raw, find_text_facts(raw), choices)
    fields, decisions = dialect.decide_separators(raw, choices)
    if checkboxes := find_checkboxes(raw, choices):
        fields["checkboxes"] = checkboxes
        reason = f"hold one word if ticked, else nothing: {list_briefly(map(repr, checkboxes))}"
        count = f"{len(checkboxes)} column{'s' if len(checkboxes) > 1 else ''}"
        decisions.append(ParamsDecision("checkboxes", count, reason, ("checkboxes",)))
    if fields:
        raw = raw.reopen(**fields)
    # Numbers that the user gave another kind are kept as written.
    markers = column_kinds.find_markers(raw.facts) + find_given_markers(raw.facts, choices)
    if markers:
        reason = "the only words in columns of numbers"
        decisions.append(ParamsDecision("missing values", list_briefly(map(repr, markers)), reason, ("missing",)))
        raw = raw.reopen(missing=(*raw.table.missing, *markers))
    dates = column_kinds.find_dates(raw.facts, choices, raw.where, raw.list_strings)
    codes = {name: why for name, why in find_code_columns(raw.facts, choices) if name not in dates}
    formats = {name: style for name, style in dates.items() if style}
    for name, why in codes.items():
        decisions.append(ParamsDecision(f"column {name!r}", "kept as text", why, ("texts",)))
    for name, style in dates.items():
        decisions.append(
            ParamsDecision(f"column {name!r}", f"a date, {style or 'ISO'}", "every value fits", ("times",))
        )
    if dates or codes:
        raw = raw.reopen(times=tuple(dates), texts=tuple(codes), formats=formats)
    return raw.check(), decisions


def find_checkboxes(raw: RawTable, choices: Choices) -> tuple[str, ...]:
    """Return the columns that hold only one word and blanks: a tick mark, or the name of the ticked option."""
    found = []
    for name, facts in raw.facts.items():
        given = choices.kinds.get(name)
        word = next(iter(facts.words), "1" if facts.n_numbers and facts.smallest == facts.largest == 1 else "")
        is_alone = len(facts.words) + bool(facts.n_numbers) == 1 and facts.n_missing and not facts.markers
        if not (word and is_alone) or given not in (None, "boolean") or name in choices.formats:
            continue
        is_mark = (
            word.lower() in TICK_MARKS or read_yes_no(word) == 1 or name.endswith(f": {word}") or given == "boolean"
        )
        if is_mark and raw.list_strings(name) == [word]:
            found.append(name)
    return tuple(found)


def settle_times(raw: RawTable, facts: Mapping[str, Facts], choices: Choices) -> tuple[RawTable, list[ParamsDecision]]:
    """Return a table with declared types, and its strings that are dates declared: some databases have no date type."""
    dates = column_kinds.find_dates(facts, choices, raw.where, raw.list_strings)
    formats = {name: style for name, style in dates.items() if style}
    decisions = [
        ParamsDecision(f"column {name!r}", f"a date, {style or 'ISO'}", "every value fits", ("times",))
        for name, style in dates.items()
    ]
    return (raw.reopen(times=tuple(dates), formats=formats) if dates else raw), decisions


def find_text_facts(raw: RawTable) -> dict[str, Facts]:
    """Return the facts of strings and whole numbers of a table with declared types, from its first rows."""
    first = next(iter(raw.read_typed()), None)
    found: dict[str, Facts] = {}
    if first is None:
        return found
    for name in raw.columns:
        column = first.column(name)
        if pa.types.is_integer(column.type) and column.null_count < len(column):
            n_known, ends = len(column) - column.null_count, pc.min_max(column).as_py()
            found[name] = Facts(name, n_known=n_known, n_numbers=n_known, smallest=ends["min"], largest=ends["max"])
        if pa.types.is_string(column.type) and not pc.any(pc.equal(pc.utf8_trim_whitespace(column), "")).as_py():
            words = raw.list_strings(name, most_rows=1)[:KEPT_WORDS]
            n_known = len(column) - column.null_count
            found[name] = Facts(
                name, n_known=n_known, n_words=n_known, is_boolean=False, is_hopeless=True, words=Counter(words)
            )
    return found


def find_given_markers(facts: Mapping[str, Facts], choices: Choices) -> list[str]:
    """Return the words given as missing values of numeric columns."""
    given = {(name, word) for name, words in choices.missing.items() for word in words}
    return sorted({word for name, word in given if facts[name].n_numbers and word in facts[name].words})


def find_code_columns(facts: Mapping[str, Facts], choices: Choices) -> list[tuple[str, str]]:
    """Return the columns that look like numbers but are not, each with the reason."""
    found = []
    for name, column in facts.items():
        if choices.kinds.get(name) in ("category", "text", "identifier", "boolean") and column.n_numbers:
            found.append((name, f"given as {choices.kinds[name]}"))
        elif column.n_leading_zeros and column.dtype != "str":
            found.append((name, f"{column.n_leading_zeros:,} numbers begin with 0, as codes do"))
        elif column.first_huge and column.dtype == "float64":
            found.append((name, "whole numbers beyond 2^53, which no float represents exactly"))
    return found


def find_levels(raw: RawTable, counts: Mapping[Any, int] | None, target: str, choices: Choices) -> tuple[str, ...]:
    """Return the words of a target that usually mean missing but are a class, such as a damage of `None`."""
    facts = raw.facts.get(target)
    if facts is None or facts.dtype != "str" or not counts or target in raw.table.not_missing:
        return ()
    words = [str(word) for word in counts]
    if len(words) > MOST_CLASSES or text_issues.guess_number(words):
        return ()
    # `None` needs as many rows as any class; the other words need at least as many as the largest class.
    largest = max(*counts.values(), FEWEST_OF_CLASS)
    least = {word: FEWEST_OF_CLASS if word == "None" else largest for word in LEVELS}
    given = choices.missing.get(target, ())
    return tuple(word for word, n in facts.markers.items() if n >= least.get(word, np.inf) and word not in given)


def describe_levels(levels: tuple[str, ...], counts: Mapping[Any, int], target: str) -> ParamsDecision:
    """Return the decision that words that elsewhere mean a missing value are classes of the target."""
    shown = " and ".join(map(repr, levels))
    counted = " and ".join(format_count(counts.get(word, 0), "row") for word in levels)
    option = " ".join(f"--missing {shlex.quote(f'{target}={word}')}" for word in levels)
    value = f"{shown} {'is a class' if len(levels) == 1 else 'are classes'}"
    reason = f"in {counted}; if it stands for a missing target, add {option}"
    return ParamsDecision(f"target {target!r}", value, reason, ("not_missing",), is_warning=True)


def read_table_sample(raw: RawTable, target: str) -> tuple[pd.DataFrame, dict[Any, int] | None, int]:
    """Read all rows once; return an evenly spread sample, the counts of target values, and the missing targets."""
    wanted = int(np.clip(MOST_CELLS // max(1, len(raw.columns)), 2_000, 50_000))
    stride = max(1, -(-raw.n_rows // wanted))
    counts: Counter[Any] | None = Counter()
    kept, n_before, n_missing = [], 0, 0
    for rows in raw.read():
        outcomes = rows.column(target)
        n_missing += outcomes.null_count
        if counts is not None:
            counts.update({entry["values"]: entry["counts"] for entry in outcomes.value_counts().to_pylist()})
            counts = counts if len(counts) <= MOST_CLASSES else None
        kept.append(rows.take(pa.array(np.arange(-n_before % stride, rows.num_rows, stride))))
        n_before += rows.num_rows
    sample = pa.concat_tables(kept).combine_chunks().to_pandas()
    if counts is not None:
        counts.pop(None, None)
    return sample, None if counts is None else dict(counts), n_missing
