"""The command that feeds known outcomes back to the champion."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from labkit import console, paths
from labkit.cli.options import complete_experiment, json_option
from labkit.console import divert_output, echo


@click.command(short_help="Feed outcomes that became known back to the champion, without training.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--reason", help="Why; recorded.")
@click.option("--undo", metavar="ID", help="Undo this observation: its outcomes no longer count.")
@click.option(
    "--new-only", is_flag=True, help="Leave out outcomes that are too early to be added, instead of refusing."
)
@click.option("--key", default="", metavar="COLUMN", help="Column that identifies rows; default: all of the model.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="TABLE=FILE",
    help="Join this file as TABLE; repeatable. Default: the tables of the last run.",
)
@json_option
def observe(
    experiment: str,
    files: tuple[Path, ...],
    *,
    reason: str | None,
    undo: str | None,
    new_only: bool,
    key: str,
    tables: tuple[str, ...],
    is_json: bool,
) -> None:
    """Feed the outcomes of the rows in FILES back to the histories of EXPERIMENT's champion, without training.

    For models whose features are rates of past outcomes (features.history). FILES have rows of the main table, with
    what says when their outcome became known; rows without one are left out. They are checked, joined and cleaned as in
    training. Each outcome counts from the moment it became known, in the service, `labkit predict` and `labkit
    monitor`, until a new champion was trained with it. The same rows again change nothing; outcomes that became known
    no later than the release's last one, that contradict others or that are later than now are refused, and then
    nothing changes.

    Without FILES, shows what was observed: when, by whom, why, and what was undone.

    \b
    labkit observe flights november.csv --reason "month is complete"
    labkit observe flights
    labkit observe flights --undo 3f9a01c2 --reason "delays in hours"
    """
    from labkit.errors import ParamsError
    from labkit.params.load import load_params

    if undo is not None and not reason:
        raise ParamsError("--undo: give a reason with --reason: it is recorded")
    if not files and undo is None and (new_only or key or tables or reason is not None):
        raise ParamsError("--reason, --new-only, --key and --table need a FILE with outcomes: name one")
    if undo is not None and (files or new_only or key or tables):
        raise ParamsError("--undo takes back a whole observation: leave out files and other options")
    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    from labkit.monitoring import observation
    from labkit.serving.batch_tables import read_table_options

    now = datetime.now(UTC)
    if undo is not None:
        undone = observation.undo_observation(params, undo, reason=reason or "", now=now)
        console.print_json(undone.to_dict()) if is_json else echo(str(undone))
    elif files:
        with divert_output(is_json):
            observed = observation.observe_files(
                params,
                files,
                reason=reason or "",
                now=now,
                tables=read_table_options(tables),
                key=key,
                is_new_only=new_only,
            )
        console.print_json(observed.to_dict()) if is_json else echo(str(observed))
    else:
        known = observation.list_observations(experiment)
        if is_json:
            console.print_json([one.to_dict() for one in known])
        elif known:
            names = ("id", "at", "by", "outcomes", "files", "why", "undone")
            console.print_table(names, [observation.list_observation_facts(one) for one in known], title=experiment)
            if uncounted := observation.describe_uncounted(params):
                echo(uncounted)
        else:
            echo(f"{experiment}: nothing was observed yet: name files with rows whose outcomes became known")
