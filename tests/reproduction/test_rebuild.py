"""A run is made again from its record alone, and what both wrote is compared."""

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.conftest import call_in_process, call_labkit
from tests.git import call_git
from tests.run.small import load_ledger, make_small, start, wait_until
from tests.shared_server import SharedServer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("rebuild")]
EDA = "import helper\nemit(kind='metrics', metrics={'rate': helper.rate})\nseed = helper.rate"
UNSTABLE = "import time\nseed = time.time()"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, shared_server: SharedServer) -> Path:
    """Return a checkout with an untracked module, a changed notebook and a setting, in which one run was made."""
    root = make_small(tmp_path_factory.mktemp("rebuild") / "checkout", store=store, eda=EDA)
    shared_server.lend(root)
    (root / "notebooks" / "helper.py").write_text("rate = 2\n")
    path = root / "notebooks" / "03_features.ipynb"
    path.write_text(path.read_text().replace("1 + 1", "seed = 5"))
    done = call_labkit(root, "run", "small", "-S", "seed=7")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def find_record(root: Path) -> dict[str, Any]:
    """Return the record of the first run of a checkout."""
    found = [json.loads(path.read_text()) for path in root.glob(".labkit/runs/*/record.json")]
    return dict(min(found, key=lambda record: str(record["started"])))


def lend_folder(shared_server: SharedServer, folder: Path) -> Path:
    """Let the rebuild in a folder fork its kernels from the shared server."""
    place = folder / "checkout"
    (place / "params").mkdir(parents=True)
    (place / "dvc.yaml").write_text("")
    shared_server.lend(place)
    shutil.rmtree(folder)
    return folder


def copy_root(root: Path, folder: Path) -> Path:
    """Return a copy of a checkout, with its store."""
    shutil.copytree(root, folder, symlinks=True)
    return folder


