"""`record.json` of a run is enough to make the run again, without the checkout that it was made in."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.conftest import call_in_process, call_labkit
from tests.run.small import load_ledger, make_small
from tests.shared_server import SharedServer

pytestmark = pytest.mark.xdist_group("record")
TOKEN = "ghp_" + "x" * 36
HELPER = f'rate = 2\ntoken = "{TOKEN}"\n'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, store: Path, shared_server: SharedServer) -> Path:
    """Return a checkout with a change of code, a new module and a setting, in which two runs were made."""
    folder = tmp_path_factory.mktemp("record") / "checkout"
    root = make_small(folder, store=store, eda="import helper\nemit(kind='metrics', metrics={'rate': helper.rate})")
    shared_server.lend(root)
    (root / "notebooks" / "helper.py").write_text(HELPER)
    (root / "patients.csv").write_text("name\nAda\n")
    path = root / "notebooks" / "03_features.ipynb"
    path.write_text(path.read_text().replace("1 + 1", "2 + 2"))
    for words in (["-S", "seed=7"], ["--force", "wrangling"]):
        done = call_labkit(root, "run", "small", *words)
        assert done.returncode == 0, done.stdout + done.stderr
    return root


def load_records(root: Path) -> list[dict[str, Any]]:
    """Return the records of a checkout's runs in the order in which they started."""
    found = [json.loads(path.read_text()) for path in root.glob(".labkit/runs/*/record.json")]
    return sorted(found, key=lambda record: str(record["started"]))


def fetch(root: Path, run_id: str, folder: Path) -> Path:
    """Fetch the artifacts of a run from MLflow."""
    folder.mkdir()
    return Path(MlflowClient(f"sqlite:///{root / 'mlflow.db'}").download_artifacts(run_id, "", str(folder)))


@pytest.mark.slow
def test_record_is_an_artifact_and_in_the_ledger(root: Path, tmp_path: Path) -> None:
    for record in load_records(root):
        fetched = fetch(root, record["mlflow_run_id"], tmp_path / record["run"])
        kept = root / ".labkit" / "runs" / record["run"]
        assert (fetched / "record.json").read_bytes() == (kept / "record.json").read_bytes()
        [line] = [one for one in load_ledger(root) if one["kind"] == "recorded" and one["run"] == record["run"]]
        digest = hashlib.sha256((kept / "record.json").read_bytes()).hexdigest()
        assert line == {
            "kind": "recorded",
            "run": record["run"],
            "path": f".labkit/runs/{record['run']}/record.json",
            "sha256": digest,
        }
    assert "record.json" in call_in_process(root, "why", "small").stdout


