"""The ledger under faults: no line is lost, none is made up, and what lives is left alone."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from labkit.errors import StageError
from labkit.run.records import ledger, ledger_index, mlflow_store, recovery
from labkit.run.records.ledger import Process

from tests.run.small import load_ledger
from tests.services import skip_outside_of_ci

GONE = 2**22 + 1
"""No process has this number: the system gives none so high."""
SERVER = "http://127.0.0.1:9"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params").mkdir()
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def run_entry(stage: str | None = None, error: BaseException | None = None) -> None:
    """Open an entry and close it with an error or without."""
    with ledger.open_entry("mine", stage, facts={}):
        if error:
            raise error


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [
        (None, "finished", 0),
        (StageError("broken\nin two lines"), "failed", 1),
        (StageError("x" * 1000), "failed", 1),
        (ValueError(), "failed", 1),
        (KeyboardInterrupt(), "interrupted", 130),
    ],
)
def test_block_is_closed_as_it_ended(root: Path, error: BaseException | None, outcome: str, code: int) -> None:
    if error:
        with pytest.raises(type(error)):
            run_entry("eda", error)
    else:
        run_entry("eda")
    [entry] = ledger.load_entries()
    assert (entry.stage, entry.outcome, entry.exit_code) == ("eda", outcome, code)
    assert entry.seconds is not None
    assert "\n" not in entry.reason
    assert len(entry.reason) <= 300


def test_first_entry_counts(root: Path) -> None:
    """A closed run keeps its outcome, even if a late process closes it differently."""
    with ledger.open_entry("mine", "eda", facts={}) as entry:
        pass
    ledger.append("start", **{**make_start(entry.run), "experiment": "another"})
    entry.close("killed", None, "late")
    [found] = ledger.load_entries()
    assert (found.experiment, found.process.pid, found.outcome, found.reason) == ("mine", os.getpid(), "finished", "")


def test_line_that_is_written_in_part_is_not_taken_for_written(root: Path) -> None:
    run_entry("eda")
    path, limits = ledger.find_ledger_path(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, limits[1]))
    try:
        with pytest.raises(StageError, match=r"what ran cannot be recorded: .*ledger\.jsonl: .* File too large"):
            ledger.append("output", run="x", text="y" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    run_entry("features")
    assert [(entry.stage, entry.outcome) for entry in ledger.load_entries()] == [
        ("eda", "finished"),
        ("features", "finished"),
    ]


@pytest.mark.fault
@pytest.mark.parametrize("cut", [1, 20, 400])
def test_torn_line_takes_no_other_along(root: Path, cut: int) -> None:
    run_entry("eda")
    run_entry("features")
    path = ledger.find_ledger_path()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    before = {entry.stage: entry.outcome for entry in ledger.load_entries()}
    assert before["eda"] == "finished"
    run_entry("training")
    after = {entry.stage: entry.outcome for entry in ledger.load_entries()}
    assert after == {**before, "training": "finished"}


@pytest.mark.slow
def test_lines_of_processes_at_once_stay_whole(root: Path) -> None:
    code = "from labkit.run.records.ledger import append\nfor number in range(60): append('output', run='x', text='y' * 5000)"
    writers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
    ledger.append("start", run="x")
    assert [writer.wait(60) for writer in writers] == [0] * 6
    assert len([line for line in load_ledger(root) if line.get("text") == "y" * 5000]) == 360


def test_process_is_distinguished_from_a_later_one_with_its_number(root: Path) -> None:
    mine = ledger.find_process(os.getpid())
    assert mine
    assert mine.is_alive()
    assert not Process(mine.pid, mine.started - 1, mine.boot).is_alive()
    assert not Process(mine.pid, mine.started, "another start of the machine").is_alive()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = ledger.find_process(child.pid)
    assert other
    assert other.is_alive()
    child.kill()
    time.sleep(0.2)
    assert not other.is_alive(), "dead, though its parent has not asked for it yet"
    child.wait()


@pytest.fixture
def others(root: Path) -> Iterator[dict[str, int]]:
    """Two runs of two processes, each with a work folder and half-written files; one is killed."""
    code = (
        "import sys, time\nfrom labkit import paths\nfrom labkit.run.records import ledger\n"
        "from labkit.storage.atomic import atomic_write\n"
        "with ledger.open_entry(sys.argv[1], 'eda', facts={}) as entry:\n"
        "    (paths.find_work_dir() / entry.run).mkdir()\n"
        "    with atomic_write(paths.find_data_dir(sys.argv[1]) / 'table') as beside:\n"
        "        print('here', flush=True)\n"
        "        time.sleep(600)\n"
    )
    running = {}
    for name in ("dead", "live"):
        running[name] = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE)
        stdout = running[name].stdout
        assert stdout
        assert stdout.readline() == b"here\n"
    running["dead"].kill()
    running["dead"].wait()
    yield {name: process.pid for name, process in running.items()}
    running["live"].kill()
    running["live"].wait()


def test_only_what_is_dead_is_closed_and_swept(root: Path, others: dict[str, int]) -> None:
    gone = recovery.reconcile()
    assert [(entry.experiment, entry.process.pid) for entry in gone] == [("dead", others["dead"])]
    entries = {entry.experiment: entry for entry in ledger.load_entries()}
    assert (entries["dead"].outcome, entries["dead"].reason) == ("killed", "process gone")
    assert entries["live"].is_open
    assert [path.name for path in (root / ".labkit" / "work").iterdir()] == [entries["live"].run]
    parts = [path.parent.name for path in (root / "data").rglob(".*.part")]
    assert parts == ["live"]
    assert not (root / "mlflow.db").exists(), "no store is made only to record that something was killed"
    n_lines = len(load_ledger(root))
    assert recovery.reconcile() == []
    assert len(load_ledger(root)) == n_lines


def test_left_over_that_names_nobody_goes_when_it_is_old_and_nothing_runs(root: Path) -> None:
    work = root / ".labkit" / "work"
    for name in ("tmpnew", "tmpold"):
        (work / name).mkdir(parents=True)
    os.utime(work / "tmpold", (0, 0))
    ledger.append("start", **make_start("gone"))
    assert len(recovery.reconcile()) == 1
    assert [path.name for path in work.iterdir()] == ["tmpnew"]


def test_left_over_that_names_nobody_stays_as_long_as_somebody_works(root: Path, others: dict[str, int]) -> None:
    old = root / ".labkit" / "work" / "tmpold"
    old.mkdir()
    os.utime(old, (0, 0))
    assert len(recovery.reconcile()) == 1
    assert old.exists()


def test_run_that_starts_while_leftovers_are_looked_for_keeps_its_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run begins when the ledger has been read once."""
    started: list[str] = []
    find_unfinished = ledger_index.find_unfinished

    def find_then_start() -> list[ledger.Entry]:
        found = find_unfinished()
        start = make_start(f"live-{len(started)}")
        process = ledger.find_process(os.getpid())
        assert process
        ledger.append("start", **{**start, "pid": process.pid, "process_started": process.started})
        (root / ".labkit" / "work" / start["run"]).mkdir(parents=True)
        started.append(start["run"])
        return found

    monkeypatch.setattr(ledger_index, "find_unfinished", find_then_start)
    ledger.append("start", **make_start("gone"))
    (root / ".labkit" / "work" / "gone").mkdir(parents=True)
    assert [entry.run for entry in recovery.reconcile()] == ["gone"]
    assert len(started) > 1
    assert sorted(path.name for path in (root / ".labkit" / "work").iterdir()) == started


