"""Commands for what happens to models after their release."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from labkit import console, paths
from labkit.cli.options import complete_experiment, json_option
from labkit.console import echo


@click.command(short_help="Show how often and how fast models are delivered.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Count from this day (UTC) on; default: the first.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@json_option
def delivery(experiment: str, since: datetime | None, is_opened: bool, is_json: bool) -> None:
    """Show the delivery metrics of EXPERIMENT: how often models go into service, how fast, how often that fails.

    Deployment frequency, change lead time, change fail rate, failed deployment recovery time and rework rate, as
    defined on the page reports/EXPERIMENT/delivery.html, which this command writes. They are measured on the moves of
    the champion, the commits of this checkout and its record of runs.

    \b
    labkit delivery diabetes
    labkit delivery diabetes --since 2026-01-01 --open
    labkit delivery diabetes --json
    """
    from labkit.errors import ParamsError
    from labkit.monitoring.delivery_events import measure_delivery
    from labkit.monitoring.delivery_page import write_delivery
    from labkit.params.load import load_params
    from labkit.run.pipeline.report_address import show_report

    load_params(experiment)
    until = datetime.now(UTC)
    begin = since and since.replace(tzinfo=UTC)
    if begin and begin >= until:
        raise ParamsError(f"--since {begin:%Y-%m-%d} is not in the past")
    os.environ.update(paths.make_environment())
    found = measure_delivery(experiment, since=begin, until=until)
    if found is None:
        if is_json:
            console.print_json({"experiment": experiment, "deployments": 0, "events": []})
        else:
            echo(f"{experiment}: no version has been in service yet: run `labkit run {experiment}`")
        return
    page = write_delivery(found)
    if is_json:
        console.print_json(found.to_dict() | {"page": paths.show_path(page)})
    else:
        names = ("metric", "value", "measured on")
        console.print_table(names, found.list_lines(), title=experiment)
        echo(f"\nPage: {paths.show_path(page)}")
    if is_opened and not show_report(page):
        echo(page.as_uri(), is_error=is_json)


@click.command(short_help="Check whether the model in service still gets the rows that it was made for.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option(
    "--current",
    type=click.Path(path_type=Path),
    metavar="FILE|LOG",
    help="Rows to check: a file as for `labkit predict`, or a folder with a log; default: the log of `labkit serve`.",
)
@click.option(
    "--windows",
    type=click.IntRange(0),
    help="Judge only that many of the latest complete windows, 0 for all; default: 7 of a log, all of a file.",
)
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@json_option
def monitor(experiment: str, current: Path | None, windows: int | None, *, is_opened: bool, is_json: bool) -> None:
    """Check whether the champion of EXPERIMENT still gets the rows that it was made for.

    Compares rows with the reference profile of the release, in windows such as a day, and gives a verdict: ok; watch,
    if something has changed; retrain, if a quarter of the training rows has been added; stop, if the contract is
    broken, a unit has changed, or no rows arrive. Days that are not over are not compared; that a log has stopped is
    only noticed if the training rows have times. The verdict is added to data/EXPERIMENT/monitoring/history.jsonl and
    shown on the page reports/EXPERIMENT/monitoring.html.

    Exit code: 0 for ok and watch, 3 for retrain, 4 for stop; 2 if the check could not be made.

    \b
    labkit monitor diabetes
    labkit monitor flights --current november.parquet --json
    """
    from labkit.monitoring.champion_check import check_health
    from labkit.monitoring.health import EXIT_CODES
    from labkit.monitoring.health_page import write_health
    from labkit.params.load import load_params
    from labkit.run.pipeline.report_address import show_report
    from labkit.units import format_count

    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    checked = check_health(params, current, now=datetime.now(UTC), most_windows=windows)
    record, page = checked.record, write_health(checked)
    if is_json:
        console.print_json(record | {"page": paths.show_path(page)})
    else:
        echo(
            f"{experiment} v{record['version']}: {record['verdict']}"
            + ("" if checked.health.is_drift_judged else ", drift not judged")
        )
        for reason in record["reasons"]:
            echo(f"  {reason}")
        echo(f"judged: {record['judged_rows']:,} of {format_count(record['rows'], 'row')} in {record['source']}")
        for note in record["notes"]:
            echo(f"  {note}")
        echo(f"\nPage: {paths.show_path(page)}")
    if is_opened and not show_report(page):
        echo(page.as_uri(), is_error=is_json)
    if code := EXIT_CODES[checked.health.verdict]:
        sys.exit(code)
