"""Whether a fork of a kernel would continue exactly as the kernel itself, and what keeps it from that.

Memory is copied exactly. Not copied are threads, connections and child processes; shared with the original are the
positions of open files and shared memory. Pools of threads that their libraries make again when they are needed are no
obstacle: those of OpenMP are ended first, see `pause_openmp`; Arrow's do the same after a fork by themselves.
"""

import asyncio
import ctypes
import os
import re
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from labkit.run.kernels.checkpoint import list_open_files

KERNEL_PACKAGES = ("IPython", "ipykernel", "jupyter_client", "tornado", "traitlets", "zmq")
KERNEL_THREADS = ("ZMQbg/",)
"""Beginnings of the names that the system has for threads of the kernel's messages."""
OPENMP = re.compile(r"/[^/\s]*(?:gomp|iomp5|libomp)[^/\s]*\.so[^/\s]*$")
ARROW = re.compile(r"/libarrow[^/\s]*\.so[^/\s]*$")
PAUSE_SOFT = 1
N_THREAD_PAUSES, THREAD_PAUSE_SECONDS = 10, 0.01
WAITING_CALLS = frozenset({"98", "202"})
"""Numbers of futex(2) on ARM and x86."""
DEEPEST_STACK_BYTES = 1_000_000
KIND = re.compile(r":\[\d+\]$")
"""The number of a pipe or a socket, after which kind it is."""
HARMLESS_FILES = (
    "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero", "anon_inode:[eventfd]",
    "anon_inode:[eventpoll]", "anon_inode:[fanotify]",
)  # fmt: skip
"""With what the kernel's threads and `labkit.params.file_watch` use, or a fork makes again."""
HISTORY, PROFILE = "history.sqlite", "profile_"
"""Beginnings of the names of IPython's history and of its folder."""
SYSTEM_FOLDERS = ("/dev/null", "/etc/", "/lib", "/nix/", "/opt/", "/run/", "/usr/", "/var/")


@dataclass(frozen=True)
class Region:
    """One region of this process's memory."""

    begin: int
    end: int
    modes: str
    path: str


@dataclass(frozen=True)
class ForkCheck:
    """Why a fork would differ, empty if it would not, and the positions in the files that cells have open to read."""

    obstacle: str = ""
    positions: dict[int, int] = field(default_factory=dict)


def check_fork(known_files: Mapping[int, str], known_children: Collection[int], *, address: str) -> ForkCheck:
    """Return whether this process can be forked exactly; call it in the main thread, between two cells.

    Parameters
    ----------
    known_files
        What the file descriptors that the kernel itself uses refer to.
    known_children
        Process ids of children that are no work of a cell.
    address
        Beginning of the paths of the kernel's own sockets, to which its runner may still be connecting.
    """
    pause_openmp(list_regions())
    try:
        positions = dict(find_positions(known_files, address))
        obstacles = (
            *find_pending_events(),
            *find_children(known_children),
            *wait_for_threads(),
            *find_shared_memory(),
        )
    except OpenFileError as error:
        return ForkCheck(str(error))
    return ForkCheck(obstacles[0] if obstacles else "", positions)


class OpenFileError(Exception):
    """A cell has something open whose state outside of this process a fork would share."""


def find_positions(known: Mapping[int, str], address: str) -> Iterator[tuple[int, int]]:
    """Yield the position in each file that a cell has open only to read it."""
    for number, target in list_open_files().items():
        if known.get(number) == target or target in HARMLESS_FILES or is_of_history(Path(target)):
            continue
        if is_own_socket(target, address):
            continue
        if not target.startswith("/"):
            raise OpenFileError(f"a cell has a connection open ({KIND.sub('', target)})")
        flags = int(Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii").split("flags:")[1].split()[0], 8)
        if flags & (os.O_WRONLY | os.O_RDWR) or target.endswith(" (deleted)") or not Path(target).is_file():
            raise OpenFileError(f"a cell has {Path(target).name} open")
        yield number, os.lseek(number, 0, os.SEEK_CUR)


def is_of_history(path: Path) -> bool:
    """Return whether IPython opens something now and then for its history, which a continued kernel does without."""
    return path.name.startswith(HISTORY) or (path.name.startswith(PROFILE) and path.is_dir())


def is_own_socket(target: str, address: str) -> bool:
    """Return whether a file descriptor is a connection to one of the kernel's own sockets.

    Parameters
    ----------
    target
        What it refers to, e.g. `socket:[12345]`.
    """
    if not target.startswith("socket:["):
        return False
    number = target.removeprefix("socket:[").rstrip("]")
    lines = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace").splitlines()
    return any(words[6:7] == [number] and words[-1].startswith(address) for words in map(str.split, lines))


def wait_for_threads() -> list[str]:
    """Return the threads that `find_foreign_threads` finds; those of OpenMP take a moment to end."""
    for _ in range(N_THREAD_PAUSES):
        found = list(find_foreign_threads())
        if not found:
            break
        time.sleep(THREAD_PAUSE_SECONDS)
    return found


def find_pending_events() -> Iterator[str]:
    """Yield what waits in the event loop or for a timer, besides the kernel's own."""
    if any(signal.getitimer(timer)[0] for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)):
        yield "a cell has set a timer"
    loop = asyncio.get_running_loop()
    for task in asyncio.all_tasks(loop):
        code = getattr(task.get_coro(), "cr_code", None)
        if code is None or not is_of_kernel(code.co_filename):
            yield "a task that a cell started has not ended"


