"""Calls of the user's own code: they cannot end labkit, and see no rows but those that they are given.

What the code raises is reported by its caller, with the file and line that `find_raising_line` finds.
"""

import dis
import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from labkit import paths
from labkit.errors import HiddenRowsError, ParamsError
from labkit.params.file_watch import FileWatch
from labkit.paths import show_path

REMEDY = (
    "own code uses only the rows that it is given, because others may be those of the holdout; keep what it looks up "
    "in its package in lib/"
)


class Hidden(threading.local):
    """What own code that runs in this thread may not read.

    Attributes
    ----------
    depth
        Number of blocks of `own_code` that the thread is in.
    reads
        What was read nevertheless, in words.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.reads: list[str] = []


HIDDEN = Hidden()
TABLES: set[Path] = set()
"""Files of the raw tables of the experiments that this process has worked on."""
WATCHES: list[FileWatch] = []
"""The watch of this process, once an experiment is worked on."""
HOOKS: list[Callable[..., None]] = []
"""The audit hook, once it is installed; it cannot be removed."""


@contextmanager
def own_code() -> Iterator[None]:
    """Call the user's own code in this block, where it has no reason to read data by itself.

    What Python opens in this thread is refused with the line; what a library opens is seen afterwards, on Linux.

    Raises
    ------
    HiddenRowsError
        It reads a file that a stage wrote, or a raw table, even if it catches the error.
    RuntimeError
        See `without_exits`.
    """
    if not HOOKS:
        HOOKS.append(refuse_reads)
        sys.addaudithook(refuse_reads)
    note_libraries(WATCHES, is_own=HIDDEN.depth > 0)
    HIDDEN.depth += 1
    before, cause = len(HIDDEN.reads), None
    try:
        with without_exits():
            yield
    except HiddenRowsError:
        raise
    except Exception as error:
        cause = error
        if len(HIDDEN.reads) == before and not note_libraries(WATCHES):
            raise
    finally:
        note_libraries(WATCHES)
        HIDDEN.depth -= 1
        found = HIDDEN.reads[before:]
        del HIDDEN.reads[before:]
    if found:
        raise HiddenRowsError(found[0]) from cause


@contextmanager
def without_exits() -> Iterator[None]:
    """Report what would end labkit, such as `sys.exit()` in own code, like any other error; interrupts pass.

    Raises
    ------
    RuntimeError
        The code raises SystemExit, KeyboardInterrupt or another exception that no `except Exception` catches.
    """
    try:
        yield
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and not is_raised(error.__traceback__):
            raise
        fault = RuntimeError(f"raises {error!r}, which would end labkit")
        raise fault.with_traceback(error.__traceback__) from error


def is_raised(trace: TracebackType | None) -> bool:
    """Return whether an exception is from a `raise` statement, not from a signal that came just then."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code = b"" if trace is None else trace.tb_frame.f_code.co_code
    return bool(code) and trace is not None and dis.opname[code[trace.tb_lasti]] == "RAISE_VARARGS"


def hide_tables(experiment: str, files: Iterable[str]) -> None:
    """Hide the data of an experiment from own code in this process: what stages write, and files of raw tables.

    Parameters
    ----------
    files
        Paths of the raw tables in the checkout.
    """
    TABLES.update((paths.find_root() / file).resolve() for file in files)
    if not WATCHES:
        WATCHES.append(FileWatch())
    data = paths.find_data_dir(experiment).resolve()
    below = [data, *(path for path in data.rglob("*") if path.is_dir())] if data.is_dir() else []
    WATCHES[0].add({*below, *(table.parent for table in TABLES if table.parent.is_dir())})


def note_libraries(watches: Sequence[FileWatch], *, is_own: bool = True) -> bool:
    """Note the hidden files that libraries have read by themselves, and return whether there are any."""
    shown = [shown for watch in watches for path in watch.list_read() if is_own and (shown := find_hidden(path))]
    HIDDEN.reads += [f"reads {one}: {REMEDY}" for one in shown]
    return bool(shown)


def refuse_reads(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise HiddenRowsError if own code of this thread reads a hidden file: an audit hook."""
    if event not in ("open", "sqlite3.connect") or not HIDDEN.depth:
        return
    path, flags = arguments[0], arguments[2] if event == "open" else os.O_RDONLY
    if not isinstance(path, str | bytes | os.PathLike) or flags & os.O_WRONLY:
        return
    depth, HIDDEN.depth = HIDDEN.depth, 0  # what this function opens does not count
    try:
        shown = find_hidden(Path(os.fsdecode(path)))
    finally:
        HIDDEN.depth = depth
    if shown is not None:
        HIDDEN.reads.append(f"{find_own_frame(sys._getframe(1))} reads {shown}: {REMEDY}")
        raise HiddenRowsError(HIDDEN.reads[-1])


def find_hidden(path: Path) -> str | None:
    """Return the path of a hidden file as it is shown; None if own code may read it."""
    try:
        root = paths.find_root().resolve()
        real = path.resolve()
    except (OSError, ParamsError):
        return None
    for one in (real, Path(os.path.normpath(Path.cwd() / path))):
        if one in TABLES:
            return show_path(one)
        parts = one.relative_to(root).parts if one.is_relative_to(root) else ()
        if len(parts) > 2 and parts[0] == "data" and (root / "params" / f"{parts[1]}.yaml").exists():
            return Path(*parts).as_posix()
    return None


def find_own_frame(frame: FrameType | None) -> str:
    """Return file and line of the nearest line of own code that is running."""
    while frame is not None:
        if is_own_file(frame.f_code.co_filename):
            return f"{show_path(Path(frame.f_code.co_filename))}:{frame.f_lineno}"
        frame = frame.f_back
    return "own code"


def find_raising_line(error: BaseException) -> str:
    """Return file and line of the user's code in which an error was raised, as `lib/churn/models.py:12`."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return find_own_line(error) or f"{show_path(Path(last.filename))}:{last.lineno}"


def find_own_line(error: BaseException) -> str | None:
    """Return file and line of the last of the user's own lines that an error passed; None if it passed none."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own_file(frame.filename)]
    return f"{show_path(Path(own[-1].filename))}:{own[-1].lineno}" if own else None


def is_own_file(name: str) -> bool:
    """Return whether a file is neither labkit's nor an installed package's nor Python's."""
    path = Path(name)
    labkit, installed = Path(__file__).resolve().parents[1], Path(sys.prefix)
    standard = Path(importlib.__file__).resolve().parents[1]
    return path.is_file() and not any(path.is_relative_to(folder) for folder in (labkit, installed, standard))
