"""Labels to and from other tools: JSON of Label Studio, and CSV.

An export that is imported gives the same judgements; what is there already is not added again.
"""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from labkit.console import make_printable
from labkit.data.labels.judgements import (
    GIVEN,
    SKIPPED,
    UNDONE,
    Judgement,
    add_judgement,
    check_annotator,
    check_judgement,
    is_utc_time,
    read_judgements,
)
from labkit.errors import DataError, MissingDataError, ParamsError
from labkit.storage.atomic import atomic_write, parse_json, write_text

FROM_NAME, TO_NAME, CHOICES = "label", "row", "choices"
"""Names of control and object in Label Studio's labelling interface, and the kind of control."""


def export_labels(experiment: str, destination: Path, source: str = "") -> int:
    """Write the current judgements of an experiment to a file, and return their number.

    Parameters
    ----------
    destination
        `.json` for Label Studio, or `.csv`.
    source
        Table and key column; empty for all.

    Raises
    ------
    ParamsError
        It has another suffix.
    """
    write = WRITERS[check_suffix(destination)]
    current = read_judgements(experiment).list_current(source)
    write(destination, current)
    return len(current)


def import_labels(experiment: str, path: Path, source: str = "") -> int:
    """Add the judgements of a file that are not there yet, and return their number.

    Parameters
    ----------
    source
        Table and key column of the judgements for which the file names none.

    Raises
    ------
    ParamsError, MissingDataError
        The file does not exist, or has another suffix than `.json` and `.csv`.
    DataError
        It holds something else; nothing is added.
    """
    read = READERS[check_suffix(path)]
    if not path.is_file():
        raise MissingDataError(f"{make_printable(str(path))}: not found")
    found = {one.identity: one for one in read(path, source)}
    known = {one.identity for one in read_judgements(experiment).judgements}
    new = [one for identity, one in found.items() if identity not in known]
    for one in new:
        add_judgement(experiment, one)
    return len(new)


