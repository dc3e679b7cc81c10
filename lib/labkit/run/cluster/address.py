"""Addresses of clusters, as commands take them. Dask is imported only where a command is given one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from labkit.console import make_printable
from labkit.errors import ParamsError

if TYPE_CHECKING:
    from labkit.run.cluster.connection import Cluster

LOCAL = "local"
SCHEMES = ("tcp://", "tls://")


@contextmanager
def open_cluster(address: str, *, n_workers: int) -> Iterator["Cluster"]:
    """Connect to the cluster of `--dask` for the time of the block.

    Parameters
    ----------
    address
        `local` for a cluster of this machine, or the address of a scheduler such as `tcp://10.0.0.1:8786`.
    n_workers
        Number of workers of a local cluster.

    Raises
    ------
    ParamsError
        Dask is not installed, this is no address, or there is no such cluster.
    """
    if address != LOCAL and not (address.startswith(SCHEMES) and make_printable(address) == address):
        raise ParamsError(
            f"--dask {make_printable(address)}: not the address of a scheduler: write e.g. tcp://10.0.0.1:8786"
        )
    try:
        from labkit.run.cluster.connection import connect, start_local
    except ImportError as error:
        raise ParamsError(f"--dask needs Dask ({error}): pip install 'labkit[cluster]'") from error
    with start_local(n_workers) if address == LOCAL else connect(address) as cluster:
        yield cluster
