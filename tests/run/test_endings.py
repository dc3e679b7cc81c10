"""The ways in which a run can end: exit code, ledger, marks of the cells and MLflow record the same for each."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import call_in_process, call_labkit
from tests.run.small import (
    find_done,
    find_family,
    find_states,
    find_tracked,
    is_alive,
    load_ledger,
    make_small,
    start,
    started,
    wait_until,
)
from tests.servers import find_free_port, serve, start_server, wait_until_up
from tests.services import skip_outside_of_ci

pytestmark = [pytest.mark.slow, pytest.mark.fault]

KEPT = ["finished"] * 4


@dataclass(frozen=True)
class Ending:
    """One way to end, brought about by the source of a cell: what is then reported, and in which words."""

    source: str
    outcome: str
    state: str
    words: str
    limits: str = ""


WAIT = "pathlib.Path(os.environ['LABKIT_ROOT'], 'began').touch()\ntime.sleep(600)"
ENDINGS = {
    "raises": Ending("1 / 0", "failed", "failed", "ZeroDivisionError: division by zero"),
    "raises a group": Ending(
        "raise ExceptionGroup('several', [ValueError('one'), KeyError('two')])",
        "failed",
        "failed",
        "stage eda failed: ExceptionGroup: several (2 exceptions): ValueError: one; KeyError: 'two'\nIn ",
    ),
    "raises with a long message": Ending(
        "raise ValueError('unknown: ' + ', '.join(map(str, range(400_000))))",
        "failed",
        "failed",
        "stage eda failed: ValueError: unknown: 0, 1, 2, 3",
    ),
    "exit 0": Ending("import sys; sys.exit(0)", "failed", "failed", "a cell called sys.exit()"),
    "exit 1": Ending("import sys; sys.exit(1)", "failed", "failed", "stage eda failed: SystemExit: 1"),
    "timeout": Ending("time.sleep(600)", "timed out", "timed out", "limits.cell_seconds allows no more", "1.5"),
    "timeout of a cell that ignores it": Ending(
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(1)",
        "timed out",
        "timed out",
        "timed out: the cell ran for 1.5 s",
        "1.5",
    ),
    "no memory": Ending(
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))\nx = bytes(2**33)",
        "failed",
        "failed",
        "): try fewer rows (--sample), fewer columns or a smaller model",
    ),
    "killed, out of memory": Ending(
        "x = bytes(300_000_000); time.sleep(1.5)\nimport signal; os.kill(os.getpid(), signal.SIGKILL)",
        "died",
        "died",
        "the kernel died in cell 4 (signal 9; peak memory 0.",
    ),
    "segfault": Ending("import ctypes; ctypes.string_at(0)", "died", "died", "the kernel died in cell 4 (signal 11)"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_failure_is_recorded_consistently_everywhere(tmp_path: Path, store: Path, name: str) -> None:
    ending = ENDINGS[name]
    root = make_small(tmp_path / "checkout", "eda", "wrangling", store=store, eda=ending.source)
    if ending.limits:
        with (root / "params" / "small.yaml").open("a") as stream:
            stream.write(f"\nlimits: {{cell_seconds: {ending.limits}}}\n")
    done = call_in_process(root, "run", "small", "--cold")
    assert done.returncode == 1, done.stdout + done.stderr
    assert ending.words in done.stderr
    assert ending.words not in done.stdout
    assert len(done.stdout + done.stderr) < 4000
    assert len(done.stderr.splitlines()) <= 12
    assert find_states(root, "01_eda") == [*KEPT, ending.state, "not run"]
    ledger = find_done(root)
    assert set(ledger) == {"run", "eda"}, "the stage after it may not start"
    assert ledger["eda"]["outcome"] == ending.outcome
    assert ledger["eda"]["exit_code"] == ledger["run"]["exit_code"] == 1
    assert ledger["run"]["outcome"] == "failed"
    assert {status for status, _ in find_tracked(root).values()} == {"FAILED"}
    assert list((root / ".labkit" / "work").iterdir()) == []
    assert not (root / "data" / "small" / "eda").exists()
    listed = call_in_process(root, "runs", "small").stdout
    assert f"  {ending.outcome} in eda " in listed


def test_success_is_recorded_consistently_everywhere(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", "wrangling", store=store)
    done = call_labkit(root, "run", "small", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    assert find_states(root, "01_eda") == [*KEPT, "finished", "finished"]
    ledger = find_done(root)
    assert {(name, line["outcome"], line["exit_code"]) for name, line in ledger.items()} == {
        ("run", "finished", 0),
        ("eda", "finished", 0),
        ("wrangling", "finished", 0),
    }
    assert ledger["eda"]["peak_bytes"] > 10_000_000
    assert {status for status, _ in find_tracked(root).values()} == {"FINISHED"}
    outputs = [line for line in load_ledger(root) if line["kind"] == "output"]
    assert [line["path"] for line in outputs] == ["data/small/eda", "data/small/wrangling"]
    asked = call_in_process(root, "why", "small", "-v").stdout
    for line in outputs:
        assert line["sha256"][:12] in asked
    assert "wrangling    ran: first run (" in asked
    mistyped = call_in_process(root, "why", "smal")
    assert mistyped.returncode == 2
    assert "no run 'smal': did you mean 'small'?" in mistyped.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL"])
def test_signal_to_the_runner_is_recorded_consistently_everywhere(tmp_path: Path, store: Path, name: str) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=WAIT)
    with started(root, "run", "small", "--cold") as run:
        wait_until((root / "began").exists)
        family = find_family(run.pid)
        run.send_signal(getattr(signal, name))
        printed = "".join(run.communicate(timeout=60))
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [process for process in alive if is_alive(process)] == []
    is_killed = name == "SIGKILL"
    assert run.returncode == (-9 if is_killed else 130), printed
    if is_killed:
        assert find_done(root) == {}
        assert [status for status, _ in find_tracked(root).values()] == ["RUNNING", "RUNNING"]
    listed = call_in_process(root, "runs").stdout
    expected = "killed" if is_killed else "interrupted"
    assert f"  {expected} " in listed
    ledger = find_done(root)
    assert {(name, line["outcome"]) for name, line in ledger.items()} == {("run", expected), ("eda", expected)}
    assert find_states(root, "01_eda") == (None if is_killed else [*KEPT, "interrupted", "not run"])
    reason = "process gone" if is_killed else "interrupted"
    status = "FAILED" if is_killed else "KILLED"
    assert set(find_tracked(root).values()) == {(status, reason)}
    assert list((root / ".labkit" / "work").iterdir()) == []
    n_lines = len(load_ledger(root))
    call_in_process(root, "runs")
    assert len(load_ledger(root)) == n_lines, "what is closed is closed once"


def test_process_in_the_background_of_a_shell_ends_when_asked_to(tmp_path: Path, store: Path) -> None:
    """There Ctrl-C is ignored, also where a request to end is taken as one."""
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=WAIT)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = start(root, "run", "small", "--cold")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until((root / "began").exists)
    run.send_signal(signal.SIGTERM)
    printed = "".join(run.communicate(timeout=60))
    assert run.returncode == 130, printed
    assert {line["outcome"] for line in find_done(root).values()} == {"interrupted"}


HARD = """
import psutil, re, subprocess, threading
from joblib import Parallel, delayed
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
threading.Thread(target=lambda: Parallel(2)(delayed(time.sleep)(600) for _ in range(2)), daemon=True).start()
def count_workers():
    return sum("popen_loky" in " ".join(one.cmdline()) for one in psutil.Process().children(recursive=True))
