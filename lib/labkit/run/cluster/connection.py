"""Connections to Dask clusters.

The workers need labkit, and see the checkout at the same path.
"""

import logging
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import dask
import distributed

from labkit import paths
from labkit.errors import ParamsError, StageError, list_briefly
from labkit.run.cluster import worker_check
from labkit.run.fingerprint.packages import load_lock
from labkit.storage.atomic import write_text

LIBRARY = "distributed"
TLS = "tls://"
CONNECT_SECONDS = 10


@dataclass(frozen=True)
class Cluster:
    """A connection to the scheduler of a cluster.

    Attributes
    ----------
    n_threads
        Threads of all workers.
    place
        What the cluster is called in messages.
    is_local
        Whether all workers are on this machine.
    """

    client: distributed.Client
    n_threads: int
    place: str
    is_local: bool = False

    def describe_loss(self, under_way: str, *, kept: str = "") -> StageError:
        """Return the error for a scheduler that is gone.

        Parameters
        ----------
        under_way
            What it had to do, such as "3 stages".
        kept
            What the same command will not do again, such as "finished stages"; empty if it begins again.
        """
        remedy = "start it, then run the same command again" + (f"; {kept} are kept" if kept else "")
        return StageError(f"{self.place} is gone, with {under_way} under way: {remedy}")


@contextmanager
def start_local(n_workers: int) -> Iterator[Cluster]:
    """Start a cluster of this machine for the time of the block."""
    with quieten_library(), ExitStack() as stack:
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
        yield Cluster(client, n_workers, "the local Dask cluster", is_local=True)


@contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Connect to a cluster for the time of the block.

    Parameters
    ----------
    address
        Address of its scheduler, such as `tcp://10.0.0.1:8786`.

    Raises
    ------
    ParamsError
        There is no scheduler or no worker, or a worker lacks labkit or the checkout.
    """
    with quieten_library(), ExitStack() as stack:
        if address.startswith(TLS):
            check_certificates(address)
        stack.enter_context(dask.config.set({"distributed.comm.timeouts.connect": CONNECT_SECONDS}))
        try:
            client = stack.enter_context(distributed.Client(address, timeout=CONNECT_SECONDS))
        except (OSError, TimeoutError, ValueError) as error:
            raise ParamsError(f"--dask {address}: no scheduler there: start one with `dask scheduler`") from error
        yield Cluster(client, check_workers(client, address), f"the Dask cluster {address}")


@contextmanager
def quieten_library() -> Iterator[None]:
    """Silence Dask for the time of the block: errors of connections are reported by the command, once."""
    with ExitStack() as stack:
        for name in list(logging.root.manager.loggerDict):
            if name == LIBRARY or name.startswith(f"{LIBRARY}."):
                stack.enter_context(quieten(logging.getLogger(name)))
        yield


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
    """Return the number of threads of a cluster whose workers can all work in the checkout.

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
        versions = worker_check.list_worker_versions(load_lock())
        found = client.run(worker_check.find_obstacle, str(root), token, versions, on_error="return")
    finally:
        (root / token).unlink(missing_ok=True)
    if faults := [f"worker {name}: {fault}" for name, fault in sorted(found.items()) if fault]:
        raise ParamsError(
            f"--dask {address}: {list_briefly(faults, most=3)}: a worker needs labkit, installed as here, and the "
            "checkout at the same path"
        )
    return n_threads
