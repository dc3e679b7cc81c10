"""The pages of reports: which file shows an experiment, and showing it in a browser."""

import webbrowser
from pathlib import Path

from labkit import paths
from labkit.errors import MissingDataError
from labkit.params.load import load_params
from labkit.run.dvc_yaml import list_stage_names
from labkit.run.pipeline.dvc_repo import check_stage
from labkit.run.records.stage_record import load_records

SUMMARY = "evaluation"
"""The stage whose page shows how good the model is."""


def find_report(experiment: str | None = None, stage: str | None = None) -> Path:
    """Return the page of a stage, the main page of an experiment, or the index of all reports.

    Parameters
    ----------
    experiment
        Name of the experiment; None for the index.
    stage
        Name of the stage; without it, the page of the evaluation, or else of the last stage that ran.

    Raises
    ------
    ParamsError
        There is no such experiment or stage.
    MissingDataError
        There is no report yet.
    """
    if experiment is None:
        return check_page(paths.find_reports_dir() / "index.html", "labkit run EXPERIMENT")
    load_params(experiment)
    if stage:
        check_stage(stage, list_stage_names())
    folder = paths.find_reports_dir(experiment)
    pages = {name: f"{record.page}.html" for name, record in load_records(folder).items()}
    pages |= {"publish": "publish.html"} if stage == "publish" else {}
    name = stage or (SUMMARY if SUMMARY in pages else next(reversed(pages), ""))
    command = f"labkit run {experiment}" + (f" --until {stage}" if stage else "")
    return check_page(folder / pages.get(name, f"{name or 'index'}.html"), command)


def check_page(path: Path, command: str) -> Path:
    """Return the path of a page, or raise an error that names the command that writes it."""
    if not path.is_file():
        raise MissingDataError(f"{paths.show_path(path)}: no report yet: run `{command}`")
    return path


def show_report(path: Path) -> bool:
    """Open a page in the browser; return False if there is no display or no browser."""
    return paths.has_display() and webbrowser.open_new_tab(path.as_uri())
