"""The notebook rules of the project's style, made executable."""

import ast
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from labkit.artifacts import PLACES
from labkit.params.experiment import SECTIONS
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
EVERY = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATHS = [path for path in EVERY if path.name not in ("00_board.ipynb", "07_monitoring.ipynb", "08_labelling.ipynb")]
"""The notebooks of stages, without those that no pipeline runs."""
FITTING = {"fit", "fit_model", "fit_transform", "compare", "cross_validate", "cross_val_score", "cross_val_predict"}
DRAWING = {"matplotlib", "seaborn", "plotly", "altair", "bokeh", "pylab"}
MOST_LINES = 12
LEAST_PROSE = 0.8

Cell = dict[str, Any]


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def list_cells(path: Path, kind: str) -> list[Cell]:
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == kind]


def read(cell: Cell) -> str:
    return "".join(cell["source"])


def find_stage(path: Path) -> str:
    return path.stem.partition("_")[2]


def parse_code(path: Path) -> ast.Module:
    return ast.parse("\n".join(read(cell) for cell in list_cells(path, "code")))


def find_calls(path: Path, *methods: str) -> set[str]:
    """Return the first argument of every call of `step.<method>`."""
    return {
        node.args[0].value
        for node in ast.walk(parse_code(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "step"
        and isinstance(node.args[0], ast.Constant)
    }


def find_whole_uses(path: Path) -> set[str]:
    """Return what is used of the whole params, such as `data.target.column`."""
    code = "\n".join(read(cell) for cell in list_cells(path, "code"))
    return {name for name in re.findall(r"step\.whole\.([a-z_]+(?:\.[a-z_]+)*)", code) if name != "experiment"}


def covers(declared: str, used: str) -> bool:
    return used == declared or used.startswith(f"{declared}.") or declared.startswith(f"{used}.")


def find_header(path: Path) -> list[str]:
    """Return the cells of the table that lists what a notebook reads, writes, and is set by."""
    table = re.search(r"\| reads \| writes \| parameters \|\n\|[-|]+\|\n\|(.+)\|", read(load(path)["cells"][2]))
    assert table, "the cell before the set-up has no table: reads, writes, parameters"
    return [entry.strip() for entry in table[1].split("|")]


each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def test_notebooks_are_numbered_consecutively_and_named_by_their_stage() -> None:
    names = [re.fullmatch(r"(\d\d)_([a-z_]+)\.ipynb", path.name) for path in PATHS]
    assert all(names)
    assert [int(path.name[:2]) for path in EVERY] == list(range(len(EVERY)))
    assert {name[2] for name in names if name} <= set(SECTIONS)


@each_notebook
def test_first_cell_has_the_only_title_and_a_question(path: Path) -> None:
    titles = [
        line for cell in list_cells(path, "markdown") for line in read(cell).splitlines() if line.startswith("# ")
    ]
    lines = [line for line in read(load(path)["cells"][0]).split("\n\n") if line]
    assert len(titles) == 1
    assert lines[0] == titles[0]
    assert re.match(r"[^.]+\?", lines[1]), "the first sentence under the title is not a question"


@each_notebook
def test_header_lists_what_the_code_reads_and_writes(path: Path) -> None:
    reads, writes, parameters = find_header(path)
    assert set(re.findall(r"`(\w+)`", reads)) == find_calls(path, "load")
    assert set(re.findall(r"`(\w+)`", writes)) == find_calls(path, "save", "make_folder")
    assert find_calls(path, "load", "save", "make_folder") <= set(PLACES)
    named = re.findall(r"`([\w.]+)`", parameters)
    assert named[0] == find_stage(path)
    hidden = [use for use in find_whole_uses(path) - {"seed"} if not any(covers(name, use) for name in named)]
    assert not hidden


@each_notebook
def test_dvc_tracks_every_param_that_the_code_uses(path: Path) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    body = stages[find_stage(path)]["do"]
    declared = [name for entry in body["params"] for names in entry.values() for name in names]
    declared += body["meta"]["sections"]
    used = find_whole_uses(path) | {find_stage(path)}
    assert not [use for use in used if not any(use == name or use.startswith(f"{name}.") for name in declared)]


@each_notebook
def test_dvc_tracks_all_that_the_code_reads_and_nothing_else(path: Path) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    tracked = {name.removeprefix("data/${item}/") for name in stages[find_stage(path)]["do"]["deps"]}
    beside = {f"fingerprint/{find_stage(path)}.json", "requirements.lock"}
    assert beside <= tracked
    read = {PLACES[name] for name in find_calls(path, "load")}
    read |= {"features/row_features.npz"} if "features/row_features.json" in read else set()
    checked = any(name.startswith(("raw", "clean")) for name in find_calls(path, "load", "save"))
    read |= {"contract.json"} if checked else set()
    assert not [one for one in read if not any(one == name or one.startswith(f"{name}/") for name in tracked)]
    assert not [name for name in tracked - beside if not any(one == name or one.startswith(f"{name}/") for one in read)]


@each_notebook
def test_parameters_cell_names_experiment_and_overrides_only(path: Path) -> None:
    tagged = [cell for cell in list_cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    assert read(tagged[0]) == f'experiment = ""\n{find_stage(path)} = {{}}'


@each_notebook
def test_setup_cell_starts_the_stage_by_its_name(path: Path) -> None:
    setup = read(list_cells(path, "code")[1])
    assert setup.startswith("import ")
    assert f'step = labkit.start("{find_stage(path)}", experiment, {find_stage(path)})' in setup.splitlines()


@each_notebook
def test_there_are_three_to_six_sections(path: Path) -> None:
    headings = [
        line for cell in list_cells(path, "markdown") for line in read(cell).splitlines() if line.startswith("## ")
    ]
    assert 3 <= len(headings) <= 6


@each_notebook
def test_cells_are_few_and_short(path: Path) -> None:
    cells = list_cells(path, "code")
    assert 8 <= len(cells) <= 20
    long = {cell["id"]: len(read(cell).splitlines()) for cell in cells if len(read(cell).splitlines()) > MOST_LINES}
    assert not long
    assert not [line for cell in cells for line in read(cell).splitlines() if len(line) > 120]


@each_notebook
def test_prose_stands_before_nearly_every_cell(path: Path) -> None:
    cells = load(path)["cells"]
    before = [first["cell_type"] == "markdown" for first, cell in pairwise(cells) if is_code(cell)]
    assert sum(before) / len(before) >= LEAST_PROSE


def is_code(cell: Cell) -> bool:
    return bool(cell["cell_type"] == "code")


@each_notebook
def test_code_that_deserves_a_test_is_in_the_library(path: Path) -> None:
    tree = parse_code(path)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Try, ast.While, ast.With, ast.Global)
    assert not [type(node).__name__ for node in ast.walk(tree) if isinstance(node, kinds)]
    loops = [
        node for node in ast.walk(tree) if isinstance(node, ast.For | ast.ListComp | ast.DictComp | ast.GeneratorExp)
    ]
    names = {name for loop in loops for node in ast.walk(loop) if (name := name_of_call(node))}
    assert not names & FITTING


def name_of_call(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


@each_notebook
def test_figures_are_drawn_by_the_view_only(path: Path) -> None:
    tree = parse_code(path)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in imported} & DRAWING
    calls = [name_of_call(node) for node in ast.walk(tree)]
    assert "plot" not in calls
    drawn = [name for name in calls if name.startswith("plot_")]
    figures = [word for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords]
    assert len(drawn) == calls.count("show") + sum(word.arg == "figure" for word in figures)


@each_notebook
def test_names_of_one_experiment_stay_out_of_the_code(path: Path) -> None:
    code = "\n".join(read(cell) for cell in list_cells(path, "code")[1:])
    columns = {"bmi", "s5", "bp", "mean area", "worst area", "malignant", "benign", "dep_delay"}
    constants = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert not columns & {value for value in constants if isinstance(value, str)}


@each_notebook
def test_stage_finishes_and_links_to_the_next(path: Path) -> None:
    assert "step.finish(" in read(list_cells(path, "code")[-1])
    last = load(path)["cells"][-1]
    assert last["cell_type"] == "markdown"
    following = PATHS[(PATHS.index(path) + 1) % len(PATHS)]
    assert f"]({following.name})" in read(last)


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.stem)
def test_notebook_is_stripped_and_keeps_its_ids(path: Path) -> None:
    notebook = load(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z][a-z-]+", name) for name in ids), "ids are words, so that diffs can be read"
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if is_code(cell):
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@each_notebook
def test_metrics_of_prose_are_computed_not_typed(path: Path) -> None:
    (summary,) = [cell for cell in list_cells(path, "code") if "show_summary(" in read(cell)]
    words = [node.value for node in ast.walk(ast.parse(read(summary))) if isinstance(node, ast.Constant)]
    assert not [word for word in words if isinstance(word, str) and re.search(r"\d", re.sub(r"^\.\d[efg%]$", "", word))]
    assert "figure=" in read(summary)


@each_notebook
def test_page_begins_with_the_result_and_ends_with_the_setup(path: Path) -> None:
    moved = [cell["id"] for cell in load(path)["cells"] if "appendix" in cell["metadata"].get("tags", [])]
    assert {"setup-why", "setup", "saw-intro", "summary"} <= set(moved)
    titles = read(load(path)["cells"][0])
    assert len(titles.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(("name", "most_cells"), [("00_board", 4), ("07_monitoring", 9), ("08_labelling", 8)])
def test_notebook_without_a_stage_has_a_question_and_a_few_cells_that_call_the_library(
    name: str, most_cells: int
) -> None:
    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert path in EVERY
    assert path not in PATHS
    cells = list_cells(path, "code")
    assert re.match(r"# \w+\n\n[^.]+\?", read(load(path)["cells"][0]))
    assert len(cells) <= most_cells
    assert max(len(read(cell).splitlines()) for cell in cells) <= MOST_LINES
    kinds = (ast.FunctionDef, ast.ClassDef, ast.Try, ast.For, ast.While, ast.With)
    assert not [node for node in ast.walk(parse_code(path)) if isinstance(node, kinds)]
