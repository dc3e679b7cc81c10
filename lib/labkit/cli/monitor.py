"""Commands for what happens to models after their release."""

import os
import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click

from labkit import console, paths
from labkit.cli.options import TimeSpan, complete_experiment, json_option, make_dask_option
from labkit.console import divert_output, echo


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
@click.option(
    "--outcomes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="True values by id, .csv or .parquet: a column of ids, and `true` or the target.",
)
@click.option("--key", default="id", show_default=True, help="Column of ids in FILE and in a file of rows.")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@json_option
def monitor(
    experiment: str,
    current: Path | None,
    windows: int | None,
    outcomes: Path | None,
    *,
    key: str,
    is_opened: bool,
    is_json: bool,
) -> None:
    """Check whether the champion of EXPERIMENT still gets the rows that it was made for.

    Compares rows with the reference profile of the release, in windows such as a day, and gives a verdict: ok; watch,
    if something has changed; retrain, if a quarter of the training rows has been added; stop, if the contract is
    broken, a unit has changed, or no rows arrive. Days that are not over are not compared; that a log has stopped is
    only noticed if the training rows have times.

    Where true values are known, metric, calibration, cost and groups of rows are compared with the holdout. They are
    those reported to the service, in the file itself, in --outcomes, or given as labels. Of the latest rows, the
    metric is also estimated from the probabilities. The verdict is added to data/EXPERIMENT/monitoring/history.jsonl
    and shown on the page reports/EXPERIMENT/monitoring.html.

    Exit code: 0 for ok and watch, 3 for retrain, 4 for stop; 2 if the check could not be made.

    \b
    labkit monitor diabetes
    labkit monitor diabetes --current rows.csv --outcomes true.csv --key patient
    labkit monitor flights --current november.parquet --json
    """
    from labkit.monitoring.health import EXIT_CODES
    from labkit.monitoring.performance_checks import describe_performance
    from labkit.monitoring.routine_check import check_routinely
    from labkit.params.load import load_params
    from labkit.run.pipeline.report_address import show_report
    from labkit.units import format_count

    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    routine = check_routinely(
        params,
        current,
        now=datetime.now(UTC),
        report=partial(echo, is_error=True),
        most_windows=windows,
        outcomes=outcomes,
        key=key,
    )
    checked, page = routine.checked, routine.page
    record = checked.record
    if is_json:
        compared = {"holdout_comparison": checked.holdout_comparison}
        console.print_json(record | compared | {"alerts": routine.alerts, "page": paths.show_path(page)})
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
        for line in describe_performance(checked.health.checks):
            echo(line)
        echo(f"\nPage: {paths.show_path(page)}")
    if is_opened and not show_report(page):
        echo(page.as_uri(), is_error=is_json)
    if code := EXIT_CODES[checked.health.verdict]:
        sys.exit(code)


@click.command(short_help="Train again on the data up to now.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option(
    "--data",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The whole main table up to now; it replaces the file of the params. Default: the tables as they are.",
)
@click.option("--reason", help="Why; default: what the latest check of the champion found.")
@click.option("--dry-run", is_flag=True, help="Check reason and data, show what would be done, and change nothing.")
@click.option("--cold", is_flag=True, help="Start ordinary kernels, without preloaded imports.")
@click.option("--no-wait", is_flag=True, help="Fail if another run of this checkout is under way.")
@json_option
def retrain(experiment: str, *, is_json: bool, **options: Any) -> None:
    """Train EXPERIMENT again on the data up to now: the same stages, gate and comparison with the champion.

    The new data are checked as a whole before anything changes. Then the file of the main table is replaced and tracked
    by DVC, which keeps the old one; the days of a split by time move on with the latest row; and the stages run. If one
    fails, data and split are restored. After a kill, the same command continues. Each retraining is recorded in
    data/EXPERIMENT/monitoring/retrainings.jsonl, with its reason and the finding that it follows from.

    \b
    labkit retrain churn --data churn-until-june.csv
    labkit retrain churn --data churn-until-june.csv --dry-run
    labkit retrain churn --reason "new tariff since May"
    """
    from labkit.monitoring.retraining_records import HELD_BACK

    with divert_output(is_json):
        record = perform_retraining(experiment, **options)
    is_held_back = record.get("state") == HELD_BACK
    if is_json:
        console.print_json(record)
        sys.exit(int(is_held_back))
    echo(f"{experiment}: {record['reason']}")
    data = record["data"]
    echo(f"  rows: {data['rows_before']:,} before, {data['rows_after']:,} now")
    for setting in data["settings"]:
        echo(f"  split: {setting}")
    echo("  nothing was changed (--dry-run)" if options["dry_run"] else f"  {record['headline']}")
    sys.exit(int(is_held_back))


def perform_retraining(
    experiment: str, *, source: Path | None, reason: str | None, dry_run: bool, cold: bool, no_wait: bool
) -> dict[str, Any]:
    """Do what `labkit retrain` was asked for and return the record; parameters as its options."""
    from labkit.params.load import load_params

    params = load_params(experiment)
    os.environ.update(paths.make_environment())
    from labkit.monitoring import retraining
    from labkit.run.kernels.session import Kernels
    from labkit.run.pipeline.progress import Progress
    from labkit.stages import builtin

    now = datetime.now(UTC)
    if dry_run:
        return retraining.show_plan(params, source, reason=reason, now=now)
    with Kernels(is_cold=cold, is_kept_used=not cold, later=builtin.LATER_MODULES) as kernels:
        return retraining.retrain_in_checkout(
            params,
            source,
            reason=reason,
            now=now,
            plain=builtin.PLAIN_STAGES,
            progress=Progress(),
            kernels=kernels,
            is_waiting=not no_wait,
        )


