"""`labkit upgrade` merges a newer template into a project, and keeps what the user made of it."""

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from labkit.cli.main import call, cli
from labkit.errors import ParamsError
from labkit.project.git import call_project_git
from labkit.project.template import TEMPLATE, list_project_notebooks, render_template
from labkit.project.wheel import find_labkit_version, load_package
from labkit.run.checkout import check_checkout
from labkit.storage.wheel import write_wheel
from plumbum import local

from tests.git import commit_all

Capture = pytest.CaptureFixture[str]
NEW = find_labkit_version()
OLD = "0.0.9"
README, MAKEFILE = f"{TEMPLATE}project/README.md.jinja", f"{TEMPLATE}project/Makefile.jinja"
TRAINING = f"{TEMPLATE}notebooks/04_training.ipynb"
EDA = f"{TEMPLATE}notebooks/01_eda.ipynb"
CANDIDATES = b"candidates = {}"


def make_old_package() -> dict[str, bytes]:
    """Return an older labkit: other words in two files, an older cell in a notebook, a file that went since, no 01_eda."""
    files = load_package()
    files[README] = files[README].replace(b"a published model\n", b"a public model\n")
    files[MAKEFILE] = files[MAKEFILE].replace(b"export DO_NOT_TRACK := 1", b"export DO_NOT_TRACK := yes")
    assert CANDIDATES in files[TRAINING]
    files[TRAINING] = files[TRAINING].replace(CANDIDATES, b"candidates = dict()")
    files[f"{TEMPLATE}project/old.txt"] = b"went since then\n"
    del files[EDA]
    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that an older labkit made, in git."""
    folder, files = tmp_path_factory.mktemp("old") / "project", make_old_package()
    folder.mkdir()
    example = {"feature": "ratio", "kind": "ratio", "columns": ["s1", "s3"]}
    render_template(folder, {"name": "shop", "version": OLD, "has_example": True, **example}, files=files)
    (folder / "notebooks").mkdir()
    for name, content in list_project_notebooks(files).items():
        (folder / "notebooks" / name).write_bytes(content)
    write_wheel(folder / "wheels", "labkit", OLD, files=files)
    call_project_git(folder, "init", "--quiet")
    for key, value in (("user.name", "t"), ("user.email", "t@localhost"), ("commit.gpgsign", "false")):
        call_project_git(folder, "config", key, value)
    commit_all(folder)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which is also the checkout that labkit finds."""
    subprocess.run(["cp", "-r", made, tmp_path / "shop"], check=True)
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path / "shop"))
    return tmp_path / "shop"


def edit(path: Path, before: str, after: str) -> None:
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after))


def edit_cell(path: Path, before: str, after: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and before in cell.source]
    cell.source = cell.source.replace(before, after)
    nbformat.write(notebook, path)


def test_project_is_updated_from_a_hook_of_another_repository(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", other], check=True)
    with local.env(GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other)):
        assert call(cli, ["upgrade"]) == 0
        assert local.env["GIT_WORK_TREE"] == str(other)


