"""Data go from one clone to another through a DVC remote, whichever experiments have run."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, call_in_process, call_labkit, make_environment
from tests.git import commit_all
from tests.run.small import make_small
from tests.servers import find_free_port
from tests.services import serve_s3

pytestmark = pytest.mark.xdist_group("remote")


def call(root: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a checkout."""
    environment = {**make_environment(root), **variables}
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)


def add_experiment(root: Path, name: str) -> None:
    """List one more experiment, which nobody runs."""
    path = root / "dvc.yaml"
    path.write_text(path.read_text().replace("experiments: [small]", f"experiments: [small, {name}]"))
    content = (root / "params" / "small.yaml").read_text()
    (root / "params" / f"{name}.yaml").write_text(content.replace("experiment: small", f"experiment: {name}"))


def clone(root: Path, folder: Path) -> Path:
    """Return a clone of a checkout, as a colleague has it."""
    subprocess.run(["git", "clone", "-q", str(root), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def alice(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """Return a checkout of two experiments in which one has run, pushed to a folder and committed."""
    folder = tmp_path_factory.mktemp("remote")
    root = make_small(folder / "alice", "eda", "features", store=store)
    add_experiment(root, "other")
    done = call_in_process(root, "run", "small", "--cold")
    assert done.returncode == 0, done.stdout + done.stderr
    assert call(root, "dvc", "remote", "add", "-d", "team", str(folder / "data")).returncode == 0
    assert call(root, "dvc", "push").returncode == 0
    commit_all(root)
    return root


@pytest.mark.slow
def test_s3_remote_as_the_page_on_teams_has_it(alice: Path, tmp_path: Path) -> None:
    page = " ".join((ROOT / "docs" / "team.md").read_text(encoding="utf-8").split())
    *shared, pull, fails = [words.split() for words in re.findall(r"`((?:dvc|labkit) [^`]+)`", page)]
    assert pull == ["labkit", "pull", "diabetes"]
    root = clone(alice, tmp_path / "alice")
    shutil.copytree(alice / ".dvc" / "cache", root / ".dvc" / "cache")
    with serve_s3(tmp_path, bucket="bucket") as keys:
        for words in (["dvc", "remote", "remove", "team"], *shared):
            done = call(root, *words, **keys)
            assert done.returncode == 0, done.stderr
        commit_all(root)
        bob = clone(root, tmp_path / "bob")
        done = call_labkit(bob, "pull", **keys)
        assert done.returncode == 0, done.stderr
        assert done.stdout == "4 files fetched; 2 outputs of 2 stages in place\n"
        assert done.stderr == ""
        assert call_in_process(bob, "status", "small").stdout.count("up to date") == 2
        again = call_labkit(bob, "pull", "small", **keys)
        assert again.stdout == "0 files fetched; 2 outputs of 2 stages in place\n"
        failed = call(bob, *fails, **keys)
        assert failed.returncode != 0
        assert "data/other" in failed.stderr


@pytest.mark.slow
def test_run_of_a_clone_names_the_colleagues_run_that_made_its_data(alice: Path, tmp_path: Path) -> None:
    """They record in the same store, but the ledger is each one's own."""
    bob = clone(alice, tmp_path / "bob")
    assert call_labkit(bob, "pull").returncode == 0
    uri = f"sqlite:///{alice / 'mlflow.db'}"
    done = call_in_process(bob, "run", "small", "--cold", "--force", "features", MLFLOW_TRACKING_URI=uri)
    assert done.returncode == 0, done.stdout + done.stderr
    [path] = bob.glob(".labkit/runs/*/record.json")
    made_by = json.loads(path.read_text())["stages"]["eda"]["made_by"]
    [theirs] = alice.glob(".labkit/runs/*/record.json")
    eda = json.loads(theirs.read_text())["stages"]["eda"]
    assert (made_by["run"], made_by["mlflow_run_id"]) == (eda["run"], eda["mlflow_run_id"])
    assert made_by["inputs"] == eda["inputs"]


def assert_refused(root: Path, code: int, message: str, *words: str, **variables: str) -> None:
    """Assert that a pull is refused in one line."""
    done = call_labkit(root, "pull", *words, **variables)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.slow
def test_what_was_not_pushed_is_named_and_nothing_is_changed(alice: Path, tmp_path: Path) -> None:
    bob = clone(alice, tmp_path / "bob")
    call(bob, "dvc", "remote", "modify", "team", "url", str(tmp_path / "empty"))
    assert_refused(bob, 2, "neither on the remote nor here: data/small/eda; data/small/features: run `dvc push` in the")
    assert not (bob / "data" / "small" / "eda").exists()


@pytest.mark.slow
def test_damaged_object_of_the_remote_is_refused_by_name(alice: Path, tmp_path: Path) -> None:
    bob, data = clone(alice, tmp_path / "bob"), tmp_path / "data"
    shutil.copytree(alice.parent / "data", data)
    for path in data.rglob("*"):
        if path.is_file() and path.stat().st_size > 10_000:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes().replace(b"100", b"101", 1))
    call(bob, "dvc", "remote", "modify", "team", "url", str(data))
    done = call_labkit(bob, "pull")
    assert done.returncode != 0
    assert "data/small/" in done.stderr
    assert not (bob / "data" / "small" / "eda" / "numbers.json").exists()


@pytest.mark.slow
def test_file_that_was_never_recorded_is_not_lost(alice: Path, tmp_path: Path) -> None:
    bob = clone(alice, tmp_path / "bob")
    path = bob / "data" / "small" / "eda" / "numbers.json"
    path.parent.mkdir(parents=True)
    path.write_text("[1]\n")
    assert_refused(bob, 2, "data/small/eda/numbers.json: changed here and saved nowhere else: move it away")
    assert path.read_text() == "[1]\n"


@pytest.mark.slow
def test_missing_remote_or_run_is_explained_with_its_remedy(alice: Path, tmp_path: Path) -> None:
    bob = clone(alice, tmp_path / "bob")
    assert_refused(bob, 2, "dvc.lock names no data of other: `git pull` gets that of others", "other")
    call(bob, "dvc", "remote", "remove", "team")
    assert_refused(bob, 2, "no DVC remote to fetch from: dvc remote add -d team s3://bucket/path")


@pytest.mark.slow
def test_unreachable_remote_is_reported_in_one_line(alice: Path, tmp_path: Path) -> None:
    bob = clone(alice, tmp_path / "bob")
    call(bob, "dvc", "remote", "modify", "team", "url", "s3://bucket/path")
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "hidden-word", "AWS_MAX_ATTEMPTS": "1"}
    address = f"http://127.0.0.1:{find_free_port()}"
    done = call_labkit(bob, "pull", **keys, AWS_ENDPOINT_URL=address)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "s3://bucket/path: cannot be fetched from" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (bob / "data" / "small" / "eda").exists()
