"""A process that has imported the large packages and forks a kernel for each request.

Run as `python -m labkit.run.kernels.fork_server ADDRESS ROOT IDLE_SECONDS SOCKET` by `labkit.run.kernels.servers`. For
each kernel it forks a keeper, which forks the kernel, passes on signals, reports its exit to the client, and kills all
its descendants as soon as the kernel, the client or the server has ended. The server ends with its owner: when a pipe
closes, and while it still imports by a signal of the system. Sole owner of ipykernel.

One connection is one kernel. The client sends one line of JSON with the files for stdout and stderr; it gets
`{"pid": …}`, then `{"ready": true}`, finally `{"exit": …}`, and may send `{"signal": …}` in between.
"""

import atexit
import gc
import importlib.util
import json
import os
import random
import selectors
import shutil
import signal
import socket
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from labkit.run.kernels import preload, process_tree

LONGEST_REQUEST_BYTES = 4_000_000
LONGEST_FLUSH_SECONDS = 2


@dataclass(frozen=True)
class KernelRequest:
    """A client's request: the kernel's command line, folder, environment and files, and the connection to reply on.

    A request without a command line asks for the server's state. `alive` closes when the server ends.
    """

    files: list[int]
    connection: socket.socket
    argv: list[str] = field(default_factory=list)
    cwd: str = ""
    env: dict[str, str] = field(default_factory=dict)
    alive: int = -1


class Server:
    """Listens on a private socket and forks a keeper per connection; always single-threaded.

    Parameters
    ----------
    address, listener
        Path of the socket, in a folder to which only this user has access, and the socket itself.
    owner
        File descriptor that closes when the process that started this one ends; None if the server has no owner.
    idle_seconds
        Time without a kernel after which the server ends; None: it does not.
    """

    def __init__(
        self, address: Path, *, listener: socket.socket, owner: int | None, idle_seconds: float | None
    ) -> None:
        self.address, self.listener, self.owner, self.idle_seconds = address, listener, owner, idle_seconds
        self.pid = os.getpid()
        # Keepers hold the reading end: it closes when this process ends, in whatever way.
        self.alive, self.alive_here = os.pipe()
        self.keepers: dict[int, int] = {}
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        if owner is not None:
            self.selector.register(owner, selectors.EVENT_READ)

    def serve(self) -> KernelRequest | None:
        """Serve until the owner has ended or the server is idle for too long; in a kernel, return its request."""
        while True:
            ready = [key.fd for key, _ in self.selector.select(None if self.keepers else self.idle_seconds)]
            if not ready or self.owner in ready:
                return None
            for file in ready:
                if file == self.listener.fileno():
                    if request := self.accept():
                        return request
                else:
                    self.forget(file)

    def accept(self) -> KernelRequest | None:
        """Accept one connection and fork its keeper; returns a request in the kernel only."""
        connection, _ = self.listener.accept()
        pid = os.fork()
        if pid == 0:
            self.selector.close()
            self.listener.close()
            for file in (self.alive_here, *self.keepers):
                os.close(file)
            return keep(connection, self.alive, self.describe)
        connection.close()
        watched = os.pidfd_open(pid)
        self.keepers[watched] = pid
        self.selector.register(watched, selectors.EVENT_READ)
        return None

    def forget(self, watched: int) -> None:
        """Reap a keeper that has ended, and kill what it left behind if it was killed."""
        self.selector.unregister(watched)
        os.close(watched)
        os.waitpid(self.keepers.pop(watched), 0)
        process_tree.end_descendants(frozenset(self.keepers.values()))

    def describe(self, request: KernelRequest) -> dict[str, Any]:
        """Return the state of the server."""
        return {"modules": len(sys.modules)}

    def close(self) -> None:
        """Kill every kernel and remove the socket with its folder."""
        if os.getpid() == self.pid:
            self.address.unlink(missing_ok=True)
            process_tree.end_descendants()
            if self.owner is not None:
                # The owner's own folder: if the owner was killed, nobody else removes it soon.
                shutil.rmtree(self.address.parent, ignore_errors=True)
            with suppress(OSError):  # not empty, or already removed
                self.address.parent.rmdir()


def keep(
    connection: socket.socket, server_alive: int, describe: Callable[[KernelRequest], dict[str, Any]]
) -> KernelRequest:
    """Act as the keeper of one kernel: start it, watch it, and clean up after it. Returns in the kernel only."""
    try:
        os.setsid()
        process_tree.adopt_orphans()
        request = read_request(connection)
        if not request.argv:
            send(connection, pid=os.getppid(), **describe(request))
            os._exit(0)
        keeper = os.getpid()
        kernel = os.fork()
    except Exception as error:  # reported to the client, which starts an ordinary kernel instead
        with suppress(OSError):
            send(connection, error=f"{type(error).__name__}: {error}")
        os._exit(1)
    if kernel == 0:
        process_tree.die_with(keeper)
        return replace(request, alive=server_alive)
    with suppress(OSError):
        for file in request.files:
            os.close(file)
        send(connection, pid=kernel, **({"ready": True} if is_cold() else {}))
        watch(connection, server_alive, kernel)
    process_tree.end_descendants()
    os._exit(0)


