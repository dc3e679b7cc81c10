"""Git, called in folders of tests under an identity of its own, whatever the machine's settings are."""

import os
import subprocess
from pathlib import Path

SETTINGS = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


def call_git(folder: Path, *words: str, given: bytes | None = None, **variables: str) -> str:
    """Run git in a folder and return what it printed.

    Parameters
    ----------
    given
        What git reads from its standard input.
    variables
        Environment variables to set.
    """
    command = ["git", "-C", str(folder), *SETTINGS, *words]
    environment = {**os.environ, **variables}
    return subprocess.run(command, input=given, env=environment, capture_output=True, check=True).stdout.decode()


def commit_all(folder: Path, subject: str = "run") -> None:
    """Commit everything that is not ignored."""
    call_git(folder, "add", "-A")
    call_git(folder, "commit", "-qm", subject)
