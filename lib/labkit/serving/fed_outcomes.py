"""Outcomes that become known while a service runs, and count in the histories of its model from then on.

They are in a file of the state folder, as rows of joined tables are; see `labkit.serving.fed_tables`.
"""

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np

from labkit.errors import DataError, list_briefly
from labkit.features.arrays import convert_time, number_to_string
from labkit.features.outcome_rates import PREDICT_AT, State, add_outcomes
from labkit.features.row_computation import RowComputation
from labkit.model.release.release_code import ReleaseCode
from labkit.serving.fed_files import MOST_FED_BYTES, FedFile
from labkit.serving.outcome_lines import FORM, OUTCOMES, Line, Observation, Outcome, OutcomesBody, Undo
from labkit.serving.outcome_pruning import prune_outcomes
from labkit.serving.requests import MOST_FAULTS, MOST_ROWS, Fault, RequestError, has_repeated_key, refuse_body
from labkit.serving.row_forms import RowForms
from labkit.storage.append import append_line

MOST_FED_OUTCOMES = 500_000
"""Most outcomes that a service counts besides those of the release."""
NEVER = int(np.iinfo("int64").min)
"""Before all times."""
PART_OUTCOMES = 10_000
"""Outcomes of an observation that are on one line."""


class Countable(Protocol):
    """An opened release, of `labkit.model.release.bundle` or of `labkit.model.release.runtime`."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the release says of itself."""

    @property
    def row_features(self) -> RowComputation:
        """The features with the histories."""

    @property
    def code(self) -> ReleaseCode:
        """The user's own packages that the release carries."""

    def replace_outcomes(self, state: State) -> None:
        """Replace the outcomes that the histories count in predictions."""


@dataclass(frozen=True)
class Known:
    """An outcome as histories count it: when it became known, in microseconds since 1970, and its keys by history.

    Attributes
    ----------
    row
        Digest of the row with the columns of the model.
    """

    at: int
    value: float
    keys: tuple[str | None, ...]
    row: str

    @property
    def identity(self) -> tuple[str, int, float]:
        """What tells an outcome from all others: row, time and true value."""
        return self.row, self.at, self.value


