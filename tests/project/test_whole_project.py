"""docs/own-project.md is true: a project is made from labkit's wheel, runs, is tested, released, and predicts."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from labkit.project.wheel import load_package

from tests.conftest import ROOT
from tests.members import make_members, write_members

PAGE = (ROOT / "docs" / "own-project.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
PACKAGES = sysconfig.get_path("purelib")


def call(folder: Path, *command: object, bin_dir: Path) -> str:
    """Run a command outside of this checkout, with the programs of an environment, and return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LABKIT_", "MLFLOW_", "PYTHON"))}
    environment = {**kept, "PATH": f"{bin_dir}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "120"}
    words = [*map(str, command)]
    words[0] = shutil.which(words[0], path=environment["PATH"]) or words[0]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def make_environment(folder: Path, *install: object) -> Path:
    """Make an environment with the locked packages, but for labkit, which is installed without an index."""
    call(folder.parent, sys.executable, "-m", "venv", "--without-pip", folder, bin_dir=Path(sys.executable).parent)
    [site] = folder.glob("lib/python*/site-packages")
    # A folder in a .pth file comes after those of the environment, and the .pth files in it do not count.
    (site / "locked.pth").write_text(f"{PACKAGES}\n")
    (folder / "share").symlink_to(Path(sys.prefix) / "share")
    pip = ["uv", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--python", folder]
    call(folder.parent, *pip, *install, bin_dir=Path(sys.executable).parent)
    return folder / "bin"


def install_project(project: Path) -> Path:
    """Do what `make install` does after it has installed the lock; make the experiment quick."""
    line = re.search(r"--reinstall-package labkit (.*)", (project / "Makefile").read_text())
    assert line is not None
    assert line[1] == "wheels/labkit-*.whl -e ."
    [own] = project.glob("wheels/labkit-*.whl")
    bin_dir = make_environment(project / ".venv", own, "-e", project)
    (project / ".venv" / "installed").touch()
    params = project / "params" / "gym.yaml"
    quick = re.sub(r"models: \[.*,", "models: [dummy, linear,", params.read_text())
    params.write_text(quick.replace("folds: 5", "folds: 2").replace("samples: 1000", "samples: 100"))
    return bin_dir


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "-s", "-o", "install", "dist", f"DIST={folder}"], cwd=ROOT, check=True)
    return folder


@pytest.mark.slow
def test_wheel_and_sdist_hold_the_whole_package(dist: Path, tmp_path: Path) -> None:
    [wheel], [sdist] = dist.glob("*.whl"), dist.glob("*.tar.gz")
    expected = load_package()
    with zipfile.ZipFile(wheel) as archive:
        found = {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2].removeprefix("lib/") for name in archive.getnames()}
    assert {*expected} <= names
    bin_dir = make_environment(tmp_path / "venv", sdist)
    helped = call(tmp_path, "labkit", "init", "--help", bin_dir=bin_dir)
    assert "labkit init churn" in helped


@pytest.mark.slow
def test_commands_of_the_page_from_a_table_to_predictions(dist: Path, tmp_path: Path) -> None:
    [wheel] = dist.glob("*.whl")
    bin_dir, folder, project = make_environment(tmp_path / "tool", wheel), tmp_path, tmp_path / "gym"
    write_members(tmp_path / "members.csv", 300)
    printed = {}
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "cd":
            folder = folder / words[1]
            bin_dir = install_project(project)
            continue
        if words[:2] == ["labkit", "predict"]:
            make_members(20, seed=8).drop(columns="cancelled").to_csv(project / "new.csv", index=False)
        printed[command] = call(folder, *words, bin_dir=bin_dir)
    assert "4 passed" in printed["make test"]
    assert "gym v1 published: holdout roc_auc" in printed["make run"]
    assert "fee_per_visits" in printed["labkit params gym --changed"]
    assert printed["labkit upgrade"].startswith("project: up to date with labkit ")
    predicted = pd.read_csv(project / "predictions.csv")
    assert len(predicted) == 20
    # The release alone, where neither the project nor its package is.
    program = (
        "import sys, pandas as pd; from pathlib import Path; from labkit.model.release.bundle import load_release\n"
        "rows = pd.read_csv(sys.argv[2], parse_dates=['joined'])\n"
        "print(*load_release(Path(sys.argv[1])).predict(rows)[:, 1].tolist())"
    )
    shutil.copytree(project / "data" / "gym" / "release", tmp_path / "release")
    project.rename(tmp_path / "elsewhere")
    again = call(
        tmp_path, "python", "-c", program, tmp_path / "release", tmp_path / "elsewhere" / "new.csv",
        bin_dir=tmp_path / "tool" / "bin",
    )  # fmt: skip
    assert [float(word) for word in again.split()] == pytest.approx(predicted["probability_yes"].tolist(), abs=1e-6)
