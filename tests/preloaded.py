"""Processes of labkit and DVC that are forks of one that has imported what commands import, which takes seconds.

Each is a process of its own, with its own pid, session, folder, environment and standard streams, and ends with the
command's own exit code; tests/test_preloaded.py compares them with the program. What a fork cannot take over is executed
as an ordinary program: see `is_forkable`. These tests always start the installed program `labkit`:

- the first whole run of diabetes (`finished` in tests/conftest.py), that of two clones (tests/cli/test_main.py), and one
  that is interrupted (tests/run/pipeline/test_dvc_repo.py);
- the commands of the README (tests/test_readme.py), of a user's project (tests/project/test_whole_project.py), of a page
  on own stages (tests/stages/test_own_stages.py), and those that `dvc repro` calls (tests/run/test_edits.py);
- completion (tests/cli/test_options.py), and `labkit new` (tests/new/test_dialect.py).

With another PYTHONPATH a fork imports again what its folders have, so that a checkout's own code runs without a second
import of the packages that it uses.

Run as a program it is that process: see `serve`. It belongs to one worker of pytest and ends with it.
"""

import atexit
import functools
import importlib
import inspect
import json
import os
import random
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from labkit import paths
from labkit.run.fingerprint.code_cache import CodeCache
from labkit.run.kernels import preload

LABKIT, DVC = (str(Path(sys.executable).with_name(name)) for name in ("labkit", "dvc"))
MODULES = {LABKIT: "labkit.cli.main", DVC: "dvc.cli"}
"""Program → module whose `main` it calls."""
# Not `python FILE`: folders beside this file have names of the standard library, and would be found first.
PROGRAM = """
import runpy, sys
sys.path[0] = sys.argv[1]
runpy.run_path(sys.argv[2], run_name="__main__")
"""
LONGEST_REQUEST_BYTES = 100_000
FEW_THREADS = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "1"}
"""As in a stage's process. Beside other tests, threads that spin while they wait take several times as long."""
READ_WHEN_CALLED = (
    "LABKIT_", "COLUMNS", "MLFLOW_TRACKING_URI", "NO_COLOR", "PATH", "PYTEST_", "PYTHONPATH", "TERM", "TMPDIR",
    "WAREHOUSE_URL",
)  # fmt: skip
"""Beginnings of the names of variables that nothing reads while it is imported, and of those that forks follow."""
OF_A_PROGRAM = {
    "preexec_fn": None, "pass_fds": (), "executable": None, "shell": False, "creationflags": 0,
    "restore_signals": True, "close_fds": True, "umask": -1, "uid": None, "gid": None, "gids": None, "process_group": -1,
}  # fmt: skip
"""Options of `subprocess.Popen` with which a command can be forked: any other value needs a new program."""

PARTS = ("cli", "params", "run", "stages", "storage")
"""Parts of labkit to import."""
THREADED = (*preload.THREADED, "onnx", "onnxmltools", "skl2onnx")
"""Packages that start a thread when they are imported, and those that may import them."""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | FEW_THREADS
"""Of this worker, before any test."""
QUIET = {name: preload.QUIET[name] for name in ("JE_ARROW_MALLOC_CONF", "OPENBLAS_NUM_THREADS")}


class Preloaded:
    """The process that has imported everything, and the connection to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(Path(LABKIT).parent), __file__, str(theirs.fileno())],
                env={**ENVIRONMENT, **QUIET},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Python looks for its position in a stream that began as a file, such as pytest's, when it sets it up.
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        # Without it every command is executed as an ordinary program.
        self.is_ready = self.connection.recv(1) == b"1"
        if not self.is_ready:
            print(self.process.communicate()[1].decode(), file=sys.stderr)
        atexit.register(self.close)

    def close(self) -> None:
        """Let the process end."""
        self.connection.close()
        self.process.wait()

    def fork(self, request: Mapping[str, Any], streams: tuple[int, ...]) -> tuple[int, int] | None:
        """Fork a command; return its pid and a file descriptor to read its exit code from, None if the process has ended."""
        reader, writer = os.pipe()
        with self.lock, suppress(OSError):
            socket.send_fds(self.connection, [json.dumps(request).encode()], [*streams, writer])
            if pid := self.connection.recv(100):
                os.close(writer)
                return int(pid), reader
        self.is_ready = False
        os.close(reader)
        os.close(writer)
        return None


@functools.cache
def get_preloaded() -> Preloaded:
    """Return this worker's process, started by the first command."""
    return Preloaded()