def is_of_kernel(file: str) -> bool:
    """Return whether a source file belongs to the packages that run the kernel."""
    installed = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    return any(file.startswith(f"{folder}/{name}") for folder in installed for name in KERNEL_PACKAGES)


def find_children(known: Collection[int]) -> Iterator[str]:
    """Yield the processes that cells have started and that have not ended."""
    for child in psutil.Process().children():
        if child.pid not in known:
            yield f"a process that a cell started has not ended ({child.name()})"


def find_foreign_threads() -> Iterator[str]:
    """Yield the threads that neither the kernel needs nor a library makes again after a fork."""
    python = threading.enumerate()
    for thread in python:
        if thread is not threading.main_thread() and not is_kernel_thread(thread):
            yield f"the thread {thread.name} is running"
    if len(sys._current_frames()) > len(python):
        yield "a thread is running that a cell started"
    # The main thread has the number of the process, which Python does not note after a fork.
    known, regions = {os.getpid(), *(thread.native_id for thread in python)}, list_regions()
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) in known or is_idle_arrow(task, regions):
            continue
        with suppress(FileNotFoundError):  # it has ended meanwhile
            name = (task / "comm").read_text(encoding="utf-8", errors="replace").strip()
            if not name.startswith(KERNEL_THREADS):
                yield f"a library is keeping a thread ({name})"


def is_kernel_thread(thread: threading.Thread) -> bool:
    """Return whether a thread belongs to the kernel: by its class, or by what it runs."""
    owner = getattr(getattr(thread, "_target", None), "__self__", thread)
    modules = {kind.__module__ for kind in type(owner).__mro__}
    return any(name.partition(".")[0] in KERNEL_PACKAGES for name in modules)


def list_regions() -> list[Region]:
    """Return the regions of this process's memory, in the order of their addresses."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, modes, _, _, _, *path = line.split(maxsplit=5)
        begin, end = (int(part, 16) for part in span.split("-"))
        found.append(Region(begin, end, modes, path[0] if path else ""))
    return found


def pause_openmp(regions: Collection[Region]) -> None:
    """End the threads that OpenMP keeps: a fork would wait for them for ever. New ones start when needed."""
    for path in sorted({region.path for region in regions if OPENMP.search(region.path)}):
        with suppress(OSError, AttributeError):  # the threads that it cannot end are found afterwards
            ctypes.CDLL(path).omp_pause_resource_all(PAUSE_SOFT)


def is_idle_arrow(task: Path, regions: Collection[Region]) -> bool:
    """Return whether a thread is one of Arrow's that waits for work: Arrow starts new ones after a fork.

    Such a thread waits in a system call, with return addresses of Arrow on its stack.
    """
    try:
        words = (task / "syscall").read_text(encoding="ascii").split()
    except OSError:
        return False
    if len(words) < 3 or words[0] not in WAITING_CALLS:
        return False
    top = int(words[-2], 16)
    stack = next((region for region in regions if region.begin <= top < region.end), None)
    if stack is None or stack.end - top > DEEPEST_STACK_BYTES:
        return False
    code = [region for region in regions if "x" in region.modes and ARROW.search(region.path)]
    size = ctypes.sizeof(ctypes.c_size_t)
    held = (ctypes.c_size_t * ((stack.end - top) // size)).from_address(top)
    return any(region.begin <= address < region.end for address in held for region in code)


def find_shared_memory() -> Iterator[str]:
    """Yield memory that another process or a file shares with this one."""
    installed = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), sys.prefix, sys.base_prefix)
    for region in list_regions():
        is_shared = region.modes.endswith("s")
        is_known = region.path.startswith((*SYSTEM_FOLDERS, *installed, "[")) or "/." in region.path
        if is_shared and (("w" in region.modes) or not is_known):
            yield "a cell uses memory that is shared with a file or a process"
        elif region.path and not is_known and "x" not in region.modes and ".so" not in region.path:
            yield f"a cell has {Path(region.path).name} mapped into memory"