CHURN = """
import os, shutil, sys
from pathlib import Path
places = [Path(".labkit/work"), Path("data/other"), Path("mlruns/1/gone/artifacts")]
print("here", flush=True)
while True:
    for place in places:
        for number in range(20):
            (place / f"tmp{number}" / "below").mkdir(parents=True)
        for number in range(20):
            shutil.rmtree(place / f"tmp{number}")
"""


@pytest.mark.parametrize("resumed", [{"run": "first", "folder": "first", "cell": 5}, {"folder": "first"}])
def test_run_that_goes_on_in_the_folder_of_an_earlier_one_keeps_it(root: Path, resumed: dict[str, object]) -> None:
    ledger.append("start", **make_start("first"))
    work = root / ".labkit" / "work"
    with ledger.open_entry("mine", "eda", facts={}) as entry:
        entry.note_resumed(resumed)
        (work / "first").mkdir(parents=True)
        recovery.remove_unfinished([])
        assert [path.name for path in work.iterdir()] == ["first"]
    recovery.remove_unfinished([])
    assert list(work.iterdir()) == []


def test_folders_that_others_make_and_remove_meanwhile_do_not_end_the_sweep(root: Path) -> None:
    for folder in (".labkit/work", "data/other", "mlruns/1/gone/artifacts"):
        (root / folder).mkdir(parents=True)
    churn = subprocess.Popen([sys.executable, "-c", CHURN], cwd=root, stdout=subprocess.PIPE)
    try:
        assert churn.stdout
        assert churn.stdout.readline() == b"here\n"
        ledger.append("start", **make_start("gone"))
        ledger.append("opened", run="gone", tracked="gone")
        gone = ledger.load_entries()
        for _ in range(300):
            recovery.remove_unfinished(gone)
        assert churn.poll() is None
    finally:
        churn.kill()
        churn.wait()


@pytest.mark.parametrize("place", [".", "data/mine/clean", "reports/mine", "params", ".labkit/outputs/mine"])
def test_half_written_is_swept_wherever_it_stands_unless_it_may_be_somebodys(root: Path, place: str) -> None:
    folder = root / place
    (folder / f".folder.{GONE}-0123abcd.part").mkdir(parents=True)
    (folder / f".folder.{GONE}-0123abcd.part" / "x").touch()
    for name in (f".file.{GONE}-0123abcd.part", f".mine.{os.getpid()}-0123abcd.part", ".old.part", ".new.part"):
        (folder / name).touch()
    os.utime(folder / ".old.part", (0, 0))
    ledger.append("start", **make_start("gone"))
    assert len(recovery.reconcile()) == 1
    assert sorted(path.name for path in folder.glob(".*.part")) == [f".mine.{os.getpid()}-0123abcd.part", ".new.part"]


