"""Runs the nodes of a sweep on a Dask cluster: one of this machine, or one that is there already.

The workers need labkit, and see the checkout at the same path. Each node is a process of its own there, which ends with
its worker; see `labkit.sweep.dask_node`. Dask starts the nodes of a worker that is gone on another one.
"""

from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING

import distributed

from labkit.errors import StageError
from labkit.storage.atomic import write_json, write_text
from labkit.sweep import dask_node, node_process
from labkit.sweep.engine import STOP_SECONDS, LocalEngine
from labkit.sweep.worker import FAILURE
from labkit.units import format_count

if TYPE_CHECKING:
    from labkit.run.cluster.connection import Cluster
    from labkit.sweep.worker import Task

POLL_SECONDS = 1.0
KILLED = -9


class DaskEngine(LocalEngine):
    """The workers of a Dask cluster.

    Parameters
    ----------
    cluster
        The cluster; the memory of this machine is the limit of a local one.
    n_jobs
        Largest number of nodes at a time.
    """

    def __init__(self, cluster: "Cluster", n_jobs: int) -> None:
        super().__init__(n_jobs, most_bytes=None if cluster.is_local else 2**63)
        self.cluster, self.client, self.is_here = cluster, cluster.client, cluster.is_local
        self.futures: dict[distributed.Future[int], Task] = {}
        self.n_submitted = 0

    def list_tasks(self) -> list["Task"]:
        """Return the nodes that are under way."""
        return list(self.futures.values())

    def submit(self, task: "Task") -> None:
        """Start a node."""
        self.n_submitted += 1
        node_process.save_task(task)
        key = f"{task.stage}-{task.key[:16]}-{self.n_submitted}"
        try:
            self.futures[self.client.submit(dask_node.run_node, str(task.root), key=key, pure=False)] = task
        except Exception as error:  # whatever Dask raises without its scheduler
            raise self.describe_loss() from error

    def wait(self) -> list[tuple["Task", int]]:
        """Wait until a node ends, and return those that have, with the exit codes of their processes.

        Raises
        ------
        StageError
            The scheduler is gone.
        """
        while True:
            with suppress(TimeoutError, CancelledError):
                distributed.wait(list(self.futures), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED")
            if ended := [future for future in self.futures if future.status in ("finished", "error")]:
                for future in ended:
                    node_process.remove_task(self.futures[future])
                return [(task := self.futures.pop(future), get_exit_code(future, task)) for future in ended]
            # What is lost with its worker is done again.
            if self.client.status != "running" or any(one.status == "cancelled" for one in self.futures):
                raise self.describe_loss()

    def describe_loss(self) -> StageError:
        """Return the error for a scheduler that is gone."""
        return self.cluster.describe_loss(format_count(len(self.futures), "stage"), kept="finished stages")

    def stop(self) -> list["Task"]:
        """Interrupt all nodes, wait until they have ended, and return them."""
        tasks = self.list_tasks()
        for task in tasks:
            with suppress(OSError):
                write_text(task.root / dask_node.STOP, "")
        with suppress(Exception):  # without a scheduler, nodes end by themselves
            self.client.cancel([one for one in self.futures if one.status == "pending" and not self.is_running(one)])
            distributed.wait([one for one in self.futures if one.status == "pending"], timeout=STOP_SECONDS)
        self.futures.clear()
        for task in tasks:
            node_process.remove_task(task)
        return tasks

    def is_running(self, future: "distributed.Future[int]") -> bool:
        """Return whether a worker has a node."""
        return any(future.key in keys for keys in self.client.processing().values())


def get_exit_code(future: "distributed.Future[int]", task: "Task") -> int:
    """Return the exit code of a node's process; that of a killed one if its workers are gone.

    What keeps a worker from starting the process is written as the failure of the node.
    """
    try:
        return int(future.result())
    except distributed.KilledWorker:
        return KILLED
    except Exception as error:  # whatever the worker raised
        write_json(task.root / FAILURE, {"message": f"its worker failed: {type(error).__name__}: {error}"})
        return 1
