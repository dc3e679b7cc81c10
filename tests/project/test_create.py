"""`labkit init` makes a whole project, or says what is wrong and makes nothing."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.cli.main import call, cli
from labkit.errors import ParamsError
from labkit.features import own_functions
from labkit.model.release.release_code import remove_modules
from labkit.new.column_kinds import ColumnKind
from labkit.new.inspect import Survey
from labkit.new.options import Kind
from labkit.new.proposal import Proposal
from labkit.params.load import load_params
from labkit.project import wheel
from labkit.project.create import commit, create_project
from labkit.project.example import choose_example
from labkit.project.package_name import check_package_name
from labkit.project.template import render_template
from labkit.project.wheel import load_package
from labkit.run.pipeline.dvc_repo import list_pipeline_experiments

from tests.conftest import ROOT
from tests.git import call_git
from tests.members import make_members, write_members

Capture = pytest.CaptureFixture[str]
NOBODY = 65534
"""User without rights on Linux."""


def init(*arguments: object) -> int:
    """Call `labkit init` in this process and return its exit code."""
    return call(cli, ["init", *map(str, arguments)])


@pytest.fixture(scope="module")
def gym(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project from a table, made where no checkout is."""
    folder = tmp_path_factory.mktemp("init")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LABKIT_ROOT", raising=False)
        patch.chdir(folder)
        assert init("gym", "--data", write_members(folder / "members.csv"), "--target", "cancelled") == 0
    return folder / "gym"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without a table, made in an existing empty folder, as from a hook of git in another repository."""
    folder = tmp_path_factory.mktemp("init")
    subprocess.run(["git", "init", "-q", folder / "other"], check=True)
    (folder / "First try").mkdir(mode=0o750)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GIT_DIR", str(folder / "other" / ".git"))
        patch.setenv("GIT_WORK_TREE", str(folder / "other"))
        made = create_project(folder / "First try", name="attempt")
    assert made.folder == folder / "First try"
    assert not made.uncommitted
    assert {path.name for path in folder.iterdir()} == {"other", "First try"}
    assert not (folder / "other" / ".git" / "index").exists()
    return made.folder


def test_project_holds_what_runs_need(gym: Path) -> None:
    tracked = call_git(gym, "ls-files").splitlines()
    expected = {
        *("Makefile", "README.md", "environment.yml", "requirements.lock", "pyproject.toml", "dvc.yaml"),
        *(".github/workflows/check.yml", ".gitignore", ".gitattributes", ".dvcignore", ".dvc/config"),
        *("lib/gym/__init__.py", "lib/gym/features.py", "lib/gym/models.py"),
        *("tests/test_features.py", "tests/test_models.py", "params/gym.yaml", "params/schema.json"),
        *(f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")),
        "data/gym/source/members.csv.dvc",
    }
    assert expected <= {*tracked}
    assert not [name for name in tracked if name.startswith("lib/labkit") or name.endswith("diabetes.yaml")]
    assert len([name for name in tracked if name.startswith("wheels/labkit-")]) == 1
    assert call_git(gym, "status", "--porcelain") == ""
    assert call_git(gym, "log", "--format=%s").startswith("Start gym from labkit ")


def test_example_feature_and_model_use_the_columns_of_the_table(gym: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(gym))
    params = load_params("gym")
    assert params.features.functions == {"fee_per_visits": "gym.features:fee_per_visits"}
    assert params.training.models[-1] == "gym.models:make_forest_and_boosting"
    assert "joined" in params.features.dates
    assert "remark" in params.features.text
    assert list_pipeline_experiments() == ["gym"]


def test_project_has_the_notebooks_of_labkit(gym: Path, plain: Path) -> None:
    expected = {path.name: path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb")}
    for project in (gym, plain):
        assert {path.name: path.read_text() for path in (project / "notebooks").glob("*.ipynb")} == expected


@pytest.mark.parametrize("project", ["gym", "plain"])
def test_code_of_a_new_project_is_formatted_and_typed_for_its_own_gate(
    project: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(project)
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "lib", "tests"]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    targets = subprocess.run(["make", "-s"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert {"install", "run", "test", "lab", "check", "format", "lock"} <= {
        line.split()[1] for line in targets.splitlines()
    }


@pytest.mark.parametrize("project", ["gym", "plain"])
def test_nothing_of_this_machine_is_in_a_project(project: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(project)
    found: dict[str, bytes] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        found[str(path.relative_to(folder))] = path.read_bytes()
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                found |= {name: wheel.read(name) for name in wheel.namelist()}
    for word in (str(place).encode() for place in (folder.parent, ROOT, sys.prefix)):
        assert [name for name, content in found.items() if word in content] == []
    assert b"://" not in found["requirements.lock"]
    assert [name for name in found if name.startswith((".labkit", ".dvc/tmp"))] == []


def test_gate_of_a_project_covers_own_copies_of_notebooks(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "notebooks" / "diabetes").mkdir(parents=True)
    for name in ("notebooks/04_training.ipynb", "notebooks/diabetes/04_training.ipynb"):
        (tmp_path / name).touch()
    for target in ("check", "format"):
        make = ["make", "--no-print-directory", "-n", "-o", "install", "-f", plain / "Makefile", target]
        printed = subprocess.run(make, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert printed.endswith(" notebooks/04_training.ipynb notebooks/diabetes/04_training.ipynb\n")


def test_own_notebooks_stages_and_remotes_of_a_checkout_stay_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, package = load_package(), tmp_path / "lib" / "labkit"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lib" / "labkit", package, symlinks=True, ignore=ignored)
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    shutil.copytree(ROOT / "params", tmp_path / "params")
    for name in ("dvc.yaml", ".dvcignore", ".gitignore", ".gitattributes", "requirements.lock", ".dvc/config"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / ".dvc" / ".gitignore", tmp_path / ".dvc" / ".gitignore")
    notebook = (ROOT / "notebooks" / "04_training.ipynb").read_bytes()
    for name in ("churn/04_training", "churn/.base/04_training", "04_training.conflict", "07_score", "Untitled"):
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(notebook)
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = ours\n")
    stage = "foreach: ${experiments}\n    do: {cmd: x, meta: {notebook: [notebooks/07_score.ipynb]}}\n"
    pipeline = (tmp_path / "dvc.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(pipeline.replace("\n  publish:\n", f"\n  score:\n    {stage}  publish:\n"))
    monkeypatch.setattr(wheel, "PACKAGE_DIR", package)
    assert load_package() == expected


def test_table_without_a_suitable_column_has_no_example_feature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("LABKIT_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    rows = [f"{'yes' if row % 3 else 'no'},{row * 7 % 101}.5" for row in range(200)]
    (tmp_path / "table.csv").write_text("\n".join(["is_member,spent", *rows]))
    assert init("club", "--data", "table.csv", "--target", "spent") == 0
    printed = capsys.readouterr().out
    assert "Example:   no feature, because no column is suitable; see lib/\n" in printed


def make_survey(kinds: dict[str, Kind]) -> Survey:
    found = {column: ColumnKind(kind, "given") for column, kind in kinds.items()}
    return Survey(None, found, pd.DataFrame(), None, 0, ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kinds", "dropped", "expected"),
    [
        ({"plan": "category", "fee": "number", "visits": "number"}, (), ("fee_per_visits", ("fee", "visits"))),
        ({"fee": "number", "joined": "date", "left": "date"}, ("joined",), ("left_is_weekend", ("left",))),
        ({"fee": "number", "plan": "category", "remark": "text"}, (), ("remark_length", ("remark",))),
        ({"fee": "number", "own visits": "number", "fee_log": "boolean"}, (), ("own_fee_log", ("fee",))),
        ({"class": "number", "np": "number", "Größe": "number"}, (), ("log", ("Größe",))),
        ({"own visits": "number", "member": "identifier"}, (), None),
        ({}, (), None),
    ],
)
def test_example_feature_suits_the_columns(
    kinds: dict[str, Kind], dropped: Sequence[str], expected: tuple[str, tuple[str, ...]] | None
) -> None:
    proposal = Proposal({"wrangling": {"drop": dict.fromkeys(dropped, "known later")}, "features": {}})
    found = choose_example(make_survey(kinds), proposal)
    assert ((found.feature, found.columns) if found.is_used else None) == expected


@pytest.mark.parametrize(("kind", "columns"), [("ratio", "ab"), ("length", "a"), ("weekend", "a"), ("log", "a")])
def test_each_example_feature_passes_its_test_and_the_check_of_features(
    kind: str, columns: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {"name": "own", "version": "1", "has_example": False, "feature": "own", "kind": kind}
    render_template(tmp_path, {**answers, "columns": [*columns]}, files=load_package())
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    tests: dict[str, object] = {"__name__": "test_features"}
    exec((tmp_path / "tests" / "test_features.py").read_text(), tests)
    for name in [name for name in tests if name.startswith("test_")]:
        tests[name]()  # type: ignore[operator]
    given = dict(zip(columns, tests["COLUMNS"], strict=True))  # type: ignore[call-overload]
    own_functions.check_function("own", {"path": "own.features:own", "columns": [*columns]}, given)
    remove_modules(["own"])


def test_without_an_identity_nothing_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "EMAIL"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    said = "git does not know who you are: git config --global user.name NAME, and user.email ADDRESS"
    assert commit(tmp_path, "Start") == said


def make_full(root: Path) -> list[object]:
    (root / "full").mkdir()
    (root / "full" / "notes.txt").touch()
    return ["full"]


def make_file(root: Path) -> list[object]:
    (root / "file").touch()
    return ["file"]


def make_link(root: Path) -> list[object]:
    (root / "link").symlink_to(root / "nowhere")
    return ["link"]


def make_inside(root: Path) -> list[object]:
    subprocess.run(["git", "init", "-q", root / "repository"], check=True)
    return ["repository/mine"]


def make_inside_of_git(root: Path) -> list[object]:
    subprocess.run(["git", "init", "-q", "--bare", root / "bare"], check=True)
    return ["bare/mine"]


def make_unreadable(root: Path) -> list[object]:
    (root / "folder.csv").mkdir()
    return ["mine", "--data", "folder.csv", "--target", "y"]


def make_broken(root: Path) -> list[object]:
    (root / "broken.parquet").write_bytes(b"PAR1 but not really PAR1")
    return ["mine", "--data", "broken.parquet", "--target", "y"]


def make_other_target(root: Path) -> list[object]:
    return ["mine", "--data", write_members(root / "m.csv", 60), "--target", "canceled"]


def make_few_rows(root: Path) -> list[object]:
    return ["mine", "--data", write_members(root / "m.csv", 5), "--target", "cancelled"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_full, "full: not empty: name a new folder, or an empty one"),
        (make_file, "file: not a folder: name a new one, or an empty one"),
        (make_link, "link: not a folder: name a new one, or an empty one"),
        (make_inside, "repository/mine: inside the git repository "),
        (make_inside_of_git, "bare/mine: inside the git repository "),
        (lambda root: ["no/where"], "no: no such folder: make it first"),
        (lambda root: ["2fast"], "'2fast' is not a valid package name: use lowercase letters, digits and _"),
        (lambda root: ["Mine"], "'Mine' is not a valid package name: "),
        (lambda root: ["mine", "--name", "a.b"], "'a.b' is not a valid package name: "),
        (lambda root: ["class"], "'class' is a keyword of Python: name the project with --name"),
        (lambda root: ["numpy"], "'numpy' is the name of an installed package (numpy)"),
        (lambda root: ["labkit"], "'labkit' is the name of an installed package (labkit)"),
        (lambda root: ["json"], "'json' is a module of Python: name the project with --name"),
        (lambda root: ["tests"], "'tests' is the name of a folder of each project"),
        (lambda root: ["mine", "--data", "gone.csv", "--target", "y"], "gone.csv: "),
        (make_unreadable, "folder.csv: "),
        (make_broken, "broken.parquet: "),
        (make_other_target, "'canceled'"),
        (make_few_rows, "m.csv: 5 rows: at least "),
        (lambda root: ["mine", "--data", "a.csv"], "name a table with --data and its column to predict with --target"),
        (lambda root: ["mine", "--target", "y"], "name a table with --data and its column to predict with --target"),
    ],
)
def test_bad_input_is_one_message_and_leaves_nothing(
    make: Callable[[Path], list[object]], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert init(*arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1 or printed.startswith("Usage: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_without_git_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParamsError, match="git is not installed, which a project needs: install it from your dist"):
        create_project(tmp_path / "mine")
    assert list(tmp_path.iterdir()) == []


@contextmanager
def be_an_ordinary_user() -> Iterator[None]:
    """Give up the rights of root, who may write everywhere, for the time of the block."""
    before = os.getresuid()
    if before[1] == 0:
        os.setresuid(NOBODY, NOBODY, -1)
    try:
        yield
    finally:
        os.setresuid(*before)


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:  # others cannot enter those of pytest
        locked = Path(folder, "locked")
        locked.mkdir(mode=0o555)
        Path(folder).chmod(0o755)
        with be_an_ordinary_user(), pytest.raises(ParamsError, match="locked: no permission to write there: name ano"):
            create_project(locked / "mine")
        assert list(locked.iterdir()) == []


def test_names_that_are_free_pass() -> None:
    assert [check_package_name(name) for name in ("churn", "a", "churn_2027")] == ["churn", "a", "churn_2027"]


def test_members_depend_on_the_example_feature() -> None:
    """The table of these tests can be learned from."""
    table = make_members()
    worth = table["fee"] / np.maximum(table["visits"], 0.5)
    cancelled = table["cancelled"] == "yes"
    assert cancelled[worth > worth.median()].mean() > 2 * cancelled[worth <= worth.median()].mean()
