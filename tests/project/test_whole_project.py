"""docs/own-project.md and docs/worked-example.md are true, in one project that is made from labkit's wheel.

It gets all that the example adds, runs, is tested, released, and predicts, elsewhere too.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from labkit.params.yaml_text import make_yaml
from labkit.project.wheel import load_package

from tests.conftest import ROOT
from tests.own_stage import write_stage


def find_blocks(page: str) -> list[tuple[str, str]]:
    """Return language and content of each block of code of a page of the documentation."""
    content = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```(\w*)\n(.*?)^```", content, re.DOTALL | re.MULTILINE)


COMMANDS = [line for kind, block in find_blocks("own-project.md") if not kind for line in block.splitlines()]
EXAMPLE = find_blocks("worked-example.md")
CELLS = ("markdown", "parameters", "cell")
"""Kinds of the blocks that are the cells of the new notebook."""
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
    params = project / "params" / "delays.yaml"
    params.write_text(params.read_text().replace("samples: 1000", "samples: 100"))
    return bin_dir


def follow_example(project: Path) -> None:
    """Write the files of the worked example, set its params, and change the ejected notebook."""
    for kind, block in EXAMPLE:
        named = re.match(r"# (lib/\S+\.py)\n", block)
        if named:
            (project / named[1]).write_text(block)
        if kind == "yaml":
            params, yaml = project / "params" / "delays.yaml", make_yaml()
            tree = yaml.load(params.read_text())
            merge(tree, yaml.load(block))
            yaml.dump(tree, params)
        if kind == "candidates":
            path = project / "notebooks" / "delays" / "04_training.ipynb"
            notebook = nbformat.read(path, as_version=4)
            [cell] = [one for one in notebook.cells if "\ncandidates = {}" in one.source]
            cell.source = block
            nbformat.write(notebook, path)
    cells = [(kind, block.rstrip()) for kind, block in EXAMPLE if kind in CELLS]
    write_stage(project / "notebooks" / "delays" / "07_aircraft.ipynb", cells)


def merge(tree: Any, more: Mapping[str, Any]) -> None:
    """Set values in a params file at any depth; the others stay."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), Mapping):
            merge(tree[key], value)
        else:
            tree[key] = value


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
def test_commands_of_the_pages_from_a_table_to_predictions(dist: Path, tmp_path: Path) -> None:
    [wheel] = dist.glob("*.whl")
    bin_dir, folder, project = make_environment(tmp_path / "tool", wheel), tmp_path, tmp_path / "delays"
    [script] = [block for _, block in EXAMPLE if block.startswith("# make_departures.py\n")]
    (tmp_path / "make_departures.py").write_text(script)
    blocks = [block.splitlines() for kind, block in EXAMPLE if not kind]
    making, ejecting, staging, running, elsewhere = blocks
    assert [*making[1:], "make test", "make run"] == [*COMMANDS[:2], *COMMANDS[2:4]], "both pages begin alike"
    printed = {}

    def run(*commands: str) -> None:
        for command in commands:
            printed[command] = call(folder, *shlex.split(command), bin_dir=bin_dir)

    run(*making[:-1])
    folder, bin_dir = project, install_project(project)
    run(*ejecting)
    follow_example(project)
    run(*staging, *running[:3])
    assert "4 passed" in printed["make test"]
    [expected] = [block for kind, block in EXAMPLE if kind == "printed"]
    for line in expected.splitlines():
        pattern = ".*".join(map(re.escape, line.split("…")))
        assert re.search(pattern, printed["make run"]), f"{line!r} is not in\n{printed['make run']}"
    page = (project / "reports" / "delays" / "05_evaluation.html").read_text()
    assert "<strong>Profit by number of flights rebooked</strong><br>The most is earned by rebooking" in page
    run(*running[3:])
    shutil.copyfile(tmp_path / "new.csv", project / "new.csv")
    run(*(command for command in COMMANDS[4:] if command not in printed))
    assert "hour_per_miles" in printed["labkit params delays --changed"]
    assert printed["labkit upgrade"].startswith("project: up to date with labkit ")
    predicted = pd.read_csv(project / "predictions.csv")
    assert len(predicted) == 20
    # The package alone, where neither the project nor labkit is; then the release, where labkit is.
    *_, pattern = shlex.split(elsewhere[1])
    [package] = project.glob(pattern)
    venv = make_environment(tmp_path / "elsewhere", package)
    assert elsewhere[0] == "uv venv ../elsewhere"
    done = call(project, *shlex.split(elsewhere[2].replace("../elsewhere/bin/", "")), bin_dir=venv)
    assert ast.literal_eval(done) == predicted["prediction"].tolist()
    program = (
        "import sys, pandas as pd; from pathlib import Path; from labkit.model.release.bundle import load_release\n"
        "rows = pd.read_csv(sys.argv[2], parse_dates=['date'])\n"
        "print(*load_release(Path(sys.argv[1])).predict(rows)[:, 1].tolist())"
    )
    shutil.copytree(project / "data" / "delays" / "release", tmp_path / "release")
    project.rename(tmp_path / "moved")
    tool = tmp_path / "tool" / "bin"
    again = call(tmp_path, "python", "-c", program, tmp_path / "release", tmp_path / "new.csv", bin_dir=tool)
    assert [float(word) for word in again.split()] == pytest.approx(predicted["probability_yes"].tolist(), abs=1e-6)
