"""What annotators said about rows: one append-only file of JSON lines per annotator, so that files never conflict.

A judgement is on disk before the next row is shown. It is never changed: a correction is a later line about the same
row, and what was taken back is a line without a label. The newest line of an annotator about a row counts.
"""

import json
import re
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.errors import DataError, ParamsError
from labkit.storage.append import append_line

ANNOTATOR = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
GIVEN, SKIPPED, UNDONE = "given", "skipped", "undone"
STATUSES = (GIVEN, SKIPPED, UNDONE)
MODEL = "model"
"""The annotator of labels that were accepted in bulk."""


@dataclass(frozen=True)
class Judgement:
    """What one annotator said about one row at one time.

    Attributes
    ----------
    key
        The row's key, as text.
    label
        One of the choices; None if the row was skipped, or its label taken back.
    status
        One of `STATUSES`: a skipped row is a judgement, a row nobody has seen has none.
    at
        Time in UTC, ISO 8601.
    seconds
        Time for which the row was shown; None if unknown, as for imported labels.
    drawn
        How the row came into the queue, a `labkit.data.labels.queue.Drawn`; empty if unknown.
    model_version
        Version of the model whose predictions ordered the queue; None for none.
    """

    key: str
    label: str | None
    annotator: str
    at: str
    status: str = GIVEN
    seconds: float | None = None
    drawn: str = ""
    model_version: int | None = None


@dataclass(frozen=True)
class Read:
    """The judgements of all annotators in the order in which they were made, and what could not be read, in words."""

    judgements: tuple[Judgement, ...]
    faults: tuple[str, ...]

    def list_current(self) -> list[Judgement]:
        """Return the newest judgement of each annotator about each row, without those taken back."""
        newest = {(one.key, one.annotator): one for one in self.judgements}
        return [one for one in newest.values() if one.status != UNDONE]


def find_labels_dir(experiment: str) -> Path:
    """Return the folder of an experiment's labels, one file per annotator."""
    return paths.find_root() / "data" / "labels" / experiment


def check_annotator(name: str) -> str:
    """Return a name that can be a file's.

    Raises
    ------
    ParamsError
        It cannot.
    """
    if not ANNOTATOR.fullmatch(name):
        raise ParamsError(
            f"annotator {name!r}: a name or e-mail address of at most 64 lower-case letters, digits and . _ - + @, "
            "that begins with a letter or digit"
        )
    return name


def add_judgement(experiment: str, judgement: Judgement) -> None:
    """Append a judgement to its annotator's file; it is on disk when this returns.

    Raises
    ------
    ParamsError
        The annotator's name cannot be a file's.
    DiskError
        The file cannot be written.
    """
    path = find_labels_dir(experiment) / f"{check_annotator(judgement.annotator)}.jsonl"
    append_line(path, json.dumps(asdict(judgement), ensure_ascii=False))


def make_judgement(key: str, label: str | None, annotator: str, **details: Any) -> Judgement:
    """Return a judgement made now; without a label, the row was skipped."""
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    status = details.pop("status", GIVEN if label is not None else SKIPPED)
    return Judgement(str(key), label, check_annotator(annotator), at, status, **details)


def read_judgements(experiment: str) -> Read:
    """Read the judgements of all annotators.

    A line that cannot be read, such as the last one of a killed process, is counted and reported, never guessed.
    """
    found: list[Judgement] = []
    faults: list[str] = []
    for path in sorted(find_labels_dir(experiment).glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(parse_line(line, annotator=path.stem))
            except DataError as error:
                faults.append(f"{paths.show_path(path)}, line {number}: {error}")
    return Read(tuple(sorted(found, key=lambda one: one.at)), tuple(faults))


def parse_line(line: bytes, *, annotator: str) -> Judgement:
    """Return the judgement that one line holds.

    Raises
    ------
    DataError
        It holds none, or one of another annotator.
    """
    try:
        content = json.loads(line)
    except ValueError as error:
        raise DataError("not JSON, perhaps cut off") from error
    known = {one.name for one in fields(Judgement)}
    if not isinstance(content, dict) or not {"key", "label", "annotator", "at"} <= content.keys() <= known:
        raise DataError("not a judgement")
    found = check_judgement(Judgement(**content), "")
    if found.annotator != annotator:
        raise DataError(f"made by {found.annotator!r}, in the file of {annotator!r}")
    return found


def check_judgement(found: Judgement, where: str) -> Judgement:
    """Return a judgement whose fields go together; raise DataError, which names the place, if they do not."""
    lead = f"{where}: " if where else ""
    if not isinstance(found.key, str) or not isinstance(found.label, str | None) or not is_utc_time(found.at):
        raise DataError(f"{lead}key, label or time is not one: {found.key!r}, {found.label!r}, {found.at!r}")
    if found.status not in STATUSES or (found.status == GIVEN) != (found.label is not None):
        raise DataError(f"{lead}status {found.status!r} does not go with label {found.label!r}")
    return found


def is_utc_time(value: object) -> bool:
    """Return whether a value is a time with its offset from UTC, as judgements hold it."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
    except ValueError:
        return False
