"""Numbers that the processes of a service share: which model is in force, how far each worker is, and what it counts.

A file of 64-bit words in memory: workers write their own words and read the supervisor's, without a lock. The words of
a worker that died go on with its successor, so that counts never fall.
"""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CURRENT, ANNOUNCED, CHALLENGER_CURRENT, CHALLENGER_ANNOUNCED = range(4)
"""Words of the supervisor: generation in force, and generation that workers are to load, of champion and challenger."""
HEAD = 4
LOADED, REFUSED, SEEN, PID, CHALLENGER_LOADED, CHALLENGER_REFUSED, CHALLENGER_SEEN = range(7)
"""Words of a worker: generations loaded, refused and in use, of champion and challenger; its process."""
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the latency histogram, in seconds."""
STATUSES = (200, 300, 400, 401, 403, 404, 405, 408, 413, 415, 421, 422, 500, 503)
"""HTTP statuses that are counted by themselves; any other counts as the first of its hundred."""
COUNTS = (
    *(f"requests_{status}" for status in STATUSES),
    *("rows", "missing_values", "values", "numbers", "outside_range", "feedback", "explained"),
    *("log_rows", "log_dropped", "log_failures", "canary_rows", "canary_refused"),
    *("shadow_rows", "shadow_dropped", "shadow_failures", "shadow_refused"),
    *("latency_microseconds", *(f"latency_{place}" for place in range(len(LATENCY_BOUNDS) + 1))),
)
"""What each worker counts."""
FIRST_COUNT = 7
WORDS = FIRST_COUNT + len(COUNTS)
PLACES = {name: FIRST_COUNT + place for place, name in enumerate(COUNTS)}
STATUS_PLACES = {status: PLACES[f"requests_{status}"] for status in STATUSES}
SUM_OF_LATENCY, FIRST_LATENCY = PLACES["latency_microseconds"], PLACES["latency_0"]


@dataclass(frozen=True)
class Seat:
    """Where a release is put in force: there is a seat for the champion, and one for its challenger.

    Attributes
    ----------
    prefix
        Begins the names of the files about it in the folder of the service.
    current, announced
        Words of the supervisor.
    loaded, refused, seen
        Words of a worker.
    """

    prefix: str
    current: int
    announced: int
    loaded: int
    refused: int
    seen: int


CHAMPION_SEAT = Seat("", CURRENT, ANNOUNCED, LOADED, REFUSED, SEEN)
CHALLENGER_SEAT = Seat(
    "challenger-", CHALLENGER_CURRENT, CHALLENGER_ANNOUNCED, CHALLENGER_LOADED, CHALLENGER_REFUSED, CHALLENGER_SEEN
)


class Board:
    """The shared words of one service; see the module. The last slot is that of the shadow, after the workers'.

    Parameters
    ----------
    path
        The file; it is created if it does not exist.
    """

    def __init__(self, path: Path, *, n_workers: int) -> None:
        n_slots = n_workers + 1
        size = HEAD + n_slots * WORDS
        self.words = np.memmap(path, dtype="int64", mode="r+" if path.exists() else "w+", shape=(size,))
        self.slots = self.words[HEAD:].reshape(n_slots, WORDS)

    def sum_counts(self) -> dict[str, int]:
        """Return all counts, summed over the processes."""
        totals = self.slots[:, FIRST_COUNT:].sum(axis=0).tolist()
        return dict(zip(COUNTS, totals, strict=True))


class Counter:
    """The counts of one worker."""

    def __init__(self, board: Board, worker: int) -> None:
        # A view of the words in which one is read and written in a tenth of the time that numpy takes.
        self.slot = memoryview(board.slots[worker])
        self.lock = threading.Lock()

    def add(self, name: str, number: int = 1) -> None:
        """Add to a count, from any thread."""
        with self.lock:
            self.slot[PLACES[name]] += number

    def add_all(self, counts: Mapping[str, int]) -> None:
        """Add to several counts, from any thread."""
        with self.lock:
            for name, number in counts.items():
                self.slot[PLACES[name]] += number

    def add_request(self, status: int, seconds: float) -> None:
        """Count a request that got a response."""
        with self.lock:
            self.slot[STATUS_PLACES.get(status) or STATUS_PLACES[status // 100 * 100]] += 1
            self.slot[FIRST_LATENCY + bisect_left(LATENCY_BOUNDS, seconds)] += 1
            self.slot[SUM_OF_LATENCY] += int(seconds * 1e6)
