"""Reload edited modules of the checkout before each cell of an interactive kernel, with IPython's own autoreload.

An IPython extension that labkit's kernels load. It is off in the kernels of runs, which must use one version of the
code from their first cell to their last: see `paths.is_reloading`. Variables of the notebook stay; functions and
classes that it holds, and instances of these classes, get the new code.

Only modules below `lib/` and `notebooks/` and labkit itself are looked at, without the modules that run the kernel.
IPython's `%autoreload 2` looks at every module of the process, among them thousands of installed ones.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from IPython.extensions.autoreload import superreload

from labkit import paths
from labkit.console import echo, make_printable
from labkit.errors import ParamsError, get_first_line, list_briefly

KERNEL_PARTS = ("labkit.run.kernels", "labkit.run.tracing")
"""Packages that hold the state of the kernel itself."""


class Reloader:
    """Reloads modules whose files have changed since they were imported.

    Parameters
    ----------
    folders
        Where the files of the modules are.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = tuple(f"{folder.resolve()}{os.sep}" for folder in folders)
        self.seen: dict[str, int] = {}
        self.old_objects: dict[tuple[str, str], list[Any]] = {}
        self.note_modules()

    def list_modules(self) -> Iterator[tuple[str, ModuleType, Path, int]]:
        """Yield name, module, file and time of change of each module in the folders."""
        for name, module in list(sys.modules.items()):
            # Not by `getattr`, which makes lazy modules import.
            file = getattr(module, "__dict__", {}).get("__file__")
            if isinstance(file, str) and file.startswith(self.folders) and not name.startswith(KERNEL_PARTS):
                with suppress(OSError):  # deleted: the old code stays
                    yield name, module, Path(file), Path(file).stat().st_mtime_ns

    def note_modules(self, *_: Any) -> None:
        """Remember when the files of newly imported modules were changed; called after each cell."""
        for name, _module, _file, changed in self.list_modules():
            self.seen.setdefault(name, changed)

    def reload_changed(self, *_: Any) -> None:
        """Reload what has changed, and print a line about it; called before each cell."""
        reloaded, failed = [], []
        for name, module, file, changed in self.list_modules():
            if self.seen.setdefault(name, changed) == changed:
                continue
            self.seen[name] = changed
            try:
                forget_bytecode(file)
                superreload(module, old_objects=self.old_objects)
                reloaded.append(name)
            except (Exception, SystemExit) as error:  # of the user's code
                failed.append(describe_failure(name, file, error))
        if reloaded:
            echo(f"labkit: reloaded {list_briefly(reloaded)}", is_error=True)
        for line in failed:
            echo(f"labkit: {line}; the old code stays until the file is corrected", is_error=True)


def forget_bytecode(file: Path) -> None:
    """Delete the compiled module: it counts as current for another edit of the same size within the same second."""
    with suppress(OSError, NotImplementedError):
        Path(importlib.util.cache_from_source(str(file))).unlink()


def describe_failure(name: str, file: Path, error: BaseException) -> str:
    """Return which module could not be reloaded, with the line of the file and the error."""
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else None
    place = error.__traceback__
    while place is not None:
        line = place.tb_lineno if place.tb_frame.f_code.co_filename == str(file) else line
        place = place.tb_next
    where = f"{paths.show_path(file)}{f', line {line}' if line else ''}"
    message = error.msg if isinstance(error, SyntaxError) else get_first_line(error)
    return make_printable(f"{name} is not reloaded: {where}: {type(error).__name__}: {message}")


def load_ipython_extension(shell: Any) -> None:
    """Reload edited modules in this kernel, unless it belongs to a run or is outside a checkout."""
    if not paths.is_reloading():
        return
    try:
        folders = [paths.find_library_dir(), paths.find_notebooks_dir(), paths.PACKAGE_DIR]
    except ParamsError:
        return
    reloader = Reloader(*folders)
    shell.events.register("pre_run_cell", reloader.reload_changed)
    shell.events.register("post_run_cell", reloader.note_modules)
