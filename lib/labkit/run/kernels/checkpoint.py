"""Checkpoints of a kernel: a paused copy of it before a cell, from which it can be continued after that cell failed.

Runs inside warm kernels. A checkpoint is a fork, so all of the memory is exactly as it was. It is taken when the runner
asks for it with a message on the shell channel, and only if a fork would continue exactly as the kernel: see
`labkit.run.kernels.fork_safety`. What the copy does is in `labkit.run.kernels.paused_kernel`.
"""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

REQUEST, REPLY = "labkit_checkpoint_request", "labkit_checkpoint_reply"
PAUSED_KERNEL = "labkit.run.kernels.paused_kernel"
NONE: Mapping[int, int] = {}


def list_open_files() -> dict[int, str]:
    """Return what each file descriptor of this process refers to."""
    found = {}
    for path in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself
            found[int(path.name)] = str(path.readlink())
    return found


class Checkpoints:
    """The checkpoints of one kernel; only the newest is kept.

    Parameters
    ----------
    application
        The application of the kernel.
    alive
        File descriptor that closes when the server ends that the kernel was forked from.
    environment
        The environment that the kernel was started with.
    positions
        In a continued kernel, the files that cells had open, which are not its own.
    """

    def __init__(
        self,
        application: Any,
        *,
        alive: int,
        environment: Mapping[str, str],
        positions: Mapping[int, int] = NONE,
    ) -> None:
        self.application, self.alive, self.environment = application, alive, dict(environment)
        self.positions = dict(positions)
        self.own_files: dict[int, str] = {}
        self.pid = 0
        application.kernel.shell_handlers[REQUEST] = self.handle
        application.shell.events.register("pre_run_cell", self.note_own_files)

    def note_own_files(self, *_: Any) -> None:
        """Remember, before the first cell, what the kernel itself has open."""
        self.own_files = {
            number: target for number, target in list_open_files().items() if number not in self.positions
        }
        self.application.shell.events.unregister("pre_run_cell", self.note_own_files)

    def handle(self, stream: Any, ident: Any, message: Any) -> None:
        """Take a checkpoint and reply with its process and address, or with what keeps the kernel from it."""
        try:
            reply = self.take()
        except Exception as error:  # the run goes on without
            reply = {"obstacle": f"{type(error).__name__}: {error}"}
        kernel = self.application.kernel
        kernel.session.send(stream, REPLY, reply, message, ident=ident)

    def take(self) -> dict[str, Any]:
        """Fork a checkpoint in the place of the one before."""
        # Imported when it is needed: most kernels are never asked.
        reply: dict[str, Any] = import_module(PAUSED_KERNEL).fork_checkpoint(self)
        if "pid" in reply:
            self.discard()
            self.pid = reply["pid"]
        return reply

    def discard(self) -> None:
        """End the checkpoint before."""
        if self.pid:
            end_child(self.pid)
            self.pid = 0


def end_child(pid: int) -> None:
    """End a child of this process and reap it."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
