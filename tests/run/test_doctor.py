"""What `labkit doctor` finds: each fault put there for real, each with its remedy, and a whole checkout in silence."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from labkit import paths
from labkit.run import doctor
from labkit.run.doctor import CheckResult, examine
from labkit.run.kernels import servers
from labkit.run.pipeline import run_lock
from labkit.run.records import ledger

from tests.conftest import call_in_process

LONG_AGO = 2 * 3600


def find(about: str) -> CheckResult:
    return next(finding for finding in examine() if finding.about == about)


@pytest.mark.slow
def test_whole_checkout_passes_and_is_reported_within_two_seconds(checkout: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in checkout.rglob("*") if "__pycache__" not in str(path)}
    done = call_in_process(checkout, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No problems found." in done.stdout
    for about in ("Python", "packages", "free disk", "file modes", "locks", "unfinished runs", "DVC remote", "warm"):
        assert about in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in checkout.rglob("*") if "__pycache__" not in str(path)}


def test_no_heavy_package_is_imported(checkout: Path) -> None:
    code = (
        "import sys; from labkit.run.doctor import examine; examine()\n"
        "print(sorted({'pandas', 'numpy', 'sklearn', 'mlflow', 'papermill', 'dvc', 'nbconvert'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=checkout)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_outside_of_a_checkout(tmp_path: Path) -> None:
    done = call_in_process(tmp_path, "doctor")
    assert done.returncode == 2
    assert "no labkit checkout here or above" in done.stderr


def age(path: Path) -> None:
    os.utime(path, (time.time() - LONG_AGO,) * 2)


def write(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def leave_work(root: Path) -> None:
    folder = root / ".labkit/work/diabetes-20260101T000000Z-ab"
    folder.mkdir(parents=True)
    age(folder)


def leave_run(root: Path) -> None:
    with sqlite3.connect(root / "mlflow.db") as connection:
        connection.execute("create table runs (run_uuid text, name text, status text, lifecycle_stage text)")
        connection.execute(
            "insert into runs values ('1f', 'training', 'RUNNING', 'active'), ('2f', 'eda', 'FINISHED', 'active'),"
            " ('3f', 'removed', 'RUNNING', 'deleted')"
        )


def leave_entry(root: Path, *, is_closed: bool) -> None:
    """Write a run of a process that is gone to the ledger, or one that ended while its tracking server was away."""
    store = "http://127.0.0.1:9" if is_closed else paths.show_address(paths.get_tracking_uri())
    place = {"run": "x-1", "experiment": "x", "stage": None, "parent": None, "facts": {}}
    gone = {"pid": 2**22 + 1, "boot": "another", "process_started": 1.0, "at": ledger.make_timestamp()}
    ledger.append("start", **place, **gone, store=store)
    if is_closed:
        ledger.append("opened", run="x-1", tracked="1f")
        ended = {"reason": "", "exit_code": 1, "seconds": 1.0, "peak_bytes": 0, "is_settled": False}
        ledger.append("done", run="x-1", outcome="failed", **ended)


def lose_object(root: Path) -> None:
    out = {"path": "data/diabetes/model", "hash": "md5", "md5": "0" * 32}
    uncached = {"path": "data/diabetes/evaluation/metrics.json", "hash": "md5", "md5": "1" * 32}
    write(
        root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": {"training@diabetes": {"outs": [out, uncached]}}})
    )


def name_no_object(root: Path) -> None:
    out = {"path": "data/diabetes/model", "hash": "md5", "md5": "../../x"}
    write(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": {"training@diabetes": {"outs": [out]}}}))


def lose_inner_object(root: Path) -> None:
    """Let dvc.lock name a folder whose listing is in the cache, and of whose two files one is."""
    cache, listing = root / ".dvc/cache/files/md5", "2" * 32 + ".dir"
    entries = [{"relpath": name, "md5": md5 * 32} for name, md5 in (("here", "3"), ("gone", "4"))]
    write(cache / "22" / listing[2:], json.dumps(entries))
    write(cache / "33" / ("3" * 30))
    out = {"path": "data/diabetes/clean", "hash": "md5", "md5": listing}
    write(root / "dvc.lock", yaml.safe_dump({"schema": "2.0", "stages": {"wrangling@diabetes": {"outs": [out]}}}))


def break_lock(root: Path) -> None:
    """Write a dvc.lock as DVC does for a long key with blanks: over two lines."""
    lines = ["schema: '2.0'", "stages:", "  source@diabetes:", "    cmd: x"]
    lines += ["  eda@seats:", "    cmd: x", "      to the end", "    md5: 1", "  eda@diabetes:", "    cmd: x"]
    write(root / "dvc.lock", "\n".join(lines).replace("cmd: x\n      to", "on a long flight\n      to") + "\n")


def move_data(root: Path) -> None:
    (root / "data").mkdir(exist_ok=True)
    elsewhere = root.with_name(f"{root.name}.data")
    elsewhere.mkdir()
    (root / "data" / "breast_cancer").symlink_to(elsewhere)


FAULTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "world-writable": (
        lambda root: (root / "params/diabetes.yaml").chmod(0o666),
        "file modes",
        "writable by everyone: params/diabetes.yaml",
        "chmod o-w params/diabetes.yaml",
    ),
    "passwords": (
        lambda root: write(root / ".dvc/config.local").chmod(0o644),
        "file modes",
        "readable by others: .dvc/config.local",
        "chmod 600 .dvc/config.local",
    ),
    "passwords, for the group": (
        lambda root: write(root / ".dvc/config.local").chmod(0o640),
        "file modes",
        "readable by others: .dvc/config.local",
        "chmod 600 .dvc/config.local",
    ),
    "torn lock": (
        lambda root: write(root / ".dvc/tmp/rwlock", "{"),
        "locks",
        ".dvc/tmp/rwlock is damaged",
        "the next `labkit run` fixes it",
    ),
    "unfinished run": (
        leave_run,
        "unfinished runs",
        "1 in MLflow: training",
        "not of `labkit run`: if nothing works on them any more, mlflow runs delete --run-id 1f",
    ),
    "killed run": (
        lambda root: leave_entry(root, is_closed=False),
        "ledger",
        "killed and not closed: x-1",
        "`labkit runs` closes them",
    ),
    "run that the server does not know of": (
        lambda root: leave_entry(root, is_closed=True),
        "ledger",
        "1 ended without being recorded in http://127.0.0.1:9",
        "start the tracking server, set MLFLOW_TRACKING_URI as it was then, and `labkit runs` closes them there",
    ),
    "no store": (
        lambda root: write(root / "mlflow.db", "no database"),
        "unfinished runs",
        "mlflow.db: file is not a database",
        "restore it from a copy, or move it away to start over",
    ),
    "work folder": (
        leave_work,
        "leftovers",
        "incomplete: .labkit/work/diabetes-20260101T000000Z-ab",
        "rm -r .labkit/work/diabetes-20260101T000000Z-ab",
    ),
    "half-written file": (
        lambda root: age(write(root / "reports/.x y.html.1a2b3c4d.part")),
        "leftovers",
        "incomplete: reports/.x y.html.1a2b3c4d.part",
        "rm -r 'reports/.x y.html.1a2b3c4d.part'",
    ),
    "half-sent artifact": (
        lambda root: age(write(root / "mlruns/diabetes/1/artifacts/.artifact.uploading.x")),
        "leftovers",
        "incomplete: mlruns/diabetes/1/artifacts/.artifact.uploading.x",
        "rm -r mlruns/diabetes/1/artifacts/.artifact.uploading.x",
    ),
    "half-made object": (
        lambda root: age(write(root / ".dvc/cache/files/md5/ab/x.tmp")),
        "leftovers",
        "incomplete in DVC's cache: 1",
        "the next `labkit run` removes them",
    ),
    "damaged object": (
        lambda root: write(root / ".labkit/damaged/abc"),
        "damaged objects",
        "1 set aside",
        "check the disk, then rm -r .labkit/damaged",
    ),
    "missing object": (
        lose_object,
        "DVC's cache",
        "missing: data/diabetes/model",
        "`labkit pull` if there is a remote, else `labkit run` makes them again when needed",
    ),
    "name of no object": (
        name_no_object,
        "DVC's cache",
        "'../../x' is not the MD5 of an object in DVC's cache: restore dvc.lock from git, or remove it",
        "restore dvc.lock from git, or remove it and run again",
    ),
    "broken configuration of DVC": (
        lambda root: write(root / ".dvc/config", "core\n"),
        "DVC remote",
        ".dvc/config: File contains no section headers.",
        "restore it from git",
    ),
    "lock that cannot be read": (
        break_lock,
        "dvc.lock",
        "dvc.lock:8: not YAML, in the part of the stage eda of seats, so that no experiment can run",
        "remove lines 5 to 8, or the whole file. Only the knowledge of what is up to date is lost by it: those stages "
        "run again, or come from DVC's cache",
    ),
    "no git": (
        lambda root: (root / ".git").rename(root / ".gone"),
        "git",
        "ROOT is not a git repository, which DVC needs",
        "run `git init` there",
    ),
    "data elsewhere": (
        move_data,
        "outputs",
        "data/breast_cancer points to ROOT.data, outside of the checkout, where DVC keeps no outputs",
        "move it back. If disk space is short here, move DVC's cache with `dvc cache dir PATH`, or mount the other disk at "
        "data/breast_cancer (mount --bind)",
    ),
    "missing object of a folder": (
        lose_inner_object,
        "DVC's cache",
        "missing: data/diabetes/clean",
        "`labkit pull` if there is a remote, else `labkit run` makes them again when needed",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_with_its_remedy(checkout: Path, fault: str) -> None:
    make, about, found, remedy = FAULTS[fault]
    assert find(about).remedy == ""
    make(checkout)
    assert find(about) == CheckResult(about, found.replace("ROOT", str(checkout)), remedy)
    assert [finding.about for finding in examine() if finding.remedy] == [about]


@pytest.mark.slow
def test_exit_code_is_1_and_the_count_is_reported(checkout: Path) -> None:
    leave_work(checkout)
    (checkout / "dvc.yaml").chmod(0o666)
    done = call_in_process(checkout, "doctor")
    assert done.returncode == 1
    assert re.search(r"^2 of \d+ need attention$", done.stdout, re.MULTILINE)
    assert "Traceback" not in done.stderr


@pytest.mark.fault
@pytest.mark.slow
def test_killed_run_is_closed_before_anything_is_looked_at(checkout: Path) -> None:
    leave_entry(checkout, is_closed=False)
    done = call_in_process(checkout, "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"was killed (process {2**22 + 1} is gone); it is closed as such now" in done.stdout
    [entry] = ledger.load_entries()
    assert entry.outcome == "killed"


def test_run_in_progress_is_reported_and_no_fault(checkout: Path) -> None:
    leave_run(checkout)
    with run_lock.hold_experiment("x", report=print):
        found = find("locks")
        assert found.found.startswith(f"the run of x (process {os.getpid()}, since ")
        assert (found.remedy, find("unfinished runs").remedy) == ("", "")
    assert find("locks") == CheckResult("locks", "none held")


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "[]", "stages: 7", "stages: {x: [1]}", "\0", "a: &a [*a]"])
def test_torn_lock_file_is_no_traceback(checkout: Path, content: str) -> None:
    write(checkout / "dvc.lock", content)
    done = call_in_process(checkout, "doctor")
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr


def test_young_leftovers_may_be_of_a_run_that_goes_on(checkout: Path) -> None:
    write(checkout / "reports/.x.html.1a2b3c4d.part")
    (checkout / ".labkit/work/now").mkdir(parents=True)
    assert find("leftovers") == CheckResult("leftovers", "none")


def test_lock_of_an_ended_process_is_reported_but_no_fault(checkout: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path = checkout / ".dvc/tmp/rwlock"
    write(path, json.dumps({"data": {"write": {"pid": ended.pid, "cmd": "dvc repro"}}}))
    assert find("locks") == CheckResult("locks", "left by a process that has ended; the next run takes them over")
    write(path, json.dumps({"data": {"read": [{"pid": os.getpid(), "cmd": "dvc repro"}]}}))
    assert find("locks") == CheckResult("locks", f"DVC works in process {os.getpid()}")


@pytest.mark.parametrize(
    ("host", "is_open", "is_inside"), [("127.0.0.1", False, True), ("0.0.0.0", True, True), ("0.0.0.0", True, False)]
)
def test_listener_that_others_can_reach_is_named(checkout: Path, host: str, is_open: bool, is_inside: bool) -> None:
    """A process is of this checkout if it was started in it or registered for it."""
    code = (
        f"import socket, sys; s = socket.create_server(({host!r}, 0)); "
        "print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    folder, words = (checkout, []) if is_inside else (checkout.parent, [f"sqlite:///{checkout}/mlflow.db"])
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": folder}
    server = subprocess.Popen([sys.executable, "-c", code, *words], **options)  # type: ignore[call-overload]
    try:
        port = int(server.stdout.readline())
        finding = find("listeners")
    finally:
        server.communicate()
    if is_open:
        assert f"(process {server.pid}) on 0.0.0.0:{port}" in finding.found
        assert "--host 127.0.0.1" in finding.remedy
    else:
        assert finding == CheckResult("listeners", "none that others can reach")


def test_process_of_warm_kernels_is_reported(checkout: Path) -> None:
    address = servers.make_address()
    address.parent.mkdir(mode=0o700)
    server = servers.start_server(address, is_cold=True, is_owned=True)
    try:
        finding = find("warm kernels")
    finally:
        servers.end_server(server)
    assert re.fullmatch(rf"process {server.pid}, [\d,]+ modules", finding.found)
    assert finding.remedy == ""
    assert find("warm kernels") == CheckResult("warm kernels", "none running; `labkit warm` starts some")


def test_folder_of_warm_kernels_that_others_may_enter_is_named(checkout: Path) -> None:
    folder = servers.make_address().parent
    folder.mkdir(mode=0o755)
    try:
        assert find("warm kernels") == CheckResult(
            "warm kernels", str(folder), "not a private folder of this user: remove it"
        )
    finally:
        folder.rmdir()


def test_versions_of_the_main_packages_are_shown() -> None:
    assert f"mlflow {doctor.find_installed_version('mlflow')}" in doctor.check_packages().found


def test_untested_python_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_python().remedy == ""
    monkeypatch.setattr(doctor, "PYTHONS", ((3, 7), (3, 8)))
    assert doctor.check_python().remedy == "use Python 3.11, 3.12 or 3.13"


def test_missing_git_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert doctor.check_programs().remedy == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    summary = "git missing, no Chromium, which only the tests need"
    assert doctor.check_programs() == CheckResult(
        "programs", summary, "install git: without it no run knows its commit"
    )


def test_run_of_the_ledger_that_is_under_way_is_no_fault(checkout: Path) -> None:
    with ledger.open_entry("x", facts={}):
        assert find("ledger") == CheckResult("ledger", "1 run, 1 of them under way")
    assert find("ledger") == CheckResult("ledger", "1 run, 0 of them under way")


@pytest.mark.fault
def test_full_disk_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 10**18)
    assert "free disk space" in doctor.check_disk(tmp_path).remedy


def test_remote_is_named(checkout: Path) -> None:
    (checkout / ".dvc/config.local").touch(mode=0o600)
    with (checkout / ".dvc/config").open("a") as stream:
        stream.write("['remote \"team\"']\n    url = /tmp/team\n")
    assert find("DVC remote") == CheckResult("DVC remote", "team")
