"""A server of kernels goes with the process that started it, also as long as it cannot look whether that has gone."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import psutil
import pytest
from labkit.run.kernels import servers

from tests.run.kernels.warm_kernels import make_bare
from tests.run.small import is_alive, wait_until

OWNER = """
import time
from pathlib import Path
from labkit.run.kernels import servers
print(servers.start_server(Path.cwd() / "kernels", is_cold=False, is_owned=True).pid, flush=True)
time.sleep(600)
"""
STAND_STILL = """
import signal, sys, time
from pathlib import Path
def stand_still():
    # Deaf, as a process is that loads a large library.
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    (Path.cwd() / "reached").touch()
    time.sleep(600)
is_server = "labkit.run.kernels.fork_server" in sys.orig_argv
"""
PLACES = {
    "starts": ("sitecustomize.py", "if is_server: stand_still()"),
    "imports": ("ipykernel/__init__.py", "if is_server: stand_still()"),
    "starts again without a package": (
        "sitecustomize.py",
        "if is_server and 'ipykernel' in sys.argv: stand_still()\n"
        "if is_server:\n"
        "    import threading\n"
        "    sys.modules['ipykernel'] = None\n"
        "    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()",
    ),
}
"""Where a server stands still for good: a module that is found before all others, and what it does."""


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with nothing in it."""
    make_bare(tmp_path)
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path


@pytest.mark.fault
@pytest.mark.parametrize("place", PLACES)
def test_server_whose_owner_is_killed_goes_wherever_it_is(bare: Path, place: str) -> None:
    name, source = PLACES[place]
    module = bare / "first" / name
    module.parent.mkdir(parents=True)
    module.write_text(STAND_STILL + source)
    environment = {**os.environ, "PYTHONPATH": str(bare / "first")}
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=bare, env=environment, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        server = psutil.Process(int(owner.stdout.readline()))
        try:
            wait_until((bare / "reached").exists)
            assert is_alive(server)
            owner.kill()
            wait_until(lambda: not is_alive(server), 2)
        finally:
            owner.kill()
            if is_alive(server):
                server.kill()


def test_server_outlives_the_thread_that_started_it(bare: Path) -> None:
    started = []
    thread = Thread(target=lambda: started.append(servers.start_server(bare / "kernels", is_cold=True, is_owned=True)))
    thread.start()
    thread.join()
    try:
        state = servers.ask_state(bare / "kernels", seconds=60)
        assert state is not None
        assert state["pid"] == started[0].pid
    finally:
        servers.end_server(started[0])


DEAF = """
import json, os, signal, socket, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.recv(100)  # closed with something unread, the connection would be reset
        connection.sendall(json.dumps({"pid": os.getpid(), "modules": 0}).encode() + b"\\n")
        connection.close()
"""


@pytest.mark.fault
def test_server_that_loses_the_signal_to_end_is_killed(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "SERVER_STOP_SECONDS", 0.2)
    address = servers.make_address()
    address.parent.mkdir(mode=0o700)
    with subprocess.Popen([sys.executable, "-c", DEAF, str(address)], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            assert server.stdout.readline() == "listening\n"
            assert servers.stop_servers() == 1
            assert server.wait(60) == -signal.SIGKILL
        finally:
            server.kill()
    assert not address.parent.exists()
