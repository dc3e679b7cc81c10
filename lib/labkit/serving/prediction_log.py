"""Log of the predictions of a service: one JSON object per row, and the true values that users report later.

Rows are encoded when their responses have been sent, and written by a thread five times a second, so a killed process
loses at most the last fifth of a second and a stopped one nothing. Files are closed at `SEGMENT_BYTES` or after an
hour; the oldest go when all together exceed the limit.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import count, repeat
from pathlib import Path
from typing import Any

import msgspec

from labkit.serving.board import Counter

PERIOD_SECONDS = 0.2
SEGMENT_BYTES, SEGMENT_SECONDS = 64 * 1024 * 1024, 3600
MOST_PENDING_BYTES = 64 * 1024 * 1024
"""Most bytes that wait to be written; what comes while a broken disk keeps more waiting is dropped and counted."""
MOST_BYTES = 2 * 1024 * 1024 * 1024
"""Largest size of all files together; the oldest are removed when it is exceeded."""
SUFFIX = ".jsonl"
CANARY = "canary"
"""Role of rows that a challenger answered; absent otherwise."""


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One predicted row."""

    id: str
    time: str
    version: int | None
    digest: str
    prediction: Any
    inputs: Any = None
    probabilities: dict[str, float] | None = None
    threshold: float | None = None
    role: str | None = None


class PredictionLog:
    """The log of one worker process.

    Parameters
    ----------
    folder
        Folder of the log; each worker writes files of its own.
    worker
        Number of the worker, part of the names of its files.
    counter
        Counts rows written and dropped.
    counts
        Begins the names of these counts.
    """

    def __init__(self, folder: Path, *, worker: int, counter: Counter, counts: str = "log") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.worker, self.counter, self.counts = folder, worker, counter, counts
        self.rows_count = f"{counts}_rows"
        self.encoder = msgspec.json.Encoder()
        self.lines: list[Line] = []
        self.pending: list[bytes] = []
        self.n_bytes = 0
        self.now, self.time = 0, ""
        self.lock = threading.Lock()
        self.handle: int | None = None
        self.opened_at = self.written = 0.0
        self.is_closing = threading.Event()
        self.thread = threading.Thread(target=self.write_on, name="prediction log", daemon=True)
        self.thread.start()

    def add(
        self, id: str, rows: Sequence[Any], named: dict[str, Any], model: dict[str, Any], *, role: str | None = None
    ) -> None:
        """Add the rows of one request, called in the event loop.

        They are encoded with those of other requests at the end of the loop's turn, when the responses have been sent.

        Parameters
        ----------
        id
            Identifier of the request; that of a row is `<id>-<number>`, from 0.
        rows
            Result of `RowReader.name_rows`.
        named
            Result of `Engine.name_predictions`.
        model
            Result of `Engine.describe`.
        role
            `CANARY` if a challenger answered.
        """
        now, version, digest, threshold = self.find_time(), model["version"], model["digest"], named.get("threshold")
        probabilities = named.get("probabilities") or repeat(None)
        columns = zip(count(), named["predictions"], rows, probabilities, strict=False)
        if not self.lines:
            asyncio.get_running_loop().call_soon(self.encode)
        self.lines += [
            Line(f"{id}-{number}", now, version, digest, prediction, row, known, threshold, role)
            for number, prediction, row, known in columns
        ]

    def encode(self) -> None:
        """Encode what was added in this turn of the event loop."""
        lines, self.lines = self.lines, []
        self.add_lines(lines)

    def find_time(self) -> str:
        """Return the time, which is formatted again once a millisecond."""
        now = int(time.time() * 1000)
        if now != self.now:
            written = datetime.fromtimestamp(now // 1000, UTC).replace(microsecond=now % 1000 * 1000)
            self.now, self.time = now, written.isoformat(timespec="milliseconds")
        return self.time

    def add_lines(self, lines: Sequence[Line]) -> None:
        """Add rows, encoded at once: kept as objects they would cost more than their encoding."""
        content = self.encoder.encode_lines(lines)
        with self.lock:
            if self.n_bytes + len(content) > MOST_PENDING_BYTES:
                self.counter.add(f"{self.counts}_dropped", len(lines))
                return
            self.pending.append(content)
            self.n_bytes += len(content)
        self.counter.add(self.rows_count, len(lines))

    def write_on(self) -> None:
        """Write what is pending until the log is closed."""
        while not self.is_closing.wait(PERIOD_SECONDS):
            self.write_pending()

    def write_pending(self) -> None:
        """Write what is pending; on a fault it stays pending."""
        with self.lock:
            content, self.pending = b"".join(self.pending), []
        if not content:
            return
        try:
            self.write(content)
        except OSError:
            self.counter.add(f"{self.counts}_failures")
            self.close_segment()
            with self.lock:
                self.pending.insert(0, content)
            return
        with self.lock:
            self.n_bytes -= len(content)

    def write(self, content: bytes) -> None:
        """Append to the current segment, or to a new one if it is full or old."""
        is_old = time.monotonic() - self.opened_at > SEGMENT_SECONDS
        if self.handle is not None and (self.written > SEGMENT_BYTES or is_old):
            self.close_segment()
        if self.handle is None:
            remove_oldest_segments(self.folder, most_bytes=MOST_BYTES)
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            path = self.folder / f"{stamp}-{self.worker}-{os.getpid()}{SUFFIX}"
            self.handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self.opened_at, self.written = time.monotonic(), 0.0
        before = os.fstat(self.handle).st_size
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(self.handle, left) :]
        except OSError:
            # Whole again: a part of the content would be written twice when it is tried again.
            os.ftruncate(self.handle, before)
            raise
        self.written += len(content)

    def close_segment(self) -> None:
        """Close the current file; the next write opens another."""
        if self.handle is not None:
            os.close(self.handle)
        self.handle = None

    def close(self) -> None:
        """Write everything and close."""
        self.is_closing.set()
        self.thread.join()
        if self.lines:
            self.encode()
        self.write_pending()
        if self.handle is not None:
            os.fsync(self.handle)
        self.close_segment()


def remove_oldest_segments(folder: Path, *, most_bytes: int) -> int:
    """Remove the oldest files of a log until the rest fit, and return how many were removed."""
    sizes = {path: path.stat().st_size for path in sorted(folder.glob(f"*{SUFFIX}"))}
    total, n_removed = sum(sizes.values()), 0
    for path, size in sizes.items():
        if total <= most_bytes:
            break
        path.unlink(missing_ok=True)
        total, n_removed = total - size, n_removed + 1
    return n_removed


def iterate_lines(folder: Path, damaged: dict[str, int] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log in the order of its files; a line that a killed process left torn is skipped.

    Parameters
    ----------
    damaged
        Counts by file what cannot be read, lines or the whole file, which is then skipped; None raises an error for it.
    """
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            with path.open("rb") as lines:
                for line in lines:
                    try:
                        if line.endswith(b"\n"):
                            yield msgspec.json.decode(line, type=dict[str, Any])
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        if damaged is None:
                            raise
                        damaged[path.name] = damaged.get(path.name, 0) + 1
        except OSError:
            if damaged is None:
                raise
            damaged[path.name] = damaged.get(path.name, 0) + 1
