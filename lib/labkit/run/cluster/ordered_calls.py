"""Calls of one function on the workers of a cluster, whose results are taken in the order of the calls.

What a killed worker had to do, Dask gives to another one. What was sent to the workers for all calls is lost if they
have all been killed, even where they start again: then it is sent again, and so are the calls.
"""

import time
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import distributed

from labkit.errors import StageError
from labkit.run.cluster.connection import Cluster
from labkit.units import format_count

POLL_SECONDS = 1.0
MOST_ATTEMPTS = 3
"""How often a call is sent; Dask, too, gives up on a call after it was lost with several workers."""


@dataclass
class Call:
    """A call under way.

    Attributes
    ----------
    future
        Its result.
    shared
        What it was sent for all calls.
    n_attempts
        How often it was sent.
    """

    arguments: tuple[Any, ...]
    future: "distributed.Future[Any]"
    shared: "distributed.Future[Any]"
    n_attempts: int = 1


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
    kept
        See `labkit.run.cluster.connection.Cluster.describe_loss`.

    Attributes
    ----------
    n_ahead
        Calls to make before the result of the first is needed: enough that no worker waits for the client.

    Raises
    ------
    StageError
        The scheduler, or every worker, is gone.
    """

    def __init__(
        self, cluster: Cluster, function: Callable[..., Any], shared: Any, *, unit: str, kept: str = ""
    ) -> None:
        self.cluster, self.function, self.unit, self.kept = cluster, function, unit, kept
        self.content, self.n_ahead, self.n_waiting = shared, 2 * cluster.n_threads, 0
        self.shared = self.send_shared()

    def send_shared(self) -> "distributed.Future[Any]":
        """Send the workers what all calls need."""
        try:
            sent: distributed.Future[Any] = self.cluster.client.scatter(self.content, broadcast=True, hash=False)
        except Exception as error:  # whatever Dask raises without its scheduler or workers
            raise self.describe_loss() from error
        return sent

    def send(self, arguments: tuple[Any, ...]) -> "distributed.Future[Any]":
        """Send a call."""
        try:
            with warnings.catch_warnings():
                # Dask advises against large arguments, which are what there is to do here.
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                return self.cluster.client.submit(self.function, self.shared, *arguments, pure=False)
        except Exception as error:  # whatever Dask raises without its scheduler
            raise self.describe_loss() from error

    def submit(self, *arguments: Any) -> Callable[[], Any]:
        """Start a call, and return what waits for its result.

        Raises
        ------
        StageError
            The scheduler is gone.
        """
        call = Call(arguments, self.send(arguments), self.shared)
        self.n_waiting += 1
        return lambda: self.take(call)

    def take(self, call: Call) -> Any:
        """Wait for the result of a call.

        Raises
        ------
        StageError
            The scheduler is gone, or one worker after the other was killed during this call.
        LabkitError
            The function raised it.
        """
        while True:
            if self.cluster.client.status != "running":
                raise self.describe_loss()
            try:
                if call.future.status in ("finished", "error"):
                    result = call.future.result()
                    self.n_waiting -= 1
                    return result
                # A result that is lost with its worker is computed again.
                with suppress(TimeoutError):
                    distributed.wait([call.future], timeout=POLL_SECONDS)
            except distributed.KilledWorker as error:
                raise self.describe_kills() from error
            except OSError as error:  # of the function, or of the connection
                if self.cluster.client.status == "running":
                    raise
                raise self.describe_loss() from error
            except CancelledError:
                # Also of a result that was lost since the status was read.
                self.wait_for_status()
                self.send_again(call)

    def wait_for_status(self) -> None:
        """Give the client time to notice that the scheduler is gone, which cancels all calls too."""
        time.sleep(POLL_SECONDS)
        if self.cluster.client.status != "running":
            raise self.describe_loss()

    def send_again(self, call: Call) -> None:
        """Send a call again that was lost with what all calls need."""
        if call.n_attempts == MOST_ATTEMPTS:
            raise self.describe_kills()
        if call.shared is self.shared:
            self.shared = self.send_shared()
        call.future, call.shared = self.send(call.arguments), self.shared
        call.n_attempts += 1

    def describe_kills(self) -> StageError:
        """Return the error for a call whose workers are killed again and again."""
        return StageError(
            f"{self.cluster.place}: its workers are killed by a {self.unit} again and again: do they have enough "
            "memory? Give each fewer threads, or run without --dask"
        )

    def describe_loss(self) -> StageError:
        """Return the error for a scheduler that is gone."""
        return self.cluster.describe_loss(format_count(self.n_waiting, self.unit), kept=self.kept)
