"""An experiment's own copies of shared notebooks: ejected, run in place of the shared ones, compared and upgraded."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from labkit.errors import ParamsError
from labkit.params.load import load_params
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.stage_key import compute_code_digests, compute_fingerprints
from labkit.run.kernels.session import seem_needed
from labkit.run.notebook.source import take_snapshot
from labkit.run.notebook_files import list_notebooks
from labkit.run.records.run_record import list_closure
from labkit.run.reports.sanitize import Outline

from tests.conftest import call_in_process
from tests.own_stage import COMMANDS, call_for_message, copy_notebooks
from tests.run.small import load_ledger, make_small
from tests.shared_server import SharedServer

NAME = "04_training.ipynb"
OWN, BASE = f"notebooks/diabetes/{NAME}", f"notebooks/diabetes/.base/{NAME}"
CONFLICT = "notebooks/diabetes/04_training.conflict.ipynb"


@pytest.fixture
def root(params_root: Path) -> Path:
    """Return a checkout of params, dvc.yaml and the shared notebooks."""
    return copy_notebooks(params_root)


@pytest.fixture
def ejected(root: Path) -> Path:
    """Return a checkout in which diabetes has its own notebook of training."""
    assert call_for_message("eject", "training", "diabetes")[0] == 0
    return root


def edit(path: Path, change: Callable[[nbformat.NotebookNode], None]) -> None:
    """Change a notebook in place."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    nbformat.write(notebook, path)


def append(cell: str, line: str) -> Callable[[nbformat.NotebookNode], None]:
    """Return a change that appends a line to a cell."""

    def change(notebook: nbformat.NotebookNode) -> None:
        find(notebook, cell).source += f"\n{line}"

    return change


def insert(name: str, source: str) -> Callable[[nbformat.NotebookNode], None]:
    """Return a change that inserts a code cell behind the cell `load`."""

    def change(notebook: nbformat.NotebookNode) -> None:
        place = notebook.cells.index(find(notebook, "load")) + 1
        notebook.cells.insert(place, nbformat.v4.new_code_cell(source, id=name))

    return change


def drop(cell: str) -> Callable[[nbformat.NotebookNode], None]:
    """Return a change that removes a cell."""
    return lambda notebook: notebook.cells.remove(find(notebook, cell))


