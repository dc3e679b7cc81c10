"""Which notebooks there are, in which order, and what they must be to run."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from labkit import paths
from labkit.errors import ParamsError
from labkit.run import notebook_files
from labkit.run.notebook import source
from labkit.run.records.stage_record import StageRecord, load_records, save_record

from tests import preloaded
from tests.conftest import LABKIT, Labkit, make_environment
from tests.run.notebook.small_notebooks import make_notebook
from tests.shared_server import SharedServer
from tests.shop import list_files


def put(folder: Path, *names: str) -> None:
    """Put small notebooks in the place of a checkout's own."""
    for path in folder.glob("*.ipynb"):
        path.unlink()
    for name in names:
        make_notebook(folder / f"{name}.ipynb", 'experiment = ""')


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("1_a", "10_b", "2_c"), ["1_a", "2_c", "10_b"]),
        (("01_a", "03_b", "07_c"), ["01_a", "03_b", "07_c"]),
        (("01_a", "scratch", "Untitled1", "02_B", "x_03"), ["01_a"]),
    ],
)
def test_order_is_that_of_the_numbers_which_may_skip_some(
    checkout: Path, names: tuple[str, ...], order: list[str]
) -> None:
    put(checkout / "notebooks", *names)
    assert [path.stem for path in notebook_files.list_notebooks()] == order


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("01_a", "01_b"), "notebooks/: 01_a.ipynb and 01_b.ipynb have the same number"),
        (("1_a", "01_b"), "notebooks/: 01_b.ipynb and 1_a.ipynb have the same number"),
        (("01_a", "02_a"), "notebooks/: 01_a.ipynb and 02_a.ipynb are both for the stage 'a': keep one"),
        (("01_b",), "notebooks/: no notebook NN_a.ipynb for the stage 'a': known: b"),
        ((), "notebooks/: no notebook NN_a.ipynb for the stage 'a': none is known"),
    ],
)
def test_notebooks_that_contest_a_place_are_named(checkout: Path, names: tuple[str, ...], message: str) -> None:
    put(checkout / "notebooks", *names)
    with pytest.raises(ParamsError) as caught:
        source.find_notebook("a")
    assert message in str(caught.value)


def test_records_are_in_the_order_of_the_numbers_too(tmp_path: Path) -> None:
    for page in ("10_b", "2_c", "1_a"):
        save_record(StageRecord(page.partition("_")[2], page, "", "finished", "", 0, "", None), tmp_path)
    assert list(load_records(tmp_path)) == ["a", "c", "b"]


def edit_metadata(**kernelspec: Any) -> Callable[[dict[str, Any]], None]:
    return lambda notebook: notebook["metadata"].update(kernelspec={"display_name": "x", **kernelspec})


def drop_kernel(notebook: dict[str, Any]) -> None:
    del notebook["metadata"]["kernelspec"]


def say_r(notebook: dict[str, Any]) -> None:
    notebook["metadata"] = {"kernelspec": {"name": "ir", "display_name": "R"}, "language_info": {"name": "R"}}


def make_version_3(notebook: dict[str, Any]) -> None:
    notebook |= {"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": []}]}
    del notebook["cells"]


