"""The command line on bad input: one clear error, exit code 2, nothing started, nothing written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd
import pytest
from labkit.cli import main
from labkit.errors import ParamsError
from labkit.run.pipeline import dvc_repo
from mlflow import MlflowClient

from tests.conftest import Labkit, call_in_process, call_program, make_checkout
from tests.shared_server import SharedServer
from tests.shop import SHOP, list_files, write_tables
from tests.wording import find_wrong_words


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "diabets"), "no experiment 'diabets' in params/: did you mean 'diabetes'?"),
        (("run", "diabetes", "--until", "trainig"), "no stage 'trainig': did you mean 'training'?"),
        (("run", "diabetes", "--force", "trainig"), "no stage 'trainig': did you mean 'training'?"),
        (("run", "diabetes", "-S", "training.fold=3"), "unknown key training.fold: did you mean 'folds'?"),
        (("run", "diabetes", "-S", "trainin.folds=3"), "no section 'trainin': did you mean 'training'?"),
        (("run", "diabetes", "--sample", "3"), "3 is not in the range x>=20"),
        (("run", "diabetes", "--sample", "100", "--until", "x"), "no stage 'x'"),
        (("stage", "trainig", "diabetes"), "no stage 'trainig': did you mean 'training'?"),
        (("stage", "training", "diabets"), "no experiment 'diabets'"),
        (("params", "diabets"), "no experiment 'diabets'"),
        (("predict", "diabets", "a.csv", "b.csv"), "no experiment 'diabets'"),
        (("runn", "diabetes"), "no command 'runn': did you mean 'run'?"),
        (("run",), "Missing argument 'EXPERIMENT...'"),
    ],
)
def test_nearest_match_is_suggested_for_a_mistyped_word(
    checkout: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = list_files(checkout)
    done = call_in_process(checkout, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list_files(checkout) == before


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("training:", "trainig:", "params/diabetes.yaml:38: unknown key trainig: did you mean 'training'?"),
        ("folds: 5", "folds: 5\n  folds: 6", "params/diabetes.yaml"),
        ("seed: 42", "seed: &a [1]\nx: [*a]", "anchors and aliases"),
        ("experiment: diabetes", "- experiment", "fix the YAML"),
    ],
)
def test_bad_params_file_is_refused_before_heavy_imports(
    checkout: Path, labkit: Labkit, old: str, new: str, message: str
) -> None:
    path = checkout / "params" / "diabetes.yaml"
    path.write_text(path.read_text().replace(old, new, 1))
    before = list_files(checkout)
    done = labkit("run", "diabetes", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 2
    assert message in done.stderr
    assert list_files(checkout) == before
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "labkit.params.load" in imported
    assert not imported & {"mlflow", "papermill", "pandas", "sklearn", "dvc.repo", "matplotlib"}


def test_outside_of_a_checkout(tmp_path: Path) -> None:
    done = call_in_process(tmp_path, "run", "diabetes")
    assert done.returncode == 2
    assert "no labkit checkout here or above" in done.stderr


def test_experiment_that_dvc_yaml_does_not_list(checkout: Path) -> None:
    content = (checkout / "params" / "diabetes.yaml").read_text()
    (checkout / "params" / "other.yaml").write_text(content.replace("experiment: diabetes", "experiment: other"))
    done = call_in_process(checkout, "run", "other")
    assert done.returncode == 2
    assert "dvc.yaml does not list 'other': add it to `experiments` at its top" in done.stderr


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (
            '[diabetes, "x; touch pwned"]',
            "dvc.yaml: experiments: 'x; touch pwned' is not a valid name: use lowercase letters, digits and _",
        ),
        ('[diabetes, "$(touch pwned)"]', "'$(touch pwned)' is not a valid name"),
        ('[diabetes, "${experiments}"]', "'${experiments}' is not a valid name"),
        ('[diabetes, "../../x"]', "'../../x' is not a valid name"),
        ('[diabetes, "a\\nb"]', "'a\\nb' is not a valid name"),
        ("[diabetes, 7]", "7 is not a valid name"),
        ("[diabetes, {a: b}]", "{'a': 'b'} is not a valid name"),
        ('"diabetes; touch pwned"', "'diabetes; touch pwned' is not a valid name"),
    ],
)
def test_experiment_that_a_shell_would_read_is_no_name(checkout: Path, listed: str, message: str) -> None:
    list_experiments(checkout, listed)
    with pytest.raises(ParamsError) as caught:
        dvc_repo.list_stages("diabetes")
    assert message in str(caught.value)


def list_experiments(root: Path, listed: str) -> None:
    """Let dvc.yaml list these experiments."""
    path = root / "dvc.yaml"
    path.write_text(re.sub(r"experiments: \[.*\]", lambda _: f"experiments: {listed}", path.read_text(), count=1))


@pytest.mark.parametrize("command", ["run", "status"])
def test_experiment_that_a_shell_would_read_never_reaches_dvc(checkout: Path, command: str) -> None:
    list_experiments(checkout, '[diabetes, "x; touch pwned"]')
    before = list_files(checkout)
    done = call_in_process(checkout, command, "diabetes")
    assert done.returncode == 2
    assert "'x; touch pwned' is not a valid name" in done.stderr
    assert "Traceback" not in done.stderr
    assert list_files(checkout) == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.folds=$(touch pwned)", "training.folds is '$(touch pwned)': write a whole number"),
        ("training.folds=5; touch pwned", "training.folds is '5; touch pwned': write a whole number"),
        ("training.folds=\ud800", "-S"),
        ("deploy.owner=ghp_0123456789012345678901234567890123456789", "-S deploy.owner looks like a secret"),
    ],
)
def test_hostile_setting_changes_nothing(checkout: Path, setting: str, message: str) -> None:
    before = list_files(checkout)
    done = call_in_process(checkout, "run", "diabetes", "-S", setting.replace("\ud800", os.fsdecode(b"\xff")))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "ghp_" not in done.stderr
    assert list_files(checkout) == before
    assert not list(checkout.rglob("pwned"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, shared_server: SharedServer, store: Path) -> Path:
    """Return a checkout with an experiment of two joined CSV files, missing values and categories."""
    root = make_checkout(tmp_path_factory.mktemp("shop") / "checkout", store=store)
    shared_server.lend(root)
    (root / "params" / "shop.yaml").write_text(SHOP)
    (root / "dvc.yaml").write_text((root / "dvc.yaml").read_text().replace("experiments: [", "experiments: [shop, "))
    write_tables(root)
    return root


def find_statuses(root: Path) -> list[tuple[str, str, str]]:
    """Return name, status and reason of every run."""
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=500)
    return [
        (run.data.tags.get("labkit.stage", "pipeline"), run.info.status, run.data.tags.get("labkit.reason", ""))
        for run in runs
    ]


@pytest.mark.slow
@pytest.mark.xdist_group("shop")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("column: returned", "column: retuned", "data.target.column: no column 'retuned': did you mean 'returned'?"),
        ("customer: id", "client: id", "data.joins.0.keys: no column 'client'"),
        ("customer: id", "customer: key", "data.joins.0.keys (customers): no column 'key'"),
        (
            "- {table: customers",
            "- {table: custmers",
            "data.joins.0.table: no table 'custmers': did you mean 'customers'",
        ),
        ("price > 0", "prise > 0", "wrangling.filters.0: no column 'prise': did you mean 'price'?"),
        ("price / items", "price / itemz", "features.expressions.price_per_item: no column 'itemz'"),
        ("price / items", "returned + 1", "uses the target"),
        ("drop: [ordered]", "drop: [orderd]", "features.drop: no column 'orderd': did you mean 'ordered'?"),
        ("tables/orders.csv", "tables/order.csv", "no file"),
        ("tables/orders.csv", "../../etc/passwd", "is outside of"),
        ("times: [ordered]", "times: [kind]", "column kind, row 1: "),
    ],
)
def test_table_or_column_that_is_not_there_is_refused_by_the_first_stage(
    shop: Path, old: str, new: str, message: str
) -> None:
    path = shop / "params" / "shop.yaml"
    path.write_text(SHOP.replace(old, new, 1))
    done = call_in_process(shop, "stage", "source", "shop")
    path.write_text(SHOP)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("shop")
def test_refusal_of_the_first_stage_ends_a_run_before_any_kernel(shop: Path) -> None:
    path = shop / "params" / "shop.yaml"
    path.write_text(SHOP.replace("drop: [ordered]", "drop: [orderd]", 1))
    done = call_in_process(shop, "run", "shop")
    path.write_text(SHOP)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "features.drop: no column 'orderd': did you mean 'ordered'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (shop / "reports" / "shop").exists()
    assert ("eda", "FAILED", "") not in find_statuses(shop)


@pytest.mark.slow
@pytest.mark.xdist_group("shop")
def test_faulty_rows_exit_2_and_the_run_explains_why(shop: Path) -> None:
    path = shop / "tables" / "customers.csv"
    path.write_text(path.read_text() + "1,Rome\n")
    done = call_in_process(shop, "run", "shop")
    write_tables(shop)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "the join would multiply rows" in done.stderr
    assert len(done.stderr.splitlines()) <= 12
    statuses = find_statuses(shop)
    assert ("pipeline", "FAILED") in {status[:2] for status in statuses}
    assert all(status != "RUNNING" for _, status, _ in statuses)
    assert any("join" in reason for _, status, reason in statuses if status == "FAILED")


@pytest.mark.slow
@pytest.mark.xdist_group("shop")
def test_strangers_tables_run_through_unedited_notebooks(shop: Path) -> None:
    done = call_in_process(shop, "run", "shop")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [word for page in sorted((shop / "reports").rglob("*.html")) for word in find_wrong_words(page)] == []
    card = (shop / "data" / "shop" / "release" / "MODEL_CARD.md").read_text()
    assert "class of interest `1`" in card
    facts = json.loads((shop / "data" / "shop" / "release" / "release.json").read_text())
    assert facts["onnx"]["reason"] == ""
    rows = pd.read_csv(shop / "tables" / "orders.csv").assign(customer_city="never seen", kind="new").head(10)
    rows.to_csv(shop / "in.csv", index=False)
    predicted = call_in_process(shop, "predict", "shop", "in.csv", "out.parquet")
    assert predicted.returncode == 0, predicted.stderr
    assert list(pd.read_parquet(shop / "out.parquet")) == [
        "row",
        "prediction",
        "probability_0",
        "probability_1",
    ]


@pytest.mark.slow
@pytest.mark.xdist_group("clones")
def test_two_clean_clones_give_the_same_bytes(tmp_path: Path, shared_server: SharedServer, store: Path) -> None:
    """The kernels of one are forks of a server, those of the other ordinary ones.

    Candidates: one of each kind; that all are the same in two processes: tests/model/training/test_comparison.py.
    """
    digests = []
    warm, cold = (make_checkout(tmp_path / name, store=store) for name in ("warm", "cold"))
    values = (
        "training.models=[dummy,linear,random_forest,lightgbm]",
        "training.folds=2",
        "evaluation.bootstrap_samples=200",
    )
    settings = [word for value in values for word in ("-S", value)]
    for root, options in ((shared_server.lend(warm), ()), (cold, ("--cold",))):
        done = call_program(root, "run", "breast_cancer", *options, *settings)
        assert done.returncode == 0, done.stdout + done.stderr
        folder = root / "data" / "breast_cancer"
        pages = sorted((root / "reports").rglob("*.html"))
        assert [word for page in pages for word in find_wrong_words(page)] == []
        files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".gitignore")
        digests.append({str(path.relative_to(folder)): path.read_bytes() for path in files})
    first, second = digests
    assert {"evaluation/metrics.json", "evaluation/predictions.parquet", "model/model.skops"} <= set(first)
    assert set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_no_command_builds_a_grammar_of_addresses() -> None:
    """As nbformat would at its import, for a second or more."""
    code = (
        "import sys; from labkit.cli.main import main\ntry: main(['--version'])\nexcept SystemExit: import nbformat\n"
    )
    code += "nbformat.validate(nbformat.v4.new_notebook()); assert 'rfc3987_syntax.syntax_helpers' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "version" in done.stdout


def test_folder_that_may_not_be_written_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def write(arguments: list[str], standalone_mode: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/read_only/new.lock")

    assert main.call(write, []) == 2
    assert capsys.readouterr().err == "labkit: /read_only/new.lock: Permission denied: labkit needs to write there\n"


def test_help_is_ascii_and_fits_into_80_columns() -> None:
    for name, command in (*main.cli.commands.items(), ("labkit", main.cli)):
        helped = command.get_help(click.Context(command, info_name=name))
        assert helped.isascii(), name
        assert [line for line in helped.splitlines() if len(line) > 80] == [], name


def test_each_command_is_described_in_one_whole_line() -> None:
    helped = main.cli.get_help(click.Context(main.cli, info_name="labkit"))
    assert "..." not in helped.partition("Commands:")[2]


@pytest.mark.slow
def test_commands_work_in_a_terminal_of_ascii(checkout: Path, labkit: Labkit, store: Path) -> None:
    shutil.copy(store, checkout)
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    (checkout / "t.csv").write_text("x,y\n" + "".join(f"{n // 2},{'aé'[n % 2]}\n" for n in range(60)))
    new = ("new", "t", "--data", "t.csv", "--target", "y")
    for words in (new, ("run", "t", "--cold", "--until", "source"), ("runs",), ("why", "t")):
        done = labkit(*words, **plain)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout.isascii(), words
    found = labkit("doctor", **plain)
    assert found.stdout.isascii()
    assert found.stderr == ""
