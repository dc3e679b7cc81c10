"""The process of a node that a worker of a Dask cluster starts. It ends with the worker.

It gets its task as a line of JSON. A node that another worker finished already, before Dask lost that one, is not run
again.
"""

import json
import os
import select
import signal
import sys
from pathlib import Path

from labkit.sweep.dask_node import STOP
from labkit.sweep.nodes import MARKER
from labkit.sweep.worker import Task, run_task

POLL_SECONDS = 1.0


def main() -> None:
    """Run the node that the first line of the input describes."""
    given = json.loads(sys.stdin.readline())
    task = Task(**given | {"root": Path(given["root"])})
    if not (task.root / MARKER).is_file():
        run_task(task, watch=lambda: end_with_worker(task.root))


def end_with_worker(root: Path) -> None:
    """Kill this process once its worker has ended, and interrupt it once the sweep asks for that."""
    while not (root / STOP).exists():
        if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
