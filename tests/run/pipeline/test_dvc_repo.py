"""The whole line, for real: every stage of an experiment in a checkout of its own, and what it leaves behind."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from labkit.model.evaluation.slices import NONE_FOUND
from labkit.params.metric_meanings import name_headline
from labkit.storage.digests import compute_digest
from mlflow import MlflowClient
from playwright.sync_api import Page

from tests.conftest import LABKIT, call_in_process, call_labkit, make_environment
from tests.own_store import work_in
from tests.shared_server import SharedServer
from tests.wording import find_wrong_words

NOTEBOOKS = ["eda", "wrangling", "features", "training", "evaluation", "deploy", "explanation"]
pytestmark = pytest.mark.xdist_group("pipeline")


def get_client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def find_runs(root: Path) -> list[mlflow.entities.Run]:
    client = get_client(root)
    experiment = client.get_experiment_by_name("diabetes")
    return list(client.search_runs([experiment.experiment_id], max_results=500))


def get_champion(root: Path) -> tuple[str, str]:
    """Return the champion's version and the digest of its release."""
    version = get_client(root).get_model_version_by_alias("diabetes", "champion")
    return version.version, version.tags["labkit.release_sha256"]


@pytest.mark.slow
def test_run_names_every_stage_once_and_ends_with_its_result_and_where_to_look(finished: tuple[Path, str]) -> None:
    root, printed = finished
    for stage in ["source", *NOTEBOOKS, "publish"]:
        assert len(re.findall(rf"^{stage} +ran ", printed, re.MULTILINE)) == 1
    assert "this time" not in printed, "the closing table has nothing to add"
    assert printed.count("version 1 is now the champion") == 1
    evaluation = json.loads((root / "data" / "diabetes" / "evaluation" / "evaluation.json").read_text())
    value, low, high = (f"{evaluation['holdout']['mae'][name]:.1f}" for name in ("value", "low", "high"))
    quality = f"holdout mae {value} [{low}, {high}], dummy {evaluation['dummy']['mae']:.3g}"
    assert printed.splitlines()[-1] == (
        f"Result:    diabetes v1 published: {quality} → reports/diabetes/05_evaluation.html"
    )
    assert "reports/index.html" in printed
    assert "mlflow ui" in printed
    assert (root / "reports" / "index.html").is_file()


def test_summary_of_the_evaluation_begins_with_the_metric_and_the_gate(root: Path) -> None:
    record = json.loads((root / "reports" / "diabetes" / "05_evaluation.json").read_text())
    first, second, *others = record["findings"]
    assert first.startswith("**mae ")
    assert second.startswith("The gate: **passed**.")
    weak = next(check["status"] for check in record["checks"] if check["code"] == "LK508")
    assert [finding for finding in others if "roup" in finding] == [NONE_FOUND] * (weak == "passed")


def test_one_parent_seven_children_and_candidates_all_ended(root: Path) -> None:
    runs = find_runs(root)
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert sorted(run.data.tags["labkit.stage"] for run in children) == sorted(NOTEBOOKS)
    training = next(run for run in children if run.data.tags["labkit.stage"] == "training")
    below = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == training.info.run_id]
    assert {"dummy", "linear", "lightgbm"} <= {run.info.run_name for run in below}
    assert len(runs) == 1 + len(children) + len(below)


def test_parent_shows_what_was_run_and_what_came_of_it(root: Path) -> None:
    parent = next(run for run in find_runs(root) if "mlflow.parentRunId" not in run.data.tags)
    metrics = json.loads((root / "data/diabetes/evaluation/metrics.json").read_text())
    full = name_headline(metrics.pop("metric"))
    assert parent.data.metrics == {full[name]: value for name, value in metrics.items()}
    assert parent.data.params["training.metric"] == "mae"
    assert parent.data.tags["labkit.result"] == "version 1 is now the champion"
    described = parent.data.tags["mlflow.note.content"]
    assert "- evaluation: holdout mae " in described
    assert "- training: " in described
    [used] = parent.inputs.dataset_inputs
    assert json.loads(used.dataset.source) == {"uri": "data/diabetes/raw"}
    assert json.loads(used.dataset.profile)["sha256"] == compute_digest(root / "data/diabetes/raw")


