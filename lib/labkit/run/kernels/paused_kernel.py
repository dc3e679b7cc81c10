"""A paused copy of a kernel, and being a kernel again.

The copy ends with the run, unless the runner has it kept; then it waits on its socket, as the server does, and each
kernel that is requested from it is again a fork, which first connects to its new runner.
"""

import asyncio
import atexit
import ctypes
import os
import random
import select
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from traitlets.utils.importstring import import_item

from labkit import paths
from labkit.run.kernels import fork_safety, fork_server, process_tree, servers, socket_dirs
from labkit.run.kernels.checkpoint import Checkpoints, end_child, list_open_files
from labkit.run.memory import KEPT_NAME, PENDING_NAME
from labkit.run.tracing import trace

SOON_SECONDS = 5 * 60
"""How long a checkpoint that is to be kept waits to be told so a second time, when its record is written."""
LONGEST_FORK_SECONDS = 20
SOCKET_NAME = "checkpoint"
OWN_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM)
OF_SESSION = (
    "COLORTERM", "COLUMNS", "DBUS_", "DISPLAY", "HOSTNAME", "INVOCATION_ID", "JOURNAL_STREAM", "JPY_", "KMP_",
    "LABKIT_", "LINES", "LS_COLORS", "MAKEFLAGS", "MAKELEVEL", "MAKE_", "MFLAGS", "MLFLOW_RUN_ID", "OLDPWD", "PWD",
    "PYARROW_IGNORE_TIMEZONE", "SHLVL", "SPARK_LOCAL_IP", "SSH_", "STY", "TERM", "TERM_", "TMUX",
    "TMUX_PANE", "VSCODE_", "VTE_", "WAYLAND_DISPLAY", "WINDOWID", "XDG_", "_", "_MLFLOW_",
)  # fmt: skip
"""Variables, and beginnings of their names, that differ between runs and terminals, or that libraries set."""


def fork_checkpoint(checkpoints: Checkpoints) -> dict[str, Any]:
    """Fork a checkpoint of this kernel; return its process and address, or what keeps the kernel from it."""
    application = checkpoints.application
    check = fork_safety.check_fork(checkpoints.own_files, {checkpoints.pid}, address=f"{application.ip}-")
    if check.obstacle:
        return {"obstacle": check.obstacle}
    for stream in list_streams(application):
        stream.flush()
    ctypes.CDLL(None).fflush(None)
    seeds, name = random.getstate(), process_tree.get_name(os.getpid())
    reader, writer = os.pipe()
    # From its first moment, so that its memory never counts as the kernel's.
    process_tree.set_name(PENDING_NAME)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        PausedKernel(checkpoints, check.positions).run(writer, seeds)
    process_tree.set_name(name)
    os.close(writer)
    address = read_address(reader)
    if not address:
        end_child(pid)
        return {"obstacle": "the copy of the kernel did not start"}
    return {"pid": pid, "address": address, "modules": list_modules()}


def read_address(reader: int) -> str:
    """Return the address that a checkpoint reports, empty if it does not in time."""
    try:
        ready, _, _ = select.select([reader], [], [], LONGEST_FORK_SECONDS)
        return os.read(reader, 4096).decode() if ready else ""
    finally:
        os.close(reader)


def list_modules() -> list[str]:
    """Return the files of the modules of the checkout and of labkit that are loaded."""
    tops = tuple(f"{folder.resolve()}{os.sep}" for folder in (paths.PACKAGE_DIR, paths.find_root()))
    installed = f"{Path(sys.prefix).resolve()}{os.sep}"
    found = set()
    for module in list(sys.modules.values()):
        # Not by `getattr`, which makes lazy modules import.
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.startswith(tops) and not file.startswith(installed):
            found.add(file)
    return sorted(found)


