"""Commands for past runs: make one again from its record, export one as a folder."""

import os
import sys
from functools import partial
from pathlib import Path

import click

from labkit import paths
from labkit.cli.options import complete_run, json_option
from labkit.cli.show import try_to_close_gone
from labkit.console import echo, print_json, print_pairs

STDERR = 2
"""File descriptor of standard error."""

run_argument = click.argument("run", metavar="RUN|MODEL", shell_complete=complete_run)
version_argument = click.argument("version", required=False, type=click.IntRange(1, 2**31 - 1))


@click.command(short_help="Make a run again from its record, and compare.")
@run_argument
@version_argument
@click.option(
    "--to", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Folder for the rebuild."
)
@click.option("--any-lock", "is_any_lock", is_flag=True, help="Rebuild although the installed packages differ.")
@click.option("--keep", "is_kept", is_flag=True, help="Keep the rebuilt checkout if it is identical.")
@json_option
def reproduce(
    run: str, version: int | None, *, folder: Path | None, is_any_lock: bool, is_kept: bool, is_json: bool
) -> None:
    """Make a run of the pipeline again, from what was recorded of it alone, and compare what both wrote.

    RUN is a name listed by `labkit runs`, here or in MLflow. A model is an experiment, for its champion, with a version
    or an alias. The code is taken from git with the changes that were not committed, into a folder beside the checkout;
    the checkout stays as it is, and nothing is published. The same command continues a rebuild that was interrupted.

    Exit code 0 if every output is the same to the byte, 1 if one differs: then it is listed by how much.

    \b
    labkit reproduce diabetes               its champion
    labkit reproduce diabetes 3             a version of its model
    labkit reproduce diabetes@challenger
    labkit reproduce diabetes-20261129T071522Z-7940ee42 --keep
    """
    from labkit.reproduction.rebuild import reproduce_run
    from labkit.reproduction.recorded_run import find_recorded_run

    try_to_close_gone(is_json=is_json)
    os.environ.update(paths.make_environment())
    show = partial(echo, is_error=is_json)
    found = reproduce_run(
        find_recorded_run(run, version),
        show=show,
        folder=folder,
        is_any_lock=is_any_lock,
        is_kept=is_kept,
        output=STDERR if is_json else None,
    )
    if is_json:
        print_json(found.to_dict())
    else:
        print_pairs(found.describe())
    sys.exit(0 if found.is_identical else 1)


@click.command(short_help="Write a folder with all that is recorded of a run.")
@run_argument
@version_argument
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder; must not exist yet, nor be in the checkout.",
)
@click.option("--data", "has_data", is_flag=True, help="Include the raw tables.")
@json_option
def export(run: str, version: int | None, *, folder: Path | None, has_data: bool, is_json: bool) -> None:
    """Write one folder with all that is recorded of a run, to be kept: for an auditor, or for good.

    It holds the record, the code as it was, params, lock, digests of the data, pages, the model and its card, and a
    README that shows how to verify it and how to make the run again without this checkout. RUN and MODEL are as in
    `labkit reproduce`. By default, the folder is beside the checkout. Strings that look like secrets are redacted
    in text files, but not in raw tables.

    Exit code 0 if the folder is complete, 1 if it lacks a page or the model because they are no longer stored.

    \b
    labkit export diabetes
    labkit export diabetes 3 --to ../audit/diabetes-3 --data
    """
    from labkit.reproduction.export import export_run
    from labkit.reproduction.recorded_run import find_recorded_run

    try_to_close_gone(is_json=is_json)
    os.environ.update(paths.make_environment())
    show = partial(echo, is_error=is_json)
    made = export_run(find_recorded_run(run, version), show=show, folder=folder, has_data=has_data)
    if is_json:
        print_json(made.to_dict())
    else:
        for one in made.redacted:
            echo(f"redacted: {one}")
        for one in made.missing:
            echo(f"not recorded: {one}")
        for one in made.lost:
            echo(f"no longer stored: {one}")
    sys.exit(1 if made.lost else 0)