def test_metrics_of_training_are_named_by_the_rows_they_were_measured_on(root: Path) -> None:
    training = next(run for run in find_runs(root) if run.data.tags.get("labkit.stage") == "training")
    assert {"cv_mae", "cv_mae_std", "validation_mae"} <= set(training.data.metrics)
    below = [run for run in find_runs(root) if run.data.tags.get("mlflow.parentRunId") == training.info.run_id]
    assert all(name.startswith("cv_") or name == "seconds" for run in below for name in run.data.metrics)


def test_version_is_described_by_its_model_card(root: Path) -> None:
    card = (root / "data/diabetes/release/MODEL_CARD.md").read_text()
    shown = get_client(root).get_model_version_by_alias("diabetes", "champion").description
    assert card.startswith(shown.removesuffix(" … (complete in the run's artifacts)"))
    assert len(shown) <= 5000


def test_each_child_records_what_it_was_made_from(root: Path) -> None:
    client = get_client(root)
    for run in find_runs(root):
        stage = run.data.tags.get("labkit.stage")
        if stage is None:
            continue
        tags = run.data.tags
        assert {"mlflow.source.git.commit", "labkit.git_dirty", "mlflow.user", "mlflow.source.name"} <= set(tags)
        assert {"labkit.python", "labkit.platform", "labkit.key"} <= set(tags)
        assert "digests.json" in {entry.path for entry in client.list_artifacts(run.info.run_id)}
        assert any(name.startswith("labkit.output.") for name in tags)
        assert run.data.params["seed"] == "42"
        files = {Path(entry.path).suffix for entry in client.list_artifacts(run.info.run_id, "report")}
        assert files == {".html", ".ipynb", ".json"}


