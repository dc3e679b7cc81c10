"""A Dask cluster of real processes, which tests kill."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import make_environment
from tests.run.small import wait_until

DASK = (sys.executable, "-m", "dask")


@contextmanager
def run_process(root: Path, *command: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a process for the time of the block."""
    environment = make_environment(root) | {"PYTHONUNBUFFERED": "1"}
    with (root / ".git" / "dask.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=root.parent, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in (process, *children):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


@contextmanager
def open_cluster(
    root: Path, n_workers: int, *, has_nannies: bool = False
) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """Start a scheduler and workers for the time of the block, and give its address and all processes, it first.

    A nanny is the parent of a worker, and starts another one when that was killed.
    """
    file = root.parent / "scheduler.json"
    file.unlink(missing_ok=True)
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-jupyter", "--scheduler-file", str(file))
    with ExitStack() as stack:
        processes = [stack.enter_context(run_process(root, *DASK, "scheduler", *options))]
        address = wait_until(lambda: file.exists() and file.read_text() and json.loads(file.read_text())["address"])
        for _ in range(n_workers):
            kind = "--nanny" if has_nannies else "--no-nanny"
            worker = ("worker", address, kind, "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
            processes.append(stack.enter_context(run_process(root, *DASK, *worker)))
        ask = f"import distributed; distributed.Client({address!r}).wait_for_workers({n_workers}, timeout=60)"
        if n_workers:
            subprocess.run([sys.executable, "-c", ask], check=True, timeout=120, cwd=root.parent)
        yield address, processes
