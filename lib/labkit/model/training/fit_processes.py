"""Folds of candidates evaluated side by side, each in a process of its own with one thread.

Two fits with one thread each take less time than the same fits in turn with two threads each, which wait for each other
at every split of a tree. Results come in the order in which the caller asks for them, and none depends on the number of
processes: seeds are fixed, and the estimators here give the same numbers with any number of threads (LightGBM with
`deterministic`, the histograms of scikit-learn per feature, forests per tree), or are made to predict with one.

Processes are forked from one that has only imported packages: a fork of a process that has already fitted a model with
several threads would hang.
"""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from threading import Thread
from typing import Any, TypeVar

import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from labkit.model.estimators.candidates import set_threads
from labkit.model.training.cross_validation import FitFailedError, Folds, describe_error, score_fold
from labkit.model.training.fork_server import end_fork_server
from labkit.model.training.prepared_folds import PreparedFolds
from labkit.params.own_metrics import OWN_METRICS
from labkit.params.tables import Target
from labkit.run import capacity
from labkit.run.core_share import share_cores
from labkit.run.memory import find_free, find_total, measure_memory

FEWEST_ROWS = 10_000
"""Rows from which on processes save more time than their start takes."""
PRELOADED = ("lightgbm", "pandas", "scipy.stats", "sklearn.compose", "sklearn.ensemble", "sklearn.neighbors")
"""Packages that are imported once for all processes; labkit itself is not, because it may be edited meanwhile."""
MOST_TRIES = 2
"""How often a fold is evaluated whose process is killed: the second time while no other runs."""
REPLAYED: dict[Any, Any] = {}
"""Warnings of processes that were shown here, as Python remembers its own."""

Made = TypeVar("Made")
Job = tuple[Hashable, int]
"""A candidate, by its key, and the number of a fold."""


@dataclass(frozen=True)
class Rows:
    """What candidates are evaluated on.

    Attributes
    ----------
    features, y_true
        Of shapes (n_rows, n_features) and (n_rows,).
    """

    features: pd.DataFrame
    y_true: pd.Series
    target: Target
    folds: Folds


@dataclass(frozen=True)
class FoldScore:
    """The metrics of a candidate in one fold and how long that took, in seconds, or why it failed."""

    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""
    warned: tuple[tuple[str, type[Warning], str, int], ...] = ()

    def check(self) -> None:
        """Show the warnings, and raise FitFailedError if it failed."""
        for one in self.warned:
            warnings.warn_explicit(*one, registry=REPLAYED)
        if self.error:
            raise FitFailedError(self.error)


