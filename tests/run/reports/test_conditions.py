"""Which cells of a notebook stand on its page."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from labkit.errors import StageError
from labkit.params.load import load_params
from labkit.run.notebook_files import WITHOUT_STAGE, find_stage
from labkit.run.reports.conditions import IF, UNLESS, list_tags, select_cells
from labkit.run.reports.render import ReportHeader, render_report
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[3]
# Of notebooks without a stage no page is made by these conditions.
NOTEBOOKS = [
    path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if find_stage(path) not in ("board", *WITHOUT_STAGE)
]
PARAMS = {"data": {"time": None, "target": {"task": "regression"}, "joins": []}, "training": {"models": ["a", "blend"]}}
REGRESSION = r"class(es)?\b|calibrat\w*|probabilit\w*|threshold|false alarms?"
WITHOUT_TIME = r"(?:with|over|in|have) times?\b|seasons?|\bmonths?|\bdays?\b|drift\w*|periods?|embargo"
HEADER = ReportHeader("diabetes", "eda", "Exploration", "finished", "2026-11-24T10:11:12+00:00", 1.0)


@pytest.mark.parametrize(
    ("tags", "is_shown"),
    [
        ([], True),
        (["parameters"], True),
        (["if:data.time"], False),
        (["unless:data.time"], True),
        (["if:data.target.task=regression"], True),
        (["if:data.target.task=classification"], False),
        (["unless:data.target.task=classification"], True),
        (["if:training.models=blend"], True),
        (["if:training.models=bl"], False),
        (["if:data.joins"], False),
        (["if:data.joins|training.models"], True),
        (["unless:data.joins|training.models"], False),
        (["if:training.models", "if:data.time"], False),
    ],
)
def test_cell_is_shown_if_all_its_tags_allow_it(tags: list[str], is_shown: bool) -> None:
    cell = new_markdown_cell("x", metadata={"tags": tags})
    assert bool(select_cells([cell], PARAMS)) is is_shown


def test_unknown_parameter_of_a_tag_is_named() -> None:
    cell = new_markdown_cell("x", metadata={"tags": ["if:data.tme"]})
    with pytest.raises(StageError, match=re.escape("no parameter 'data.tme'")):
        select_cells([cell], PARAMS)


def test_declared_defaults_give_way_to_injected_values() -> None:
    cells = [
        new_code_cell('experiment = "diabetes"', metadata={"tags": ["parameters"]}),
        new_code_cell('experiment = "churn"', metadata={"tags": ["injected-parameters"]}),
    ]
    assert [cell.source for cell in select_cells(cells, None)] == ['experiment = "churn"']
    assert select_cells(cells[:1], None) == cells[:1]


def test_failed_cell_stays_on_the_page_of_another_experiment(tmp_path: Path) -> None:
    error = new_output("error", ename="ValueError", evalue="no rows left", traceback=["ValueError"])
    cell = new_code_cell("fail()", execution_count=1, outputs=[error], metadata={"tags": ["if:data.time"]})
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    render_report(tmp_path / "a.ipynb", tmp_path / "a.html", HEADER, params=PARAMS)
    assert "no rows left" in (tmp_path / "a.html").read_text()


def find_prose(path: Path, experiment: str) -> dict[str, str]:
    """Return the Markdown that a notebook shows for an experiment, by cell."""
    params: dict[str, Any] = load_params(experiment).model_dump(mode="json")
    cells = select_cells(nbformat.read(path, as_version=4).cells, params)
    return {cell.id: cell.source.partition("| reads")[0] for cell in cells if cell.cell_type == "markdown"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    ("experiment", "absent"),
    [("diabetes", REGRESSION), ("diabetes", WITHOUT_TIME), ("breast_cancer", WITHOUT_TIME)],
    ids=["regression", "without time", "classes without time"],
)
def test_prose_speaks_only_of_what_applies(path: Path, experiment: str, absent: str) -> None:
    found = {name: re.findall(absent, source) for name, source in find_prose(path, experiment).items()}
    assert not {name: words for name, words in found.items() if words}


def test_sections_appear_where_they_apply() -> None:
    flights, diabetes = (
        "\n".join("\n".join(find_prose(path, name).values()) for path in NOTEBOOKS) for name in ("flights", "diabetes")
    )
    for heading in ("## What changes with time", "## Calibration", "## Tuning", "## Joining"):
        assert heading in flights
        assert heading not in diabetes


def test_the_dummy_is_explained_where_it_is_a_candidate() -> None:
    (path,) = [path for path in NOTEBOOKS if path.stem == "04_training"]
    params: dict[str, Any] = load_params("diabetes").model_dump(mode="json")
    alone = params | {"training": params["training"] | {"models": ["linear"]}}
    cells = nbformat.read(path, as_version=4).cells
    with_dummy, without = (
        " ".join(cell.source for cell in select_cells(cells, one) if cell.cell_type == "markdown")
        for one in (params, alone)
    )
    assert "`dummy` is the baseline" in with_dummy
    assert "dummy" not in without


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_conditions_of_the_notebooks_name_parameters(path: Path) -> None:
    params = load_params("diabetes").model_dump(mode="json")
    cells = nbformat.read(path, as_version=4).cells
    select_cells(cells, params)
    tags = {tag for cell in cells for tag in list_tags(cell)} - {"parameters", "appendix"}
    assert all(tag.startswith((IF, UNLESS)) for tag in tags)


@pytest.mark.parametrize(
    ("notebook", "sentence", "shown_for"),
    [
        ("02_wrangling", "under the random split it is fitted to some of them", {"flights"}),
        ("03_features", "A feature is computed from one row alone", {"flights", "diabetes", "breast_cancer"}),
        ("03_features", "Only histories also use other", {"flights"}),
        ("03_features", "The metric is R², whatever", {"diabetes"}),
        ("04_training", "They are not entirely unused", {"flights", "diabetes", "breast_cancer"}),
        ("05_evaluation", "what a random split would have claimed", {"flights"}),
        ("05_evaluation", "compared the columns (LK205)", {"diabetes", "breast_cancer"}),
        ("05_evaluation", "The model was neither fitted nor chosen on the holdout", {"flights", "diabetes", "breast_cancer"}),
    ],
)  # fmt: skip
def test_page_states_what_each_part_of_the_rows_is_used_for(notebook: str, sentence: str, shown_for: set[str]) -> None:
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    pages = {name: "\n".join(find_prose(path, name).values()) for name in ("flights", "diabetes", "breast_cancer")}
    assert {name for name, prose in pages.items() if sentence in " ".join(prose.split())} == shown_for
