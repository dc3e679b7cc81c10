"""The command line on a terminal."""

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests import preloaded
from tests.conftest import LABKIT, make_environment

WIDE = "2000"
"""Columns of the terminal, so that only a line break begins a line."""


def call_on_terminal(
    root: Path, *arguments: str, start: Callable[..., "subprocess.Popen[bytes]"] = preloaded.Popen
) -> str:
    """Run the command line on a terminal and return what that was sent; the process is a fork, see `tests.preloaded`."""
    leader, follower = pty.openpty()
    environment = {**make_environment(root), "TERM": "xterm-256color", "COLUMNS": WIDE}
    del environment["NO_COLOR"]
    process = start(
        [LABKIT, *arguments], cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower
    )
    os.close(follower)
    parts = []
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other side has closed it
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    process.wait(60)
    return b"".join(parts).decode()
