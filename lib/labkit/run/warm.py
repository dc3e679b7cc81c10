"""How kernels start: as forks of a process that has imported everything, on private sockets.

`WarmProvisioner` plugs into Jupyter through its official extension point, so papermill and JupyterLab use it alike; the
kernelspec that names it ships in `jupyter/` beside this file and is found through JUPYTER_PATH. Where no server answers
or forks are unsafe, the same class starts an ordinary kernel and says so. Sole owner of jupyter_client. Read next:
`labkit.run.forkserver`, the other side.
"""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner

from labkit import paths
from labkit.errors import LabkitError
from labkit.run import supervise

IDLE_SECONDS = 30 * 60
"""A server that nobody owns ends itself after this long without a kernel."""
LONGEST_START_SECONDS = 120
LONGEST_GOODBYE_SECONDS = 5


class WarmProcess:
    """A kernel behind a keeper, with the part of `subprocess.Popen` that Jupyter uses.

    Parameters
    ----------
    connection
        Open to the keeper; when it closes, the kernel and everything it started are ended.
    """

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = 0
        self.returncode: int | None = None
        self.unread = b""

    def start(self, request: dict[str, Any], files: list[int]) -> None:
        """Ask for a kernel and wait until it listens.

        Raises
        ------
        OSError
            There is no kernel to be had here.
        """
        text = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self.connection, [text[:65536]], files)
        self.connection.sendall(text[sent:])
        self.connection.settimeout(LONGEST_START_SECONDS)
        message: dict[str, Any] | None = {}
        while message is not None and "ready" not in message:
            message = self.read()
            if message is None or "error" in message or "exit" in message:
                raise OSError((message or {}).get("error", "it ended as it started"))
            self.pid = message.get("pid", self.pid)

    def read(self) -> dict[str, Any] | None:
        """Return the keeper's next message, None when there will be no more."""
        while b"\n" not in self.unread:
            more = self.connection.recv(65536)
            if not more:
                return None
            self.unread += more
        line, _, self.unread = self.unread.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        self.returncode = message.get("exit", self.returncode)
        return message

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while the kernel runs."""
        self.connection.settimeout(0)
        try:
            while self.returncode is None:
                if self.read() is None:
                    self.returncode = -signal.SIGKILL
        except BlockingIOError:
            pass
        except OSError:
            self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("kernel", timeout or 0)
            time.sleep(0.01)
        self.connection.close()
        return self.returncode or 0

    def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group."""
        with suppress(OSError):
            self.connection.settimeout(None)
            self.connection.sendall(json.dumps({"signal": int(signum)}).encode() + b"\n")

    def kill(self) -> None:
        """End the kernel."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the kernel to end."""
        self.send_signal(signal.SIGTERM)


class WarmProvisioner(LocalProvisioner):  # type: ignore[misc]
    """Starts kernels as forks of the checkout's server, else ordinary ones; always on sockets in a private folder."""

    folder: str | None = None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose where the kernel's sockets are: TCP ports race under load, and any local user can reach them.

        The folder is not below the checkout, because the path of a socket may have 107 characters at most.
        """
        if supervise.is_supported() and self.folder is None and self.parent is not None:
            self.folder = tempfile.mkdtemp(prefix="labkit-")
            manager = self.parent
            manager.transport, manager.ip, manager.cache_ports = "ipc", f"{self.folder}/kernel", False
            if not manager.connection_file:
                manager.connection_file = f"{self.folder}/connection.json"
        arguments: dict[str, Any] = await super().pre_launch(**kwargs)
        return arguments

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Fork a kernel off the server, or start an ordinary one."""
        address = paths.get_warm_address()
        if address and supervise.is_supported():
            try:
                self.process = await asyncio.to_thread(self.ask_server, address, cmd, kwargs)
            except OSError as error:
                self.log.warning("labkit: no warm kernel (%s); an ordinary one starts", error)
            else:
                self.pid, self.pgid, self.cwd = self.process.pid, None, kwargs.get("cwd")
                return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    def ask_server(self, address: Path, cmd: list[str], kwargs: dict[str, Any]) -> WarmProcess:
        """Return a kernel of the server at an address."""
        environment = {**os.environ} if kwargs.get("env") is None else kwargs["env"]
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(address))
            process = WarmProcess(connection)
            folder = str(kwargs.get("cwd") or Path.cwd())
            files = [find_file(kwargs.get(name), number) for name, number in (("stdout", 1), ("stderr", 2))]
            process.start({"argv": cmd, "cwd": folder, "env": environment}, files)
        except (OSError, ValueError) as error:
            connection.close()
            raise OSError(str(error)) from error
        return process

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Wait for the kernel's own end, at a finer step than Jupyter does."""
        for _ in range(int(LONGEST_GOODBYE_SECONDS / 0.005)):
            if await self.poll() is not None:
                return
            await asyncio.sleep(0.005)

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the sockets once the kernel is not to be started again."""
        await super().cleanup(restart)
        if self.folder and not restart:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def find_file(stream: Any, number: int) -> int:
    """Return the file descriptor for one of the kernel's streams, given as `subprocess.Popen` takes it."""
    if stream is None:
        return number
    return stream if isinstance(stream, int) else int(stream.fileno())