@pytest.mark.slow
def test_of_six_at_once_one_closes_what_is_dead(root: Path) -> None:
    names = [f"gone-{number}" for number in range(300)]
    for name in names:
        ledger.append("start", **make_start(name))
    command = [sys.executable, "-c", "from labkit.run.records import recovery; print(len(recovery.reconcile()))"]
    six = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    closed = [int(process.communicate(timeout=60)[0]) for process in six]
    assert sorted(closed) == [0, 0, 0, 0, 0, 300]
    assert [line["run"] for line in load_ledger(root) if line["kind"] == "done"] == names


def test_run_is_described_with_its_stages(root: Path) -> None:
    start = make_start("gone")
    ledger.append("start", **start)
    ledger.append("start", **{**start, "run": "below", "stage": "eda", "parent": "gone"})
    gone = recovery.reconcile()
    assert [entry.run for entry in gone] == ["gone", "below"]
    expected = f"mine: a run of {start['at']} was killed (process {GONE} is gone); it is closed as such now"
    assert recovery.describe_closed(gone) == [expected]


@pytest.mark.parametrize("uri", ["", SERVER], ids=["another store is used now", "the server is still away"])
def test_run_whose_server_was_away_waits_for_that_server(root: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    ledger.append("start", **{**make_start("reported later"), "store": SERVER})
    ledger.append("opened", run="reported later", tracked="1f")
    ended = {"reason": "", "exit_code": 1, "seconds": 1.0, "peak_bytes": 0, "is_settled": False}
    ledger.append("done", run="reported later", outcome="failed", **ended)
    n_lines = len(load_ledger(root))
    assert recovery.reconcile() == []
    assert len(load_ledger(root)) == n_lines
    [entry] = ledger.load_entries()
    assert not entry.is_settled


@pytest.mark.parametrize(
    ("name", "is_here"),
    [
        ("mlflow.db", True),
        ("sqlite:///{root}/mlflow.db", True),
        ("sqlite:////gone/kit/mlflow.db", True),
        ("sqlite:///{root}/elsewhere/mlflow.db", False),
        ("sqlite:////gone/kit/runs.db", False),
        (SERVER, False),
    ],
    ids=["own", "own, as it was written once", "before a move", "of its own", "other name", "server"],
)
def test_own_store_is_known_wherever_the_checkout_lay(root: Path, name: str, *, is_here: bool) -> None:
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "mlflow.db").touch()
    assert mlflow_store.is_store(name.replace("{root}", str(root))) == is_here


def make_start(run: str) -> dict[str, object]:
    """Return the content of a `start` line."""
    place = {"run": run, "experiment": "mine", "stage": None, "parent": None, "facts": {}, "store": ""}
    return {**place, "pid": GONE, "boot": ledger.find_boot(), "process_started": 1.0, "at": ledger.make_timestamp()}


@pytest.mark.fault
def test_end_of_a_run_finds_space_on_a_full_disk(root: Path) -> None:
    folder = root / ".labkit"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode == 0
    if not mounted:
        skip_outside_of_ci("only root may mount a small disk")
    try:
        with pytest.raises(OSError, match="No space left"), ledger.open_entry("mine", "eda", facts={}):
            fill(folder / "fill")
        [entry] = ledger.load_entries()
        assert (entry.outcome, entry.reason) == ("failed", "[Errno 28] No space left on device")
        with pytest.raises(
            StageError,
            match=r"what ran cannot be recorded: disk full: needs .*, .* free at .*/ledger.jsonl: free disk space",
        ):
            append_for_ever()
        assert [entry.outcome for entry in ledger.load_entries()] == ["failed"]
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def append_for_ever() -> None:
    """Add lines until that fails."""
    while True:
        ledger.append("output", run="x", text="y" * 5000)


def test_lines_can_be_read_without_labkit(root: Path) -> None:
    run_entry("eda")
    start, done = load_ledger(root)
    assert {"run", "experiment", "stage", "parent", "pid", "boot", "process_started", "at", "facts"} < set(start)
    assert {"run", "outcome", "reason", "exit_code", "seconds", "at"} < set(done)
    assert json.dumps(start)


def test_names_differ_in_the_hour_that_comes_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Summer time ends in Berlin: local clocks show 02:30 at both moments."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    names = []
    try:
        for hour in (0, 1):
            moment = datetime(2026, 10, 25, hour, 30, tzinfo=UTC)
            assert moment.astimezone().strftime("%H:%M") == "02:30"
            monkeypatch.setattr(
                ledger, "datetime", type("Fixed", (), {"now": lambda zone, at=moment: at.astimezone(zone)})
            )
            names += [ledger.make_run_name("mine"), ledger.make_run_name("mine")]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(set(names)) == 4, "two of one second too"
    assert [name.split("-")[1] for name in names[::2]] == ["20261025T003000Z", "20261025T013000Z"]
