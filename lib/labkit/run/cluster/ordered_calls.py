"""Calls of one function on the workers of a cluster, whose results are taken in the order of the calls.

What a killed worker had to do, Dask gives to another one.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

import distributed

from labkit.errors import StageError
from labkit.run.cluster.connection import Cluster
from labkit.units import format_count

POLL_SECONDS = 1.0


class OrderedCalls:
    """Calls under way.

    Parameters
    ----------
    function
        Called with `shared` and the arguments of `submit`; workers import it.
    shared
        What all calls need; each worker is sent it once and keeps it.
    unit
        What one call does, in the singular, for messages, such as "part".

    Attributes
    ----------
    n_ahead
        Calls to make before the result of the first is needed: enough that no worker waits for the client.
    """

    def __init__(self, cluster: Cluster, function: Callable[..., Any], shared: Any, *, unit: str) -> None:
        self.cluster, self.function, self.unit = cluster, function, unit
        self.shared = cluster.client.scatter(shared, broadcast=True, hash=False)
        self.n_ahead, self.n_waiting = 2 * cluster.n_threads, 0

    def submit(self, *arguments: Any) -> Callable[[], Any]:
        """Start a call, and return what waits for its result.

        Raises
        ------
        StageError
            The scheduler is gone.
        """
        try:
            with warnings.catch_warnings():
                # Dask advises against large arguments, which are what there is to do here.
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                future = self.cluster.client.submit(self.function, self.shared, *arguments, pure=False)
        except Exception as error:  # whatever Dask raises without its scheduler
            raise self.describe_loss() from error
        self.n_waiting += 1
        return lambda: self.take(future)

    def take(self, future: "distributed.Future[Any]") -> Any:
        """Wait for the result of a call.

        Raises
        ------
        StageError
            The scheduler is gone, or one worker after the other was killed during this call.
        LabkitError
            The function raised it.
        """
        # A result that is lost with its worker is computed again.
        while future.status not in ("finished", "error"):
            if self.cluster.client.status != "running" or future.status == "cancelled":
                raise self.describe_loss()
            with suppress(TimeoutError, CancelledError):
                distributed.wait([future], timeout=POLL_SECONDS)
        self.n_waiting -= 1
        try:
            return future.result()
        except distributed.KilledWorker as error:
            raise StageError(
                f"{self.cluster.place}: its workers are killed by a {self.unit} again and again: do they have enough "
                "memory? Give each fewer threads, or run without --dask"
            ) from error
        except (CancelledError, OSError) as error:
            if self.cluster.client.status == "running":
                raise
            raise self.describe_loss() from error

    def describe_loss(self) -> StageError:
        """Return the error for a scheduler that is gone."""
        return self.cluster.describe_loss(format_count(self.n_waiting, self.unit))
