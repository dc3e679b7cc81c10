"""Finds runs in the ledger without reading all of it, with an index of where the lines of each run are.

The ledger stays the authority: every run that is returned is read from its lines. The index, a SQLite file beside it,
is extended with what was appended since, and made again if the ledger is not the one that it was made of. It can be
deleted at any time. A short ledger has none, and is read as a whole. Read next: `labkit.run.records.ledger`.
"""

import hashlib
import io
import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from labkit.run.records.ledger import Entry, find_ledger_path, find_process, read_line

T = TypeVar("T")

SMALL_BYTES = 1_000_000
"""Size up to which a ledger has no index: it is read in a few hundredths of a second."""
INDEX_NAME = "ledger.v1.sqlite"
"""Name of the index; its version goes with `SCHEMA`."""
SAMPLE_BYTES = 4096
"""How much of its beginning, and of its end, identifies the ledger that an index was made of."""
BATCH_LINES = 20_000
PATIENCE_SECONDS = 10
SCHEMA = """
CREATE TABLE IF NOT EXISTS extent (length INTEGER, sample TEXT);
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, run TEXT UNIQUE, experiment TEXT, stage TEXT, parent TEXT, tracked TEXT, outcome TEXT,
    is_settled INTEGER, is_apart INTEGER);
CREATE INDEX IF NOT EXISTS runs_parent ON runs (parent, experiment);
CREATE INDEX IF NOT EXISTS runs_unfinished ON runs (number) WHERE outcome IS NULL OR NOT is_settled;
CREATE INDEX IF NOT EXISTS runs_stage ON runs (experiment, stage, number);
CREATE TABLE IF NOT EXISTS lines (
    number INTEGER, start INTEGER, length INTEGER, PRIMARY KEY (number, start)) WITHOUT ROWID;
"""
TABLES = ("extent", "runs", "lines")
UNFINISHED = "(outcome IS NULL OR NOT is_settled)"


@dataclass(frozen=True)
class Name:
    """What identifies a run, without its provenance and outcome."""

    run: str
    experiment: str
    parent: str | None


class StaleIndexError(Exception):
    """A line is not where the index has it, because the ledger was rewritten."""


