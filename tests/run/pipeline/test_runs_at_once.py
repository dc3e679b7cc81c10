"""Runs of two experiments at once in one checkout: neither waits for the other, and nothing of either is lost."""

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Timer

import pytest
from dvc.lock import LockError
from labkit.params.yaml_text import load_written_yaml
from labkit.run import doctor
from labkit.run.child_run import ChildRun
from labkit.run.notebook.step import follow
from labkit.run.pipeline import dvc_repo, dvc_sharing, run_lock
from labkit.view.board.state import find_board_state

from tests.conftest import call_in_process, call_labkit, make_environment
from tests.preloaded import DVC
from tests.run.small import load_ledger, make_small, start, started, strip_ledger, wait_until

EXPERIMENTS = ("small", "other")
SHARED = ((".", "dvc.lock"), (".dvc/tmp", "rwlock"))
WAIT = """
root = pathlib.Path(os.environ["LABKIT_ROOT"])
(root / f"began-{experiment}").touch()
while not (root / f"go-{experiment}").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Path:
    return make_small(tmp_path / "checkout", "eda", "wrangling", store=store, experiments=EXPERIMENTS, eda=WAIT)


@pytest.fixture
def first(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run of `small` in the midst of a stage."""
    with started(root, "run", "small", "--cold") as run:
        wait_until((root / "began-small").exists)
        yield run


def list_locked(root: Path) -> set[str]:
    return set(load_written_yaml(root / "dvc.lock")["stages"])


def name_stages(*experiments: str) -> set[str]:
    return {f"{stage}@{name}" for name in experiments for stage in ("fingerprint", "eda", "wrangling")}


@pytest.mark.slow
def test_run_of_another_experiment_starts_and_ends_meanwhile(root: Path, first: "subprocess.Popen[str]") -> None:
    (root / "go-other").touch()
    done = call_labkit(root, "run", "other", "--cold")
    assert done.returncode == 0, done.stderr
    assert "waiting" not in done.stdout
    assert first.poll() is None
    assert list_locked(root) == name_stages("other") | {"fingerprint@small"}
    shown = call_in_process(root, "status")
    assert re.search(rf"Under way now: the run of small \(process {first.pid}, since [^)]*\)\.", shown.stdout)
    (root / "go-small").touch()
    assert first.wait(60) == 0
    assert list_locked(root) == name_stages(*EXPERIMENTS)
    assert 'href="other/01_eda.html"' in (index := (root / "reports/index.html").read_text())
    assert 'href="small/02_wrangling.html"' in index
    again = [call_in_process(root, "run", name, "--cold").stdout for name in EXPERIMENTS]
    assert all(re.search(r"^wrangling +up to date", printed, re.MULTILINE) for printed in again)


