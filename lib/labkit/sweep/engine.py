"""Runs the nodes of a sweep: as processes of this machine, within the memory given.

Each is forked from one process that has imported what a node needs, and ends with the sweep, however that ends.
"""

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Protocol

from labkit.run import capacity
from labkit.sweep import worker
from labkit.sweep.worker import Task

STOP_SECONDS = 20
"""Time in which an interrupted node closes its records; then it is killed."""


class Engine(Protocol):
    """What runs nodes, `n_jobs` at a time at most; every method is called by one thread."""

    n_jobs: int
    is_here: bool
    """Whether all nodes run on this machine, whose cores they then share."""

    def has_room(self, task_bytes: int) -> bool:
        """Return whether one more node may start that is expected to need this memory."""

    def submit(self, task: Task) -> None:
        """Start a node."""

    def wait(self) -> list[tuple[Task, int]]:
        """Wait until a node ends, and return those that have, with the exit codes of their processes."""

    def stop(self) -> list[Task]:
        """Interrupt all nodes, wait until they have ended, and return them."""


class LocalEngine:
    """Processes of this machine.

    Parameters
    ----------
    n_jobs
        Largest number of nodes at a time.
    most_bytes
        Memory that all may be expected to need together; by default, most of what the machine or container has.
    """

    is_here = True

    def __init__(self, n_jobs: int, *, most_bytes: int | None = None) -> None:
        self.n_jobs = n_jobs
        self.most_bytes = capacity.find_most_bytes() if most_bytes is None else most_bytes
        self.running: dict[int, tuple[ForkServerProcess, Task]] = {}
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([worker.__name__])

    def has_room(self, task_bytes: int) -> bool:
        """Return whether one more node may start; the first always may."""
        running = [task.bytes_expected for task in self.list_tasks()]
        return capacity.has_room(running, task_bytes, n_jobs=self.n_jobs, most_bytes=self.most_bytes)

    def list_tasks(self) -> list[Task]:
        """Return the nodes that are under way."""
        return [task for _, task in self.running.values()]

    def submit(self, task: Task) -> None:
        """Start a node."""
        process = self.context.Process(target=worker.run_task, args=(task,), name=f"{task.stage} {task.key[:8]}")
        process.start()
        self.running[process.sentinel] = (process, task)

    def wait(self) -> list[tuple[Task, int]]:
        """Wait until a node ends, and return those that have, with the exit codes of their processes."""
        ended = []
        ready = set(wait(list(self.running)))
        for sentinel in [one for one in self.running if one in ready]:
            process, task = self.running.pop(sentinel)
            process.join()
            ended.append((task, int(process.exitcode or 0)))
            process.close()
        return ended

    def stop(self) -> list[Task]:
        """Interrupt all nodes, wait until they have ended, and return them."""
        tasks = self.list_tasks()
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            process.join(STOP_SECONDS)
            with suppress(ValueError):
                process.kill()
                process.join()
        self.running.clear()
        return tasks
