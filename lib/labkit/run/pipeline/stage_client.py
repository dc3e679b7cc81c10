"""Connects `labkit stage`, called by DVC, with the `labkit run` that called DVC.

The runner has already imported the heavy packages; the stage process only sends a name over a private socket and waits.
Without a runner, as with plain `dvc repro`, the stage process does the work itself.
"""

import json
import os
import secrets
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from labkit import paths
from labkit.run.kernels import socket_dirs

ACCEPT_SECONDS = 0.05


@dataclass(frozen=True)
class Reply:
    """How a stage ended: the exit code, and the error's message if it failed."""

    code: int
    message: str = ""


def ask_runner(stage: str, experiment: str) -> Reply | None:
    """Ask the runner that started this process to run a stage; None if there is no runner."""
    address = paths.get_runner_address()
    if address is None:
        return None
    line = ""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, suppress(OSError):
        connection.connect(address)
        connection.sendall(json.dumps({"stage": stage, "experiment": experiment}).encode() + b"\n")
        line = connection.makefile(encoding="utf-8").readline()
    return Reply(**json.loads(line)) if line else Reply(1, "the connection to the runner was lost")


class StageServer:
    """The runner's end of the socket: runs one stage at a time, in the thread that calls `serve`."""

    def __init__(self, listener: socket.socket, address: str) -> None:
        self.listener = listener
        self.address = address

    def serve(self, is_over: threading.Event, perform: Callable[[str, str], Reply]) -> None:
        """Handle requests until `is_over` is set."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            while not is_over.is_set():
                if selector.select(ACCEPT_SECONDS):
                    connection, _ = self.listener.accept()
                    with connection:
                        self.handle(connection, perform)

    def handle(self, connection: socket.socket, perform: Callable[[str, str], Reply]) -> None:
        """Run the stage that one stage process asks for and send it the result."""
        request = json.loads(connection.makefile(encoding="utf-8").readline())
        reply = perform(request["stage"], request["experiment"])
        connection.sendall(json.dumps({"code": reply.code, "message": reply.message}).encode() + b"\n")


@contextmanager
def open_stage_server() -> Iterator[StageServer]:
    """Yield a server on a socket that only this user can connect to; its address is in the environment of children."""
    folder = socket_dirs.make_folder()
    address = str(folder / secrets.token_hex(4))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(address)
        listener.listen()
        os.environ[paths.RUNNER_VARIABLE] = address
        try:
            yield StageServer(listener, address)
        finally:
            os.environ.pop(paths.RUNNER_VARIABLE, None)
            socket_dirs.remove_folder(folder)
