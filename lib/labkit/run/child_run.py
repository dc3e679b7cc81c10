"""A `labkit` command run as a child process of a kernel: started, followed, and interrupted if asked.

The kernel's own state stays as it is. The child writes to a file without a name, not to a pipe, so that it goes on if
the kernel ends.
"""

import codecs
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from labkit import paths

OF_KERNEL = ("JPY_PARENT_PID", "JPY_SESSION_NAME", "MPLBACKEND", paths.RUNNER_VARIABLE)
"""Variables that are only about the kernel that starts the child."""


class ChildRun:
    """One `labkit` command in a process of its own, such as `["run", "diabetes"]`."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.command = " ".join(["labkit", *arguments])
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.n_read = 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        kept = {name: value for name, value in paths.copy_environment().items() if name not in OF_KERNEL}
        root = paths.find_root()
        self.process = subprocess.Popen(
            [str(Path(sys.executable).with_name("labkit")), *arguments],
            cwd=root,
            env={**kept, "LABKIT_ROOT": str(root), "NO_COLOR": "1", "COLUMNS": "120", "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            # The interrupt of a kernel would reach the child at once and a second time through `stop`.
            start_new_session=True,
        )

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command; None while it is running."""
        return self.process.poll()

    def read_new(self) -> str:
        """Return the output since the last call."""
        is_over = self.exit_code is not None
        found = os.pread(self.log.fileno(), os.fstat(self.log.fileno()).st_size - self.n_read, self.n_read)
        self.n_read += len(found)
        return self.decoder.decode(found, final=is_over)

    def stop(self) -> None:
        """Ask the command to stop as Ctrl-C does: it ends its kernels, and records that it was interrupted."""
        if self.exit_code is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float | None = None) -> int:
        """Wait until the command has ended and return its exit code.

        Raises
        ------
        subprocess.TimeoutExpired
            It is still running after that many seconds.
        """
        return self.process.wait(seconds)