@dataclass
class Index:
    """An index that is up to date with an open ledger."""

    connection: sqlite3.Connection
    ledger: BinaryIO

    def find(self, condition: str, *values: object, order: str = "number", most: int = -1) -> Iterator[Entry]:
        """Yield the runs that meet a condition, read from the ledger."""
        command = f"SELECT number, run FROM runs WHERE {condition} ORDER BY {order} LIMIT {most}"
        for number, run in self.connection.execute(command, values):
            yield self.read(number, run)

    def read(self, number: int, run: str) -> Entry:
        """Return a run, read from its lines."""
        entries: dict[str, Entry] = {}
        places = self.connection.execute("SELECT start, length FROM lines WHERE number = ? ORDER BY start", (number,))
        for start, length in places.fetchall():
            self.ledger.seek(start)
            with suppress(ValueError, KeyError, TypeError):
                read_line(json.loads(self.ledger.read(length)), entries)
        if list(entries) != [run]:
            raise StaleIndexError(run)
        return entries[run]

    def select_names(self, condition: str, *values: object) -> list[Name]:
        """Return the names of the runs that meet a condition, in the order in which they started."""
        command = f"SELECT run, experiment, parent FROM runs WHERE {condition} ORDER BY number"
        return [Name(*row) for row in self.connection.execute(command, values)]

    def count(self, condition: str, *values: object) -> int:
        """Return the number of runs that meet a condition."""
        return int(self.connection.execute(f"SELECT count(*) FROM runs WHERE {condition}", values).fetchone()[0])

    def clear(self) -> None:
        """Forget everything."""
        for table in TABLES:
            self.connection.execute(f"DELETE FROM {table}")

    def update(self) -> None:
        """Add the complete lines that the ledger has and the index has not."""
        if self.is_current():
            return
        self.connection.execute("BEGIN IMMEDIATE")
        length = self.find_length()
        if length is None:
            self.clear()
        self.ledger.seek(length or 0)
        self.add_lines(length or 0)
        self.connection.execute("COMMIT")

    def is_current(self) -> bool:
        """Return whether the ledger has no complete line after those in the index."""
        length = self.find_length()
        if length is None:
            return False
        self.ledger.seek(length)
        return not self.ledger.readline().endswith(b"\n")

    def find_length(self) -> int | None:
        """Return how much of the ledger is in the index; None if the index is of another ledger, or of none."""
        row = self.connection.execute("SELECT length, sample FROM extent").fetchone()
        return int(row[0]) if row and row[1] == compute_sample(self.ledger, row[0]) else None

    def add_lines(self, start: int) -> None:
        """Add the lines from a place in the ledger on."""
        entries: dict[str, Entry] = {}
        places: list[tuple[str, int, int]] = []
        for line in self.ledger:
            if not line.endswith(b"\n"):
                break  # another process is writing it
            with suppress(ValueError, KeyError, TypeError):
                content = json.loads(line)
                run = content["run"]
                if isinstance(run, str):
                    self.load_earlier(run, entries)
                    # A line that can be applied in part only still changes the run.
                    with suppress(ValueError, KeyError, TypeError):
                        read_line(content, entries)
                    if run in entries:
                        places.append((run, start, len(line)))
            start += len(line)
            if len(places) >= BATCH_LINES:
                self.write(entries, places)
                entries, places = {}, []
        self.write(entries, places)
        self.connection.execute("DELETE FROM extent")
        self.connection.execute("INSERT INTO extent VALUES (?, ?)", (start, compute_sample(self.ledger, start)))

    def load_earlier(self, run: str, entries: dict[str, Entry]) -> None:
        """Add a run to the entries as the index has it, unless it is new or there already."""
        if run not in entries:
            row = self.connection.execute("SELECT number FROM runs WHERE run = ?", (run,)).fetchone()
            if row:
                place = self.ledger.tell()
                entries[run] = self.read(row[0], run)
                self.ledger.seek(place)

    def write(self, entries: dict[str, Entry], places: Sequence[tuple[str, int, int]]) -> None:
        """Write what was read of some runs."""
        names = ("experiment", "stage", "parent", "tracked", "outcome", "is_settled", "is_apart")
        changed = ", ".join(f"{name} = excluded.{name}" for name in names)
        self.connection.executemany(
            f"INSERT INTO runs (run, {', '.join(names)}) VALUES ({', '.join('?' * (len(names) + 1))}) "
            f"ON CONFLICT (run) DO UPDATE SET {changed}",
            [(run, *(getattr(entry, name) for name in names)) for run, entry in entries.items()],
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO lines SELECT number, ?, ? FROM runs WHERE run = ?",
            [(start, length, run) for run, start, length in places],
        )


def compute_sample(ledger: BinaryIO, length: int) -> str:
    """Return a digest of the beginning of the ledger and of what is before a place in it."""
    ledger.seek(0)
    digest = hashlib.sha256(ledger.read(min(SAMPLE_BYTES, length)))
    ledger.seek(max(0, length - SAMPLE_BYTES))
    digest.update(ledger.read(min(SAMPLE_BYTES, length)))
    return digest.hexdigest()


@contextmanager
def open_index(*, is_kept: bool) -> Iterator[Index]:
    """Yield an up-to-date index of the ledger: the one beside it, or one in memory."""
    path = find_ledger_path()
    with path.open("rb") if path.exists() else io.BytesIO() as ledger:
        place = path.with_name(INDEX_NAME) if is_kept else ":memory:"
        with closing(sqlite3.connect(place, timeout=PATIENCE_SECONDS, isolation_level=None)) as connection:
            connection.executescript(SCHEMA)
            index = Index(connection, ledger)
            index.update()
            yield index


def query(work: Callable[[Index], T]) -> T:
    """Return what is found in the index of the ledger; it is made again if it is damaged or of another ledger.

    Parameters
    ----------
    work
        Called with the index; called again if that turned out to be stale.
    """
    path = find_ledger_path()
    if path.exists() and path.stat().st_size > SMALL_BYTES:
        with suppress(StaleIndexError, sqlite3.Error), open_index(is_kept=True) as index:
            return work(index)
        # Stale, damaged, of another version or not to be written: it is made again by the next command.
        with suppress(OSError):
            path.with_name(INDEX_NAME).unlink()
    with open_index(is_kept=False) as index:
        return work(index)


