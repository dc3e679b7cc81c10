"""README and the root files are true: every command in them runs."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from labkit.cli.main import call, cli
from labkit.data.labels.judgements import add_judgement, make_judgement, read_judgements
from labkit.model.release.runtime import load_runtime
from labkit.run.records.champion_moves import Move
from labkit.stages.model_versions import list_versions

from tests.conftest import ROOT, call_in_process, call_labkit, make_environment
from tests.documents import find_blocks, find_commands
from tests.own_store import work_in
from tests.servers import find_free_port, serve
from tests.shared_server import SharedServer

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = find_blocks("README.md")
COMMANDS = find_commands("README.md")
TARGETS = sorted({command.split()[1] for command in COMMANDS if command.startswith("make ")})
# `mlflow ui` and `labkit serve` run until they are stopped, see the tests of their own below.
RUN = [command for command in COMMANDS if not command.startswith(("make ", "mlflow ", "labkit serve"))]


def test_readme_is_short_enough_to_be_read() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize("target", TARGETS)
def test_make_targets_exist_and_are_described(target: str) -> None:
    helped = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in helped
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
@pytest.mark.parametrize("command", RUN)
def test_command_runs(root: Path, shared_server: SharedServer, command: str) -> None:
    rows = pd.read_parquet(root / "data/diabetes/raw/patients.parquet")
    rows.drop(columns="target").to_csv(root / "patients.csv", index=False)
    rows.assign(churned=rows["target"] > 140).drop(columns="target").to_csv(root / "churn.csv", index=False)
    words = shlex.split(command)
    if words == ["dvc", "repro"]:
        words = ["dvc", "repro", "publish@diabetes"]  # the other experiment has its own tests
    with shared_server.withhold(root) if words == ["labkit", "warm"] else nullcontext():
        done = subprocess.run(words, cwd=root, env=make_environment(root), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        if words == ["labkit", "warm"]:
            assert call_labkit(root, "warm", "--stop").stdout == "stopped\n"


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_mlflow_ui_shows_the_runs_of_the_root(root: Path) -> None:
    from mlflow import MlflowClient

    command = "mlflow ui"
    assert command in COMMANDS
    environment = make_environment(root)
    environment.pop("MLFLOW_TRACKING_URI", None)
    port = find_free_port()
    with serve(
        [*command.split(), "--port", str(port), "--workers", "1"],
        folder=root,
        environment={**environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        address=f"http://127.0.0.1:{port}/health",
    ):
        client = MlflowClient(f"http://127.0.0.1:{port}")
        assert client.get_experiment_by_name("diabetes") is not None
        assert client.get_model_version_by_alias("diabetes", "champion").name == "diabetes"


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_service_predicts_as_labkit_predict_does(root: Path) -> None:
    command, port = "labkit serve diabetes", find_free_port()
    assert command in COMMANDS
    address, source, predicted = f"http://127.0.0.1:{port}", root / "asked.csv", root / "answered.csv"
    with serve(
        [*command.split(), "--port", str(port)],
        folder=root,
        environment=make_environment(root),
        address=f"{address}/ping",
    ):
        rows = json.loads(urllib.request.urlopen(f"{address}/model").read())["example"]
        body = json.dumps({"rows": rows}).encode()
        request = urllib.request.Request(f"{address}/predict", body, {"content-type": "application/json"})
        answer = json.loads(urllib.request.urlopen(request).read())
    pd.DataFrame(rows).to_csv(source, index=False)
    done = call_labkit(root, "predict", "diabetes", str(source), str(predicted))
    assert done.returncode == 0, done.stderr
    # The file has the shortest digits of each float32.
    assert pd.read_csv(predicted)["prediction"].tolist() == pytest.approx(answer["predictions"], rel=1e-6)
    assert not list((root / ".labkit/serving/diabetes").glob("run-*"))


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_package_predicts_as_the_release(root: Path) -> None:
    command = "labkit package diabetes --to dist"
    commands = find_commands("docs/packages.md")
    assert command in commands
    for one in commands:
        done = call_in_process(root, *one.split()[1:])
        assert done.returncode == 0, done.stdout + done.stderr
    assert {"README.md", "serve", "release"} <= {path.name for path in (root / "dist/diabetes-service").iterdir()}
    assert (root / "dist/diabetes-mlflow/model/MLmodel").is_file()
    [wheel] = (root / "dist").glob("diabetes_model-*.whl")
    zipfile.ZipFile(wheel).extractall(root / "dist")
    # The champion, which the latest release of the checkout need not be.
    folder = root / "dist/diabetes-service/release"
    release, example = load_runtime(folder), json.loads((folder / "input_example.json").read_text())
    rows = [dict(zip(example["columns"], row, strict=True)) for row in example["data"]]
    script = "import json, sys; import diabetes_model; print(json.dumps(diabetes_model.predict(json.load(sys.stdin))))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(rows),
        cwd=root / "dist",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(found.stdout) == release.name_predictions(release.predict(rows))


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_champion_is_monitored_as_documented(root: Path) -> None:
    rows = pd.read_parquet(root / "data/diabetes/raw/patients.parquet")
    known = rows.assign(patient=rows.index)
    known.drop(columns="target").to_csv(root / "patients.csv", index=False)
    known[["patient", "target"]].to_csv(root / "outcomes.csv", index=False)
    known.to_csv(root / "treated.csv", index=False)
    with work_in(root):
        for command in find_commands("docs/performance.md"):
            done = call_in_process(root, *shlex.split(command)[1:])
            assert done.returncode == 0, done.stdout + done.stderr
            assert "rows with true values: 442 of 442 rows (100 %)" in done.stdout
        for command in find_commands("docs/monitoring.md"):
            done = call_in_process(root, *shlex.split(command)[1:])
            assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "ok"
    assert "drift is not judged" in " ".join(json.loads(done.stdout)["notes"])


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_champion_is_watched_as_documented(root: Path) -> None:
    rows = pd.read_parquet(root / "data/diabetes/raw/patients.parquet")
    rows.drop(columns="target").to_csv(root / "arrived.csv", index=False)
    os.utime(root / "arrived.csv", (1e9, 1e9))
    params = root / "params" / "diabetes.yaml"
    before = params.read_text()
    try:
        params.write_text(f"{before}monitoring:\n  incoming: arrived.csv\n")
        for command in find_commands("docs/watching.md"):
            done = call_labkit(root, *shlex.split(command)[1:])
            assert done.returncode == 0, done.stdout + done.stderr
            assert re.match(r"20\S+\+00:00 diabetes v\d+: ok ", done.stdout), done.stdout
    finally:
        params.write_text(before)
    assert "watch of diabetes: last beat " in call_labkit(root, "status", "diabetes").stdout


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_data_and_models_are_checked_as_documented(root: Path) -> None:
    # An earlier test may have left a model that the gate refuses, of which the check says so.
    shutil.copy(ROOT / "params/diabetes.yaml", root / "params/diabetes.yaml")
    assert call_labkit(root, "run", "diabetes").returncode == 0
    pd.read_parquet(root / "data/diabetes/raw/patients.parquet").to_csv(root / "patients.csv", index=False)
    workflow = yaml.safe_load((ROOT / ".github/workflows/models.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "").partition(" > ")[0] for step in workflow["jobs"]["check"]["steps"]]
    checked = [step for step in steps if step.startswith(("labkit check", "dvc metrics"))]
    assert len(checked) == 3
    with work_in(root):
        for command in (*find_commands("docs/checks-in-ci.md"), *checked):
            words = shlex.split(command)
            if words[0] == "labkit":
                done = call_in_process(root, *words[1:])
            else:
                done = subprocess.run(words, cwd=root, env=make_environment(root), capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
    assert (root / "data.md").read_text().startswith("### diabetes: data/diabetes/raw/patients.parquet, 442 rows: ")


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_champion_is_trained_again_as_documented(root: Path) -> None:
    with work_in(root):
        for command in find_commands("docs/retraining.md"):
            done = call_in_process(root, *shlex.split(command)[1:])
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_champion_is_moved_and_measured_as_documented(root: Path) -> None:
    with work_in(root):
        if len(list_versions("diabetes")) < 2:
            other = ("-S", "training.models=dummy,decision_tree")
            assert call_labkit(root, "run", "diabetes", *other).returncode == 0
        commands = [*find_commands("docs/releases.md"), *find_commands("docs/delivery.md")]
        for command in ("labkit promote diabetes 1 --reason first", *commands):
            done = call_in_process(root, *shlex.split(command)[1:])
            assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["experiment"] == "diabetes"
        [block] = find_blocks("docs/releases.md", "python")
        *lines, last = block.splitlines()
        expression, _, described = last.partition("#")
        names: dict[str, Any] = {"Move": Move}
        exec("\n".join(lines), names)
        move, shown = asdict(eval(expression, names)), asdict(eval(described.replace("…", "...").strip(), names))
    assert {name: value if shown[name] is not ... else ... for name, value in move.items()} == shown


@pytest.mark.slow
@pytest.mark.xdist_group("pipeline")
def test_points_are_swept_and_adopted_as_documented(root: Path) -> None:
    params, printed = root / "params/diabetes.yaml", ""
    before = params.read_bytes()
    try:
        for command in find_commands("docs/sweeps.md"):
            if command == "labkit run diabetes":
                continue  # one of README
            assert params.read_bytes() == before
            done = call_in_process(root, *shlex.split(command.replace("--optuna 20", "--optuna 6"))[1:])
            assert done.returncode == 0, done.stdout + done.stderr
            printed += done.stdout
        assert "4 of 4 points done up to training; 4 stages ran" in printed
        assert "Optuna made 6 of 6 proposals" in printed
        assert "+  most_features: " in printed
    finally:
        params.write_bytes(before)


def test_labels_are_shown_and_exchanged_as_documented(params_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(params_root)
    for key, label, annotator in (("1", "yes", "ana"), ("1", "no", "ben"), ("2", "yes", "ana")):
        add_judgement("diabetes", make_judgement("new.csv:id", key, label, annotator=annotator))
    commands = find_commands("docs/labelling.md")
    assert len(commands) == 4
    for command in commands:
        assert call(cli, shlex.split(command)[1:]) == 0
    assert (params_root / "labels.csv").read_text() == "key,label,annotators,drawn\n2,yes,1,\n"
    assert len(read_judgements("diabetes").judgements) == 3


def test_every_command_is_in_readme_or_docs_and_helps_with_an_example() -> None:
    from click.testing import CliRunner

    pages = README + "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    for name in cli.commands:
        helped = CliRunner().invoke(cli, [name, "--help"]).output
        assert f"labkit {name} " in helped.split("\n\n", 2)[2], f"`labkit {name} --help` has no example"
        assert f"labkit {name} " in pages or name == "stage"


def test_every_notebook_is_in_the_table_of_readme() -> None:
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        # The one that belongs to no stage is not in the table of stages.
        assert (f"`{path.stem}`" if path.stem.startswith("00_") else f"| `{path.stem}` |") in README


def test_every_folder_is_in_the_layout_of_readme() -> None:
    [layout] = [block for block in BLOCKS if "lib/labkit/\n" in block]
    named = {line.split()[0] for line in layout.splitlines()}
    folders = {f"{path.parent.name}/" for path in (ROOT / "lib" / "labkit").glob("*/__init__.py")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {f"{name.partition('/')[0]}/" for name in tracked.splitlines() if "/" in name and name[0] != "."}
    assert folders | top - {"lib/"} <= named


def test_lock_has_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pins = [line for line in lock.splitlines() if re.match(r"[a-z0-9]", line)]
    assert all("==" in line and line.endswith("\\") for line in pins)


@pytest.mark.slow
def test_pip_lines_of_environment_yml_install_the_lock_and_labkit(tmp_path: Path) -> None:
    """What conda would let pip do, in a plain virtual environment; the lock by uv, which takes a tenth of the time."""
    tree = yaml.safe_load((ROOT / "environment.yml").read_text())
    lines = next(entry["pip"] for entry in tree["dependencies"] if isinstance(entry, dict))
    (tmp_path / "pip.txt").write_text("\n".join(lines).replace("requirements.lock", str(ROOT / "requirements.lock")))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = ["uv", "pip", "install", "--quiet", "--require-hashes", "--python", python]
    subprocess.run([*install, "-r", tmp_path / "pip.txt"], env=make_environment(tmp_path), check=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", python]
    # pip reads the same lines with their hashes, and finds nothing left to install.
    checked = [*pip, "install", "--no-index", "--no-deps", "--require-hashes", "-r", tmp_path / "pip.txt"]
    subprocess.run(checked, env=make_environment(tmp_path), check=True)
    comment = re.search(r"#.*(pip install --no-deps -e \.)", (ROOT / "environment.yml").read_text())
    assert comment is not None
    subprocess.run([*pip, *comment[1].split()[1:]], cwd=ROOT, check=True)
    helped = subprocess.run(
        [tmp_path / "venv" / "bin" / "labkit", "--help"], capture_output=True, text=True, check=True
    )
    assert "labkit run diabetes" in helped.stdout
