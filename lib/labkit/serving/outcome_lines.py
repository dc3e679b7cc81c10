"""The file of outcomes that became known since a release: what a service was sent, and what `labkit observe` fed back.

Lines are only added to it, until it is pruned; see `labkit.serving.outcome_pruning`. The outcomes of an observation,
which may be many lines, count once the line with its record follows them, so one that is killed never counts by half; a
later line undoes all of them.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from labkit.serving.requests import MOST_ROWS, TIME

OUTCOMES = "outcomes.jsonl"
"""Name of the file in the folder of what a service keeps."""
LONGEST_ID = 100
FORM = '{"outcomes": [{"id": "…", "row": {…}, "true": …, "known_at": "…"}]}'


class Outcome(msgspec.Struct, forbid_unknown_fields=True, rename={"value": "true"}):
    """The true value of a row, as `/predict` takes it, and when it became known."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_ID)]
    row: dict[str, Any]
    value: bool | float | Annotated[str, msgspec.Meta(max_length=1000)]
    known_at: TIME


class OutcomesBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request with outcomes."""

    outcomes: Annotated[list[Outcome], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]


class Observation(msgspec.Struct, frozen=True):
    """Who fed back the outcomes of which files, when, and why.

    Attributes
    ----------
    at
        Time in UTC, ISO 8601.
    version
        Version of the champion then.
    files
        Paths as shown, and digests.
    tables
        The same of joined tables that were given.
    key
        Column by which rows were recognised; empty for their values.
    n_removed
        Outcomes that were removed from the file, as later releases hold them.
    """

    id: str
    at: str
    by: str
    reason: str
    version: int
    files: dict[str, str]
    n_outcomes: int
    tables: dict[str, str] = {}
    key: str = ""
    n_removed: int = 0


class Undo(msgspec.Struct, frozen=True):
    """Who undid the observation `id`, when, and why."""

    id: str
    at: str
    by: str
    reason: str


class Line(msgspec.Struct, omit_defaults=True):
    """The outcomes of one request or of a part of an observation, the record that ends an observation, or an undo.

    Attributes
    ----------
    time
        When the line was written, in seconds since 1970.
    observation
        The observation that the outcomes belong to; empty for those that a service was sent.
    """

    time: float
    outcomes: list[Outcome] = []
    observation: str = ""
    record: Observation | None = None
    undo: Undo | None = None


@dataclass(frozen=True)
class KnownObservation:
    """An observation, and by whom it was undone; None if its outcomes count."""

    record: Observation
    undo: Undo | None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        undone = None if self.undo is None else {name: getattr(self.undo, name) for name in ("at", "by", "reason")}
        return {**msgspec.structs.asdict(self.record), "undone": undone}


def load_observations(path: Path) -> list[KnownObservation]:
    """Return the observations in a file of outcomes, in the order in which they were made; damaged lines are left out.

    Their outcomes are not read.
    """
    records: dict[str, Observation] = {}
    undone: dict[str, Undo] = {}
    with suppress(FileNotFoundError), path.open("rb") as stream:
        for content in stream:
            try:
                line = msgspec.json.decode(content, type=Line)
            except (ValueError, RecursionError):
                continue
            if line.record is not None:
                records[line.record.id] = line.record
            if line.undo is not None:
                undone.setdefault(line.undo.id, line.undo)
    return [KnownObservation(record, undone.get(id)) for id, record in records.items()]