@click.command(short_help="Replay the past under policies of training again.")
@click.argument("experiment", shell_complete=complete_experiment)
@click.option("--from", "begin", type=click.DateTime(["%Y-%m-%d"]), help="First day; default: after the first quarter.")
@click.option("--policies", default="never,observe,monthly,rule", show_default=True, help="Policies to compare.")
@make_dask_option("Fit the versions")
@click.option("--open", "is_opened", is_flag=True, help="Open the page in the browser.")
@json_option
def replay(
    experiment: str, begin: datetime | None, policies: str, dask: str | None, *, is_opened: bool, is_json: bool
) -> None:
    """Replay the past of EXPERIMENT under policies of training it again, and compare how well each predicted.

    The champion's recipe is trained on the first months; then, month by month, rows arrive, are predicted by the
    champion of the day, outcomes come, and each policy decides: never, observe (never, but past outcomes become known
    to the features), monthly, or rule (`monitoring.rules` of the params, by growth: LK712). A new version has to be
    about as good as the champion on the last 28 days whose outcomes are known; where nothing can be compared, it is
    accepted. Nothing is published. The result is on the page reports/EXPERIMENT/replay.html. With less than half a
    year of rows, the periods are weeks, and the last 7 days are compared.

    \b
    labkit replay flights
    labkit replay flights --from 2013-06-01 --policies never,rule --json
    labkit replay flights --dask tcp://10.0.0.1:8786
    """
    from labkit.errors import ParamsError, name_nearest
    from labkit.params.load import load_params

    params = load_params(experiment)
    names = [name.strip() for name in policies.split(",")]
    os.environ.update(paths.make_environment())
    from labkit.monitoring.replay import POLICIES
    from labkit.monitoring.replay_page import describe_policy, replay_policies
    from labkit.run.pipeline.report_address import show_report
    from labkit.units import format_count

    if strange := [name for name in names if name not in POLICIES]:
        raise ParamsError(f"--policies: no policy {strange[0]!r}: {name_nearest(strange[0], POLICIES)}")
    if len({*names}) < len(names):
        raise ParamsError("--policies: name each policy once")
    with divert_output(is_json):
        result, page = replay_policies(params, names, begin=begin, now=datetime.now(UTC), report=echo, dask=dask)
    if is_json:
        console.print_json(result | {"page": paths.show_path(page)})
    else:
        for one in result["policies"]:
            shown, n_trainings = describe_policy(result, one), format_count(one["trainings"], "training")
            echo(
                f"{one['policy']}: {n_trainings}, {one['promoted']} promoted; {result['metric']} {shown['mean']} (mean "
                f"of {result['unit']}s), gain over {names[0]} {shown['gain']} (all rows)"
            )
        echo(f"\nPage: {paths.show_path(page)}")
    if is_opened and not show_report(page):
        echo(page.as_uri(), is_error=is_json)


@click.command(short_help="Check champions on a schedule, and train again when that is due.")
@click.argument("experiments", nargs=-1, metavar="[EXPERIMENT]...", shell_complete=complete_experiment)
@click.option("--all", "is_all", is_flag=True, help="Watch all experiments that have a champion now.")
@click.option("--every", type=TimeSpan(), default="1h", show_default=True, help="Time between checks: 30min, 1h, 1d.")
@click.option("--once", "is_once", is_flag=True, help="Check once and end, for cron and timers.")
@click.option("--no-retrain", is_flag=True, help="Only check: no verdict trains again.")
@click.option("--cold", is_flag=True, help="Start ordinary kernels, without preloaded imports.")
def watch(
    experiments: tuple[str, ...], *, is_all: bool, every: timedelta, is_once: bool, no_retrain: bool, cold: bool
) -> None:
    """Check the champions of EXPERIMENTS on a schedule and when files arrive, and train again when the verdict asks.

    Does what `labkit monitor` and, if its verdict is retrain, `labkit retrain` do, for the log of `labkit serve` and
    for the file `monitoring.incoming` of the params. Prints one line for each check and each alert. After a failure the
    next attempts come later and later. One process watches an experiment; SIGTERM lets it finish what is under way. If
    it is killed, it continues when it is started again. `labkit status` shows its last sign of life.

    Exit code of --once: 4 if a champion must not be relied on (verdict stop), else 0 or that of the first failure.

    \b
    labkit watch churn --every 30min
    labkit watch --all --once
    labkit watch diabetes --once --no-retrain
    """
    from labkit.errors import ParamsError
    from labkit.monitoring.watch import Work, choose_experiments, watch_experiments

    if is_all == bool(experiments):
        raise ParamsError("name the experiments to watch, or use --all")
    os.environ.update(paths.make_environment())
    retrain_one = partial(perform_retraining, reason=None, dry_run=False, cold=cold, no_wait=True)
    work = Work(
        every=every,
        retrain=None if no_retrain else lambda name, source: retrain_one(name, source=source),
        report=echo,
    )
    if code := watch_experiments(choose_experiments(experiments), work, is_once=is_once):
        sys.exit(code)
