"""What a worker of a Dask cluster does: starts a node as a process, and waits for it.

Imported by every worker, so it imports little itself.
"""

import subprocess
import sys

STOP = ".labkit/stop"
"""File of a light checkout that lets its node end."""


def run_node(root: str) -> int:
    """Run a node and return the exit code of its process, which ends with this one.

    Parameters
    ----------
    root
        Its light checkout, which has its task: Dask logs what is given here.
    """
    command = [sys.executable, "-m", "labkit.sweep.node_process", root]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as process:
        return process.wait()  # the pipe stays open until then
