"""Whose code asks for a file, a folder or a variable: that of the checkout, labkit's, or a library's for itself.

Looks at the frames of the stack. What is noted of it: `labkit.run.tracing.trace`.
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
"""What stands between a cell's `!command` and the call that starts it."""
ENVIRONMENT_MODULES = frozenset({"os", "collections.abc", "string"})
"""What stands between the code that asks for a variable and the variable."""
ENVIRONMENT_NAMES = frozenset({"environ", "environb", "getenv", "getenvb", "expandvars"})
LISTERS = frozenset({"importlib.metadata", "pkg_resources", "zipimport"})
"""Modules that list folders to find packages, not data."""
GLOBBERS = ("glob.py", "pathlib.py", "_abc.py", "_local.py")
Through = Literal["nothing", "libraries", "labkit"]
"""What may stand between the code of the checkout and what it asks for; each includes those before it."""


@dataclass(frozen=True)
class Callers:
    """Distinguishes code of the checkout from other code.

    Attributes
    ----------
    tops
        Where the checkout's code is, each path with the separator at its end.
    others
        Folders within them whose code is not the checkout's own: labkit, installed packages.
    observer
        The module that asks who it was, which does not count itself.
    """

    tops: tuple[str, ...]
    others: tuple[str, ...]
    observer: str

    def is_ours(self, frame: FrameType) -> bool:
        """Return whether a frame runs a cell, or code of the checkout that is not labkit's."""
        if frame.f_globals is vars(sys.modules["__main__"]):
            return True
        name = frame.f_code.co_filename
        return name.startswith(self.tops) and not name.startswith(self.others)

    def find_caller(self, frame: FrameType | None) -> FrameType | None:
        """Return the nearest frame that is not the observer's."""
        while frame is not None and frame.f_globals.get("__name__") == self.observer:
            frame = frame.f_back
        return frame

    def find_reader(self, frame: FrameType | None) -> FrameType | None:
        """Return the frame that reads an environment variable if it is of the checkout, otherwise None.

        A library in C has no frame of its own: what it asks for seems to be asked by the code that called it.
        """
        while frame is not None and (
            frame.f_globals.get("__name__") in ENVIRONMENT_MODULES or frame.f_code.co_name == "expandvars"
        ):
            frame = frame.f_back
        return frame if frame is not None and self.is_ours(frame) and names_environment(frame) else None

    def is_asked(self, frame: FrameType | None, *, through: Through) -> bool:
        """Return whether code of the checkout is what asks, not a library for its own purposes or as it is imported."""
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
        # Below nothing but Python and the shell: the thread in which IPython runs the programs of `%%bash`.
        return through == "nothing" and threading.current_thread() is not threading.main_thread()

    def is_data_listing(self, frame: FrameType, path: str, globbed: Iterable[str]) -> bool:
        """Return whether names are read as data: not by the search for a module, nor by what has noted its pattern."""
        caller = self.find_caller(frame)
        if caller is None or caller.f_globals.get("__name__") in LISTERS or is_import(caller):
            return False
        code = caller.f_code
        is_globbed = any(path == base or path.startswith(f"{base}{os.sep}") for base in globbed)
        if code.co_filename.endswith(GLOBBERS) and code.co_name != "iterdir" and is_globbed:
            return False
        return self.is_asked(caller, through="libraries")


def names_environment(frame: FrameType) -> bool:
    """Return whether a frame's own code names the environment, by its usual names or by one that was given to it."""
    code = frame.f_code
    names = {*code.co_names, *code.co_freevars, *code.co_varnames, *(one for one in code.co_consts if type(one) is str)}
    if not names.isdisjoint(ENVIRONMENT_NAMES):
        return True
    known = (scope[name] for name in names for scope in (frame.f_locals, frame.f_globals) if name in scope)
    return any(map(paths.reads_environment, known))


def is_import(frame: FrameType) -> bool:
    """Return whether a frame is one of Python's import system."""
    return frame.f_code.co_filename.startswith(IMPORT_SYSTEM)