class Worker:
    """One process, which evaluates folds one after another until its connection closes."""

    def __init__(self, rows: Rows) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*PRELOADED])
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=evaluate_folds, args=(theirs, rows), name="fits", daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None

    def submit(self, job: Job, candidate: bytes) -> None:
        """Have a fold of a pickled candidate evaluated."""
        self.job = job
        # A process that was killed meanwhile is noticed when its result is read.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(job[1])
            self.connection.send_bytes(candidate)

    def read(self) -> FoldScore | None:
        """Return the result; None if the process was killed."""
        self.job = None
        try:
            result: FoldScore = self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return None
        return result

    def kill(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class FitProcesses:
    """Evaluates the folds of candidates, several at a time.

    Parameters
    ----------
    n_processes
        Largest number of processes.
    """

    def __init__(self, rows: Rows, n_processes: int) -> None:
        self.rows, self.n_processes = rows, n_processes
        self.workers: list[Worker] = []
        self.waiting: list[Job] = []
        self.candidates: dict[Hashable, bytes] = {}
        self.scores: dict[Job, FoldScore] = {}
        self.kills: dict[Job, int] = {}

    def plan(self, key: Hashable, make: Callable[[], Pipeline]) -> None:
        """Make a candidate and have all its folds evaluated, after those that were planned before.

        The first fold comes first, because the others may not be needed after it; then the largest.
        """
        candidate, failed = try_make(lambda: bytes(ForkingPickler.dumps(make())))
        if candidate is None:
            self.scores[key, 0] = failed
            return
        self.candidates[key] = candidate
        first, *others = range(len(self.rows.folds))
        largest = sorted(others, key=lambda number: -len(self.rows.folds[number][0]))
        self.waiting += [(key, number) for number in (first, *largest)]
        self.start_waiting()

    def list_scores(self, key: Hashable) -> Generator[FoldScore, None, None]:
        """Yield the results of a planned candidate fold by fold; the rest is given up when the caller stops."""
        try:
            for number in range(len(self.rows.folds)):
                while (key, number) not in self.scores:
                    self.collect()
                yield self.scores.pop((key, number))
        finally:
            self.give_up(key)

    def start_waiting(self) -> None:
        """Start what is waiting, as far as processes are free; what was killed before, only while no other runs."""
        while self.waiting:
            busy = [one for one in self.workers if one.job is not None]
            is_careful = any(job in self.kills for job in (self.waiting[0], *(one.job for one in busy)))
            if len(busy) >= (1 if is_careful else self.n_processes):
                return
            if is_careful:
                self.close()  # what idle processes keep is memory too
            worker, job = next((one for one in self.workers if one.job is None), None), self.waiting.pop(0)
            if worker is None:
                try:
                    worker = Worker(self.rows)
                except (ConnectionError, EOFError):
                    self.note_killed(job, None)
                    continue
                self.workers.append(worker)
            worker.submit(job, self.candidates[job[0]])

    def collect(self) -> None:
        """Wait until a fold has been evaluated, or its process was killed, and start the next."""
        self.start_waiting()
        by_connection = {one.connection: one for one in self.workers if one.job is not None}
        for connection in wait(list(by_connection)):
            worker = by_connection[connection]  # type: ignore[index]
            job = worker.job
            assert job is not None
            score = worker.read()
            if score is not None:
                self.scores[job] = score
                continue
            self.workers.remove(worker)
            self.note_killed(job, worker.process.exitcode)
        self.start_waiting()

    def note_killed(self, job: Job, exit_code: int | None) -> None:
        """Have a fold whose process has ended evaluated once more, or note why it has no result."""
        self.kills[job] = self.kills.get(job, 0) + 1
        if self.kills[job] < MOST_TRIES:
            self.waiting.insert(0, job)
        else:
            place = f"in fold {job[1] + 1} of {len(self.rows.folds)}"
            self.scores[job] = FoldScore(error=describe_lost_fit(exit_code, place))

    def give_up(self, key: Hashable) -> None:
        """Evaluate no further folds of a candidate."""
        self.waiting = [job for job in self.waiting if job[0] != key]
        for worker in [one for one in self.workers if one.job is not None and one.job[0] == key]:
            self.workers.remove(worker)
            worker.kill()
        self.scores = {job: score for job, score in self.scores.items() if job[0] != key}
        self.candidates.pop(key, None)

    def finish(self) -> None:
        """Wait until everything that is planned has been evaluated."""
        while self.waiting or any(one.job is not None for one in self.workers):
            self.collect()

    def close(self) -> None:
        """End all processes."""
        for worker in self.workers:
            worker.kill()
        self.workers.clear()


class FitsInTurn:
    """Evaluates the folds of candidates one after another in this process, when they are asked for.

    Parameters
    ----------
    n_threads
        Number of threads of each fit; None for that of the estimator.
    """

    def __init__(self, rows: Rows, *, n_threads: int | None = None) -> None:
        self.rows, self.n_threads = rows, n_threads
        self.makers: dict[Hashable, Callable[[], Pipeline]] = {}

    def plan(self, key: Hashable, make: Callable[[], Pipeline]) -> None:
        """Note a candidate, which is made when its results are asked for."""
        self.makers[key] = make

    def list_scores(self, key: Hashable) -> Generator[FoldScore, None, None]:
        """Make a planned candidate and yield its results fold by fold."""
        candidate, failed = try_make(self.makers.pop(key))
        if candidate is None:
            yield failed
            return
        if self.n_threads is not None:
            candidate = clone(candidate)
            set_threads(candidate[-1], self.n_threads)
        for number in range(len(self.rows.folds)):
            with threadpool_limits(self.n_threads):
                score = evaluate(candidate, self.rows, number)
            yield score

    def finish(self) -> None:
        """Return at once: nothing is under way."""


def describe_lost_fit(exit_code: int | None, place: str) -> str:
    """Return why a fold has no result whose process ended without one; the exit code is None if it never started.

    >>> describe_lost_fit(3, "in fold 1 of 5")
    'its process ended by itself (exit code 3), also while no other ran, in fold 1 of 5'
    """
    if exit_code is not None and exit_code >= 0:
        return f"its process ended by itself (exit code {exit_code}), also while no other ran, {place}"
    how = "while it started" if exit_code is None else signal.Signals(-exit_code).name
    return (
        f"its process was killed ({how}), also while no other ran: perhaps memory ran out, {place}: fewer rows "
        "(training.most_rows) need less"
    )


def try_make(make: Callable[[], Made]) -> tuple[Made | None, FoldScore]:
    """Return what is made, or None and why it cannot be made."""
    started = time.monotonic()
    try:
        return make(), FoldScore()
    except Exception as error:  # whatever the user's code or a library raises
        return None, FoldScore(seconds=time.monotonic() - started, error=describe_error(error))


@contextmanager
def open_fits(rows: Rows, *, n_processes: int) -> Iterator[FitProcesses | FitsInTurn]:
    """Evaluate candidates in this block, in processes of their own or, if there is to be one, in this process."""
    if n_processes == 1:
        is_large = len(rows.features) >= FEWEST_ROWS
        yield FitsInTurn(rows, n_threads=1 if is_large and share_cores() == 1 else None)
        return
    fits = FitProcesses(rows, n_processes)
    with end_fork_server():
        try:
            yield fits
        finally:
            fits.close()


def count_processes(n_rows: int) -> int:
    """Return how many processes evaluate candidates at a time: as many as cores, if each may grow as large as this one.

    What other processes of the machine or container use counts, such as the kernels of other experiments.

    It is one, which is this process, for so few rows that starting others takes longer, and with metrics of the user's
    own, which are called in this process only.
    """
    if n_rows < FEWEST_ROWS or OWN_METRICS.paths:
        return 1
    used = find_total() - find_free()
    n_fitting = (capacity.find_most_bytes() - used) // max(measure_memory(os.getpid()), 1)
    return max(1, min(share_cores(), n_fitting))


def evaluate_folds(connection: Connection, rows: Rows) -> None:
    """Evaluate what is asked for with one thread, until the connection closes or the process that asks has ended."""
    # An interrupt reaches all processes of a kernel; the kernel ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=end_with_parent, daemon=True).start()
    threadpool_limits(1)
    prepared = PreparedFolds()
    while True:
        try:
            number = connection.recv()
        except EOFError:
            return
        connection.send(evaluate_alone(connection.recv, rows, number, prepared))


def end_with_parent() -> None:
    """Kill this process once the one that asks has ended, in whatever way, also within a fit."""
    parent = multiprocessing.parent_process()
    assert parent
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def evaluate_alone(receive: Callable[[], Pipeline], rows: Rows, number: int, prepared: PreparedFolds) -> FoldScore:
    """Return the result of a candidate in one fold, fitted with one thread, and what it warned of."""
    candidate, failed = try_make(lambda: clone(receive()))
    if candidate is None:
        return failed
    set_threads(candidate[-1], 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        score = evaluate(candidate, rows, number, prepared)
    return replace(score, warned=tuple((str(one.message), one.category, one.filename, one.lineno) for one in caught))


def evaluate(candidate: Pipeline, rows: Rows, number: int, prepared: PreparedFolds | None = None) -> FoldScore:
    """Return the result of a candidate in one fold."""
    started, found, error = time.monotonic(), dict[str, float](), ""
    options: dict[str, Any] = {"target": rows.target, "folds": rows.folds, "number": number, "prepared": prepared}
    try:
        found = score_fold(candidate, rows.features, rows.y_true, **options)
    except Exception as failure:  # whatever a library raises
        error = describe_error(failure)
    return FoldScore(found, time.monotonic() - started, error)