while count_workers() < 2:
    time.sleep(0.05)
pathlib.Path(os.environ["LABKIT_ROOT"], "began").touch()
re.match(r"(a+)+$", "a" * 60 + "b")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_nothing_survives_the_runner_whatever_a_cell_has_started(tmp_path: Path, store: Path, name: str) -> None:
    """A child in a session of its own, workers of joblib, and the interpreter's lock held all the time."""
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=HARD)
    with started(root, "run", "small", "--cold") as run:
        wait_until((root / "began").exists)
        family = find_family(run.pid)
        programs = [" ".join(process.cmdline()) for process in family]
        assert any(program == "sleep 600" for program in programs)
        assert sum("popen_loky" in program for program in programs) == 2
        run.send_signal(getattr(signal, name))
        run.communicate(timeout=60)
    wait_until(lambda: not any(map(is_alive, family)), 10)
    assert call_in_process(root, "runs").returncode == 0
    assert {line["outcome"] for line in find_done(root).values()} == {"killed" if name == "SIGKILL" else "interrupted"}
    assert not (root / "data" / "small" / "eda").exists()


@contextmanager
def mount(folder: Path, megabytes: int) -> Iterator[None]:
    """Have a folder on a disk of its own, of this size, for the time of the block."""
    folder.mkdir(parents=True)
    size = f"size={megabytes}m"
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=False, capture_output=True
    ).returncode:
        skip_outside_of_ci("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


FILL = """
with open(data / "fill", "wb", buffering=0) as stream:
    while True:
        stream.write(bytes(65536))
"""


def test_full_disk_is_recorded_consistently_everywhere(tmp_path: Path, store: Path) -> None:
    """The whole checkout stands on the full disk: data, ledger, MLflow and pages."""
    with mount(tmp_path / "checkout", 24):
        root = make_small(tmp_path / "checkout", "eda", store=store)
        assert call_in_process(root, "run", "small", "--cold").returncode == 0
        path = root / "notebooks" / "01_eda.ipynb"
        path.write_text(path.read_text().replace("1 + 1", FILL.strip().replace("\n", "\\n").replace('"', '\\"')))
        done = call_in_process(root, "run", "small", "--cold")
        assert done.returncode == 1, done.stdout + done.stderr
        assert re.search(
            rf"disk full: needs more, 0 bytes free at {root}(/\S+)?: free disk space and run again", done.stderr
        )
        ledger = find_done(root)
        assert (ledger["eda"]["outcome"], ledger["run"]["outcome"]) == ("failed", "failed")
        (root / "data" / "small" / "fill").unlink()
        assert call_in_process(root, "runs").returncode == 0
        assert find_tracked(root)["eda"][0] == find_tracked(root)["pipeline"][0] == "FAILED"
        assert find_states(root, "01_eda") == [*KEPT, "failed", "not run"]
        path.write_text(path.read_text().replace("while True", "while False"))
        assert call_in_process(root, "run", "small", "--cold").returncode == 0


LOSE = """
pathlib.Path(os.environ["LABKIT_ROOT"], "began").touch()
while not pathlib.Path(os.environ["LABKIT_ROOT"], "lost").exists():
    time.sleep(0.1)
"""


def test_server_lost_in_mid_run_is_recorded_consistently_everywhere_once_it_is_back(
    tmp_path: Path, store: Path
) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=LOSE)
    port = find_free_port()
    uri = f"http://127.0.0.1:{port}"
    options = ["--workers", "1", "--backend-store-uri", f"sqlite:///{root / 'mlflow.db'}"]
    command = [
        "mlflow",
        "server",
        "--port",
        str(port),
        *options,
        "--artifacts-destination",
        str(tmp_path / "artifacts"),
    ]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **settings}
    variables = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
    server = start_server(command, folder=tmp_path, environment=environment)
    try:
        wait_until_up(f"{uri}/health", server)
        with started(root, "run", "small", "--cold", **variables) as run:
            wait_until((root / "began").exists)
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            (root / "lost").touch()
            _, errors = run.communicate(timeout=120)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert run.returncode == 1
    assert f"{uri}: the tracking store or its artifact store failed: " in errors
    ledger = find_done(root)
    assert {line["outcome"] for line in ledger.values()} == {"failed"}
    assert not any(line["is_settled"] for line in ledger.values())
    assert {status for status, _ in find_tracked(root).values()} == {"RUNNING"}
    assert not (root / "data" / "small" / "eda").exists()
    with serve(command, folder=tmp_path, environment=environment, address=f"{uri}/health"):
        assert call_in_process(root, "runs", **variables).returncode == 0
        found = find_tracked(root, uri)
        assert {status for status, _ in found.values()} == {"FAILED"}
        assert "the tracking store or its artifact store failed" in found["eda"][1]
        again = call_in_process(root, "run", "small", "--cold", **variables)
        assert again.returncode == 0, again.stdout + again.stderr
        assert find_tracked(root, uri)["eda"][0] == "FINISHED"
