"""MLflow's records in PostgreSQL: refused before anything starts where it cannot be used, and used where it can."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import call_in_process, make_environment
from tests.run.small import find_tracked, load_ledger, make_small
from tests.run.together import TOGETHER
from tests.servers import find_free_port
from tests.services import PASSWORD, make_database, serve_postgresql

pytestmark = pytest.mark.xdist_group("postgresql")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_postgresql() as address:
        yield address


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("postgresql") / "checkout", "eda")


def assert_refused(root: Path, uri: str, message: str) -> None:
    """Assert that a run is refused in one line, without a password and before anything has begun."""
    before = load_ledger(root)
    done = call_in_process(root, "run", "small", "--cold", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("nothing was run\n")
    assert PASSWORD not in done.stdout + done.stderr
    assert load_ledger(root) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            f"postgresql://team:{PASSWORD}@127.0.0.1:{{port}}/runs",
            "labkit: postgresql+psycopg://127.0.0.1:{port}/runs: this database cannot be used",
        ),
        (
            f"postgresql://127.0.0.1:{{port}}/runs?user=team&password={PASSWORD}",
            "labkit: postgresql+psycopg://127.0.0.1:{port}/runs: this database cannot be used",
        ),
        (
            f"postgresql+psycopg2://team:{PASSWORD}@127.0.0.1/runs",
            "postgresql+psycopg2://127.0.0.1/runs: the package psycopg2, needed for this database, is not",
        ),
        (f"mysql+pymysql://team:{PASSWORD}@127.0.0.1/runs", "install pymysql; nothing was run"),
        (f"mssql://team:{PASSWORD}@127.0.0.1/runs", "install pyodbc; nothing was run"),
        ("./mlruns", "MLFLOW_TRACKING_URI is './mlruns', a folder, in which MLflow no longer records"),
    ],
    ids=["nobody there", "password as an option", "other driver", "mysql", "mssql", "folder"],
)
def test_database_that_cannot_be_used_is_refused_before_anything_starts(root: Path, uri: str, message: str) -> None:
    port = find_free_port()
    assert_refused(root, uri.replace("{port}", str(port)), message.replace("{port}", str(port)))


def test_missing_driver_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit.errors import TrackingError
    from labkit.run.records.mlflow_store import check_store

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        TrackingError, match=r"is not installed: uv pip install 'labkit\[postgresql\]'; nothing was run"
    ):
        check_store(f"postgresql+psycopg://team:{PASSWORD}@127.0.0.1/runs")


@pytest.mark.slow
def test_wrong_password_and_unknown_database_are_refused(root: Path, server: str) -> None:
    assert_refused(root, f"{server.replace(PASSWORD, 'another-word')}/postgres", "password authentication failed")
    assert_refused(root, f"{server}/nowhere", 'database "nowhere" does not exist')


@pytest.mark.slow
def test_run_is_recorded_and_the_password_nowhere(root: Path, server: str) -> None:
    uri = make_database(server, "recorded")
    done = call_in_process(root, "run", "small", "--cold", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"' in done.stdout
    found = find_tracked(root, uri.replace("postgresql:", "postgresql+psycopg:"))
    assert {status for status, _ in found.values()} == {"FINISHED"}
    assert "eda" in found
    assert PASSWORD not in done.stdout + done.stderr
    kept = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts]
    assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_tables_are_made_once_by_eight_processes_at_once(root: Path, server: str) -> None:
    uri = make_database(server, "together")
    environment = {**make_environment(root), "MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-c", TOGETHER, "8", "1"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_half_made_tables_are_refused(root: Path, server: str) -> None:
    import psycopg

    uri = make_database(server, "half")
    with psycopg.connect(uri) as connection:
        connection.execute("create table experiments (experiment_id int)")
    assert_refused(root, uri, "its MLflow tables are incomplete: drop the database and create it again, empty")


@pytest.mark.slow
def test_second_checkout_does_not_write_into_the_first(root: Path, server: str, tmp_path: Path) -> None:
    """Unless both are configured to keep artifacts in one place."""
    uri = make_database(server, "separate")
    assert call_in_process(root, "run", "small", "--cold", "--force", "eda", MLFLOW_TRACKING_URI=uri).returncode == 0
    second = make_small(tmp_path / "second", "eda")
    assert_refused(second, uri, f"the experiment 'small' keeps its artifacts in {root}/mlruns/small, and not below")
    uri, place = make_database(server, "shared"), f"file://{tmp_path}/artifacts"
    for checkout in (root, second):
        variables = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_DEFAULT_ARTIFACT_ROOT": place}
        done = call_in_process(checkout, "run", "small", "--cold", "--force", "eda", **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("artifacts/small/*/artifacts/record.json"))) == 2
