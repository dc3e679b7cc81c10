"""Notebooks of a user's own, run again in a real kernel."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from labkit.cli.main import call, cli
from nbformat.v4 import new_output

from tests.conftest import LABKIT, ROOT
from tests.run.verification.scratch import code, printed, show, write_scratch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LABKIT_ROOT", raising=False)
    monkeypatch.setenv("LABKIT_WARM", "")
    return tmp_path


def find_documented() -> list[list[str]]:
    """Return the arguments of the commands in the documentation."""
    page = (ROOT / "docs" / "jupyterlab.md").read_text(encoding="utf-8")
    return [line.split("#")[0].split() for line in re.findall(r"^labkit (verify .*)$", page, re.MULTILINE)]


@pytest.mark.slow
def test_notebook_runs_afresh_in_its_folder_and_is_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "numbers.txt").write_text("1 2 3.5")
    path = write_scratch(
        folder / "notebooks" / "scratch.ipynb",
        code("numbers = open('numbers.txt').read().split()\nprint(len(numbers), object())", 1, printed("3 <object object at 0x7fee12345678>\n")),
        code("float(numbers[2]) + 1e-9", 2, show("3.5")),
        code("sum(map(float, numbers))", 3, show("7.0")),
        code("import random; random.random()", 4, show("0.5"), tags=["ignore-output"]),
        code("1 / 0", 5, new_output("error", ename="ZeroDivisionError", evalue="", traceback=[]), tags=["raises-exception"]),
        code("import time; time.sleep(600)", tags=["skip-execution"]),
        code("len(numbers)\nnumbers['a']", 6, show("3")),
        code("'not reached'", 7, show("?")),
    )  # fmt: skip
    before = path.read_bytes()
    arguments, _ = find_documented()
    assert call(cli, [*arguments, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    [one] = found["notebooks"]
    assert one["findings"] == [
        {"cell": 3, "cell_id": "id-3", "line": None, "kind": "output", "message": "output 1 (text/plain), line 1: saved `7.0`, now `6.5`", "name": ""},
        {"cell": 7, "cell_id": "id-7", "line": 2, "kind": "error", "message": "TypeError: list indices must be integers or slices, not str at `numbers['a']`; later cells did not run", "name": ""},
    ]  # fmt: skip
    assert (one["n_run"], one["n_compared"], found["n_findings"]) == (6, 4, 2)
    assert one["execution_order"][:2] == [{"cell": 1, "count": 1}, {"cell": 2, "count": 2}]
    assert path.read_bytes() == before
    assert sorted(path.name for path in folder.rglob("*")) == ["notebooks", "numbers.txt", "scratch.ipynb"]


@pytest.mark.slow
def test_kernel_that_dies_and_cell_that_hangs_are_findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scratch(folder / "dies.ipynb", "x = 1", "import os; os._exit(3)")
    write_scratch(folder / "hangs.ipynb", "import time; time.sleep(600)")
    assert call(cli, ["verify", "dies.ipynb", "hangs.ipynb", "--cell-seconds", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dies.ipynb: 1 finding (2 of 2 code cells ran in ")
    assert lines[1] == "  cell 2 (id-2): error: the kernel died; later cells did not run"
    assert (
        lines[3]
        == "  cell 1 (id-1): error: took longer than 1 s: allow more with --cell-seconds; later cells did not run"
    )


def test_nothing_runs_with_static(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "notebooks").mkdir()
    write_scratch(folder / "notebooks" / "scratch.ipynb", code("open('/home/me/x', 'w')", 2), code("frame", 1))
    _, arguments = find_documented()
    assert call(cli, arguments) == 1
    assert capsys.readouterr().out.splitlines() == [
        "notebooks/scratch.ipynb: 3 findings (2 code cells checked, nothing was run; ran in the order 2, 1)",
        "  cell 1 (id-1), line 1: path: /home/me/x exists on one machine only: use a path relative to the notebook",
        "  cell 2 (id-2): order: ran as [1], before cell 1 above it, which ran as [2]",
        "  cell 2 (id-2), line 1: undefined: frame is defined nowhere in the notebook",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["good.ipynb", "gode.ipynb"], "gode.ipynb: no such notebook: did you mean 'good.ipynb'?"),
        (["text.ipynb"], "text.ipynb: not a notebook (not JSON, line 1): restore it from git"),
        (["good.ipynb", "r.ipynb"], "r.ipynb: for R: only notebooks in Python can be verified"),
        (["good.ipynb", "--rtol", "-1"], "--rtol -1.0: a relative tolerance is at least 0 and less than 1, e.g. 1e-6"),
        ([], "no labkit checkout here or above"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_scratch(folder / "good.ipynb", "open('ran', 'w').close()")
    write_scratch(folder / "r.ipynb", "1", kernelspec={"name": "ir", "display_name": "R", "language": "R"})
    (folder / "text.ipynb").write_text("no JSON")
    assert call(cli, ["verify", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "ran").exists()


def test_own_notebooks_pass(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(ROOT))
    assert call(cli, ["verify", "--static"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(list((ROOT / "notebooks").rglob("*.ipynb")))


@pytest.mark.slow
def test_hook_refuses_a_commit(folder: Path) -> None:
    """The hook as another repository gets it, with labkit in the environment."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    hooks[0]["entry"] = hooks[0]["entry"].replace("labkit ", f"{LABKIT} ", 1)
    config = {"repos": [{"repo": "local", "hooks": hooks}]}
    (folder / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    write_scratch(folder / "bad.ipynb", "frame")
    (folder / "other.py").write_text("frame")
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        subprocess.run(command, check=True)
    program = str(Path(LABKIT).with_name("pre-commit"))
    done = subprocess.run([program, "run", "--all-files"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cell 1 (id-1), line 1: undefined: frame is defined nowhere in the notebook" in done.stdout
    page = (ROOT / "docs" / "jupyterlab.md").read_text(encoding="utf-8")
    [shown] = [yaml.safe_load(block) for block in re.findall(r"^```\n(repos:.*?)^```", page, re.DOTALL | re.MULTILINE)]
    assert [one["entry"] for one in shown["repos"][0]["hooks"]] == ["labkit verify --static"]
    own = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {one["id"]: one["entry"] for one in own}["labkit-verify"] == ".venv/bin/labkit verify --static"