@pytest.mark.slow
def test_record_names_user_and_machine(root: Path) -> None:
    record = load_records(root)[0]
    assert record["version"] == 1
    assert record["outcome"] == "finished"
    machine = record["machine"]
    assert {"user", "host", "cpu", "threads", "blas"} <= set(machine)
    assert machine["cpu"]["flags"]
    assert machine["threads"] == {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert [one["version"] for one in machine["blas"] if one["user_api"] == "blas"]
    assert all(one["version"] for one in machine["blas"] if one["user_api"] == "blas")
    assert record["environment"]["lock"]["sha256"] == hashlib.sha256(b"nothing==1\n").hexdigest()


def test_setting_is_recorded_apart_from_changed_code(root: Path) -> None:
    record = load_records(root)[0]
    params = (root / "params" / "small.yaml").read_bytes()
    expected = {"artifact": "small.yaml", "sha256": hashlib.sha256(params).hexdigest(), "git": "changed"}
    assert record["params"] == expected
    code = record["code"]
    assert {path: one["git"] for path, one in code["files"].items()} == {
        "notebooks/03_features.ipynb": "M",
        "notebooks/helper.py": "?",
    }
    assert list(code["others"]) == ["patients.csv"], "named, with its digest, but not handed on"
    assert "with uncommitted changes" in (root / "reports" / "small" / "01_eda.html").read_text()


def test_what_a_stage_read_is_in_mlflow_with_the_run_that_wrote_it(root: Path) -> None:
    first, second = load_records(root)
    eda, wrangling = (second["stages"][name] for name in ("eda", "wrangling"))
    assert eda["status"] == "cached"
    assert eda["made_by"]["mlflow_run_id"] == first["stages"]["eda"]["mlflow_run_id"]
    assert eda["outputs"] == first["stages"]["eda"]["outputs"]
    assert wrangling["inputs"]["data/small/eda"] == eda["outputs"]["data/small/eda"]
    assert "notebooks/helper.py" in eda["code"]
    locked = second["data"]["dvc_lock"]["wrangling"]
    assert {one["path"] for one in locked["deps"]} == set(wrangling["inputs"])
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    run = client.get_run(wrangling["mlflow_run_id"])
    digests = json.loads(Path(client.download_artifacts(run.info.run_id, "digests.json")).read_text())
    assert digests["inputs"] == wrangling["inputs"]
    assert digests["lock"] == second["environment"]["lock"]["sha256"]
    assert {"notebook", "code"} <= set(digests)
    assert not [name for name in run.data.tags if "sha256" in name or "input" in name]
    assert run.data.tags["labkit.git_dirty"] == "true"


@pytest.mark.slow
def test_run_is_made_again_from_its_record_alone(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    record = load_records(root)[0]
    fetched = fetch(root, record["mlflow_run_id"], tmp_path / "fetched")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    subprocess.run(["git", "-C", str(clone), "checkout", "-q", record["code"]["commit"]], check=True)
    patch = fetched / record["code"]["patch"]["artifact"]
    assert hashlib.sha256(patch.read_bytes()).hexdigest() == record["code"]["patch"]["sha256"]
    subprocess.run(["git", "-C", str(clone), "apply", str(patch)], check=True)
    shutil.copy(fetched / record["params"]["artifact"], clone / "params")
    shutil.copy(root / ".dvc" / "config", clone / ".dvc" / "config")
    done = call_in_process(shared_server.lend(clone), "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    [again] = load_records(clone)
    written = [{name: stage["outputs"] for name, stage in one["stages"].items()} for one in (record, again)]
    assert written[0] == written[1]
    assert again["params"]["sha256"] == record["params"]["sha256"]


def test_token_in_new_code_is_masked(root: Path, tmp_path: Path) -> None:
    record = load_records(root)[0]
    assert record["code"]["patch"]["is_masked"]
    fetched = fetch(root, record["mlflow_run_id"], tmp_path / "fetched")
    content = (fetched / "code" / "changes.diff").read_text()
    assert '+token = "[redacted]"' in content
    assert TOKEN not in content


@pytest.mark.slow
def test_run_that_fails_has_a_record_too(root: Path, tmp_path: Path, shared_server: SharedServer) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True)
    (copy / "notebooks" / "helper.py").write_text("raise ValueError('broken')\n")
    done = call_in_process(shared_server.lend(copy), "run", "small")
    assert done.returncode == 1
    record = load_records(copy)[-1]
    assert record["outcome"] == "failed"
    assert record["stages"]["eda"]["status"] == "failed"
    assert record["stages"]["features"]["status"] == "not run", "though what an earlier run wrote is there"


@pytest.mark.slow
def test_stage_that_runs_alone_has_a_record_of_its_own(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store)
    (root / "notebooks" / "helper.py").write_text("rate = 2\n")
    assert call_in_process(root, "stage", "eda", "small").returncode == 0
    [record] = load_records(root)
    assert list(record["code"]["files"]) == ["notebooks/helper.py"]
    assert record["stages"]["eda"]["mlflow_run_id"] == record["mlflow_run_id"]
    fetched = fetch(root, record["mlflow_run_id"], tmp_path / "fetched")
    assert (fetched / "code" / "changes.diff").is_file()


@pytest.mark.slow
def test_source_that_is_too_large_is_warned_of(tmp_path: Path, store: Path, shared_server: SharedServer) -> None:
    root = shared_server.lend(make_small(tmp_path / "checkout", "eda", store=store))
    (root / "notebooks" / "helper.py").write_text("#" * 1_000_001)
    done = call_in_process(root, "run", "small")
    warning = "warning: too large to be recorded, so this run cannot be reproduced: notebooks/helper.py (1.0 MB"
    assert warning in done.stdout
    assert load_records(root)[0]["code"]["left_out"] == {"notebooks/helper.py": 1_000_001}
