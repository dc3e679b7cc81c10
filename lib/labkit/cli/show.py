"""The commands that show what there is: state, runs, parameters, the checkout, reports. None of them runs a stage."""

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

import click

from labkit import console, paths
from labkit.cli.options import complete_compared_run, complete_experiment, complete_run, complete_stage, json_option
from labkit.console import echo
from labkit.errors import DiskError, ParamsError, StageError


def try_to_close_gone(*, is_json: bool = False) -> None:
    """Close the records of killed runs and report them; a store that cannot be written does not stop the command.

    If standard output holds a JSON document, they are reported to standard error.
    """
    from labkit.run.records import recovery

    report = partial(echo, is_error=is_json)
    try:
        recovery.close_gone(report)
    except (StageError, DiskError) as error:
        report(f"not closed yet: {error}")


@click.command(short_help="Show which experiments and stages are stale.")
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...", shell_complete=complete_experiment)
@click.option("-v", "--verbose", is_flag=True, help="Show every stage, also without naming an experiment.")
@json_option
def status(experiments: tuple[str, ...], verbose: bool, is_json: bool) -> None:
    """Show each experiment on one line; of the experiments that are named, which stages are stale, and why.

    \b
    labkit status
    labkit status diabetes
    """
    from labkit.monitoring.watch_state import describe_watches
    from labkit.stages import status as states

    try_to_close_gone(is_json=is_json)
    under_way = states.find_under_way()
    found = states.find_statuses(experiments)
    shown = {one.experiment for one in found}
    watches = [one for one in describe_watches(now=datetime.now(UTC)) if one["experiment"] in shown]
    if is_json:
        document = {"under_way": under_way or None, "experiments": [one.to_dict() for one in found]}
        console.print_json(document | {"watches": watches})
        return
    if under_way:
        echo(f"Under way now: {under_way}.")
    if experiments or verbose:
        for one in found:
            rows = []
            for stage in one.stages:
                lines = [*stage.reasons] if stage.state == states.STALE else []
                lines += [f"latest: {stage.headline}" if lines else stage.headline] if stage.headline else []
                details = console.make_cell("\n".join(map(console.make_printable, lines)))
                rows.append((stage.stage, stage.state, details))
            console.print_table(("stage", "state", "why, and latest result"), rows, title=one.experiment)
    else:
        columns = (console.make_column("experiment", is_whole=True), console.make_column("state", is_whole=True))
        console.print_table((*columns, "latest result"), [(one.experiment, one.state, one.headline) for one in found])
    for watch in watches:
        echo(f"watch of {watch['experiment']}: {watch['found']}" + (f": {watch['remedy']}" if watch["remedy"] else ""))