def is_forkable(given: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Return whether a fork would behave as the program does with these arguments of `subprocess.Popen`.

    Of the environment it may differ from this worker's only in what is read when a command is called.
    """
    command = given["args"]
    if str(command[0]) not in MODULES or any(given[name] != value for name, value in OF_A_PROGRAM.items()):
        return False
    names = ENVIRONMENT.keys() | environment.keys()
    changed = {name for name in names if ENVIRONMENT.get(name) != environment.get(name)}
    return all(name.startswith(READ_WHEN_CALLED) for name in changed) and get_preloaded().is_ready


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, which starts commands of labkit and DVC as forks where it can."""

    ended: int | None = None
    reading = threading.Lock()

    def _execute_child(self, *arguments: Any) -> None:
        """Start the child: see `subprocess.Popen`, whose method this is."""
        begin: Any = super()._execute_child  # type: ignore[misc]
        given = inspect.signature(begin).bind(*arguments).arguments
        environment = {str(name): str(value) for name, value in (given["env"] or os.environ).items()}
        command = [str(word) for word in given["args"]]
        request = {
            "argv": command,
            "env": environment,
            "cwd": os.fspath(given["cwd"] or Path.cwd()),
            "is_session": given["start_new_session"],
        }
        names = ("p2cread", "c2pwrite", "errwrite")
        streams = tuple(number if given[name] == -1 else given[name] for number, name in enumerate(names))
        is_short = len(json.dumps(request)) <= LONGEST_REQUEST_BYTES
        fork = get_preloaded().fork(request, streams) if is_short and is_forkable(given, environment) else None
        if fork is None:
            begin(*arguments)
            return
        self.pid, self.ended = fork
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in pipes))  # type: ignore[attr-defined]

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        """Return how the child ended, or None; never wait."""
        if self.ended is None:
            return super()._internal_poll(*arguments, **options)  # type: ignore[misc,no-any-return]
        return self.read_end(0)

    def _wait(self, timeout: float | None) -> int:
        """Wait for the child's end."""
        if self.ended is None:
            return super()._wait(timeout)  # type: ignore[misc,no-any-return]
        code = self.read_end(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def read_end(self, timeout: float | None) -> int | None:
        """Return how the child ended, None if that takes longer."""
        if self.returncode is not None or self.ended is None:
            return self.returncode
        ready = select.poll()
        ready.register(self.ended)
        if ready.poll(None if timeout is None else timeout * 1000):
            with self.reading:
                if self.returncode is None:
                    # Nothing to read: the process that forked it was killed.
                    self.returncode = int(os.read(self.ended, 10) or -signal.SIGKILL)
                    os.close(self.ended)
        return self.returncode


def run(command: list[str], *, timeout: float, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end as `subprocess.run` does, with what it printed."""
    with Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        try:
            printed, errors = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed, errors)


def serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a command for each request until the worker has ended; returns a request, in a fork only.

    Reports the exit code of each. Never starts a thread: those that a process has do not survive a fork.
    """
    kept = list_files() - {connection.fileno()}
    running: dict[int, tuple[int, int]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd != connection.fileno():
                    selector.unregister(key.fd)
                    pid, ended = running.pop(key.fd)
                    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with suppress(OSError):  # the worker has ended
                        os.write(ended, str(code).encode())
                    os.close(ended)
                    os.close(key.fd)
                    continue
                message, files, _, _ = socket.recv_fds(connection, 2 * LONGEST_REQUEST_BYTES, 4)
                if not message:
                    os._exit(0)
                *streams, ended = files
                pid = os.fork()
                if pid == 0:
                    for file in list_files() - {*kept, *streams}:
                        with suppress(OSError):  # the folder of the list
                            os.close(file)
                    return json.loads(message), streams
                for file in streams:
                    os.close(file)
                watched = os.pidfd_open(pid)
                running[watched] = pid, ended
                selector.register(watched, selectors.EVENT_READ)
                connection.send(str(pid).encode())


def list_files() -> set[int]:
    """Return the open file descriptors of this process."""
    return {int(path.name) for path in Path("/proc/self/fd").iterdir()}


def take_place(request: Mapping[str, Any], streams: list[int]) -> None:
    """Become what the program would be at its start; see `labkit.run.kernels.fork_server.take_place`."""
    if request["is_session"]:
        os.setsid()
    for number, file in enumerate(streams):
        os.dup2(file, number)
    for file in streams:
        if file > 2:
            os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    if request["env"].get("PYTHONPATH") != ENVIRONMENT.get("PYTHONPATH"):
        import_again(filter(None, request["env"].get("PYTHONPATH", "").split(os.pathsep)))
    sys.argv = list(request["argv"])
    # When DVC was imported it wrapped streams that were no terminal: for a command, those of labkit come first.
    sys.modules["colorama"].deinit()
    if sys.argv[0] == DVC:
        sys.modules["colorama"].init()
    # The same objects as before, which loggers may hold.
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    main = types.ModuleType("__main__")
    main.__file__ = sys.argv[0]
    sys.modules["__main__"] = main
    tempfile.tempdir = None
    time.tzset()
    random.seed()
    sys.modules["numpy"].random.seed()


def import_again(entries: Iterable[str]) -> None:
    """Let modules of some folders, the first in which Python looks, be imported in place of those that are here."""
    folders = [Path(entry).absolute() for entry in entries]
    sys.path[1:1] = map(str, folders)
    names = {path.stem for folder in folders if folder.is_dir() for path in folder.iterdir()}
    for module in [module for module in sys.modules if module.partition(".")[0] in names]:
        del sys.modules[module]
    importlib.invalidate_caches()


def end(code: int) -> NoReturn:
    """Exit as the interpreter does, without tearing down thousands of modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        code = 120
    sys.stderr.flush()
    os._exit(code)


def call_main() -> NoReturn:
    """Run the command line and exit with its code, as the program does."""
    code: Any = 0
    try:
        code = importlib.import_module(MODULES[sys.argv[0]]).main()
    except SystemExit as exit_:
        code = exit_.code
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    end(int(code or 0))


def find_modules() -> list[str]:
    """Return the modules of the commands, and what those import when they are called, which is most of what is heavy."""
    library = Path(paths.__file__).parent
    meanings = CodeCache(library)
    files = sorted(file for part in PARTS for file in (library / part).rglob("*.py"))
    own = [".".join(file.relative_to(library.parent).with_suffix("").parts) for file in files]
    named = {one.module for file in files for one in meanings.get(file).imports if not one.level}
    return [name.removesuffix(".__init__") for name in own] + sorted(named | {"dvc.cli.parser"})


def import_modules() -> str | None:
    """Import everything that starts no thread; return the package that has started one, None if none has."""
    # As `labkit.cli.main` does.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    # What imports these fails here, and is imported by the command itself.
    sys.modules.update(dict.fromkeys(THREADED))  # type: ignore[arg-type]
    offender = preload.import_all(find_modules(), skipped=THREADED)
    for name in THREADED:
        del sys.modules[name]
    return offender


def main() -> None:
    """Import everything and serve; a fork leaves as the command that it was asked for."""
    connection = socket.socket(fileno=int(sys.argv[3]))
    connection.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    offender = import_modules()
    if offender:
        print(f"{offender} starts a thread when it is imported: commands are not forked", file=sys.stderr)
    connection.send(b"0" if offender else b"1")
    if not offender:
        take_place(*serve(connection))
        call_main()


if __name__ == "__main__":
    main()