def find(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """Return the cell with an id."""
    return next(cell for cell in notebook.cells if cell.id == name)


def load(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def list_ids(path: Path) -> list[str]:
    return [cell.id for cell in load(path).cells]


def list_conflicting(printed: str) -> set[str]:
    """Return the cells that conflict, from the JSON of `labkit upgrade`."""
    return {conflict["cell"] for conflict in json.loads(printed)["notebooks"][0]["conflicts"]}


def keep_files(root: Path) -> dict[str, bytes]:
    """Return every notebook in a checkout."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.ipynb"))}


@pytest.mark.parametrize("word", ["training", "04_training", NAME])
def test_ejected_notebook_is_the_shared_one_for_this_experiment(root: Path, word: str) -> None:
    code, printed = call_for_message("eject", word, "diabetes")
    assert (code, printed) == (0, f"{OWN}: now the notebook of diabetes; commit it with {BASE}\n")
    assert (root / OWN).read_bytes() == (root / BASE).read_bytes()
    assert list_ids(root / OWN) == list_ids(root / "notebooks" / NAME)
    call_for_message("eject", word, "flights")
    assert 'experiment = "flights"\n' in find(load(root / "notebooks" / "flights" / NAME), "parameters").source
    assert call_for_message("diff", "flights") == (0, f"notebooks/flights/{NAME}: same cells as the shared notebook\n")


def test_only_this_experiment_runs_it(ejected: Path) -> None:
    shared = ejected / "notebooks" / NAME
    assert ejected / OWN in list_notebooks("diabetes")
    assert shared not in list_notebooks("diabetes")
    assert len(list_notebooks("diabetes")) == len(list_notebooks())
    assert list_notebooks("flights") == list_notebooks()
    for experiment, path in {"diabetes": ejected / OWN, "flights": shared}.items():
        assert take_snapshot(["training"], {"experiment": experiment})["training"].path == path


def test_editing_it_changes_the_fingerprint_of_this_experiment_only(ejected: Path) -> None:
    def compute(experiment: str) -> dict[str, dict[str, str]]:
        return compute_fingerprints(Checkout(ejected), {}, load_params(experiment))

    before = {name: compute(name) for name in ("diabetes", "flights")}
    assert [name for name in before["diabetes"]["training"] if name.endswith(".ipynb")] == [OWN]
    edit(ejected / OWN, append("load", "print(1)"))
    assert compute("flights") == before["flights"]
    after = compute("diabetes")
    assert [stage for stage in after if after[stage] != before["diabetes"][stage]] == ["training"]
    edit(ejected / "notebooks" / NAME, append("load", "print(2)"))
    assert compute("diabetes") == after
    assert compute("flights")["training"] != before["flights"]["training"]


def test_modules_beside_it_are_part_of_its_code(ejected: Path) -> None:
    (ejected / "notebooks" / "diabetes" / "rates.py").write_text("RATE = 2\n")
    edit(ejected / OWN, append("load", "import rates"))
    codes = compute_code_digests(Checkout(ejected), ejected / OWN)
    assert "notebooks/diabetes/rates.py" in codes
    assert {OWN, "notebooks/diabetes/rates.py"} <= set(list_closure(ejected, "diabetes"))
    assert OWN not in list_closure(ejected, "flights")


def test_shared_notebook_that_it_replaces_is_no_part_of_its_code(ejected: Path) -> None:
    shared = f"notebooks/{NAME}"
    assert shared not in list_closure(ejected, "diabetes")
    assert shared in list_closure(ejected, "flights")
    assert shared in list_closure(ejected)


def test_a_newer_own_notebook_starts_kernels_early(ejected: Path) -> None:
    import os

    (ejected / "dvc.lock").touch()
    later = (ejected / "dvc.lock").stat().st_mtime + 10
    os.utime(ejected / "dvc.lock", (later, later))
    assert not seem_needed("diabetes")
    os.utime(ejected / OWN, (later + 10, later + 10))
    assert seem_needed("diabetes")
    assert not seem_needed("flights")


def test_diff_shows_code_and_prose_by_cell(ejected: Path) -> None:
    edit(ejected / OWN, append("load", "mine = 1"))
    edit(ejected / OWN, append("rows-intro", "word " * 30))
    edit(ejected / OWN, insert("own-cell", "mine + 1"))
    edit(ejected / OWN, drop("failed"))
    edit(ejected / OWN, append("table", "len(comparison.frame)"))
    edit(ejected / OWN, lambda notebook: find(notebook, "settings").update(execution_count=7))
    code, printed = call_for_message("diff", "diabetes")
    assert code == 0
    assert [line for line in printed.splitlines() if line.startswith("  cell ")] == [
        "  cell rows-intro (markdown) changed",
        "  cell load (code) changed",
        "  cell own-cell (code) added",
        "  cell table (code) changed",
        "  cell failed (code) removed",
    ]
    assert "\n  +mine = 1\n" in printed
    assert "\n  +mine + 1\n" in printed
    assert "\n  +len(comparison.frame)\n" in printed
    assert max(map(len, printed.splitlines())) <= 80
    document = json.loads(call_for_message("diff", "diabetes", "04_training", "--json")[1])
    [notebook] = document["notebooks"]
    assert (notebook["notebook"], notebook["is_behind"]) == (OWN, False)
    assert [cell["change"] for cell in notebook["cells"]] == ["changed", "changed", "added", "changed", "removed"]
    assert notebook["cells"][2] == {
        "id": "own-cell", "type": "code", "change": "added", "before": None, "after": "mine + 1",
    }  # fmt: skip


def test_changes_on_both_sides_are_merged(ejected: Path) -> None:
    shared = ejected / "notebooks" / NAME
    edit(ejected / OWN, append("load", "mine = 1"))
    edit(ejected / OWN, lambda notebook: find(notebook, "settings").update(execution_count=7))
    edit(shared, append("rows-intro", "New words."))
    edit(shared, drop("failed"))
    edit(shared, insert("shared-cell", "theirs = 2"))
    before = keep_files(ejected)
    assert "The shared notebook has changed: labkit upgrade diabetes" in call_for_message("diff", "diabetes")[1]
    code, printed = call_for_message("upgrade", "diabetes", "--dry-run")
    assert (code, keep_files(ejected)) == (0, before)
    assert printed.startswith(f"{OWN}: upgraded (nothing was written)\n")
    code, printed = call_for_message("upgrade")
    assert code == 0
    assert printed == (
        f"{OWN}: upgraded\n  cell rows-intro (markdown) changed\n  cell shared-cell (code) added\n"
        "  cell failed (code) removed\n"
    )
    assert list_ids(ejected / OWN) == list_ids(shared)
    merged = load(ejected / OWN)
    nbformat.validate(merged)
    assert find(merged, "load").source.endswith("\nmine = 1")
    assert find(merged, "settings").execution_count == 7
    assert find(merged, "rows-intro").source.endswith("\nNew words.")
    assert [
        cell["id"] for cell in json.loads(call_for_message("diff", "diabetes", "--json")[1])["notebooks"][0]["cells"]
    ] == ["load"]
    assert call_for_message("upgrade", "diabetes") == (0, f"{OWN}: up to date\n")


def test_changed_metadata_are_a_change_and_outputs_are_none(ejected: Path) -> None:
    shared = ejected / "notebooks" / NAME
    edit(shared, lambda notebook: find(notebook, "settings").update(execution_count=7))
    assert "has changed" not in call_for_message("diff", "diabetes")[1]
    assert call_for_message("upgrade", "diabetes") == (0, f"{OWN}: up to date\n")
    edit(shared, lambda notebook: find(notebook, "settings").metadata.update(tags=["wide"]))
    assert "The shared notebook has changed: labkit upgrade diabetes" in call_for_message("diff", "diabetes")[1]
    assert call_for_message("upgrade", "diabetes") == (0, f"{OWN}: upgraded\n")
    assert find(load(ejected / OWN), "settings").metadata.tags == ["wide"]
    assert "has changed" not in call_for_message("diff", "diabetes")[1]


def test_a_conflict_leaves_the_notebook_and_is_closed_once_resolved(ejected: Path) -> None:
    shared = ejected / "notebooks" / NAME
    edit(ejected / OWN, append("load", "mine = 1"))
    edit(ejected / OWN, append("settings", "settled = 1"))
    edit(shared, append("load", "theirs = 2"))
    edit(shared, append("rows-intro", "New words."))
    line = len(find(load(ejected / BASE), "load").source.splitlines()) + 1
    before = keep_files(ejected)
    assert call_for_message("upgrade", "diabetes", "--dry-run")[0] == 1
    assert keep_files(ejected) == before
    code, printed = call_for_message("upgrade", "diabetes")
    assert code == 1
    assert printed == (
        f"{OWN}: conflict\n  04_training.conflict.ipynb: conflict in cell load, line {line}\n"
        f"  resolve the markers in {CONFLICT}, then: labkit upgrade diabetes\n"
    )
    merged = load(ejected / CONFLICT)
    assert find(merged, "load").source.splitlines()[line - 1] == "<<<<<<< local"
    assert find(merged, "load").source.endswith("<<<<<<< local\nmine = 1\n=======\ntheirs = 2\n>>>>>>> remote")
    assert {name: content for name, content in keep_files(ejected).items() if name != CONFLICT} == before
    held = keep_files(ejected)
    assert (call_for_message("upgrade", "diabetes")[0], keep_files(ejected)) == (1, held)
    assert list_notebooks("diabetes").count(ejected / OWN) == 1

    def resolve(notebook: nbformat.NotebookNode) -> None:
        lines = find(notebook, "load").source.splitlines()
        find(notebook, "load").source = "\n".join(line for line in lines if line[:7] not in ("<" * 7, "=" * 7, ">" * 7))

    edit(ejected / CONFLICT, resolve)
    code, printed = call_for_message("upgrade", "diabetes")
    assert (code, printed.splitlines()[0]) == (0, f"{OWN}: resolved")
    assert find(load(ejected / OWN), "load").source.endswith("mine = 1\ntheirs = 2")
    assert find(load(ejected / OWN), "settings").source.endswith("settled = 1")
    assert not (ejected / CONFLICT).exists()
    assert "labkit_merge" not in load(ejected / OWN).metadata
    assert call_for_message("upgrade", "diabetes") == (0, f"{OWN}: up to date\n")


def test_resolved_conflicts_of_other_versions_are_refused(ejected: Path) -> None:
    edit(ejected / OWN, append("load", "mine = 1"))
    edit(ejected / "notebooks" / NAME, append("load", "theirs = 2"))
    call_for_message("upgrade", "diabetes")
    edit(ejected / CONFLICT, lambda notebook: find(notebook, "load").update(source="1"))
    edit(ejected / OWN, append("settings", "later = 1"))
    before = keep_files(ejected)
    code, printed = call_for_message("upgrade", "diabetes")
    assert (code, keep_files(ejected)) == (2, before)
    assert printed.startswith(
        f"{CONFLICT}: made from other versions of {OWN} and notebooks/{NAME} than the current ones: "
    )


@pytest.mark.parametrize(("mine", "theirs"), [("mine = 1", "theirs = 2"), ("own = 1", "other = 2")])
def test_cells_that_both_add_or_one_removes_conflict_and_keep_ids(ejected: Path, mine: str, theirs: str) -> None:
    shared = ejected / "notebooks" / NAME
    edit(ejected / OWN, insert("mine", mine))
    edit(shared, insert("theirs", theirs))
    edit(ejected / OWN, append("failed", "mine = 3"))
    edit(shared, drop("failed"))
    code, printed = call_for_message("upgrade", "--json")
    assert code == 1
    assert {"mine", "theirs", "failed"} <= list_conflicting(printed)
    merged = load(ejected / CONFLICT)
    nbformat.validate(merged)
    ids = [cell.id for cell in merged.cells]
    assert len(ids) == len(set(ids))
    sources = "\n".join(cell.source for cell in merged.cells)
    assert all(line in sources for line in (mine, theirs, "mine = 3"))
    before = keep_files(ejected)
    code, printed = call_for_message("upgrade", "--json")
    assert (code, keep_files(ejected)) == (1, before)
    assert "failed" in list_conflicting(printed)


def test_a_cell_that_only_one_removed_is_not_resolved_until_its_marker_is_gone(ejected: Path) -> None:
    edit(ejected / OWN, append("failed", "mine = 3"))
    edit(ejected / "notebooks" / NAME, drop("failed"))
    assert call_for_message("upgrade", "diabetes")[0] == 1
    edit(ejected / CONFLICT, append("load", "more = 1"))
    code, printed = call_for_message("upgrade", "diabetes")
    assert (code, "conflict in cell failed, line 1\n" in printed) == (1, True)
    edit(ejected / CONFLICT, drop("failed"))
    assert call_for_message("upgrade", "diabetes")[0] == 0
    assert "failed" not in list_ids(ejected / OWN)


def test_a_conflict_in_the_parameters_cell_is_closed_by_a_second_upgrade(ejected: Path) -> None:
    shared = ejected / "notebooks" / NAME
    edit(ejected / OWN, append("parameters", "rounds = 3"))
    edit(shared, append("parameters", "rounds = 5"))
    first = call_for_message("upgrade", "diabetes")
    assert first[0] == 1
    assert "04_training.conflict.ipynb: conflict in cell parameters, line 3\n" in first[1]
    # Nobody has resolved it yet.
    before = keep_files(ejected)
    assert (call_for_message("upgrade", "diabetes"), keep_files(ejected)) == (first, before)
    edit(ejected / CONFLICT, lambda notebook: find(notebook, "parameters").update(source="experiment ="))
    code, printed = call_for_message("upgrade", "diabetes")
    assert (code, printed.startswith(f"{CONFLICT}, merged: `parameters` cell, line 1: ")) == (2, True)
    edit(ejected / CONFLICT, lambda notebook: find(notebook, "parameters").update(source='experiment = "diabetes"'))
    assert call_for_message("upgrade", "diabetes")[1].startswith(f"{OWN}: resolved\n")
    # The shared notebook changes again: merged with what was resolved.
    edit(shared, append("parameters", "more = 1"))
    edit(ejected / OWN, append("load", "mine = 1"))
    assert call_for_message("upgrade", "diabetes")[0] == 1
    edit(ejected / CONFLICT, lambda notebook: find(notebook, "parameters").update(source='experiment = "diabetes"'))
    assert call_for_message("upgrade", "diabetes")[1].startswith(f"{OWN}: resolved\n")
    assert find(load(ejected / OWN), "load").source.endswith("mine = 1")


def test_links_lead_to_the_notebooks_that_the_experiment_runs(ejected: Path) -> None:
    assert "](../05_evaluation.ipynb)" in find(load(ejected / OWN), "next").source
    call_for_message("eject", "features", "diabetes")
    assert "](04_training.ipynb)" in find(load(ejected / "notebooks" / "diabetes" / "03_features.ipynb"), "next").source
    call_for_message("eject", "evaluation", "diabetes")
    assert "](05_evaluation.ipynb)" in find(load(ejected / OWN), "next").source
    for name in ("03_features.ipynb", NAME, "05_evaluation.ipynb"):
        folder = ejected / "notebooks" / "diabetes"
        for cell in load(folder / name).cells:
            links = re.findall(r"\]\(([^)]*\.ipynb)", cell.source) if cell.cell_type == "markdown" else []
            assert all((folder / link).is_file() for link in links)
    assert call_for_message("diff", "diabetes")[1].count("same cells") == 3
    assert call_for_message("upgrade", "diabetes")[1].count("up to date") == 3


def test_a_link_to_a_shared_notebook_leads_to_its_page() -> None:
    html = Outline("").clean('<a href="../05_evaluation.ipynb#Data">x</a><a href="../../a.ipynb">y</a>')
    assert 'href="05_evaluation.html#Data"' in html
    assert 'href="../../a.ipynb"' in html


def test_an_extra_notebook_is_listed_by_diff(root: Path) -> None:
    extra = "notebooks/diabetes/07_segments.ipynb"
    (root / extra).parent.mkdir()
    shutil.copy(root / "notebooks" / NAME, root / extra)
    assert call_for_message("diff", "diabetes") == (0, f"{extra}: no shared notebook\n")
    call_for_message("eject", "training", "diabetes")
    assert call_for_message("diff", "diabetes") == (
        0,
        f"{OWN}: same cells as the shared notebook\n{extra}: no shared notebook\n",
    )
    assert json.loads(call_for_message("diff", "diabetes", "--json")[1])["notebooks"][1]["shared"] is None


def break_json(path: Path) -> None:
    path.write_text("{")


def break_parameters(path: Path) -> None:
    edit(path, drop("parameters"))


BAD = {
    "unknown stage": (["eject", "trainig", "diabetes"], "no stage 'trainig': did you mean 'training'?"),
    "unknown stage to show": (["diff", "diabetes", "trainig"], "no stage 'trainig': did you mean 'training'?"),
    "unknown experiment": (["eject", "training", "diabtes"], "did you mean 'diabetes'?"),
    "unknown experiment to show": (["diff", "diabtes"], "did you mean 'diabetes'?"),
    "unknown experiment to upgrade": (["upgrade", "diabtes"], "did you mean 'diabetes'?"),
    "no notebook": (
        ["eject", "publish", "diabetes"],
        "the stage 'publish' has no notebook: stages with one: eda, wrangling, features, training, evaluation, deploy",
    ),
    "ejected twice": (["eject", "training", "diabetes"], f"{OWN}: diabetes has this notebook already: see labkit diff"),
    "nothing ejected": (["upgrade", "flights"], "flights has no own notebook: labkit eject STAGE flights makes one"),
    "stage not ejected": (
        ["diff", "diabetes", "eda"],
        "diabetes has no own notebook 01_eda.ipynb: labkit eject eda diabetes makes one",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message_and_changes_nothing(ejected: Path, case: str) -> None:
    arguments, message = BAD[case]
    before = keep_files(ejected)
    code, printed = call_for_message(*arguments)
    assert (code, keep_files(ejected)) == (2, before)
    assert message in printed
    assert "\n" not in printed


def test_nothing_ejected_anywhere(root: Path) -> None:
    assert call_for_message("upgrade") == (
        2,
        "no experiment has own notebooks: labkit eject STAGE EXPERIMENT makes one",
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_json, "not a notebook (not JSON, line 1)"),
        (break_parameters, "0 cells are tagged `parameters`: tag exactly one"),
    ],
)
def test_a_damaged_notebook_is_named_before_anything_runs(
    ejected: Path, damage: Callable[[Path], None], message: str
) -> None:
    edit(ejected / "notebooks" / NAME, append("load", "theirs = 2"))
    damage(ejected / OWN)
    before = keep_files(ejected)
    for arguments in (["diff", "diabetes"], ["upgrade", "diabetes"], ["upgrade", "--dry-run"]):
        code, printed = call_for_message(*arguments)
        assert (code, printed.startswith(f"{OWN}: {message}")) == (2, True), printed
    assert keep_files(ejected) == before
    with pytest.raises(ParamsError, match=f"^{OWN}: "):
        take_snapshot(["training"], {"experiment": "diabetes"})
    take_snapshot(["training"], {"experiment": "flights"})


def test_a_missing_base_is_named_with_a_remedy_that_works(ejected: Path) -> None:
    (ejected / BASE).unlink()
    before = keep_files(ejected)
    code, printed = call_for_message("upgrade", "diabetes")
    assert (code, keep_files(ejected)) == (2, before)
    assert printed.startswith(f"{BASE}: missing, so nothing can be merged: restore it from git, or, ")
    assert printed.endswith(f"mkdir -p notebooks/diabetes/.base && cp notebooks/{NAME} {BASE}")
    assert call_for_message("diff", "diabetes")[0] == 0
    shutil.copy(ejected / "notebooks" / NAME, ejected / BASE)
    assert call_for_message("upgrade", "diabetes") == (0, f"{OWN}: up to date\n")


def test_a_copy_whose_shared_notebook_was_renumbered_is_named(ejected: Path) -> None:
    (ejected / "notebooks" / NAME).rename(ejected / "notebooks" / "07_training.ipynb")
    assert call_for_message("diff", "diabetes") == (
        2,
        f"{OWN}: the shared notebook of its stage is now notebooks/07_training.ipynb: rename it to 07_training.ipynb, "
        "and the file of its name in .base/ too",
    )


def test_commands_of_the_documentation_work(root: Path) -> None:
    # Those of the user's own stages: tests/stages/test_own_stages.py.
    commands = [command.split() for command in COMMANDS[: COMMANDS.index("labkit stages --update")]]
    assert [words[1] for words in commands] == ["eject", "diff", "upgrade", "upgrade"]
    for words in commands:
        assert call_for_message(*words[1:])[0] == 0


@pytest.mark.slow
def test_an_ejected_notebook_runs_and_the_other_experiment_is_not_stale(
    tmp_path: Path, store: Path, shared_server: SharedServer
) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store)
    content = (root / "params" / "small.yaml").read_text()
    (root / "params" / "other.yaml").write_text(content.replace("experiment: small", "experiment: other"))
    pipeline = root / "dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("[small]", "[small, other]"))
    for experiment in ("small", "other"):
        call_in_process(root, "run", experiment, "--cold")
    assert "own_cell_ran" not in (root / "reports" / "small" / "01_eda.ipynb").read_text()
    call_in_process(root, "eject", "eda", "small")
    edit(
        root / "notebooks" / "small" / "01_eda.ipynb",
        lambda notebook: notebook.cells[3].update(source='"own_cell_ran"'),
    )
    states = {
        one["experiment"]: [stage["state"] for stage in one["stages"]]
        for one in json.loads(call_in_process(root, "status", "small", "other", "--json").stdout)["experiments"]
    }
    assert states["other"] == ["up to date"]
    assert states["small"] == ["stale"]
    call_in_process(root, "run", "small", "--cold")
    n_runs = len(load_ledger(root))
    assert "own_cell_ran" in (root / "reports" / "small" / "01_eda.ipynb").read_text()
    page = (root / "reports" / "small" / "01_eda.html").read_text()
    assert "The notebook that ran is this experiment&#39;s own: notebooks/small/01_eda.ipynb." in page
    call_in_process(root, "run", "other", "--cold")
    stages = [line["stage"] for line in load_ledger(root)[n_runs:] if line["kind"] == "start"]
    assert "eda" not in stages