@contextmanager
def open_server(*, is_cold: bool = False) -> Iterator[Path]:
    """Yield the address of a server of this process's own, which ends with it.

    Parameters
    ----------
    is_cold
        Import nothing: kernels are ordinary processes then, but watched and ended like warm ones.
    """
    folder = Path(tempfile.mkdtemp(prefix="labkit-"))
    server = start_server(folder / "kernels", is_cold=is_cold, is_owned=True)
    try:
        yield folder / "kernels"
    finally:
        assert server.stdin
        server.stdin.close()
        try:
            server.wait(LONGEST_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def start_server(address: Path, *, is_cold: bool, is_owned: bool) -> "subprocess.Popen[bytes]":
    """Start a server and wait until its socket is there; it may still be importing then."""
    root = "" if is_cold else str(paths.find_root())
    program = [sys.executable, "-Xfrozen_modules=off", "-m", "labkit.run.forkserver"]
    with (paths.find_work_dir().parent / "warm.log").open("wb") as log:
        server = subprocess.Popen(
            [*program, str(address), root, str(IDLE_SECONDS)],
            stdin=subprocess.PIPE if is_owned else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=paths.make_environment(),
            start_new_session=True,
        )
    for _ in range(10 * LONGEST_GOODBYE_SECONDS):
        if address.exists() or server.poll() is not None:
            break
        time.sleep(0.1)
    return server


def find_server() -> Path | None:
    """Return the address of the checkout's server if one answers that fits this Python, its packages and settings."""
    address = make_address()
    return address if ask_state(address, seconds=1) is not None else None


def keep_server(*, seconds: float = LONGEST_START_SECONDS) -> dict[str, Any]:
    """Start the checkout's server unless it runs, wait until it has imported everything, and return its state.

    Raises
    ------
    LabkitError
        Forks are unsafe on this system, or the server did not come up.
    """
    if not supervise.is_supported():
        raise LabkitError(f"warm kernels need Linux; on {sys.platform} ordinary ones start")
    address = make_address()
    if ask_state(address, seconds=1) is None:
        stop_servers()
        start_server(address, is_cold=False, is_owned=False)
    state = ask_state(address, seconds=seconds)
    if state is None:
        raise LabkitError(f"the server of warm kernels did not start: see {paths.find_work_dir().parent / 'warm.log'}")
    return state


def ask_state(address: Path, *, seconds: float) -> dict[str, Any] | None:
    """Return what a server says of itself, `pid` and `modules`; None if there is none or it has not yet imported."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect(str(address))
            connection.sendall(b"{}\n")
            state: dict[str, Any] = json.loads(connection.makefile().readline())
    except (OSError, ValueError):
        return None
    return state


def stop_servers() -> int:
    """End every server of the checkout, those of an earlier lock or Python too; return how many."""
    n_stopped = 0
    for address in make_address().parent.iterdir():
        state = ask_state(address, seconds=LONGEST_START_SECONDS)
        if state is not None:
            os.kill(state["pid"], signal.SIGTERM)
            n_stopped += 1
        while address.exists() and state is not None and ask_state(address, seconds=1):
            time.sleep(0.05)
        address.unlink(missing_ok=True)
    return n_stopped


def make_address() -> Path:
    """Return where the checkout's server listens: its name tells what it has imported, its folder is this user's own.

    Raises
    ------
    LabkitError
        Somebody else has made the folder.
    """
    checkout = hashlib.sha256(str(paths.find_root()).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"labkit-{os.getuid()}-{checkout}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise LabkitError(f"{folder}: not a private folder of yours: remove it")
    packages = Path(sysconfig.get_path("purelib"))
    made_of = [sys.executable, sys.version, str(packages.stat().st_mtime_ns), os.environ.get("PYTHONPATH", "")]
    return folder / hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]
