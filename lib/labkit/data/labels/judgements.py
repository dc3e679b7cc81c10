"""Labels that annotators gave to rows: one append-only file of JSON lines per annotator.

A judgement is on disk before the next row is shown. It is never changed: a correction is a later line about the same
row, and a line that takes one back names its time. The newest judgement of an annotator about a row counts.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.data.labels.queue import Drawn
from labkit.errors import DataError, ParamsError
from labkit.storage.append import append_line
from labkit.storage.atomic import parse_json

ANNOTATOR = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
GIVEN, SKIPPED, UNDONE = "given", "skipped", "undone"
STATUSES = (GIVEN, SKIPPED, UNDONE)
MODEL = "model"
"""The annotator of labels that were accepted in bulk."""


@dataclass(frozen=True)
class Judgement:
    """The label that one annotator gave to one row at one time.

    Attributes
    ----------
    source
        Table and key column, such as `new.csv:id`: the same key in another table is another row.
    key
        The row's key.
    label
        One of the choices; None if the row was skipped, or its label taken back.
    status
        One of `STATUSES`: a skipped row is a judgement, a row nobody has seen has none.
    at
        Time with its offset from UTC, ISO 8601.
    seconds
        Time for which the row was shown; None if unknown, as for imported labels.
    drawn
        How the row came into the queue, a `labkit.data.labels.queue.Drawn`; empty if unknown.
    undoes
        Time (`at`) of the judgement that is taken back; empty unless the status is `UNDONE`.
    model_version
        Version of the model whose predictions ordered the queue; None for none.
    """

    source: str
    key: str
    label: str | None
    annotator: str
    at: str
    status: str = GIVEN
    seconds: float | None = None
    drawn: str = ""
    model_version: int | None = None
    undoes: str = ""

    @property
    def time(self) -> datetime:
        """When it was made."""
        return datetime.fromisoformat(self.at)

    @property
    def identity(self) -> tuple[object, ...]:
        """Values that two copies of the same judgement share, whatever tool has written them."""
        return self.source, self.key, self.annotator, self.time, self.label, self.status


@dataclass(frozen=True)
class JudgementLog:
    """The judgements of all annotators in the order in which they were made, and messages about unreadable lines."""

    judgements: tuple[Judgement, ...]
    faults: tuple[str, ...]

    def list_current(self, source: str = "") -> list[Judgement]:
        """Return the newest judgement of each annotator about each row, without those taken back.

        Parameters
        ----------
        source
            Table and key column; empty for all.
        """
        undone = {(one.source, one.key, one.annotator, one.undoes) for one in self.judgements if one.undoes}
        newest = {
            (one.source, one.key, one.annotator): one
            for one in self.judgements
            if one.status != UNDONE and (one.source, one.key, one.annotator, one.at) not in undone
        }
        return [one for one in newest.values() if source in ("", one.source)]


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
            "that begins with a letter or digit: set LABKIT_ANNOTATOR"
        )
    return name


def check_person(name: str) -> str:
    """Return the name of a person; raise ParamsError if it cannot be a file's, or is that of the model."""
    if name == MODEL:
        raise ParamsError(
            f"annotator {MODEL!r}: is the name under which labels accepted in bulk are stored: use another"
        )
    return check_annotator(name)


def add_judgement(experiment: str, judgement: Judgement) -> None:
    """Append a judgement to its annotator's file; it is on disk when this returns.

    Raises
    ------
    ParamsError
        The annotator's name cannot be a file's.
    DataError
        A field is not valid.
    DiskError
        The file cannot be written.
    """
    path = find_labels_dir(experiment) / f"{check_annotator(judgement.annotator)}.jsonl"
    append_line(path, json.dumps(asdict(check_judgement(judgement, "")), ensure_ascii=False))