def lose_sources(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        del cell["source"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop_kernel, "has no kernel: open it in JupyterLab, choose Python 3 (ipykernel) and save it"),
        (edit_metadata(name="ir", language="R"), "for R (kernel 'ir'): labkit runs notebooks in Python"),
        (say_r, "for R (kernel 'ir'): labkit runs notebooks in Python"),
        (edit_metadata(name="my-old-env", language="python"), "for the kernel 'my-old-env': choose 'python3'"),
        (make_version_3, "notebook format 3, not 4: open it in JupyterLab and save it"),
        (lose_sources, "not a notebook ('source' is a required property): restore it from git"),
        (lambda notebook: notebook.update(cells="none"), "not a notebook ("),
        (lambda notebook: notebook.update(nbformat="4"), "not a notebook (JSON without `nbformat`)"),
        (lambda notebook: notebook.update(nbformat=5), "notebook format 5, not 4"),
    ],
)
def test_notebook_of_another_kind_is_reported_in_one_line(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    path = make_notebook(tmp_path / "a.ipynb", 'experiment = ""')
    notebook = json.loads(path.read_text())
    edit(notebook)
    path.write_text(json.dumps(notebook))
    with pytest.raises(ParamsError) as caught:
        source.read_source(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a notebook (an empty file): restore it from git"),
        (b"{}", "not a notebook (JSON without `nbformat`)"),
        (b"[]", "not a notebook (JSON without `nbformat`)"),
        (b"<html>", "not a notebook (not JSON, line 1)"),
        (b'{"cells": [\n<<<<<<< HEAD', "not a notebook (not JSON, line 2)"),
        (b"\xff\xfe\x00", "not a notebook (not JSON)"),
        (b"[" * 100_000, "not a notebook (not JSON)"),
        (nbformat.writes(nbformat.v4.new_notebook()).encode(), "0 cells are tagged `parameters`"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_file_that_is_no_notebook_is_reported_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        source.read_source(tmp_path / "a.ipynb")
    assert message in str(caught.value)


def test_huge_notebook_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    with path.open("wb") as stream:
        # Nobody could read this much.
        stream.truncate(10**12)
    with pytest.raises(ParamsError, match="1,000,000,000,000 bytes, over 50,000,000: clear its outputs"):
        source.read_source(path)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9/a.ipynb", "https://x/a.ipynb", "s3://bucket/a.ipynb", "adl://x"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_address_is_never_fetched(address: str, kind: type) -> None:
    with pytest.raises(ParamsError, match="a URL, not a file: download the notebook, read it"):
        source.read_source(kind(address))


def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.ipynb").mkdir()
    with pytest.raises(ParamsError, match="folder.ipynb: not a file"):
        source.read_source(tmp_path / "folder.ipynb")
    with pytest.raises(ParamsError, match="none.ipynb: no such notebook"):
        source.read_source(tmp_path / "none.ipynb")


@pytest.mark.slow
def test_snapshot_is_what_the_file_was(checkout: Path) -> None:
    snapshot = source.take_snapshot(["eda", "deploy"], {"experiment": "diabetes"})
    path = checkout / "notebooks" / "06_deploy.ipynb"
    path.write_text(path.read_text().replace("step.finish(", "print("))
    assert snapshot["eda"].is_current
    assert not snapshot["deploy"].is_current
    assert "step.finish(" in snapshot["deploy"].notebook.cells[-2].source
    path.unlink()
    assert not snapshot["deploy"].is_current


@pytest.mark.slow
def test_snapshot_wants_what_will_be_injected_to_be_declared(checkout: Path) -> None:
    path = checkout / "notebooks" / "05_evaluation.ipynb"
    path.write_text(path.read_text().replace('experiment = \\"\\"', 'experimnt = \\"\\"'))
    with pytest.raises(ParamsError) as caught:
        source.take_snapshot(["eda", "evaluation"], {"experiment": "diabetes"})
    assert str(caught.value) == (
        "notebooks/05_evaluation.ipynb: unknown parameter experiment: did you mean 'experimnt'?"
    )


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("run", "diabetes"), ("run", "diabetes", "--sample", "100")])
def test_broken_later_notebook_is_reported_before_the_first_runs(
    checkout: Path, labkit: Labkit, arguments: tuple[str, ...]
) -> None:
    (checkout / "notebooks" / "05_evaluation.ipynb").write_text("{")
    before = list_files(checkout)
    done = labkit(*arguments)
    assert done.returncode == 2
    assert done.stderr == (
        "labkit: notebooks/05_evaluation.ipynb: not a notebook (not JSON, line 1): restore it from git\n"
    )
    assert list_files(checkout) == before


@pytest.mark.slow
def test_notebook_edited_during_the_run_does_not_change_it(
    checkout: Path, store: Path, shared_server: SharedServer
) -> None:
    shutil.copy(store, shared_server.lend(checkout))
    path = checkout / "notebooks" / "01_eda.ipynb"
    run = preloaded.Popen(
        [LABKIT, "run", "diabetes", "--until", "eda"],
        cwd=checkout,
        env=make_environment(checkout),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.stdout is not None
    printed = []
    for line in run.stdout:
        printed.append(line)
        if line.startswith("source …"):
            edited = path.read_text().replace("import labkit", "raise RuntimeError('too late')", 1)
            path.write_text(edited)
    assert run.wait(timeout=60) == 0, "".join(printed)
    assert "warning: notebooks/01_eda.ipynb was changed during the run" in "".join(printed)
    executed = (checkout / "reports" / "diabetes" / "01_eda.ipynb").read_text()
    assert "too late" not in executed
    assert path.read_text() == edited, "sources are never written"
    assert paths.find_root() == checkout