@pytest.mark.slow
def test_champion_predicts_through_mlflow_and_through_labkit_alike(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pd.read_parquet(root / "data/diabetes/raw/patients.parquet").drop(columns="target").head(40)
    rows.to_csv(tmp_path / "in.csv", index=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    expected = mlflow.pyfunc.load_model("models:/diabetes@champion").predict(rows)
    done = call_in_process(root, "predict", "diabetes", str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert done.returncode == 0, done.stderr
    assert "40 rows predicted with diabetes version 1" in done.stdout
    found = pd.read_csv(tmp_path / "out.csv")["prediction"]
    assert found.to_numpy() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no such file"),
        ("empty.csv", "", "empty.csv is empty (0 bytes)"),
        ("header.csv", "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6\n", "header.csv: 0 data rows below the header"),
        ("short.csv", "age,sex\n1,2\n", "missing columns 'bmi'; 'bp'; 's1'; 's2'; 's3'; … and 3 more"),
        ("text.csv", "age,sex,bmi,bp,s1,s2,s3,s4,s5,s6\nold,1,1,1,1,1,1,1,1,1\n", "column 'age'"),
        ("rows.rds", "X", "rows.rds: an R data file, which is not supported: write it with write.csv(…)"),
    ],
)
def test_rows_that_cannot_be_predicted(
    root: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    done = call_in_process(root, "predict", "diabetes", str(tmp_path / name), str(tmp_path / "out.csv"))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_status_shows_that_nothing_is_stale(root: Path) -> None:
    done = call_in_process(root, "status", "diabetes")
    assert done.returncode == 0
    assert "stale" not in done.stdout
    assert done.stdout.count("up to date") == 8


@pytest.mark.slow
def test_second_run_runs_no_notebook_and_publishes_nothing(root: Path) -> None:
    before, n_runs = get_champion(root), len(find_runs(root))
    pages = {path: path.stat().st_mtime_ns for path in (root / "reports" / "diabetes").glob("0*")}
    done = call_in_process(root, "run", "diabetes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  up to date ") == 8
    assert "version 1 is already the champion" in done.stdout
    assert get_champion(root) == before
    assert len(find_runs(root)) == n_runs
    assert {path: path.stat().st_mtime_ns for path in pages} == pages


@pytest.mark.slow
def test_plain_dvc_agrees_that_there_is_nothing_to_do(root: Path) -> None:
    done = subprocess.run(
        ["dvc", "repro", "publish@diabetes", "eda@diabetes"],
        cwd=root,
        env={key: value for key, value in make_environment(root).items() if key != "LABKIT_ROOT"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("didn't change, skipping") == 8
    assert "Running stage 'publish@diabetes'" in done.stdout


def test_metrics_are_dvc_metrics(root: Path) -> None:
    environment = make_environment(root)
    shown = subprocess.run(
        ["dvc", "metrics", "show", "--json"], cwd=root, env=environment, capture_output=True, check=True
    )
    metrics = json.loads(shown.stdout)[""]["data"]["data/diabetes/evaluation/metrics.json"]["data"]
    assert metrics["low"] < metrics["holdout"] < metrics["high"]
    full = name_headline(metrics.pop("metric"))
    assert set(metrics) == set(full) - {"cost"}
    path = "data/diabetes/evaluation/metrics.json"
    for command, width in ((("show", path), 120), (("diff", "--all", "--targets", path), 80)):
        written = subprocess.run(
            ["dvc", "metrics", *command], cwd=root, env=environment, capture_output=True, text=True, check=True
        ).stdout
        assert path in written
        assert max(map(len, written.splitlines())) <= width
    logged = next(run for run in find_runs(root) if run.data.tags.get("labkit.stage") == "evaluation").data.metrics
    assert {name: logged[full[name]] for name in metrics} == metrics


def test_no_curve_is_written_that_does_not_apply(root: Path) -> None:
    """A regression without times has no ROC and no periods; an empty file would be an error of `dvc plots show`."""
    folder = root / "data" / "diabetes" / "evaluation" / "plots"
    assert [file.name for file in sorted(folder.rglob("*.csv"))] == ["calibration.csv"]
    command = ["dvc", "plots", "show", *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(command, cwd=root, env=make_environment(root), capture_output=True, text=True, check=True)
    assert "failed" not in done.stdout + done.stderr


@pytest.mark.slow
def test_change_and_change_back_end_on_the_right_champion_and_pages(root: Path) -> None:
    """DVC restores the first model without running a stage; alias and pages must follow it all the same."""
    version, digest = get_champion(root)
    page = root / "reports" / "diabetes" / "04_training.html"
    first = page.read_bytes()
    changed = call_in_process(
        root,
        "run",
        "diabetes",
        "-S",
        "training.models=dummy,decision_tree",
        "-S",
        "evaluation.gate.champion_tolerance=100",
        "-S",
        "evaluation.gate.slice_tolerance=0.99",
    )
    assert changed.returncode == 0, changed.stderr
    assert "+  models: [dummy, decision_tree]" in changed.stdout
    other = get_champion(root)
    assert other[1] != digest
    assert page.read_bytes() != first
    back = call_in_process(
        root,
        "run",
        "diabetes",
        "-S",
        "training.models=dummy,linear,random_forest,extra_trees,hist_gradient_boosting,lightgbm",
    )
    assert back.returncode == 0, back.stderr
    assert re.search(r"^training +restored", back.stdout, re.MULTILINE)
    assert get_champion(root) == (version, digest)
    assert page.read_bytes() == first
    assert compute_digest(root / "data/diabetes/release") == digest


@pytest.fixture(scope="module")
def pages(root: Path) -> list[Path]:
    """Return every page of the checkout, with those that commands write on request."""
    with work_in(root):
        for name in ("compare", "delivery"):
            done = call_in_process(root, name, "diabetes")
            assert done.returncode == 0, done.stderr
    return sorted((root / "reports").rglob("*.html"))


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_every_page_is_inert_accessible_and_fits(
    pages: list[Path], visit: Callable[..., tuple[Page, list[str]]], width: int
) -> None:
    assert len(pages) == len(NOTEBOOKS) + 4
    for path in pages:
        page, complaints = visit(path, viewport={"width": width, "height": 900})
        assert complaints == [], path.name
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0, path
        assert page.locator("img:not([alt])").count() == 0
        assert page.locator("script").count() == 0
        assert page.locator("h1").count() == 1, path.name
        page.context.close()
        # The policy of a page keeps the check of accessibility out as well.
        page, _ = visit(path, viewport={"width": width, "height": 900}, bypass_csp=True)
        violations = Axe().run(page).response["violations"]
        assert [one["id"] for one in violations if one["impact"] in ("serious", "critical")] == [], path.name
        page.context.close()


def test_pages_use_the_standard_terms(pages: list[Path]) -> None:
    assert [word for page in pages for word in find_wrong_words(page)] == []


@pytest.mark.slow
def test_champion_stays_when_the_challenger_is_worse(root: Path) -> None:
    version = get_champion(root)
    done = call_labkit(
        root,
        "run",
        "diabetes",
        "-S",
        "training.models=dummy,decision_tree",
        "-S",
        "evaluation.gate.champion_tolerance=0.01",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["result"]["decision"] == "kept champion"
    assert [line["stage"] for line in document["stages"]][-1] == "publish"
    assert "stays champion" in document["stages"][-1]["headline"]
    assert {"code": "LK603", "status": "issue"}.items() <= document["checks"][0].items()
    assert "publish" in done.stderr
    assert get_champion(root) == version
    decision = json.loads((root / "reports/diabetes/publish.json").read_text())
    assert decision["decision"] == "kept champion"
    assert any(reason.startswith("✗ failed: not worse than the champion") for reason in decision["reasons"])


@pytest.mark.slow
def test_gate_refuses_a_model_that_gains_too_little(root: Path) -> None:
    version, n_versions = get_champion(root), len(get_client(root).search_model_versions("name = 'diabetes'"))
    params = root / "params/diabetes.yaml"
    before = params.read_text()
    done = call_labkit(root, "run", "diabetes", "-S", "evaluation.gate.minimum_gain=60")
    params.write_text(before)
    assert done.returncode == 0, done.stderr
    assert "refused by the gate" in done.stdout
    assert get_champion(root) == version
    assert len(get_client(root).search_model_versions("name = 'diabetes'")) == n_versions


def break_notebook(root: Path, source: str) -> Callable[[], None]:
    """Put a line into the third code cell of 03_features; return what puts it back."""
    path = root / "notebooks" / "03_features.ipynb"
    before = path.read_text()
    notebook = json.loads(before)
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][2]
    cell["source"] = [*cell["source"], "\n" + source]
    path.write_text(json.dumps(notebook))
    return lambda: path.write_text(before) and None


@pytest.mark.slow
def test_raising_notebook_is_failed_everywhere_and_the_next_run_goes_on(root: Path) -> None:
    restore = break_notebook(root, "raise RuntimeError('broken on purpose')")
    done = call_labkit(root, "run", "diabetes")
    assert done.returncode == 1
    message = done.stderr.splitlines()
    assert len(message) <= 12
    assert "stage features failed" in message[0]
    assert any("RuntimeError: broken on purpose" in line for line in message)
    assert "reports/diabetes/03_features.html" in done.stderr
    for stage, outcome in (("source", "up to date"), ("features", "failed"), ("deploy", "not run")):
        assert len(re.findall(rf"^{stage} +{outcome}", done.stdout, re.MULTILINE)) == 1
    runs = find_runs(root)
    assert {run.info.status for run in runs} == {"FINISHED", "FAILED"}
    failed = [run for run in runs if run.info.status == "FAILED"]
    assert sorted(run.data.tags.get("labkit.stage", "parent") for run in failed) == ["features", "parent"]
    assert all("broken on purpose" in run.data.tags["labkit.reason"] for run in failed)
    page = (root / "reports/diabetes/03_features.html").read_text()
    assert "broken on purpose" in page
    assert list((root / ".labkit" / "work").iterdir()) == []
    restore()
    again = call_labkit(root, "run", "diabetes")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_notebook_that_does_not_finish_is_a_failure(root: Path) -> None:
    path = root / "notebooks" / "01_eda.ipynb"
    before = path.read_text()
    path.write_text(before.replace("step.finish(", "print("))
    done = call_labkit(root, "stage", "eda", "diabetes")
    path.write_text(before)
    assert done.returncode == 1
    assert "the notebook has no step.finish()" in done.stderr


@pytest.mark.slow
def test_sample_run_stays_in_scratch(root: Path) -> None:
    before = {path: compute_digest(path) for path in (root / "data" / "diabetes").iterdir() if path.name != "scratch"}
    champion = get_champion(root)
    params = (root / "params/diabetes.yaml").read_bytes()
    words = ("--sample", "150", "--until", "training", "-S", "training.repeats=3")
    done = call_labkit(root, "run", "diabetes", *words)
    assert done.returncode == 0, done.stderr
    assert "For this sample only:\n-  folds: 5" in done.stdout
    assert "+  bootstrap_samples: 200" in done.stdout
    assert "Report:    reports/diabetes/sample/index.html" in done.stdout
    index = (root / "reports/diabetes/sample/index.html").read_text()
    assert "A sample of 150 rows" in index
    assert 'href="04_training.html"' in index
    assert "05_evaluation" not in index
    assert "9 shuffled folds" in (root / "reports/diabetes/sample/04_training.html").read_text()
    pages = [root / "reports/diabetes" / folder / "04_training.html" for folder in ("", "sample")]
    assert ['<a href="publish.html"' in page.read_text() for page in pages] == [True, False]
    assert (root / "params/diabetes.yaml").read_bytes() == params
    assert "index.html   (sample of 150 rows, never published)" in done.stdout
    assert len(pd.read_parquet(root / "data/diabetes/scratch/raw/patients.parquet")) == 150
    assert {path: compute_digest(path) for path in before} == before
    assert get_champion(root) == champion
    assert "up to date" in call_in_process(root, "status", "diabetes").stdout
    assert "A sample of 150 rows" in (root / "reports/diabetes/sample/04_training.html").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("is_group", [True, False], ids=["terminal", "one process"])
def test_interrupt_leaves_true_records_and_no_process(root: Path, shared_server: SharedServer, is_group: bool) -> None:
    """Ctrl-C in a terminal reaches every process; a signal to the runner alone must end the others all the same."""
    command = [LABKIT, "run", "diabetes", "--force", "eda"]
    options = {"cwd": root, "env": make_environment(root), "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with shared_server.withhold(root):  # the server of the run's own must end as well
        run = subprocess.Popen(command, start_new_session=True, text=True, **options)  # type: ignore[call-overload]
        for line in run.stdout:
            if line.startswith("eda …"):
                break
        wait_for_kernel(run.pid)
        family = psutil.Process(run.pid).children(recursive=True)
        (os.killpg if is_group else os.kill)(run.pid, signal.SIGINT)
        printed = run.communicate(timeout=60)[0]
    assert run.returncode == 130, printed
    assert "interrupted; finished stages are kept" in printed
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    statuses = [run.info.status for run in find_runs(root)]
    assert "RUNNING" not in statuses
    assert statuses[:2] == ["KILLED", "KILLED"]
    assert list((root / ".labkit" / "work").iterdir()) == []
    again = call_labkit(root, "run", "diabetes", "--until", "eda")
    assert again.returncode == 0, again.stderr


def wait_for_kernel(pid: int) -> None:
    """Wait until a process has a Jupyter kernel below it: a child of a keeper of the server it is a fork of."""
    for _ in range(600):
        servers = [
            one for one in psutil.Process(pid).children() if "labkit.run.kernels.fork_server" in read_command(one)
        ]
        with suppress(psutil.NoSuchProcess):
            if any(keeper.children() for server in servers for keeper in server.children()):
                return
        time.sleep(0.1)
    raise AssertionError("no kernel started in a minute")


def read_command(process: psutil.Process) -> str:
    """Return a process's command line, empty if it has ended meanwhile."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.fault
@pytest.mark.slow
def test_half_written_lock_of_a_killed_run_does_not_stop_the_next(root: Path) -> None:
    (root / ".dvc" / "tmp" / "rwlock").write_text("")
    done = call_in_process(root, "status", "diabetes")
    assert done.returncode == 0, done.stderr
    lock = root / ".dvc" / "tmp" / "rwlock"
    assert not lock.exists() or json.loads(lock.read_text()) is not None


@pytest.mark.slow
def test_page_that_is_lost_is_named(root: Path, tmp_path: Path) -> None:
    """Without the page and without the record in MLflow there is nothing to restore it from."""
    page = root / "reports" / "diabetes" / "01_eda.html"
    record = page.with_suffix(".json")
    page.unlink()
    record.unlink()
    assert call_labkit(root, "run", "diabetes").returncode == 0
    assert page.is_file(), "restored from the run's artifacts"
