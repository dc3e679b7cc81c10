"""The process that forks those which fit, and its companion: ended with them, so that a kernel has no children left."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process, forkserver, resource_tracker
from typing import Any


@contextmanager
def end_fork_server() -> Iterator[None]:
    """End what this block starts of the fork server and the resource tracker, unless they ran before it.

    Their socket is in a folder that ends with the block, too: that of multiprocessing ends with this process, while a
    copy of this process would still use it.
    """
    server: Any = forkserver._forkserver
    tracker: Any = resource_tracker._resource_tracker
    before = server._forkserver_pid, tracker._pid
    settings: Any = current_process()._config  # type: ignore[attr-defined]
    usual = settings.get("tempdir")
    with tempfile.TemporaryDirectory(prefix="pymp-") as folder:
        settings["tempdir"] = folder
        try:
            yield
        finally:
            settings["tempdir"] = usual
            # Killed first: to end by themselves, both would wait for every process that inherited their pipes.
            if before[0] is None and server._forkserver_pid is not None:
                os.kill(server._forkserver_pid, signal.SIGKILL)
                server._stop()
            if before[1] is None and tracker._pid is not None:
                os.kill(tracker._pid, signal.SIGKILL)
                tracker._stop()
