"""The process in which a challenger predicts what the champion predicted: `python -m labkit.serving.shadow SETTINGS`.

It reads the rows from the prediction log, as the workers write it: whatever happens here, no request waits for it or
fails, and rows wait on the disk, not in memory. What is too far behind is skipped and counted.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from labkit.errors import LabkitError, ModelError
from labkit.serving.board import CHALLENGER_SEAT, PID, Board, Counter
from labkit.serving.canary import check_challenger
from labkit.serving.engine import Engine, predict_each
from labkit.serving.following import Follower, load_pointed
from labkit.serving.prediction_log import PERIOD_SECONDS, SUFFIX, Line, PredictionLog
from labkit.serving.requests import RequestError
from labkit.serving.settings import Pointer, Settings, load_pointer, load_settings
from labkit.storage.atomic import parse_json, write_json

MOST_BEHIND_BYTES = 256 * 1024 * 1024
"""Bytes of the log, at most, that wait to be predicted; what is older is skipped."""
PART_BYTES = 512 * 1024
"""Bytes of the log that are read at once."""
LAST_SECONDS = 3.0
"""Time for what is still to be predicted when the service stops."""
NICENESS = 10


class LogTail:
    """What is appended to the files of a prediction log after this was made, or after a process before it stopped.

    Parameters
    ----------
    folder
        Folder of the log; processes append to files of their own, and open new ones. The oldest may be removed.
    places_path
        File that keeps how far each file was read; None to keep it in memory only.
    """

    def __init__(self, folder: Path, places_path: Path | None = None) -> None:
        self.folder, self.places_path = folder, places_path
        if places_path is not None and places_path.is_file():
            self.places = {folder / name: place for name, place in parse_json(places_path.read_bytes()).items()}
        else:
            self.places = self.measure()
            self.save()

    def save(self) -> None:
        """Keep how far each file was read."""
        if self.places_path is not None:
            write_json(self.places_path, {path.name: place for path, place in self.places.items()})

    def measure(self) -> dict[Path, int]:
        """Return the sizes of all files, in the order of their names, which begin with a time."""
        sizes = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            with suppress(FileNotFoundError):  # a worker removed it
                sizes[path] = path.stat().st_size
        return sizes

    def list_unread(self) -> dict[Path, int]:
        """Return the bytes to be read, by file."""
        sizes = self.measure()
        self.places = {path: place for path, place in self.places.items() if path in sizes}
        return {
            path: size - self.places.get(path, 0) for path, size in sizes.items() if size > self.places.get(path, 0)
        }

    def read(self) -> list[bytes]:
        """Return some lines that have not been read; none if there are none.

        They count as read at once: rows that end the process that predicts them do not end the next one too.
        """
        if lines := self.read_next():
            self.save()
        return lines

    def read_next(self) -> list[bytes]:
        """Return the next lines of the first file that has any, without keeping the place."""
        for path in self.list_unread():
            with suppress(FileNotFoundError):
                if lines := self.read_lines(path):
                    return lines
        return []

    def read_lines(self, path: Path) -> list[bytes]:
        """Return the next whole lines of a file."""
        place = self.places.get(path, 0)
        with path.open("rb") as stream:
            stream.seek(place)
            content = stream.read(PART_BYTES)
            if b"\n" not in content and len(content) == PART_BYTES:
                content += stream.readline()
        whole = content[: content.rfind(b"\n") + 1]
        self.places[path] = place + len(whole)
        return whole.splitlines()

    def skip(self, *, most_bytes: int) -> int:
        """Skip the oldest lines until no more than some bytes are left, and return how many were skipped."""
        n_skipped = 0
        while sum(self.list_unread().values()) > most_bytes:
            lines = self.read_next()
            if not lines:
                break
            n_skipped += len(lines)
        if n_skipped:
            self.save()
        return n_skipped


class Shadow:
    """Predicts the rows of the log with the challenger in force.

    Parameters
    ----------
    slot
        Number of the slot of this process among the shared words.
    """

    def __init__(self, settings: Settings, board: Board, slot: int) -> None:
        self.folder, self.counter, self.state_dir = Path(settings.folder), Counter(board, slot), settings.state_dir
        self.follower = Follower(CHALLENGER_SEAT, board, slot, self.folder, load=self.load)
        self.tail = LogTail(Path(str(settings.log_folder)), self.folder / "shadow-places.json")
        self.log = PredictionLog(Path(str(settings.shadow_folder)), worker=slot, counter=self.counter, counts="shadow")

    def load(self, pointer: Pointer) -> Engine:
        """Load a challenger, and refuse one that does not take what the champion takes."""
        current, challenger = load_pointer(self.folder / "current.json"), load_pointed(pointer, self.state_dir)
        try:
            champion = load_pointed(current)
        except LabkitError as error:
            # The reason is shown in /health, which names no folder of this machine.
            raise ModelError(str(error).replace(current.folder, "the champion's release")) from error
        check_challenger(champion, challenger)
        return challenger

    def work(self) -> bool:
        """Predict some rows if there are any, and return whether there were."""
        if self.follower.is_behind():
            self.follower.prepare()
        challenger = self.follower.follow()
        if challenger is not None and (n_skipped := self.tail.skip(most_bytes=MOST_BEHIND_BYTES)):
            self.counter.add("shadow_dropped", n_skipped)
        lines = self.tail.read()
        if challenger is not None:
            self.predict(challenger, lines)
        return bool(lines)

    def predict(self, challenger: Engine, lines: Sequence[bytes]) -> None:
        """Predict the rows of lines that another version predicted, and log them under the same ids."""
        entries, rows = [], []
        for line in lines:
            entry, row = self.read_row(challenger, line)
            if row is not None:
                entries.append(entry)
                rows.append(row)
        if not rows:
            return
        try:
            challenger.refresh()
            predicted = predict_each(challenger, [[row] for row in rows])[0]
        except Exception:  # a challenger may fail in any way
            logging.getLogger(__name__).exception("the challenger failed")
            self.counter.add("shadow_refused", len(rows))
            return
        good = [
            (entry, one) for entry, one in zip(entries, predicted, strict=True)
            if isinstance(one, np.ndarray) and np.isfinite(one).all()
        ]  # fmt: skip
        self.counter.add("shadow_refused", len(rows) - len(good))
        if good:
            self.write(challenger, [entry for entry, _ in good], np.concatenate([one for _, one in good]))

    def read_row(self, challenger: Engine, line: bytes) -> tuple[dict[str, Any], Any]:
        """Return a line of the log, and its row as the challenger takes it; None for a row that is not for it."""
        try:
            entry = msgspec.json.decode(line, type=dict[str, Any])
            if entry["digest"] == challenger.digest:
                return entry, None
            return entry, challenger.reader.convert([entry["inputs"]])[0]
        except (ValueError, KeyError, RequestError):
            self.counter.add("shadow_refused")
            return {}, None

    def write(self, challenger: Engine, entries: Sequence[dict[str, Any]], predicted: np.ndarray) -> None:
        """Log predictions, shape (n_rows, n_classes) or (n_rows,), for lines of the log."""
        named = challenger.name_predictions(predicted)
        probabilities = named.get("probabilities") or [None] * len(entries)
        lines = [
            Line(
                entry["id"], entry["time"], challenger.version, challenger.digest, prediction,
                probabilities=probability, threshold=named.get("threshold"),
            )
            for entry, prediction, probability in zip(entries, named["predictions"], probabilities, strict=True)
        ]  # fmt: skip
        self.log.add_lines(lines)

    def close(self) -> None:
        """Predict what the workers have still written, and write everything."""
        end = time.monotonic() + LAST_SECONDS
        while time.monotonic() < end and self.work():
            pass
        if self.follower.follow() is not None:
            self.counter.add("shadow_dropped", self.tail.skip(most_bytes=0))
        self.log.close()


def main(arguments: list[str]) -> None:
    """Run until the process is told to stop."""
    settings = load_settings(Path(arguments[0]))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    os.nice(NICENESS)
    board = Board(settings.board_path, n_workers=settings.n_workers)
    shadow = Shadow(settings, board, settings.n_workers)
    board.slots[settings.n_workers, PID] = os.getpid()
    while not stopped.is_set():
        if not shadow.work():
            stopped.wait(PERIOD_SECONDS)
    shadow.close()


if __name__ == "__main__":
    main(sys.argv[1:])