@click.command(short_help="List past runs and how each ended.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@click.option("-n", "most", type=click.IntRange(1), default=20, show_default=True, help="Maximum number of runs.")
@json_option
def runs(experiment: str | None, most: int, is_json: bool) -> None:
    """List the runs of this checkout, or of EXPERIMENT, newest first, and how each ended.

    \b
    labkit runs
    labkit runs diabetes -n 5
    """
    from labkit.params.load import load_params
    from labkit.run.records import run_history

    if experiment:
        load_params(experiment)
    try_to_close_gone(is_json=is_json)
    rows, n_runs = run_history.list_runs(experiment, most=most)
    if is_json:
        console.print_json({"runs": [asdict(row) for row in rows], "n_runs": n_runs})
        return
    shown = [
        (row.run, row.end, "" if row.seconds is None else f"{row.seconds:,.0f} s", run_history.show_age(row.at))
        for row in rows
    ]
    # The name of a run contains its time in UTC. Names and ages are not truncated in a terminal of 80 characters.
    whole = (console.make_column(heading, is_number=True, is_whole=True) for heading in ("took", "started"))
    console.print_table((console.make_column("run", is_whole=True), "ended", *whole), shown)
    if n_runs > len(rows):
        echo(f"… and {n_runs - len(rows)} more: labkit runs -n {n_runs}")


@click.command(short_help="Show what a run was made of, and why stages ran.")
@click.argument("run", shell_complete=complete_run)
@click.option("-v", "--verbose", is_flag=True, help="Show also params, machine, and what was read and written.")
@json_option
def why(run: str, verbose: bool, is_json: bool) -> None:
    """Show what RUN was made of, and why each of its stages ran.

    RUN is a name listed by `labkit runs`, or an experiment for its latest run.

    \b
    labkit why diabetes
    labkit why diabetes -v
    """
    from labkit.run.records import run_history

    try_to_close_gone(is_json=is_json)
    entry = run_history.find_run(run)
    if is_json:
        console.print_json(run_history.make_run_document(entry))
        return
    console.print_pairs(run_history.describe_run(entry, is_verbose=verbose))


@click.command(short_help="Compare two runs of an experiment.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.argument("first", metavar="[RUN]", default="@last", shell_complete=complete_compared_run)
@click.argument("second", metavar="[RUN]", default="@champion", shell_complete=complete_compared_run)
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@click.option("--shadow", "is_shadow", is_flag=True, help="Compare champion and challenger of `labkit serve --shadow`.")
@json_option
def compare(experiment: str, first: str, second: str, *, is_opened: bool, is_shadow: bool, is_json: bool) -> None:
    """Compare two runs of EXPERIMENT: params, data, code, metrics, checks, groups of rows.

    Also by how much the first is better than the second on the same holdout rows. RUN is a name listed by `labkit
    runs`, `@last` for the latest finished run, `@champion` for the run that made the champion, or `@point3` for a point
    of the latest sweep; without names, the latest run is compared with the champion's. What is no longer stored of a
    run is listed as missing. A page with the curves of both is written to reports/EXPERIMENT/comparison.html.

    With --shadow, the champion in service is compared with its challenger, on the logged rows that both predicted.

    \b
    labkit compare diabetes
    labkit compare diabetes @last 7940ee42      (the end of a name is enough)
    labkit compare diabetes @point2 @champion   (of a sweep --until evaluation)
    labkit compare diabetes --open
    labkit compare diabetes --json
    labkit compare diabetes --shadow
    """
    if is_shadow:
        compare_served(experiment, is_named=(first, second) != ("@last", "@champion"), is_json=is_json)
        return
    from labkit.run.pipeline.report_address import show_report
    from labkit.stages.run_comparison import compare_runs, write_comparison
    from labkit.sweep.compared_point import find_compared_run

    try_to_close_gone(is_json=is_json)
    os.environ.update(paths.make_environment())
    found = compare_runs(experiment, first, second, find=find_compared_run)
    page = None if found.is_same_run else write_comparison(found)
    if is_json:
        console.print_json(found.to_dict() | {"page": page and paths.show_path(page)})
    else:
        console.print_pairs(found.describe())
        for title, headings, rows in found.make_tables():
            echo("")
            # Names of metrics and parameters are one word, which cannot be wrapped; the other cells wrap instead.
            is_word = not any(" " in row[0] for row in rows)
            name = console.make_column(headings[0], is_whole=is_word)
            console.print_table((name, *headings[1:]), rows, title=title)
    if page and not is_json:
        echo(f"\nPage: {paths.show_path(page)}")
    if page and is_opened and not show_report(page):
        echo(page.as_uri(), is_error=is_json)


def compare_served(experiment: str, *, is_named: bool, is_json: bool) -> None:
    """Show how a challenger in the shadow predicts beside the champion."""
    if is_named:
        raise ParamsError("--shadow compares the versions that were served, not runs: leave out RUN")
    from labkit.monitoring.shadow_comparison import compare_shadow
    from labkit.params.load import load_params

    found = compare_shadow(load_params(experiment))
    if is_json:
        console.print_json(found.to_dict())
    else:
        console.print_pairs(found.describe())


@click.command(short_help="Show parameters, where they are set, what they mean.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@click.option("--changed", is_flag=True, help="Show only what differs from the default.")
@click.option("--schema", is_flag=True, help="Write params/schema.json, with which editors complete and check.")
@json_option
def params(experiment: str | None, changed: bool, schema: bool, is_json: bool) -> None:
    """Show every parameter of EXPERIMENT by section: its value, where it is set and what it means.

    \b
    labkit params diabetes
    labkit params diabetes --changed
    labkit params --schema
    """
    from labkit.params.describe import describe_params, make_schema
    from labkit.params.load import list_experiments
    from labkit.storage.atomic import write_text

    if schema:
        path = paths.find_params_dir() / "schema.json"
        write_text(path, make_schema())
        echo(f"wrote {os.path.relpath(path)}")
        return
    if experiment is None:
        names = list_experiments()
        if is_json:
            console.print_json({"experiments": names})
        else:
            echo("\n".join(names))
        return
    entries = [one for one in describe_params(experiment) if one.is_changed or not changed]
    if is_json:
        console.print_json({"experiment": experiment, "params": [asdict(one) for one in entries]})
        return
    for section, members in groupby(entries, key=lambda one: one.name.partition(".")[0]):
        echo(section)
        for one in members:
            origin = f"  ({one.origin})" if one.is_changed or one.origin != "default" else ""
            console.print_item(f"{one.name} = {one.value}{origin}", one.meaning)


@click.command(short_help="Check the checkout and its environment.")
@json_option
def doctor(is_json: bool) -> None:
    """Check this checkout and its environment, and show how to fix every problem.

    Closes the records of runs that were killed, and changes nothing else. Exit code 1 if something needs attention.

    \b
    labkit doctor          # in the checkout
    """
    from labkit.monitoring.retraining_journal import check_retrainings
    from labkit.monitoring.watch_state import check_watches
    from labkit.run.doctor import examine, make_results_document, show_results
    from labkit.stages.promotion import check_champions

    try_to_close_gone(is_json=is_json)
    os.environ.update(paths.make_environment())
    results = [*examine(), check_champions(), check_retrainings(), check_watches(now=datetime.now(UTC))]
    if is_json:
        console.print_json(document := make_results_document(results))
        sys.exit(1 if document["n_faults"] else 0)
    sys.exit(show_results(results))


@click.command(name="open", short_help="Open a report in the browser.")
@click.argument("experiment", required=False, shell_complete=complete_experiment)
@click.option("--stage", metavar="STAGE", help="Open the page of this stage.", shell_complete=complete_stage)
@click.option("--print", "is_printed", is_flag=True, help="Print the address instead.")
def open_report(experiment: str | None, stage: str | None, is_printed: bool) -> None:
    """Open the report of EXPERIMENT in the browser, or the index of all reports.

    Without a display, the address is printed.

    \b
    labkit open
    labkit open diabetes
    labkit open diabetes --stage training --print
    """
    from labkit.run.pipeline.report_address import find_report, show_report

    if stage and not experiment:
        raise click.UsageError("--stage: name the experiment too: labkit open EXPERIMENT --stage STAGE")
    path = find_report(experiment, stage)
    if is_printed or not show_report(path):
        echo(path.as_uri())
