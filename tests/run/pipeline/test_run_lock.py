"""Two runs at once in one checkout: the second waits and reports for which, and reading is always possible."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from threading import Timer

import pytest
from labkit.run.pipeline import run_lock
from labkit.storage.locks import open_lock, take_lock

from tests import preloaded
from tests.conftest import LABKIT, call_in_process, make_environment
from tests.run.small import find_done, find_tracked, load_ledger, make_small, started, wait_until

WAIT = """
pathlib.Path(os.environ["LABKIT_ROOT"], "began").touch()
while not pathlib.Path(os.environ["LABKIT_ROOT"], "go").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def root(tmp_path: Path, store: Path) -> Path:
    return make_small(tmp_path / "checkout", "eda", store=store, eda=WAIT)


@pytest.fixture
def first(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """A run that is in the midst of a stage, and so holds DVC's lock as well."""
    with started(root, "run", "small", "--cold") as run:
        wait_until((root / "began").exists)
        yield run


@pytest.mark.slow
def test_second_run_waits_and_reports_for_which_run(root: Path, first: "subprocess.Popen[str]") -> None:
    with started(root, "run", "small", "--cold") as second:
        assert second.stdout
        printed = second.stdout.readline()
        found = re.fullmatch(r"waiting for the run of small \(process (\d+), since (\S+ \S+)\) …\n", printed)
        assert found, printed
        assert int(found[1]) == first.pid
        # To the minute, in local time: the lock is taken just before the run is noted.
        began = datetime.fromisoformat(load_ledger(root)[0]["at"]).astimezone()
        assert found[2] in {f"{began - timedelta(seconds=earlier):%Y-%m-%d %H:%M}" for earlier in (0, 10)}
        assert second.poll() is None
        (root / "go").touch()
        assert first.wait(60) == 0
        assert second.wait(60) == 0
    started_ones = [line for line in load_ledger(root) if line["kind"] == "start" and line["stage"] is None]
    assert [line["pid"] for line in started_ones] == [first.pid, second.pid]
    assert len(find_done(root)) == 2, "the second had nothing left to do"


@pytest.mark.slow
def test_second_run_uses_the_params_of_the_time_its_turn_comes(root: Path, first: "subprocess.Popen[str]") -> None:
    with started(root, "run", "small", "--cold", "--force", "eda") as second:
        assert second.stdout
        assert second.stdout.readline().startswith("waiting for the run of small")
        path = root / "params" / "small.yaml"
        assert "\nseed: 42\n" in path.read_text()
        path.write_text(path.read_text().replace("\nseed: 42\n", "\nseed: 7\n"))
        (root / "go").touch()
        assert first.wait(60) == 1, "the file does not hold what it was given any more"
        assert second.wait(60) == 0
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert [run.data.params["seed"] for run in found if run.data.tags.get("labkit.stage") == "eda"] == ["7", "42"]


@pytest.mark.slow
def test_stage_by_hand_waits_too(root: Path, first: "subprocess.Popen[str]") -> None:
    with started(root, "stage", "eda", "small") as second:
        assert second.stdout
        assert second.stdout.readline().startswith(f"waiting for the run of small (process {first.pid}, ")


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the checkout, which labkit finds in this process too."""
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


def test_somebody_who_only_looks_is_nobody_to_wait_for(here: Path) -> None:
    printed: list[str] = []
    with run_lock.hold_experiment("small", report=printed.append):
        assert run_lock.find_holder("small")
    assert run_lock.find_holder("small") is None
    with ExitStack() as looking:
        assert take_lock(looking.enter_context(open_lock(run_lock.find_lock_path("small"))))
        timer = Timer(0.2, looking.pop_all().close)
        timer.start()
        with run_lock.hold_experiment("small", report=printed.append, is_waiting=False) as has_waited:
            assert not has_waited
        timer.join()
    assert printed == []


@pytest.mark.fault
def test_what_a_killed_holder_wrote_about_itself_is_not_believed(here: Path) -> None:
    facts = {"pid": 2**22 + 1, "experiment": "other", "since": "2026-11-24T10:11:12+00:00"}
    run_lock.find_lock_path("small").parent.mkdir(exist_ok=True)
    run_lock.find_lock_path("small").write_text(json.dumps(facts))
    assert run_lock.find_holder("small") is None
    with open_lock(run_lock.find_lock_path("small")) as handle:
        assert take_lock(handle)
        assert run_lock.find_holder("small") == {}
    assert run_lock.describe_holder({}) == "another run of this checkout"


def test_holder_is_named_with_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = {"pid": 7, "experiment": "b", "since": "2026-11-24T20:11:12+00:00", "command": "labkit new"}
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        shown = run_lock.describe_holder(holder)
    time.tzset()
    assert shown == "labkit new b (process 7, since 2026-11-25 05:11)"


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--sample", "20")], ids=["run", "sample"])
def test_second_run_that_does_not_want_to_wait_is_refused(
    root: Path, first: "subprocess.Popen[str]", words: tuple[str, ...]
) -> None:
    n_lines = len(load_ledger(root))
    done = call_in_process(root, "run", "small", *words, "--no-wait")
    assert done.returncode == 2
    assert re.search(
        rf"labkit: the run of small \(process {first.pid}, since .*\) is under way: wait for it", done.stderr
    )
    assert len(load_ledger(root)) == n_lines


@pytest.mark.slow
def test_settings_of_the_second_run_are_written_once_the_first_has_read_its_own(
    root: Path, first: "subprocess.Popen[str]"
) -> None:
    params = root / "params" / "small.yaml"
    before = params.read_text()
    with started(root, "run", "small", "--cold", "-S", "seed=777") as second:
        assert second.stdout
        assert "waiting for" in second.stdout.readline()
        assert params.read_text() == before
        (root / "go").touch()
        assert first.wait(60) == 0
        assert second.wait(60) == 0
    assert "seed: 777" in params.read_text()
    assert [line["stage"] for line in load_ledger(root) if line["kind"] == "start"].count("eda") == 2


@pytest.mark.slow
@pytest.mark.parametrize("change", ["seed: 777", "seed: x"])
def test_params_changed_under_a_run_end_it_as_dvc_would_record_what_did_not_run(
    root: Path, first: "subprocess.Popen[str]", change: str
) -> None:
    params = root / "params" / "small.yaml"
    before = params.read_text()
    params.write_text(re.sub(r"(?m)^seed: .*$", change, before))
    assert params.read_text() != before
    (root / "go").touch()
    _, printed = first.communicate(timeout=60)
    assert first.returncode == 1, printed
    assert "params/small.yaml was changed while the run was under way; finished stages are kept" in printed
    assert find_tracked(root)["eda"][0] == "FAILED"
    params.write_text(before + "# A comment changes nothing.\n")
    assert call_in_process(root, "run", "small", "--cold").returncode == 0


@pytest.mark.slow
def test_looking_is_possible_meanwhile(root: Path, first: "subprocess.Popen[str]") -> None:
    fingerprint = root / "data" / "small" / "fingerprint" / "eda.json"
    before = fingerprint.read_bytes()
    path = root / "notebooks" / "01_eda.ipynb"
    path.write_text(path.read_text().replace("time.sleep(0.1)", "time.sleep(0.2)"))
    shown = call_in_process(root, "status", "small")
    assert shown.returncode == 0, shown.stderr
    assert f"Under way now: the run of small (process {first.pid}" in shown.stdout
    assert fingerprint.read_bytes() == before, "the run that is under way depends on it"
    listed = call_in_process(root, "runs")
    assert listed.returncode == 0
    assert "  running " in listed.stdout
    assert "killed" not in listed.stdout


@pytest.mark.fault
@pytest.mark.slow
def test_lock_of_a_killed_run_is_free(root: Path, first: "subprocess.Popen[str]") -> None:
    first.kill()
    first.wait()
    (root / "go").touch()
    done = call_in_process(root, "run", "small", "--cold", "--no-wait")
    assert done.returncode == 0, done.stderr
    assert "small: a run of " in done.stdout
    assert f"was killed (process {first.pid} is gone); it is closed as such now" in done.stdout
    assert find_tracked(root)["eda"][0] == "FINISHED"


HOLD = """
import time
from pathlib import Path
from labkit.run.pipeline.run_lock import hold_experiment
with hold_experiment("small", report=lambda line: print(line, flush=True)):
    with Path("held").open("a") as stream:
        stream.write("<")
        stream.flush()
        time.sleep(0.05)
        stream.write(">")
"""


@pytest.mark.slow
def test_of_eight_runs_one_works_at_a_time_and_the_others_report_for_which_they_wait(root: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    environment = make_environment(root)
    eight = [subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    printed = [process.communicate(timeout=60)[0] for process in eight]
    assert [process.returncode for process in eight] == [0] * 8
    assert (root / "held").read_text() == "<>" * 8
    assert all(
        re.fullmatch(r"(waiting for (the run of small|another run of this checkout).* …\n)?", line) for line in printed
    )


@pytest.mark.slow
def test_of_eight_whole_runs_one_does_the_work_and_all_end_well(root: Path) -> None:
    """A later run finds nothing left to do, and reports exactly that."""
    (root / "go").touch()
    command, environment = [LABKIT, "run", "small", "--cold"], make_environment(root)
    eight = [
        preloaded.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(8)
    ]
    printed = [process.communicate(timeout=300)[0] for process in eight]
    assert [process.returncode for process in eight] == [0] * 8, printed
    assert sum("eda          ran " in output for output in printed) == 1
    assert sum(re.search(r"^eda +up to date", output, re.MULTILINE) is not None for output in printed) == 7
    lines = load_ledger(root)
    started_ones = [line["stage"] for line in lines if line["kind"] == "start"]
    assert (started_ones.count("eda"), started_ones.count(None)) == (1, 8)
    assert [line["outcome"] for line in lines if line["kind"] == "done"] == ["finished"] * len(started_ones)
    assert find_tracked(root)["eda"][0] == "FINISHED"
