"""Jupyter provisioner that starts kernels as forks of a warm server, on private sockets.

`WarmProvisioner` plugs into Jupyter through its official extension point, so that papermill and JupyterLab both use it;
its kernelspec is in `jupyter/` beside this file and found through JUPYTER_PATH. If no server responds or forks are
unsafe, it starts an ordinary kernel and logs a warning. Sole owner of jupyter_client. Read next:
`labkit.run.kernels.fork_server`, the other side.
"""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from jupyter_core.paths import jupyter_path

from labkit import paths
from labkit.errors import LabkitError
from labkit.run.kernels import process_tree, servers, socket_dirs

KERNEL_STOP_SECONDS = 2
KERNEL_POLL_SECONDS = 0.005


class WarmProcess:
    """A kernel run by a keeper, with the part of the interface of `subprocess.Popen` that Jupyter uses.

    Parameters
    ----------
    connection
        Connection to the keeper; when it closes, the kernel and everything that it started are killed.
    """

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.pid = 0
        self.returncode: int | None = None
        self.unread = b""

    def start(self, request: dict[str, Any], files: list[int]) -> None:
        """Request a kernel and wait until it listens.

        Raises
        ------
        OSError
            The server did not start a kernel.
        """
        line = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self.connection, [line[:65536]], files)
        self.connection.sendall(line[sent:])
        self.connection.settimeout(servers.LONGEST_START_SECONDS)
        message: dict[str, Any] | None = {}
        while message is not None and "ready" not in message:
            message = self.read()
            if message is None or "error" in message or "exit" in message:
                raise OSError((message or {}).get("error", "it ended during startup"))
            self.pid = message.get("pid", self.pid)

    def read(self) -> dict[str, Any] | None:
        """Return the keeper's next message, None if the connection is closed."""
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
        """Wait until the kernel has ended and return the exit code."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("kernel", timeout or 0)
            time.sleep(KERNEL_POLL_SECONDS)
        self.connection.close()
        return self.returncode or 0

    def send_signal(self, signum: int) -> None:
        """Send a signal to the kernel's process group."""
        with suppress(OSError):
            self.connection.settimeout(None)
            self.connection.sendall(json.dumps({"signal": int(signum)}).encode() + b"\n")

    def kill(self) -> None:
        """Kill the kernel."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM to the kernel."""
        self.send_signal(signal.SIGTERM)


class WarmProvisioner(LocalProvisioner):
    """Starts kernels as forks of the checkout's server or as ordinary processes, on sockets in a private folder."""

    folder: Path | None = None
    process: Any = None
    checkpoint: Path | None = None
    """Address of the checkpoint to continue, in the place of a new kernel."""

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Put the kernel's sockets into a private folder: TCP ports race under load and are open to any local user."""
        self.checkpoint = kwargs.pop("checkpoint", None)
        if process_tree.is_supported() and self.folder is None and self.parent is not None:
            self.folder = socket_dirs.make_folder()
            manager = self.parent
            manager.transport, manager.ip, manager.cache_ports = "ipc", f"{self.folder}/kernel", False
            if not manager.connection_file:
                manager.connection_file = f"{self.folder}/connection.json"
        arguments: dict[str, Any] = await super().pre_launch(**kwargs)
        return arguments

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Request a kernel from the server, or start an ordinary one."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A listening socket accepts at once, however long its process is busy with imports.
            connection.connect(str(self.checkpoint or find_address()))
            self.process = await asyncio.to_thread(self.ask_server, connection, cmd, kwargs)
        except asyncio.CancelledError:
            # Cancelling waits for the thread, which waits for a reply. The keeper also notices the closed connection.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            raise
        except (OSError, ValueError, LabkitError) as error:
            connection.close()
            if self.checkpoint:
                raise LabkitError(f"the kernel could not be continued ({error})") from error
            self.log.warning("labkit: no warm kernel (%s); starting an ordinary one", error)
        else:
            self.pid, self.pgid, self.cwd = self.process.pid, None, kwargs.get("cwd")
            return self.connection_info
        return await super().launch_kernel(cmd, **kwargs)

    def ask_server(self, connection: socket.socket, cmd: list[str], kwargs: dict[str, Any]) -> WarmProcess:
        """Return a kernel of the server that a socket is connected to."""
        environment = paths.copy_environment() if kwargs.get("env") is None else kwargs["env"]
        process = WarmProcess(connection)
        folder = str(kwargs.get("cwd") or Path.cwd())
        files = [find_descriptor(kwargs.get(name), number) for name, number in (("stdout", 1), ("stderr", 2))]
        process.start({"argv": cmd, "cwd": folder, "env": environment}, files)
        return process

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Wait for the kernel to end, polling more often than Jupyter does."""
        for _ in range(int(KERNEL_STOP_SECONDS / KERNEL_POLL_SECONDS)):
            if await self.poll() is not None:
                return
            await asyncio.sleep(KERNEL_POLL_SECONDS)

    async def cleanup(self, restart: bool = False) -> None:
        """Remove the sockets unless the kernel is being restarted."""
        await super().cleanup(restart)
        if self.folder and not restart:
            socket_dirs.remove_folder(self.folder)
            self.folder = None


def find_address() -> Path:
    """Return the socket of the server to fork kernels from: from the environment variable, or the checkout's.

    Raises
    ------
    LabkitError
        Forks are unsafe on this system, no server is running, or this is not a checkout.
    """
    named = paths.get_warm_address()
    if named == "" or not process_tree.is_supported():
        raise LabkitError("none was requested" if named == "" else f"not on {sys.platform}")
    address = Path(named) if named else servers.make_address()
    if not address.exists():
        raise LabkitError("no server is running for this checkout: `labkit warm` starts one")
    return address


def make_kernel_specs() -> KernelSpecManager:
    """Return a manager that finds labkit's own kernelspec first, regardless of the environment."""
    folders = [str(paths.KERNELS_DIR / "kernels"), *jupyter_path("kernels")]
    # Given in full: to add IPython's folder, which is never used, the manager would import all of IPython.
    return KernelSpecManager(kernel_dirs=folders)


def find_descriptor(stream: Any, number: int) -> int:
    """Return the file descriptor of one of the kernel's streams, given in the form that `subprocess.Popen` accepts."""
    if stream is None:
        return number
    return stream if isinstance(stream, int) else int(stream.fileno())
