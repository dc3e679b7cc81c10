"""Real servers for tests: on loopback, waited for, and ended with everything they started."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(command: list[str], *, folder: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start a server in a session of its own, silent."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def serve(command: list[str], *, folder: Path, environment: dict[str, str], address: str) -> Iterator[None]:
    """Start a server in a session of its own, wait until `address` responds, and end the whole session after the block."""
    server = start_server(command, folder=folder, environment=environment)
    try:
        wait_until_up(address, server)
        yield
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def wait_until_up(address: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until an address responds, two minutes at most."""
    for _ in range(240):
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            urllib.request.urlopen(address, timeout=5).read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"{address} did not come up in two minutes")