class PausedKernel(fork_server.Server):
    """The server that a checkpoint becomes, from which continued kernels are forked."""

    def __init__(self, checkpoints: Checkpoints, positions: dict[int, int]) -> None:
        self.checkpoints, self.positions, self.wait_seconds = checkpoints, positions, 0

    def run(self, writer: int, seeds: Any) -> NoReturn:
        """Wait in this process, a fork of the kernel, until it has to end; in a fork of it, be the kernel."""
        request = None
        try:
            trace.set_recording(False)
            # Libraries may close theirs in a fork, as matplotlib does with fonts.
            opened = list_open_files()
            self.positions = {number: place for number, place in self.positions.items() if number in opened}
            os.setsid()
            self.set_signals()
            self.open(writer)
            request = self.serve()
            if request:
                self.continue_kernel(request, seeds)
        except BaseException:
            # Shown in the raw output of the run that asked for a kernel; others do without this checkpoint.
            with suppress(OSError):
                os.write(2, traceback.format_exc().encode())
            os._exit(1)
        self.close()
        os._exit(0)

    def set_signals(self) -> None:
        """Let signals end this process, keep it, or pass it by; none may reach the kernel's event loop."""
        signal.set_wakeup_fd(-1)
        self.handlers = {number: signal.getsignal(number) for number in OWN_SIGNALS}
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.keep)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, lambda *_: self.end())

    def open(self, writer: int) -> None:
        """Listen on a socket in a folder of this process, and report its address."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number in (0, 1, 2, *self.list_copies()):
            os.dup2(nothing, number)
        os.close(nothing)
        process_tree.adopt_orphans()
        self.folder = socket_dirs.make_folder()
        address = self.folder / SOCKET_NAME
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(address))
        listener.listen()
        super().__init__(address, listener=listener, owner=self.checkpoints.alive, idle_seconds=None)
        os.write(writer, str(address).encode())
        os.close(writer)

    def list_copies(self) -> list[int]:
        """Return the descriptors by which the kernel's streams hold the runner's file."""
        streams = list_streams(self.checkpoints.application)
        return [copy for stream in streams if (copy := getattr(stream, "_original_stdstream_copy", None)) is not None]

    def keep(self, *_: Any) -> None:
        """Outlive the run, for a limited time: first until its record is written, then until it is of no use."""
        if self.owner is not None:
            self.selector.unregister(self.owner)
            self.owner, self.wait_seconds = None, SOON_SECONDS
        else:
            self.wait_seconds = servers.KEPT_SECONDS
        signal.alarm(self.wait_seconds)
        process_tree.set_name(KEPT_NAME)

    def accept(self) -> fork_server.KernelRequest | None:
        """Fork a kernel, and wait as long as it runs."""
        signal.alarm(0)
        request = super().accept()
        if os.getpid() != self.pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        return request

    def forget(self, watched: int) -> None:
        """Wait again for a limited time when a kernel has ended."""
        super().forget(watched)
        if self.owner is None and not self.keepers:
            signal.alarm(self.wait_seconds)

    def end(self) -> NoReturn:
        """End this process, unless it is a fork that has not become a kernel yet."""
        self.close()
        os._exit(0)

    def close(self) -> None:
        """Kill the kernels forked from here and remove the socket with its folder."""
        if os.getpid() == self.pid:
            process_tree.end_descendants()
            socket_dirs.remove_folder(self.folder)

    def describe(self, request: fork_server.KernelRequest) -> dict[str, Any]:
        """Return the environment variables that differ from those that the kernel was started with."""
        before, now = self.checkpoints.environment, request.env
        changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        return {"changed": sorted(name for name in changed if not is_of_session(name))}

    def continue_kernel(self, request: fork_server.KernelRequest, seeds: Any) -> NoReturn:
        """Be the kernel again, in this process, a fork of the checkpoint, for another runner."""
        os.setsid()
        process_tree.set_name("python")
        for ending, handler in self.handlers.items():
            signal.signal(ending, handler)
        socket_dirs.held.pop(self.folder).close()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, file in enumerate([nothing, *request.files]):
            os.dup2(file, number)
            os.close(file)
        for opened, position in self.positions.items():
            os.lseek(opened, position, os.SEEK_SET)
        self.set_environment(request.env)
        application = connect_again(self.checkpoints.application, request.argv)
        # Python gives each fork new random numbers.
        random.setstate(seeds)
        trace.set_recording(True)
        Checkpoints(application, alive=request.alive, environment=request.env, positions=self.positions)
        fork_server.serve_kernel(application, request)

    def set_environment(self, environment: Mapping[str, str]) -> None:
        """Set the variables that belong to this run, unless a cell has changed them."""
        before, now = self.checkpoints.environment, paths.copy_environment()
        for name in before.keys() | environment.keys():
            if is_of_session(name) and now.get(name) == before.get(name):
                if name in environment:
                    os.environ[name] = environment[name]
                else:
                    os.environ.pop(name, None)
        os.environ["JPY_PARENT_PID"] = str(os.getppid())


def list_streams(application: Any) -> tuple[Any, Any]:
    """Return the streams for output and errors of a kernel, whatever cells have put in their place."""
    return application.kernel._stdout, application.kernel._stderr


def is_of_session(name: str) -> bool:
    """Return whether an environment variable differs between runs and terminals.

    >>> [name for name in ("PWD", "LABKIT_RUN_DIR", "_", "_KIND", "PWDX", "RATE") if is_of_session(name)]
    ['PWD', 'LABKIT_RUN_DIR', '_']
    """
    return any(name == one or (one.endswith("_") and one != "_" and name.startswith(one)) for one in OF_SESSION)


class ContinuedApplication(IPKernelApp):
    """ipykernel's application for a shell that exists: with new sockets and threads, and nothing set up again."""

    def __init__(self, before: Any, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self.before = before

    def init_io(self) -> None:
        """Let the existing streams, which cells may hold, send to the new sockets."""
        for name, stream in zip(("stdout", "stderr"), list_streams(self.before), strict=True):
            current = getattr(sys, name)
            setattr(sys, name, getattr(sys, f"__{name}__"))
            stream.__init__(self.session, self.iopub_thread, name)
            setattr(sys, name, current)
        self.displayhook = import_item(str(self.displayhook_class))(self.session, self.iopub_socket)
        sys.displayhook = self.displayhook

    def init_kernel(self) -> None:
        """Give the existing shell a new kernel."""
        super().init_kernel()  # type: ignore[no-untyped-call]
        shell = self.kernel.shell
        shell.kernel = self.kernel
        # Its connection is that of the other process.
        shell.history_manager.enabled = False

    def init_pdb(self) -> None:
        """Leave debuggers as they are."""

    def init_path(self) -> None:
        """Leave `sys.path` as it is."""

    def init_gui_pylab(self) -> None:
        """Leave plots as they are."""

    def init_extensions(self) -> None:
        """Leave extensions as they are."""

    def init_code(self) -> None:
        """Run nothing."""


def connect_again(before: Any, argv: list[str]) -> Any:
    """Return an application for the shell of another process's application, with sockets of its own."""
    # The event loop and the sockets are those of the other process: they must not be touched.
    asyncio._set_running_loop(None)
    asyncio.set_event_loop(asyncio.new_event_loop())
    for handler in (before.close, before.cleanup_connection_file, before.iopub_thread.stop):
        atexit.unregister(handler)
    for kind in (type(before), IPKernelApp, IPythonKernel):
        kind.clear_instance()
    application: Any = ContinuedApplication.instance(before, parent_handle=os.getppid())
    application.initialize(argv[argv.index("ipykernel_launcher") + 1 :])
    return application
