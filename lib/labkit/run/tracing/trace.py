"""Record what a kernel opens, imports and starts, by Python's audit hooks.

Runs inside the kernel: labkit's own kernels load it as an IPython extension before the first cell, in others
`labkit.start` begins it. Records names, never contents, and only of files in the checkout, except data read from
elsewhere. Read next: `labkit.run.fingerprint.footprint`, in which the runner summarizes the trace.
"""

import json
import os
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from types import CodeType, FrameType
from typing import Any

from labkit import paths
from labkit.errors import ParamsError
from labkit.run.tracing import pathnames
from labkit.run.tracing.callers import Callers
from labkit.run.tracing.missing_modules import MissingFinder

TRACE_NAME = "trace.jsonl"
"""Name of the file in the work folder of a run."""
WORKERS = ("popen_spawn_posix.py", "popen_forkserver.py", "popen_loky_posix.py")
"""Modules that start worker processes, which do not inherit the hook."""
FORK_SERVER = "multiprocessing.forkserver"
"""Module that connects to a server for each of its workers, also if labkit imported it first."""
LONGEST_COMMAND = 100
MOST_ARGUMENTS = 50


class Trace:
    """The events of one process and of its forks.

    Parameters
    ----------
    root
        The checkout.
    file
        File to which each event is appended at once, as a line of JSON; None keeps events in memory only.
    """

    def __init__(self, root: Path, file: Path | None) -> None:
        self.file, self.started = file, time.time()
        self.notes: list[dict[str, Any]] = []
        labkit = Path(__file__).resolve().parents[2]
        self.tops = tuple(dict.fromkeys(f"{top}{os.sep}" for top in (root.resolve(), labkit)))
        own = [f"{self.tops[0]}{name}" for name in pathnames.OWN]
        installed = pathnames.list_installed_folders()
        # Checked first, as nearly every file that a kernel opens is there; unless the checkout itself is.
        self.skipped = (*own, *(folder for folder in installed if not self.tops[0].startswith(folder)))
        self.not_data = (*self.skipped, f"{labkit}{os.sep}")
        self.callers = Callers(self.tops, self.not_data, __name__.rpartition(".")[0])
        self.system = (*installed, *pathnames.SYSTEM)
        self.seen: set[tuple[str, ...]] = set()
        self.globbed: set[str] = set()
        self.ports: set[str] = set()
        self.bulk: tuple[int, int] | None = None
        self.pauses: Counter[int] = Counter()
        self.is_recording = True
        moves = (self.note_changed, self.note_written)
        self.handlers: dict[str, Callable[..., object]] = {
            "open": self.note_open,
            "exec": self.note_exec,
            "import": self.note_import,
            "os.listdir": self.note_listing,
            "os.scandir": self.note_listing,
            "glob.glob/2": self.note_glob,
            "pathlib.Path.glob": lambda folder, pattern: self.note_glob(pattern, False, folder),
            "pathlib.Path.rglob": lambda folder, pattern: self.note_glob(f"**{os.sep}{pattern}", True, folder),
            "os.rename": lambda *places: [note(places[at], places[at + 2]) for at, note in enumerate(moves)],
            "os.link": lambda source, path, _, folder: self.note_written(path, folder),
            "os.symlink": lambda source, path, folder: self.note_changed(path, folder),
            "os.mkdir": lambda path, mode, folder: self.note_changed(path, folder),
            "os.remove": self.note_changed,
            "os.rmdir": self.note_changed,
            "os.truncate": lambda path, length: self.note_changed(path),
            "tempfile.mkdtemp": self.note_changed,
            "sqlite3.connect": self.note_database,
            "ctypes.dlopen": self.note_library,
            "subprocess.Popen": lambda program, words, folder, _: self.note_start(words, folder),
            "os.system": lambda command: self.note_start(command),
            "os.exec": lambda program, words, _: self.note_start(words),
            "os.posix_spawn": lambda program, words, _: self.note_start(words),
            # For a shell command in a cell, only the child process sees the arguments.
            "os.forkpty": lambda: self.note_start("a shell command") if self.file is None else None,
            "os.putenv": lambda name, _: self.seen.add(("variable", os.fsdecode(name))),
            "socket.getaddrinfo": lambda host, port, *_: self.note_host(host, port),
            "socket.connect": lambda _, address: self.note_address(address),
        }

    def install(self) -> None:
        """Install the audit hook, which cannot be removed."""
        get, note = self.handlers.get, self.note_variable

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = get(event)
            if handler is not None and self.is_recording:
                try:
                    handler(*arguments)
                except Exception as error:  # must not fail in the notebook: the page reports what was missed
                    self.note_fault(event, error)

        self.write(kind="begin", at=self.started)
        for module in list(sys.modules.values()):
            # Not by `getattr`, which makes lazy modules import.
            file = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(file, str) and file.startswith(self.tops) and not file.startswith(self.not_data):
                self.note_file(file)
        sys.addaudithook(hook)
        sys.meta_path.append(MissingFinder(self.note_missing, self.note_fault))
        paths.watch_environment(note)

    def write(self, **note: Any) -> None:
        """Store one event, appended in one call so that those of forked processes do not mix."""
        self.notes.append(note)
        if self.file is None:
            return
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, json.dumps(note).encode() + b"\n")
        finally:
            os.close(handle)

    def note_fault(self, event: str, error: Exception) -> None:
        """Record that an event could not be recorded, once for each kind."""
        if self.is_new("fault", event):
            with suppress(OSError):  # the disk is full, which the run itself reports
                self.write(kind="fault", event=f"{event}: {type(error).__name__}")

    def is_new(self, *key: str) -> bool:
        """Return whether a key is seen for the first time, and remember it."""
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    # Files

    def note_open(self, path: Any, mode: Any, flags: int) -> None:
        """Record a file that is read or written."""
        if path.__class__ is not str:
            path = pathnames.decode(path)
        if path is None or path.startswith(self.skipped):
            return
        is_relative, path = not os.path.isabs(path), os.path.abspath(path)
        if path.startswith(self.skipped):
            return
        access = flags & (os.O_WRONLY | os.O_RDWR)
        is_read = access != os.O_WRONLY and not flags & os.O_TRUNC
        if is_read and not self.is_within(path):
            self.note_outside(path)
            return
        if is_read:
            # A name given to `os.open` may be relative to another open folder.
            self.note_file(path, is_certain=mode is not None or not is_relative)
        if access or flags & (os.O_TRUNC | os.O_CREAT):
            self.note_written(path)

    def is_within(self, path: str) -> bool:
        """Return whether an absolute path is in the checkout, or in labkit if that is installed elsewhere."""
        return path.startswith(self.tops)

    def note_file(self, path: str, *, is_certain: bool = True, **more: Any) -> None:
        """Record the state of a file of the checkout that is read, None if it does not exist."""
        kind = "argument" if more.get("is_argument") else "read"
        if "__pycache__" in path or self.pauses[threading.get_ident()] or not self.is_new(kind, path):
            return
        try:
            state = os.stat(path)
        except OSError:
            if is_certain:
                self.write(kind="read", path=path, state=None, **more)
            return
        if S_ISREG(state.st_mode):
            self.write(kind="read", path=path, state=[state.st_size, state.st_mtime_ns], **more)

    def note_written(self, path: Any, folder: int = -1) -> None:
        """Record a file that this process writes, given by its name, or relative to an open folder."""
        self.note_changed(path, folder)
        decoded = pathnames.decode(path)
        path = "__pycache__" if decoded is None else os.path.abspath(decoded)
        if "__pycache__" in path or not self.is_within(path) or path.startswith(self.skipped):
            return
        if self.is_new("write", path):
            self.write(kind="write", path=path)

    def note_changed(self, name: Any, folder: int = -1) -> None:
        """Record what this process makes, writes, moves or removes, in the checkout or anywhere else."""
        path = pathnames.locate_name(name, folder)
        if path is None or path.startswith((*self.skipped, "/dev/", "/proc/")) or "__pycache__" in path:
            return
        if (self.is_within(path) or f"{os.sep}." not in path) and self.is_new("change", path):
            self.write(kind="change", path=path)

    def note_outside(self, path: str) -> None:
        """Record a file outside the checkout that is read, unless it belongs to the system, a package or this run."""
        if path.startswith(self.system) or f"{os.sep}." in path or not self.is_new("outside", path):
            return
        try:
            state = os.stat(path)
        except OSError:  # such as a temporary file that is just being created
            return
        if not S_ISREG(state.st_mode) or state.st_ctime > self.started:
            return
        real = os.path.realpath(path)
        if self.is_within(real):
            self.note_file(real)
        elif not real.startswith(self.system) and self.callers.is_asked(sys._getframe(1), through="labkit"):
            self.write(kind="outside", path=path)

    def note_exec(self, code: CodeType) -> None:
        """Record a module or script of the checkout that runs."""
        name = getattr(code, "co_filename", "")
        if name.endswith(WORKERS):
            self.note_workers()
        if name.startswith(self.tops) and not name.startswith(self.skipped):
            self.note_file(name)

    def note_import(self, module: str, file: Any, *_: Any) -> None:
        """Record the file of an extension module, or the name of a package that the checkout's code imports."""
        if file is not None:
            self.note_open(file, "", os.O_RDONLY)
        elif "." not in module and module not in sys.stdlib_module_names and self.is_new("import", module):
            is_asked = self.callers.is_asked(sys._getframe(1), through="libraries")
            if is_asked:
                self.write(kind="import", module=module)

    def note_database(self, name: Any) -> None:
        """Record the file of a SQLite database, which is read and may be written."""
        decoded = pathnames.decode(name) or ""
        path = decoded.removeprefix("file:").partition("?")[0] if decoded.startswith("file:") else decoded
        if path and not path.startswith(":memory:"):
            self.note_open(path, "", os.O_RDWR)

    def note_library(self, name: Any) -> None:
        """Record a shared library that is loaded by its path."""
        decoded = pathnames.decode(name)
        if decoded is not None and os.sep in decoded:
            self.note_open(decoded, "", os.O_RDONLY)

    def note_missing(self, module: str, folders: list[str]) -> None:
        """Record that a module imported by the checkout's code is in none of the folders."""
        if not self.callers.is_asked(sys._getframe(1), through="nothing"):
            return
        for folder in {os.path.abspath(folder) for folder in folders}:
            beside = os.path.join(folder, module.rpartition(".")[2])
            if self.is_within(beside) and not beside.startswith(self.skipped):
                self.note_file(f"{beside}.py", module=module)
                self.note_file(os.path.join(beside, "__init__.py"), module=module)

    # Folders

    def note_listing(self, folder: Any) -> None:
        """Record a folder of the checkout that is listed."""
        path = self.find_folder(folder)
        if path is None or not self.callers.is_data_listing(sys._getframe(1), path, self.globbed):
            return
        self.write_listing(os.path.join(pathnames.escape_pattern(path), "*"))

    def note_glob(self, pattern: Any, is_recursive: Any = False, folder: Any = None, *_: Any) -> None:
        """Record a glob pattern that is searched for in the checkout."""
        decoded = pathnames.decode(pattern)
        if decoded is None or not self.callers.is_asked(sys._getframe(1), through="libraries"):
            return
        plain, wild = pathnames.split_pattern(decoded)
        base = self.find_folder(os.path.join(pathnames.decode(folder or "") or "", plain))
        if base is not None and os.pardir not in wild.split(os.sep):
            self.globbed.add(base)
            self.write_listing(os.path.join(pathnames.escape_pattern(base), wild))

    def write_listing(self, pattern: str) -> None:
        """Record a pattern once."""
        if not self.pauses[threading.get_ident()] and self.is_new("list", pattern):
            self.write(kind="list", pattern=pattern)

    def find_folder(self, folder: Any) -> str | None:
        """Return the absolute path of a folder if it is in the checkout and not labkit's own."""
        decoded = pathnames.decode("." if folder is None else folder)
        path = None if decoded is None else os.path.abspath(decoded or ".") + os.sep
        if path is None or not path.startswith(self.tops) or path.startswith(self.not_data):
            return None
        return path.rstrip(os.sep)

    # What cannot be followed

    def note_start(self, words: Any, folder: Any = None) -> None:
        """Record a program that is started, and the files of the checkout among its arguments."""
        listed = [words] if isinstance(words, str | bytes | os.PathLike) else list(words)[:MOST_ARGUMENTS]
        arguments = [argument for word in listed if (argument := pathnames.decode(word)) is not None]
        beside = os.path.abspath(pathnames.decode(folder or "") or "")
        for path in pathnames.list_arguments(arguments, beside):
            if self.is_within(path) and not path.startswith(self.skipped):
                self.note_file(path, is_certain=False, is_argument=True)
        is_shell = len(arguments) > 2 and arguments[1] == "-c"
        shown = arguments[2] if is_shell else shlex.join(arguments) if len(arguments) > 1 else "".join(arguments)
        if self.callers.is_asked(sys._getframe(1), through="nothing") and self.is_new("start", shown):
            self.write(kind="start", command=shown[:LONGEST_COMMAND])

    def note_host(self, host: Any, port: Any) -> None:
        """Record a host that the checkout's code, or a library on its behalf, connects to."""
        name = os.fsdecode(host) if host else ""
        self.ports.add(str(port))
        is_asked = bool(name) and self.callers.is_asked(sys._getframe(1), through="libraries")
        if is_asked and self.is_new("host", name):
            self.write(kind="network", host=name)

    def note_workers(self) -> None:
        """Record that worker processes are started, but not those of labkit, in which no code of the checkout runs."""
        if self.callers.is_asked(sys._getframe(1), through="libraries") and self.is_new("workers"):
            self.write(kind="workers")

    def note_address(self, address: Any) -> None:
        """Record the host of an internet address for which no name was looked up, or a worker that is asked for."""
        if isinstance(address, tuple) and str(address[1]) not in self.ports:
            self.note_host(address[0], address[1])
        caller = self.callers.find_caller(sys._getframe(1))
        if caller is not None and caller.f_globals.get("__name__") == FORK_SERVER:
            self.note_workers()

    def note_variable(self, name: Any, frame: FrameType | None) -> None:
        """Record an environment variable that the checkout's code reads; without a name, that it lists them all."""
        frame = self.callers.find_reader(frame)
        if frame is None:
            return
        place = (id(frame), frame.f_lasti)
        if name is None:
            self.bulk = place  # a copy is made, as to start a program: lookups in it do not count
        elif place != self.bulk and isinstance(name, str) and self.is_new("variable", name):
            self.write(kind="variable", name=name)


