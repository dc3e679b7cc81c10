"""Whose code accesses a file, folder or variable: the checkout's, labkit's, or a library's for its own purposes.

Decided from the frames of the stack. Accesses are recorded by `labkit.run.tracing.trace`.
"""

import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType
from typing import Literal

from labkit import paths

IMPORT_SYSTEM = "<frozen importlib"
SHELL_MODULES = frozenset({"IPython", "ipykernel", "pexpect", "ptyprocess"})
"""Modules between a cell's `!command` and the call that starts it."""
ENVIRONMENT_MODULES = frozenset({"os", "collections.abc", "string"})
"""Modules between the code that reads a variable and the environment."""
ENVIRONMENT_NAMES = frozenset({"environ", "environb", "getenv", "getenvb", "expandvars"})
LISTERS = frozenset({"importlib.metadata", "pkg_resources", "zipimport"})
"""Modules that list folders to find packages, not data."""
GLOBBERS = ("glob.py", "pathlib.py", "_abc.py", "_local.py")
Through = Literal["nothing", "libraries", "labkit"]
"""Whose frames may be between the checkout's code and an access; each value includes the previous ones."""


@dataclass(frozen=True)
class Callers:
    """Distinguishes the checkout's code from other code.

    Attributes
    ----------
    tops
        Folders of the checkout's code, each path ending in a separator.
    others
        Folders inside them whose code is not the checkout's own: labkit, installed packages.
    observer
        The package that looks for the caller, whose own frames are skipped.
    """

    tops: tuple[str, ...]
    others: tuple[str, ...]
    observer: str

    def is_ours(self, frame: FrameType) -> bool:
        """Return whether a frame runs a cell, or code of the checkout other than labkit's."""
        if frame.f_globals is vars(sys.modules["__main__"]):
            return True
        name = frame.f_code.co_filename
        return name.startswith(self.tops) and not name.startswith(self.others)

    def find_caller(self, frame: FrameType | None) -> FrameType | None:
        """Return the nearest frame outside the observer."""
        while frame is not None and str(frame.f_globals.get("__name__")).startswith(f"{self.observer}."):
            frame = frame.f_back
        return frame

    def find_reader(self, frame: FrameType | None) -> FrameType | None:
        """Return the frame that reads an environment variable if it is of the checkout, otherwise None.

        A C library has no frames: what it reads seems to be read by the code that called it.
        """
        while frame is not None and (
            frame.f_globals.get("__name__") in ENVIRONMENT_MODULES or frame.f_code.co_name == "expandvars"
        ):
            frame = frame.f_back
        return frame if frame is not None and self.is_ours(frame) and names_environment(frame) else None

    def is_asked(self, frame: FrameType | None, *, through: Through) -> bool:
        """Return whether the access is made for the checkout's code, not by a library for itself or while imported."""
        frame, is_import_itself = self.find_caller(frame), True
        while frame is not None:
            if self.is_ours(frame):
                return True
            module = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            if is_import(frame):
                if through != "nothing" and not is_import_itself:
                    return False
            else:
                is_import_itself = False
                is_between = module in sys.stdlib_module_names or module in SHELL_MODULES
                if not is_between and (through == "nothing" or (module == "labkit" and through == "libraries")):
                    return False
            frame = frame.f_back
        # Only Python and the shell are on the stack: the thread in which IPython runs programs of `%%bash`.
        return through == "nothing" and threading.current_thread() is not threading.main_thread()

    def is_data_listing(self, frame: FrameType, path: str, globbed: Iterable[str]) -> bool:
        """Return whether a folder is listed for its data, not to find a module or for a glob already recorded."""
        caller = self.find_caller(frame)
        if caller is None or caller.f_globals.get("__name__") in LISTERS or is_import(caller):
            return False
        code = caller.f_code
        is_globbed = any(path == base or path.startswith(f"{base}{os.sep}") for base in globbed)
        if code.co_filename.endswith(GLOBBERS) and code.co_name != "iterdir" and is_globbed:
            return False
        return self.is_asked(caller, through="libraries")


def names_environment(frame: FrameType) -> bool:
    """Return whether a frame's own code refers to the environment, by its usual names or by another variable."""
    code = frame.f_code
    names = {*code.co_names, *code.co_freevars, *code.co_varnames, *(one for one in code.co_consts if type(one) is str)}
    if not names.isdisjoint(ENVIRONMENT_NAMES):
        return True
    known = (scope[name] for name in names for scope in (frame.f_locals, frame.f_globals) if name in scope)
    return any(map(paths.reads_environment, known))


def is_import(frame: FrameType) -> bool:
    """Return whether a frame belongs to Python's import system."""
    return frame.f_code.co_filename.startswith(IMPORT_SYSTEM)
