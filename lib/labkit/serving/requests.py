"""Requests of the service: rows as JSON, decoded and checked against the columns of a release.

Needs msgspec and numpy but not pandas. Every fault of a request is found and named, by row and column; no message
repeats what the client sent, except for names of columns.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import numpy as np

from labkit.errors import LabkitError, list_briefly, name_nearest, shorten
from labkit.features.arrays import convert_time, make_numbers, read_usual_times

MOST_ROWS = 10_000
"""Maximum number of rows in one request."""
MOST_FAULTS = 20
"""Maximum number of faults that a refusal lists."""
LONGEST_NAME = 80
LONGEST_TEXT, LONGEST_TIME = 20_000, 64
LARGEST = float(np.finfo("float32").max)
"""Largest number that the graph, which computes in float32, can represent."""
NUMBER = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
TEXT = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
TIME = Annotated[str, msgspec.Meta(max_length=LONGEST_TIME)]
TYPES: dict[str, Any] = {"number": NUMBER, "boolean": bool | NUMBER, "time": TIME, "category": TEXT | int | NUMBER}
"""JSON type by kind of column."""
UNUSUAL = re.compile(r'["\\\x00-\x1f]')
"""Characters of names that msgspec cannot decode by."""
WANTED = {
    "number": "a number",
    "boolean": "true or false",
    "time": "an ISO 8601 time",
    "category": "a string",
}
"""What a column of each kind takes, for messages."""


def replace_surrogates(text: str) -> str:
    """Return a string that can be encoded: names of columns may hold surrogates without their other half."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a request; `row` counts from 0, and is None for the request as a whole."""

    message: str
    row: int | None = None
    column: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fault as plain data, without what does not apply."""
        column = None if self.column is None else replace_surrogates(self.column)
        found = {"row": self.row, "column": column, "message": replace_surrogates(self.message)}
        return {name: value for name, value in found.items() if value is not None}


class RequestError(LabkitError):
    """A request is refused.

    Attributes
    ----------
    status
        HTTP status, 400 to 499.
    faults
        All faults, at least one.
    """

    def __init__(self, status: int, *faults: Fault) -> None:
        super().__init__("; ".join(fault.message for fault in faults))
        self.status, self.faults = status, list(faults)

    def to_dict(self) -> dict[str, Any]:
        """Return the refusal as plain data."""
        shown = [fault.to_dict() for fault in self.faults[:MOST_FAULTS]]
        return {"error": shown[0]["message"], "faults": shown, "n_faults": len(self.faults)}


@dataclass(frozen=True)
class Columns:
    """The rows of requests as columns.

    Attributes
    ----------
    values
        Arrays of shape (n_rows,), by column.
    n_missing, n_outside
        Values that are missing, and numbers outside the range that the contract of the release declares.
    """

    values: dict[str, np.ndarray]
    n_missing: int
    n_outside: int


class RowReader:
    """Reads the rows of requests as columns.

    Parameters
    ----------
    kinds
        Kind of each column that a row has.
    agreed
        What the contract says of columns: one that it does not allow to be missing must not be null.
    rules
        Row rules of the release, as plain data.
    """

    def __init__(
        self,
        kinds: Mapping[str, str],
        agreed: Mapping[str, Any],
        rules: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.kinds, rules = dict(kinds), rules or {}
        self.nullable = {name: agreed.get(name, {"nullable": True}).get("nullable", False) for name in self.kinds}
        self.parsed = {name for name in self.kinds if (rules.get(name) or {}).get("type") is not None}
        """Columns whose rule parses strings."""
        self.times = [place for place, name in enumerate(self.kinds) if self.is_time(name)]
        self.numbers = [
            place for place, name in enumerate(self.kinds)
            if self.kinds[name] == "number" and name not in self.parsed
        ]  # fmt: skip
        bounds = [agreed.get(name, {}) for place, name in enumerate(self.kinds) if place in self.numbers]
        low = [one.get("greater_than_or_equal_to", -np.inf) for one in bounds]
        high = [one.get("less_than_or_equal_to", np.inf) for one in bounds]
        self.low, self.high = np.array([low, high], "float64").reshape(2, -1, 1)
        self.others = [place for place in range(len(self.kinds)) if place not in self.numbers]
        arranged = {place: number for number, place in enumerate([*self.numbers, *self.others])}
        self.found = {name: arranged[place] for place, name in enumerate(self.kinds)}
        """Place of each column among those of numbers, followed by all others."""
        fields = [(f"f{place}", self.make_type(name)) for place, name in enumerate(self.kinds)]
        self.places = {name: f"f{place}" for place, name in enumerate(self.kinds)}
        self.is_plain = not any(map(UNUSUAL.search, self.kinds))
        """Whether msgspec can decode rows by the names of the columns; else the names are translated first."""
        names = {place: name for name, place in self.places.items()} if self.is_plain else None
        self.row_type: Any = msgspec.defstruct(
            "Row", fields, rename=names, forbid_unknown_fields=True, gc=False, frozen=True
        )
        self.rows_type: Any = Annotated[list[self.row_type], msgspec.Meta(min_length=1)]  # type: ignore[name-defined]
        body = msgspec.defstruct("Body", [("rows", self.rows_type)], forbid_unknown_fields=True, gc=False)
        self.decoder: Any = msgspec.json.Decoder(body)

    def is_time(self, name: str) -> bool:
        """Return whether a column takes ISO 8601 times, and not strings that a rule parses."""
        return self.kinds[name] == "time" and name not in self.parsed

    def make_type(self, name: str) -> Any:
        """Return the JSON type of a column."""
        wanted = TYPES[self.kinds[name]]
        wanted = wanted | TEXT if name in self.parsed and self.kinds[name] != "category" else wanted
        return wanted | None if self.nullable[name] else wanted

    def read(self, body: bytes) -> list[Any]:
        """Return the rows of a request.

        Parameters
        ----------
        body
            `{"rows": [{...}, ...]}`, each row with all columns; null is a missing value.

        Raises
        ------
        RequestError
            400 if the body is not JSON; 413 if it has too many rows; 422 if it is not as the release declares.
        """
        try:
            rows = self.decoder.decode(body).rows if self.is_plain else self.decode_translated(body)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError, and all errors of msgspec
            raise self.explain(body) from error
        # A key that is there twice: the decoder takes the last one. A colon after a quote stands after each key, and
        # seldom elsewhere; where the number differs, the keys are counted exactly.
        if body.count(b'":') != 1 + len(rows) * len(self.kinds) and has_repeated_key(body):
            raise RequestError(400, Fault("a name occurs twice in one object: send each column once"))
        return self.check(rows)

    def convert(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return rows given as dictionaries, such as those of another protocol; unknown columns are ignored.

        Raises
        ------
        RequestError
            As `read`.
        """
        known = [
            {name: value for name, value in row.items() if name in self.kinds} if isinstance(row, Mapping) else row
            for row in rows
        ]
        if len(known) > MOST_ROWS:
            raise RequestError(413, Fault(f"{len(known):,} rows: send at most {MOST_ROWS:,} in one request"))
        try:
            return self.check(self.convert_known(known))
        except (ValueError, RecursionError) as error:
            raise self.explain_rows(list(known)) from error

    def decode_translated(self, body: bytes) -> list[Any]:
        """Return the rows of a request whose columns have names that msgspec cannot decode by."""
        content = msgspec.json.decode(body)
        if not isinstance(content, dict) or {*content} != {"rows"} or not isinstance(content["rows"], list):
            raise ValueError("not an object with rows")
        return self.convert_known(content["rows"])

    def convert_known(self, rows: list[Any]) -> list[Any]:
        """Return rows given as dictionaries; raise ValueError if they are not as declared."""
        if not self.is_plain:
            rows = [
                {self.places.get(name, name): value for name, value in row.items()} if isinstance(row, Mapping) else row
                for row in rows
            ]
        found: list[Any] = msgspec.convert(rows, self.rows_type)
        msgspec.json.encode(found)  # a surrogate without its other half is no text: UnicodeEncodeError is a ValueError
        return found

    def name_values(self, row: Any) -> Any:
        """Return a row in a form that is encoded with the names of the columns."""
        return row if self.is_plain else dict(zip(self.kinds, msgspec.structs.astuple(row), strict=True))

    def name_rows(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return rows in the form of `name_values`."""
        return rows if self.is_plain else list(map(self.name_values, rows))

    def check(self, rows: list[Any]) -> list[Any]:
        """Return the rows if there are not too many, and their times can be read."""
        if len(rows) > MOST_ROWS:
            raise RequestError(413, Fault(f"{len(rows):,} rows: send at most {MOST_ROWS:,} in one request"))
        names = list(self.kinds)
        columns = {names[place]: [getattr(row, f"f{place}") for row in rows] for place in self.times}
        odd = {name: values for name, values in columns.items() if read_usual_times(values) is None}
        faults = [
            Fault(f"row {number}: {name}: not {WANTED['time']}", number, name)
            for number in range(len(rows) if odd else 0)
            for name, values in odd.items()
            if not is_readable_time(values[number])
        ]
        if faults:
            raise RequestError(422, *faults)
        return rows

    def make_columns(self, rows: Sequence[Any]) -> "Columns":
        """Return rows as columns, arrays of shape (n_rows,), with counts of what is unusual about them."""
        values = [*zip(*map(msgspec.structs.astuple, rows), strict=True)] or [()] * len(self.kinds)
        numbers = make_numbers([values[place] for place in self.numbers]).reshape(len(self.numbers), len(rows))
        others = np.array([values[place] for place in self.others], object)
        found = [*numbers, *others]
        made = {name: found[place] for name, place in self.found.items()}
        n_missing = int(np.count_nonzero(np.isnan(numbers))) + sum(values[place].count(None) for place in self.others)
        n_outside = int(np.count_nonzero((numbers < self.low) | (numbers > self.high)))
        return Columns(made, n_missing, n_outside)

    def explain(self, body: bytes) -> RequestError:
        """Return the refusal of a body that could not be decoded."""
        try:
            content = json.loads(body.decode("utf-8"), parse_constant=refuse_constant)
        except (ValueError, RecursionError):
            return RequestError(400, Fault("the body is not JSON in UTF-8"))
        if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
            return RequestError(422, Fault('the body is not an object with "rows", a list of rows'))
        if others := [shorten(str(name), LONGEST_NAME) for name in content if name != "rows"]:
            return RequestError(422, Fault(f'the body has more than "rows": {list_briefly(others)}'))
        return self.explain_rows(content["rows"])

    def explain_rows(self, rows: list[Any]) -> RequestError:
        """Return the refusal of rows that do not have the columns of the release; each fault is named."""
        if not rows:
            return RequestError(422, Fault("no rows: send at least one"))
        if len(rows) > MOST_ROWS:
            return RequestError(413, Fault(f"{len(rows):,} rows: send at most {MOST_ROWS:,} in one request"))
        types = {name: self.make_type(name) for name in self.kinds}
        faults: list[Fault] = []
        for number, row in enumerate(rows):
            faults += self.list_faults(number, row, types)
            if len(faults) >= 10 * MOST_FAULTS:
                break
        return RequestError(422, *(faults or [Fault("a value is not of the type of its column")]))

    def list_faults(self, number: int, row: Any, types: Mapping[str, Any]) -> list[Fault]:
        """Return the faults of one row."""
        if not isinstance(row, dict):
            return [Fault(f"row {number}: not an object with the columns as names", number)]
        found = [
            Fault(f"row {number}: {shorten(str(name), LONGEST_NAME)}: {name_nearest(str(name)[:LONGEST_NAME], types)}",
                  number, shorten(str(name), LONGEST_NAME))
            for name in row if name not in types
        ]  # fmt: skip
        for name, wanted in types.items():
            if name not in row:
                found.append(Fault(f"row {number}: {name}: missing: send null if it is not known", number, name))
                continue
            try:
                msgspec.convert(row[name], wanted)
                str(row[name]).encode()  # a surrogate without its other half is no text
            except (ValueError, RecursionError):
                found.append(Fault(f"row {number}: {name}: {self.describe_type(name)}", number, name))
        return found

    def describe_type(self, name: str) -> str:
        """Return what a column takes, for a message."""
        kind = self.kinds[name]
        limit = f" between -{LARGEST:.3g} and {LARGEST:.3g}" if kind == "number" else ""
        limit = f" of at most {LONGEST_TEXT:,} characters" if kind == "category" else limit
        return f"not {WANTED[kind]}{limit}" + ("" if self.nullable[name] else ", and never null")

    def describe_columns(self, meanings: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return what each column takes: its kind, whether it may be missing, its range where one is agreed.

        Parameters
        ----------
        meanings
            What columns hold, with their units; the columns about which nothing is known are named only.
        """
        names, ends = list(self.kinds), zip(self.low.ravel().tolist(), self.high.ravel().tolist(), strict=True)
        bounds = {names[place]: dict(zip(("low", "high"), both, strict=True))
                  for place, both in zip(self.numbers, ends, strict=True)}  # fmt: skip
        return [
            {"name": name, "kind": kind, "may_be_missing": self.nullable[name]}
            | ({"meaning": meanings[name]} if name in meanings else {})
            | {end: bound for end, bound in bounds.get(name, {}).items() if np.isfinite(bound)}
            for name, kind in self.kinds.items()
        ]

    def make_column_schema(self, name: str) -> dict[str, Any]:
        """Return the JSON schema of a value."""
        made = msgspec.json.schema(self.make_type(name))
        if self.is_time(name):
            for one in made.get("anyOf", [made]):
                if one.get("type") == "string":
                    one["format"] = "date-time"
        return made

    def make_schema(self, others: Collection[str] = ()) -> dict[str, Any]:
        """Return the JSON schema of a request; `others` are columns that are accepted and ignored."""
        types = {name: self.make_column_schema(name) for name in self.kinds}
        known = {**{name: {} for name in others}, **types}
        row = {"type": "object", "properties": known, "required": [*types], "additionalProperties": False}
        rows = {"type": "array", "items": row, "minItems": 1, "maxItems": MOST_ROWS}
        return {"type": "object", "properties": {"rows": rows}, "required": ["rows"], "additionalProperties": False}


PLACE = re.compile(r"(?s)(.*) - at `\$(.*)`")
"""A message of msgspec: what is wrong, and the path of the value."""
ROW_PLACE = re.compile(r"\.(\w+)\[(\d+)\](?:\.(\w+))?(.*)")


def refuse_body(error: Exception, form: str) -> RequestError:
    """Return the refusal of a body that should have some form, given the error of msgspec; it names the place."""
    if not isinstance(error, msgspec.ValidationError):
        return RequestError(400, Fault("the body is not JSON in UTF-8"))
    found = PLACE.fullmatch(str(error))
    what, path = found.groups() if found else (str(error), "")
    what = shorten(f"{what[:1].lower()}{what[1:]}".replace("`", ""), 2 * LONGEST_NAME)
    if (place := ROW_PLACE.fullmatch(path)) is None:
        name = path.strip(".")
        return RequestError(422, Fault(f"{name or 'the body'}: {what}: send {form}", column=name or None))
    number, column = int(place[2]), place[3]
    where = f"row {number}: " + (f"{column}: " if column else "")
    return RequestError(422, Fault(f"{where}{what}: send {form}", number, column))


def is_readable_time(value: Any) -> bool:
    """Return whether a value is missing or an ISO 8601 time."""
    if value is None:
        return True
    try:
        convert_time(value)
    except (ValueError, TypeError, OverflowError):
        return False
    return True


def refuse_constant(name: str) -> None:
    """Refuse NaN and infinities, which Python's JSON accepts."""
    raise ValueError(name)


def has_repeated_key(body: bytes) -> bool:
    """Return whether an object of a JSON document has the same key twice.

    Raises
    ------
    RequestError
        400 if the document is nested too deeply to be read.
    """
    found = False

    def note(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        made = dict(pairs)
        found = found or len(made) < len(pairs)
        return made

    try:
        json.loads(body, object_pairs_hook=note)
    except RecursionError as error:
        raise RequestError(400, Fault("the body is nested too deeply")) from error
    return found
