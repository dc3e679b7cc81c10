"""A kernel gives a checkpoint only if a copy of it would go on exactly as it does."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit.run.kernels import process_tree
from labkit.run.kernels.checkpoint import REQUEST
from labkit.run.kernels.servers import ask_state
from labkit.run.memory import PENDING_NAME
from labkit.run.notebook.checkpoints import keep_process

from tests.run.kernels.warm_kernels import Kernel, make_bare, wait_until
from tests.shared_server import SharedServer

OBSTACLES = {
    "a thread": (
        "import threading; stop = threading.Event(); t = threading.Thread(target=stop.wait, name='mine'); t.start()",
        "stop.set(); t.join()",
        "the thread mine is running",
    ),
    "a thread that Python does not list": (
        "import _thread, threading; stop = threading.Event(); _thread.start_new_thread(stop.wait, ())",
        "stop.set(); import time; time.sleep(0.2)",
        "a thread is running that a cell started",
    ),
    "a process": (
        "import subprocess; child = subprocess.Popen(['sleep', '60'])",
        "child.kill(); child.wait()",
        "a process that a cell started has not ended (sleep)",
    ),
    "a file open to write": ("out = open('out.txt', 'w')", "out.close()", "a cell has out.txt open"),
    "a pipe": ("import os; ends = os.pipe()", "[os.close(end) for end in ends]", "a cell has a connection open (pipe)"),
    "a connection": (
        "import socket; pair = socket.socketpair()",
        "[one.close() for one in pair]",
        "a cell has a connection open (socket)",
    ),
    "shared memory": (
        "import mmap; held = mmap.mmap(-1, 4096)",
        "held.close()",
        "a cell uses memory that is shared with a file or a process",
    ),
    "a mapped file": (
        "import mmap; open('m.bin', 'wb').write(b'x' * 5000)\n"
        "with open('m.bin', 'rb') as file: held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)",
        "held.close()",
        "a cell has m.bin ",
    ),
    "a timer": (
        "import signal; signal.setitimer(signal.ITIMER_REAL, 1000)",
        "signal.setitimer(signal.ITIMER_REAL, 0)",
        "a cell has set a timer",
    ),
    "a task": (
        "import asyncio; task = asyncio.get_running_loop().create_task(asyncio.sleep(1000))",
        "task.cancel(); await asyncio.sleep(0)",
        "a task that a cell started has not ended",
    ),
}
FIT = """
import hashlib, numpy as np, pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
table = pd.DataFrame({"a": np.arange(3000.0), "b": np.arange(3000) % 7})
table.to_parquet("table.parquet")
table = pd.read_parquet("table.parquet")
fitted = HistGradientBoostingRegressor(max_iter=5, random_state=1).fit(table, table.b)
print(hashlib.sha256(fitted.predict(table).tobytes()).hexdigest())
"""

COMPARE = """
import os
import pandas as pd
from labkit.data.timeline import Timeline
from labkit.model.training import fit_processes
from labkit.model.training.comparison import compare
from labkit.params.tables import Target
from labkit.params.training import Training
from labkit.run.tracing import trace
from sklearn.datasets import load_diabetes

fit_processes.FEWEST_ROWS = 100
table = load_diabetes(as_frame=True).frame
days = pd.date_range("2024-01-01", periods=len(table), unit="us").to_numpy()
options = {
    "target": Target(column="target", task="regression"),
    "training": Training(models=("dummy", "linear"), metric="mae", folds=2),
    "seed": 3,
    "timeline": Timeline(days, days),
}
"""
SHOW_COMPARED = """
n_processes = fit_processes.count_processes(len(table))
compared = compare(table.drop(columns="target"), table.target, **options)
left = [note["path"] for note in trace.list_notes() if note["kind"] == "change" and os.path.exists(note["path"])]
kinds = {note["kind"] for note in trace.list_notes()} & {"workers", "start", "network"}
print([n_processes], left, kinds, compared.frame.to_csv(float_format="%.17g"))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, shared_server: SharedServer) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        root = make_bare(tmp_path_factory.mktemp("checkout"))
        patch.setenv("LABKIT_ROOT", str(root))
        patch.setenv("LABKIT_WARM", str(shared_server.address))
        patch.setenv("OMP_NUM_THREADS", "2")
        yield root


@pytest.fixture(scope="module")
def kernel(root: Path) -> Iterator[Kernel]:
    kernel = Kernel(root)
    kernel.ask("1")
    yield kernel
    kernel.close()


def ask(kernel: Kernel) -> dict[str, Any]:
    """Ask a kernel for a checkpoint and return its reply."""
    message = kernel.client.session.msg(REQUEST, {})
    kernel.client.shell_channel.send(message)
    while True:
        reply = kernel.client.get_shell_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            return dict(reply["content"])


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_a_copy_would_lack_is_an_obstacle(kernel: Kernel, name: str) -> None:
    made, undone, words = OBSTACLES[name]
    kernel.ask(made)
    assert words in ask(kernel).get("obstacle", "none")
    kernel.ask(undone)
    assert "obstacle" not in ask(kernel)


def test_only_the_newest_checkpoint_is_there_and_ends_with_its_kernel(root: Path) -> None:
    kernel = Kernel(root)
    kernel.ask("1")
    first, second = ask(kernel), ask(kernel)
    assert process_tree.get_name(first["pid"]) == ""
    assert process_tree.get_name(second["pid"]) == PENDING_NAME
    kernel.close()
    wait_until(lambda: process_tree.get_name(second["pid"]) == "")


def test_continued_kernel_fits_and_reads_as_before(root: Path) -> None:
    kernel = Kernel(root)
    first = kernel.ask(FIT)
    point = ask(kernel)
    assert keep_process(point["pid"]), point
    kernel.ask("del fitted, table")
    kernel.close()
    try:
        again = Kernel(root, checkpoint=Path(point["address"]))
        assert again.ask("print(hashlib.sha256(fitted.predict(table).tobytes()).hexdigest())", timeout=30) == first
        assert again.ask(FIT, timeout=30) == first
        assert "obstacle" not in ask(again), "a kernel that was continued can be continued again"
        again.close()
        state = ask_state(Path(point["address"]), seconds=20, environment={**os.environ, "RATE": "2", "PWD": "/"})
        assert state
        assert "RATE" in state["changed"]
        assert "PWD" not in state["changed"]
    finally:
        os.kill(point["pid"], signal.SIGTERM)
    wait_until(lambda: process_tree.get_name(point["pid"]) == "" or is_zombie(point["pid"]))


def test_fits_in_processes_leave_nothing_that_a_copy_would_lack(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_CORES", "2")
    kernel = Kernel(root)
    kernel.ask(COMPARE)
    first = kernel.ask(SHOW_COMPARED, timeout=200)
    assert first.startswith("[2] [] set() "), "in two processes, of which nothing is left"
    point = ask(kernel)
    assert keep_process(point["pid"]), point
    assert kernel.ask(SHOW_COMPARED, timeout=200) == first, "with a checkpoint beside it"
    kernel.close()
    try:
        for n_cores in ("2", "1"):
            monkeypatch.setenv("LABKIT_CORES", n_cores)
            again = Kernel(root, checkpoint=Path(point["address"]))
            assert again.ask(SHOW_COMPARED, timeout=200) == first.replace("[2]", f"[{n_cores}]")
            assert "obstacle" not in ask(again)
            again.close()
    finally:
        os.kill(point["pid"], signal.SIGTERM)


def is_zombie(pid: int) -> bool:
    """Return whether a process has ended and was not reaped, as where process 1 does not do that."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
