"""A sample run: every stage on some rows of the main table, in scratch, with settings that make it a quick try.

Nothing of the pipeline changes: no outputs, no params file, no published model. Its pages are in
`reports/<experiment>/sample`.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path

from labkit import paths
from labkit.names import escape
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.params.override import apply_overrides
from labkit.run.dvc_yaml import FINGERPRINT
from labkit.run.kernels.session import Kernels
from labkit.run.pipeline import dvc_repo, run_lock
from labkit.run.pipeline.experiment_run import (
    RunRequest,
    check_locked_packages,
    close_lines,
    open_pipeline,
    start_work,
)
from labkit.run.pipeline.progress import Line, Progress
from labkit.run.pipeline.stage_page import find_pages_dir
from labkit.run.pipeline.stages_in_order import PlainStage
from labkit.run.records import recovery
from labkit.run.records.stage_record import load_records
from labkit.run.reports import render
from labkit.storage.atomic import copy_file
from labkit.units import format_count, format_duration

MOST_EFFORT = {
    "training.folds": 3,
    "training.repeats": 1,
    "training.tuning_trials": 3,
    "evaluation.bootstrap_samples": 200,
    "evaluation.importance_rows": 500,
}
"""Largest values of the params on which the duration of a sample run depends; `-S` may set others."""


def run_sample(
    experiment: str,
    *,
    rows: int,
    plain: Mapping[str, PlainStage],
    progress: Progress,
    kernels: Kernels,
    request: RunRequest,
) -> list[Line]:
    """Run every stage on a sample of the main table, in scratch; pipeline outputs stay as they are."""
    params, until = load_params(experiment), request.until
    names = [name for name in dvc_repo.list_stages(experiment) if name not in (FINGERPRINT, dvc_repo.PUBLISH)]
    if until:
        names = names[: names.index(dvc_repo.check_stage(until, names)) + 1]
    work = start_work(params, plain, progress, names=names, kernels=kernels, sample_rows=rows)
    packages = check_locked_packages(work, is_locked=request.is_locked)
    with run_lock.hold_experiment(experiment, report=progress.show, is_waiting=request.is_waiting):
        settings = [*limit_effort(load_params(experiment), request.settings), *request.settings]
        with try_settings(experiment, settings, progress):
            work = start_work(load_params(experiment), plain, progress, names=names, kernels=kernels, sample_rows=rows)
            recovery.close_gone(progress.show)
            os.environ.update(paths.make_environment())
            with open_pipeline(work, packages, until=until, sample_rows=rows), work.parents, work.keep_record():
                try:
                    kernels.begin()
                    for name in names:
                        work.perform(name)
                finally:
                    lines = close_lines(work, names)
                    progress.show_table(f"{experiment} (sample of {format_count(rows, 'row')})", lines)
                    write_sample_index(experiment, names, rows=rows, settings=settings)
                if work.parent:
                    work.parent.status = "FINISHED"
    return lines


def limit_effort(params: Params, settings: Sequence[str]) -> list[str]:
    """Return the settings that keep a sample run short; those given by the user stay as they are.

    Parameters
    ----------
    params
        Params as the file has them.
    settings
        Settings of the user, each `name=value`.
    """
    given = {setting.partition("=")[0].strip() for setting in settings}
    found = []
    for name, most in MOST_EFFORT.items():
        value = attrgetter(name)(params)
        if name not in given and (value is None or value > most):
            found.append(f"{name}={most}")
    return found


@contextmanager
def try_settings(experiment: str, settings: Sequence[str], progress: Progress) -> Iterator[None]:
    """Make this process and its kernels read a copy of the params with settings applied; the file is not changed."""
    if not settings:
        yield
        return
    before = paths.find_params_path(experiment)
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as folder:
        copy_file(before, Path(folder) / before.name)
        os.environ[paths.PARAMS_VARIABLE] = folder
        try:
            changes = apply_overrides(experiment, settings).splitlines()[2:]
            progress.show(
                "\n".join(["For this sample only:", *changes] if changes else ["The params have these values already."])
            )
            yield
        finally:
            os.environ.pop(paths.PARAMS_VARIABLE)


def write_sample_index(experiment: str, names: Sequence[str], *, rows: int, settings: Sequence[str]) -> None:
    """Write the index page of a sample run: that it is a sample, its settings, and a link to the page of each stage."""
    folder = find_pages_dir(experiment, rows)
    records = load_records(folder)
    lines = [
        f"**A sample of {format_count(rows, 'row')}**: for trying out, never published. The metrics are less certain "
        "than those of a run on all rows.",
        "",
        f"Set for this sample: {', '.join(map(escape, settings))}." if settings else "",
        "",
        *(
            f"- [{record.page}]({record.page}.html): {record.status}, {format_duration(record.seconds)}. "
            f"{escape(record.headline)}"
            for name in names
            if (record := records.get(name))
        ),
    ]
    render.render_page(folder / "index.html", title=f"{experiment}: a sample", markdown="\n".join([*lines, ""]))