def make_judgement(source: str, key: str, label: str | None, *, annotator: str, **details: Any) -> Judgement:
    """Return a judgement made now; without a label, the row was skipped."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    status = GIVEN if label is not None else SKIPPED
    return Judgement(source, key, label, check_annotator(annotator), at, status, **details)


def take_back(judgement: Judgement) -> Judgement:
    """Return the judgement that takes another one back."""
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    return Judgement(judgement.source, judgement.key, None, judgement.annotator, at, UNDONE, undoes=judgement.at)


def read_judgements(experiment: str, annotator: str = "*") -> JudgementLog:
    """Read the judgements of one annotator, or of all.

    A line that cannot be read, such as the last one of a killed process, is reported, and the others count.
    """
    found: list[Judgement] = []
    faults: list[str] = []
    for path in sorted(find_labels_dir(experiment).glob(f"{annotator}.jsonl")):
        for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
            if not line.strip():
                continue
            try:
                found.append(parse_line(line, annotator=path.stem))
            except DataError as error:
                faults.append(f"{paths.show_path(path)}, line {number}: {error}")
    return JudgementLog(tuple(sorted(found, key=lambda one: one.time)), tuple(faults))


def parse_line(line: bytes, *, annotator: str) -> Judgement:
    """Return the judgement that one line holds.

    Raises
    ------
    DataError
        It holds none, or one of another annotator.
    """
    try:
        content = parse_json(line)
    except ValueError as error:
        raise DataError("not JSON, perhaps cut off") from error
    known = {one.name for one in fields(Judgement)}
    if not isinstance(content, dict) or not {"source", "key", "label", "annotator", "at"} <= content.keys() <= known:
        raise DataError("not a judgement")
    found = check_judgement(Judgement(**content), "")
    if found.annotator != annotator:
        raise DataError(f"made by {found.annotator!r}, in the file of {annotator!r}")
    return found


def check_judgement(found: Judgement, where: str) -> Judgement:
    """Return a judgement whose fields are valid; raise DataError, which names the place, if one is not."""
    lead = f"{where}: " if where else ""
    for name, is_valid in list_rules(found):
        if not is_valid:
            raise DataError(f"{lead}{name} {getattr(found, name)!r} is not valid in a judgement")
    if found.status not in STATUSES or (found.status == GIVEN) != (found.label is not None):
        raise DataError(f"{lead}status {found.status!r} does not match label {found.label!r}")
    if (found.status == UNDONE) != bool(found.undoes):
        raise DataError(f"{lead}status {found.status!r} does not match undoes {found.undoes!r}")
    if (found.annotator == MODEL) != (found.drawn == Drawn.BULK):
        raise DataError(f"{lead}annotator {found.annotator!r} does not match drawn {found.drawn!r}")
    return found


def list_rules(found: Judgement) -> Iterable[tuple[str, bool]]:
    """Return for each field whether its value is valid by itself."""
    return (
        ("source", is_filled(found.source)),
        ("key", is_filled(found.key)),
        ("label", found.label is None or is_filled(found.label)),
        ("annotator", isinstance(found.annotator, str) and bool(ANNOTATOR.fullmatch(found.annotator))),
        ("at", is_utc_time(found.at)),
        ("seconds", found.seconds is None or is_duration(found.seconds)),
        ("drawn", isinstance(found.drawn, str) and found.drawn in ("", *Drawn)),
        ("model_version", found.model_version is None or type(found.model_version) is int),
        ("undoes", found.undoes == "" or is_utc_time(found.undoes)),
    )


def is_filled(value: object) -> bool:
    """Return whether a value is a string that is not blank and can be written in UTF-8."""
    return isinstance(value, str) and bool(value.strip()) and value == value.encode(errors="replace").decode()


def is_duration(value: object) -> bool:
    """Return whether a value is a finite number of seconds, at least 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def is_utc_time(value: object) -> bool:
    """Return whether a value is a time with its offset from UTC, as judgements hold it."""
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() is not None
    except ValueError:
        return False
