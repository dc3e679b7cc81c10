"""Create an experiment from a user's table: write its params, its data under DVC and its line in dvc.yaml, or nothing.

`create_experiment` is the one function behind `labkit new`. Decisions about the table are made in
`labkit.new.proposal`.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from labkit import paths
from labkit.console import make_printable
from labkit.data.reading.formats import find_ending, name_format
from labkit.data.reading.raw_table import Source
from labkit.data.reading.sql import save_query
from labkit.errors import DataError, ParamsError
from labkit.names import EXPERIMENT_NAME, normalize_spaces
from labkit.new.dialect import check_source_file, make_file_name
from labkit.new.inspect import Survey, survey_table
from labkit.new.options import Choices
from labkit.new.proposal import Proposal, make_proposal
from labkit.params.describe import write_commented
from labkit.params.load import list_experiments
from labkit.params.tables import Table
from labkit.run.checkout import check_checkout
from labkit.run.pipeline import dvc_repo, experiments
from labkit.run.pipeline.run_lock import hold_checkout
from labkit.storage.atomic import copy_file, move, place_folder, write_text
from labkit.storage.locks import hold_lock

SOURCE = "source"
"""Folder in an experiment's data directory for the files it was created from."""
Ask = Callable[[Survey, Proposal], bool]


@dataclass(frozen=True)
class Query:
    """SQL query for the rows of a table; `variable` is the environment variable that holds the database's address."""

    sql: str
    variable: str


@dataclass(frozen=True)
class NewExperiment:
    """A new experiment: its params file, the survey of its table, and the decisions about it."""

    params_path: Path
    survey: Survey
    proposal: Proposal

    @property
    def git_paths(self) -> list[Path]:
        """What was made or changed and belongs in git; the table itself is ignored there, DVC keeps it."""
        data = paths.find_data_dir(self.params_path.stem) / SOURCE
        return [self.params_path, paths.find_root() / paths.MARKER, data]


def create_experiment(
    name: str,
    data: Sequence[Path] | Query,
    target: str,
    *,
    choices: Choices,
    follow: bool = False,
    force: bool = False,
    ask: Ask = lambda survey, proposal: True,
    report: Callable[[str], None] = lambda message: None,
) -> NewExperiment:
    """Create an experiment from a table.

    Parameters
    ----------
    name
        Name of the experiment.
    data
        Files of one table, anywhere on this machine, or a query.
    target
        Column to predict.
    choices
        Decisions given by the user; the rest is inferred.
    follow
        Whether to follow symbolic links.
    force
        Whether to replace an existing experiment of that name.
    ask
        Called with the survey and the proposal before anything is written; nothing is written if it returns False. It
        may change the proposal.
    report
        Called with a message if another run of this checkout has to finish first.

    Returns
    -------
    NewExperiment
        The experiment as it was written.

    Raises
    ------
    ParamsError
        The name, an option or a path is not valid, or `ask` returned False.
    MissingDataError
        A file does not exist or cannot be read.
    DataError
        A file changes while it is copied, or the table cannot be read or learned from. No error leaves files behind.
    """
    check_experiment_name(name, force=force)
    check_checkout(name)
    with (
        hold_lock(paths.find_work_dir() / "new.lock"),
        tempfile.TemporaryDirectory(dir=paths.find_work_dir(), prefix="new-") as scratch,
    ):
        sources = gather(name, data, Path(scratch) / SOURCE, follow=follow)
        files = tuple(f"data/{name}/{SOURCE}/{source.path.name}" for source in sources)
        survey = survey_table(name, sources, files, target, choices)
        proposal = make_proposal(name, survey, normalize_spaces(target), choices)
        path = paths.find_params_path(name)
        write_commented(proposal.tree, proposal.comments, describe_origin(data), path)  # raises if it is not valid
        if not ask(survey, proposal):
            raise ParamsError(f"{name}: not created, as requested")
        content = write_commented(proposal.tree, proposal.comments, describe_origin(data), path)
        # A run reads dvc.yaml, and DVC allows only one writing command at a time.
        with hold_checkout(name, report=report, command="labkit new"):
            put_in_place(name, Path(scratch), content)
    return NewExperiment(path, survey, proposal)


def check_experiment_name(name: str, *, force: bool) -> None:
    """Refuse a name that is not valid for an experiment, or is already taken."""
    if not re.fullmatch(EXPERIMENT_NAME, name):
        raise ParamsError(
            f"{name!r} is not a valid experiment name: use lowercase letters, digits and _, at most 63, a letter first"
        )
    folder = paths.find_data_dir(name)
    is_taken = name in list_experiments() or name in dvc_repo.list_pipeline_experiments()
    if (is_taken or (folder.exists() and any(folder.iterdir()))) and not force:
        raise ParamsError(f"there is an experiment {name!r} already: choose another name, or replace it with --force")


def gather(name: str, data: Sequence[Path] | Query, folder: Path, *, follow: bool) -> list[Source]:
    """Copy the files, or the rows of the query, to a folder, with plain names and the extensions of their formats."""
    folder.mkdir(parents=True)
    if isinstance(data, Query):
        path = folder / f"{name}.parquet"
        address = paths.get_variable(data.variable)
        if not address:
            raise ParamsError(f"--database-env {data.variable}: not set: set it to the database's address")
        save_query(path, sql=data.sql, address=address, max_rows=Table.model_fields["max_rows"].default)
        return [Source(path, "--sql")]
    taken: set[str] = set()
    sources = []
    for path in [check_source_file(path, follow=follow) for path in data]:
        where = make_printable(str(path))
        copy = folder / make_file_name(path, find_ending(path, where), taken)
        taken.add(copy.name)
        copy_whole(path, copy, where)
        sources.append(Source(copy, where))
    if len({name_format(source.path) for source in sources}) > 1:
        raise DataError(f"{sources[0].where}: all files of a table must have the same format")
    return sources


def copy_whole(path: Path, copy: Path, where: str) -> None:
    """Copy a file; refuse one that changes meanwhile."""
    before = path.stat()
    try:
        copy_file(path, copy)
    except OSError as error:
        raise DataError(f"{where}: cannot be copied to data/: {error.strerror or error}") from error
    after = path.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DataError(f"{where}: changed while it was read: run again when it is complete")


def describe_origin(data: Sequence[Path] | Query) -> str:
    """Return the comment in the params file about the origin of the table."""
    if isinstance(data, Query):
        return f"Made by labkit new from the query: {data.sql} (database: ${data.variable}). Correct what is wrong."
    return f"Made by labkit new from {', '.join(path.name for path in data)}. Correct what is wrong."


def put_in_place(name: str, scratch: Path, content: str) -> None:
    """Move data, DVC pointers, params and the line in dvc.yaml into place; restore the previous state on any error."""
    folder, params_path = paths.find_data_dir(name), paths.find_params_path(name)
    with ExitStack() as undo:
        folder.parent.mkdir(exist_ok=True)
        for path in (folder, params_path):
            keep_old(path, scratch / f"old-{path.name}", undo)
        place_folder(scratch / SOURCE, folder / SOURCE)
        experiments.add_files(sorted((folder / SOURCE).iterdir()))
        write_text(params_path, content)
        experiments.add_experiment(name)  # the last step, and atomic
        undo.pop_all()


def keep_old(path: Path, aside: Path, undo: ExitStack) -> None:
    """Move an existing path aside, and move it back on an error."""
    is_there = path.exists()
    if is_there:
        move(path, aside)

    def restore() -> None:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if is_there:
            move(aside, path)

    undo.callback(restore)
