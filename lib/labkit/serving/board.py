"""Numbers that the processes of a service share: which model is in force, how far each worker is, and what it counts.

A file of 64-bit words in memory: workers write their own words and read the supervisor's, without a lock. The words of
a worker that died go on with its successor, so that counts never fall.
"""

import threading
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
EDGES = np.array(LATENCY_BOUNDS)


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
        self.slot = board.slots[worker]
        self.lock = threading.Lock()

    def add(self, name: str, number: int = 1) -> None:
        """Add to a count, from any thread."""
        with self.lock:
            self.slot[PLACES[name]] += number

    def add_request(self, status: int, seconds: float) -> None:
        """Count a request that got a response."""
        name = f"requests_{status}"
        self.add(name if name in PLACES else f"requests_{status // 100}00")
        self.add("latency_microseconds", int(seconds * 1e6))
        self.add(f"latency_{int(np.searchsorted(EDGES, seconds))}")
