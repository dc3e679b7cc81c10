"""Starting, finding and stopping fork servers: one that belongs to a run, or one kept for the checkout.

The server itself is `labkit.run.kernels.fork_server`; kernels are requested by `labkit.run.kernels.provisioner`.
"""

import hashlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from labkit import paths
from labkit.errors import LabkitError
from labkit.run.kernels import process_tree, socket_dirs
from labkit.storage.append import open_log

IDLE_SECONDS = 30 * 60
"""Time without a kernel after which a server without an owner ends."""
KEPT_SECONDS = 60 * 60
"""How long the checkpoint of a failed stage waits to be continued."""
LONGEST_START_SECONDS = 120
SERVER_STOP_SECONDS = 5
MOST_QUEUED = 64


@contextmanager
def open_kernel_server(*, is_cold: bool = False) -> Iterator[Path]:
    """Yield the address of a server that belongs to this process and ends with it; see `start_server`."""
    folder = socket_dirs.make_folder()
    server = start_server(folder / "kernels", is_cold=is_cold, is_owned=True)
    try:
        yield folder / "kernels"
    finally:
        end_server(server)
        socket_dirs.remove_folder(folder)


def start_server(address: Path, *, is_cold: bool, is_owned: bool) -> "subprocess.Popen[bytes]":
    """Start a server; clients that connect to its address while it still imports wait.

    Parameters
    ----------
    is_cold
        Import nothing: kernels are then ordinary processes, but watched and killed like warm ones.
    is_owned
        End it when this process ends, in whatever way.
    """
    root = "" if is_cold else str(paths.find_root())
    # -P: the current folder must not be on sys.path of kernels.
    program = [sys.executable, "-P", "-Xfrozen_modules=off", "-m", "labkit.run.kernels.fork_server"]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        open_log(find_log(is_owned=is_owned)) as log,
    ):
        listener.bind(str(address))
        listener.listen(MOST_QUEUED)
        return subprocess.Popen(
            [*program, str(address), root, str(IDLE_SECONDS), str(listener.fileno())],
            stdin=subprocess.PIPE if is_owned else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=paths.make_environment(),
            start_new_session=True,
            pass_fds=[listener.fileno()],
            # While it imports, for seconds, it cannot check whether this process is still running.
            preexec_fn=process_tree.make_tie() if is_owned else None,
        )


def find_log(*, is_owned: bool) -> Path:
    """Return the log file of a server: of the one kept for the checkout, or of the latest run's."""
    return paths.find_work_dir().parent / ("kernels.log" if is_owned else "warm.log")


def end_server(server: "subprocess.Popen[bytes]") -> None:
    """Stop a server that belongs to this process and wait until it has ended."""
    assert server.stdin
    server.stdin.close()
    try:
        server.wait(SERVER_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def find_server() -> Path | None:
    """Return the address of the checkout's server if one runs for this Python, its packages and settings."""
    try:
        address = make_address()
    except LabkitError:  # another user's folder: reported when a server is to be kept
        return None
    return address if ask_state(address, seconds=1) is not None else None


def keep_server(*, seconds: float = LONGEST_START_SECONDS) -> dict[str, Any]:
    """Start the checkout's server unless it is running, wait until it has imported everything, and return its state.

    Raises
    ------
    LabkitError
        Forks are unsafe on this system, or the server did not start.
    """
    if not process_tree.is_supported():
        raise LabkitError(f"warm kernels need Linux; on {sys.platform} ordinary ones start")
    address = make_address()
    # A server that still imports makes clients wait.
    state = ask_state(address, seconds=seconds)
    if state is None:
        stop_servers()
        address.parent.mkdir(mode=0o700, exist_ok=True)
        start_server(address, is_cold=False, is_owned=False)
        state = ask_state(address, seconds=seconds)
    if state is None:
        raise LabkitError(f"the server of warm kernels did not start: see {find_log(is_owned=False)}")
    return state


def ask_state(address: Path, *, seconds: float, environment: Mapping[str, str] | None = None) -> dict[str, Any] | None:
    """Return the state of a server, or None if it does not run or is still importing.

    Parameters
    ----------
    environment
        The environment that a kernel would get. The state of a checkpoint has a list `changed` of the variables that
        differ from its own.
    """
    request = {} if environment is None else {"env": dict(environment)}
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(address))
            connection.sendall(json.dumps(request).encode() + b"\n")
            state: dict[str, Any] = json.loads(connection.makefile().readline())
    except (OSError, ValueError):
        return None
    return state


def stop_servers() -> int:
    """Stop every server of the checkout, including those of an earlier lock or Python; return how many."""
    n_stopped, folder = 0, make_address().parent
    for address in folder.iterdir() if folder.exists() else []:
        state = ask_state(address, seconds=LONGEST_START_SECONDS)
        if state is not None:
            stop_process(state["pid"])
            n_stopped += 1
        address.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    return n_stopped


def stop_process(pid: int) -> None:
    """Ask a server to end and wait until it has; one that does not end is killed, and its keepers kill the kernels."""
    deadline = time.monotonic() + SERVER_STOP_SECONDS
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        while is_running(pid):
            # The exception by which the signal ends it is lost if it arrives while a finalizer runs.
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Return whether a process is running and not a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def make_address() -> Path:
    """Return the address of the checkout's server, in a private folder; its name is a digest of Python and packages.

    Raises
    ------
    LabkitError
        The folder exists and is not private to this user.
    """
    checkout = hashlib.sha256(str(paths.find_root()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-{checkout}"
    if folder.is_symlink() or folder.exists():
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise LabkitError(f"{folder}: not a private folder of this user: remove it")
    packages = Path(sysconfig.get_path("purelib"))
    made_of = [sys.executable, sys.version, str(packages.stat().st_mtime_ns), paths.get_variable("PYTHONPATH") or ""]
    return folder / hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]
