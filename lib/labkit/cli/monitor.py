"""Commands for what happens to models after their release."""

import os
from datetime import UTC, datetime

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
