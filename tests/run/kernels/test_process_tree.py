"""The end of a process and of all below it, whatever these do about it; in a whole run: `tests.run.test_endings`."""

import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from tests.run.small import is_alive, wait_until

BEGIN = """
import os, subprocess, sys, time
import psutil
from labkit.run.kernels import process_tree
process_tree.adopt_orphans()
"""
END = """
process_tree.end_descendants()
print(len(psutil.Process().children(recursive=True)))
"""
FAMILIES = {
    "deaf to what can be ignored": """
deaf = subprocess.Popen(["sh", "-c", "trap '' TERM INT HUP; echo here; sleep 600"], stdout=subprocess.PIPE)
assert deaf.stdout.readline()
""",
    "orphans": """
parent = subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600 & echo here"], stdout=subprocess.PIPE)
assert parent.stdout.readline()
parent.wait()
assert len(psutil.Process().children()) == 2
""",
    "fleeing": """
for _ in range(20):
    if os.fork() == 0:
        while True:  # always another process: of those that are found, some have a child by then
            time.sleep(0.1)
            if os.fork():
                os._exit(0)
time.sleep(0.1)
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_below_is_left(family: str) -> None:
    command = [sys.executable, "-c", BEGIN + FAMILIES[family] + END]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.communicate(timeout=60)[0] == "0\n"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_those_below_one_that_is_spared_are_spared() -> None:
    source = """
kept, ended = (subprocess.Popen(["sh", "-c", "echo here; sleep 600"], stdout=subprocess.PIPE) for _ in range(2))
assert kept.stdout.readline() and ended.stdout.readline()
process_tree.end_descendants(frozenset({kept.pid}))
print(kept.poll(), len(psutil.Process(kept.pid).children()))
print([one.pid for one in psutil.Process().children()] == [kept.pid])
"""
    done = subprocess.run([sys.executable, "-c", BEGIN + source + END], capture_output=True, text=True, check=True)
    assert done.stdout == "None 1\nTrue\n0\n"


def test_child_dies_with_its_parent() -> None:
    source = """
if os.fork() == 0:
    process_tree.die_with(os.getppid())
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", BEGIN + source], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        try:
            wait_until(lambda: not is_alive(child), 5)
        finally:
            if is_alive(child):
                child.kill()


def test_child_whose_parent_has_gone_already_ends_at_once() -> None:
    source = "process_tree.die_with(2**22 + 1)\nprint('alive')"
    done = subprocess.run([sys.executable, "-c", BEGIN + source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
