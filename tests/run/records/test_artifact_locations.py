"""A checkout may be moved, renamed and copied, and lie in a folder of any name: its artifacts are its own."""

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from labkit import paths
from labkit.params.load import load_params
from labkit.run.doctor import check_locations
from labkit.run.records import artifact_locations, registry, tracking, tracking_client
from mlflow.store.db import utils as database

from tests.conftest import call_in_process, call_labkit
from tests.own_store import forget_store
from tests.run.small import make_small

ODD = "a%20b?c#d 'e\" ü 100% [x]*;&+=@:,"


def enter(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process work in a checkout, as if it had just started."""
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    forget_store()


@pytest.fixture
def old(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Return a checkout in which one run has been recorded, with an artifact, and a version registered."""
    root = make_small(tmp_path / getattr(request, "param", "old"), "eda", store=store)
    enter(root, monkeypatch)
    record_run("first")
    yield root
    enter(root, monkeypatch)


def record_run(name: str) -> str:
    """Record a run with an artifact and return its id."""
    with tracking.open_run(load_params("small"), name, parent_id=None, tags={}) as record:
        tracking.log_text(record.run_id, name, "note.txt")
        record.status = "FINISHED"
    return record.run_id


def find_first() -> str:
    """Return the id of the run that was recorded first."""
    client = tracking_client.get_client()
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id], order_by=["start_time ASC"])
    return str(runs[0].info.run_id)


def list_notes(root: Path) -> int:
    """Return how many runs have an artifact below a checkout."""
    return len(list(root.glob("mlruns/*/*/artifacts/note.txt")))


def read_note(run_id: str, folder: Path) -> str:
    """Return what the artifact of a run holds."""
    folder.mkdir(exist_ok=True)
    return tracking.download_file(run_id, "note.txt", folder).read_text()


@pytest.mark.parametrize("is_copied", [True, False], ids=["copied", "moved"])
@pytest.mark.parametrize("name", ["new", ODD], ids=["plain", "odd"])
def test_artifacts_are_found_and_written_where_the_checkout_lies(
    old: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    name: str,
    is_copied: bool,
) -> None:
    new = tmp_path / name
    (shutil.copytree if is_copied else shutil.move)(old, new)
    enter(new, monkeypatch)
    assert re.match(r"those of 1 run are expected in .*/old/mlruns", check_locations().found)
    assert "corrects" in check_locations().remedy
    assert read_note(find_first(), tmp_path / "fetched") == "first"
    second = record_run("second")
    assert list_notes(new) == 2
    assert list_notes(old) == (1 if is_copied else 0)
    assert old.exists() == is_copied
    assert (
        f"this checkout was copied or moved: the artifacts of 1 run, which were looked for in {old}/mlruns"
        in caplog.text
    )
    assert check_locations().remedy == ""
    if is_copied:
        enter(old, monkeypatch)
        assert read_note(find_first(), tmp_path / "fetched") == "first"
        assert tracking_client.get_client().search_runs(["1"], filter_string=f"attributes.run_id = '{second}'") == []


def test_version_of_a_model_goes_along(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors: {}\n")
    registry.register_model("small", find_first(), model, release_dir=model, digest="1")
    new = tmp_path / "new"
    shutil.move(old, new)
    enter(new, monkeypatch)
    version = tracking_client.get_client().get_model_version("small", "1")
    assert version.source.startswith(f"file://{new}/mlruns/small/")
    assert Path(
        tracking_client.get_client().get_model_version_download_uri("small", "1").removeprefix("file://")
    ).is_dir()


def test_artifacts_that_went_to_the_old_place_are_copied_back(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an earlier labkit, which knew nothing of moves, left them."""
    new = tmp_path / "new"
    shutil.copytree(old, new)
    with monkeypatch.context() as patched:
        patched.setattr(artifact_locations, "find_moved", lambda database: [])
        enter(new, patched)
        stray = record_run("stray")
    assert list(old.glob(f"mlruns/small/{stray}/artifacts/note.txt"))
    enter(new, monkeypatch)
    assert read_note(stray, tmp_path / "fetched") == "stray"
    assert list(new.glob(f"mlruns/small/{stray}/artifacts/note.txt"))
    assert list_notes(old) == 2, "what is there is not touched"


@pytest.mark.parametrize("place", ["s3://bucket/mlruns/mine", "mlflow-artifacts:/3", "file:///{tmp}/store/mlruns/mine"])
def test_place_that_somebody_chose_is_left_alone(old: Path, tmp_path: Path, place: str) -> None:
    place = place.replace("{tmp}", str(tmp_path).lstrip("/"))
    (tmp_path / "store" / "mlruns" / "mine").mkdir(parents=True)
    with closing(sqlite3.connect(old / "mlflow.db")) as connection, connection:
        connection.execute(
            "insert into experiments (name, artifact_location, lifecycle_stage) values ('mine', ?, 'active')", [place]
        )
    assert artifact_locations.find_moved(old / "mlflow.db") == []


@pytest.mark.slow
def test_store_elsewhere_keeps_its_artifacts_beside_itself(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that checkouts which share it do not write into one another."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared/runs.db")
    forget_store()
    record_run("shared")
    assert list_notes(tmp_path / "shared") == 1
    assert list_notes(old) == 1


@pytest.mark.parametrize("old", [ODD], indirect=True)
def test_folder_may_have_any_name(old: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in tmp_path.iterdir()) == [ODD], "nothing is made beside it"
    assert list_notes(old) == 1


@pytest.mark.slow
def test_whole_run_in_a_folder_of_any_name(tmp_path: Path) -> None:
    root = make_small(tmp_path / ODD)
    done = call_labkit(root, "run", "small", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mlflow ui --backend-store-uri sqlite:///mlflow.db" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [ODD]
    assert call_in_process(root, "status", "small").stdout.count("up to date") == 3
    assert call_in_process(root, "why", "small").returncode == 0
    assert len(list(root.glob("mlruns/small/*/artifacts/report/*.html"))) == 3


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{root}/mlflow.db"),
        ("sqlite:////elsewhere/runs.db", "sqlite:////elsewhere/runs.db"),
        ("postgresql://me:word@host/runs", "postgresql+psycopg://me:word@host/runs"),
        ("postgres://host/runs", "postgresql+psycopg://host/runs"),
        ("postgresql+psycopg2://host/runs", "postgresql+psycopg2://host/runs"),
        ("http://host:5000", "http://host:5000"),
    ],
)
def test_tracking_address_is_made_definite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, expected: str
) -> None:
    root = make_small(tmp_path / "checkout", "eda")
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert paths.get_tracking_uri() == expected.replace("{root}", str(root))


@pytest.mark.slow
def test_environment_may_be_in_a_folder_of_any_name(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a checkout, `.venv`, is; MLflow reads its migrations from there."""
    package = tmp_path / ODD
    shutil.copytree(Path(database._get_package_dir()) / "store" / "db_migrations", package / "store" / "db_migrations")
    monkeypatch.setattr(database, "_get_package_dir", lambda: str(package))
    root = make_small(tmp_path / "checkout", "eda", store=store)
    enter(root, monkeypatch)
    record_run("first")
    assert list_notes(root) == 1
    tracking_client.upgrade_tables(root / "mlflow.db")
    enter(root, monkeypatch)
