"""The process of a node that a worker of a Dask cluster starts. It ends with the worker.

Its argument is the root of a light checkout, which has its task in a file that only its owner can read: a task may
contain a password, and Dask logs the arguments of what it runs. A node that another worker finished already, before
Dask lost that one, is not run again.
"""

import json
import math
import os
import select
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from labkit.storage.atomic import write_text
from labkit.sweep.dask_node import STOP
from labkit.sweep.engine import STOP_SECONDS
from labkit.sweep.nodes import MARKER
from labkit.sweep.worker import Task, run_task

TASK = ".labkit/task.json"
"""File of a light checkout with the task of its node, as long as it is under way."""
POLL_SECONDS = 1.0


def main() -> None:
    """Run the node of the light checkout that the argument names."""
    root = Path(sys.argv[1])
    if not (root / MARKER).is_file():
        run_task(load_task(root), watch=lambda: end_with_worker(root))


def save_task(task: Task) -> None:
    """Write a task into its light checkout, readable by its owner only."""
    write_text(task.root / TASK, json.dumps(asdict(task) | {"root": str(task.root)}), mode=0o600)


def load_task(root: Path) -> Task:
    """Read the task of a light checkout."""
    given = json.loads((root / TASK).read_bytes())
    return Task(**given | {"root": Path(given["root"])})


def remove_task(task: Task) -> None:
    """Remove the file of a task that has ended."""
    (task.root / TASK).unlink(missing_ok=True)


def end_with_worker(root: Path) -> None:
    """Kill this process once its worker has ended, or some time after interrupting it for the sweep."""
    end = math.inf
    while time.monotonic() < end:
        if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            break
        if end == math.inf and (root / STOP).exists():
            os.kill(os.getpid(), signal.SIGTERM)
            end = time.monotonic() + STOP_SECONDS
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
