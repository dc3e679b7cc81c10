"""The page of a stage, rendered from its executed notebook with a header about the run."""

from collections.abc import Sequence
from pathlib import Path

import nbformat

from labkit import paths
from labkit.params.experiment import Params
from labkit.params.override import describe_edit
from labkit.params.subject import Subject
from labkit.params.yaml_lines import write_flow
from labkit.run.notebook.result import find_heading
from labkit.run.notebook.stage_table import is_own_stage, load_stage_section
from labkit.run.notebook.step import Catalogue, Step
from labkit.run.notebook_files import list_notebooks
from labkit.run.records import provenance
from labkit.run.records.stage_record import StageRecord, save_record
from labkit.run.reports import index, render
from labkit.storage import atomic


def find_pages_dir(experiment: str, sample_rows: int | None) -> Path:
    """Return the folder for the pages of a run."""
    pages = paths.find_reports_dir(experiment)
    return pages / "sample" if sample_rows else pages


def publish_page(
    done: StageRecord, executed: Path, params: Params, *, sample_rows: int | None, notes: Sequence[str]
) -> Path:
    """Render the stage's page, keep the executed notebook beside it, and return their folder."""
    pages = find_pages_dir(params.experiment, sample_rows)
    facts = provenance.collect()
    header = render.ReportHeader(
        experiment=params.experiment,
        stage=done.stage,
        title=done.title,
        status=done.status,
        started=done.started,
        seconds=done.seconds,
        question=Subject.from_params(params).question,
        run_id=done.run_id,
        git_commit=facts.get("commit"),
        is_dirty=facts.get("is_dirty", False),
        parameters=list_parameters(done.stage, params),
        notes=notes,
    )
    neighbours = [(path.stem.replace("_", " "), f"{path.stem}.html") for path in list_notebooks(params.experiment)]
    # A sample publishes nothing.
    neighbours += [] if sample_rows else [("publish", "publish.html")]
    html, plain = pages / f"{done.page}.html", params.model_dump(mode="json")
    render.render_report(executed, html, header, neighbours=neighbours, params=plain)
    atomic.copy_file(executed, pages / executed.name)
    save_record(done, pages)
    index.render_index(paths.find_reports_dir())
    return pages


def list_parameters(stage: str, params: Params) -> list[tuple[str, str, str]]:
    """Return name, value and origin of each of the stage's parameters; none if the params file has changed since."""
    if describe_edit(params):
        return []

    own = load_stage_section(params, stage) if is_own_stage(stage) else None
    step = Step(stage, params, Catalogue({}, lambda *_: None, lambda *_: None), own=own)
    written = [(name, value, origin) for name, value, origin, _ in step.describe()]
    return [(name, value if isinstance(value, str) else write_flow(value), origin) for name, value, origin in written]


def find_title(notebook: nbformat.NotebookNode) -> str:
    """Return a notebook's first heading."""
    return find_heading(notebook.cells[:1], 1)