_traces: list[Trace] = []


def begin() -> None:
    """Begin recording in this process, once; outside a checkout do nothing."""
    if _traces:
        return
    try:
        root = paths.find_root()
    except ParamsError:
        return
    run_dir = paths.get_run_dir()
    _traces.append(Trace(root, run_dir / TRACE_NAME if run_dir else None))
    _traces[0].install()


def set_recording(is_recording: bool) -> None:
    """Stop recording in a checkpoint of the kernel, or go on in a kernel that is continued."""
    for trace in _traces:
        # Files that were made in the meantime are no temporary files of this kernel.
        trace.is_recording, trace.started = is_recording, time.time()


def begin_in_kernel() -> None:
    """Begin recording if this process is a kernel; scripts and tests are not recorded."""
    shell = sys.modules.get("IPython")
    if shell is not None and shell.get_ipython() is not None:
        begin()


def load_ipython_extension(shell: Any) -> None:
    """Begin recording; IPython calls this when it loads the extension. Own packages can be imported from then on."""
    with suppress(ParamsError):  # not in a checkout
        paths.make_library_importable()
    begin()


def list_notes() -> list[dict[str, Any]]:
    """Return the events of this process so far."""
    return list(_traces[0].notes) if _traces else []


def declare(kind: str, value: str) -> None:
    """Record a declared dependency: a `path` or a `variable`."""
    for trace in _traces:
        if trace.is_new("declared", kind, value):
            trace.write(kind="declared", **{kind: value})


@contextmanager
def paused() -> Iterator[None]:
    """Record no files in this block and thread: labkit reads what the stage depends on anyway."""
    thread = threading.get_ident()
    for trace in _traces:
        trace.pauses[thread] += 1
    try:
        yield
    finally:
        for trace in _traces:
            trace.pauses[thread] = max(0, trace.pauses[thread] - 1)