def read_request(connection: socket.socket) -> KernelRequest:
    """Read the client's request and the file descriptors sent with it."""
    line, files, _, _ = socket.recv_fds(connection, 65536, 2)
    while not line.endswith(b"\n"):
        more = connection.recv(65536)
        if not more or len(line) > LONGEST_REQUEST_BYTES:
            raise ValueError("the request was truncated")
        line += more
    return KernelRequest(**json.loads(line), files=list(files), connection=connection)


def send(connection: socket.socket, **message: Any) -> None:
    """Send one line of JSON."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def watch(connection: socket.socket, server_alive: int, kernel: int) -> None:
    """Pass signals on to the kernel until it, the client or the server has ended."""
    ended = os.pidfd_open(kernel)
    waiting = b""
    with selectors.DefaultSelector() as selector:
        for watched in (connection, server_alive, ended):
            selector.register(watched, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if ended in ready:
                _, status = os.waitpid(kernel, 0)
                process_tree.end_descendants()
                send(connection, exit=os.waitstatus_to_exitcode(status))
                return
            if server_alive in ready or not (more := connection.recv(4096)):
                return
            *lines, waiting = (waiting + more).split(b"\n")
            for line in lines:
                with suppress(ProcessLookupError):
                    os.killpg(kernel, json.loads(line)["signal"])


def become_kernel(request: KernelRequest) -> None:
    """Turn this process into the requested kernel; return when it has ended."""
    os.setsid()
    take_place(request)
    if is_cold():
        os.execvp(request.argv[0], request.argv)
    forget_modules()
    run_kernel(request)


def is_cold() -> bool:
    """Return whether this server imports nothing, so that kernels are executed as new programs."""
    return "ipykernel" not in sys.modules


def take_place(request: KernelRequest) -> None:
    """Set the files, signals, folder, environment and random seeds that a newly started process would have."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate([nothing, *request.files]):
        os.dup2(file, number)
        os.close(file)
    for name in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request.env, JPY_PARENT_PID=str(os.getppid()))
    os.chdir(request.cwd)
    time.tzset()
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()


def forget_modules() -> None:
    """Unload modules to import again: labkit, which may have been edited since the server started.

    Likewise the modules of tqdm that check at import whether they run in a notebook.
    """
    for name in list(sys.modules):
        if name.partition(".")[0] == "labkit" or name in ("tqdm.auto", "tqdm.autonotebook"):
            del sys.modules[name]
    importlib.invalidate_caches()


def run_kernel(request: KernelRequest) -> None:
    """Run ipykernel's own application with the arguments of the kernel's command line until it ends."""
    from ipykernel.kernelapp import IPKernelApp

    # Only now, because it was unloaded: this is the version that the checkout has.
    from labkit.run.kernels.checkpoint import Checkpoints

    # As behind `python -X… -m ipykernel_launcher`.
    launcher = importlib.util.find_spec("ipykernel_launcher")
    sys.argv = [str(launcher and launcher.origin), *request.argv[request.argv.index("ipykernel_launcher") + 1 :]]
    application: Any = IPKernelApp.instance(parent_handle=os.getppid())
    try:
        application.initialize(sys.argv[1:])
    except BaseException:
        # Its exit handler would wait for ever for the sockets that it had opened by then.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].install_repl_displayhook()
    Checkpoints(application, alive=request.alive, environment=request.env)
    serve_kernel(application, request)


def serve_kernel(application: Any, request: KernelRequest) -> NoReturn:
    """Report that the kernel is ready and serve it until it ends."""
    send(request.connection, ready=True)
    request.connection.close()
    application.start()
    # This thread stops by itself. Joined before the exit handlers, which close the streams that it still flushes.
    application.control_thread.join(LONGEST_FLUSH_SECONDS)
    end_at_once(application.shell.user_ns)


def end_at_once(variables: dict[str, Any]) -> NoReturn:
    """Exit as the interpreter does, but without tearing down thousands of modules, which takes 0.25 s."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    # Deleting the variables flushes files that the notebook never closed.
    variables.clear()
    gc.collect()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main(arguments: list[str]) -> None:
    """Import, then serve; clients that connect meanwhile wait. Without a root nothing is imported.

    A package that starts a thread when it is imported makes forks unsafe: the server then restarts without it.
    """
    address, root, idle_seconds, listening, *skipped = arguments
    os.environ.update(preload.QUIET)
    process_tree.adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    owner = 0 if stat.S_ISFIFO(os.fstat(0).st_mode) else None
    listener = socket.socket(fileno=int(listening))
    listener.set_inheritable(False)
    server = Server(Path(address), listener=listener, owner=owner, idle_seconds=float(idle_seconds))
    request = None
    try:
        names = [*preload.KERNEL_MODULES, *preload.find_modules(Path(root))] if root else []
        if offender := preload.import_all(names, skipped=skipped):
            # The socket stays open for clients that are waiting.
            listener.set_inheritable(True)
            again = [address, root, idle_seconds, str(listener.fileno()), *skipped, offender]
            os.execv(sys.executable, [*sys.orig_argv[: -len(arguments)], *again])
        # From here on the server watches its owner itself, and kills its descendants before it ends.
        process_tree.outlive_parent()
        request = server.serve()
    finally:
        server.close()
    if request:
        become_kernel(request)


if __name__ == "__main__":
    main(sys.argv[1:])
