"""What MLflow records, and its store: created once by the first process, migrated with a copy kept, never wrong."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from labkit import paths
from labkit.errors import TrackingError
from labkit.params.load import load_params
from labkit.run.records import ledger, recovery, tracking, tracking_client
from labkit.run.records import mlflow_store as store_module
from labkit.run.records.mlflow_store import check_store

from tests.conftest import call_in_process
from tests.own_store import work_in
from tests.run.small import load_ledger, make_small, wait_until
from tests.run.together import check_whole, kill_maker, list_runs, start_together
from tests.servers import find_free_port


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Return a checkout that labkit finds in this process, without a store."""
    with work_in(make_small(tmp_path / "checkout", "eda")) as root:
        yield root


@pytest.mark.slow
def test_first_use_by_eight_processes_at_once_makes_one_whole_store(root: Path) -> None:
    """And once it is there, none of their runs is lost or doubled."""
    assert start_together(root, 8, n_runs=5).wait(120) == 0
    found = [(run.info.run_name, run.data.metrics["number"], run.info.status) for run in list_runs(root)]
    assert sorted(found) == [(f"run {number}", number, "FINISHED") for number in range(8) for _ in range(5)]
    assert check_whole(root) == []


@pytest.mark.fault
@pytest.mark.slow
def test_store_whose_making_was_killed_is_made_by_the_next(root: Path) -> None:
    """`benchmarks/store.py` does it fifty times, and the first use by eight twenty times."""
    assert sum(kill_maker(root, random.uniform(0, 0.4)) for _ in range(4))
    assert start_together(root, 2).wait(120) == 0
    assert len(list_runs(root)) == 2


# Many processes with a run each, one after another; each names those that have been recorded to their end.
WRITERS = """
import os, time
from labkit.params.load import load_params
from labkit.run.records import ledger, recovery, tracking
params = load_params("small")
for number in range(24):
    if os.fork() == 0:
        while True:
            with (
                ledger.open_entry("small", "eda", facts={}) as entry,
                tracking.open_run(params, "eda", parent_id=None, tags={}, entry=entry) as record,
            ):
                record.metrics["number"] = number
                record.status = "FINISHED"
            os.write(1, f"{entry.run}\\n".encode())
time.sleep(600)
"""


