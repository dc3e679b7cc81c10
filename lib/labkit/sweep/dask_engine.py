"""Runs the nodes of a sweep on a Dask cluster: one of this machine, or one that is there already.

The workers need labkit, and see the checkout at the same path. Each node is a process of its own there, which ends with
its worker; see `labkit.sweep.dask_node`. Dask starts the nodes of a worker that is gone on another one.
"""

import logging
import secrets
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import dask
import distributed

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, StageError, list_briefly
from labkit.run.fingerprint.packages import load_lock
from labkit.storage.atomic import write_json, write_text
from labkit.sweep import dask_node, node_process
from labkit.sweep.engine import STOP_SECONDS, LocalEngine
from labkit.sweep.worker import FAILURE
from labkit.units import format_count

if TYPE_CHECKING:
    from labkit.sweep.worker import Task

LIBRARY, LOCAL = "distributed", "local"
TLS = "tls://"
SCHEMES = ("tcp://", TLS)
CONNECT_SECONDS = 10
POLL_SECONDS = 1.0
KILLED = -9


@contextmanager
def open_dask_engine(address: str, n_jobs: int | None, *, n_cores: int) -> Iterator["DaskEngine"]:
    """Connect to a cluster for the time of the block, and start one first if it is a local one.

    Parameters
    ----------
    address
        `local`, or the address of a scheduler such as `tcp://10.0.0.1:8786`.
    n_jobs
        Largest number of nodes at a time; None for one on each thread of the cluster.
    n_cores
        Number of workers of a local cluster if `n_jobs` is None.

    Raises
    ------
    ParamsError
        There is no scheduler or no worker, or a worker lacks labkit or the checkout.
    """
    if address != LOCAL and not (address.startswith(SCHEMES) and make_printable(address) == address):
        raise ParamsError(
            f"--dask {make_printable(address)}: not the address of a scheduler: write e.g. tcp://10.0.0.1:8786"
        )
    with ExitStack() as stack:
        # Errors of connections are reported by the sweep, once.
        for name in list(logging.root.manager.loggerDict):
            if name == LIBRARY or name.startswith(f"{LIBRARY}."):
                stack.enter_context(quieten(logging.getLogger(name)))
        if address == LOCAL:
            n_workers = n_jobs or n_cores
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=n_workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    memory_limit=None,
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(distributed.Client(cluster))
            yield DaskEngine(client, n_workers, place="the local Dask cluster", is_local=True)
            return
        if address.startswith(TLS):
            check_certificates(address)
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": CONNECT_SECONDS}))
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, TimeoutError, ValueError) as error:
            raise ParamsError(f"--dask {address}: no scheduler there: start one with `dask scheduler`") from error
        n_threads = check_workers(client, address)
        yield DaskEngine(client, min(n_jobs or n_threads, n_threads), place=f"the Dask cluster {address}")


def check_certificates(address: str) -> None:
    """Raise an error if Dask's configuration has no certificates to connect with, or they cannot be read.

    Raises
    ------
    ParamsError
        The message says what to configure.
    """
    remedy = "set distributed.comm.tls.ca-file, .client.cert and .client.key, or use tcp://"
    try:
        context = distributed.Security().get_connection_args("client").get("ssl_context")
    except (OSError, ValueError, TypeError) as error:
        raise ParamsError(
            f"--dask {address}: the certificates of Dask's configuration cannot be read: {error}: {remedy}"
        ) from error
    if context is None:
        raise ParamsError(f"--dask {address}: Dask's configuration has no certificates: {remedy}")


@contextmanager
def quieten(logger: logging.Logger) -> Iterator[None]:
    """Let a logger be silent for the time of the block."""
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def check_workers(client: distributed.Client, address: str) -> int:
    """Return the number of threads of a cluster whose workers can all run nodes.

    Raises
    ------
    ParamsError
        There is no worker, or one cannot.
    """
    n_threads = sum(client.nthreads().values())
    if not n_threads:
        raise ParamsError(f"--dask {address}: the cluster has no worker: start some with `dask worker {address}`")
    root, token = paths.find_root(), f".labkit/cluster-{secrets.token_hex(8)}"
    write_text(root / token, "")
    try:
        versions = dask_node.list_worker_versions(load_lock())
        found = client.run(dask_node.find_obstacle, str(root), token, versions, on_error="return")
    finally:
        (root / token).unlink(missing_ok=True)
    if faults := [f"worker {name}: {fault}" for name, fault in sorted(found.items()) if fault]:
        raise ParamsError(
            f"--dask {address}: {list_briefly(faults, most=3)}: a worker needs labkit, installed as here, and the "
            "checkout at the same path"
        )
    return n_threads


class DaskEngine(LocalEngine):
    """The workers of a Dask cluster.

    Parameters
    ----------
    client
        A connection to the scheduler.
    n_jobs
        Largest number of nodes at a time.
    place
        What the cluster is called in messages.
    is_local
        Whether all workers are on this machine, so that its memory is the limit.
    """

    def __init__(self, client: distributed.Client, n_jobs: int, *, place: str, is_local: bool = False) -> None:
        super().__init__(n_jobs, most_bytes=None if is_local else 2**63)
        self.client, self.place, self.is_here = client, place, is_local
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
            if self.client.status != "running" or any(one.status in ("lost", "cancelled") for one in self.futures):
                raise self.describe_loss()

    def describe_loss(self) -> StageError:
        """Return the error for a scheduler that is gone."""
        return StageError(
            f"{self.place} is gone, with {format_count(len(self.futures), 'stage')} under way: start it, then run the "
            "same command again, which runs only what is not done"
        )

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