def find_unfinished() -> list[Entry]:
    """Return the runs without an end, and those whose end is not recorded in MLflow."""
    return query(lambda index: [*index.find(UNFINISHED)])


def list_recorded_runs(*, with_apart: bool = True) -> list[Name]:
    """Return the names of all runs in the order in which they started.

    Parameters
    ----------
    with_apart
        Return also interactive runs and sweeps, which are no runs of the pipeline.
    """
    return query(lambda index: index.select_names("1" if with_apart else "NOT is_apart"))


def count_recorded_runs() -> int:
    """Return the number of all runs, of pipelines and of stages."""
    return query(lambda index: index.count("1"))


def list_latest(experiment: str | None, *, most: int) -> tuple[list[tuple[Entry, list[Entry]]], int]:
    """Return the latest runs with their stages, newest first, and the number of all runs, stages not counted."""
    condition, values = "parent IS NULL", tuple[str, ...]()
    if experiment is not None:
        condition, values = f"{condition} AND experiment = ?", (experiment,)

    def find(index: Index) -> tuple[list[tuple[Entry, list[Entry]]], int]:
        tops = [*index.find(condition, *values, order="number DESC", most=most)]
        return [(top, [*index.find("parent = ?", top.run)]) for top in tops], index.count(condition, *values)

    return query(find)


def find_entry(run: str) -> Entry | None:
    """Return the run of a name, or None."""
    return query(lambda index: next(index.find("run = ?", run), None))


def list_stages_of_run(run: str) -> list[Entry]:
    """Return the stages that ran in a run of the pipeline, in order."""
    return query(lambda index: [*index.find("parent = ? AND NOT is_apart", run)])


def find_latest_entry(experiment: str, is_wanted: Callable[[Entry], bool], *, stage: str | None = None) -> Entry | None:
    """Return the latest run of the pipeline, or of a stage, that is wanted; None if there is none."""
    condition = "experiment = ? AND stage IS ? AND NOT is_apart"

    def find(index: Index) -> Entry | None:
        return next(filter(is_wanted, index.find(condition, experiment, stage, order="number DESC")), None)

    return query(find)


def find_current(experiment: str) -> Entry | None:
    """Return the run of an experiment that this process is in: of the pipeline, or else of a stage alone."""
    own = find_process(os.getpid())
    condition = f"{UNFINISHED} AND outcome IS NULL AND experiment = ? AND parent IS NULL AND NOT is_apart"
    found = query(lambda index: [*index.find(condition, experiment, order="number DESC")])
    return next((one for one in found if one.process == own), None)


def find_matching_runs(word: str, experiment: str | None = None) -> list[Name]:
    """Return the runs that a word names: of that name, else the latest of that experiment, else by part of a name.

    Parameters
    ----------
    word
        Name of a run, the beginning or end of it, its MLflow id, or an experiment.
    experiment
        Only runs of this experiment.
    """
    of, values = ("1", ()) if experiment is None else ("experiment = ?", (experiment,))
    latest = f"SELECT max(number) FROM runs WHERE {of} AND experiment = ? AND parent IS NULL AND NOT is_apart"
    beginning = "substr(?, 1, length(experiment) + 1) = experiment || '-' AND substr(run, 1, ?) = ?"
    ending = "(? >= 4 AND substr(run, -?) = ?)"

    def find(index: Index) -> list[Name]:
        length = len(word)
        return (
            index.select_names(f"{of} AND (run = ? OR tracked = ?)", *values, word, word)
            or index.select_names(f"number = ({latest})", *values, word)
            or index.select_names(
                f"{of} AND ({ending} OR {beginning})", *values, length, max(length, 1), word, word, length, word
            )
        )

    return query(find)


def find_producers(run: Entry) -> dict[str, str]:
    """Return the latest run of each stage of an experiment that had finished when a run began."""
    condition = "experiment = ? AND stage IS NOT NULL AND outcome = 'finished' AND NOT is_apart"
    before = "number < (SELECT number FROM runs WHERE run = ?)"
    command = f"SELECT stage, run, max(number) FROM runs WHERE {condition} AND {before} GROUP BY stage"
    return query(lambda index: {row[0]: row[1] for row in index.connection.execute(command, (run.experiment, run.run))})