@dataclass
class Counts:
    """What was read of the file; see `FedOutcomes.describe`.

    Attributes
    ----------
    waiting
        Lines of observations whose record has not come yet.
    observed
        Observations of the outcomes that count and of those that are held; none for those that a service was sent.
    undone
        Outcomes of observations that were undone; see `Known.identity`.
    undone_held
        How many outcomes of observations that were undone are held, by observation.
    held
        Ids of outcomes that became known no later than the last one of the release.
    """

    known: dict[str, Known] = field(default_factory=dict)
    waiting: dict[str, list[Line]] = field(default_factory=dict)
    observed: dict[str, str] = field(default_factory=dict)
    undone: set[tuple[str, int, float]] = field(default_factory=set)
    undone_held: dict[str, int] = field(default_factory=dict)
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
    forms
        The readers of rows.
    """

    def __init__(self, path: Path, opened: Countable, forms: RowForms) -> None:
        self.file, self.opened, self.forms, self.counts = FedFile(path), opened, forms, Counts()
        self.undone: set[str] = set()
        self.features, self.base = opened.row_features, opened.row_features.state_
        self.held_until = int(self.base["times"][-1]) if len(self.base["times"]) else NEVER
        self.classes = {str(number_to_string(label)): label for label in opened.facts.get("classes") or []}
        self.lock = threading.Lock()
        self.pruned_at = 0.0

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
            raise refuse_body(error, f"{FORM}, at most {MOST_ROWS:,} outcomes") from error
        if has_repeated_key(body):
            raise RequestError(400, Fault("a name occurs twice in one object: send each column once"))
        found = self.read_outcomes(outcomes)
        self.append(Line(time.time(), outcomes), found=found)
        return {"recorded": len(found), "outcomes": len(self.counts.known)}

    def drop_recorded(self, line: Line, found: Mapping[str, Known]) -> Line:
        """Return what a service was sent without the outcomes that count already, which need not be written again."""
        if line.observation:
            return line
        known, observed = self.counts.known, self.counts.observed
        new = [one for one in line.outcomes if one.id in observed or known.get(one.id) != found[one.id]]
        return Line(line.time, new, record=line.record, undo=line.undo)

    def add_observation(self, outcomes: Sequence[Outcome], record: Observation) -> None:
        """Record the outcomes of an observation; they count all at once, when its record is on disk.

        Parameters
        ----------
        outcomes
            As `read_outcomes` takes them; their ids are distinct.

        Raises
        ------
        RequestError
            See `add`.
        """
        parts = [outcomes[start : start + PART_OUTCOMES] for start in range(0, len(outcomes), PART_OUTCOMES)]
        found = [self.read_outcomes(part) for part in parts]
        lines = [Line(time.time(), [*part], observation=record.id) for part in parts]
        known = {id: one for part in found for id, one in part.items()}
        self.append(*lines, Line(time.time(), record=record), found=known)

    def undo(self, undo: Undo) -> None:
        """Record that the outcomes of an observation no longer count."""
        self.append(Line(time.time(), undo=undo), found={})

    def append(self, *lines: Line, found: Mapping[str, Known]) -> None:
        """Add lines to the file, unless their outcomes would be too many, and count them."""
        with self.lock:
            if found:  # an undo reports how many of its outcomes are held, so it removes none of them
                self.prune()
            self.refresh_all()
            encoded = [msgspec.json.encode(self.drop_recorded(line, found)).decode() for line in lines]
            remedy = f"remove {OUTCOMES} from the service's folder first, once a later model holds what it has"
            new = {id for id, one in found.items() if not self.is_held(one)}
            if (n_known := len(self.counts.known.keys() | new)) > MOST_FED_OUTCOMES:
                limit = f"at most {MOST_FED_OUTCOMES:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"there would be {n_known:,} outcomes, {limit}"))
            n_bytes = self.file.offset + sum(len(line.encode()) + 1 for line in encoded)
            if found and n_bytes > MOST_FED_BYTES:
                limit = f"at most {MOST_FED_BYTES:,} are kept: {remedy}"
                raise RequestError(413, Fault(f"the file of outcomes would have {n_bytes:,} bytes, {limit}"))
            for line in encoded:
                append_line(self.file.path, line, mode=0o600)
            self.refresh_all()

    def prune(self) -> None:
        """Remove what is no longer needed from the file, at most once a day; the lock is held."""
        if (now := time.time()) - self.pruned_at > 86_400:
            self.pruned_at = now
            prune_outcomes(self.file.path, held_until=self.held_until, now=now)

    def refresh(self) -> None:
        """Count what was added to the file since the last time."""
        with self.lock:
            self.refresh_all()

    def refresh_all(self) -> None:
        """Read the file if it has changed; the lock is held."""
        is_changed = self.file.is_replaced()
        if is_changed:
            self.counts, self.undone = Counts(), set()
        is_again = True
        while is_again:
            n_undone = len(self.undone)
            for line in self.file.read():
                self.read_line(line)
                is_changed = True
            # What was undone may have counted already, and have replaced other outcomes: all is read again without it.
            is_again = len(self.undone) > n_undone
            if is_again:
                self.counts, self.file.offset = Counts(), 0
        if is_changed:
            self.count()

    def read_line(self, line: bytes) -> None:
        """Read one line."""
        try:
            read = msgspec.json.decode(line, type=Line)
        except (ValueError, RecursionError):
            self.counts.n_damaged += 1
            return
        if read.undo is not None:
            self.undone.add(read.undo.id)
        elif read.record is not None:
            for one in self.counts.waiting.pop(read.record.id, []):
                self.add_line(one, is_undone=read.record.id in self.undone)
        elif read.observation:
            self.counts.waiting.setdefault(read.observation, []).append(read)
        else:
            self.add_line(read)

    def add_line(self, read: Line, *, is_undone: bool = False) -> None:
        """Take the outcomes of one line; those that are not as the model needs them are left out and counted."""
        self.counts.fed_at = read.time
        try:
            found = self.read_outcomes(read.outcomes) if read.outcomes else {}
        except RequestError:
            found = {}
            for one in read.outcomes:
                try:
                    found |= self.read_outcomes([one])
                except RequestError:
                    self.counts.n_refused += 1
        if is_undone:
            self.counts.undone |= {known.identity for known in found.values()}
            n_held = sum(self.is_held(known) for known in found.values())
            self.counts.undone_held[read.observation] = self.counts.undone_held.get(read.observation, 0) + n_held
            return
        for id, known in found.items():
            self.counts.known.pop(id, None)
            self.counts.held.discard(id)
            self.counts.observed.pop(id, None)
            if read.observation:
                self.counts.observed[id] = read.observation
            if self.is_held(known):
                self.counts.held.add(id)
            else:
                self.counts.known[id] = known

    def is_held(self, outcome: Known) -> bool:
        """Return whether an outcome became known no later than the last one of the release, so it cannot be added."""
        return outcome.at <= self.held_until

    def read_outcomes(self, outcomes: Sequence[Outcome]) -> dict[str, Known]:
        """Return outcomes by their ids, checked.

        Raises
        ------
        RequestError
            422: a row, a true value or a time is not as declared.
        """
        rows = self.forms.read(msgspec.json.encode({"rows": [one.row for one in outcomes]}))
        values = [self.read_true_value(number, one.value) for number, one in enumerate(outcomes)]
        known_at = np.array([read_time(number, one.known_at) for number, one in enumerate(outcomes)], "datetime64[us]")
        try:
            with self.opened.code.active():
                made = self.features.compute_raw(self.forms.reader.make_columns(rows).values)
            keys = self.features.list_keys(made)
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error
        if early := np.flatnonzero(~(known_at > made[PREDICT_AT])).tolist():
            faults = [Fault(f"row {n}: known_at: not after the time of prediction", n, "known_at") for n in early]
            raise RequestError(422, *faults[:MOST_FAULTS])
        times = known_at.astype("int64").tolist()
        digests = [hashlib.sha256(msgspec.json.encode(row)).hexdigest() for row in rows]
        by_row = zip(times, values, zip(*keys.values(), strict=True), digests, strict=True)
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
        self.opened.replace_outcomes(add_outcomes(self.base, times, values, keys))

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