def test_changes_of_both_are_merged(project: Path, capsys: Capture) -> None:
    edit(project / "README.md", "# shop\n", "# The shop of Ana\n")
    edit(project / "lib/shop/features.py", "s1 / np.where", "2 * s1 / np.where")
    edit(project / "dvc.yaml", "- experiments: [diabetes]", "- experiments: [diabetes, more]")
    edit_cell(project / "notebooks/04_training.ipynb", 'experiment = ""', 'experiment = "more"')
    (project / "tests/test_models.py").unlink()
    (project / "notebooks/00_board.ipynb").unlink()
    commit_all(project)
    assert call(cli, ["upgrade"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"project: labkit {OLD} to {NEW}\n")
    assert (project / "README.md").read_text().startswith("# The shop of Ana\n")
    assert "a published model" in (project / "README.md").read_text()
    assert "export DO_NOT_TRACK := 1\n" in (project / "Makefile").read_text()
    assert "2 * s1 / np.where" in (project / "lib/shop/features.py").read_text()
    assert "- experiments: [diabetes, more]" in (project / "dvc.yaml").read_text()
    notebook = (project / "notebooks/04_training.ipynb").read_text()
    assert CANDIDATES.decode() in notebook
    assert 'experiment = \\"more\\"' in notebook
    for gone in ("old.txt", "tests/test_models.py", "notebooks/00_board.ipynb", ".labkit/answers.json"):
        assert not (project / gone).exists()
    assert [path.name for path in (project / "wheels").iterdir()] == [f"labkit-{NEW}-py3-none-any.whl"]
    assert f'version: "{NEW}"\n' in (project / ".copier-answers.yml").read_text()
    changed = {line.split()[0] for line in printed.splitlines() if line.startswith("  ")}
    assert {"README.md", "Makefile", "old.txt", ".copier-answers.yml", "notebooks/04_training.ipynb"} <= changed
    assert "notebooks/01_eda.ipynb" in changed
    assert not {"lib/shop/features.py", "dvc.yaml", "notebooks/02_wrangling.ipynb"} & changed
    commit_all(project)
    assert call(cli, ["upgrade"]) == 0
    assert capsys.readouterr().out == f"project: up to date with labkit {NEW}\n"
    check_checkout("diabetes")


def test_what_both_changed_is_a_conflict(project: Path, capsys: Capture) -> None:
    edit(project / "Makefile", "export DO_NOT_TRACK := yes", "export DO_NOT_TRACK := always")
    edit_cell(project / "notebooks/04_training.ipynb", "candidates = dict()", 'candidates = {"mine": None}')
    commit_all(project)
    before = (project / "notebooks/04_training.ipynb").read_bytes()
    assert call(cli, ["upgrade", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)["project"]
    assert shown["conflicts"] == ["Makefile", "notebooks/04_training.conflict.ipynb"]
    assert (project / "notebooks/04_training.ipynb").read_bytes() == before
    makefile = (project / "Makefile").read_text()
    assert makefile.index(":= always") < makefile.index("=======") < makefile.index(":= 1\n")
    merged = nbformat.read(project / "notebooks/04_training.conflict.ipynb", as_version=4)
    assert [cell for cell in merged.cells if "<<<<<<<" in cell.source and '"mine"' in cell.source]
    commit_all(project)
    assert call(cli, ["upgrade"]) == 1, "as long as the merged notebook is there"
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"project: labkit {NEW}, from an earlier upgrade\n  notebooks/04_training.conflict.ipynb has"
    )
    (project / "notebooks/04_training.conflict.ipynb").unlink()
    assert call(cli, ["upgrade"]) == 0


def test_new_notebook_whose_name_is_taken_is_written_beside(project: Path, capsys: Capture) -> None:
    own = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Mine")])
    nbformat.write(own, project / "notebooks/01_eda.ipynb")
    commit_all(project)
    before = (project / "notebooks/01_eda.ipynb").read_bytes()
    assert call(cli, ["upgrade"]) == 1
    printed = capsys.readouterr().out
    assert (project / "notebooks/01_eda.ipynb").read_bytes() == before
    assert (project / "notebooks/01_eda.template.ipynb").read_bytes() == load_package()[EDA]
    assert (
        "  notebooks/01_eda.ipynb is yours, and the template has a new one of that name: take what you need from "
        "notebooks/01_eda.template.ipynb, then delete it\n"
    ) in printed
    assert "<<<<<<<" not in printed


def test_names_that_git_quotes_are_shown_as_they_are(project: Path, capsys: Capture) -> None:
    old = project / f"wheels/labkit-{OLD}-py3-none-any.whl"
    name = f"{TEMPLATE}project/Größe and size.txt"
    with zipfile.ZipFile(old) as archive:
        files = {one: archive.read(one) for one in archive.namelist() if ".dist-info/" not in one}
    write_wheel(old.parent, "labkit", OLD, files={**files, name: b"old\n"})
    (project / "Größe and size.txt").write_text("mine\n")
    assert call(cli, ["upgrade"]) == 2
    assert "uncommitted changes: Größe and size.txt; wheels/" in capsys.readouterr().err
    commit_all(project)
    assert call(cli, ["upgrade", "--json"]) == 0
    assert "Größe and size.txt" in json.loads(capsys.readouterr().out)["project"]["changed"]


def test_dry_run_shows_the_same_and_writes_nothing(project: Path, capsys: Capture) -> None:
    assert call(cli, ["upgrade", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"project: labkit {OLD} to {NEW} (nothing was written)\n  .copier-answers.yml\n")
    assert f"  wheels/labkit-{NEW}-py3-none-any.whl\n" in printed
    assert call_project_git(project, "status", "--porcelain") == ""
    assert not (project / ".labkit").exists()


def make_newer(project: Path) -> None:
    edit(project / ".copier-answers.yml", f'version: "{OLD}"', "version: 99.1")


def make_versionless(project: Path) -> None:
    edit(project / ".copier-answers.yml", f'version: "{OLD}"', "version: new")


def make_dirty(project: Path) -> None:
    edit(project / "README.md", "# shop", "# our shop")


def make_no_notebook(project: Path) -> None:
    (project / "notebooks/04_training.ipynb").write_bytes(b"\xff not JSON")
    commit_all(project)


def make_old_notebook(project: Path) -> None:
    (project / "notebooks/04_training.ipynb").write_text('{"nbformat": 3, "worksheets": []}')
    commit_all(project)


def make_wheelless(project: Path) -> None:
    (project / f"wheels/labkit-{OLD}-py3-none-any.whl").unlink()


def make_broken(project: Path) -> None:
    (project / f"wheels/labkit-{OLD}-py3-none-any.whl").write_text("torn")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            make_newer,
            f".copier-answers.yml: the project is of labkit 99.1, newer than the installed {NEW}: install labkit 99.1 from wheels/",
        ),
        (make_versionless, ".copier-answers.yml: names no version of labkit: restore it from git"),
        (make_dirty, "uncommitted changes: README.md: commit or stash them first, so that git shows the upgrade"),
        (make_wheelless, f"wheels/labkit-{OLD}-py3-none-any.whl: missing, and it holds the template to compare with"),
        (make_broken, f"wheels/labkit-{OLD}-py3-none-any.whl: cannot be read (File is not a zip file): restore it"),
        (make_no_notebook, "notebooks/04_training.ipynb: not a notebook (not JSON): restore it from git"),
        (make_old_notebook, "notebooks/04_training.ipynb: notebook format 3, not 4: open it in JupyterLab and save it"),
    ],
)
def test_what_cannot_be_upgraded_is_refused(
    project: Path, spoil: Callable[[Path], Any], message: str, capsys: Capture
) -> None:
    spoil(project)
    before = call_project_git(project, "status", "--porcelain")
    assert call(cli, ["upgrade"]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert len(printed.splitlines()) == 1
    assert call_project_git(project, "status", "--porcelain") == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda project: None, f"the project is of labkit {OLD}, but {NEW} is installed: merge what has changed with"),
        (
            make_newer,
            f"the project is of labkit 99.1, newer than the installed {NEW}: install labkit 99.1 from wheels/",
        ),
    ],
)
def test_a_project_of_another_version_does_not_run(project: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(project)
    with pytest.raises(ParamsError) as raised:
        check_checkout("diabetes")
    assert message in str(raised.value)
