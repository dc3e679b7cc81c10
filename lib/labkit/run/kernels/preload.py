"""The packages that a fork server imports before the first request: those that the notebooks and labkit import.

They are found in the source code, so that a package newly used by a notebook is preloaded the next time. The server
only imports: it must not train or plot, because a fork of a process that has used OpenMP hangs, nor start a thread,
because threads do not survive a fork.
"""

import gc
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from labkit.run.fingerprint.code_cache import CodeCache
from labkit.run.fingerprint.python_code import Import

KERNEL_MODULES = (
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    # This import takes half of a kernel's start-up time.
    "ipykernel.debugger",
    "IPython.core.completer",
    "IPython.core.magics.basic",
    "IPython.extensions.autoreload",
)
"""Modules that every kernel imports when it starts."""
RUNNER_PARTS = (
    "cli", "new", "orchestration", "packages", "project", "reproduction", "run", "serving", "stages", "sweep",
)  # fmt: skip
"""Parts of labkit whose packages no kernel needs, whatever little of them a notebook uses."""
THREADED = ("onnxruntime",)
"""Packages known to start a thread when imported: kernels import them themselves."""
QUIET = {
    # The value that ipykernel sets before a notebook can import matplotlib.
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYCARET_CUSTOM_LOGGING_PATH": os.devnull,
    # No extra threads: pyarrow's allocator and numpy's linear algebra start some when they are loaded.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
    "OPENBLAS_NUM_THREADS": "1",
}


def list_imports(root: Path) -> Iterator[Import]:
    """Yield all imports in the checkout's notebooks, the modules beside them and labkit."""
    meanings = CodeCache(root)
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        yield from meanings.get(path).imports
    library = Path(__file__).resolve().parents[2]
    skipped = {library / name for name in RUNNER_PARTS}
    for folder in (root / "notebooks", library):
        for path in sorted(folder.rglob("*.py")):
            if not skipped & {path, *path.parents}:
                yield from meanings.get(path).imports
    meanings.save()


def find_modules(root: Path) -> list[str]:
    """Return the modules to import: installed ones, without the standard library and the checkout's own.

    Modules of the checkout may be edited while the server runs.
    """
    found = [one for one in list_imports(root) if not one.level]
    names = {name for one in found for name in (one.module, *(f"{one.module}.{part}" for part in one.names))}
    packages = {name.partition(".")[0] for name in names} - {*sys.stdlib_module_names, "labkit"}
    installed = {package for package in packages if is_installed(package, root)}
    return sorted(name for name in names if name.partition(".")[0] in installed)


def is_installed(package: str, root: Path) -> bool:
    """Return whether a package can be imported and is not one of the checkout's own."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [Path(place).resolve() for place in (spec.origin, *(spec.submodule_search_locations or ())) if place]
    inside = [place for place in places if place.is_relative_to(root.resolve())]
    return all(place.is_relative_to(Path(sys.prefix).resolve()) for place in inside)


def import_all(names: Iterable[str], *, skipped: Iterable[str]) -> str | None:
    """Import each module that exists, and leave warnings and logging unchanged.

    Returns
    -------
    str or None
        The package that started a thread, after which importing stops: this process must not be forked.
    """
    show, left_out = warnings.showwarning, {*THREADED, *skipped}
    # Nearly all objects created by imports stay alive; garbage collection would take a sixth of the time.
    gc.disable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            package = name.partition(".")[0]
            if package in left_out:
                continue
            # A name after `from … import` is most often a function, not a module.
            with suppress(Exception):
                importlib.import_module(name)
            if count_threads() > 1:
                return package
    warnings.showwarning = show
    logging.captureWarnings(False)
    gc.enable()
    gc.collect()
    gc.freeze()
    return None


def count_threads() -> int:
    """Return how many threads this process has, including those that Python did not start."""
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.is_dir() else threading.active_count()
