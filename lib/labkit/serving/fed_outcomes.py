"""Outcomes that become known while a service runs, and count in the histories of its model from then on.

They are in a file of the state folder, as rows of joined tables are; see `labkit.serving.fed_tables`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.features.arrays import convert_time, number_to_string
from labkit.features.outcome_rates import PREDICT_AT, add_outcomes
from labkit.model.release.runtime import Runtime
from labkit.serving.fed_files import MOST_FED_BYTES, FedFile
from labkit.serving.requests import (
    MOST_FAULTS,
    MOST_ROWS,
    TIME,
    Fault,
    RequestError,
    RowReader,
    has_repeated_key,
)
from labkit.storage.append import append_line

MOST_FED_OUTCOMES = 500_000
"""Most outcomes that a service counts besides those of the release."""
FORM = '{"outcomes": [{"id": "…", "row": {…}, "true": …, "known_at": "…"}]}'


class Outcome(msgspec.Struct, forbid_unknown_fields=True, rename={"value": "true"}):
    """The true value of a row, as `/predict` takes it, and when it became known."""

    id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    row: dict[str, Any]
    value: bool | float | Annotated[str, msgspec.Meta(max_length=1000)]
    known_at: TIME


class OutcomesBody(msgspec.Struct, forbid_unknown_fields=True):
    """A request with outcomes."""

    outcomes: Annotated[list[Outcome], msgspec.Meta(min_length=1, max_length=MOST_ROWS)]


class Line(msgspec.Struct):
    """The outcomes of one request, and when they came, in seconds since 1970."""

    time: float
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Known:
    """An outcome as histories count it: when it became known, in microseconds since 1970, and its keys by history."""

    at: int
    value: float
    keys: tuple[str | None, ...]


@dataclass
class Counts:
    """What was read of the file; see `FedOutcomes.describe`."""

    known: dict[str, Known] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    fed_at: float | None = None
    n_damaged: int = 0
    n_refused: int = 0


class FedOutcomes:
    """The outcomes that were sent, counted in the histories of one model.

    Parameters
    ----------
    path
        The file.
    opened
        The model, which predicts with the outcomes once `refresh` has read them.
    reader, read
        The reader of rows with the columns of the model, and what reads a request with rows of either form.
    """

    def __init__(self, path: Path, opened: Runtime, reader: RowReader, read: Callable[[bytes], list[Any]]) -> None:
        self.file, self.opened, self.reader, self.read, self.counts = FedFile(path), opened, reader, read, Counts()
        self.features, self.base = opened.row_features, opened.row_features.state_
        self.held_until = int(self.base["times"][-1]) if len(self.base["times"]) else None
        self.classes = {str(number_to_string(label)): label for label in opened.facts.get("classes") or []}
        self.lock = threading.Lock()

    def add(self, body: bytes) -> dict[str, int]:
        """Record the outcomes of a request, which are on disk and counted here when this returns.

        Parameters
        ----------
        body
            See `OutcomesBody`. An outcome replaces an earlier one of the same id.

        Raises
        ------
        RequestError
            400 for a repeated name, 413 for too many outcomes or a full file, 422 for what is not as declared.
        """
        try:
            outcomes = msgspec.json.decode(body, type=OutcomesBody).outcomes
        except (ValueError, RecursionError) as error:
            raise RequestError(422, Fault(f"the body is not {FORM}, at most {MOST_ROWS:,} outcomes")) from error
        if has_repeated_key(body):
            raise RequestError(400, Fault("a name occurs twice in one object: send each column once"))
        found = self.read_outcomes(outcomes)
        line = msgspec.json.encode(Line(time.time(), outcomes)).decode()
        with self.lock:
            self.refresh_all()
            remedy = "remove outcomes.jsonl from the service's folder first, once a later model holds what it has"
            new = {id for id, one in found.items() if not self.is_held(one)}
            if (n_known := len(self.counts.known.keys() | new)) > MOST_FED_OUTCOMES:
                limit = f"at most {MOST_FED_OUTCOMES:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"there would be {n_known:,} outcomes, {limit}"))
            if (n_bytes := self.file.offset + len(line.encode()) + 1) > MOST_FED_BYTES:
                limit = f"at most {MOST_FED_BYTES:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"the file of outcomes would have {n_bytes:,} bytes, {limit}"))
            append_line(self.file.path, line, mode=0o600)
            self.refresh_all()
            return {"recorded": len(found), "outcomes": len(self.counts.known)}

    def refresh(self) -> None:
        """Count what was added to the file since the last time."""
        with self.lock:
            self.refresh_all()

    def refresh_all(self) -> None:
        """Read the file if it has changed; the lock is held."""
        is_changed = self.file.is_replaced()
        if is_changed:
            self.counts = Counts()
        for line in self.file.read():
            self.read_line(line)
            is_changed = True
        if is_changed:
            self.count()

    def read_line(self, line: bytes) -> None:
        """Read the outcomes of one line; those that are not as the model needs them are left out and counted."""
        try:
            read = msgspec.json.decode(line, type=Line)
        except (ValueError, RecursionError):
            self.counts.n_damaged += 1
            return
        self.counts.fed_at = read.time
        try:
            found = self.read_outcomes(read.outcomes)
        except RequestError:
            found = {}
            for one in read.outcomes:
                try:
                    found |= self.read_outcomes([one])
                except RequestError:
                    self.counts.n_refused += 1
        for id, known in found.items():
            self.counts.known.pop(id, None)
            self.counts.held.discard(id)
            if self.is_held(known):
                self.counts.held.add(id)
            else:
                self.counts.known[id] = known

    def is_held(self, outcome: Known) -> bool:
        """Return whether the release holds an outcome, as all that were known when its last one was."""
        return self.held_until is not None and outcome.at <= self.held_until

    def read_outcomes(self, outcomes: Sequence[Outcome]) -> dict[str, Known]:
        """Return outcomes by their ids, checked.

        Raises
        ------
        RequestError
            422: a row, a true value or a time is not as declared.
        """
        rows = self.read(msgspec.json.encode({"rows": [one.row for one in outcomes]}))
        values = [self.read_true_value(number, one.value) for number, one in enumerate(outcomes)]
        known_at = np.array([read_time(number, one.known_at) for number, one in enumerate(outcomes)], "datetime64[us]")
        try:
            with self.opened.code.active():
                made = self.features.compute_raw(self.reader.make_columns(rows).values)
            keys = self.features.list_keys(made)
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error
        if early := np.flatnonzero(~(known_at > made[PREDICT_AT])).tolist():
            faults = [Fault(f"row {n}: known_at: not after the time of prediction", n, "known_at") for n in early]
            raise RequestError(422, *faults[:MOST_FAULTS])
        times = known_at.astype("int64").tolist()
        by_row = zip(times, values, zip(*keys.values(), strict=True), strict=True)
        return {one.id: Known(*known) for one, known in zip(outcomes, by_row, strict=True)}

    def read_true_value(self, number: int, value: Any) -> float:
        """Return a true value as histories average it: 1 for the positive class and 0 for others, or the number."""
        if not self.classes:
            if isinstance(value, float) and np.isfinite(value):
                return value
            raise RequestError(422, Fault(f"row {number}: true: not a number", number, "true"))
        name, positive = str(number_to_string(value)), (self.features.target or {}).get("positive")
        if name not in self.classes:
            shown = list_briefly(self.classes, most=5)
            raise RequestError(422, Fault(f"row {number}: true: no class of the model: {shown}", number, "true"))
        return float(self.classes[name]) if positive is None else float(self.classes[name] == positive)

    def count(self) -> None:
        """Count all known outcomes in the histories of the model, from the moment each became known."""
        known = list(self.counts.known.values())
        names = list(self.features.histories or {})
        keys = {name: [one.keys[place] for one in known] for place, name in enumerate(names)}
        times, values = np.array([one.at for one in known], "int64"), np.array([one.value for one in known])
        self.opened.graph.replace_outcomes(add_outcomes(self.base, times, values, keys))

    def describe(self) -> dict[str, Any]:
        """Return how many outcomes were sent, when the latest of all became known, and the age of what was sent last.

        `counted` are those that the histories count besides those of the release, `in_release` those that it holds.
        """
        times, fed_at = self.features.state_["times"], self.counts.fed_at
        return {
            "counted": len(self.counts.known),
            "in_release": len(self.counts.held),
            "latest": f"{np.datetime64(int(times[-1]), 'us')}Z" if len(times) else None,
            "fed_at": None if fed_at is None else datetime.fromtimestamp(fed_at, UTC).isoformat(timespec="seconds"),
            "age_seconds": None if fed_at is None else round(time.time() - fed_at, 1),
            "damaged_lines": self.counts.n_damaged,
            "refused_outcomes": self.counts.n_refused,
        }


def read_time(number: int, value: str) -> datetime:
    """Return the time at which the outcome of a row became known, as naive UTC."""
    try:
        return convert_time(value)
    except ValueError as error:
        raise RequestError(422, Fault(f"row {number}: known_at: not an ISO 8601 time", number, "known_at")) from error