@pytest.mark.fault
@pytest.mark.slow
def test_of_24_writers_that_are_killed_nothing_acknowledged_is_lost_and_the_rest_closed(stored: Path) -> None:
    options = {"cwd": stored, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", WRITERS], **options) as process:  # type: ignore[call-overload]
        acknowledged = [process.stdout.readline().strip() for _ in range(60)]
        os.killpg(process.pid, signal.SIGKILL)
        acknowledged += process.stdout.read().split()
    assert "RUNNING" in [run.info.status for run in list_runs(stored)], "or this has shown nothing"
    shown = call_in_process(stored, "runs")
    assert shown.returncode == 0, shown.stderr
    found = {run.data.tags["labkit.run"]: run for run in list_runs(stored)}
    assert "RUNNING" not in [run.info.status for run in found.values()]
    assert {found[name].info.status for name in acknowledged} == {"FINISHED"}
    assert all("number" in found[name].data.metrics for name in acknowledged)
    ends = [line["outcome"] for line in load_ledger(stored) if line["kind"] == "done"]
    starts = [line for line in load_ledger(stored) if line["kind"] == "start"]
    assert len(ends) == len(starts)
    assert ends.count("finished") >= len(acknowledged)


UPLOAD = """
import sys
from pathlib import Path
from labkit.params.load import load_params
from labkit.run.records import ledger, tracking
params = load_params("small")
with (
    ledger.open_entry("small", "eda", facts={}) as entry,
    tracking.open_run(params, "eda", parent_id=None, tags={}, entry=entry) as record,
):
    while True:
        tracking.log_file(record.run_id, Path(sys.argv[1]), "report")
"""


@pytest.mark.fault
@pytest.mark.slow
def test_half_copied_artifact_of_a_killed_run_is_removed_by_the_next_command(stored: Path, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as stream:
        stream.truncate(3 * 2**30)
    with subprocess.Popen([sys.executable, "-c", UPLOAD, str(big)], cwd=stored) as process:
        wait_until(lambda: list(stored.glob("mlruns/**/.artifact.uploading.*")))
        process.kill()
    big.unlink()
    assert list(stored.glob("mlruns/**/.artifact.uploading.*")), "or this has shown nothing"
    shown = call_in_process(stored, "runs")
    assert shown.returncode == 0, shown.stderr
    assert "  killed " in shown.stdout
    assert list(stored.glob("mlruns/**/.artifact.uploading.*")) == []


def make_old_store(path: Path) -> str:
    """Write a database as an earlier MLflow made it, with one experiment in it, and return its version."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = utils.create_sqlalchemy_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(f"sqlite:///{path}")
    old = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()][10]
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, old)
    engine.dispose()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "insert into experiments (name, artifact_location, lifecycle_stage) values ('kept', 'x', 'active')"
        )
        connection.commit()
    return str(old)


def read_version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("select version_num from alembic_version").fetchone()[0])


@pytest.mark.slow
def test_older_store_is_copied_then_brought_up_to_date_and_reported(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = make_old_store(root / "mlflow.db")
    client = tracking_client.get_client()
    assert client.get_experiment_by_name("kept") is not None
    kept = root / f"mlflow.db.before-upgrade-of-{old}"
    assert read_version(kept) == old
    assert read_version(root / "mlflow.db") != old
    message = f"mlflow.db was brought up to date; the old one is kept as {kept.name}"
    assert [record.getMessage() for record in caplog.records if record.name == "labkit"] == [message]
    assert check_whole(root) == []


@pytest.mark.slow
def test_older_store_that_somebody_uses_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what he writes from then on would be lost with the file that gave way."""
    path, connect = root / "mlflow.db", sqlite3.connect
    old = make_old_store(path)
    # Not to wait twenty seconds for him.
    monkeypatch.setattr(store_module.sqlite3, "connect", lambda path, **_: connect(path, timeout=0.1))
    with closing(connect(path)) as user:
        user.execute("pragma journal_mode=wal").fetchall()
        user.execute("update experiments set name = 'kept in the log' where name = 'kept'")
        user.commit()
        with pytest.raises(TrackingError, match=r"mlflow\.db: cannot be brought up to date .*: stop what uses it"):
            tracking_client.get_client()
        assert read_version(path) == old
        assert list(root.glob("mlflow.db.before-*")) == []
    assert tracking_client.get_client().get_experiment_by_name("kept in the log") is not None
    assert read_version(path) != old


def test_upgrade_that_fails_half_way_leaves_the_older_store_whole(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("create table alembic_version (version_num); create table runs (n)")
        connection.executescript("insert into alembic_version values ('old'); insert into runs values (7)")

    def fail_half_way(beside: Path) -> None:
        with closing(sqlite3.connect(beside)) as connection:
            connection.executescript("drop table runs; update alembic_version set version_num = 'new'")
        raise TrackingError("half way")

    with pytest.raises(TrackingError, match="half way"):
        store_module.prepare_database(path, "new", build=fail_half_way, upgrade=fail_half_way)
    for one in (path, tmp_path / "mlflow.db.before-upgrade-of-old"):
        assert read_version(one) == "old"
        with closing(sqlite3.connect(one)) as connection:
            assert connection.execute("select n from runs").fetchall() == [(7,)]
    assert list(tmp_path.glob(".*.part")) == []


MAKE = """
import sqlite3, sys, time
from contextlib import closing
from pathlib import Path
from labkit.storage.append import append_line
from labkit.run.records.mlflow_store import prepare_database
def build(beside):
    append_line(Path("calls"), "built")
    time.sleep(0.5)
    with closing(sqlite3.connect(beside)) as connection:
        connection.executescript("create table alembic_version (version_num); insert into alembic_version values (1)")
prepare_database(Path("store.db"), "1", build=build, upgrade=build)
"""


@pytest.mark.slow
def test_store_is_made_by_one_process_and_waited_for_by_the_others(tmp_path: Path) -> None:
    four = [subprocess.Popen([sys.executable, "-c", MAKE], cwd=tmp_path) for _ in range(4)]
    assert [process.wait(60) for process in four] == [0] * 4
    assert (tmp_path / "calls").read_text() == "built\n"


@pytest.mark.parametrize(
    "content",
    [b"not a database at all", "create table experiments (id int)", "create table alembic_version (version_num text)"],
    ids=["junk", "half made", "without a version"],
)
def test_what_is_no_store_is_refused_and_left_alone(root: Path, content: bytes | str) -> None:
    path = root / "mlflow.db"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(content)
    before = path.read_bytes()
    with pytest.raises(TrackingError, match="not a complete MLflow database .* move it away, and a new one is created"):
        tracking_client.get_client()
    assert path.read_bytes() == before


@pytest.mark.slow
def test_unreachable_server_is_reported_before_anything_starts(root: Path) -> None:
    uri = f"http://me:hidden-word@127.0.0.1:{find_free_port()}"
    shown = uri.replace("me:hidden-word@", "")
    done = call_in_process(root, "run", "small", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"labkit: {shown}: no tracking server responds there ([Errno 111] Connection refused)"
    )
    assert "start it, or unset MLFLOW_TRACKING_URI to record in mlflow.db; nothing was run" in done.stderr
    assert "hidden-word" not in done.stderr
    assert load_ledger(root) == []


@pytest.mark.slow
def test_server_that_accepts_and_never_responds_is_reported_too() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(TrackingError, match="no tracking server responds there .*timed out"):
            check_store(f"http://127.0.0.1:{listener.getsockname()[1]}")


@pytest.mark.parametrize(("code", "is_refused"), [(200, False), (401, False), (404, False), (500, True), (503, True)])
def test_server_that_responds_is_available_unless_it_reports_that_it_is_out_of_order(
    code: int, is_refused: bool
) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        try:
            if is_refused:
                with pytest.raises(
                    TrackingError, match=rf"no tracking server responds there \(it responds with {code} \w+"
                ):
                    check_store(uri)
            else:
                check_store(uri)
        finally:
            server.shutdown()


def test_lost_server_is_looked_for_half_a_minute_in_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patience = paths.make_environment()
    tries, factor = (int(patience[f"MLFLOW_HTTP_REQUEST_{name}"]) for name in ("MAX_RETRIES", "BACKOFF_FACTOR"))
    # As urllib3 does: there is no pause before the first retry.
    assert 20 <= sum(factor * 2**number for number in range(1, tries)) <= 30
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    assert paths.make_environment()["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "9"


@pytest.fixture
def stored(root: Path, store: Path) -> Path:
    """Return that checkout with a store."""
    (root / "mlflow.db").write_bytes(store.read_bytes())
    return root


@pytest.mark.slow
def test_nothing_is_altered_silently(stored: Path) -> None:
    long, tag = "x" * 6001, "y" * 7000
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}) as record:
        tracking.log_values(
            record.run_id,
            params={"short": "a" * 6000, "long": long},
            metrics={"fine": 1e308, "high": float("inf"), "low": float("-inf"), "none": float("nan")},
            tags={"long_tag": tag},
        )
        record.status = "FINISHED"
    client = tracking_client.get_client()
    run = client.get_run(record.run_id)
    assert run.data.metrics == {"fine": 1e308}
    assert {key: value for key, value in run.data.tags.items() if key.startswith("labkit.not_finite")} == {
        "labkit.not_finite.high": "inf",
        "labkit.not_finite.low": "-inf",
        "labkit.not_finite.none": "nan",
    }
    assert run.data.params["short"] == "a" * 6000
    assert run.data.params["long"].endswith(" … (complete in the run's artifacts)")
    for name, written in (("params/long", long), ("tags/long_tag", tag)):
        place = client.download_artifacts(record.run_id, f"{name}.txt")
        assert Path(place).read_text() == written
    assert len(run.data.tags["labkit.sha256.long"]) == 64


def test_experiment_and_runs_are_described_by_the_question(stored: Path) -> None:
    params = load_params("small")
    client = tracking_client.get_client()
    for question in ("Will it rain?", "Will it snow?"):
        asked = params.model_copy(update={"question": question})
        with tracking.open_run(asked, "eda", parent_id=None, tags={}) as record:
            record.status = "FINISHED"
        assert client.get_run(record.run_id).data.tags["mlflow.note.content"] == question
        assert client.get_experiment_by_name("small").tags["mlflow.note.content"] == question
    client.set_experiment_tag(client.get_experiment_by_name("small").experiment_id, "mlflow.note.content", "by hand")
    with tracking.open_run(params, "eda", parent_id=record.run_id, tags={}) as child:
        child.status = "FINISHED"
    assert "mlflow.note.content" not in client.get_run(child.run_id).data.tags
    with tracking.open_run(params, "eda", parent_id=None, tags={}) as record:
        record.status = "FINISHED"
    assert client.get_run(record.run_id).data.tags["mlflow.note.content"] == params.question
    assert client.get_experiment_by_name("small").tags["mlflow.note.content"] == "by hand"


def test_clock_that_is_set_back_turns_no_run_around(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}) as record:
        monkeypatch.setattr(time, "time", lambda: now() - 3600)
        time.sleep(0.3)
        record.status = "FINISHED"
    info = tracking_client.get_client().get_run(record.run_id).info
    assert 300 <= info.end_time - info.start_time < 60_000


END_BEFORE_DONE = """
import os
from labkit.params.load import load_params
from labkit.run.records import ledger, tracking
with ledger.open_entry("small", "eda", facts={}) as entry:
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}, entry=entry) as record:
        record.status = "FINISHED"
    os._exit(9)
"""


@pytest.mark.slow
def test_run_that_mlflow_takes_for_finished_and_the_ledger_does_not_never_happened(stored: Path) -> None:
    assert subprocess.run([sys.executable, "-c", END_BEFORE_DONE], check=False).returncode == 9
    [before] = list_runs(stored)
    assert before.info.status == "FINISHED"
    recovery.reconcile()
    [run] = list_runs(stored)
    assert (run.info.status, run.data.tags["labkit.reason"]) == ("FAILED", "process gone")
    assert run.info.end_time == before.info.end_time
    [entry] = ledger.load_entries()
    assert entry.is_settled, "one report is enough"


END_AMID = """
import os
from labkit.params.load import load_params
from labkit.run.records import ledger, tracking
with ledger.open_entry("small", "eda", facts={}) as entry:
    with tracking.open_run(load_params("small"), "eda", parent_id=None, tags={}, entry=entry) as record:
        client = tracking.get_client()
        experiment = client.get_run(record.run_id).info.experiment_id
        client.create_run(experiment, tags={"mlflow.parentRunId": record.run_id})
        os._exit(9)
"""


@pytest.mark.fault
@pytest.mark.slow
def test_what_a_killed_run_left_open_below_it_is_closed_with_it(stored: Path) -> None:
    assert subprocess.run([sys.executable, "-c", END_AMID], check=False).returncode == 9
    assert [run.info.status for run in list_runs(stored)] == ["RUNNING"] * 2
    recovery.reconcile()
    found = [(run.info.status, run.data.tags["labkit.reason"]) for run in list_runs(stored)]
    assert found == [("FAILED", "process gone")] * 2


def test_what_a_failed_run_left_open_below_it_is_closed_with_it(stored: Path) -> None:
    params = load_params("small")
    client = tracking_client.get_client()

    def fail() -> None:
        with tracking.open_run(params, "eda", parent_id=None, tags={}) as record:
            experiment = client.get_run(record.run_id).info.experiment_id
            below = client.create_run(experiment, tags={"mlflow.parentRunId": record.run_id})
            client.create_run(experiment, tags={"mlflow.parentRunId": below.info.run_id})
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert [run.info.status for run in list_runs(stored)] == ["FAILED"] * 3
    assert {run.data.tags["labkit.reason"] for run in list_runs(stored)} == {"broken"}
