"""A fork of the preloaded process is to its command and to those around it what the installed program is."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import labkit
import pytest
from labkit.run.pipeline.run_lock import hold_experiment

from tests import preloaded
from tests.conftest import LABKIT, SET_BY_LIBRARIES, call_in_process, make_environment
from tests.preloaded import DVC
from tests.run.small import make_small, wait_until
from tests.terminal import call_on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("preloaded")]
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
START: dict[str, Callable[..., "subprocess.Popen[str]"]] = {"fork": preloaded.Popen, "program": subprocess.Popen}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = make_small(tmp_path / "checkout", "eda")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


def describe(process: "subprocess.Popen[str]", root: Path) -> dict[str, Any]:
    """Return what the system knows of a process and may not depend on how it was started."""
    place = Path("/proc", str(process.pid))
    status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
    files = {int(path.name): str(path.readlink()) for path in (place / "fd").iterdir()}
    return {
        "signals": {name: status[name] for name in ("SigBlk", "SigIgn", "SigCgt")},
        "umask": status["Umask"],
        "cwd": (place / "cwd").readlink().relative_to(root),
        "leads": os.getsid(process.pid) == os.getpgid(process.pid) == process.pid,
        "streams": [re.sub(r"\d+", "N", files[number]) for number in range(3)],
        "others": sorted(re.sub(r"\d+", "N", name) for number, name in files.items() if number > 2),
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_waiting_run_looks_and_ends_as_the_program_does(root: Path, number: signal.Signals) -> None:
    seen = {}
    with hold_experiment("small", report=print):
        for name, start in START.items():
            options = {**PIPES, "stdin": subprocess.DEVNULL, "start_new_session": True}
            with start([LABKIT, "run", "small"], cwd=root / "params", env=make_environment(root), **options) as run:
                try:
                    wait_until(lambda run=run: "waiting for" in run.stdout.readline())
                    found = describe(run, root)
                    assert run.poll() is None
                    with pytest.raises(subprocess.TimeoutExpired):
                        run.wait(0.01)
                finally:
                    run.send_signal(number)
                seen[name] = (found, run.wait(60), run.stdout.read(), run.stderr.read())
                assert run.poll() == run.returncode
            run.send_signal(signal.SIGINT)  # to nobody: the process has ended
    assert seen["fork"] == seen["program"]
    assert seen["fork"][1] == {signal.SIGKILL: -signal.SIGKILL}.get(number, 130)


@pytest.mark.parametrize("words", [["--version"], ["staus"], ["status", "small"], ["params", "small", "--json"]])
def test_command_prints_and_ends_as_the_program_does(root: Path, words: list[str]) -> None:
    fork = preloaded.run([LABKIT, *words], cwd=root, env=make_environment(root), timeout=60)
    command = [LABKIT, *words]
    program = subprocess.run(command, cwd=root, env=make_environment(root), capture_output=True, text=True, check=False)
    assert (fork.returncode, fork.stdout, fork.stderr) == (program.returncode, program.stdout, program.stderr)


def test_command_prints_on_a_terminal_as_the_program_does(root: Path) -> None:
    fork, program = (call_on_terminal(root, "status", "small", start=start) for start in START.values())
    assert fork == program
    assert "\x1b[" in fork


def test_output_that_cannot_be_written_is_reported_as_by_the_program(root: Path) -> None:
    seen = []
    for start in START.values():
        with open("/dev/full", "w") as full:  # noqa: PTH123
            options = {**PIPES, "stdout": full}
            process = start([LABKIT, "params", "small"], cwd=root, env=make_environment(root), **options)
            errors = process.communicate(timeout=60)[1]
            seen.append((process.returncode, re.sub(r"[\d.,]+", "N", errors)))
    assert seen[0] == seen[1]
    assert seen[0][0]


@pytest.mark.parametrize(
    ("command", "variables", "options", "is_forked"),
    [
        (LABKIT, {}, {}, True),
        (LABKIT, {"LABKIT_ROOT": "elsewhere", "COLUMNS": "300", "PATH": "/bin"}, {}, True),
        (LABKIT, {"PYTHONPATH": "lib"}, {}, True),
        (DVC, {}, {}, True),
        (LABKIT, {"HOME": "/nowhere"}, {}, False),
        (LABKIT, {"LC_ALL": "C"}, {}, False),
        (LABKIT, {"UNHEARD_OF": "1"}, {}, False),
        (LABKIT, {}, {"pass_fds": (0,)}, False),
        (LABKIT, {}, {"umask": 0o077}, False),
        (LABKIT, {}, {"preexec_fn": os.getpid}, False),
        ("/bin/true", {}, {}, False),
    ],
)
def test_what_a_fork_cannot_take_over_is_executed(
    root: Path, command: str, variables: dict[str, str], options: dict[str, Any], is_forked: bool
) -> None:
    environment = {**make_environment(root), **variables}
    with preloaded.Popen([command, "--version"], cwd=root, env=environment, **PIPES, **options) as process:
        process.communicate(timeout=60)
    assert (process.ended is not None) == is_forked
    assert process.returncode == 0


def test_code_of_another_pythonpath_runs_and_can_be_edited(root: Path) -> None:
    """With the packages that it imports, as they are installed."""
    library, seen = root / "lib", []
    shutil.copytree(Path(labkit.__file__).parent, library / "labkit", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**make_environment(root), "PYTHONPATH": str(library)}
    for edit in ("import sys, sqlalchemy\nprint(__file__, sqlalchemy.__file__)", "print(sys.path[1])"):
        with (library / "labkit" / "cli" / "main.py").open("a") as stream:
            stream.write(f"{edit}\n")
        command = [LABKIT, "--version"]
        fork = preloaded.run(command, cwd=root, env=environment, timeout=60)
        program = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert (fork.returncode, fork.stdout, fork.stderr) == (0, program.stdout, program.stderr)
        seen += fork.stdout.splitlines()
    assert seen[0].startswith(f"{library / 'labkit/cli/main.py'} ")
    assert str(library) in seen


def test_what_packages_set_in_this_process_prevents_no_fork(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET_BY_LIBRARIES:
        monkeypatch.setenv(name, "set by an import")
    with preloaded.Popen([LABKIT, "--version"], cwd=root, env=make_environment(root), **PIPES) as process:
        process.communicate(timeout=60)
    assert process.ended is not None


def test_what_is_preloaded_has_one_thread() -> None:
    process = preloaded.get_preloaded().process
    assert preloaded.get_preloaded().is_ready
    assert len(list(Path("/proc", str(process.pid), "task").iterdir())) == 1


def test_commands_in_this_process_leave_no_settings_behind(root: Path) -> None:
    call_in_process(root, "models")
    assert os.environ["DO_NOT_TRACK"] == "1"
    os.environ["LEFT_BEHIND"] = "1"


def test_command_after_them_is_forked(root: Path) -> None:
    assert "LEFT_BEHIND" not in os.environ
    with preloaded.Popen([LABKIT, "--version"], cwd=root, env=make_environment(root), **PIPES) as process:
        process.communicate(timeout=60)
    assert process.ended is not None