def test_run_of_a_dirty_checkout_is_rebuilt_to_the_byte(
    root: Path, tmp_path: Path, shared_server: SharedServer
) -> None:
    name = find_record(root)["run"]
    before = call_git(root, "status", "--porcelain", "--ignored"), (root / ".labkit/ledger.jsonl").read_bytes()
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    done = call_labkit(root, "reproduce", name, "--to", str(folder), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["is_identical"]
    assert [one["path"] for one in result["outputs"]] == [
        f"data/small/{stage}" for stage in ("eda", "wrangling", "features")
    ]
    assert "with its uncommitted changes" in done.stderr
    assert {path.name for path in folder.iterdir()} == {"reproduction.json", "lock"}, "the worktree is removed"
    assert call_git(root, "worktree", "list").count("\n") == 1
    after = call_git(root, "status", "--porcelain", "--ignored"), (root / ".labkit/ledger.jsonl").read_bytes()
    assert after == before, "the checkout stays as it is"


def test_fresh_clone_rebuilds_from_the_store_alone(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    record = find_record(root)
    clone, store = tmp_path / "clone", f"sqlite:///{root / 'mlflow.db'}"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    client = MlflowClient(store)
    client.create_registered_model("small")
    eda = record["stages"]["eda"]["mlflow_run_id"]
    client.create_model_version("small", f"runs:/{eda}/model", eda, await_creation_for=0)
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    words = ("small", "1", "--to", str(folder), "--keep")
    done = call_labkit(clone, "reproduce", *words, MLFLOW_TRACKING_URI=store)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical to the byte: 3 outputs of 3 stages" in done.stdout
    assert "(version 1 of small)" in done.stdout
    assert (folder / "checkout" / "notebooks" / "helper.py").read_text() == "rate = 2\n"


def test_what_differs_is_listed_by_how_much(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = shared_server.lend(make_small(tmp_path / "checkout", "eda", "wrangling", store=store, wrangling=UNSTABLE))
    assert call_labkit(root, "run", "small").returncode == 0
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    done = call_labkit(root, "reproduce", find_record(root)["run"], "--to", str(folder))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 outputs of 2 stages identical; the first that differs is of stage wrangling" in done.stdout
    assert "numbers.json: 1 value differs: 1 17" in done.stdout
    assert (folder / "checkout" / "data" / "small" / "wrangling").is_dir(), "kept, to look at"


def test_interrupted_rebuild_continues(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    words = ("reproduce", find_record(root)["run"], "--to", str(folder))
    run = start(root, *words)
    wait_until(lambda: [one for one in load_ledger(folder / "checkout") if one["kind"] == "done"])
    run.send_signal(signal.SIGINT)
    output, errors = run.communicate(timeout=60)
    assert run.returncode == 130, output + errors
    assert "finished stages are kept" in errors
    done = call_labkit(root, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "continues in" in done.stdout
    assert "identical to the byte" in done.stdout


def test_run_without_record_is_rebuilt_from_its_tags(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    """As of versions that wrote none: here the code was committed afterwards."""
    copy = copy_root(root, tmp_path / "copy")
    record = find_record(copy)
    shutil.rmtree(copy / ".labkit" / "runs")
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    place = Path(client.get_run(record["mlflow_run_id"]).info.artifact_uri.removeprefix("file://"))
    shutil.move(place / "record.json", tmp_path)
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    try:
        words = (record["run"], "--to", str(folder))
        done = call_labkit(copy, "reproduce", *words, MLFLOW_TRACKING_URI=f"sqlite:///{root / 'mlflow.db'}")
    finally:
        shutil.move(tmp_path / "record.json", place)
    assert done.returncode == 1, "the untracked module is not in the commit"
    assert "No module named 'helper'" in done.stdout + done.stderr
    assert "its rebuild stopped with exit code 1" in done.stderr


def test_unusable_runs_are_refused_before_anything_starts(
    root: Path, tmp_path: Path, shared_server: SharedServer
) -> None:
    copy = copy_root(root, tmp_path / "copy")
    thesis = tmp_path / "mine" / "checkout" / "thesis.txt"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("Years of work\n")
    (copy / "notebooks" / "helper.py").write_text("raise ValueError('broken')\n")
    assert call_in_process(shared_server.lend(copy), "run", "small").returncode == 1
    failed = load_ledger(copy)[-1]["run"]
    name = find_record(copy)["run"]
    for words, message in (
        (("small-20200101T000000Z-00000000",), "nor is it a run or a model in MLflow"),
        (("small",), "small has no 'champion'"),
        (("small", "7"), "there is no version 7"),
        (("small@challenger",), "small has no 'challenger'"),
        (("Small'--", "1"), "is not the name of an experiment"),
        ((failed,), "ended as failed: only finished runs can be rebuilt"),
        ((name, "--to", str(copy / "inside")), "inside of the checkout"),
        ((name, "--to", str(tmp_path)), "holds something else"),
        ((name, "--to", str(tmp_path / "mine")), "holds something else"),
    ):
        done = call_in_process(copy, "reproduce", *words)
        assert done.returncode == 2, done.stdout + done.stderr
        assert message in done.stderr
    assert not (tmp_path / "copy.reproduced").exists()
    assert thesis.read_text() == "Years of work\n"


def test_missing_commit_is_named_with_where_to_fetch_it(root: Path, tmp_path: Path) -> None:
    copy = copy_root(root, tmp_path / "copy")
    shutil.rmtree(copy / ".git")
    call_git(copy, "init", "-q")
    done = call_in_process(copy, "reproduce", find_record(copy)["run"])
    assert done.returncode == 2
    assert f"its commit {find_record(root)['code']['commit']} is not in this repository" in done.stderr


def test_other_lock_is_refused_unless_allowed(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    copy = copy_root(root, tmp_path / "copy")
    path = copy / ".labkit" / "runs" / find_record(copy)["run"] / "record.json"
    record = json.loads(path.read_text())
    record["environment"]["packages"] = {"numpy": "1.0 (locked 2.0)"}
    path.write_text(json.dumps(record))
    folder = lend_folder(shared_server, tmp_path / "rebuilt")
    words = ("reproduce", record["run"], "--to", str(folder))
    done = call_in_process(copy, *words)
    assert done.returncode == 2
    assert "(the run: 1.0)" in done.stderr
    assert "--any-lock" in done.stderr
    done = call_labkit(copy, *words, "--any-lock")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning: the packages are not those of the run, so numbers may differ: numpy" in done.stdout