@pytest.mark.slow
def test_both_are_shown_and_what_changes_the_checkout_waits_for_both(
    root: Path, first: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(root, "run", "other", "--cold") as second:
        wait_until((root / "began-other").exists)
        monkeypatch.setenv("LABKIT_ROOT", str(root))
        both = rf"the run of other \(process {second.pid}, since .*\) and the run of small \(process {first.pid}, .*\)"
        assert re.fullmatch(f"{both} are under way", doctor.check_run_lock(root / ".dvc/tmp/rwlock").found)
        for name in EXPERIMENTS:
            state = find_board_state(name)
            assert re.fullmatch(both, state.under_way)
            assert next((stage.stage, stage.state) for stage in state.stages) == ("eda", "running")
        document = json.loads(call_in_process(root, "status", "--json").stdout)
        assert re.fullmatch(both, document["under_way"])
        with started(root, "stages", "--update") as third:
            assert third.stdout
            assert re.fullmatch(rf"waiting for {both} …\n", third.stdout.readline())
            (root / "go-other").touch()
            assert second.wait(60) == 0
            assert third.poll() is None
            (root / "go-small").touch()
            assert first.wait(60) == 0
            assert third.wait(60) == 0


@pytest.mark.slow
def test_run_that_a_notebook_starts_waits_for_its_own_experiment_only(
    root: Path, first: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    (root / "go-other").touch()
    assert follow(ChildRun(["run", "other", "--force", "eda"])) == 0
    assert "waiting" not in capsys.readouterr().out
    same = ChildRun(["run", "small", "--force", "eda"])
    printed = wait_until(same.read_new)
    assert printed.startswith(f"waiting for the run of small (process {first.pid}, since ")
    (root / "go-small").touch()
    assert follow(same) == 0


@pytest.mark.slow
def test_run_waits_for_what_changes_the_whole_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    for name in EXPERIMENTS:
        (root / f"go-{name}").touch()
    with ExitStack() as held:
        held.enter_context(run_lock.hold_checkout("churn", report=print, command="labkit new"))
        with started(root, "run", "small", "--cold") as run:
            assert run.stdout
            assert run.stdout.readline().startswith("waiting for labkit new churn (process ")
            refused = call_in_process(root, "run", "other", "--no-wait")
            assert refused.returncode == 2
            assert re.match(r"labkit: labkit new churn \(process .*\) is under way: wait for it, or", refused.stderr)
            held.close()
            assert run.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_end_of_one_run_is_not_that_of_the_other(
    root: Path, first: "subprocess.Popen[str]", number: signal.Signals
) -> None:
    with started(root, "run", "other", "--cold") as second:
        wait_until((root / "began-other").exists)
        first.send_signal(number)
        assert first.wait(60) == (130 if number != signal.SIGKILL else -number)
        assert second.poll() is None
        (root / "go-other").touch()
        printed = second.communicate(timeout=60)
        assert second.returncode == 0, printed
    assert list_locked(root) == name_stages("other") | {"fingerprint@small"}
    (root / "go-small").touch()
    half = [root / folder / f".{name}.{first.pid}-0a1b2c3d.part" for folder, name in SHARED]
    for path in half:
        path.touch()
    assert call_labkit(root, "run", "small", "--cold").returncode == 0
    assert [path for path in half if path.exists()] == ([] if number == signal.SIGKILL else half)
    assert list_locked(root) == name_stages(*EXPERIMENTS)
    ends = {line["run"]: line["outcome"] for line in load_ledger(root) if line["kind"] == "done"}
    assert set(ends) == {line["run"] for line in load_ledger(root) if line["kind"] == "start"}
    assert {outcome for run, outcome in ends.items() if run.startswith("other-")} == {"finished"}


def digest_tree(root: Path) -> dict[str, bytes]:
    """Return what two experiments left behind, apart from times: outputs, metrics, dvc.lock."""
    files = [root / "dvc.lock", *(path for path in (root / "data").rglob("*") if path.is_file())]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.slow
def test_two_that_start_at_the_same_moment_leave_what_they_leave_in_turn(tmp_path: Path, store: Path) -> None:
    """Also dvc.lock, in whichever order they end."""
    in_turn, at_once = tmp_path / "in_turn" / "checkout", tmp_path / "at_once" / "checkout"
    make_small(in_turn, "eda", "wrangling", store=store, experiments=EXPERIMENTS)
    shutil.copytree(in_turn, at_once)
    for name in EXPERIMENTS:
        done = call_labkit(in_turn, "run", name, "--cold")
        assert done.returncode == 0, done.stderr
    both = [start(at_once, "run", name, "--cold") for name in EXPERIMENTS]
    printed = [run.communicate(timeout=120) for run in both]
    assert [run.returncode for run in both] == [0, 0], printed
    assert digest_tree(at_once) == digest_tree(in_turn)
    for name in EXPERIMENTS:
        assert strip_ledger(at_once, name) == strip_ledger(in_turn, name)
        assert len(strip_ledger(at_once, name)) > 10
    begun = [line["run"] for line in load_ledger(at_once) if line["kind"] == "start"]
    assert len(set(begun)) == len(begun) == 6


@pytest.mark.slow
def test_plain_dvc_runs_another_experiment_meanwhile(root: Path, first: "subprocess.Popen[str]") -> None:
    (root / "go-other").touch()
    command, environment = [DVC, "repro", "wrangling@other"], make_environment(root)
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused = subprocess.run(
        [DVC, "repro", "wrangling@small"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 255
    assert f"(PID {first.pid})" in refused.stderr
    (root / "go-small").touch()
    assert first.wait(60) == 0
    assert list_locked(root) == name_stages(*EXPERIMENTS)


COMMIT = """
import hashlib, os, sys
from pathlib import Path
from labkit.params.yaml_text import load_written_yaml
from labkit.run.pipeline import dvc_repo
name, n = sys.argv[1], int(sys.argv[2])
repo = dvc_repo.open_repo()
for number in range(n):
    content = f"{name} {number}"
    Path("data", name).mkdir(parents=True, exist_ok=True)
    Path("data", name, "eda").write_text(content)
    repo.commit(f"eda@{name}", force=True)
    stages = load_written_yaml(Path("dvc.lock"))["stages"]
    locked = stages.get(f"eda@{name}", {"outs": [{"md5": "none"}]})["outs"][0]["md5"]
    assert locked == hashlib.md5(content.encode()).hexdigest(), f"{content} is lost"
"""
BARE = """
vars:
- experiments: [small, other]
stages:
  eda:
    foreach: ${experiments}
    do:
      cmd: "true"
      outs:
      - data/${item}/eda
"""


@pytest.fixture
def bare(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one stage each, which this process and others commit without running anything."""
    (root / "dvc.yaml").write_text(BARE)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.chdir(root)
    return root


def commit(root: Path, name: str, n: int) -> "subprocess.Popen[str]":
    """Start a process that adds an entry of an experiment to dvc.lock `n` times, and finds each there."""
    command = [sys.executable, "-c", COMMIT, name, str(n)]
    return subprocess.Popen(command, cwd=root, env=make_environment(root), stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_no_entry_of_dvc_lock_is_lost_when_two_write_it(bare: Path) -> None:
    both = [commit(bare, name, 40) for name in EXPERIMENTS]
    printed = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], printed
    assert list_locked(bare) == {"eda@small", "eda@other"}


@pytest.mark.slow
def test_a_run_waits_for_longer_than_dvc_does(bare: Path) -> None:
    repo = dvc_repo.open_repo()
    with repo.lock:
        other = commit(bare, "other", 1)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(9)
    _, printed = other.communicate(timeout=60)
    assert other.returncode == 0, printed


HOLD_AS_DVC = (
    "import sys, zc.lockfile; held = zc.lockfile.LockFile(sys.argv[2]); print(1, flush=True); sys.stdin.read()"
)


@pytest.fixture
def push(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds DVC's lock as `dvc push` does, for longer than DVC waits."""
    monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.1)
    (bare / ".dvc" / "tmp").mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLD_AS_DVC, "dvc", str(bare / ".dvc" / "tmp" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "1\n"
        yield process
        process.kill()


def test_run_waits_for_a_command_of_dvc_after_one_line_about_it(push: "subprocess.Popen[str]") -> None:
    printed: list[str] = []
    repo = dvc_repo.open_repo(printed.append)
    timer = Timer(1, push.kill)
    timer.start()
    with repo.lock:
        assert push.wait(5) is not None
    timer.join()
    assert printed == [f"waiting for dvc lock (process {push.pid}) …"]


def test_what_must_not_wait_for_a_command_of_dvc_is_refused(push: "subprocess.Popen[str]") -> None:
    printed: list[str] = []
    lock = dvc_repo.open_repo(printed.append).lock
    with pytest.raises(LockError), lock.refuse_to_wait():
        lock.lock()
    assert printed == []
    assert lock.is_patient
    lock.is_patient = False
    with pytest.raises(LockError), lock:
        pass


def write_half(path: Path) -> None:
    """Write to a file as DVC does, but not to the end."""
    before = path.read_bytes()
    with dvc_sharing.WholeFiles().open(str(path), "w+") as stream:
        stream.write("half")
        stream.flush()
        assert path.read_bytes() == before
        raise KeyboardInterrupt


def test_what_is_killed_while_it_writes_leaves_the_former_file(bare: Path) -> None:
    commit(bare, "small", 1).communicate()
    for name in ("dvc.lock", ".dvc/tmp/rwlock"):
        before = (bare / name).read_bytes()
        assert before
        with pytest.raises(KeyboardInterrupt):
            write_half(bare / name)
        assert (bare / name).read_bytes() == before


@pytest.mark.parametrize("failing", ["", "datasets: []\n", "  eda@a: &id001\n    cmd: '1'\n  eda@b: *id001\n"])
def test_dvc_lock_is_sorted_by_experiment_if_that_changes_no_meaning(bare: Path, failing: str) -> None:
    content = "schema: '2.0'\nstages:\n  eda@small:\n    cmd: 'true'\n  eda@other:\n    cmd: 'true'\n" + failing
    with dvc_sharing.WholeFiles().open(str(bare / "dvc.lock"), "w+") as stream:
        stream.write(content)
    written = (bare / "dvc.lock").read_text()
    assert (written == content) == bool(failing)
    if not failing:
        assert list(load_written_yaml(bare / "dvc.lock")["stages"]) == ["eda@other", "eda@small"]
