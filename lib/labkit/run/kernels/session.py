"""The source of a run's kernels: the server kept for the checkout, or one that belongs to the run.

The run's own server is started as soon as the run has been checked and seems to need kernels, because it imports for
some seconds. Meanwhile, and while kernels work, this process imports its own modules in another thread.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from labkit import paths
from labkit.run.kernels import process_tree, servers, socket_dirs

TRACKING_MODULE, STAGE_MODULE = "labkit.run.records.tracking", "labkit.run.pipeline.stage_run"


class Kernels:
    """The kernels of one run.

    Parameters
    ----------
    is_cold
        Whether kernels are ordinary processes, each of which imports everything itself.
    is_kept_used
        Whether to use the server kept for the checkout, if there is one.
    later
        Modules to import in another thread while kernels work.
    address
        Address of a running server to use, which belongs to another process.
    """

    def __init__(
        self, *, is_cold: bool, is_kept_used: bool = True, later: Iterable[str] = (), address: str | None = None
    ) -> None:
        self.is_cold, self.is_kept_used, self.later = is_cold, is_kept_used, tuple(later)
        self.address = address
        self.is_begun = False
        self.server: subprocess.Popen[bytes] | None = None
        self.folder: Path | None = None
        self.before = paths.get_warm_address()
        self.imported: dict[str, Event] = {}

    def begin(self) -> None:
        """Start kernels of this process as forks from now on, and begin importing; further calls do nothing."""
        if self.is_begun:
            return
        self.is_begun = True
        # Messages of kernels must be handled while another thread imports, not 5 ms later each time.
        sys.setswitchinterval(0.0005)
        if process_tree.is_supported():
            self.find_server()
        self.begin_importing(TRACKING_MODULE, STAGE_MODULE)

    def begin_importing(self, *modules: str) -> None:
        """Import modules one after another in a daemon thread, so that a run that is refused need not wait.

        If a module has a function `prepare`, it is called.
        """
        new = {name: Event() for name in modules if name not in self.imported}
        self.imported |= new

        def import_all() -> None:
            for name, is_there in new.items():
                with suppress(Exception):  # raised again where it is needed
                    module = importlib.import_module(name)
                    getattr(module, "prepare", lambda: None)()
                is_there.set()

        Thread(target=import_all, name="imports", daemon=True).start()

    def find_server(self) -> None:
        """Use the given server or the one kept for the checkout, or start one."""
        address = Path(self.address) if self.address else servers.find_server() if self.is_kept_used else None
        if address is None:
            self.folder = socket_dirs.make_folder()
            address = self.folder / "kernels"
            self.server = servers.start_server(address, is_cold=self.is_cold, is_owned=True)
        os.environ[paths.WARM_VARIABLE] = str(address)

    def wait_for(self, module: str | None = None) -> None:
        """Wait until a module, or all, are imported: two threads must not import one module at the same time."""
        for name in [module] if module else list(self.imported):
            if name in self.imported:
                self.imported[name].wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the run's own server and with it every kernel."""
        if self.server:
            servers.end_server(self.server)
        if self.folder:
            socket_dirs.remove_folder(self.folder)
        os.environ.pop(paths.WARM_VARIABLE, None)
        if self.before is not None:
            os.environ[paths.WARM_VARIABLE] = self.before


def seem_needed(experiment: str) -> bool:
    """Return whether a stage seems stale, because an input is newer than dvc.lock; DVC itself decides."""
    root = paths.find_root()
    lock = root / "dvc.lock"
    if not lock.is_file():
        return True
    inputs = [paths.find_params_path(experiment), root / "requirements.lock", root / paths.MARKER]
    for folder in (paths.find_notebooks_dir(), paths.find_notebooks_dir(experiment)):
        inputs += folder.glob("*.ipynb")
    return any(path.is_file() and path.stat().st_mtime > lock.stat().st_mtime for path in inputs)