def check_suffix(path: Path, known: Iterable[str] = (".json", ".csv")) -> str:
    """Return the suffix of a file that labels are exchanged in; raise ParamsError if it is another one."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ParamsError(f"{make_printable(str(path))}: use a name that ends in {' or '.join(known)}")
    return suffix


def write_resolved(path: Path, labels: pd.DataFrame) -> None:
    """Write one label per row as CSV, a table to join in `data.joins` by its `key`.

    Parameters
    ----------
    labels
        As `labkit.data.labels.agreement.resolve_labels` returns them.
    """
    check_suffix(path, [".csv"])
    with atomic_write(path) as beside:
        labels.to_csv(beside, index=False, lineterminator="\n")


def write_label_studio(path: Path, judgements: Iterable[Judgement]) -> None:
    """Write judgements as tasks of Label Studio, one per row, with the annotations of all annotators."""
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    for one in judgements:
        data = {"source": one.source, "key": one.key}
        task = tasks.setdefault((one.source, one.key), {"data": data, "annotations": []})
        result = {"from_name": FROM_NAME, "to_name": TO_NAME, "type": CHOICES, "value": {CHOICES: [one.label]}}
        task["annotations"].append(
            {
                "completed_by": {"email": one.annotator},
                "created_at": one.at,
                "lead_time": one.seconds,
                "was_cancelled": one.status == SKIPPED,
                "result": [] if one.label is None else [result],
                "meta": {"drawn": one.drawn, "model_version": one.model_version},
            }
        )
    write_text(path, json.dumps(list(tasks.values()), ensure_ascii=False, indent=1) + "\n")


def read_label_studio(path: Path, source: str) -> Iterable[Judgement]:
    """Yield the judgements in tasks of Label Studio whose `data` holds a `key`."""
    try:
        tasks = parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(f"{make_printable(str(path))}: not JSON: {error}") from error
    if not isinstance(tasks, list):
        raise DataError(f"{make_printable(str(path))}: not a list of tasks, as Label Studio exports it")
    for number, task in enumerate(tasks, start=1):
        where = f"{make_printable(str(path))}, task {number}"
        try:
            data, annotations = task["data"], task.get("annotations", [])
            key = "" if data["key"] is None else str(data["key"])
            for annotation in annotations:
                yield read_annotation(annotation, where, source=check_source_name(data, source, where), key=key)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{where}: not a task with `data: {{key: …}}` and annotations ({error!r})") from error


def check_source_name(record: Mapping[Any, Any], source: str, where: str) -> str:
    """Return table and key column that a record names, else those given; raise DataError if there are none."""
    found = str(record.get("source") or source)
    if not found:
        raise DataError(f"{where}: names no table and key column: name them with `--source`, such as new.csv:id")
    return found


def read_annotation(annotation: Mapping[str, Any], where: str, *, source: str, key: str) -> Judgement:
    """Return the judgement in one annotation of Label Studio, of the time at which it was last changed."""
    who, meta = annotation["completed_by"], annotation.get("meta") or {}
    annotator = str(who.get("email") or who.get("username") or who["id"]) if isinstance(who, dict) else str(who)
    results = [one for one in annotation["result"] if one["type"] == CHOICES]
    chosen = [choice for one in results for choice in one["value"][CHOICES]]
    if len(chosen) > 1:
        raise DataError(f"{where}: {len(chosen)} choices in one annotation, where a row gets one label")
    is_skipped = bool(annotation.get("was_cancelled")) or not chosen
    times = [annotation["created_at"], annotation.get("updated_at")]
    found = Judgement(
        source,
        key,
        None if is_skipped else chosen[0],
        check_annotator(annotator.lower()),
        max(filter(is_utc_time, times), key=datetime.fromisoformat, default=times[0]),
        SKIPPED if is_skipped else GIVEN,
        seconds=annotation.get("lead_time"),
        drawn=str(meta.get("drawn", "")),
        model_version=meta.get("model_version"),
    )
    return check_judgement(found, where)


def write_label_csv(path: Path, judgements: Iterable[Judgement]) -> None:
    """Write judgements as CSV, a line each."""
    names = [one.name for one in fields(Judgement) if one.name != "undoes"]
    table = pd.DataFrame(map(asdict, judgements), columns=names)
    with atomic_write(path) as beside:
        table.astype({"model_version": "Int64"}).to_csv(beside, index=False)


def read_label_csv(path: Path, source: str) -> Iterable[Judgement]:
    """Yield the judgements in a CSV file with at least the columns `key`, `label`, `annotator` and `at`."""
    try:
        # pandas drops the cells of a line that has more than the header, with a warning only.
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False).fillna("")
    except (ValueError, pd.errors.ParserWarning) as error:
        raise DataError(f"{make_printable(str(path))}: not CSV: {error}") from error
    needed = ("key", "label", "annotator", "at")
    if missing := [name for name in needed if name not in table]:
        raise DataError(f"{make_printable(str(path))}: no column {missing[0]!r}; needed are {', '.join(needed)}")
    for number, row in enumerate(table.to_dict("records"), start=2):
        where, label = f"{make_printable(str(path))}, line {number}", row["label"] or None
        try:
            seconds = float(row["seconds"]) if row.get("seconds") else None
            version = int(row["model_version"]) if row.get("model_version") else None
        except ValueError as error:
            raise DataError(f"{where}: {error}") from error
        found = Judgement(
            check_source_name(row, source, where),
            row["key"],
            label,
            check_annotator(row["annotator"]),
            row["at"],
            row.get("status") or (GIVEN if label else SKIPPED),
            seconds=seconds,
            drawn=row.get("drawn", ""),
            model_version=version,
        )
        if found.status != UNDONE:
            yield check_judgement(found, where)


WRITERS: dict[str, Callable[[Path, Iterable[Judgement]], None]] = {".json": write_label_studio, ".csv": write_label_csv}
READERS: dict[str, Callable[[Path, str], Iterable[Judgement]]] = {".json": read_label_studio, ".csv": read_label_csv}
