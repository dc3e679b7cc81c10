"""Two clones, one PostgreSQL, one S3: what one runs and pushes, the other has, predicts with and publishes beside."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from tests import preloaded
from tests.conftest import LABKIT, make_checkout, make_environment
from tests.git import commit_all
from tests.services import PASSWORD, make_database, serve_postgresql, serve_s3

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.slow]
BUCKET = "team-data"
QUICK = ("training.models=[dummy,linear]", "training.folds=2", "evaluation.bootstrap_samples=200")


@dataclass(frozen=True)
class Team:
    """What two people share, by environment variables, and where each works."""

    alice: Path
    bob: Path
    variables: dict[str, str]

    def start(self, root: Path, *words: str) -> "subprocess.Popen[str]":
        """Start a command in a clone."""
        environment = {**make_environment(root), **self.variables}
        return preloaded.Popen(
            words, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def call(self, root: Path, *words: str) -> str:
        """Run a command in a clone to its end and return what it printed."""
        return finish(self.start(root, *words))


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a command to succeed and return what it printed."""
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, printed + errors
    assert PASSWORD not in printed + errors
    return printed


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    alice = make_checkout(folder / "alice")
    with serve_postgresql() as server, serve_s3(folder, bucket=BUCKET) as keys:
        records = {
            "MLFLOW_TRACKING_URI": make_database(server, "runs"),
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKET}/artifacts",
        }
        yield Team(alice, folder / "bob", {**keys, **records})


def test_two_clones_work_as_one_team(team: Team) -> None:
    alice, bob = team.alice, team.bob
    settings = [word for setting in QUICK for word in ("-S", setting)]
    printed = team.call(alice, LABKIT, "run", "diabetes", *settings)
    assert "version 1 is now the champion" in printed
    assert "View run" not in printed
    team.call(alice, "dvc", "remote", "add", "-d", "team", f"s3://{BUCKET}/data")
    team.call(alice, "dvc", "push")
    commit_all(alice)

    subprocess.run(["git", "clone", "-q", str(alice), str(bob)], check=True)
    assert "outputs of 8 stages in place" in team.call(bob, LABKIT, "pull")
    states = team.call(bob, LABKIT, "status", "diabetes")
    assert states.count("up to date") == 8
    assert "stale" not in states
    rows = pd.read_parquet(bob / "data" / "diabetes" / "raw" / "patients.parquet")
    rows.drop(columns="target").to_csv(bob / "patients.csv", index=False)
    output = team.call(bob, LABKIT, "predict", "diabetes", "patients.csv", "predictions.csv")
    assert output.startswith(f"{len(rows)} rows predicted with diabetes version 1 ")
    assert "version 1 is already the champion" in team.call(bob, LABKIT, "run", "diabetes")
    assert len(list((bob / "reports" / "diabetes").glob("0*.html"))) == 7, "pages come from the store"

    # Both at once, bob with a model of his own.
    running = team.start(bob, LABKIT, "run", "diabetes", "-S", "training.models=[dummy,decision_tree]")
    theirs = team.call(alice, LABKIT, "run", "diabetes")
    assert re.search(r"version 1 is (now|already) the champion", theirs)
    check_records(team, theirs + finish(running))


def check_records(team: Team, printed: str) -> None:
    """Assert what both left in the shared store."""
    from mlflow import MlflowClient

    client = MlflowClient(team.variables["MLFLOW_TRACKING_URI"].replace("postgresql:", "postgresql+psycopg:"))
    versions = client.search_model_versions("name = 'diabetes'")
    assert sorted(int(version.version) for version in versions) == [1, 2], (
        printed,
        [(version.creation_timestamp, version.tags) for version in versions],
    )
    assert all(version.source.startswith(f"s3://{BUCKET}/artifacts/diabetes/") for version in versions)
    assert all(version.tags["labkit.registered_by"] for version in versions)
    runs = client.search_runs(["1"], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    [record] = [json.loads(path.read_text()) for path in team.bob.glob(".labkit/runs/*/record.json")]
    # What bob did not run is known to be alice's, though his ledger knows nothing of it.
    theirs = {run.info.run_id for run in runs if run.data.tags.get("labkit.stage") == "features"}
    assert record["stages"]["features"]["made_by"]["mlflow_run_id"] in theirs
    assert record["data"]["remotes"] == {"team": f"s3://{BUCKET}/data"}
    for root in (team.alice, team.bob):
        assert not (root / "mlruns").exists()
        assert not (root / "mlflow.db").exists()
        kept = [path for path in root.rglob("*") if path.is_file() and path.stat().st_size < 10_000_000]
        assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []
